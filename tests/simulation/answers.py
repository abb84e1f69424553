"""What providers send, in the formats of Anthropic and of OpenAI, as plans: bytes and pauses."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

MARKER: Final = re.compile(rb"\[\[(\w+?)k(\d+)n(\d+)\]\]")
"""A conversation, the tools that have run in it, and how many its model will call."""

encode: Final = msgspec.json.encode


@dataclass(frozen=True)
class End:
    """The connection ends."""

    is_reset: bool = False


CLOSE: Final = End()
RESET: Final = End(is_reset=True)

Step = tuple[float, bytes | End]
"""Seconds after the step before, and what is sent."""


@dataclass(frozen=True)
class Usage:
    """The tokens of an answer."""

    input: int = 0
    output: int = 0


@dataclass
class Plan:
    """An answer, step by step. Without an end, the connection waits for the next request."""

    steps: list[Step]
    status: int = 200
    usage: Usage | None = None
    """What it says, if it is a whole answer."""
    commits: bool = False
    """Whether content is sent."""

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return sum(pause for pause, _ in self.steps)


@dataclass(frozen=True)
class Question:
    """A request, as a provider reads it."""

    raw: bytes
    format: str
    is_stream: bool
    conversation: str
    ran: int
    """The tools that have run."""
    wanted: int
    """The tools that will run."""
    kind: str = "messages"
    """`messages`, `check` (of the chain), `count` or `models`."""

    @classmethod
    def read(cls, raw: bytes, format_: str, path: str = "") -> "Question":
        """Read a request's body."""
        found = MARKER.findall(raw)
        name, ran, wanted = found[-1] if found else (b"none", b"0", b"0")
        is_stream = b'"stream":true' in raw
        kind = "check" if b"Reply with OK." in raw else "messages"
        if path.partition("?")[0].endswith(("/count_tokens", "/models")):
            kind = "count" if "/count_tokens" in path else "models"
        return cls(raw, format_, is_stream, name.decode(), int(ran), int(wanted), kind)

    @property
    def is_side(self) -> bool:
        """Whether it asks for no message, and costs nothing."""
        return self.kind in ("count", "models")

    @property
    def word(self) -> str:
        """What the model says, or the command that it runs."""
        return f"{self.conversation}k{self.ran + 1}"


HTML: Final = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n%b\r\n"
SIDE: Final = {"count": b'{"input_tokens":1234}', "models": b'{"data":[],"has_more":false}'}
"""What the side endpoints answer."""

PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(
    status: int,
    body: bytes,
    media_type: bytes = b"application/json",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A whole response."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items()).encode()
    return b"HTTP/1.1 %d Status\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (
        status, media_type, len(body), more, body,
    )  # fmt: skip


def error_body(format_: str, kind: str, message: str) -> bytes:
    """An error in the envelope of a format."""
    if format_ == "openai":
        return encode({"error": {"message": message, "type": kind, "code": kind}})
    return encode({"type": "error", "error": {"type": kind, "message": message}})


def _event(kind: str, data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **data}))


def blocks(question: Question) -> list[dict[str, Any]]:
    """What the model says: a text, and a call of a tool while any is left."""
    if question.ran >= question.wanted:
        return [{"type": "text", "text": f"done {question.word}"}]
    call = {"id": f"toolu_{question.word}", "name": "Bash", "input": {"command": question.word}}
    return [{"type": "text", "text": f"run {question.word}"}, {"type": "tool_use", **call}]


def message(question: Question, usage: Usage) -> bytes:
    """A whole answer."""
    if question.is_side:
        return SIDE[question.kind]
    content = blocks(question)
    calls = [block for block in content if block["type"] == "tool_use"]
    if question.format != "openai":
        return encode(
            {
                "id": f"msg_{question.word}",
                "type": "message",
                "role": "assistant",
                "model": "simulated",
                "content": content,
                "stop_reason": "tool_use" if calls else "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": usage.input, "output_tokens": usage.output},
            }
        )
    said: dict[str, Any] = {"role": "assistant", "content": content[0]["text"]}
    if calls:
        said["tool_calls"] = [_call(each) for each in calls]
    reason = "tool_calls" if calls else "stop"
    choice = {"index": 0, "message": said, "finish_reason": reason}
    completion = {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}
    return encode({**completion, "usage": _openai_usage(usage)})


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": block["name"], "arguments": encode(block["input"]).decode()}
    return {"id": block["id"], "type": "function", "function": function}


def _openai_usage(usage: Usage) -> dict[str, int]:
    total = usage.input + usage.output
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": total,
    }


@dataclass(frozen=True)
class Events:
    """The events of a streamed answer, by what they are for."""

    opening: bytes
    text: bytes
    text_end: bytes
    call: bytes = b""
    call_end: bytes = b""
    stop: bytes = b""
    last: bytes = b""
    head: bytes = field(default=b"")

    @property
    def parts(self) -> Sequence[bytes]:
        """All of them, in order."""
        return (
            self.opening, self.text, self.text_end, self.call, self.call_end, self.stop, self.last,
        )  # fmt: skip


def events(question: Question, usage: Usage) -> Events:
    """A streamed answer."""
    content = blocks(question)
    text, calls = content[0]["text"], content[1:]
    if question.format == "openai":
        return _openai_events(text, calls, usage)
    start: dict[str, Any] = {
        "id": f"msg_{question.word}",
        "type": "message",
        "role": "assistant",
        "model": "simulated",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": usage.input, "output_tokens": 1},
    }
    empty = {"type": "text", "text": ""}
    opening = _event("message_start", {"message": start})
    half = len(text) // 2
    return Events(
        opening,
        _event("content_block_start", {"index": 0, "content_block": empty})
        + _delta(0, {"type": "text_delta", "text": text[:half]}),
        _delta(0, {"type": "text_delta", "text": text[half:]})
        + _event("content_block_stop", {"index": 0}),
        *_anthropic_call(calls),
        stop=_event(
            "message_delta",
            {
                "delta": {"stop_reason": "tool_use" if calls else "end_turn"},
                "usage": {"output_tokens": usage.output},
            },
        ),
        last=_event("message_stop", {}),
    )


def _delta(index: int, delta: Mapping[str, Any]) -> bytes:
    return _event("content_block_delta", {"index": index, "delta": delta})


def _anthropic_call(calls: Sequence[Mapping[str, Any]]) -> tuple[bytes, bytes]:
    if not calls:
        return b"", b""
    block, written = {**calls[0], "input": {}}, encode(calls[0]["input"]).decode()
    half = len(written) // 2
    begin = _event("content_block_start", {"index": 1, "content_block": block})
    return (
        begin + _delta(1, {"type": "input_json_delta", "partial_json": written[:half]}),
        _delta(1, {"type": "input_json_delta", "partial_json": written[half:]})
        + _event("content_block_stop", {"index": 1}),
    )


def _openai_events(text: str, calls: Sequence[Mapping[str, Any]], usage: Usage) -> Events:
    half, call, call_end = len(text) // 2, b"", b""
    if calls:
        whole_call = _call(calls[0])
        written = whole_call["function"]["arguments"]
        middle = len(written) // 2
        first = {**whole_call, "index": 0}
        first["function"] = {**whole_call["function"], "arguments": written[:middle]}
        rest = {"index": 0, "function": {"arguments": written[middle:]}}
        call, call_end = _chunk({"tool_calls": [first]}), _chunk({"tool_calls": [rest]})
    return Events(
        _chunk({"role": "assistant", "content": ""}),
        _chunk({"content": text[:half]}),
        _chunk({"content": text[half:]}),
        call,
        call_end,
        _chunk({}, "tool_calls" if calls else "stop"),
        b'data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":%b}\n\n'
        b"data: [DONE]\n\n" % encode(_openai_usage(usage)),
    )


def _chunk(delta: Mapping[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: %b\n\n" % encode(
        {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}
    )
