"""Names of tools that a provider does not take."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.rectify.rule import Refusal
from ccfallback.rectify.tool_name_form import TOOL_NAME_FORM
from tests.rectify.structure import (
    assistant,
    body_of,
    call,
    conversations,
    draft_of,
    made,
    repaired,
    result,
    text,
    tool,
    user,
)
from tests.rectify.validity import faults

PATTERN = "tools.1.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
LENGTH = "tools.1.custom.name: String should have at most 32 characters"
LONG = "mcp__a_server_of_somebody__" + "x" * 60


def everywhere(name: str) -> dict[str, Any]:
    """A request with a name at every place where there may be one."""
    added = {"type": "tool_definition", "definition": tool(name)}
    return {
        "messages": [
            user(text(name)),
            {"role": "system", "content": [{"type": "tool_addition", "tool": added}]},
            assistant(call("a", name), call("b", "Bash")),
            user(
                result("a", [{"type": "tool_reference", "tool_name": name}]),
                result("b"),
            ),
            {
                "role": "system",
                "content": [{"type": "tool_removal", "tool": {"name": name}}],
            },
        ],
        "tools": [tool("Bash"), tool(name), {"type": "web_search_20250305", "name": "web_search"}],
        "tool_choice": {"type": "tool", "name": name},
    }


def test_a_name_changes_wherever_it_stands_and_nothing_else_does() -> None:
    assert made(TOOL_NAME_FORM, everywhere("a.b"), PATTERN) == {
        **everywhere("a_b"),
        "messages": [user(text("a.b")), *everywhere("a_b")["messages"][1:]],
    }


def test_the_draft_says_what_the_client_calls_it() -> None:
    repair = repaired(TOOL_NAME_FORM, everywhere(LONG), LENGTH)
    assert repair is not None
    assert repair.changed == "1 tool renamed"
    (new, old) = next(iter(repair.draft.names.items()))
    assert old == LONG
    assert len(new) == 32
    assert body_of(repair.draft)["tool_choice"]["name"] == new


def test_the_client_is_told_its_own_name_after_two_repairs() -> None:
    once = repaired(TOOL_NAME_FORM, everywhere(LONG + "."), PATTERN)
    assert once is not None
    twice = TOOL_NAME_FORM.repair(once.draft, Refusal(400, LENGTH))
    assert twice is not None
    called = body_of(twice.draft)["tools"][1]["name"]
    assert len(called) == 32
    assert twice.draft.names[called] == LONG + "."


def test_its_lesson_makes_the_same_repair() -> None:
    repair = repaired(TOOL_NAME_FORM, everywhere(LONG), LENGTH)
    assert repair is not None
    assert repair.lesson
    taught = TOOL_NAME_FORM.repair(draft_of(everywhere(LONG)), Refusal(400, repair.lesson))
    assert taught is not None
    assert taught.draft.body.raw == repair.draft.body.raw
    assert taught.draft.names == repair.draft.names


@pytest.mark.parametrize("name", ["Bash", "mcp__a__b-c", "_", "x" * 64])
def test_a_good_name_stays(name: str) -> None:
    assert repaired(TOOL_NAME_FORM, everywhere(name), PATTERN) is None


def test_a_call_of_a_tool_that_is_gone_is_renamed_too() -> None:
    body = {**everywhere("Read"), "messages": [assistant(call("a", "gone tool"))]}
    assert made(TOOL_NAME_FORM, body, PATTERN)["messages"] == [assistant(call("a", "gone_tool"))]


NAMES = st.sampled_from(["a.b", "a_b", "x" * 70, "x" * 69 + "y", "é", "1st", "Bash", ""])


@settings(max_examples=60, deadline=None)
@given(conversations(), st.lists(NAMES, min_size=1, max_size=4, unique=True), st.data())
def test_random_names_come_out_valid_and_go_back(
    body: Any, names: list[str], data: st.DataObject
) -> None:
    body["tools"] = [tool(name) for name in names]
    for message in body["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] == "tool_use":
                block["name"] = data.draw(st.sampled_from(names))
    repair = repaired(TOOL_NAME_FORM, body, PATTERN)
    if repair is None:
        return
    after = body_of(repair.draft)
    assert not [fault for fault in faults(after) if "name" in fault and "" not in names]
    back = [repair.draft.names.get(each["name"], each["name"]) for each in after["tools"]]
    assert back == names
    sent = [each["name"] for each in after["tools"] if each["name"]]
    assert len(set(sent)) == len(sent)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in sent)
