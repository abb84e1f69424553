"""A request's body: the client's bytes, with a shallow view of its members.

A member is parsed when it is read, and replaced without touching the others. As long as nothing
is changed, `raw` is the very bytes that the client sent.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

Decoded = TypeVar("Decoded")

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])

_VALUE: Final = msgspec.json.Decoder()

MAX_PIECE: Final = 1 << 16
"""Bytes; the items of a longer list are decoded one after the other. One call for all of it would
hold the interpreter, and with it the event loop, even from another thread."""

_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)
"""Half of a surrogate pair: JavaScript writes it where it cuts a text in two."""

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a JSON decoder raises for bytes that are not JSON, or nested too deeply."""

_TRUE: Final = msgspec.Raw(b"true")

RawMember = msgspec.Raw | list[msgspec.Raw]
"""A member in its own bytes, or a list whose items are in theirs."""


class NotAnObject(ValueError):
    """The bytes are not a JSON object."""


class Body:
    """A JSON object of which only the members that are read are parsed. Never mutated.

    A body that is derived from this one shares what is parsed already.
    """

    __slots__ = ("_items", "_members", "_raw", "_values", "model", "stream", "tokens")

    def __init__(self, members: Mapping[str, RawMember], raw: bytes | None = None) -> None:
        self._members = members
        self._raw = raw
        self._values: dict[str, Any] = {}
        self._items: dict[str, list[msgspec.Raw]] = {}
        # Every request is asked for these a dozen times.
        model = self.get("model")
        self.model: str = model if isinstance(model, str) else ""
        """The model that the client asked for; empty if it named none."""
        self.stream = members.get("stream") == _TRUE
        """Whether the client asked for a stream."""
        self.tokens: int | None = None
        """What `tokens.estimate` has found."""

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
        """A member's value; `None` if it is missing or can't be decoded.

        Callers share it: it must not be mutated.
        """
        member = self._members.get(key)
        if member is None:
            return None
        values = self._values
        # If the member is a list of items, its value is there from the start.
        if key not in values and isinstance(member, msgspec.Raw):
            try:
                short = len(member) <= MAX_PIECE
                values[key] = _VALUE.decode(member) if short else _decode_long(member)
            except UNREADABLE:
                values[key] = None
        return values.get(key)

    def member(self, key: str) -> bytes:
        """A member's own bytes; empty if it is missing."""
        found = self._members.get(key, b"")
        return msgspec.json.encode(found) if isinstance(found, list) else bytes(found)

    def items(self, key: str) -> list[msgspec.Raw]:
        """The items of a list in their own bytes; none if the member is not a list.

        Callers share them: they must not be mutated.
        """
        if key not in self._items:
            member = self._members.get(key)
            if isinstance(member, msgspec.Raw):
                member = _ITEMS.decode(member) if isinstance(self.get(key), list) else []
            self._items[key] = member or []
        return self._items[key]

    def differs(self, other: "Body") -> frozenset[str]:
        """The names of the members that are others in `other`, which is derived from this body."""
        mine, its = self._members, other._members
        return frozenset(
            key for key in mine.keys() | its.keys() if mine.get(key) is not its.get(key)
        )

    def respell(self) -> "Body":
        """The same members, encoded anew: without duplicate names, without space between them."""
        return self._copy_with(dict(self._members))

    def with_members(self, **members: Any) -> "Body":
        """A body with these values for these members; new members come last."""
        encoded = {key: msgspec.Raw(msgspec.json.encode(value)) for key, value in members.items()}
        return self._copy_with({**self._members, **encoded}, *members)

    def with_items(self, key: str, items: Sequence[Any]) -> "Body":
        """A body with this list. Items that it had before, given as values or as bytes, keep
        their bytes.
        """
        raws = self.items(key)
        pairs = list(zip(self.get(key), raws, strict=True)) if raws else []
        known = {id(value): (value, raw) for value, raw in pairs}
        known |= {id(raw): (value, raw) for value, raw in pairs}
        made = [known.get(id(item)) or _encode(item) for item in items]
        # Encoded only with the whole body: the list is long, and may change again before.
        body = self._copy_with({**self._members, key: [raw for _, raw in made]}, key)
        body._values[key] = [value for value, _ in made]
        return body

    def without(self, *keys: str) -> "Body":
        """A body without these members; itself if it has none of them."""
        if not any(key in self._members for key in keys):
            return self
        kept = {key: value for key, value in self._members.items() if key not in keys}
        return self._copy_with(kept, *keys)

    def _copy_with(self, members: Mapping[str, RawMember], *changed: str) -> "Body":
        body = Body(members)
        for mine, its in ((self._values, body._values), (self._items, body._items)):
            its.update((key, each) for key, each in mine.items() if key not in changed)
        return body

    @property
    def messages(self) -> list[Any]:
        """The conversation; empty if it is not a list."""
        messages = self.get("messages")
        return messages if isinstance(messages, list) else []

    @property
    def max_tokens(self) -> int:
        """The limit of the answer; zero if there is none."""
        limit = self.get("max_tokens")
        return limit if isinstance(limit, int) and not isinstance(limit, bool) else 0


def _decode_long(member: msgspec.Raw) -> Any:
    """The value of a long member."""
    try:
        return [_VALUE.decode(item) for item in _ITEMS.decode(member)]
    except msgspec.ValidationError:
        # It is not a list.
        return _VALUE.decode(member)


def _encode(item: Any) -> tuple[Any, msgspec.Raw]:
    """The value and the bytes of a new item."""
    raw = item if isinstance(item, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(item))
    return msgspec.json.decode(raw), raw


def decode_json(raw: bytes, default: Any = None) -> Any:
    """The value in `raw`, with lone surrogates replaced; `default` if it is not JSON."""
    try:
        return msgspec.json.decode(raw)
    except UNREADABLE:
        pass
    try:
        return msgspec.json.decode(replace_lone_surrogates(raw))
    except UNREADABLE:
        return default


def decode_as(decoder: msgspec.json.Decoder[Decoded], raw: bytes) -> Decoded:
    """What the decoder reads, with lone surrogates replaced. Raises one of `UNREADABLE`."""
    try:
        return decoder.decode(raw)
    except UNREADABLE:
        return decoder.decode(replace_lone_surrogates(raw))


def replace_lone_surrogates(raw: bytes) -> bytes:
    """JSON with the replacement character for each lone surrogate, which strict readers refuse."""
    return _LONE_SURROGATE.sub(rb"\\ufffd", raw)
