"""Further sections of the state beside `providers`: named entries, such as quotas by credential.

A store knows nothing of an entry but its name. Entries are kept in the order in which they were
written, the last write wins, and a section that is too long loses its oldest entries. Sections
and entries that this version cannot read stay as they are.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Section(Generic[T]):
    """A section of the state, and what its entries are."""

    name: str
    """Its key in the state file."""
    parse: Callable[[Any], T]
    """Makes an entry of JSON; raises `ValueError` if it is not one."""
    encode: Callable[[T], Any]
    """Makes JSON of an entry; any thread may call it."""
    most: int
    """How many entries are kept."""

    def find(self, sections: "Sections", key: str) -> T | None:
        """The entry of that name; `None` if there is none that can be read."""
        raw = sections.get(self.name, _EMPTY).get(key)
        try:
            return None if raw is None else self.parse(raw)
        except (TypeError, ValueError, OverflowError):
            return None

    def read(self, sections: "Sections") -> dict[str, T]:
        """All entries that can be read, the oldest first."""
        found = ((key, self.find(sections, key)) for key in sections.get(self.name, ()))
        return {key: entry for key, entry in found if entry is not None}


Sections = Mapping[str, Mapping[str, Any]]
"""The further sections as JSON: the entries of each by name."""

_EMPTY: Final[Mapping[str, Any]] = {}


class Entry(NamedTuple):
    """An entry to write."""

    section: Section[Any]
    key: str
    value: Any


def read_sections(document: Mapping[str, Any]) -> Sections:
    """All tables of a state document besides `providers`."""
    return {
        name: table
        for name, table in document.items()
        if name != "providers" and isinstance(table, dict)
    }


def merge(sections: Sections, entries: Iterable[Entry]) -> Sections:
    """The sections that differ from `sections` once the entries are written."""
    changed: dict[str, dict[str, Any]] = {}
    for section, key, value in entries:
        table = changed.setdefault(section.name, dict(sections.get(section.name, _EMPTY)))
        table.pop(key, None)
        table[key] = section.encode(value)
        while len(table) > section.most:
            del table[next(iter(table))]
    return {name: table for name, table in changed.items() if table != sections.get(name)}
