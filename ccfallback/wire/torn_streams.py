"""Blocks stay unfinished until an answer can no longer be lost with them.

Claude Code asks again for an answer that broke off, unless it has seen a finished block that is no
tool call: then it keeps what it has, shows an error, and the turn is lost. What finishes a block is
its `content_block_stop`, so the stops of such blocks are held back, and nothing else is: text flows
as it comes, into blocks that are open side by side. A tool call that is over runs at once and makes
the answer worth keeping; the stops before it go out right before its own, and the last ones before
the answer's end. An answer that breaks off never says them.
"""

from typing import Any, Final

import msgspec

from ccfallback.messages.body import replace_lone_surrogates
from ccfallback.messages.sse import EventSplitter, data_of
from ccfallback.wire.format import StreamTranslator

CALL: Final = "tool_use"
"""The type of the only blocks that the client goes on from."""

_BLOCK: Final = b"content_block_st"
_MESSAGE: Final = b"message_"


class _Block(msgspec.Struct):
    type: Any = None


class _Event(msgspec.Struct):
    type: Any = None
    index: int | None = None
    content_block: _Block | None = None


_EVENT: Final = msgspec.json.Decoder(_Event)
_NOTHING: Final = _Event()


class UnfinishedStream:
    """A stream that finishes no block too early; see `StreamTranslator`."""

    __slots__ = (
        "_calls",
        "_held",
        "_inner",
        "complete",
        "error",
        "finished",
        "heard",
        "signatures",
        "started",
        "usage",
    )

    def __init__(self, inner: StreamTranslator) -> None:
        self._inner = inner
        self._calls: set[int | None] = set()
        self._held: dict[int | None, bytes] = {}
        self.usage = inner.usage
        self.signatures = inner.signatures
        self._follow()

    def feed(self, chunk: bytes) -> bytes:
        """The events that are whole now and finish nothing too early."""
        return self._passed(self._inner.feed(chunk))

    def finish(self) -> bytes:
        """What remains to be said."""
        return self._passed(self._inner.finish())

    def _follow(self) -> None:
        inner = self._inner
        self.heard, self.started = inner.heard, inner.started
        self.complete, self.finished = inner.complete, inner.finished
        self.error = inner.error

    def _passed(self, events: bytes) -> bytes:
        inner = self._inner
        if not self.started or inner.complete or inner.finished or inner.error is not None:
            self._follow()
        if self.complete:
            # The answer is whole: what is to come can tear nothing.
            return self._released() + events if self._held else events
        # Most reads are deltas: they cost a search or two.
        if _BLOCK in events or (self._held and _MESSAGE in events):
            return self._without_stops(events)
        return events

    def _without_stops(self, events: bytes) -> bytes:
        out: list[bytes] = []
        splitter = EventSplitter()
        # Only whole events come out of a translator.
        for raw in (*splitter.feed(events), splitter.rest):
            event = _event_in(raw) if _BLOCK in raw or _MESSAGE in raw else _NOTHING
            match event.type:
                case "content_block_start":
                    if event.index in self._held:
                        # One number for two blocks: the first has to be over.
                        out.append(self._released())
                    self._note(event)
                case "content_block_stop" if event.index not in self._calls:
                    self._held[event.index] = self._held.get(event.index, b"") + raw
                    continue
                case "content_block_stop" | "message_delta":
                    out.append(self._released())
                case _:
                    pass
            out.append(raw)
        return b"".join(out)

    def _note(self, start: _Event) -> None:
        if start.content_block is not None and start.content_block.type == CALL:
            self._calls.add(start.index)
        else:
            self._calls.discard(start.index)

    def _released(self) -> bytes:
        held = b"".join(self._held.values())
        self._held.clear()
        return held


def _event_in(raw: bytes) -> _Event:
    """What matters of an event; nothing where it has another shape than ours."""
    data = data_of(raw)
    for spelling in (data, replace_lone_surrogates(data)):
        try:
            return _EVENT.decode(spelling)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return _NOTHING
