"""Writes Anthropic's events, one block at a time."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from ccfallback.messages.sse import event
from ccfallback.messages.thinking import ThinkingMark
from ccfallback.wire.filters import MARKED, EventFilter, Mark, filtered

_TAIL: Final = b"}}\n\n"
_PING: Final = event("ping", b'{"type":"ping"}')
_STOP: Final = event("message_stop", b'{"type":"message_stop"}')

_DELTA: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
    b'{"type":"%b","%b":'
)

_encode: Final = msgspec.json.Encoder().encode


class Blocks:
    """The events of one answer. Opening a block closes the one before it."""

    def __init__(
        self, message: Callable[[], dict[str, Any]], filters: Sequence[EventFilter] = ()
    ) -> None:
        self._message = message
        self._filters = filters
        self._marks: list[Mark] = []
        self._begun = False
        self._ended = False
        self._out: list[bytes] = []
        self._count = 0
        self._before = b""
        self._mark = ThinkingMark()
        self.open = ""
        """The type of the open block."""
        self.started = False
        """Whether the first block is written."""
        self.size = 0
        """Bytes of content so far."""

    def take(self) -> bytes:
        """The events since the last call."""
        out = self._out
        if not out:
            return b""
        if self._marks:
            events = filtered(out, self._marks, self._filters, complete=self._ended)
            self._marks.clear()
        else:
            events = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return events

    def text(self, text: str) -> None:
        """Write a piece of text."""
        if self.open != "text":
            self._start({"type": "text", "text": ""}, b"text_delta", b"text")
        self._add(text)

    def thinking(self, text: str) -> None:
        """Write a piece of thinking; an empty one only opens the block."""
        if self.open != "thinking":
            self._start(
                {"type": "thinking", "thinking": "", "signature": ""},
                b"thinking_delta",
                b"thinking",
            )
        if text:
            self._mark.add(text)
            self._add(text)

    def tool_use(self, tool_id: str, name: str) -> None:
        """Open a call."""
        self._start(
            {"type": "tool_use", "id": tool_id, "name": name, "input": {}},
            b"input_json_delta",
            b"partial_json",
        )

    def arguments(self, fragment: str) -> None:
        """Write a fragment of the open call's arguments."""
        self._add(fragment)

    def ping(self) -> None:
        """Write a sign of life."""
        self._out.append(_PING)

    def close(self, envelope: dict[str, Any] | None = None) -> None:
        """Close the open block; thinking gets its signature, with `envelope` in it."""
        if not self.open:
            return
        index = self._count - 1
        if self.open == "thinking":
            signature = _encode(self._mark.take(envelope))
            before = _DELTA % (index, b"signature_delta", b"signature")
            self._out.append(b"%b%b%b" % (before, signature, _TAIL))
        self._put("content_block_stop", {"type": "content_block_stop", "index": index})
        self.open = ""

    def end(self, stop_reason: str, stop_sequence: str | None, usage: dict[str, Any]) -> None:
        """Write the last events."""
        self._begin()
        delta = {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
        self._put("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})
        self._out.append(_STOP)
        self._ended = True

    def _begin(self) -> None:
        """Write the start of the message. That waits for the first block, which is certain."""
        if not self._begun:
            self._begun = True
            self._put("message_start", {"type": "message_start", "message": self._message()})

    def _start(self, block: dict[str, Any], delta: bytes, member: bytes) -> None:
        self.close()
        self._begin()
        index = self._count
        self._count += 1
        self.started = True
        self.open = block["type"]
        self._before = _DELTA % (index, delta, member)
        self._put(
            "content_block_start",
            {"type": "content_block_start", "index": index, "content_block": block},
        )

    def _add(self, text: str) -> None:
        encoded = _encode(text)
        self.size += len(encoded) - 2
        self._out.append(b"%b%b%b" % (self._before, encoded, _TAIL))

    def _put(self, name: str, value: dict[str, Any]) -> None:
        if self._filters and name in MARKED:
            block = value.get("content_block")
            kind = None if block is None else block["type"]
            self._marks.append(Mark(len(self._out), name, value.get("index"), kind))
        self._out.append(event(name, _encode(value)))
