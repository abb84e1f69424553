"""A whole message as a stream, and a stream as a whole message.

Some gateways answer a request for a stream with a whole message, or the reverse. The client gets
what it asked for all the same.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ccfallback.messages.body import UNREADABLE, replace_lone_surrogates
from ccfallback.messages.sse import EventSplitter, data_of, json_event

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


_PIECES: Final = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "input"),
    "citations_delta": ("citation", "citations"),
    "compaction_delta": ("content", "content"),
}
"""Delta: its member that holds a piece, and the member of the block that the pieces make."""

_IN_THE_LAST_DELTA: Final = ("stop_details",)
_WITH_THE_END: Final = (*_IN_THE_LAST_DELTA, "context_management", "input_transformations")
"""The members of a message that a stream has in its `message_delta`."""


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
    late = {key: value[key] for key in _WITH_THE_END if key in value}
    head = {key: member for key, member in value.items() if key not in late}
    head |= {"type": "message", "content": [], "stop_reason": None, "stop_sequence": None}
    usage = value.get("usage") or {}
    head["usage"] = {"input_tokens": 0, **usage, "output_tokens": 0}
    events = [json_event({"type": "message_start", "message": head})]
    for index, block in enumerate(content):
        events.extend(json_event(part) for part in _block_events(index, block))
    delta = {
        "stop_reason": value.get("stop_reason") or "end_turn",
        "stop_sequence": value.get("stop_sequence"),
    }
    delta |= {key: late.pop(key) for key in _IN_THE_LAST_DELTA if key in late}
    end = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 0, **usage}}
    events.append(json_event({**end, **late}))
    events.append(json_event({"type": "message_stop"}))
    return b"".join(events)


def _message(stream: bytes) -> bytes:
    splitter = EventSplitter(limit=len(stream))
    assembly = _Assembly()
    for raw in (*splitter.feed(stream), splitter.rest):
        data = data_of(raw)
        if data:
            assembly.add(msgspec.json.decode(data))
    return msgspec.json.encode(assembly.message())


def _block_events(index: int, block: dict[str, Any]) -> Iterable[dict[str, Any]]:
    kind = block.get("type")
    start, deltas = block, []
    if kind in _DELTAS:
        member, delta, delta_member = _DELTAS[kind]
        start = {**block, member: ""}
        deltas.append({"type": delta, delta_member: block.get(member) or ""})
    if kind == "compaction" and isinstance(block.get("content"), str):
        start = {**block, "content": None}
        deltas.append({"type": "compaction_delta", "content": block["content"]})
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


class _Assembly:
    """A message in the making: texts are gathered in pieces, and joined once."""

    def __init__(self) -> None:
        self._message: dict[str, Any] | None = None
        self._content: list[dict[str, Any]] = []
        self._by_index: dict[int, int] = {}
        """The place in the content of the block that an index stands for now."""
        self._pieces: list[dict[str, list[Any]]] = []
        """The pieces of each block, by the member that they belong to."""

    def add(self, value: dict[str, Any]) -> None:
        """Add an event."""
        match value.get("type"):
            case "message_start":
                self._message = {**value["message"], "content": self._content}
                self._message.setdefault("type", "message")
                self._message.setdefault("role", "assistant")
            case "content_block_start":
                self._start(value["content_block"], value.get("index"))
            case "content_block_delta":
                index = value.get("index")
                place = -1 if index is None else self._by_index[index]
                self._add_delta(self._content[place], self._pieces[place], value["delta"])
            case "message_delta":
                self._end(value)
            case _:
                pass

    def message(self) -> dict[str, Any]:
        """The message that the events add up to. Raises `LookupError` if they have no start."""
        if self._message is None:
            raise LookupError("no message_start")
        for block, pieces in zip(self._content, self._pieces, strict=True):
            for member, parts in pieces.items():
                if member == "input":
                    if (text := "".join(parts)).strip():
                        block["input"] = _input(text)
                elif member == "citations":
                    block[member] = [*(block.get(member) or []), *parts]
                else:
                    block[member] = (block.get(member) or "") + "".join(parts)
        return self._message

    def _start(self, block: dict[str, Any], index: int | None) -> None:
        if index is not None:
            self._by_index[index] = len(self._content)
        self._content.append(block)
        self._pieces.append({})
        if block.get("type") == "fallback" and self._message is not None:
            # From here on another model answers.
            model = block.get("to")
            model = model.get("model") if isinstance(model, dict) else model
            if isinstance(model, str):
                self._message["model"] = model

    def _add_delta(
        self, block: dict[str, Any], pieces: dict[str, list[Any]], delta: dict[str, Any]
    ) -> None:
        kind = delta.get("type")
        if kind in _PIECES:
            member, target = _PIECES[kind]
            if delta[member] is not None:
                pieces.setdefault(target, []).append(delta[member])
        if kind == "signature_delta":
            block["signature"] = delta["signature"]
        elif kind == "compaction_delta" and "encrypted_content" in delta:
            block["encrypted_content"] = delta["encrypted_content"]

    def _end(self, value: dict[str, Any]) -> None:
        message = self._message
        if message is None:
            raise LookupError("no message_start")
        message |= value.get("delta") or {}
        message |= {key: value[key] for key in value.keys() - {"type", "delta", "usage"}}
        usage = value.get("usage") or {}
        said = {key: count for key, count in usage.items() if count is not None}
        message["usage"] = {**(message.get("usage") or {}), **said}


def _input(text: str) -> Any:
    """The input of a call in the model's own spelling of it, numbers included."""
    try:
        msgspec.json.decode(text)
    except UNREADABLE:
        return {"_raw_arguments": text}
    return msgspec.Raw(text.strip().encode())
