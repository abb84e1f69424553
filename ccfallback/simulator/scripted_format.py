"""The words of a scripted upstream in each wire format: one script serves both.

Its answer is that of a model at work: a text and two calls of a tool, and a last word once the
tool has answered. `up_to` says as much of it as is wanted, and then something else.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec

from ccfallback.simulator import scripted, scripted_openai
from ccfallback.simulator.scripted import EVENTS, JSON, Connection, Received, Script, stream

Block = Mapping[str, Any]

TOOL: Final = "Read"
LAST_WORD: Final = "Both files are read."
CONTENT: Final[tuple[Block, ...]] = (
    {"type": "text", "text": "I will read both files."},
    {"type": "tool_use", "id": "toolu_1", "name": TOOL, "input": {"file_path": "/one.txt"}},
    {"type": "tool_use", "id": "toolu_2", "name": TOOL, "input": {"file_path": "/two.txt"}},
)
THINKING: Final[Block] = {
    "type": "thinking",
    "thinking": "Both files have to be read.",
    "signature": "c2NyaXB0ZWQ=",
}
LAST: Final[tuple[Block, ...]] = ({"type": "text", "text": LAST_WORD},)


class Part(IntEnum):
    """How much of the answer is said: so many of its events, which both formats have twelve of."""

    NOTHING = 0
    OPENING = 1
    TEXT = 3
    A_TEXT = 4
    """The text is over."""
    HALF_A_CALL = 5
    A_CALL = 7
    """The first call is over, the second one has begun."""


Refuses = Callable[[int, str, str, Mapping[str, str]], Script]
Replies = Callable[[Iterable[Block]], Script]
Streams = Callable[[Iterable[Block]], list[bytes]]

_ENDS: Final = 3
"""Events at the end of an answer that finish its last block and itself, in both formats."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One format's words."""

    name: str
    events: tuple[bytes, ...]
    last_events: tuple[bytes, ...]
    whole: bytes
    error: Mapping[str, Any]
    """An overload, as it is said inside a 200."""
    replies: Replies
    refuses: Refuses
    streams: Streams
    error_name: bytes = b""
    """The line that names an error event, where the format names its events."""

    @property
    def error_event(self) -> bytes:
        """The overload as an event."""
        return self.error_name + b"data: " + msgspec.json.encode(self.error) + b"\n\n"

    def up_to(self, part: Part, then: Script | None = None) -> Script:
        """So much of the answer, and then something else, or else the end as if it were whole."""
        return self._broken_off(self.events[:part], then)

    def within_the_last_of(self, content: Iterable[Block], then: Script) -> Script:
        """Another answer, and in the midst of its last block something else."""
        return self._broken_off(self.streams(content)[:-_ENDS], then)

    def _broken_off(self, events: Sequence[bytes], then: Script | None) -> Script:
        half = [self.whole[: len(self.whole) // 2]] if events else []
        as_stream = stream(events, then)
        as_whole = stream(half, then, {"content-type": JSON})

        async def script(request: Received, connection: Connection) -> None:
            await (as_stream if streams(request) else as_whole)(request, connection)

        return script

    def without_end(self, then: Script) -> Script:
        """All that a model at work says, but for what ends a stream; then something else."""
        good = self.works()
        calls, last = stream(self.events[:-1], then), stream(self.last_events[:-1], then)

        async def script(request: Received, connection: Connection) -> None:
            ending = last if has_results(request) else calls
            await (ending if streams(request) else good)(request, connection)

        return script

    def works(self) -> Script:
        """A model that is well: calls the tool twice, and has the last word."""
        calls, last = self.replies(CONTENT), self.replies(LAST)

        async def script(request: Received, connection: Connection) -> None:
            await (last if has_results(request) else calls)(request, connection)

        return script


def streams(request: Received) -> bool:
    """Whether a stream was asked for."""
    return request.json.get("stream") is True


def media_type(request: Received) -> str:
    """What an answer to it should be."""
    return EVENTS if streams(request) else JSON


def has_results(request: Received) -> bool:
    """Whether the tool has answered, in either format."""
    return any(
        message["role"] == "tool"
        or any(
            isinstance(block, dict) and block.get("type") == "tool_result"
            for block in message.get("content") or ()
        )
        for message in request.json["messages"]
    )


def _anthropic_reply(content: Iterable[Block]) -> Script:
    blocks = list(content)
    reason = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
    return scripted.reply(blocks, stop_reason=reason)


def _anthropic_events(content: Iterable[Block]) -> list[bytes]:
    return scripted.events_of(msgspec.json.encode(scripted.message(content)))


_WHOLE: Final = msgspec.json.encode(scripted.message(CONTENT, stop_reason="tool_use"))

ANTHROPIC: Final = Dialect(
    name="anthropic",
    events=tuple(scripted.events_of(_WHOLE)),
    last_events=tuple(_anthropic_events(LAST)),
    whole=_WHOLE,
    error={"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    replies=_anthropic_reply,
    refuses=scripted.error,
    streams=_anthropic_events,
    error_name=b"event: error\n",
)

OPENAI: Final = Dialect(
    name="openai",
    events=tuple(scripted_openai.chunks_of(CONTENT)),
    last_events=tuple(scripted_openai.chunks_of(LAST)),
    whole=msgspec.json.encode(scripted_openai.completion(CONTENT)),
    error={"error": {"message": "Overloaded", "type": "server_error", "code": 503}},
    replies=scripted_openai.reply,
    refuses=scripted_openai.error,
    streams=scripted_openai.chunks_of,
)

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {dialect.name: dialect for dialect in (ANTHROPIC, OPENAI)}
)
