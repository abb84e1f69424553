"""JSON schemas of tools, made valid, flat or plain.

A schema is walked only where schemas may be: a property may be called `required` as well as any
other. What is deeper than a person would write is left alone.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

Schema = dict[str, Any]
Change = Callable[[Schema], Schema]

_DEEPEST: Final = 50

_ONE: Final = frozenset(
    {
        *("additionalProperties", "additionalItems", "items", "contains", "not", "if", "then"),
        *("else", "propertyNames", "unevaluatedItems", "unevaluatedProperties"),
    }
)
"""Keywords whose value is a schema."""
_MANY: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
"""Keywords whose value is a list of schemas."""
_NAMED: Final = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)
"""Keywords whose value is schemas by name."""

COMBINATORS: Final = ("allOf", "anyOf", "oneOf")

_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_TYPES_BY_NICKNAME: Final = {
    "int": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "str": "string",
    "dict": "object",
    "list": "array",
    "tuple": "array",
    "none": "null",
}
_NUMBERS: Final = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
_COUNTS: Final = frozenset(
    {
        *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
        *("minContains", "maxContains"),
    }
)
_FLAGS: Final = frozenset({"uniqueItems", "deprecated", "readOnly", "writeOnly"})
_WORDS: Final = frozenset(
    {"title", "description", "format", "pattern", "$ref", "$id", "$anchor", "$comment"}
)
_LISTS: Final = frozenset({"enum", "examples"})
_OUTDATED: Final = frozenset({"$schema", "additionalItems", "dependencies"})
"""What an older draft had and draft 2020-12 has no more, or what names the older draft."""

_PLAIN: Final = frozenset({"type", "properties", "required", "items", "enum", "description"})

KEYWORDS: Final = _ONE | _MANY | _NAMED | _NUMBERS | _COUNTS | _FLAGS | _WORDS | _LISTS | _OUTDATED
KEYWORDS_REFUSED: Final = (KEYWORDS | {"const", "default", "nullable", "dependentRequired"}) - (
    _PLAIN | {"description"}
)
"""Keywords without which a schema still says something."""


def changed(schema: Any, change: Change, depth: int = 0) -> Any:
    """A schema of which every part went through `change`, the innermost first.

    The very same where nothing changed.
    """
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return schema
    made: Schema = {}
    for key, value in schema.items():
        if key in _ONE and not isinstance(value, list):
            made[key] = changed(value, change, depth + 1)
        elif (key in _MANY or key == "items") and isinstance(value, list):
            made[key] = [changed(each, change, depth + 1) for each in value]
        elif key in _NAMED and isinstance(value, dict):
            made[key] = {name: changed(each, change, depth + 1) for name, each in value.items()}
        else:
            made[key] = value
    new = change(made)
    return schema if new == schema else new


def valid(schema: Any) -> Schema:
    """A tool's schema as draft 2020-12 takes it; the very same where it does."""
    if not isinstance(schema, dict):
        return {"type": "object", "properties": {}}
    made: Schema = changed(schema, _valid)
    return made if made.get("type") == "object" else {**made, "type": "object"}


def plain(schema: Any) -> Schema:
    """A valid schema of types, properties and descriptions only."""
    made: Schema = changed(valid(schema), _plain)
    return made


def flat(schema: Any) -> Any:
    """A schema without combinators at its root; the very same where it has none."""
    if not isinstance(schema, dict) or not any(key in schema for key in COMBINATORS):
        return schema
    properties = dict(_properties(schema))
    required = dict.fromkeys(_required(schema))
    for key in COMBINATORS:
        variants = [_resolved(each, schema) for each in _items(schema.get(key))]
        for variant in variants:
            for name, value in _properties(variant).items():
                properties.setdefault(name, value)
        # What one of several forms demands is not demanded of all.
        demanded = [set(_required(variant)) for variant in variants]
        together = set.union if key == "allOf" else set.intersection
        for variant in variants[:1] if key != "allOf" else variants:
            for name in _required(variant):
                if name in together(*demanded):
                    required.setdefault(name)
    rest = {key: value for key, value in schema.items() if key not in COMBINATORS}
    made = {**rest, "type": "object", "properties": properties}
    if required:
        made["required"] = list(required)
    return made


def without(schema: Any, keywords: Collection[str]) -> Any:
    """A schema without these keywords, said in other words where there are any."""
    return changed(schema, lambda part: _reworded(part, keywords))


def with_items(schema: Any) -> Any:
    """A schema in which every array says of what."""
    return changed(schema, _with_items)


def _with_items(part: Schema) -> Schema:
    if part.get("type") != "array" or "items" in part:
        return part
    return {**part, "items": {"type": "string"}}


def _reworded(part: Schema, keywords: Collection[str]) -> Schema:
    made = {key: value for key, value in part.items() if key not in keywords}
    if "const" in keywords and "const" in part and "enum" not in made:
        made["enum"] = [part["const"]]
    for key in COMBINATORS:
        if key in keywords and key in part:
            variant = next((each for each in _items(part[key]) if each.get("type") != "null"), {})
            if key == "oneOf" and "anyOf" not in keywords and "anyOf" not in made:
                made["anyOf"] = part[key]
            else:
                made = {**variant, **made}
    return made


def _valid(part: Schema) -> Schema:
    made: Schema = {}
    for key, value in part.items():
        new = _valid_value(key, value)
        if new is not None or key in ("const", "default"):
            made[key] = new
    items = part.get("items")
    if isinstance(items, list):
        made.setdefault("prefixItems", [each for each in items if _is_schema(each)])
        if not made["prefixItems"]:
            del made["prefixItems"]
        if _is_schema(part.get("additionalItems")):
            made["items"] = part["additionalItems"]
    for flag, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        # Up to draft 4 it said whether the limit itself is excluded.
        if part.get(flag) is True and limit in made:
            made[flag] = made.pop(limit)
    return made


def _valid_value(key: str, value: Any) -> Any:
    """A keyword's value as it has to be; `None` where it can't be."""
    if key in _OUTDATED:
        return None
    if key == "type":
        return _valid_type(value)
    if key == "required":
        return _distinct(value) if isinstance(value, list) else None
    if key in _ONE:
        return value if _is_schema(value) else None
    if key in _MANY:
        return [each for each in value if _is_schema(each)] or None if _is_list(value) else None
    if key in _NAMED:
        return _valid_parts(value) if isinstance(value, dict) else None
    for keys, fits in _FORMS:
        if key in keys:
            return value if fits(value) else None
    return value


def _valid_parts(value: Schema) -> Schema:
    return {name: each for name, each in value.items() if _is_schema(each)}


def _valid_type(value: Any) -> Any:
    if isinstance(value, list):
        return _distinct([each for each in map(_valid_type, value) if each]) or None
    if not isinstance(value, str):
        return None
    word = value.lower()
    return word if word in _TYPES else _TYPES_BY_NICKNAME.get(word)


def _distinct(value: list[Any]) -> list[str]:
    return list(dict.fromkeys(each for each in value if isinstance(each, str)))


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


_FORMS: Final[tuple[tuple[frozenset[str], Callable[[Any], bool]], ...]] = (
    (_NUMBERS, _is_number),
    (_COUNTS, _is_count),
    (_FLAGS, lambda value: isinstance(value, bool)),
    (_WORDS, lambda value: isinstance(value, str)),
    (_LISTS, _is_list),
)


def _plain(part: Schema) -> Schema:
    made = {key: value for key, value in part.items() if key in _PLAIN}
    if made == part:
        return part
    if "type" not in made:
        # Of several forms the first one is better than none.
        for key in COMBINATORS:
            for variant in _items(part.get(key)):
                if variant.get("type") not in (None, "null"):
                    return {**variant, **made}
    return made


def _items(value: Any) -> Iterator[Schema]:
    return (each for each in value if isinstance(each, dict)) if _is_list(value) else iter(())


def _properties(schema: Schema) -> Schema:
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def _required(schema: Schema) -> list[str]:
    found = schema.get("required")
    return _distinct(found) if isinstance(found, list) else []


def _resolved(variant: Schema, root: Schema) -> Schema:
    """A variant that only refers to a definition of the same schema, as that definition."""
    reference = variant.get("$ref")
    if not isinstance(reference, str):
        return variant
    head, _, name = reference.rpartition("/")
    defined = root.get(head.removeprefix("#/"))
    found = defined.get(name) if isinstance(defined, dict) else None
    return found if isinstance(found, dict) else variant
