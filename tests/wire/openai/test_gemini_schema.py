"""Gemini's subset of JSON schema."""

from typing import Any

import pytest

from ccfallback.wire.openai.gemini_schema import for_gemini

TEXT = {"type": "string"}


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
            {"allOf": [{"properties": {"a": TEXT}}, {"properties": {"b": TEXT}}], "type": "object"},
            {"type": "object", "properties": {"b": TEXT, "a": TEXT}},
        ),
    ],
)
def test_a_schema_is_said_in_the_subset(schema: Any, expected: Any) -> None:
    assert for_gemini(schema) == expected


def test_references_are_put_in_place() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A", "description": "mine"}},
        "$defs": {"A": {"type": "string", "description": "theirs"}},
    }
    assert for_gemini(schema) == {
        "type": "object",
        "properties": {"a": {"type": "string", "description": "mine"}},
    }


def test_a_reference_in_a_circle_ends_as_any_object() -> None:
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
