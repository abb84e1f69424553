"""JSON schemas of tool input: where they contain schemas, and how to make them valid or simpler.

The keys under `properties` are names, not keywords: a property may well be called `required`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from ccfallback.messages.turns import objects_in

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
"""Schemas nested deeper than this are left alone: they are not written by hand."""


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
"""Keywords that draft 2020-12 no longer has, and the one that names a draft."""

_PLAIN: Final = frozenset({"type", "properties", "required", "items", "enum", "description"})

KEYWORDS: Final = (
    SINGLE | LISTED | NAMED | _NUMBERS | _COUNTS | _FLAGS | _WORDS | _LISTS | _OUTDATED
)
KEYWORDS_REFUSED: Final = (KEYWORDS | {"const", "default", "nullable", "dependentRequired"}) - (
    _PLAIN | {"description"}
)
"""Keywords that a provider may refuse, and without which a schema still means something."""


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


class Inlining:
    """How much the references of one schema may add to it where their targets take their places.

    A schema may contain itself, many times in every part: without a limit, a few kilobytes become
    megabytes.
    """

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = 0
        self._sizes: dict[int, int] = {}
        self.is_exhausted = False
        """Whether a target did not fit any more."""

    def allows(self, target: Schema) -> bool:
        """Whether a target, which is a part of the root, may take the place of a reference."""
        if not self._sizes:
            # Most schemas have no references.
            self._sizes = _sizes(self._root)
            growth = max(_MOST_GROWTH * self._sizes[id(self._root)], _LEAST_LIMIT)
            self._left = min(growth, _MOST_INLINED)
        size = self._sizes[id(target)]
        if size > self._left:
            self.is_exhausted = True
            return False
        self._left -= size
        return True


_MOST_GROWTH: Final = 8
"""How many times its own size a schema may grow by."""
_LEAST_LIMIT: Final = 64 * 1024
"""Bytes by which any schema may grow: a small one may well use one definition in forty places."""
_MOST_INLINED: Final = 256 * 1024
"""Bytes by which the largest schema may grow."""


def _sizes(root: Schema) -> dict[int, int]:
    """About how many bytes every object and list of a schema has as JSON, by its id.

    Targets may lie one inside the other: measuring each by itself would read the innermost as often
    as there are targets.
    """
    outer_first: list[dict[str, Any] | list[Any]] = []
    waiting: list[dict[str, Any] | list[Any]] = [root]
    while waiting:
        container = waiting.pop()
        outer_first.append(container)
        waiting += [each for each in _values(container) if isinstance(each, dict | list)]
    sizes: dict[int, int] = {}
    for container in reversed(outer_first):
        names = container if isinstance(container, dict) else ()
        size = 2 + len(container) + sum(len(name) + 3 for name in names)
        for value in _values(container):
            if isinstance(value, dict | list):
                size += sizes[id(value)]
            else:
                size += len(value) + 2 if isinstance(value, str) else 4
        sizes[id(container)] = size
    return sizes


def _values(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def valid(schema: Any) -> Schema:
    """A tool's schema as draft 2020-12 accepts it; the very same object if it does."""
    if not isinstance(schema, dict):
        return {"type": "object", "properties": {}}
    made: Schema = rewrite(schema, _valid)
    return made if made.get("type") == "object" else {**made, "type": "object"}


def plain(schema: Any) -> Schema:
    """A valid schema with types, properties, required, items, enum and description only.

    Every part has one type: the first alternative is better than none, and a text may say
    anything.
    """
    root = valid(schema)
    for most in range(_MOST_REFERENCES, 0, -1):
        translation = _PlainTranslation(root, most)
        made = translation.node(root, 0, 0)
        # Less of every part is better than all of the first one.
        if not translation.inlining.is_exhausted:
            break
    return {**made, "type": "object"}


def flat(schema: Any) -> Any:
    """A schema without combinators at its root; the very same object if it has none."""
    if not isinstance(schema, dict) or not any(key in schema for key in COMBINATORS):
        return schema
    properties = dict(_properties(schema))
    required = dict.fromkeys(_required_names(schema))
    for key in COMBINATORS:
        found = [
            resolve_reference(each.get("$ref"), schema) or each
            for each in objects_in(schema.get(key))
        ]
        # What many references point to is the same for each.
        variants = list({id(each): each for each in found}.values())
        for variant in variants:
            for name, value in _properties(variant).items():
                properties.setdefault(name, value)
        # A property is required if every alternative requires it, or one part of `allOf`.
        demanded = [set(_required_names(variant)) for variant in variants]
        together = set.union if key == "allOf" else set.intersection
        names = together(*demanded) if demanded else set()
        for variant in variants[:1] if key != "allOf" else variants:
            required |= dict.fromkeys(each for each in _required_names(variant) if each in names)
    rest = {key: value for key, value in schema.items() if key not in COMBINATORS}
    made = {**rest, "type": "object", "properties": properties}
    if required:
        made["required"] = list(required)
    return made


def without_keywords(schema: Any, keywords: Collection[str]) -> Any:
    """A schema without these keywords; others take their place if there are any."""
    return rewrite(schema, lambda part: _reword(part, keywords))


def with_items(schema: Any) -> Any:
    """A schema in which every array has `items`."""
    return rewrite(schema, _with_items)


def _with_items(part: Schema) -> Schema:
    if part.get("type") != "array" or "items" in part:
        return part
    return {**part, "items": {"type": "string"}}


def _reword(part: Schema, keywords: Collection[str]) -> Schema:
    made = {key: value for key, value in part.items() if key not in keywords}
    if "const" in keywords and "const" in part and "enum" not in made:
        made["enum"] = [part["const"]]
    for key in COMBINATORS:
        if key in keywords and key in part:
            variant = next(
                (each for each in objects_in(part[key]) if each.get("type") != "null"), {}
            )
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
        # Up to draft 4 it was a flag that excludes the limit itself.
        if part.get(flag) is True and limit in made:
            made[flag] = made.pop(limit)
    return made


def _valid_value(key: str, value: Any) -> Any:
    """A keyword's value in a valid form; `None` if it has none."""
    if key in _OUTDATED:
        return None
    if key == "type":
        return _valid_type(value)
    if key == "required":
        return _distinct(value) if isinstance(value, list) else None
    if key in SINGLE:
        return value if _is_schema(value) else None
    if key in LISTED:
        return [each for each in value if _is_schema(each)] or None if _is_list(value) else None
    if key in NAMED:
        return _valid_named(value) if isinstance(value, dict) else None
    for keys, fits in _FORMS:
        if key in keys:
            return value if fits(value) else None
    return value


def _valid_named(value: Schema) -> Schema:
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
    return _is_number(value) and value >= 0 and value % 1 == 0


_FORMS: Final[tuple[tuple[frozenset[str], Callable[[Any], bool]], ...]] = (
    (_NUMBERS, _is_number),
    (_COUNTS, _is_count),
    (_FLAGS, lambda value: isinstance(value, bool)),
    (_WORDS, lambda value: isinstance(value, str)),
    (_LISTS, _is_list),
)


_MOST_REFERENCES: Final = 3
"""References that are followed one inside the other: a schema may contain itself."""


class _PlainTranslation:
    """The translation of one schema into a plain one."""

    def __init__(self, root: Schema, most_references: int) -> None:
        self._root = root
        self._most_references = most_references
        self.inlining = Inlining(root)

    def node(self, part: Any, depth: int, references: int) -> Schema:
        """Translate one part, which was reached by so many references."""
        if not isinstance(part, dict):
            return {"type": "string"}
        if depth > MAX_DEPTH:
            return {"type": "object"}
        target = resolve_reference(part.get("$ref"), self._root)
        if target is not None:
            references += 1
            if references > self._most_references or not self.inlining.allows(target):
                target = {"type": "object"}
            part = {**target, **part}
            part.pop("$ref")
            return self.node(part, depth + 1, references)
        part = _with_first_alternative(part)
        made: Schema = {"type": _plain_type(part)}
        if isinstance(part.get("description"), str):
            made["description"] = part["description"]
        choices = part.get("enum", [part["const"]] if "const" in part else None)
        if _is_list(choices) and choices and all(map(_IS_OF_TYPE[made["type"]], choices)):
            made["enum"] = choices
        if made["type"] == "object":
            properties = {
                name: self.node(each, depth + 1, references)
                for name, each in _properties(part).items()
            }
            required = [name for name in _required_names(part) if name in properties]
            made |= {"properties": properties} if properties or "properties" in part else {}
            made |= {"required": required} if required else {}
        elif made["type"] == "array":
            items = part.get("items", next(iter(objects_in(part.get("prefixItems"))), None))
            made["items"] = self.node(items, depth + 1, references)
        return made


def _with_first_alternative(part: Schema) -> Schema:
    """A part with what its combinators add: all parts of `allOf`, and one of the others."""
    if part.keys().isdisjoint(COMBINATORS):
        return part
    made = {key: value for key, value in part.items() if key not in COMBINATORS}
    properties = dict(_properties(made))
    required = dict.fromkeys(_required_names(made))
    for key in COMBINATORS:
        variants = [each for each in objects_in(part.get(key)) if each.get("type") != "null"]
        for variant in variants if key == "allOf" else variants[:1]:
            for name, value in variant.items():
                made.setdefault(name, value)
            for name, value in _properties(variant).items():
                properties.setdefault(name, value)
            required |= dict.fromkeys(_required_names(variant))
    if properties:
        made |= {"properties": properties, "required": list(required)}
    return made if made.keys().isdisjoint(COMBINATORS) else without_keywords(made, COMBINATORS)


def _plain_type(part: Schema) -> str:
    """The one type of a part; by its other keywords if it names none."""
    kinds = part.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    named = [each for each in kinds if each in _IS_OF_TYPE]
    if named:
        return str(named[0])
    if _properties(part):
        return "object"
    if "items" in part or "prefixItems" in part:
        return "array"
    choices = part["enum"] if _is_list(part.get("enum")) else [part.get("const")]
    return next((kind for kind, fits in _IS_OF_TYPE.items() if all(map(fits, choices))), "string")


_IS_OF_TYPE: Final[Mapping[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": _is_number,
    "array": _is_list,
    "object": lambda value: isinstance(value, dict),
}
"""The types of a plain schema, and the values of each."""


def _properties(schema: Schema) -> Schema:
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def _required_names(schema: Schema) -> list[str]:
    found = schema.get("required")
    return _distinct(found) if isinstance(found, list) else []
