"""A whole message as a stream, and a stream as a whole message.

Some gateways answer a request for a stream with a whole message, or the reverse. The client gets
what it asked for all the same.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ccfallback.messages.body import UNREADABLE, replace_lone_surrogates
from ccfallback.messages.sse import EventSplitter, data_of, event

MALFORMED: Final = (
    msgspec.DecodeError,
    UnicodeError,
    RecursionError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
)
"""What code that relies on the shape of a message raises for another shape."""

_DELTAS: Final = {
    "text": ("text", "text_delta", "text"),
    "thinking": ("thinking", "thinking_delta", "thinking"),
}
"""Block type: its text member, the delta that carries it, the delta's member."""


class NotAMessage(ValueError):
    """The answer has another shape than a message, or a stream of one."""


def to_events(message: bytes) -> bytes:
    """The events that stream a whole message. Raises `NotAMessage`."""
    try:
        return _events(msgspec.json.decode(replace_lone_surrogates(message)))
    except MALFORMED as error:
        raise NotAMessage(str(error)) from None


def to_message(stream: bytes) -> bytes:
    """The message that a whole stream adds up to. Raises `NotAMessage`."""
    try:
        return _message(replace_lone_surrogates(stream))
    except MALFORMED as error:
        raise NotAMessage(str(error)) from None


def _events(value: Any) -> bytes:
    content = value.get("content") or []
    head = {**value, "type": "message", "content": [], "stop_reason": None, "stop_sequence": None}
    usage = value.get("usage") or {}
    head["usage"] = {"input_tokens": 0, **usage, "output_tokens": 0}
    events = [_encoded({"type": "message_start", "message": head})]
    for index, block in enumerate(content):
        events.extend(_encoded(part) for part in _block_events(index, block))
    events.append(
        _encoded(
            {
                "type": "message_delta",
                "delta": {
                    "stop_reason": value.get("stop_reason") or "end_turn",
                    "stop_sequence": value.get("stop_sequence"),
                },
                "usage": {"output_tokens": 0, **usage},
            }
        )
    )
    events.append(_encoded({"type": "message_stop"}))
    return b"".join(events)


def _message(stream: bytes) -> bytes:
    splitter = EventSplitter()
    message: dict[str, Any] = {}
    arguments: dict[int, str] = {}
    for raw in (*splitter.feed(stream), splitter.rest):
        data = data_of(raw)
        if data:
            _add(message, arguments, msgspec.json.decode(data))
    message.setdefault("content", [])
    return msgspec.json.encode(message)


def _encoded(value: dict[str, Any]) -> bytes:
    return event(value["type"], msgspec.json.encode(value))


def _block_events(index: int, block: dict[str, Any]) -> Iterable[dict[str, Any]]:
    kind = block.get("type")
    start, deltas = block, []
    if kind in _DELTAS:
        member, delta, delta_member = _DELTAS[kind]
        start = {**block, member: ""}
        deltas.append({"type": delta, delta_member: block.get(member) or ""})
    if kind == "thinking":
        start["signature"] = ""
        deltas.append({"type": "signature_delta", "signature": block.get("signature") or ""})
    if kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        start = {**block, "input": {}}
        arguments = msgspec.json.encode(block.get("input") or {}).decode()
        deltas.append({"type": "input_json_delta", "partial_json": arguments})
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for part in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": part}
    yield {"type": "content_block_stop", "index": index}


def _add(message: dict[str, Any], arguments: dict[int, str], value: dict[str, Any]) -> None:
    match value.get("type"):
        case "message_start":
            message |= {**value["message"], "content": []}
        case "content_block_start":
            message.setdefault("content", []).append(value["content_block"])
        case "content_block_delta":
            _add_delta(message["content"][-1], arguments, value)
        case "content_block_stop":
            text = arguments.pop(value.get("index", -1), "")
            if text.strip():
                message["content"][-1]["input"] = _input(text)
        case "message_delta":
            message |= value.get("delta") or {}
            said = {
                key: count for key, count in (value.get("usage") or {}).items() if count is not None
            }
            message["usage"] = {**(message.get("usage") or {}), **said}
        case _:
            pass


def _add_delta(block: dict[str, Any], arguments: dict[int, str], value: dict[str, Any]) -> None:
    delta = value["delta"]
    match delta.get("type"):
        case "text_delta":
            block["text"] = block.get("text", "") + delta["text"]
        case "thinking_delta":
            block["thinking"] = block.get("thinking", "") + delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]
        case "input_json_delta":
            index = value.get("index", -1)
            arguments[index] = arguments.get(index, "") + delta["partial_json"]
        case _:
            pass


def _input(text: str) -> Any:
    """The input of a call in the model's own spelling of it, numbers included."""
    try:
        msgspec.json.decode(text)
    except UNREADABLE:
        return {"_raw_arguments": text}
    return msgspec.Raw(text.strip().encode())
