"""Where a JSON schema contains schemas."""

from typing import Any

import pytest

from ccfallback.messages.json_schema import (
    LISTED,
    NAMED,
    SINGLE,
    map_subschemas,
    resolve_reference,
    rewrite,
    subschemas,
)

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
def test_every_place_of_a_schema_is_known(schema: dict[str, Any]) -> None:
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
