"""JSON schemas of tool input: where a schema may contain schemas.

What is under `properties` are names, not keywords: a property may well be called `required`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

Schema = dict[str, Any]

SINGLE: Final = frozenset(
    {
        *("additionalProperties", "additionalItems", "items", "contains", "not", "if", "then"),
        *("else", "propertyNames", "unevaluatedItems", "unevaluatedProperties"),
    }
)
"""Keywords whose value is a schema. `items` had a list of schemas before draft 2020-12."""

LISTED: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
"""Keywords whose value is a list of schemas."""

NAMED: Final = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)
"""Keywords whose value maps names to schemas."""

COMBINATORS: Final = ("allOf", "anyOf", "oneOf")

MAX_DEPTH: Final = 50
"""Schemas nested deeper than this are left alone: nobody writes them by hand."""


def subschemas(schema: Mapping[str, Any]) -> list[Any]:
    """The schemas directly below a schema; a boolean is a schema, too."""
    found: list[Any] = []
    for key, value in schema.items():
        if key in NAMED and isinstance(value, dict):
            found += value.values()
        elif isinstance(value, list):
            found += value if key in LISTED or key == "items" else ()
        elif key in SINGLE:
            found.append(value)
    return found


def map_subschemas(schema: Mapping[str, Any], change: Callable[[Any], Any]) -> Schema:
    """A copy of a schema in which every schema directly below it went through `change`.

    `change` also gets the booleans and the odd values that stand in the place of a schema.
    """
    made: Schema = {}
    for key, value in schema.items():
        if key in NAMED and isinstance(value, dict):
            made[key] = {name: change(each) for name, each in value.items()}
        elif isinstance(value, list):
            is_listed = key in LISTED or key == "items"
            made[key] = [change(each) for each in value] if is_listed else value
        else:
            made[key] = change(value) if key in SINGLE else value
    return made


def rewrite(schema: Any, change: Callable[[Schema], Schema], depth: int = 0) -> Any:
    """A schema in which every part went through `change`, the innermost first.

    The very same object if nothing changed.
    """
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return schema
    new = change(map_subschemas(schema, lambda each: rewrite(each, change, depth + 1)))
    return schema if new == schema else new


def resolve_reference(reference: object, root: Schema) -> Schema | None:
    """The schema that a local `$ref` points to; `None` if there is none in `root`."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    found: Any = root
    for step in reference[2:].split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None
