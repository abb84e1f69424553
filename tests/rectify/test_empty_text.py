"""Texts that say nothing."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.rectify.empty_text import EMPTY_TEXT
from tests.rectify.refused import REFUSED
from tests.rectify.structure import (
    MARK,
    assistant,
    conversations,
    made,
    repaired,
    result,
    system,
    text,
    user,
)
from tests.rectify.validity import faults

REFUSAL = REFUSED["empty_text"][0]
HI = user(text("hi"))
OK = assistant(text("ok"))
THINKING = {"type": "thinking", "thinking": "", "signature": "s"}
FILLER = text("(no content)")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user(text(""), text("hi"), text(" \n"))], [HI]),
        ([user(text(" ")), OK], [user(FILLER), OK]),
        ([HI, assistant(text("\n\n")), HI], [HI, assistant(FILLER), HI]),
        ([HI, assistant(text("\n\n"))], [HI]),
        ([HI, {"role": "assistant", "content": ""}, HI], [HI, assistant(FILLER), HI]),
        ([HI, {"role": "user", "content": " "}], [HI]),
        ([HI, {"role": "user", "content": []}], [HI]),
        ([HI, system(" "), OK], [HI, OK]),
        (
            [user(result("a", [text(""), text("x")]), result("b", [text("")]), result("c", ""))],
            [user(result("a", [text("x")]), result("b", []), result("c", ""))],
        ),
        ([user(text("hi"), text("", **MARK))], [user(text("hi", **MARK))]),
        (
            [HI, assistant(text("ok"), THINKING, text("", **MARK)), HI],
            [HI, assistant(text("ok", **MARK), THINKING), HI],
        ),
        ([user(text("", **MARK), text("hi"))], [HI]),
        (
            [user(text("hi", cache_control={"type": "e", "ttl": "1h"}), text("", **MARK))],
            [user(text("hi", cache_control={"type": "e", "ttl": "1h"}))],
        ),
    ],
)
def test_they_go(messages: list[Any], expected: list[Any]) -> None:
    assert made(EMPTY_TEXT, {"messages": messages}, REFUSAL)["messages"] == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("", None), (" \n", None), ([text("")], None), ([text("a"), text(" ")], [text("a")])],
)
def test_they_go_from_the_prompt_too(prompt: Any, expected: Any) -> None:
    body = made(EMPTY_TEXT, {"messages": [HI], "system": prompt}, REFUSAL)
    assert body == {"messages": [HI]} | ({"system": expected} if expected else {})


def test_it_is_said_in_counts() -> None:
    body = {"messages": [user(text("a"), text(""), result("b", [text("")]))], "system": " "}
    repair = repaired(EMPTY_TEXT, body, REFUSAL)
    assert repair is not None
    assert repair.changed == "3 empty texts removed"
    repair = repaired(EMPTY_TEXT, {"messages": [HI, {"role": "user", "content": []}]}, REFUSAL)
    assert repair is not None
    assert repair.changed == "1 empty message filled or removed"


BLANK = st.sampled_from(["", " ", "\n\n", "\t "])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_text_is_empty(data: st.DataObject) -> None:
    body = data.draw(conversations())
    messages = []
    for message in body["messages"]:
        content = message["content"]
        if data.draw(st.integers(0, 4)) == 0 and not isinstance(content, str):
            kept = [block for block in content if block["type"] in ("tool_use", "tool_result")]
            where = data.draw(st.integers(len(kept), len(kept) + 1))
            content = kept or []
            content[where:where] = [text(data.draw(BLANK))]
        messages.append({**message, "content": content})
    prompt = data.draw(st.none() | BLANK)
    broken = {**body, "messages": messages} | ({"system": prompt} if prompt is not None else {})
    if faults(broken) or prompt is not None:
        found = faults(made(EMPTY_TEXT, broken, REFUSAL))
        # A server tool's result went with the rest of its message.
        assert not [fault for fault in found if "before the user" not in fault]
    else:
        assert repaired(EMPTY_TEXT, broken, REFUSAL) is None
