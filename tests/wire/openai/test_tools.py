"""Tools as functions: which ones are sent, their schemas, and the ids of their calls."""

import re
from typing import Any

import pytest

from ccfallback.config.quirks import Quirks
from ccfallback.wire.format import Unconvertible
from ccfallback.wire.openai.request import omitted_parts
from ccfallback.wire.openai.tools import for_gemini, is_strict, parameters, provider_tool_id
from tests.proportion import grows_in_proportion

from .asked import asked, assistant, body, call, result, system, tool, user

SEARCH = {"type": "web_search_20250305", "name": "web_search"}
BASH = {"type": "bash_20250124", "name": "bash"}
PLACEHOLDER = tool("DeferredToolPlaceholder", defer_loading=True)
SLEEPING = tool("X", defer_loading=True)


def sent(*tools: Any, **members: Any) -> list[str]:
    made = asked(tools=list(tools), **members)
    return [one["function"]["name"] for one in made.get("tools", ())]


def reference(name: str) -> Any:
    return {"type": "tool_reference", "tool_name": name}


def change(kind: str, **members: Any) -> Any:
    return {"type": kind, "tool": members}


def test_only_the_clients_own_tools_are_sent() -> None:
    assert sent(tool("Read"), SEARCH, PLACEHOLDER) == ["Read"]


@pytest.mark.parametrize(
    ("members", "comes"),
    [
        ({"type": None}, True),
        ({"type": "custom"}, True),
        ({"type": "something_new"}, True),
        ({"type": "something_new", "input_schema": None}, False),
        ({"type": "bash_20250124", "input_schema": None}, True),
        ({"type": "text_editor_20250728", "input_schema": None}, True),
        ({"type": "memory_20250818", "input_schema": None}, True),
        ({"type": "computer_20250124", "input_schema": None}, True),
        ({"type": "web_fetch_20260309"}, False),
        ({"type": "advisor_20260301"}, False),
    ],
)
def test_the_type_of_a_tool_decides_whether_it_is_sent(
    members: dict[str, Any], comes: bool
) -> None:
    assert sent(tool("Read"), tool("X", **members)) == (["Read", "X"] if comes else ["Read"])


def test_of_two_tools_with_one_name_the_first_counts() -> None:
    made = asked(tools=[tool("A", description="1"), tool("A", description="2"), tool("B")])
    assert [one["function"].get("description") for one in made["tools"]] == ["1", None]


def test_a_deferred_tool_is_sent_after_a_reference() -> None:
    messages = [
        assistant(call("t", "ToolSearch")),
        user(result("t", [reference("X")])),
    ]
    made = asked(tools=[tool("ToolSearch"), SLEEPING, PLACEHOLDER], messages=messages)
    assert [one["function"]["name"] for one in made["tools"]] == ["ToolSearch", "X"]
    assert made["messages"][1]["content"] == "Tool X is available."


@pytest.mark.parametrize(
    "members",
    [
        {"messages": [assistant(call("t", "X")), user(result("t"))]},
        {"messages": [user("q"), system(change("tool_addition", type="tool_reference", name="X"))]},
        {"tool_choice": {"type": "tool", "name": "X"}},
    ],
)
def test_a_deferred_tool_is_sent_after_its_use(members: dict[str, Any]) -> None:
    assert sent(SLEEPING, **members) == ["X"]


def test_a_conversation_adds_and_removes_tools() -> None:
    new = change("tool_addition", type="tool_definition", definition=tool("New"))
    gone = change("tool_removal", type="tool_reference", name="Old")
    back = change("tool_addition", type="tool_reference", name="Old")
    history = [user("q"), system(gone, new)]
    assert sent(tool("Old"), tool("Kept"), messages=history) == ["Kept", "New"]
    assert sent(tool("Old"), messages=[*history, user("p"), system(back)]) == ["New", "Old"]


def test_anthropics_options_of_a_tool_are_not_sent() -> None:
    members = {
        "eager_input_streaming": True,
        "allowed_callers": ["direct"],
        "cache_control": {"type": "ephemeral"},
        "input_examples": [{}],
    }
    assert asked(tools=[tool("A", **members)])["tools"] == [
        {
            "type": "function",
            "function": {"name": "A", "parameters": {"type": "object", "properties": {}}},
        }
    ]


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {}, "additionalProperties": False}, True),
        ({"type": "object", "properties": {}}, False),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "additionalProperties": False,
            },
            False,
        ),
    ],
)
def test_strict_is_sent_only_with_a_strict_schema(schema: Any, strict: bool) -> None:
    made = asked(tools=[tool("A", strict=True, input_schema=schema)])
    assert made["tools"][0]["function"].get("strict", False) == strict


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "N"},
            {"tool_choice": {"type": "function", "function": {"name": "N"}}},
        ),
        ({"type": "tool", "name": "gone"}, {"tool_choice": "auto"}),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
        ({"type": "later"}, {}),
        ("auto", {}),
        (None, {}),
    ],
)
def test_the_choice_of_a_tool(choice: Any, expected: dict[str, Any]) -> None:
    made = asked(tools=[tool("N")], tool_choice=choice)
    assert {key: made[key] for key in ("tool_choice", "parallel_tool_calls") if key in made} == (
        expected
    )
    without = asked(tool_choice=choice)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & without.keys()


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "N"}])
def test_a_provider_that_knows_no_forced_choice_gets_auto(choice: Any) -> None:
    made = asked(
        Quirks(tool_choice_required=False, parallel_tool_calls=False),
        tools=[tool("N")],
        tool_choice={**choice, "disable_parallel_tool_use": True},
    )
    assert made["tool_choice"] == "auto"
    assert "parallel_tool_calls" not in made


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ([SEARCH], {"type": "any"}),
        ([SEARCH], {"type": "tool", "name": "web_search"}),
        ([tool("Read"), SEARCH], {"type": "tool", "name": "web_search"}),
        # Claude Code's web search: there is nothing else that could be called.
        ([SEARCH], {"type": "auto"}),
        ([SEARCH], None),
        # A tool whose schema only its provider knows.
        (
            [tool("Read"), {"type": "abacus_20270101", "name": "abacus"}],
            {"type": "tool", "name": "abacus"},
        ),
    ],
)
def test_a_forced_server_tool_is_unconvertible(tools: Any, choice: Any) -> None:
    with pytest.raises(Unconvertible):
        asked(tools=tools, tool_choice=choice)


@pytest.mark.parametrize(
    ("kind", "name", "required"),
    [
        ("bash_20250124", "bash", []),
        ("text_editor_20250728", "str_replace_based_edit_tool", ["command", "path"]),
        ("memory_20250818", "memory", ["command"]),
        ("computer_20250124", "computer", ["action"]),
    ],
)
def test_a_tool_that_anthropic_defines_is_sent_with_its_schema(
    kind: str, name: str, required: list[str]
) -> None:
    made = asked(tools=[{"type": kind, "name": name}], tool_choice={"type": "tool", "name": name})
    function = made["tools"][0]["function"]
    assert function["name"] == made["tool_choice"]["function"]["name"] == name
    assert function["description"]
    assert function["parameters"]["required"] == required
    assert set(required) <= function["parameters"]["properties"].keys()


def test_the_screen_of_a_computer_tool_is_described() -> None:
    computer = {"type": "computer_20250124", "name": "computer"}
    size = {"display_width_px": 1280, "display_height_px": 800}
    (made,) = asked(tools=[{**computer, **size}])["tools"]
    assert "1280 by 800" in made["function"]["description"]


def test_what_another_provider_does_not_get_is_named() -> None:
    examples = {"input_examples": [{"secret": "content"}], "allowed_callers": ["direct"]}
    request = body(
        tools=[tool("Read", **examples), SEARCH, BASH],
        mcp_servers=[{"type": "url", "url": "https://mcp.example"}],
        inference_geo="us",
        **{"a name\nwith content": 1},
    )
    assert omitted_parts(request) == (
        "mcp_servers",
        "inference_geo",
        "tools.web_search_20250305",
        "tools.*.input_examples",
        "tools.*.allowed_callers",
    )
    assert omitted_parts(body(tools=[tool("Read")], system="x", stream=True)) == ()


def test_a_server_tool_that_is_not_forced_is_dropped() -> None:
    assert sent(tool("Read"), SEARCH, tool_choice={"type": "auto"}) == ["Read"]
    assert sent(SEARCH, tool_choice={"type": "none"}) == []


def test_tools_that_anthropics_own_search_would_find_are_all_sent() -> None:
    search = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}
    assert sent(tool("A", defer_loading=True), tool("B")) == ["B"]
    assert sent(search, tool("A", defer_loading=True), tool("B")) == ["A", "B"]


EMPTY = {"type": "object", "properties": {}}
TEXT = {"type": "string"}


@pytest.mark.parametrize("dialect", ["openai", "gemini", "kimi", "unheard of"])
@pytest.mark.parametrize("schema", [{}, None, [], "x", {"type": "object"}, {"properties": 3}])
def test_parameters_are_an_object_with_properties(schema: Any, dialect: str) -> None:
    assert parameters(schema, dialect) == EMPTY


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"properties": {"a": TEXT}}, {"type": "object", "properties": {"a": TEXT}}),
        ({"type": ["object", "null"], "properties": {}}, EMPTY),
        ({"$schema": "x", "$id": "y", "$comment": "z", **EMPTY}, EMPTY),
        (
            {**EMPTY, "additionalProperties": {"$comment": "z", "type": "string"}},
            {**EMPTY, "additionalProperties": TEXT},
        ),
    ],
)
def test_a_schema_is_completed_and_cleaned(schema: Any, expected: Any) -> None:
    assert parameters(schema, "openai") == expected


def test_a_property_may_be_called_like_a_keyword() -> None:
    schema = {
        "type": "object",
        "properties": {"$schema": {"$id": "x", "type": "string"}, "type": TEXT},
        "required": ["$schema"],
        "default": {"$comment": "data"},
    }
    assert parameters(schema, "openai") == {
        "type": "object",
        "properties": {"$schema": TEXT, "type": TEXT},
        "required": ["$schema"],
        "default": {"$comment": "data"},
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"type": "string", "anyOf": [{"minLength": 1}, {"const": ""}]},
            {"anyOf": [{"type": "string", "minLength": 1}, {"type": "string", "const": ""}]},
        ),
        ({"description": "any"}, {"type": "string", "description": "any"}),
        ({"enum": [1, 2]}, {"type": "integer", "enum": [1, 2]}),
        ({"properties": {"b": {}}}, {"type": "object", "properties": {"b": TEXT}}),
        ({"items": TEXT}, {"type": "array", "items": TEXT}),
        (True, TEXT),
        ({"$ref": "#/definitions/D", "description": "x"}, {"$ref": "#/$defs/D"}),
        ({"$ref": "https://x.y/z"}, {"type": "object"}),
    ],
)
def test_moonshot_gets_a_type_for_everything_and_plain_references(
    given: Any, expected: Any
) -> None:
    schema = {"type": "object", "properties": {"a": given}}
    assert parameters(schema, "kimi")["properties"]["a"] == expected


def test_moonshot_finds_definitions_under_their_newer_name() -> None:
    schema = {**EMPTY, "definitions": {"D": {"$comment": "x", "type": "string"}}}
    assert parameters(schema, "kimi") == {**EMPTY, "$defs": {"D": TEXT}}


CLOSED = {"additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({**EMPTY, **CLOSED}, True),
        (EMPTY, False),
        ({**CLOSED, "properties": {"a": TEXT}, "required": ["a"]}, True),
        ({**CLOSED, "properties": {"a": EMPTY}, "required": ["a"]}, False),
        ({**CLOSED, "properties": {"a": {"items": EMPTY}}, "required": ["a"]}, False),
        ({"anyOf": [TEXT, EMPTY]}, False),
        ({**CLOSED, "properties": {"a": TEXT}, "required": 3}, False),
        ({**CLOSED, "properties": {"a": {"oneOf": [TEXT]}}, "required": ["a"]}, False),
        ({**CLOSED, "properties": {"a": {"allOf": [TEXT]}}, "required": ["a"]}, False),
        ({**CLOSED, "properties": {"a": {"not": TEXT}}, "required": ["a"]}, False),
        ({**CLOSED, "properties": {"a": {"$ref": "#/$defs/D"}}, "required": ["a"]}, True),
        (
            {
                **CLOSED,
                "properties": {"a": {"$ref": "#/$defs/D", "description": "x"}},
                "required": ["a"],
            },
            False,
        ),
    ],
)
def test_schemas_that_fit_strict(schema: Any, strict: bool) -> None:
    assert is_strict(schema) == strict


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "$schema": "x", "default": "", "examples": []}, TEXT),
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
        ({"type": ["string", "integer"]}, {"anyOf": [TEXT, {"type": "integer"}]}),
        ({"anyOf": [TEXT, {"type": "null"}]}, {"type": "string", "nullable": True}),
        (
            {"oneOf": [TEXT, {"type": "number"}]},
            {"anyOf": [TEXT, {"type": "number"}]},
        ),
        ({"const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"type": "integer", "enum": [1, 2]}, {"type": "integer"}),
        ({"type": "string", "format": "uri"}, TEXT),
        ({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}),
        ({"type": "array"}, {"type": "array", "items": TEXT}),
        (
            {"type": "integer", "exclusiveMinimum": 0, "minimum": 1},
            {"type": "integer", "minimum": 1},
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"description": "x", "type": "string"}},
                "required": ["a", "gone"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"a": {"type": "string", "description": "x"}},
                "required": ["a"],
            },
        ),
        (
            {
                "allOf": [
                    {"properties": {"a": TEXT}},
                    {"properties": {"b": TEXT}},
                ],
                "type": "object",
            },
            {"type": "object", "properties": {"b": TEXT, "a": TEXT}},
        ),
    ],
)
def test_a_schema_in_geminis_subset(schema: Any, expected: Any) -> None:
    assert for_gemini(schema) == expected


def test_references_are_replaced_by_their_targets() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A", "description": "mine"}},
        "$defs": {"A": {"type": "string", "description": "theirs"}},
    }
    assert for_gemini(schema) == {
        "type": "object",
        "properties": {"a": {"type": "string", "description": "mine"}},
    }


def test_a_circular_reference_ends_as_any_object() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#/$defs/T"}}}
    made = for_gemini({"$ref": "#/$defs/T", "$defs": {"T": tree}})
    assert made == {"type": "object", "properties": {"child": {"type": "object"}}}
    assert for_gemini({"allOf": [{"$ref": "#"}, {"$ref": "#/allOf/0"}]}) == {}


def test_a_schema_that_doubles_with_each_reference_stays_small() -> None:
    defs = {
        f"D{index}": {
            "type": "object",
            "properties": {
                "l": {"$ref": f"#/$defs/D{index + 1}"},
                "r": {"$ref": f"#/$defs/D{index + 1}"},
            },
        }
        for index in range(40)
    }
    assert len(str(for_gemini({"$ref": "#/$defs/D0", "$defs": defs}))) < 100_000


@pytest.mark.parametrize("count", [10, 100, 300])
def test_a_long_schema_that_many_references_point_to_stays_small(count: int) -> None:
    references = {f"p{n}": {"$ref": "#/$defs/T"} for n in range(count)}
    target = {"type": "string", "description": "d" * 100 * count}
    schema = {"type": "object", "properties": references, "$defs": {"T": target}}
    assert len(str(for_gemini(schema))) <= 10 * len(str(schema))


def test_a_small_schema_keeps_a_definition_that_it_uses_often() -> None:
    references = {f"p{n}": {"$ref": "#/$defs/T"} for n in range(40)}
    operators = {f"o{n}": {"type": "string", "description": "d" * 60} for n in range(14)}
    target = {"type": "object", "properties": operators}
    schema = {"type": "object", "properties": references, "$defs": {"T": target}}
    assert for_gemini(schema)["properties"] == dict.fromkeys(references, target)


def parts(count: int) -> list[dict[str, Any]]:
    return [
        {"properties": {f"p{n}": {"type": "string"}}, "required": [f"p{n}"]} for n in range(count)
    ]


def test_all_parts_of_an_object_are_merged_in_proportion_to_them() -> None:
    assert len(for_gemini({"allOf": parts(9)})["properties"]) == 9
    grows_in_proportion(lambda count: for_gemini({"allOf": parts(count)}), 200)


def test_parts_that_are_merged_stay_as_they_were() -> None:
    schema = {"allOf": parts(3)}
    for_gemini(schema)
    assert schema == {"allOf": parts(3)}


@pytest.mark.parametrize(
    ("tool_id", "style", "form"),
    [
        ("toolu_01", "short", r"toolu_01"),
        ("toolu_01", "keep", r"toolu_01"),
        ("x" * 41, "keep", r"x{41}"),
        ("x" * 41, "short", r"call_[A-Za-z0-9]{24}"),
        ("toolu_01", "mistral", r"[A-Za-z0-9]{9}"),
        ("AbCdEf123", "mistral", r"AbCdEf123"),
    ],
)
def test_an_id_fits_the_provider(tool_id: str, style: str, form: str) -> None:
    sent = provider_tool_id(tool_id, style)
    assert re.fullmatch(form, sent)
    assert provider_tool_id(tool_id, style) == sent
