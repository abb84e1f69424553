"""JSON schemas cut down to the subset that Gemini knows.

Everything it has no word for is gone: references are put in place, alternatives are `anyOf`,
and `null` is a flag.
"""

from collections.abc import Mapping
from typing import Any, Final

Schema = dict[str, Any]

_KEPT: Final = (
    "type",
    "nullable",
    "description",
    "format",
    "enum",
    "required",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
)
_FORMATS: Final = ("date-time", "int32", "int64", "float", "double")

_MAX_INLINED: Final = 256
"""References put in place before we stop: a schema can double with each of them."""


def for_gemini(schema: Schema) -> Schema:
    """The schema in Gemini's subset; where it can't be said, any object will do."""
    return _Translation(schema).node(schema, ())


class _Translation:
    """One schema on its way, with its definitions at hand."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._inlined = 0

    def node(self, schema: Any, path: tuple[str, ...]) -> Schema:
        """One schema; `path` holds the references that led to it."""
        if not isinstance(schema, dict):
            return {"type": "string"}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            target = self._target(reference)
            self._inlined += 1
            if target is None or reference in path or self._inlined > _MAX_INLINED:
                return _described({"type": "object"}, schema)
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            return self.node({**target, **beside}, (*path, reference))
        return self._plain_node(self._merged(schema), path)

    def _plain_node(self, schema: Schema, path: tuple[str, ...]) -> Schema:
        made: Schema = {key: schema[key] for key in _KEPT if key in schema}
        if made.get("format") not in _FORMATS:
            made.pop("format", None)
        if "enum" not in made and "const" in schema:
            made["enum"] = [schema["const"]]
        options = [item for key in ("anyOf", "oneOf") for item in _list(schema.get(key))]
        _name_types(made, options)
        self._add_options(made, options, path)
        _limit_enum(made)
        self._add_members(made, schema, path)
        return made

    def _add_options(self, made: Schema, options: list[Any], path: tuple[str, ...]) -> None:
        real = [item for item in options if not _is_null(item)]
        if len(real) < len(options):
            made["nullable"] = True
        if len(real) == 1:
            for key, value in self.node(real[0], path).items():
                made.setdefault(key, value)
        elif real:
            made["anyOf"] = [self.node(item, path) for item in real]

    def _add_members(self, made: Schema, schema: Schema, path: tuple[str, ...]) -> None:
        properties = schema.get("properties")
        if isinstance(properties, dict):
            made["properties"] = {name: self.node(item, path) for name, item in properties.items()}
        names = made.get("properties", {})
        required = [name for name in _list(made.pop("required", None)) if _is_in(name, names)]
        if required:
            made["required"] = required
        if made.get("type") == "array" and "items" not in made:
            made["items"] = self.node(schema.get("items"), path)

    def _merged(self, schema: Schema) -> Schema:
        """A schema with the parts of its `allOf` in it."""
        merged = dict(schema)
        for part in _list(merged.pop("allOf", None)):
            if isinstance(part, dict) and isinstance(part.get("$ref"), str):
                part = self._target(part["$ref"])
            for key, value in (part or {}).items() if isinstance(part, dict) else ():
                mine = merged.get(key)
                if isinstance(mine, dict) and isinstance(value, dict):
                    merged[key] = {**value, **mine}
                elif isinstance(mine, list) and isinstance(value, list) and key == "required":
                    merged[key] = [*mine, *value]
                else:
                    merged.setdefault(key, value)
        return merged

    def _target(self, reference: str) -> Schema | None:
        """What a reference within the schema points to."""
        found: Any = self._root
        if not reference.startswith("#/"):
            return None
        for step in reference[2:].split("/"):
            found = found.get(step) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else None


def _name_types(made: Schema, options: list[Any]) -> None:
    """Put a list of types as Gemini does: one type, and whether there may be none."""
    types = made.get("type")
    if not isinstance(types, list):
        return
    named = [name for name in types if isinstance(name, str) and name != "null"]
    if len(named) < len(types):
        made["nullable"] = True
    del made["type"]
    if len(named) == 1:
        made["type"] = named[0]
    elif not options:
        options += [{"type": name} for name in named]


def _limit_enum(made: Schema) -> None:
    """Gemini enumerates texts only."""
    values = made.pop("enum", None)
    texts = [value for value in _list(values) if isinstance(value, str) and value]
    if texts and made.get("type", "string") == "string":
        made["type"] = "string"
        made["enum"] = texts


def _described(made: Schema, schema: Mapping[str, Any]) -> Schema:
    return {**made, "description": schema["description"]} if "description" in schema else made


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null"


def _is_in(name: Any, names: Mapping[str, Any]) -> bool:
    return isinstance(name, str) and name in names


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
