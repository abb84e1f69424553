"""Whether clients can read a stream in Anthropic's format that a third party has written.

The SDKs raise an exception, or mix two texts, where the events do not follow each other as they
should. Such a stream is a broken answer. What all clients accept is allowed: a delta after the end
of its block, unknown events and deltas. What Claude Code takes amiss and can be put right is: a
block without an end, which it would not show, or with two, which it would show twice.
"""

from typing import Any, Final

import msgspec

from ccfallback.messages.body import UNREADABLE, decode_as, decode_json, replace_lone_surrogates

MAX_BLOCKS: Final = 10_000
"""An answer with more blocks has no end."""

CHECKED: Final = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    }
)
"""The types of events whose order and members matter."""


class _TextDelta(msgspec.Struct, tag_field="type", tag="text_delta", gc=False):
    text: str


class _ThinkingDelta(msgspec.Struct, tag_field="type", tag="thinking_delta", gc=False):
    thinking: str


class _InputDelta(msgspec.Struct, tag_field="type", tag="input_json_delta", gc=False):
    partial_json: str


class Piece(msgspec.Struct, tag_field="type", tag="content_block_delta", gc=False):
    """An event with a piece of text, of thinking or of a call's input, as it should be."""

    index: int
    delta: _TextDelta | _ThinkingDelta | _InputDelta
    error: None = None


PIECE: Final = msgspec.json.Decoder(Piece)
"""Reads nearly every event of a stream: it takes no longer than to look for the type alone."""

_PIECES: Final = {
    "text": _TextDelta,
    "thinking": _ThinkingDelta,
    "tool_use": _InputDelta,
    "server_tool_use": _InputDelta,
}
"""Block: the delta that continues it, as nearly all of a stream's do."""

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_NO_CONTENT: Final = "a delta without content"

_TEXTS: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}
"""Delta: its member that clients append to a text."""

_FITTING: Final = {
    "text": {"text_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "redacted_thinking": set[str](),
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
}
"""Block: those of its deltas that Claude Code accepts in no other block."""


class Unreadable(ValueError):
    """Clients cannot read the stream; the message says why."""


class Grammar:
    """Checks the order of a stream's events. Each method raises `Unreadable`."""

    def __init__(self) -> None:
        self.has_start = False
        """Whether the message has begun."""
        self.blocks: dict[int, type] = {}
        """The indices of the blocks that have begun, where they are those that clients expect, and
        the deltas that continue them."""
        self._kinds: list[str] = []
        self._open: dict[int, None] = {}
        """The places of the blocks that have begun and not ended, in their order."""
        self._places: dict[int | None, int] = {}
        """The indices that clients expect for those that the upstream uses now."""
        self._count = 0

    def note_start(self, has_message: bool) -> bool:
        """Take notice of a start of the message; whether it is the first.

        A second one, from a gateway that adds its own, matters as little as its counts.
        """
        if not has_message:
            raise Unreadable("a start without a message")
        if self._count:
            raise Unreadable("a second message in the answer")
        first, self.has_start = not self.has_start, True
        return first

    def note_block(self, index: int | None, kind: str | None) -> int:
        """Take notice of the start of a block, whose type is `kind`. Its place in the message.

        Clients take the index for the place. Some gateways leave numbers out, or use one again.
        """
        self.check_begun()
        if kind is None:
            raise Unreadable("a start of a block without the block")
        place = self._places[index] = self._count
        self._count += 1
        if self._count > MAX_BLOCKS:
            raise Unreadable("an answer without an end")
        self._kinds.append(kind)
        self._open[place] = None
        if index is not None:
            self.blocks.pop(index, None)
        if index == place and kind in _PIECES:
            self.blocks[place] = _PIECES[kind]
        return place

    def find_block(self, index: int | None) -> int:
        """The place in the message of the block that an event belongs to."""
        self.check_begun()
        place = self._places.get(index)
        if place is None:
            raise Unreadable("an event for a block that has not begun")
        return place

    def end_block(self, index: int | None) -> int | None:
        """Take notice of the end of a block. Its place; `None` if it has ended before."""
        place = self.find_block(index)
        if place not in self._open:
            return None
        del self._open[place]
        return place

    def end_all(self) -> list[int]:
        """Take notice of the end of the answer. The places of the blocks that have not ended."""
        places = list(self._open)
        self._open.clear()
        return places

    def says_something(self, place: int, data: bytes) -> bool:
        """Whether a delta brings something to its block, as clients expect it there."""
        return says_something(data, self._kinds[place])

    def check_begun(self) -> None:
        """Check that the message has begun."""
        if not self.has_start:
            raise Unreadable("content before the start of the message")


class _OtherPiece(msgspec.Struct, gc=False):
    delta: dict[str, msgspec.Raw] | None
    index: int | float | str | None = None


_OTHER: Final = msgspec.json.Decoder(_OtherPiece)


def says_something(data: bytes, block: str) -> bool:
    """Whether a delta of any kind brings something to its block. Raises `Unreadable`.

    Some gateways send no member that is empty. A text that is `null` brings nothing either, and
    clients would read it as a word. Claude Code raises an exception for a delta that belongs to
    another type of block, even for an empty one, which LiteLLM sends in a block of thinking.
    """
    delta = _read_delta(data).delta or {}
    kind = decode_json(bytes(delta.get("type", b"null")))
    rest = [name for name, value in delta.items() if name != "type" and bytes(value) != b"null"]
    if kind is None and not rest:
        return False
    if not isinstance(kind, str):
        raise Unreadable(_NO_CONTENT)
    member = _TEXTS.get(kind)
    fits = block not in _FITTING or kind in _FITTING[block]
    if member is None:
        return bool(rest) and (fits or kind != "signature_delta")
    text = bytes(delta.get(member, b""))
    if text.startswith(b'"'):
        if not fits and text != b'""':
            raise Unreadable("a delta of another type than its block")
        return fits
    if text == b"null" or not rest:
        return False
    raise Unreadable(_NO_CONTENT)


def read_input(data: bytes) -> tuple[int | None, str]:
    """The index of a delta's block, and its piece of a call's input. Raises `Unreadable`."""
    piece = _read_delta(data)
    text = decode_json(bytes((piece.delta or {}).get("partial_json", b"")))
    return plain_index(piece.index), text if isinstance(text, str) else ""


def _read_delta(data: bytes) -> _OtherPiece:
    try:
        # Some clients show half of a letter as a question mark, so it is accepted.
        return _OTHER.decode(replace_lone_surrogates(data.decode("utf-8", "replace").encode()))
    except UNREADABLE:
        raise Unreadable(_NO_CONTENT) from None


def with_index(data: bytes, index: int) -> bytes:
    """The data of an event with another index. Raises `Unreadable`."""
    try:
        members = decode_as(_MEMBERS, data)
    except UNREADABLE:
        # What only passes, such as an unknown member, has not been read until now.
        raise Unreadable("an event that is not JSON") from None
    members["index"] = msgspec.Raw(b"%d" % index)
    return msgspec.json.encode(members)


def is_checked(value: object) -> bool:
    """Whether a decoded event has one of the types in `CHECKED`."""
    kind = value.get("type") if isinstance(value, dict) else None
    return isinstance(kind, str) and kind in CHECKED


def plain_index(index: Any) -> Any:
    """The index of a block as a number, where a gateway has sent it as text or as `0.0`."""
    if isinstance(index, float) and index.is_integer() and abs(index) < 1e9:
        return int(index)
    if isinstance(index, str) and index.isascii() and index.isdigit() and len(index) < 10:
        return int(index)
    return index
