"""Reading chunks of every shape, and writing events."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.messages.thinking import is_own, read_envelope
from ccfallback.wire.openai.blocks import Blocks
from ccfallback.wire.openai.chunks import (
    Call,
    Chunk,
    Delta,
    Function,
    decode_liberally,
    details_text,
    read,
)


def delta(value: Any) -> Delta | None:
    """The delta of a chunk."""
    chunk = read(msgspec.json.encode({"choices": [{"delta": value}]}))
    assert chunk is not None
    assert chunk.choices
    return chunk.choices[0].delta


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"content": "a"}, Delta(content="a")),
        ({"content": ["a", {"text": "b"}, {"type": "x"}, 1]}, Delta("ab", "")),
        ({"content": {"type": "text", "text": "a"}}, Delta("a", "")),
        ({"content": 5, "refusal": 1.5}, Delta("5", "")),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "R"}]}]},
            Delta("", "R"),
        ),
        (
            {"tool_calls": [{"index": "1", "function": {"name": "A", "arguments": {"a": 1}}}]},
            Delta("", "", tool_calls=[Call(1, None, Function("A", '{"a":1}'))]),
        ),
        (
            {"tool_calls": {"index": 0.0, "id": 7, "function": "x"}},
            Delta("", "", tool_calls=[Call(0, "7", None)]),
        ),
        ("x", None),
    ],
)
def test_odd_shapes(value: Any, expected: Delta | None) -> None:
    assert delta(value) == expected


def test_the_fast_and_the_liberal_reader_agree() -> None:
    usual = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}
    plain = read(msgspec.json.encode(usual))
    odd = read(msgspec.json.encode({**usual, "id": 1.5}))
    assert plain is not None
    assert odd is not None
    assert plain.choices is not None
    assert odd.choices is not None
    assert odd.choices[0].finish_reason == plain.choices[0].finish_reason
    assert odd.choices[0].delta is not None
    assert odd.choices[0].delta.content == "a"


@pytest.mark.parametrize("data", [b"", b"x", b"null", b"[]", b"1", b'{"a":'])
def test_data_that_is_not_an_object(data: bytes) -> None:
    assert read(data) is None


def test_cut_characters_and_a_byte_order_mark() -> None:
    assert decode_liberally(b'\xef\xbb\xbf{"a":"\\ud83d","b":"\xe6"}') == {
        "a": "\ufffd",
        "b": "\ufffd",
    }


def test_thinking_is_taken_from_one_member() -> None:
    details = [{"text": "a"}, {"summary": "b"}, {"data": "x"}, None, {"text": 1}]
    assert details_text(details) == "ab"
    assert Delta(reasoning="b", reasoning_content="a").thinking == "a"
    assert Delta(reasoning="b", reasoning_content="").thinking == "b"
    assert Delta(reasoning_details=details).thinking == "ab"
    assert Delta().thinking == ""


@settings(deadline=None)
@given(data=st.binary(max_size=50))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(read(data), Chunk | None)


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
    assert read_envelope(delta["signature"]) == {"x": 1}


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
