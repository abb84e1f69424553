"""JSON schemas: where they contain schemas, and how they are made valid, flat or plain."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ccfallback.messages import json_schema
from ccfallback.messages.json_schema import (
    KEYWORDS,
    LISTED,
    NAMED,
    SINGLE,
    map_subschemas,
    resolve_reference,
    rewrite,
    subschemas,
)
from tests.proportion import grows_in_proportion

INNER: dict[str, Any] = {"type": "string"}
PLACES = [
    *(pytest.param({key: INNER}, id=key) for key in sorted(SINGLE)),
    *(pytest.param({key: [INNER]}, id=key) for key in sorted(LISTED)),
    *(pytest.param({key: {"type": INNER}}, id=key) for key in sorted(NAMED)),
    pytest.param({"items": [INNER]}, id="a list of items"),
]


def with_title(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "title": "t"}


@pytest.mark.parametrize("schema", PLACES)
def test_every_place_of_a_schema_is_visited(schema: dict[str, Any]) -> None:
    assert subschemas(schema) == [INNER]
    assert repr(INNER | {"title": "t"}) in repr(rewrite(schema, with_title))
    assert subschemas(map_subschemas(schema, lambda _: True)) == [True]


@pytest.mark.parametrize("schema", [{"enum": [INNER]}, {"const": INNER}, {"default": {"a": INNER}}])
def test_other_values_are_not_schemas(schema: dict[str, Any]) -> None:
    assert subschemas(schema) == []
    assert map_subschemas(schema, with_title) == schema


def test_the_same_schema_is_returned_if_nothing_changed() -> None:
    schema = {"properties": {"a": {"items": [INNER, True]}}, "additionalProperties": False}
    assert rewrite(schema, dict) is schema


def test_a_reference_is_followed_within_the_schema() -> None:
    root = {"$defs": {"a": {"properties": {"b": INNER}}}}
    assert resolve_reference("#/$defs/a/properties/b", root) is INNER
    for reference in ("#/$defs/none", "#/$defs/a/properties/b/type", "http://a.test/#/$defs/a", 5):
        assert resolve_reference(reference, root) is None


OBJECT = {"type": "object"}
A = {"a": {"type": "string"}}
B = {"b": {"type": "integer"}}


def valid(properties: dict[str, Any]) -> Any:
    return json_schema.valid({**OBJECT, "properties": {"x": properties}})["properties"].get("x")


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
def test_invalid_members_are_corrected_or_removed(part: Any, expected: Any) -> None:
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
    assert json_schema.valid(schema) == expected


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
    assert json_schema.valid(schema) is schema
    assert json_schema.flat(schema) is schema
    assert json_schema.with_items(schema) is schema
    assert json_schema.without_keywords(schema, {"oneOf"}) is schema


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
    assert json_schema.flat(schema) == expected


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
    assert json_schema.plain(schema) == {
        **OBJECT,
        "properties": {
            "a": {"type": "string", "description": "d"},
            "title": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["a"],
    }


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({}, {"type": "string"}),
        (True, {"type": "string"}),
        ({"description": "any value"}, {"type": "string", "description": "any value"}),
        ({"type": ["string", "null"]}, {"type": "string"}),
        ({"type": ["null", "integer"], "minimum": 1}, {"type": "integer"}),
        ({"enum": [1, 2]}, {"type": "integer", "enum": [1, 2]}),
        ({"enum": ["a", 1]}, {"type": "string"}),
        ({"const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"properties": {"x": {}}}, {"type": "object", "properties": {"x": {"type": "string"}}}),
        ({"type": "array"}, {"type": "array", "items": {"type": "string"}}),
        ({"type": "array", "items": True}, {"type": "array", "items": {"type": "string"}}),
        ({"prefixItems": [{"type": "number"}, {}]}, {"type": "array", "items": {"type": "number"}}),
        (
            {"$ref": "#/$defs/d", "description": "e"},
            {"type": "object", "properties": {"b": {"type": "integer"}}, "description": "e"},
        ),
        (
            {
                "allOf": [
                    {"properties": {"a": {}}, "required": ["a"]},
                    {"properties": {"b": {}}, "required": ["c"]},
                ]
            },
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "required": ["a"],
            },
        ),
    ],
)
def test_every_part_of_a_plain_schema_has_one_type(part: Any, expected: Any) -> None:
    schema = {
        "properties": {"x": part},
        "$defs": {"d": {"type": "object", "properties": {"b": {"type": "integer"}}}},
    }
    assert json_schema.plain(schema)["properties"]["x"] == expected


def test_a_plain_schema_ends_where_a_schema_contains_itself() -> None:
    tree = {"properties": {"left": {"$ref": "#/$defs/t"}, "right": {"$ref": "#/$defs/t"}}}
    made = json_schema.plain({**tree, "$defs": {"t": tree}})
    assert len(repr(made)) < 2000
    assert "$ref" not in repr(made)


def reference(name: str = "n") -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def referring(count: int, target: dict[str, Any]) -> dict[str, Any]:
    """A schema with so many references to the same target."""
    return {
        **OBJECT,
        "properties": {f"p{n}": reference() for n in range(count)},
        "$defs": {"n": target},
    }


def recursive(count: int) -> dict[str, Any]:
    """A schema that contains itself in every one of so many properties."""
    return referring(1, {**OBJECT, "properties": {f"p{n}": reference() for n in range(count)}})


GROWING: dict[str, Callable[[int], dict[str, Any]]] = {
    "itself": recursive,
    "a long text": lambda n: referring(n, {"type": "string", "description": "d" * 20 * n}),
    "a long list": lambda n: referring(n, {"enum": [f"value {each}" for each in range(n)]}),
    "many properties": lambda n: referring(n, {"properties": {f"q{m}": INNER for m in range(n)}}),
    "a part of every object": lambda n: {
        "allOf": [reference()] * n,
        "$defs": {"n": {"properties": {f"q{m}": INNER for m in range(n)}}},
    },
    "small parts": lambda n: {
        "allOf": [{"properties": {f"q{m}": INNER}, "required": [f"q{m}"]} for m in range(n)]
    },
}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("shape", GROWING)
@pytest.mark.parametrize("count", [3, 10, 100, 1000])
def test_a_plain_schema_grows_with_the_schema(shape: str, count: int) -> None:
    schema = GROWING[shape](count)
    made = json_schema.plain(schema)
    size = len(msgspec.json.encode(schema))
    # The limit counts sizes roughly, so it gets one more time the size.
    growth = min(max(9 * size, 64 * 1024), 256 * 1024)
    assert len(msgspec.json.encode(made)) <= size + growth
    assert "$ref" not in repr(made)


def test_a_small_schema_keeps_a_definition_that_it_uses_often() -> None:
    operators = {f"operator {n}": {"type": "string", "description": "d" * 60} for n in range(14)}
    schema = referring(40, {**OBJECT, "properties": operators})
    inlined = {**OBJECT, "properties": operators}
    assert json_schema.plain(schema)["properties"] == {f"p{n}": inlined for n in range(40)}


class CountingList(list[Any]):
    """A list that counts how often it is read."""

    readings = 0

    def __iter__(self) -> Iterator[Any]:
        self.readings += 1
        return super().__iter__()


def test_targets_inside_each_other_are_measured_together() -> None:
    def readings(depth: int) -> int:
        innermost = CountingList(["a"])
        target: dict[str, Any] = {"x": innermost}
        for _ in range(depth):
            target = {"a": target}
        paths = ["/".join(["a"] * length) for length in range(1, depth + 1)]
        properties = {f"p{n}": reference(path) for n, path in enumerate(paths)}
        json_schema.plain({**OBJECT, "properties": properties, "$defs": target})
        return innermost.readings

    assert readings(40) == readings(4) > 0


@pytest.mark.parametrize("form", [json_schema.plain, json_schema.flat])
@pytest.mark.parametrize("shape", ["a part of every object", "small parts"])
def test_work_grows_in_proportion_to_a_schema(form: Any, shape: str) -> None:
    grows_in_proportion(lambda size: form(GROWING[shape](size)), 200)


def test_every_part_of_a_schema_that_is_too_large_is_as_plain_as_the_others() -> None:
    shape = {name: {"type": "array", "items": reference()} for name in ("a", "b", "c")}
    schema = referring(200, {**OBJECT, "properties": shape})
    parts = json_schema.plain(schema)["properties"].values()
    assert {repr(part) for part in parts} == {repr(next(iter(parts)))}


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
def test_a_keyword_is_removed_wherever_it_is_a_keyword(
    schema: Any, keywords: set[str], expected: Any
) -> None:
    assert json_schema.without_keywords(schema, keywords) == expected


def test_every_array_says_of_what() -> None:
    schema = {"properties": {"a": {"type": "array"}, "b": {"type": "array", "items": {}}}}
    a, b = json_schema.with_items(schema)["properties"].values()
    assert a == {"type": "array", "items": {"type": "string"}}
    assert b == {"type": "array", "items": {}}


WORDS = st.sampled_from([*sorted(KEYWORDS), "const", "default", "a"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | st.sampled_from(["object", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=15,
)


@example({"maxContains": float("inf")})
@given(JSON)
def test_no_schema_is_too_strange(schema: Any) -> None:
    before = deepcopy(schema)
    plain = json_schema.plain(schema)
    assert plain["type"] == "object"
    assert repr(json_schema.plain(plain)) == repr(plain)
    sound = json_schema.valid(schema)
    assert repr(json_schema.valid(sound)) == repr(sound)
    flat = json_schema.flat(schema)
    assert repr(json_schema.flat(flat)) == repr(flat)
    for keywords in ({"oneOf"}, {"anyOf", "allOf", "oneOf"}, {"const", "items"}):
        less = json_schema.without_keywords(schema, keywords)
        assert repr(json_schema.without_keywords(less, keywords)) == repr(less)
    assert repr(schema) == repr(before)
