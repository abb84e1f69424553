"""A request's body: the client's bytes, with a shallow view of its members.

A member is parsed when somebody asks for it and put back without touching the others. As long
as nothing was changed, `raw` is the very bytes that the client sent.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])

_HALF_A_LETTER: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""A surrogate without its other half: JavaScript writes it where a text was cut in two."""


UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What bytes that are no JSON, or too deep, make of their reader."""

Spelled = msgspec.Raw | list[msgspec.Raw]
"""A member in its own bytes, or a list whose items are."""


class NotAnObject(ValueError):
    """The bytes are not a JSON object."""


class Body:
    """A JSON object of which only the wanted members are parsed. Never mutated.

    What was parsed is not parsed again for a body that is made of this one.
    """

    __slots__ = ("_items", "_members", "_model", "_raw", "_stream", "_values")

    def __init__(self, members: Mapping[str, Spelled], raw: bytes | None = None) -> None:
        self._members = members
        self._raw = raw
        self._values: dict[str, Any] = {}
        self._items: dict[str, list[msgspec.Raw]] = {}
        self._model: str | None = None
        self._stream: bool | None = None

    @classmethod
    def parse(cls, raw: bytes) -> "Body":
        """The body in `raw`. Raises `NotAnObject`."""
        try:
            return cls(_MEMBERS.decode(raw), raw)
        except UNREADABLE:
            pass
        try:
            return cls(_MEMBERS.decode(replace_lone_surrogates(raw)), raw)
        except UNREADABLE as error:
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
            self._values[key] = None
            # The value of a list of items is known from the start.
            if isinstance(member, msgspec.Raw):
                with suppress(*UNREADABLE):
                    self._values[key] = msgspec.json.decode(member)
        return self._values[key]

    def member(self, key: str) -> bytes:
        """A member's own bytes; empty where there is none."""
        found = self._members.get(key, b"")
        return msgspec.json.encode(found) if isinstance(found, list) else bytes(found)

    def items(self, key: str) -> list[msgspec.Raw]:
        """The items of a list in their own bytes, one for each of the value's; none of another.

        Shared between callers: not to be mutated.
        """
        if key not in self._items:
            member = self._members.get(key)
            if isinstance(member, msgspec.Raw):
                member = _ITEMS.decode(member) if isinstance(self.get(key), list) else []
            self._items[key] = member or []
        return self._items[key]

    def differs(self, other: "Body") -> frozenset[str]:
        """The members that are not the very same ones in another body made of this one."""
        mine, its = self._members, other._members
        return frozenset(
            key for key in mine.keys() | its.keys() if mine.get(key) is not its.get(key)
        )

    def respelled(self) -> "Body":
        """The same members in bytes of our own: none twice, nothing between them."""
        return self._made(dict(self._members))

    def with_members(self, **members: Any) -> "Body":
        """A body in which these members have these values, in place or at the end."""
        encoded = {key: msgspec.Raw(msgspec.json.encode(value)) for key, value in members.items()}
        return self._made({**self._members, **encoded}, *members)

    def with_items(self, key: str, items: Sequence[Any]) -> "Body":
        """A body with this list. Items that were in it before, as values or as bytes, keep their
        bytes.
        """
        raws = self.items(key)
        pairs = list(zip(self.get(key), raws, strict=True)) if raws else []
        known = {id(value): (value, raw) for value, raw in pairs}
        known |= {id(raw): (value, raw) for value, raw in pairs}
        made = [known.get(id(item)) or _spelled(item) for item in items]
        # Joined when the whole is: until then they may change again, and be long.
        body = self._made({**self._members, key: [raw for _, raw in made]}, key)
        body._values[key] = [value for value, _ in made]
        return body

    def without(self, *keys: str) -> "Body":
        """A body without these members; itself where it has none of them."""
        if not any(key in self._members for key in keys):
            return self
        kept = {key: value for key, value in self._members.items() if key not in keys}
        return self._made(kept, *keys)

    def _made(self, members: Mapping[str, Spelled], *changed: str) -> "Body":
        body = Body(members)
        for mine, its in ((self._values, body._values), (self._items, body._items)):
            its.update((key, each) for key, each in mine.items() if key not in changed)
        return body

    @property
    def model(self) -> str:
        """The model that the client asked for; empty where it named none."""
        if self._model is None:
            model = self.get("model")
            self._model = model if isinstance(model, str) else ""
        return self._model

    @property
    def stream(self) -> bool:
        """Whether the client asked for a stream."""
        if self._stream is None:
            self._stream = self.get("stream") is True
        return self._stream


def _spelled(item: Any) -> tuple[Any, msgspec.Raw]:
    """A new item: its value and its bytes."""
    raw = item if isinstance(item, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(item))
    return msgspec.json.decode(raw), raw


def replace_lone_surrogates(raw: bytes) -> bytes:
    """JSON in which each half of a letter is the replacement character instead."""
    return _HALF_A_LETTER.sub(rb"\\ufffd", raw)
