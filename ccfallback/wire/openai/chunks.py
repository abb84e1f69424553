"""The members of a completion, whole or one chunk of a stream, that matter here.

Most have the shape of OpenAI's reference and are decoded at once. Others are read member by
member, and whatever has another type is ignored: reading never fails.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ccfallback.messages.body import UNREADABLE, decode_json
from ccfallback.messages.sse import BOM


class Function(msgspec.Struct):
    """A function's name and arguments, or a fragment of them."""

    name: str | None = None
    arguments: str | None = None


class Call(msgspec.Struct):
    """A call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    type: str | None = None
    extra_content: Any = None
    """What Gemini gives along with a call: its signature."""


class Delta(msgspec.Struct):
    """A message, or a piece of one."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: Any = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None
    refusal: str | None = None
    annotations: Any = None
    """The pages that OpenAI and OpenRouter cite."""
    executed_tools: Any = None
    """The searches that Groq has made."""

    @property
    def thinking(self) -> str:
        """The thinking in it. Some providers repeat it in several members, so one counts."""
        return self.reasoning_content or self.reasoning or details_text(self.reasoning_details)


class Choice(msgspec.Struct):
    """One of the alternative answers; a request asks for one."""

    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    index: int | None = 0
    stop_reason: Any = None
    """The stop sequence, at vLLM."""
    usage: Any = None
    error: Any = None


class _Groq(msgspec.Struct):
    usage: Any = None
    error: Any = None


class Chunk(msgspec.Struct):
    """A completion, or a piece of one."""

    choices: list[Choice] | None = None
    id: str | None = None
    object: str | None = None
    usage: Any = None
    error: Any = None
    x_groq: _Groq | None = None
    timings: Any = None
    citations: Any = None
    """The pages that Perplexity and xAI cite, and what was found of them."""
    search_results: Any = None


_CHUNK: Final = msgspec.json.Decoder(Chunk)


def read(data: bytes) -> Chunk | None:
    """Read a completion or a chunk; `None` if it is not a JSON object."""
    try:
        return _CHUNK.decode(data)
    except UNREADABLE:
        value = decode_liberally(data)
    return _chunk(value) if isinstance(value, Mapping) else None


def decode_liberally(data: bytes) -> Any:
    """The JSON value in some bytes, read as liberally as possible; `None` if there is none."""
    data = data.removeprefix(BOM)
    value = decode_json(data)
    # Some relays cut a text in the middle of a character's bytes.
    return decode_json(data.decode("utf-8", "replace").encode()) if value is None else value


def details_text(details: object) -> str:
    """The text in OpenRouter's `reasoning_details`."""
    if not isinstance(details, list):
        return ""
    texts = (
        detail.get("text") or detail.get("summary")
        for detail in details
        if isinstance(detail, Mapping)
    )
    return "".join(text for text in texts if isinstance(text, str))


def _chunk(value: Mapping[str, Any]) -> Chunk:
    choices = value.get("choices")
    groq = value.get("x_groq")
    return Chunk(
        choices=[_choice(choice) for choice in choices if isinstance(choice, Mapping)]
        if isinstance(choices, list)
        else None,
        id=_text(value.get("id")),
        object=_text(value.get("object")),
        usage=value.get("usage"),
        error=value.get("error"),
        x_groq=_Groq(groq.get("usage"), groq.get("error")) if isinstance(groq, Mapping) else None,
        timings=value.get("timings"),
        citations=value.get("citations"),
        search_results=value.get("search_results"),
    )


def _choice(value: Mapping[str, Any]) -> Choice:
    return Choice(
        delta=_delta(value.get("delta")),
        message=_delta(value.get("message")),
        finish_reason=_text(value.get("finish_reason")),
        index=_index(value.get("index")),
        stop_reason=value.get("stop_reason"),
        usage=value.get("usage"),
        error=value.get("error"),
    )


def _delta(value: object) -> Delta | None:
    if not isinstance(value, Mapping):
        return None
    thinking, text = _parts(value.get("content"))
    calls = value.get("tool_calls")
    if isinstance(calls, Mapping):
        calls = [calls]
    return Delta(
        content=text,
        reasoning_content=_text(value.get("reasoning_content")) or thinking,
        reasoning=_text(value.get("reasoning")),
        reasoning_details=value.get("reasoning_details"),
        tool_calls=[_call(call) for call in calls if isinstance(call, Mapping)]
        if isinstance(calls, list)
        else None,
        function_call=_function(value.get("function_call")),
        refusal=_text(value.get("refusal")),
        annotations=value.get("annotations"),
        executed_tools=value.get("executed_tools"),
    )


def _parts(content: object) -> tuple[str, str]:
    """Thinking and text of a content that is a list of parts, as Mistral writes it."""
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        return "", _text(content) or ""
    thinking: list[str] = []
    texts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping):
            if part.get("type") == "thinking":
                thinking.append(_parts(part.get("thinking"))[1])
            else:
                texts.append(_text(part.get("text")) or _text(part.get("refusal")) or "")
    return "".join(thinking), "".join(texts)


def _call(value: Mapping[str, Any]) -> Call:
    return Call(
        index=_index(value.get("index")),
        id=_text(value.get("id")),
        function=_function(value.get("function")),
        type=_text(value.get("type")),
        extra_content=value.get("extra_content"),
    )


def _function(value: object) -> Function | None:
    if not isinstance(value, Mapping):
        return None
    arguments = value.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    return Function(_text(value.get("name")), arguments)


def _index(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return int(value) if isinstance(value, int | float) else None


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return str(value)
    return value if isinstance(value, str) else None
