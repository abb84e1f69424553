"""What every answer has: ids of its own, and the thinking that was asked for."""

from typing import Any

import pytest

from ccfallback.wire.openai.shape import Shape, Thinking, size, thinking_wanted
from tests.wire.openai.upstream import body


def test_ids_are_the_same_for_the_same_question_and_answer() -> None:
    first = Shape(body(), "chatcmpl-1").message()["id"]
    assert Shape(body(), "chatcmpl-1").message()["id"] == first
    assert Shape(body(), "chatcmpl-2").message()["id"] != first
    assert Shape(body(max_tokens=7), "chatcmpl-1").message()["id"] != first
    assert Shape(body(), None).message()["id"] != first


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (None, Thinking.NONE),
        ("x", Thinking.NONE),
        ({}, Thinking.NONE),
        ({"type": "disabled"}, Thinking.NONE),
        ({"type": "adaptive"}, Thinking.SHOWN),
        ({"type": "enabled", "budget_tokens": 1024}, Thinking.SHOWN),
        ({"type": "adaptive", "display": "summarized"}, Thinking.SHOWN),
        ({"type": "adaptive", "display": "omitted"}, Thinking.OMITTED),
    ],
)
def test_thinking_as_it_was_asked_for(thinking: Any, expected: Thinking) -> None:
    assert thinking_wanted(body(thinking=thinking)) is expected


def test_ids_of_calls() -> None:
    history = [{"role": "assistant", "content": [{"type": "tool_use", "id": "call_1"}]}]
    shape = Shape(body(messages=history), "x")
    ids = [shape.tool_id(given) for given in ("call_1", "call_2", "call_2", None, "a:b")]
    assert ids[1] == "call_2"
    assert ids[4] == "a_b"
    assert all(tool_id.startswith("toolu_") for tool_id in (ids[0], ids[2], ids[3]))
    assert len(set(ids)) == 5


def test_the_size_is_the_same_however_a_text_is_cut() -> None:
    text = 'é漢"\\\n👍'
    assert size(text) == sum(map(size, text))
