"""Schemas of tools that a provider does not take."""

from typing import Any

import pytest

from ccfallback.rectify.tool_schemas import TOOL_SCHEMAS
from tests.rectify.structure import made, repaired, tool

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
    repair = repaired(TOOL_SCHEMAS, {"tools": tools}, INVALID)
    assert repair is not None
    assert repair.changed == "2 tool schemas rewritten"
    assert repair.lesson == "input_schema: JSON schema is invalid for tool B"
    expected = [
        tool("A", properties={"x": {"format": "uri"}}),
        tool("B", properties={"a": {"type": "object"}}),
        tool("C", **PATTERNED),
        SERVER,
    ]
    assert made(TOOL_SCHEMAS, {"tools": tools}, INVALID)["tools"] == expected
    # Later the tools may be others, in another order.
    later = {"tools": [tools[1], tools[2]]}
    assert made(TOOL_SCHEMAS, later, repair.lesson)["tools"] == [expected[1], expected[2]]
    assert repaired(TOOL_SCHEMAS, {"tools": [tools[2]]}, repair.lesson) is None


def test_openai_names_the_tool_itself() -> None:
    tools = [tool("mcp__a-b", **PATTERNED), tool("C", **PATTERNED)]
    words = "Invalid schema for function 'mcp__a-b': In context=(), nothing but trouble"
    body = made(TOOL_SCHEMAS, {"tools": tools}, words)
    assert body["tools"] == [tool("mcp__a-b", properties={"a": {"type": "object"}}), tools[1]]


def test_combinators_at_the_root_go_everywhere() -> None:
    union: dict[str, Any] = {"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}
    tools = [tool("A", **union), tool("B", **union), tool("C")]
    repair = repaired(TOOL_SCHEMAS, {"tools": tools}, ROOT)
    assert repair is not None
    body = made(TOOL_SCHEMAS, {"tools": tools}, repair.lesson or "")
    flat = {"type": "object", "properties": {"a": {}, "b": {}}}
    assert schemas_of(body) == [flat, flat, {"type": "object"}]


def test_refused_keywords_go_everywhere_and_are_learned() -> None:
    tools = [
        tool("A", **{"$schema": "x"}, properties={"$schema": {"exclusiveMinimum": 3}}),
        tool("B", properties={"a": {"type": "array"}}),
    ]
    repair = repaired(TOOL_SCHEMAS, {"tools": tools}, UNKNOWN)
    assert repair is not None
    assert repair.lesson == (
        "tool schemas: keyword '$schema' is not supported,"
        " keyword 'exclusiveMinimum' is not supported"
    )
    body = made(TOOL_SCHEMAS, {"tools": tools}, repair.lesson)
    assert body["tools"] == [tool("A", properties={"$schema": {}}), tools[1]]


@pytest.mark.parametrize(
    "words",
    [
        # A property's name is no keyword, and what every schema needs is not taken away.
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
def test_where_nothing_is_wrong_nothing_is_to_do(tools: Any, words: str) -> None:
    assert repaired(TOOL_SCHEMAS, {"tools": tools}, words) is None


def test_a_schema_that_is_none_becomes_one() -> None:
    body = {"tools": [tool("A"), {"name": "B", "input_schema": "x"}]}
    assert schemas_of(made(TOOL_SCHEMAS, body, INVALID))[1] == {"type": "object", "properties": {}}
