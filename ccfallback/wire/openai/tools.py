"""The tools of a request as functions, with their schemas and the ids of their calls.

Another provider can only offer tools that the client runs itself. Tools that Anthropic runs are
omitted, and so is a tool that is not loaded yet.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.messages.json_schema import (
    Inlining,
    Schema,
    map_subschemas,
    resolve_reference,
    subschemas,
)
from ccfallback.messages.tools import (
    ToolNames,
    alphanumerics,
    is_server_tool,
    only_server_tools,
    tools_after_changes,
    with_own_schema,
)
from ccfallback.messages.turns import blocks_of, kind_of, objects_in, string

Tool = Mapping[str, Any]

_CHOICES: Final[Mapping[str, str]] = {"auto": "auto", "any": "required", "none": "none"}

_MAX_ID: Final = 40
"""OpenAI's limit was 40 and became 64; others kept the old one."""
_MISTRAL_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")


def client_tools(body: Body) -> list[Tool]:
    """The tools that another model may call, under the client's names of them."""
    tools: dict[str, Tool] = {}
    for tool in tools_after_changes(body):
        if string(tool, "name").strip():
            offered = tool if _is_custom(tool) else with_own_schema(tool)
            if offered is not None:
                tools.setdefault(tool["name"], offered)
    unloaded = {name for name, tool in tools.items() if tool.get("defer_loading") is True}
    if any(kind_of(tool).startswith("tool_search_tool") for tool in objects_in(body.get("tools"))):
        # Only Anthropic can search in them.
        unloaded = set()
    if unloaded:
        unloaded -= {string(body.get("tool_choice"), "name"), *_used_names(body)}
    return [tool for name, tool in tools.items() if name not in unloaded]


def functions(tools: Iterable[Tool], names: ToolNames, quirks: Quirks) -> list[dict[str, Any]]:
    """The tools as the request lists them."""
    return [
        {"type": "function", "function": _function(tool, names, quirks.schema)} for tool in tools
    ]


def choice_members(
    choice: object, tools: Iterable[Tool], names: ToolNames, quirks: Quirks
) -> dict[str, Any]:
    """The members of a request with tools that say which of them to call."""
    if not isinstance(choice, dict):
        return {}
    members: dict[str, Any] = {}
    kind, name = kind_of(choice), string(choice, "name")
    if kind == "tool":
        is_there = quirks.tool_choice_required and any(tool["name"] == name for tool in tools)
        function = {"type": "function", "function": {"name": names.to_provider(name)}}
        members["tool_choice"] = function if is_there else "auto"
    elif kind in _CHOICES:
        is_refused = kind == "any" and not quirks.tool_choice_required
        members["tool_choice"] = "auto" if is_refused else _CHOICES[kind]
    if choice.get("disable_parallel_tool_use") is True and quirks.parallel_tool_calls:
        members["parallel_tool_calls"] = False
    return members


def forces_server_tool(body: Body, tools: list[Tool]) -> bool:
    """Whether the answer must be a call of a tool that only Anthropic runs."""
    if only_server_tools(body) and kind_of(body.get("tool_choice")) != "none":
        # A web search would be answered from memory, and the client would take it for a result.
        return True
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return False
    server_tools = [tool for tool in objects_in(body.get("tools")) if is_server_tool(tool)]
    if choice.get("type") == "any":
        return bool(server_tools) and not tools
    name = string(choice, "name")
    # The same holds for a tool whose schema only Anthropic's models know.
    return (
        choice.get("type") == "tool"
        and any(string(tool, "name") == name for tool in objects_in(body.get("tools")))
        and all(tool["name"] != name for tool in tools)
    )


def provider_tool_id(tool_id: str, style: str) -> str:
    """A call's id as the provider takes it: the same for the call and its result."""
    if style == "mistral":
        return tool_id if _MISTRAL_ID.fullmatch(tool_id) else alphanumerics(tool_id, 9)
    if style == "short" and len(tool_id) > _MAX_ID:
        return f"call_{alphanumerics(tool_id, 24)}"
    return tool_id


def _function(tool: Tool, names: ToolNames, dialect: str) -> dict[str, Any]:
    function: dict[str, Any] = {"name": names.to_provider(tool["name"])}
    description = string(tool, "description")
    if description.strip():
        function["description"] = description
    function["parameters"] = parameters(tool.get("input_schema"), dialect)
    if tool.get("strict") is True and dialect == "openai" and is_strict(function["parameters"]):
        function["strict"] = True
    return function


def _is_custom(tool: Tool) -> bool:
    """Whether the client runs a tool; a type that we do not know may be a custom tool too."""
    return tool.get("type") in (None, "custom") or (
        isinstance(tool.get("input_schema"), dict) and not is_server_tool(tool)
    )


def _used_names(body: Body) -> Iterator[str]:
    """The names of tools that the conversation has loaded or called."""
    for message in objects_in(body.messages):
        for block in blocks_of(message.get("content")):
            if kind_of(block) == "tool_use":
                yield string(block, "name")
            elif kind_of(block) == "tool_result":
                for item in blocks_of(block.get("content")):
                    if kind_of(item) == "tool_reference":
                        yield string(item, "tool_name")


# Schemas


_UNREAD: Final = frozenset({"$schema", "$id", "$comment"})
"""Keywords that no provider reads and some refuse."""

_NOT_STRICT: Final = frozenset(
    {
        *("oneOf", "allOf", "not", "if", "then", "else", "dependentSchemas", "dependentRequired"),
        *("patternProperties", "propertyNames", "unevaluatedProperties", "prefixItems", "contains"),
    }
)
"""Keywords that OpenAI refuses in a strict schema."""

_TYPED: Final = frozenset({"type", "anyOf", "oneOf", "allOf", "$ref"})
"""Keywords that tell the type of a value."""

_TYPE_NAMES: Final[Mapping[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
}


def parameters(schema: object, dialect: str) -> Schema:
    """The schema of a function's parameters in a provider's dialect.

    It always describes an object with properties.
    """
    given = schema if isinstance(schema, dict) else {}
    made: Schema = _DIALECTS.get(dialect, _plain)(given)
    if made.get("type") != "object":
        made = {"type": "object", **{key: made[key] for key in made if key != "type"}}
    if not isinstance(made.get("properties"), dict):
        made["properties"] = {}
    return made


def is_strict(schema: object) -> bool:
    """Whether a schema fits `strict`: every object requires all properties and allows no others."""
    if isinstance(schema, list):
        return all(is_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    if _NOT_STRICT & schema.keys() or ("$ref" in schema and schema.keys() - {"$ref", "$defs"}):
        return False
    properties = schema.get("properties")
    if isinstance(properties, dict) or schema.get("type") == "object":
        names = set(properties) if isinstance(properties, dict) else set()
        required = schema.get("required", [])
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return False
        if {name for name in required if isinstance(name, str)} != names:
            return False
    return all(is_strict(child) for child in subschemas(schema))


def _plain(schema: Any) -> Any:
    """A schema without keywords that no provider reads."""
    if not isinstance(schema, dict):
        return schema
    return map_subschemas({key: schema[key] for key in schema if key not in _UNREAD}, _plain)


def _kimi(schema: Any) -> Any:
    """A schema as Moonshot checks it: a type everywhere except beside `anyOf`, bare references."""
    if not isinstance(schema, dict):
        return schema
    made = map_subschemas({key: schema[key] for key in schema if key not in _UNREAD}, _kimi)
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
        made["properties"] = {name: _with_type(item) for name, item in properties.items()}
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


def _with_type(schema: Any) -> Any:
    """A property with a type, guessed if it has none."""
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


_GEMINI_KEYWORDS: Final = (
    *("type", "nullable", "description", "format", "enum", "required", "minItems", "maxItems"),
    *("minLength", "maxLength", "pattern", "minimum", "maximum"),
)
"""The keywords that Gemini has in common with JSON schemas."""
_GEMINI_FORMATS: Final = ("date-time", "int32", "int64", "float", "double")

_MAX_INLINED: Final = 256
"""References that are replaced by their targets, however short those are."""


def for_gemini(schema: Schema) -> Schema:
    """A schema in Gemini's subset of the language.

    It has no references, alternatives are `anyOf`, and `null` is a flag. Where that cannot
    express the schema, any object is allowed.
    """
    return _GeminiTranslation(schema).node(schema, ())


class _GeminiTranslation:
    """The translation of one schema, which holds the targets of its references."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._inlined = 0
        self._inlining = Inlining(root)

    def node(self, schema: Any, path: tuple[str, ...]) -> Schema:
        """Translate one subschema; `path` holds the references that led to it."""
        if not isinstance(schema, dict):
            return {"type": "string"}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            target = None if reference in path else self._target(reference)
            if target is None:
                about = {key: schema[key] for key in ("description",) if key in schema}
                return {"type": "object", **about}
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            return self.node({**target, **beside}, (*path, reference))
        return self._plain_node(self._with_all_of(schema), path)

    def _target(self, reference: str) -> Schema | None:
        """The schema that takes the place of a reference; `None` if there is none."""
        target = resolve_reference(reference, self._root)
        self._inlined += 1
        if target is None or self._inlined > _MAX_INLINED or not self._inlining.allows(target):
            return None
        return target

    def _plain_node(self, schema: Schema, path: tuple[str, ...]) -> Schema:
        made: Schema = {key: schema[key] for key in _GEMINI_KEYWORDS if key in schema}
        if made.get("format") not in _GEMINI_FORMATS:
            made.pop("format", None)
        if "enum" not in made and "const" in schema:
            made["enum"] = [schema["const"]]
        options = [item for key in ("anyOf", "oneOf") for item in _list(schema.get(key))]
        _set_type(made, options)
        self._set_options(made, options, path)
        _set_enum(made)
        self._set_members(made, schema, path)
        return made

    def _set_options(self, made: Schema, options: list[Any], path: tuple[str, ...]) -> None:
        real = [
            item for item in options if not (isinstance(item, dict) and item.get("type") == "null")
        ]
        if len(real) < len(options):
            made["nullable"] = True
        if len(real) == 1:
            for key, value in self.node(real[0], path).items():
                made.setdefault(key, value)
        elif real:
            made["anyOf"] = [self.node(item, path) for item in real]

    def _set_members(self, made: Schema, schema: Schema, path: tuple[str, ...]) -> None:
        properties = schema.get("properties")
        if isinstance(properties, dict):
            made["properties"] = {name: self.node(item, path) for name, item in properties.items()}
        names = made.get("properties", {})
        required = [
            name
            for name in _list(made.pop("required", None))
            if isinstance(name, str) and name in names
        ]
        if required:
            made["required"] = required
        if made.get("type") == "array" and "items" not in made:
            made["items"] = self.node(schema.get("items"), path)

    def _with_all_of(self, schema: Schema) -> Schema:
        """A schema merged with the parts of its `allOf`."""
        if "allOf" not in schema:
            return schema
        merged = dict(schema)
        copied: set[str] = set()
        for part in _list(merged.pop("allOf", None)):
            if isinstance(part, dict) and isinstance(part.get("$ref"), str):
                part = self._target(part["$ref"])
            for key, value in part.items() if isinstance(part, dict) else ():
                own = merged.get(key)
                if isinstance(own, dict) and isinstance(value, dict):
                    if key not in copied:
                        own = merged[key] = dict(own)
                        copied.add(key)
                    for name, each in value.items():
                        own.setdefault(name, each)
                elif isinstance(own, list) and isinstance(value, list) and key == "required":
                    if key not in copied:
                        own = merged[key] = list(own)
                        copied.add(key)
                    own += value
                else:
                    merged.setdefault(key, value)
        return merged


def _set_type(made: Schema, options: list[Any]) -> None:
    """Write a list of types as Gemini does: one type, and a flag for `null`."""
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


def _set_enum(made: Schema) -> None:
    """Leave out the values of an `enum` that Gemini refuses: all but texts."""
    values = made.pop("enum", None)
    texts = [value for value in _list(values) if isinstance(value, str) and value]
    if texts and made.get("type", "string") == "string":
        made["type"] = "string"
        made["enum"] = texts


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


_DIALECTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "openai": _plain,
    "gemini": for_gemini,
    "kimi": _kimi,
}
