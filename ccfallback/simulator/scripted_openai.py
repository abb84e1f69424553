"""What a scripted upstream sends in the OpenAI format; see `scripted` and `scripted_format`."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ccfallback.simulator.scripted import Script, answer
from ccfallback.simulator.scripted_format import Block, Reason, ScriptedFormat


def completion(blocks: Iterable[Block]) -> dict[str, Any]:
    """A whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    calls = []
    for block in blocks:
        match block["type"]:
            case "thinking":
                message["reasoning_content"] = block["thinking"]
            case "text":
                message["content"] = block["text"]
            case _:
                calls.append(_call(block))
    if calls:
        message["tool_calls"] = calls
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "model": "scripted-model",
        "choices": [
            {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19},
    }


def chunks_of(blocks: Iterable[Block]) -> list[bytes]:
    """The events that stream an answer: arguments in two pieces, at the end usage and `[DONE]`."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    calls = 0
    for block in blocks:
        match block["type"]:
            case "thinking":
                deltas += [{"reasoning_content": part} for part in _halves(block["thinking"])]
            case "text":
                deltas += [{"content": part} for part in _halves(block["text"])]
            case _:
                call = {**_call(block), "index": calls}
                whole = call["function"]["arguments"]
                call["function"] = {**call["function"], "arguments": ""}
                deltas.append({"tool_calls": [call]})
                deltas += [
                    {"tool_calls": [{"index": calls, "function": {"arguments": part}}]}
                    for part in _halves(whole)
                ]
                calls += 1
    events = [_chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
    reason = "tool_calls" if calls else "stop"
    events.append(_chunk([{"index": 0, "delta": {}, "finish_reason": reason}]))
    usage = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
    return [*events, _chunk([], usage=usage), b"data: [DONE]\n\n"]


def error(
    status: int, code: str, message: str = "scripted", headers: Mapping[str, str] | None = None
) -> Script:
    """An error in OpenAI's envelope."""
    body = {"error": {"message": message, "type": "scripted", "param": None, "code": code}}
    return answer(status, msgspec.json.encode(body), headers=headers)


def _call(block: Block) -> dict[str, Any]:
    arguments = msgspec.json.encode(block["input"]).decode()
    function = {"name": block["name"], "arguments": arguments}
    return {"id": block["id"], "type": "function", "function": function}


def _chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
    chunk = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "choices": choices}
    return b"data: " + msgspec.json.encode({**chunk, **more}) + b"\n\n"


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [part for part in (text[:middle], text[middle:]) if part]


OPENAI: Final = ScriptedFormat(
    whole=lambda content: msgspec.json.encode(completion(content)),
    events=chunks_of,
    error=error,
    words={
        Reason.BILLING: "billing_not_active",
        Reason.UNKNOWN_FIELD: "unknown_parameter",
        Reason.BAD_KEY: "invalid_api_key",
        Reason.PAYMENT: "insufficient_funds",
        Reason.FORBIDDEN: "forbidden",
        Reason.UNKNOWN_MODEL: "model_not_found",
        Reason.TIMEOUT: "timeout",
        Reason.TOO_LARGE: "request_too_large",
        Reason.UNPROCESSABLE: "unprocessable",
        Reason.RATE_LIMIT: "rate_limited",
        Reason.QUOTA: "insufficient_quota",
        Reason.INTERNAL: "server_error",
        Reason.UNAVAILABLE: "unavailable",
        Reason.OVERLOADED: "overloaded",
    },
    overload=b'{"error":{"message":"Overloaded","type":"server_error","code":503}}',
    overload_event=(
        b'data: {"error":{"message":"Overloaded","type":"server_error","code":503}}\n\n'
    ),
    has_results=lambda request: any(each["role"] == "tool" for each in request.json["messages"]),
)
