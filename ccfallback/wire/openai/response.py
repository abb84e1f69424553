"""A whole OpenAI completion as Anthropic's message."""

from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.messages.errors import UpstreamError
from ccfallback.messages.thinking import mark
from ccfallback.wire.format import Whole
from ccfallback.wire.openai import chunks, errors, stops
from ccfallback.wire.openai.arguments import input_of, is_object
from ccfallback.wire.openai.chunks import Call, Choice, Chunk, Delta
from ccfallback.wire.openai.details import envelope
from ccfallback.wire.openai.shape import Shape, Thinking, size, thinking_wanted
from ccfallback.wire.openai.stream import EMPTY
from ccfallback.wire.openai.tags import ThinkTags
from ccfallback.wire.openai.usage import in_llama_timings, take, told

_NO_JSON: Final = "the answer is not JSON"
_NO_CHOICE: Final = "the answer holds no choice"


def whole(raw: bytes, asked: Body, *, think_tags: bool = False) -> Whole:
    """The message that a completion is, or why it is none."""
    chunk = chunks.read(raw)
    if chunk is None or chunk.error or not chunk.choices or chunk.object == "error":
        error = errors.inside(chunks.decoded(raw))
        if error is not None or chunk is None:
            return Whole(raw, error=error or UpstreamError("", _NO_JSON))
    choice = next((choice for choice in chunk.choices or () if not choice.index), None)
    message = None if choice is None else choice.message or choice.delta
    if choice is None or message is None:
        return Whole(raw, error=UpstreamError("api_error", _NO_CHOICE))
    failure = stops.failure(choice.finish_reason, choice.error)
    if failure is not None:
        return Whole(raw, error=failure)
    return _translated(raw, asked, chunk, choice, message, think_tags)


def _translated(
    raw: bytes, asked: Body, chunk: Chunk, choice: Choice, message: Delta, think_tags: bool
) -> Whole:
    shape = Shape(asked, chunk.id)
    thinking, text = _said(message, think_tags)
    calls = _calls(message)
    cut = stops.is_cut(choice.finish_reason)
    content = _thinking_blocks(thinking, message, asked)
    if text.strip():
        content.append({"type": "text", "text": text})
    content += [_tool_use(call, shape, cut) for call in calls]
    last = _arguments(calls[-1]) if calls else ""
    reason = stops.reason(
        choice.finish_reason,
        calls=bool(calls),
        whole=not last.strip() or is_object(last),
        refused=bool(message.refusal),
    )
    said = thinking or text.strip() or calls
    if reason == "end_turn" and not (content and said):
        return Whole(raw, error=UpstreamError("api_error", EMPTY))
    sequence = stops.sequence(choice.stop_reason, asked) if reason == "end_turn" else None
    result = Whole(b"")
    counts = chunk.usage or (chunk.x_groq and chunk.x_groq.usage) or choice.usage
    thought = take(result.usage, counts or in_llama_timings(chunk.timings))
    sent = sum(map(size, [thinking, text if text.strip() else "", *map(_arguments, calls)]))
    result.body = msgspec.json.encode(
        {
            **shape.message(),
            "content": content,
            "stop_reason": "stop_sequence" if sequence is not None else reason,
            "stop_sequence": sequence,
            "usage": told(result.usage, thought, asked, sent),
        }
    )
    return result


def _said(message: Delta, think_tags: bool) -> tuple[str, str]:
    """The thinking and the text of a message."""
    thinking, text = message.thinking, message.content or ""
    if think_tags:
        tags = ThinkTags()
        parts = (tags.split(text), tags.rest())
        thinking += "".join(part[0] for part in parts)
        text = "".join(part[1] for part in parts)
    return thinking if thinking.strip() else "", text + (message.refusal or "")


def _thinking_blocks(thinking: str, message: Delta, asked: Body) -> list[dict[str, Any]]:
    wanted = thinking_wanted(asked)
    details = envelope(message.reasoning_details)
    if wanted is Thinking.NONE or not (thinking or details):
        return []
    shown = thinking if wanted is Thinking.SHOWN else ""
    return [{"type": "thinking", "thinking": shown, "signature": mark(shown, details)}]


def _calls(message: Delta) -> list[Call]:
    """The calls of functions, the one of the old kind included."""
    calls = message.tool_calls or []
    if not calls and message.function_call is not None:
        calls = [Call(function=message.function_call)]
    return [
        call
        for call in calls
        if call.type in (None, "", "function") and call.function and call.function.name
    ]


def _tool_use(call: Call, shape: Shape, cut: bool) -> dict[str, Any]:
    name = (call.function and call.function.name) or ""
    return {
        "type": "tool_use",
        "id": shape.tool_id(call.id),
        "name": shape.tool_name(name),
        "input": input_of(_arguments(call), cut=cut),
    }


def _arguments(call: Call) -> str:
    return (call.function and call.function.arguments) or ""
