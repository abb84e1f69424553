"""Ids of calls."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.rectify.tool_ids import TOOL_IDS
from tests.rectify.structure import (
    TOOLS,
    assistant,
    call,
    conversations,
    made,
    repaired,
    result,
    text,
    user,
)
from tests.rectify.validity import faults, of_kind

TWICE = "messages.3.content.1: `tool_use` ids must be unique"
LETTERS = "messages.1.content.1.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
NINE = "Tool call id was toolu_01 but must be a-z, A-Z, 0-9, with a length of 9."
LENGTH = "Invalid 'messages[2].tool_calls[0].id': string too long. Expected maximum length 40"
HI = user(text("hi"))


def ids_of(body: Any, kind: str = "tool_use", key: str = "id") -> list[str]:
    return [block[key] for message in body["messages"] for block in of_kind(message, kind)]


def test_the_second_call_of_an_id_gets_another_and_so_does_its_result() -> None:
    messages = [
        HI,
        assistant(call("a"), call("a")),
        user(result("a", "1"), result("a", "2")),
        assistant(call("a"), call("a_2")),
        user(result("a", "3"), result("a_2", "4")),
    ]
    body = made(TOOL_IDS, {"messages": messages, "tools": TOOLS}, TWICE)
    assert ids_of(body) == ["a", "a_2", "a_3", "a_2_2"]
    assert ids_of(body, "tool_result", "tool_use_id") == ["a", "a_2", "a_3", "a_2_2"]
    assert not faults(body)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["functions.Bash:0"], ["functions_Bash_0"]),
        (["a.b", "a:b", "a_b"], ["a_b", "a_b_2", "a_b_3"]),
        (["", "ok"], ["toolu_0", "ok"]),
        (["\u00e9\u00e9", "a|b"], ["__", "a_b"]),
    ],
)
def test_letters_that_are_not_taken_are_replaced(ids: list[str], expected: list[str]) -> None:
    messages = [HI, assistant(*map(call, ids)), user(*map(result, ids))]
    body = made(TOOL_IDS, {"messages": messages, "tools": TOOLS}, LETTERS)
    assert ids_of(body) == expected
    assert ids_of(body, "tool_result", "tool_use_id") == ids_of(body)
    assert not faults(body)


def test_a_result_of_nobody_is_spelled_like_a_call() -> None:
    messages = [HI, assistant(call("a.b")), user(result("a.b"), result("a.b"), result("c.d"))]
    body = made(TOOL_IDS, {"messages": messages}, LETTERS)
    assert ids_of(body, "tool_result", "tool_use_id") == ["a_b", "a_b", "c_d"]


def test_an_id_is_as_long_as_it_has_to_be() -> None:
    messages = [HI, assistant(call("toolu_01"), call("Abcdef123")), user(result("toolu_01"))]
    repair = repaired(TOOL_IDS, {"messages": messages}, NINE)
    assert repair is not None
    assert repair.changed == "2 tool ids rewritten"
    assert repair.lesson == "tool call id must be a-z, A-Z, 0-9, with a length of 9"
    body = made(TOOL_IDS, {"messages": messages}, repair.lesson)
    first, second = ids_of(body)
    assert re.fullmatch(r"[a-zA-Z0-9]{9}", first)
    assert second == "Abcdef123"
    assert ids_of(body, "tool_result", "tool_use_id") == [first]


def test_an_id_is_no_longer_than_it_may_be() -> None:
    messages = [HI, assistant(call("x" * 60), call("short")), user(result("x" * 60))]
    body = made(TOOL_IDS, {"messages": messages}, LENGTH)
    first, second = ids_of(body)
    assert re.fullmatch(r"call_[a-zA-Z0-9]{24}", first)
    assert second == "short"
    assert ids_of(body, "tool_result", "tool_use_id") == [first]


SAME = st.sampled_from(["a", "a_2", "b.c", "b:c", "b_c", "", "toolu_0", "x" * 70])


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([TWICE, LETTERS, NINE, LENGTH]))
def test_every_call_has_an_id_of_its_own(data: st.DataObject, words: str) -> None:
    body = data.draw(conversations())
    messages: list[Any] = []
    names: dict[str, str] = {}
    for message in body["messages"]:
        content = message["content"]
        if isinstance(content, list):
            blocks = []
            for block in content:
                if block["type"] == "tool_use":
                    names[block["id"]] = data.draw(SAME)
                    block = {**block, "id": names[block["id"]]}
                elif block["type"] == "tool_result":
                    block = {**block, "tool_use_id": names[block["tool_use_id"]]}
                blocks.append(block)
            message = {**message, "content": blocks}
        messages.append(message)
    broken = {**body, "messages": messages}
    repair = repaired(TOOL_IDS, broken, words)
    after = made(TOOL_IDS, broken, words) if repair else broken
    assert not faults(after)
    # What comes later changes nothing of what was before: providers cache by prefix.
    shorter = {**broken, "messages": messages[:-2]}
    before = made(TOOL_IDS, shorter, words) if repaired(TOOL_IDS, shorter, words) else shorter
    assert after["messages"][: len(before["messages"])] == before["messages"]
