"""The grammar of Anthropic's streams, to check translated ones."""

from typing import Any

import msgspec

from tests.wire.openai.upstream import Translated

DELTAS = {
    "text": {"text_delta"},
    "tool_use": {"input_json_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
}
COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


def obey(translated: Translated) -> None:
    """Fail where the events break the grammar, or say something else than the stream's state."""
    events = [event for event in translated.events if event["type"] != "ping"]
    stream = translated.stream
    kinds = [event["type"] for event in events]
    assert "error" not in kinds
    assert stream.started == ("content_block_start" in kinds)
    assert stream.complete == (kinds[-2:] == ["message_delta", "message_stop"])
    assert not (stream.complete and stream.error)
    assert translated.events[:1] == events[:1], "a ping before the message"
    if events:
        _message(events[0])
    ends = 2 if stream.complete else 0
    _blocks(events[1 : len(events) - ends], whole=stream.complete)
    if stream.complete:
        _end(events[-2])


def _message(event: dict[str, Any]) -> None:
    assert event["type"] == "message_start"
    message = event["message"]
    assert message["id"].startswith("msg_")
    assert len(message["id"]) == 28
    assert (message["type"], message["role"], message["content"]) == ("message", "assistant", [])
    assert message["stop_reason"] is None
    assert message["stop_sequence"] is None
    _usage(message["usage"])


def _end(event: dict[str, Any]) -> None:
    assert isinstance(event["delta"]["stop_reason"], str)
    assert "stop_sequence" in event["delta"]
    _usage(event["usage"])


def _usage(usage: dict[str, Any]) -> None:
    for name in COUNTS:
        assert isinstance(usage[name], int)
        assert usage[name] >= 0


def _blocks(events: list[dict[str, Any]], *, whole: bool) -> None:
    open_type, count, signed, ids = "", 0, False, set()
    text = ""
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert not open_type
                assert event["index"] == count
                block = event["content_block"]
                open_type, count, signed, text = block["type"], count + 1, False, ""
                assert open_type in DELTAS
                if open_type == "tool_use":
                    assert block["input"] == {}
                    assert block["name"]
                    assert block["id"] not in ids
                    ids.add(block["id"])
            case "content_block_delta":
                assert open_type
                assert event["index"] == count - 1
                kind, said = event["delta"].values()
                assert kind in DELTAS[open_type]
                assert isinstance(said, str)
                assert not signed, "something after the signature"
                signed = kind == "signature_delta"
                text += "" if signed else said
            case "content_block_stop":
                assert open_type
                assert event["index"] == count - 1
                assert signed == (open_type == "thinking")
                assert open_type != "text" or text.strip(), "a text without letters"
                open_type = ""
            case kind:
                raise AssertionError(kind)
    assert not (whole and open_type)


def same(one: bytes, other: bytes) -> bool:
    """Whether two messages are the same but for their ids."""
    return _without_ids(msgspec.json.decode(one)) == _without_ids(msgspec.json.decode(other))


def _without_ids(message: dict[str, Any]) -> dict[str, Any]:
    content = [{**block, "id": None} for block in message["content"]]
    return {**message, "id": None, "content": content}
