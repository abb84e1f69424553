"""Schemas of arguments: always an object, and in the words that a provider knows."""

from typing import Any

import pytest

from ccfallback.wire.openai.schemas import is_strict, parameters_of

EMPTY = {"type": "object", "properties": {}}
TEXT = {"type": "string"}


@pytest.mark.parametrize("dialect", ["openai", "gemini", "kimi", "unheard of"])
@pytest.mark.parametrize("schema", [{}, None, [], "x", {"type": "object"}, {"properties": 3}])
def test_parameters_are_an_object_with_properties(schema: Any, dialect: str) -> None:
    assert parameters_of(schema, dialect) == EMPTY


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
def test_a_schema_is_completed_and_freed_of_what_nobody_reads(schema: Any, expected: Any) -> None:
    assert parameters_of(schema, "openai") == expected


def test_a_property_may_be_called_like_a_keyword() -> None:
    schema = {
        "type": "object",
        "properties": {"$schema": {"$id": "x", "type": "string"}, "type": TEXT},
        "required": ["$schema"],
        "default": {"$comment": "data"},
    }
    assert parameters_of(schema, "openai") == {
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
    assert parameters_of(schema, "kimi")["properties"]["a"] == expected


def test_moonshot_finds_definitions_under_their_newer_name() -> None:
    schema = {**EMPTY, "definitions": {"D": {"$comment": "x", "type": "string"}}}
    assert parameters_of(schema, "kimi") == {**EMPTY, "$defs": {"D": TEXT}}


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
    ],
)
def test_strict_is_all_required_and_nothing_else(schema: Any, strict: bool) -> None:
    assert is_strict(schema) == strict
