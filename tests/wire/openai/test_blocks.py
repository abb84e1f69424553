"""Events as they go to the client."""

import msgspec

from ccfallback.messages.thinking import envelope_of, is_own
from ccfallback.wire.openai.blocks import Blocks


def blocks() -> Blocks:
    return Blocks(lambda: {"id": "msg_1", "type": "message", "content": []})


def names(events: bytes) -> list[bytes]:
    return [part.split(b"\n")[0].removeprefix(b"event: ") for part in events.split(b"\n\n")[:-1]]


def test_the_message_comes_with_its_first_block() -> None:
    written = blocks()
    assert written.take() == b""
    written.text("a")
    assert names(written.take()) == [
        *(b"message_start", b"content_block_start", b"content_block_delta")
    ]
    written.text("b")
    assert written.take() == (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"b"}}\n\n'
    )


def test_a_block_closes_the_one_before_it() -> None:
    written = blocks()
    written.text("a")
    written.tool_use("t", "Bash")
    written.arguments("{}")
    written.close()
    written.close()
    written.end("tool_use", None, {"output_tokens": 1})
    assert names(written.take())[3:] == [
        *(b"content_block_stop", b"content_block_start", b"content_block_delta"),
        *(b"content_block_stop", b"message_delta", b"message_stop"),
    ]


def test_thinking_is_signed_when_it_closes() -> None:
    written = blocks()
    written.thinking("a")
    written.take()
    written.close({"x": 1})
    delta = msgspec.json.decode(written.take().split(b"\n")[1].removeprefix(b"data: "))["delta"]
    assert is_own(delta["signature"])
    assert envelope_of(delta["signature"]) == {"x": 1}


def test_an_end_without_content_has_a_message_too() -> None:
    written = blocks()
    written.end("max_tokens", None, {"output_tokens": 1})
    assert names(written.take()) == [b"message_start", b"message_delta", b"message_stop"]
    assert not written.started


def test_one_line_of_data_whatever_the_text() -> None:
    written = blocks()
    written.text("a")
    written.take()
    written.text("\n\r\n\u2028\x00é")
    assert written.take().count(b"\n") == 3
