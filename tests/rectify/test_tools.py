"""Tools that are refused: their fields, names and schemas."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.rectify import attempt
from ccfallback.rectify.fields import TOOL_FIELDS
from ccfallback.rectify.rule import Refusal
from tests.rectify.drafts import (
    BETAS,
    FULL,
    HI,
    TOOLS,
    after,
    assistant,
    body_after,
    body_of,
    call,
    conversations,
    draft,
    draft_of,
    members,
    refused,
    repair_body,
    repaired,
    result,
    text,
    tool,
    user,
)
from tests.rectify.validity import faults

# --- tool_fields ---

EXTRA = "tools.0.custom.{}: Extra inputs are not permitted"


@pytest.mark.parametrize("field", sorted(TOOL_FIELDS))
def test_a_refused_member_is_removed_from_every_tool(field: str) -> None:
    made = repaired("tool_fields", FULL[0], EXTRA.format(field))
    before, now = members(FULL[0])["tools"], members(made.draft)["tools"]
    assert any(field in tool for tool in before)
    assert not any(field in tool for tool in now)
    expected = [
        {key: value for key, value in tool.items() if key != field}
        for tool in before
        if field != "defer_loading" or tool["name"] != "DeferredToolPlaceholder"
    ]
    assert now == expected
    assert made.lesson == f"tools.*.{field}: Extra inputs are not permitted"


def test_a_property_of_that_name_stays() -> None:
    schema = {"type": "object", "properties": {"strict": {}}, "strict": True}
    tools = [{"name": "a", "input_schema": schema, "strict": True}]
    now = after("tool_fields", draft(tools=tools), EXTRA.format("strict"))
    assert now["tools"] == [{"name": "a", "input_schema": schema}]


def test_several_members_are_removed_at_once() -> None:
    message = "; ".join(EXTRA.format(field) for field in sorted(TOOL_FIELDS))
    made = repaired("tool_fields", FULL[0], message)
    assert not any(TOOL_FIELDS & tool.keys() for tool in members(made.draft)["tools"])
    assert "advanced-tool-use-2025-11-20" not in made.draft.betas


def test_references_are_removed_with_deferred_loading() -> None:
    now = after("tool_fields", FULL[0], EXTRA.format("defer_loading"))
    result = now["messages"][-1]["content"][0]
    assert result["content"] == [{"type": "text", "text": "Tool WebFetch is available."}]


def test_tools_without_the_field_stay() -> None:
    assert refused("tool_fields", draft(tools=[{"name": "a"}]), EXTRA.format("strict"))
    assert refused("tool_fields", FULL[0], EXTRA.format("cache_control"))


# --- tool_changes ---

REFUSAL = "tool_addition blocks are not supported"
ADDED = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "a"}}
TOOL = {"name": "a", "input_schema": {}}


def test_changes_in_messages_move_to_tools() -> None:
    before = draft(
        HI,
        {"role": "system", "content": [ADDED]},
        tools=[{**TOOL, "defer_loading": True}],
        betas=BETAS,
    )
    made = repaired("tool_changes", before, REFUSAL)
    assert members(made.draft)["tools"] == [TOOL]
    assert members(made.draft)["messages"] == [HI]
    assert set(BETAS) - set(made.draft.betas) == {
        "mid-conversation-tool-changes-2026-07-01",
        "advanced-tool-use-2025-11-20",
    }


def test_a_request_without_tool_changes_stays() -> None:
    assert refused("tool_changes", draft(tools=[TOOL]), REFUSAL)


# --- tool_names ---

SAME_NAME = "tools: Tool names must be unique."
TOOLSET = {"type": "browser_toolset_20260801"}


def test_the_first_tool_of_a_name_stays() -> None:
    other = tool("Bash", properties={"a": {}})
    tools = [*TOOLS, other, TOOLSET, TOOLSET, tool("Web"), tool("Read")]
    repair = repair_body("tool_names", {"tools": tools}, SAME_NAME)
    assert repair is not None
    assert repair.changed == "2 tools of a name already taken removed"
    assert repair.lesson is None
    body = body_after("tool_names", {"tools": tools}, SAME_NAME)
    assert body["tools"] == [*TOOLS, TOOLSET, TOOLSET, tool("Web")]


def test_tools_with_different_names_stay() -> None:
    assert repair_body("tool_names", {"tools": TOOLS}, SAME_NAME) is None
    assert repair_body("tool_names", {"tools": 3}, SAME_NAME) is None
    assert repair_body("tool_names", {}, SAME_NAME) is None


# --- tool_name_form ---

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
            user(result("a", [{"type": "tool_reference", "tool_name": name}]), result("b")),
            {"role": "system", "content": [{"type": "tool_removal", "tool": {"name": name}}]},
        ],
        "tools": [tool("Bash"), tool(name), {"type": "web_search_20250305", "name": "web_search"}],
        "tool_choice": {"type": "tool", "name": name},
    }


def test_a_name_changes_everywhere_and_nothing_else_does() -> None:
    assert body_after("tool_name_form", everywhere("a.b"), PATTERN) == {
        **everywhere("a_b"),
        "messages": [user(text("a.b")), *everywhere("a_b")["messages"][1:]],
    }


def test_the_draft_keeps_the_clients_name() -> None:
    repair = repair_body("tool_name_form", everywhere(LONG), LENGTH)
    assert repair is not None
    assert repair.changed == "1 tool renamed"
    (new, old) = next(iter(repair.draft.names.items()))
    assert old == LONG
    assert len(new) == 32
    assert body_of(repair.draft)["tool_choice"]["name"] == new


def test_the_draft_keeps_the_clients_name_after_two_repairs() -> None:
    once = repair_body("tool_name_form", everywhere(LONG + "."), PATTERN)
    assert once is not None
    twice = attempt("tool_name_form", once.draft, Refusal(400, LENGTH))
    assert twice is not None
    called = body_of(twice.draft)["tools"][1]["name"]
    assert len(called) == 32
    assert twice.draft.names[called] == LONG + "."


def test_the_lesson_about_names_makes_the_same_repair() -> None:
    repair = repair_body("tool_name_form", everywhere(LONG), LENGTH)
    assert repair is not None
    assert repair.lesson
    taught = attempt("tool_name_form", draft_of(everywhere(LONG)), Refusal(400, repair.lesson))
    assert taught is not None
    assert taught.draft.body.raw == repair.draft.body.raw
    assert taught.draft.names == repair.draft.names


@pytest.mark.parametrize("name", ["Bash", "mcp__a__b-c", "_", "x" * 64])
def test_a_good_name_stays(name: str) -> None:
    assert repair_body("tool_name_form", everywhere(name), PATTERN) is None


def test_a_call_of_a_tool_that_is_gone_is_renamed_too() -> None:
    body = {**everywhere("Read"), "messages": [assistant(call("a", "gone tool"))]}
    assert body_after("tool_name_form", body, PATTERN)["messages"] == [
        assistant(call("a", "gone_tool"))
    ]


NAMES = st.sampled_from(["a.b", "a_b", "x" * 70, "x" * 69 + "y", "é", "1st", "Bash", ""])


@given(conversations(), st.lists(NAMES, min_size=1, max_size=4, unique=True), st.data())
def test_random_names_come_out_valid_and_go_back(
    body: Any, names: list[str], data: st.DataObject
) -> None:
    body["tools"] = [tool(name) for name in names]
    for message in body["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] == "tool_use":
                block["name"] = data.draw(st.sampled_from(names))
    repair = repair_body("tool_name_form", body, PATTERN)
    if repair is None:
        return
    after = body_of(repair.draft)
    assert not [fault for fault in faults(after) if "name" in fault and "" not in names]
    back = [repair.draft.names.get(each["name"], each["name"]) for each in after["tools"]]
    assert back == names
    sent = [each["name"] for each in after["tools"] if each["name"]]
    assert len(set(sent)) == len(sent)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in sent)


# --- tools_missing ---

NO_TOOLS = "Requests which include `tool_use` or `tool_result` blocks must define tools"
MESSAGES = [
    user(text("hi")),
    assistant(call("a", "Read"), call("b", "Bash"), call("c", "Read")),
    user(result("a"), result("b"), result("c")),
]


@pytest.mark.parametrize("body", [{"messages": MESSAGES}, {"messages": MESSAGES, "tools": []}])
def test_called_tools_are_defined_by_stubs(body: dict[str, object]) -> None:
    repair = repair_body("tools_missing", body, NO_TOOLS)
    assert repair is not None
    assert repair.changed == "2 tools stubbed"
    after = body_after("tools_missing", body, repair.lesson or "")
    assert [tool["name"] for tool in after["tools"]] == ["Read", "Bash"]
    assert after["messages"] == MESSAGES
    assert not faults(after)


def test_no_stubs_if_nothing_was_called_or_tools_are_defined() -> None:
    assert repair_body("tools_missing", {"messages": MESSAGES, "tools": TOOLS}, NO_TOOLS) is None
    assert repair_body("tools_missing", {"messages": [user(text("hi"))]}, NO_TOOLS) is None
    assert repair_body("tools_missing", {"messages": [user(result("a"))]}, NO_TOOLS) is None


# --- tool_schemas ---

INVALID = "tools.1.custom.input_schema: JSON schema is invalid. It must match draft 2020-12"
ROOT = (
    "tools.1.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top"
    " level"
)
UNKNOWN = (
    'Invalid JSON payload received. Unknown name "$schema" at \'tools[0].function_declarations[0]'
    ".parameters': Cannot find field. Invalid JSON payload received. Unknown name"
    " \"exclusiveMinimum\" at 'tools[0].function_declarations[3].parameters.properties[0].value':"
    " Cannot find field."
)
PATTERNED = {"properties": {"a": {"type": "object", "patternProperties": {"^(.*)$": {}}}}}
SERVER = {"type": "web_search_20250305", "name": "web_search"}


def schemas_of(body: Any) -> list[Any]:
    return [one.get("input_schema") for one in body["tools"]]


def test_the_named_tool_becomes_plain_and_the_others_valid() -> None:
    tools = [
        tool("A", properties={"x": {"type": "any", "format": "uri"}}),
        tool("B", **PATTERNED),
        tool("C", **PATTERNED),
        SERVER,
    ]
    repair = repair_body("tool_schemas", {"tools": tools}, INVALID)
    assert repair is not None
    assert repair.changed == "2 tool schemas rewritten"
    assert repair.lesson == "input_schema: JSON schema is invalid for tool B"
    expected = [
        tool("A", properties={"x": {"format": "uri"}}),
        tool("B", properties={"a": {"type": "object"}}),
        tool("C", **PATTERNED),
        SERVER,
    ]
    assert body_after("tool_schemas", {"tools": tools}, INVALID)["tools"] == expected
    # Later the tools may be others, in another order.
    later = {"tools": [tools[1], tools[2]]}
    assert body_after("tool_schemas", later, repair.lesson)["tools"] == [expected[1], expected[2]]
    assert repair_body("tool_schemas", {"tools": [tools[2]]}, repair.lesson) is None


def test_openai_names_the_tool_itself() -> None:
    tools = [tool("mcp__a-b", **PATTERNED), tool("C", **PATTERNED)]
    words = "Invalid schema for function 'mcp__a-b': In context=(), nothing but trouble"
    body = body_after("tool_schemas", {"tools": tools}, words)
    assert body["tools"] == [tool("mcp__a-b", properties={"a": {"type": "object"}}), tools[1]]


def test_combinators_at_the_root_are_removed_from_all_tools() -> None:
    union: dict[str, Any] = {"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}
    tools = [tool("A", **union), tool("B", **union), tool("C")]
    repair = repair_body("tool_schemas", {"tools": tools}, ROOT)
    assert repair is not None
    body = body_after("tool_schemas", {"tools": tools}, repair.lesson or "")
    flat = {"type": "object", "properties": {"a": {}, "b": {}}}
    assert schemas_of(body) == [flat, flat, {"type": "object"}]


def test_refused_keywords_are_removed_everywhere_and_learned() -> None:
    tools = [
        tool("A", **{"$schema": "x"}, properties={"$schema": {"exclusiveMinimum": 3}}),
        tool("B", properties={"a": {"type": "array"}}),
    ]
    repair = repair_body("tool_schemas", {"tools": tools}, UNKNOWN)
    assert repair is not None
    assert repair.lesson == (
        "tool schemas: keyword '$schema' is not supported,"
        " keyword 'exclusiveMinimum' is not supported"
    )
    body = body_after("tool_schemas", {"tools": tools}, repair.lesson)
    assert body["tools"] == [tool("A", properties={"$schema": {}}), tools[1]]


@pytest.mark.parametrize(
    "words",
    [
        # A property's name is not a keyword, and what every schema needs stays.
        "Unknown name \"secret\" at 'tools[0].function_declarations[0].parameters'",
        "Unknown name \"type\" at 'tools[0].function_declarations[0].parameters'",
        "Unknown name \"$schema\" at 'contents[0]': Cannot find field",
        INVALID,
        ROOT,
        UNKNOWN,
    ],
)
@pytest.mark.parametrize(
    "tools", [[tool("A"), tool("B", properties={"a": {"type": "string"}})], [SERVER], [5], 5, None]
)
def test_accepted_schemas_stay(tools: Any, words: str) -> None:
    assert repair_body("tool_schemas", {"tools": tools}, words) is None


def test_a_value_that_is_not_a_schema_is_replaced_by_one() -> None:
    body = {"tools": [tool("A"), {"name": "B", "input_schema": "x"}]}
    assert schemas_of(body_after("tool_schemas", body, INVALID))[1] == {
        "type": "object",
        "properties": {},
    }
