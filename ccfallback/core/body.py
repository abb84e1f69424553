"""A request's body: the client's bytes, with a shallow view of its members.

A member is parsed when somebody asks for it and put back without touching the others. As long
as nothing was changed, `raw` is the very bytes that the client sent.
"""

import re
from typing import Any, Final

import msgspec

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_HALF_A_LETTER: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""A surrogate without its other half: JavaScript writes it where a text was cut in two."""


class NotAnObject(ValueError):
    """The bytes are not a JSON object."""


class Body:
    """A JSON object of which only the wanted members are parsed. Never mutated."""

    __slots__ = ("_members", "_raw", "_values")

    def __init__(self, members: dict[str, msgspec.Raw], raw: bytes | None = None) -> None:
        self._members = members
        self._raw = raw
        self._values: dict[str, Any] = {}

    @classmethod
    def parse(cls, raw: bytes) -> "Body":
        """The body in `raw`. Raises `NotAnObject`."""
        try:
            return cls(_MEMBERS.decode(raw), raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        try:
            return cls(_MEMBERS.decode(mended(raw)), raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NotAnObject(str(error)) from None

    @property
    def raw(self) -> bytes:
        """The bytes to send: the client's own, or the changed members spliced between them."""
        if self._raw is None:
            self._raw = msgspec.json.encode(self._members)
        return self._raw

    def __contains__(self, key: str) -> bool:
        return key in self._members

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its members, in order."""
        return tuple(self._members)

    def get(self, key: str) -> Any:
        """A member's value, or `None` where there is none or it can't be read.

        Shared between callers: not to be mutated.
        """
        if key not in self._values:
            member = self._members.get(key)
            try:
                self._values[key] = None if member is None else msgspec.json.decode(member)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self._values[key] = None
        return self._values[key]

    def member(self, key: str) -> bytes:
        """A member's own bytes; empty where there is none."""
        found = self._members.get(key)
        return b"" if found is None else bytes(found)

    def respelled(self) -> "Body":
        """The same members in bytes of our own: none twice, nothing between them."""
        return Body(dict(self._members))

    def with_members(self, **members: Any) -> "Body":
        """A body in which these members have these values, in place or at the end."""
        encoded = {key: msgspec.Raw(msgspec.json.encode(value)) for key, value in members.items()}
        return Body({**self._members, **encoded})

    def without(self, *keys: str) -> "Body":
        """A body without these members; itself where it has none of them."""
        if not any(key in self._members for key in keys):
            return self
        return Body({key: value for key, value in self._members.items() if key not in keys})

    @property
    def model(self) -> str:
        """The model that the client asked for; empty where it named none."""
        model = self.get("model")
        return model if isinstance(model, str) else ""

    @property
    def stream(self) -> bool:
        """Whether the client asked for a stream."""
        return self.get("stream") is True


def mended(raw: bytes) -> bytes:
    """JSON in which each half of a letter is the replacement character instead."""
    return _HALF_A_LETTER.sub(rb"\\ufffd", raw)
