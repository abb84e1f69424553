"""How classes of data are defined here.

A `msgspec.Struct` wherever a command or the start of the server imports the class: a struct costs a
tenth of a dataclass, which compiles each of its methods when it is defined. A dataclass only where
its options are needed that a struct does not have, or in modules that few commands import. A
`NamedTuple` where the parts are taken apart more often than they are named.
"""

from collections.abc import Collection
from typing import Any, ClassVar


class Discreet:
    """A struct whose `repr` shows only some of its fields, because others may hold a secret.

    It comes before `msgspec.Struct` among the bases.
    """

    __slots__ = ()

    SHOWN: ClassVar[Collection[str]] = ()
    """The names of the fields that are shown."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.SHOWN]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"
