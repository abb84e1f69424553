"""JSON schemas, made valid, flat or plain."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.rectify import schemas
from ccfallback.rectify.schemas import KEYWORDS

OBJECT = {"type": "object"}
A = {"a": {"type": "string"}}
B = {"b": {"type": "integer"}}


def valid(properties: dict[str, Any]) -> Any:
    return schemas.valid({**OBJECT, "properties": {"x": properties}})["properties"].get("x")


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "any"}, {}),
        ({"type": "int"}, {"type": "integer"}),
        ({"type": ["string", "None", "string", 5]}, {"type": ["string", "null"]}),
        ({"type": [], "description": None}, {}),
        ({"required": True}, {}),
        ({"required": ["a", "a", 3]}, {"required": ["a"]}),
        ({"enum": "a"}, {}),
        ({"enum": ["a", None]}, {"enum": ["a", None]}),
        ({"const": None, "default": None}, {"const": None, "default": None}),
        (
            {"items": [{"type": "str"}], "additionalItems": {"type": "null"}},
            {"items": {"type": "null"}, "prefixItems": [{"type": "string"}]},
        ),
        ({"items": [5]}, {}),
        ({"minimum": 3, "exclusiveMinimum": True}, {"exclusiveMinimum": 3}),
        ({"minimum": 3, "exclusiveMinimum": False}, {"minimum": 3}),
        ({"minimum": "3", "maxLength": -1, "minItems": 2.5, "maxItems": 2.0}, {"maxItems": 2.0}),
        ({"anyOf": [], "oneOf": [{"type": "list"}, 5]}, {"oneOf": [{"type": "array"}]}),
        (
            {"properties": {"required": {"type": "bool"}, "b": 5}},
            {"properties": {"required": {"type": "boolean"}}},
        ),
        ({"additionalProperties": False}, {"additionalProperties": False}),
        ({"additionalProperties": "no", "not": 5, "uniqueItems": 1, "pattern": 5}, {}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {}}, {}),
        ({"unknown": 5}, {"unknown": 5}),
        (5, None),
    ],
)
def test_what_is_invalid_is_put_right_or_left_out(part: Any, expected: Any) -> None:
    assert valid(part) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, {"type": "object"}),
        ({"type": "string"}, {"type": "object"}),
        (None, {"type": "object", "properties": {}}),
    ],
)
def test_the_root_is_an_object(schema: Any, expected: Any) -> None:
    assert schemas.valid(schema) == expected


def test_a_valid_schema_stays() -> None:
    schema = {
        **OBJECT,
        "properties": {
            "a": {"anyOf": [{"type": "string", "format": "uri"}, {"$ref": "#/$defs/d"}]}
        },
        "required": ["a"],
        "$defs": {"d": {"type": "array", "items": {"const": 1}, "minItems": 1}},
        "additionalProperties": False,
    }
    assert schemas.valid(schema) is schema
    assert schemas.flat(schema) is schema
    assert schemas.with_items(schema) is schema
    assert schemas.without(schema, {"oneOf"}) is schema


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            {
                "oneOf": [
                    {"properties": A, "required": ["a"]},
                    {"properties": B, "required": ["a", "b"]},
                ]
            },
            {**OBJECT, "properties": {**A, **B}, "required": ["a"]},
        ),
        (
            {
                **OBJECT,
                "properties": A,
                "allOf": [{"required": ["a"]}, {"properties": B, "required": ["b"]}],
            },
            {**OBJECT, "properties": {**A, **B}, "required": ["a", "b"]},
        ),
        (
            {"anyOf": [{"$ref": "#/$defs/d"}, 5], "$defs": {"d": {"properties": A}}, "title": "t"},
            {"$defs": {"d": {"properties": A}}, "title": "t", **OBJECT, "properties": A},
        ),
        ({"anyOf": 5}, {**OBJECT, "properties": {}}),
        ({"anyOf": [{"$ref": "nowhere"}]}, {**OBJECT, "properties": {}}),
    ],
)
def test_a_flat_schema_has_the_properties_of_all_forms(schema: Any, expected: Any) -> None:
    assert schemas.flat(schema) == expected


def test_a_plain_schema_has_types_and_properties() -> None:
    schema = {
        **OBJECT,
        "title": "t",
        "properties": {
            "a": {
                "anyOf": [{"type": "null"}, {"type": "string", "format": "uri"}],
                "description": "d",
            },
            "title": {"type": "array", "items": {"type": "int", "minimum": 3}},
        },
        "required": ["a"],
        "additionalProperties": False,
    }
    assert schemas.plain(schema) == {
        **OBJECT,
        "properties": {
            "a": {"type": "string", "description": "d"},
            "title": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["a"],
    }


@pytest.mark.parametrize(
    ("schema", "keywords", "expected"),
    [
        ({"const": 1}, {"const"}, {"enum": [1]}),
        ({"oneOf": [A]}, {"oneOf"}, {"anyOf": [A]}),
        ({"oneOf": [{"type": "null"}, {"type": "string"}]}, {"oneOf", "anyOf"}, {"type": "string"}),
        ({"properties": {"format": {"format": "uri"}}}, {"format"}, {"properties": {"format": {}}}),
        (
            {"items": {"$schema": "x", "items": {"$schema": "x"}}},
            {"$schema"},
            {"items": {"items": {}}},
        ),
    ],
)
def test_a_keyword_goes_wherever_it_is_one(schema: Any, keywords: set[str], expected: Any) -> None:
    assert schemas.without(schema, keywords) == expected


def test_every_array_says_of_what() -> None:
    schema = {"properties": {"a": {"type": "array"}, "b": {"type": "array", "items": {}}}}
    a, b = schemas.with_items(schema)["properties"].values()
    assert a == {"type": "array", "items": {"type": "string"}}
    assert b == {"type": "array", "items": {}}


WORDS = st.sampled_from([*sorted(KEYWORDS), "const", "default", "a"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | st.sampled_from(["object", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_no_schema_is_too_strange(schema: Any) -> None:
    before = deepcopy(schema)
    plain = schemas.plain(schema)
    assert plain["type"] == "object"
    assert repr(schemas.plain(plain)) == repr(plain)
    sound = schemas.valid(schema)
    assert repr(schemas.valid(sound)) == repr(sound)
    flat = schemas.flat(schema)
    assert repr(schemas.flat(flat)) == repr(flat)
    for keywords in ({"oneOf"}, {"anyOf", "allOf", "oneOf"}, {"const", "items"}):
        less = schemas.without(schema, keywords)
        assert repr(schemas.without(less, keywords)) == repr(less)
    assert repr(schema) == repr(before)
