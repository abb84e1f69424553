"""Chunks of every shape, read into one."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.wire.openai.chunks import Call, Chunk, Delta, Function, decoded, details_text, read


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


def test_the_usual_shape_and_the_odd_one_say_the_same() -> None:
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
def test_what_is_no_object(data: bytes) -> None:
    assert read(data) is None


def test_cut_letters_and_a_mark_at_the_beginning() -> None:
    assert decoded(b'\xef\xbb\xbf{"a":"\\ud83d","b":"\xe6"}') == {"a": "\ufffd", "b": "\ufffd"}


def test_thinking_is_taken_from_one_member() -> None:
    details = [{"text": "a"}, {"summary": "b"}, {"data": "x"}, None, {"text": 1}]
    assert details_text(details) == "ab"
    assert Delta(reasoning="b", reasoning_content="a").thinking == "a"
    assert Delta(reasoning="b", reasoning_content="").thinking == "b"
    assert Delta(reasoning_details=details).thinking == "ab"
    assert Delta().thinking == ""


@settings(deadline=None)
@given(data=st.binary(max_size=50))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    assert isinstance(read(data), Chunk | None)
