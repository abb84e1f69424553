"""System messages within a conversation."""

from typing import Any

import pytest

from ccfallback.messages.effort import with_efforts_at_the_top
from ccfallback.messages.system import with_tool_changes_made, without_system_messages
from ccfallback.policy.draft import RequestDraft
from tests.rectify.drafts import CALL, HI, RESULT, assistant, captured, draft, members, text, user

A = {"role": "system", "content": "A"}
SAID = text("<system-reminder>\nA\n</system-reminder>")
OK = assistant(text("ok"))


def done(before: RequestDraft, change: Any) -> dict[str, Any]:
    return members(RequestDraft(change(before.body)))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HI, A], [user(text("hi"), SAID)]),
        ([user(text("x")), A, OK, HI], [user(text("x"), SAID), OK, HI]),
        ([HI, A, A], [user(text("hi"), SAID, SAID)]),
        ([A, HI], [user(text("hi"), SAID)]),
        ([HI, OK, A, OK], [HI, OK, user(SAID), OK]),
        ([HI, OK, A], [HI, OK, user(SAID)]),
        (
            [HI, assistant(CALL), A, user(RESULT)],
            [HI, assistant(CALL), user(RESULT, SAID)],
        ),
        ([HI, {**A, "content": [text("A", cache_control={})]}],
         [user(text("hi"), {**SAID, "cache_control": {}})]),
        ([HI, {**A, "clear_at": "next_user_message"}, OK, HI], [HI, OK, HI]),
        ([HI, OK, HI, {**A, "clear_at": "next_user_message"}], [HI, OK, user(text("hi"), SAID)]),
        ([HI, {**A, "content": []}], [HI]),
        ([HI, {**A, "content": " "}], [HI]),
        ([A], [user(SAID)]),
    ],
)  # fmt: skip
def test_folding(messages: list[Any], expected: list[Any]) -> None:
    assert done(draft(*messages), without_system_messages)["messages"] == expected


def test_nothing_is_folded_where_nothing_is() -> None:
    before = draft(HI, OK)
    assert without_system_messages(before.body) is before.body


def test_the_real_clients_words_are_kept() -> None:
    for one in captured():
        before, now = members(one), done(one, without_system_messages)
        told = str(now["messages"])
        for message in before["messages"]:
            if message["role"] == "system":
                said = message["content"]
                words = said if isinstance(said, str) else said[0]["text"]
                assert repr(words)[1:40] in told
        assert all(message["role"] != "system" for message in now["messages"])


def test_the_last_effort_counts_for_all() -> None:
    messages = [
        HI,
        {**A, "output_config": {"effort": "low"}},
        OK,
        {"role": "system", "content": [], "output_config": {"effort": "high"}},
    ]
    now = done(draft(*messages, output_config={"format": 1}), with_efforts_at_the_top)
    assert now["messages"] == [HI, A, OK]
    assert now["output_config"] == {"format": 1, "effort": "high"}


def change(kind: str, **tool: Any) -> dict[str, Any]:
    return {"role": "system", "content": [{"type": f"tool_{kind}", "tool": tool}]}


ONE = {"name": "one", "input_schema": {}}
TWO = {"name": "two", "input_schema": {}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([change("removal", type="tool_reference", name="one")], [{**TWO, "defer_loading": True}]),
        ([change("addition", type="tool_reference", name="two")], [ONE, TWO]),
        (
            [change("removal", name="one"), change("addition", name="one")],
            [{**TWO, "defer_loading": True}, ONE],
        ),
        (
            [change("addition", type="tool_definition", definition={**ONE, "description": "d"})],
            [{**TWO, "defer_loading": True}, {**ONE, "description": "d"}],
        ),
        ([change("addition", name="unknown")], [ONE, {**TWO, "defer_loading": True}]),
        ([change("addition", type="mcp")], [ONE, {**TWO, "defer_loading": True}]),
    ],
)
def test_tool_changes(changes: list[Any], expected: list[Any]) -> None:
    before = draft(HI, *changes, OK, tools=[ONE, {**TWO, "defer_loading": True}])
    now = done(before, with_tool_changes_made)
    assert now["tools"] == expected
    assert now["messages"] == [HI, OK]


def test_the_text_next_to_a_change_stays() -> None:
    message = {**A, "content": [text("A"), *change("removal", name="one")["content"]]}
    now = done(draft(HI, message, tools=[ONE]), with_tool_changes_made)
    assert now["messages"] == [HI, {**A, "content": [text("A")]}]
    assert now["tools"] == []
