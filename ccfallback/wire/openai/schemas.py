"""JSON schemas of tool arguments, as a provider understands them.

A schema is walked as a schema: what stands under `properties` are names, not keywords, and a
property may well be called `$schema` or `default`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from ccfallback.wire.openai.gemini_schema import for_gemini

Schema = dict[str, Any]

_ALWAYS_DROPPED: Final = frozenset({"$schema", "$id", "$comment"})

NAMED: Final = frozenset({"properties", "$defs", "definitions", "patternProperties"})
"""Keywords whose value has a schema under each name."""

LISTED: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
"""Keywords whose value is a list of schemas."""

SINGLE: Final = frozenset(
    {"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"}
)
"""Keywords whose value is a schema, or a yes or no."""

_TYPED: Final = frozenset({"type", "anyOf", "oneOf", "allOf", "$ref"})


def parameters_of(schema: object, dialect: str) -> Schema:
    """The schema of a function's parameters: always that of an object with properties."""
    given = schema if isinstance(schema, dict) else {}
    made = _DIALECTS.get(dialect, _plain)(given)
    if made.get("type") != "object":
        made = {"type": "object", **{key: made[key] for key in made if key != "type"}}
    if not isinstance(made.get("properties"), dict):
        made["properties"] = {}
    return made


def is_strict(schema: object) -> bool:
    """Whether a schema is what `strict` demands: all properties required, and no others."""
    if isinstance(schema, list):
        return all(is_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict) or schema.get("type") == "object":
        names = set(properties) if isinstance(properties, dict) else set()
        required = schema.get("required", [])
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return False
        if {name for name in required if isinstance(name, str)} != names:
            return False
    return all(is_strict(child) for child in children_of(schema))


def children_of(schema: Mapping[str, Any]) -> list[Any]:
    """The schemas directly below a schema."""
    found: list[Any] = []
    for key, value in schema.items():
        if key in NAMED and isinstance(value, dict):
            found += value.values()
        elif key in LISTED and isinstance(value, list):
            found += value
        elif key in SINGLE:
            found.append(value)
    return found


def _mapped(schema: Schema, change: Callable[[Schema], Schema], dropped: frozenset[str]) -> Schema:
    """A schema without some keywords, and each schema directly below it changed."""
    made: Schema = {}
    for key, value in schema.items():
        if key in dropped:
            continue
        if isinstance(value, dict):
            if key in NAMED:
                value = {name: _changed(item, change) for name, item in value.items()}
            elif key in SINGLE:
                value = change(value)
        elif isinstance(value, list) and (key in LISTED or key == "items"):
            value = [_changed(item, change) for item in value]
        made[key] = value
    return made


def _changed(value: Any, change: Callable[[Schema], Schema]) -> Any:
    return change(value) if isinstance(value, dict) else value


def _plain(schema: Schema) -> Schema:
    """A schema without what no provider reads and some refuse."""
    return _mapped(schema, _plain, _ALWAYS_DROPPED)


def _kimi(schema: Schema) -> Schema:
    """A schema as Moonshot checks it: a type everywhere but beside `anyOf`, plain references."""
    made = _mapped(schema, _kimi, _ALWAYS_DROPPED)
    if "definitions" in made:
        older = made.pop("definitions")
        made.setdefault("$defs", older)
    reference = made.get("$ref")
    if isinstance(reference, str):
        reference = reference.replace("#/definitions/", "#/$defs/", 1)
        beside = {"$defs": made["$defs"]} if "$defs" in made else {}
        is_local = reference.startswith("#/$defs/")
        return {"$ref": reference, **beside} if is_local else {"type": "object", **beside}
    properties = made.get("properties")
    if isinstance(properties, dict):
        made["properties"] = {name: _typed(item) for name, item in properties.items()}
    options = made.get("anyOf")
    if isinstance(options, list) and "type" in made:
        shared = made.pop("type")
        made["anyOf"] = [
            {"type": shared, **item}
            if isinstance(item, dict) and not _TYPED & item.keys()
            else item
            for item in options
        ]
    return made


def _typed(schema: Any) -> Any:
    """A property with a type, guessed where it has none."""
    if not isinstance(schema, dict):
        return {"type": "string"}
    if _TYPED & schema.keys():
        return schema
    if "properties" in schema:
        return {"type": "object", **schema}
    if "items" in schema:
        return {"type": "array", **schema}
    values = schema.get("enum")
    sample = values[0] if isinstance(values, list) and values else schema.get("const")
    return {"type": _TYPE_NAMES.get(type(sample), "string"), **schema}


_TYPE_NAMES: Final[Mapping[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
}

_DIALECTS: Final[Mapping[str, Callable[[Schema], Schema]]] = {
    "openai": _plain,
    "gemini": for_gemini,
    "kimi": _kimi,
}
