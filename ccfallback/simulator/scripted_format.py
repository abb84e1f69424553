"""What a scripted upstream sends in one wire format, so that one fault serves every format.

By default it answers as a model at work: a text and two calls of a tool, and a last word once the
tool has answered.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Any, Final

import msgspec

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import (
    COMMENT,
    EVENTS,
    JSON,
    PING,
    Connection,
    Received,
    Script,
    choose,
    stream,
)

Block = Mapping[str, Any]
"""A block of a message of Anthropic's; each format says it in its own way."""

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

_LAST_EVENTS: Final = 3
"""Events at the end of an answer, in each format: they end its last block and the answer."""


class Part(IntEnum):
    """How many events of `CONTENT` are sent; each format streams it in twelve."""

    NOTHING = 0
    OPENING = 1
    TEXT = 3
    A_TEXT = 4
    """The text is complete."""
    HALF_A_CALL = 5
    A_CALL = 7
    """The first call is complete, the second one has begun."""


class Reason(Enum):
    """Why a provider refuses; each format has its own word for it."""

    BILLING = auto()
    UNKNOWN_FIELD = auto()
    BAD_KEY = auto()
    PAYMENT = auto()
    FORBIDDEN = auto()
    UNKNOWN_MODEL = auto()
    TIMEOUT = auto()
    TOO_LARGE = auto()
    UNPROCESSABLE = auto()
    RATE_LIMIT = auto()
    QUOTA = auto()
    INTERNAL = auto()
    UNAVAILABLE = auto()
    OVERLOADED = auto()


def wants_stream(request: Received) -> bool:
    """Whether the request says `"stream": true`."""
    return request.json.get("stream") is True


@dataclass(frozen=True, slots=True)
class ScriptedFormat:
    """One wire format."""

    whole: Callable[[Sequence[Block]], bytes]
    """The body of a whole answer with these blocks."""
    events: Callable[[Sequence[Block]], list[bytes]]
    """The events that stream it."""
    error: Callable[[int, str, str, Mapping[str, str]], Script]
    """An error response: status, word, message and headers."""
    words: Mapping[Reason, str]
    overload: bytes
    """An overload as the body of a 200."""
    overload_event: bytes
    """The same as an event of a stream."""
    has_results: Callable[[Received], bool]
    """Whether the tool has answered."""
    wants_stream: Callable[[Received], bool] = wants_stream
    content: tuple[Block, ...] = CONTENT
    """What it answers first."""
    refusal: Callable[[Received], Script | None] = lambda _: None
    """What a healthy model says to a request that is wrong; `None` if it is right."""
    stream_type: str = EVENTS
    """The media type of a stream."""
    garbage: bytes = b"data: {not JSON at all\n\n"
    """An event of a stream that is not JSON."""
    sign_of_life: bytes = PING + COMMENT
    """What a stream may hold that is not a part of the answer."""

    def media_type(self, request: Received) -> str:
        """The media type of a good answer."""
        return self.stream_type if self.wants_stream(request) else JSON

    def refuse(
        self,
        status: int,
        reason: Reason,
        message: str = "scripted",
        headers: Mapping[str, str] | None = None,
    ) -> Script:
        """An error response."""
        return self.error(status, self.words[reason], message, headers or {})

    def reply(self, content: Sequence[Block] | str) -> Script:
        """A good answer: a stream or whole, as the request wants it."""
        blocks = scripted.to_blocks(content)
        as_whole = scripted.answer(200, self.whole(blocks))
        good = choose(self.wants_stream, self._stream(self.events(blocks)), as_whole)

        async def script(request: Received, connection: Connection) -> None:
            await (self.refusal(request) or good)(request, connection)

        return script

    def works(self) -> Script:
        """A healthy model: it calls the tool twice, and has the last word."""
        return choose(self.has_results, self.reply(LAST), self.reply(self.content))

    def up_to(self, part: Part, then: Script | None = None) -> Script:
        """A part of the answer, and then something else, or the end as if it were complete."""
        return self._break_off(self.events(self.content)[:part], then)

    def within_last_block(self, content: Sequence[Block], then: Script) -> Script:
        """An answer, and within its last block something else."""
        return self._break_off(self.events(content)[:-_LAST_EVENTS], then)

    def without_last_event(self, then: Script) -> Script:
        """A healthy model's answer, but without the last event of a stream; then something else."""
        calls = self._stream(self.events(self.content)[:-1], then)
        last = self._stream(self.events(LAST)[:-1], then)
        return choose(self.wants_stream, choose(self.has_results, last, calls), self.works())

    def _break_off(self, events: Sequence[bytes], then: Script | None) -> Script:
        whole = self.whole(self.content)
        half = [whole[: len(whole) // 2]] if events else []
        whole_cut = stream(half, then, {"content-type": JSON})
        return choose(self.wants_stream, self._stream(events, then), whole_cut)

    def _stream(self, events: Sequence[bytes], then: Script | None = None) -> Script:
        return stream(events, then, {"content-type": self.stream_type})


def _whole(content: Iterable[Block]) -> bytes:
    blocks = list(content)
    reason = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
    return msgspec.json.encode(scripted.message(blocks, stop_reason=reason))


def _events(content: Iterable[Block]) -> list[bytes]:
    return scripted.events_of(_whole(content))


def _has_results(request: Received) -> bool:
    return any(
        isinstance(block, dict) and block.get("type") == "tool_result"
        for message in request.json["messages"]
        for block in message.get("content") or ()
    )


_OVERLOAD: Final = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'

ANTHROPIC: Final = ScriptedFormat(
    whole=_whole,
    events=_events,
    error=scripted.error,
    words={
        Reason.BILLING: "invalid_request_error",
        Reason.UNKNOWN_FIELD: "invalid_request_error",
        Reason.BAD_KEY: "authentication_error",
        Reason.PAYMENT: "billing_error",
        Reason.FORBIDDEN: "permission_error",
        Reason.UNKNOWN_MODEL: "not_found_error",
        Reason.TIMEOUT: "timeout_error",
        Reason.TOO_LARGE: "request_too_large",
        Reason.UNPROCESSABLE: "invalid_request_error",
        Reason.RATE_LIMIT: "rate_limit_error",
        Reason.QUOTA: "rate_limit_error",
        Reason.INTERNAL: "api_error",
        Reason.UNAVAILABLE: "api_error",
        Reason.OVERLOADED: "overloaded_error",
    },
    overload=_OVERLOAD,
    overload_event=b"event: error\ndata: " + _OVERLOAD + b"\n\n",
    has_results=_has_results,
)
