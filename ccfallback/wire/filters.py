"""Changes to an answer on its way to the client, after it is in Anthropic's format.

A translator cuts a stream into events once and decodes each once. It marks the events that begin
or end a block or the message; all others pass its filters unseen, which keeps text fast.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from ccfallback.messages.body import decode_json
from ccfallback.messages.sse import data_of, json_event

MARKED: Final = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    }
)
"""The types of the events that filters see."""

Names = Mapping[str, str]
"""The client's name of a tool by the provider's name of it."""


class Mark(msgspec.Struct, frozen=True):
    """An event in a list of events."""

    place: int
    """Its place in the list."""
    type: str
    index: int | None = None
    """The index of its block."""
    block: object = None
    """The type of the block that it starts."""


MAX_HELD: Final = 4 * 1024 * 1024
"""How many bytes of an answer a filter may hold back."""


class TooMuchHeld(ValueError):
    """An answer would have to be held back for more than `MAX_HELD` bytes."""


class EventFilter(Protocol):
    """Changes some of a stream's events."""

    def edit(self, events: list[bytes], marks: Sequence[Mark], *, complete: bool) -> None:
        """Change the marked `events` in place: to other bytes, or to none. Raises `TooMuchHeld`.

        `complete` says that the answer's stop reason has arrived, perhaps in these events.
        """


def filtered(
    events: list[bytes], marks: Sequence[Mark], filters: Sequence[EventFilter], *, complete: bool
) -> bytes:
    """The events after all filters."""
    if marks:
        for each in filters:
            each.edit(events, marks, complete=complete)
    return b"".join(events)


class ToolRenamer:
    """Calls tools by the client's names where the provider knows them by others."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def edit(self, events: list[bytes], marks: Sequence[Mark], *, complete: bool) -> None:
        """Rename the tools of the calls that start; see `EventFilter`."""
        for mark in marks:
            if mark.type == "content_block_start" and mark.block == "tool_use":
                events[mark.place] = self._rename_call(events[mark.place])

    def _rename_call(self, raw: bytes) -> bytes:
        value = decode_json(data_of(raw))
        block = value.get("content_block") if isinstance(value, dict) else None
        renamed = _renamed_block(block, self._names)
        if renamed is block:
            return raw
        return json_event({**value, "content_block": renamed})


class BlockStopHolder:
    """Holds back the ends of blocks, so that a broken answer can be requested again.

    Claude Code repeats a request whose answer broke off, unless it has seen the end of a block
    that is not a tool call: then it keeps what it has, shows an error, and the turn is lost. So
    the `content_block_stop` events of such blocks wait; everything else passes at once, in blocks
    that are open side by side. A tool call runs as soon as it ends, which makes the answer worth
    keeping: the waiting ends go out right before the call's end. The last ones go out before the
    answer's own end, and never if it breaks off.
    """

    def __init__(self) -> None:
        self._calls: set[int | None] = set()
        """The blocks that are tool calls."""
        self._held: dict[int | None, list[bytes]] = {}
        self._size = 0

    def edit(self, events: list[bytes], marks: Sequence[Mark], *, complete: bool) -> None:
        """Hold or release ends of blocks; see `EventFilter`."""
        if complete:
            # Nothing can break off any more.
            events[0] = self._release() + events[0]
            return
        for mark in marks:
            place, index = mark.place, mark.index
            match mark.type:
                case "content_block_start":
                    if index in self._held:
                        # Two blocks with one index: the first has to end before the second.
                        events[place] = self._release() + events[place]
                    if mark.block == "tool_use":
                        self._calls.add(index)
                    else:
                        self._calls.discard(index)
                case "content_block_stop" if index not in self._calls:
                    self._held.setdefault(index, []).append(events[place])
                    self._size += len(events[place])
                    if self._size > MAX_HELD:
                        raise TooMuchHeld
                    events[place] = b""
                case "content_block_stop" | "message_delta":
                    events[place] = self._release() + events[place]
                case _:
                    pass

    def _release(self) -> bytes:
        held = b"".join(part for parts in self._held.values() for part in parts)
        self._held.clear()
        self._size = 0
        return held


def rename_tools(message: bytes, names: Names) -> bytes:
    """A whole message in which tools are called by the client's names."""
    value = decode_json(message) if b'"tool_use"' in message else None
    if not isinstance(value, dict) or not isinstance(value.get("content"), list):
        return message
    content = value["content"]
    renamed = [_renamed_block(block, names) for block in content]
    if renamed == content:
        return message
    return msgspec.json.encode({**value, "content": renamed})


def _renamed_block(block: Any, names: Names) -> Any:
    """A block with the client's name of its tool; the very same block if there is none."""
    if not isinstance(block, dict) or block.get("type") != "tool_use":
        return block
    name = block.get("name")
    client_name = names.get(name) if isinstance(name, str) else None
    return block if client_name is None else {**block, "name": client_name}
