"""Tools: their fields, names and schemas, and messages that add or remove them."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from ccfallback.messages import json_schema
from ccfallback.messages.edit import ANY, without
from ccfallback.messages.patterns import lazy_re
from ccfallback.messages.server_tools import in_words
from ccfallback.messages.system import with_tool_changes_made
from ccfallback.messages.tools import (
    LONGEST_DESCRIPTION,
    LONGEST_NAME,
    MOST_TOOLS,
    ToolNames,
    has_deferred,
    is_custom,
    with_all_loaded,
    with_at_most_tools,
    with_short_descriptions,
)
from ccfallback.messages.turns import (
    TOOL_CHANGES,
    Block,
    is_same,
    kind_of,
    map_blocks,
    map_messages,
    places,
    string,
    without_empty_messages,
)
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.fields import TOOL_FIELDS
from ccfallback.rectify.rule import (
    Refusal,
    Repaired,
    Rule,
    describe,
    on_body,
    repaired,
    says,
    unknown_field,
)


def _tools(draft: RequestDraft) -> list[Any]:
    tools = draft.body.get("tools")
    return tools if isinstance(tools, list) else []


# --- Fields ---

_DEFERRED: Final = "defer_loading"
_FIELD: Final = lazy_re(
    r"\b(?P<field>input_examples|defer_loading|eager_input_streaming|allowed_callers)"
    r"(?: \w+){0,2} (?:is|are) (?:not|un)"
    r"|(?:does not|doesnt|not) support (?P<named>input_examples|defer_loading"
    r"|eager_input_streaming|allowed_callers)\b"
)
_NO_REFERENCES: Final = says(r"input tag tool_reference found|tool_reference\w* .{0,20}not su")


def _refused_fields(refusal: Refusal) -> list[str]:
    """The members of tools that a refusal names, each once."""
    found = [
        path[-1]
        for path in refusal.paths
        if path[-1] in TOOL_FIELDS and (path[0] == "tools" or len(path) == 1)
    ]
    found += [match["field"] or match["named"] for match in _FIELD.finditer(refusal.text)]
    found += [_DEFERRED] if _NO_REFERENCES(refusal) else []
    return list(dict.fromkeys(found))


def _without_fields(draft: RequestDraft, fields: list[str]) -> Repaired | None:
    """Remove the fields. Without deferred loading, all tools are there from the start."""
    body, gone = draft.body, []
    for field in fields:
        before = body
        if field != _DEFERRED:
            body, _ = without(body, ("tools", ANY, field))
        elif has_deferred(body):
            body = with_all_loaded(body)
        gone += [field] if body is not before else []
    lesson = unknown_field(*(("tools", ANY, field) for field in fields))
    return repaired(draft, body, f"{', '.join(gone)} removed from tools", lesson=lesson)


# --- Names ---


def _unique(draft: RequestDraft, _found: object) -> Repaired | None:
    """Keep the first of the tools with the same name. A toolset has none, and may be repeated."""
    seen: set[str] = set()
    kept = []
    for tool in _tools(draft):
        name = string(tool, "name")
        if not name or name not in seen:
            kept.append(tool)
        seen.add(name)
    count = len(_tools(draft)) - len(kept)
    changed = describe(count, "tool", "of a name already taken removed")
    return repaired(draft, draft.body.with_items("tools", kept), changed)


_NAME: Final = (
    r"\b(?:tools?(?:\.| ?-> ?|\[)[\w.*\[\] >-]{0,60}?|tool_use(?:\.| ?-> ?)|function\.|toolspec\.)"
    r"name\b"
)
_FORM: Final = (
    r"(?:should match pattern|does not match pattern|at most \d{1,3} character|string too long"
    r"|regular expression pattern|length less than or equal to \d{1,3})"
)
_LIMIT: Final = lazy_re(
    r"\{1, ?(\d{1,3})\}|at most (\d{1,3}) character|maximum length (?:of )?(\d{1,3})\b"
    r"|length less than or equal to (\d{1,3})\b"
)
_SHORTEST_NAME: Final = 16
"""Characters with which the tools of a client remain distinct."""

_NAMED_BY: Final[Mapping[str, str]] = {"tool_use": "name", "tool_reference": "tool_name"}


_SAYS_FORM: Final = says(
    rf"{_NAME}.{{0,60}}{_FORM}",
    # Gemini, Moonshot
    r"\binvalid function name\b|\bfunction name is invalid\b",
)


def _longest_name(refusal: Refusal) -> int:
    """How long a name may be, if the refusal is about the form of a name."""
    if not _SAYS_FORM(refusal):
        return 0
    found = _LIMIT.search(refusal.text)
    size = int(next(filter(None, found.groups()))) if found else LONGEST_NAME
    return size if size >= _SHORTEST_NAME else LONGEST_NAME


class _Renaming:
    """Gives every tool a name that fits, and remembers which was whose."""

    def __init__(self, names: ToolNames) -> None:
        self._names = names
        self.made: dict[str, str] = {}

    def rename(self, value: Any, key: str = "name") -> Any:
        """An object with a name that fits; the very same object if its name does."""
        old = string(value, key)
        new = self._names.to_provider(old) if old else old
        if new == old:
            return value
        self.made[new] = old
        return {**value, key: new}

    def rename_in(self, block: Block) -> Block:
        """A block of a message, or of a result in it."""
        kind = kind_of(block)
        if kind in _NAMED_BY:
            renamed: Block = self.rename(block, _NAMED_BY[kind])
            return renamed
        if kind == "tool_result":
            return _with(block, "content", map_blocks(block.get("content"), self.rename_in))
        if kind in TOOL_CHANGES:
            return _with(block, "tool", self._changed_tool(block.get("tool")))
        return block

    def _changed_tool(self, tool: Any) -> Any:
        if not isinstance(tool, dict) or "definition" not in tool:
            return self.rename(tool)
        return _with(tool, "definition", self.rename(tool["definition"]))


def _with(outer: Block, key: str, value: Any) -> Block:
    return outer if value is outer.get(key) else {**outer, key: value}


def _rename_tools(draft: RequestDraft, longest: int) -> Repaired | None:
    """Give the tools names that fit, everywhere in the request. The draft says which is whose, so
    that the answer can name them as the client does."""
    renaming = _Renaming(ToolNames.of(draft.body, longest))
    body = draft.body
    tools = [renaming.rename(tool) if is_custom(tool) else tool for tool in _tools(draft)]
    if not is_same(tools, _tools(draft)):
        body = body.with_items("tools", tools)
    choice = body.get("tool_choice")
    chosen = renaming.rename(choice) if kind_of(choice) == "tool" else choice
    if chosen is not choice:
        body = body.with_members(tool_choice=chosen)
    messages = map_messages(body.messages, renaming.rename_in)
    if not is_same(messages, body.messages):
        body = body.with_items("messages", messages)
    made = repaired(
        draft,
        body,
        describe(len(renaming.made), "tool", "renamed"),
        lesson=f"tools.*.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,{longest}}}$'",
    )
    if made is None:
        return None
    # A tool that was renamed before is the client's under the name before that.
    names = {new: draft.names.get(old, old) for new, old in renaming.made.items()}
    return replace(made, draft=replace(made.draft, names={**draft.names, **names}))


def _with_stubs(draft: RequestDraft, _found: object) -> Repaired | None:
    """Define every tool that was called: the request brings none."""
    blocks = (block for _, block in places(draft.body.messages) if kind_of(block) == "tool_use")
    called = dict.fromkeys(name for block in blocks if (name := string(block, "name")))
    stub = {
        "description": "No longer available. Do not call it.",
        "input_schema": {"type": "object"},
    }
    body = draft.body.with_members(tools=[{"name": name, **stub} for name in called])
    return repaired(draft, body, describe(len(called), "tool", "stubbed"))


# --- Number and descriptions ---

_COUNT: Final = lazy_re(
    r"\btools?\b.{0,20}array too long\b.{0,60}maximum length (?P<expected>\d{1,4})"
    r"|(?:at most|up to|more than|maximum (?:number )?of|limit (?:is|of)|limited to)"
    r" (?P<most>\d{1,4}) (?:tools?|functions?)\b(?! results?| calls?)"
    r"|\btoo many (?:tools|functions)\b(?! calls?)(?:.{0,40}(?:maximum|limit|at most)\D{0,10}"
    r"(?P<limit>\d{1,4}))?"
)
_DESCRIPTION: Final = lazy_re(
    r"\bdescription\b.{0,20}(?:string )?too long\b(?:.{0,60}maximum length (?:of )?"
    r"(?P<expected>\d{2,6}))?"
    r"|\bdescription\b.{0,60}(?:at most|longer than|no more than|less than or equal to|limit of"
    r"|exceeds(?: the)?(?: maximum)?(?: length)?(?: of)?) (?P<most>\d{2,6})"
)


def _most_tools(refusal: Refusal) -> int:
    """How many tools the provider accepts, if the refusal is about their number."""
    return _number_in(_COUNT, refusal, MOST_TOOLS)


def _longest_description(refusal: Refusal) -> int:
    """How long a description may be, if the refusal is about that."""
    return _number_in(_DESCRIPTION, refusal, LONGEST_DESCRIPTION)


def _number_in(form: re.Pattern[str], refusal: Refusal, default: int) -> int:
    found = form.search(refusal.text)
    if found is None:
        return 0
    return int(next(filter(None, found.groups()), 0)) or default


def _with_fewer_tools(draft: RequestDraft, most: int) -> Repaired | None:
    body = with_at_most_tools(draft.body, most)
    count = len(_tools(draft)) - len(_tools(draft.with_body(body)))
    lesson = f"at most {most} tools are supported"
    return repaired(draft, body, describe(count, "tool", "removed"), lesson=lesson)


def _with_short_descriptions(draft: RequestDraft, longest: int) -> Repaired | None:
    body = with_short_descriptions(draft.body, longest)
    lesson = f"tools.*.description: string too long. Expected maximum length {longest}"
    return repaired(draft, body, f"descriptions cut to {longest} characters", lesson=lesson)


# --- Schemas ---

_KEYWORD: Final = lazy_re(
    r"unknown name \"?(?P<unknown>[$\w]+)\"? at '?(?:request\.)?tools\b"
    r"|keywords? [\"'`]?(?P<keyword>[$\w]+)[\"'`]? (?:is|are) not (?:supported|permitted|allowed)"
    r"|schema for function .*[\"'`](?P<function>[$\w]+)[\"'`] is not (?:permitted|supported)",
    re.IGNORECASE,
)
_INDEX: Final = lazy_re(r"\btools(?:\.| ?-> ?)(\d{1,5})\b")
_FOR_TOOL: Final = lazy_re(r"(?:for function|for tool) [\"'`]?([\w.-]+)")
_SAYS_INVALID: Final = says(
    r"input_schema\b.*(?:json schema is invalid|is (?:not valid|invalid)|input should be)",
    r"json schema is invalid",
    r"(?:invalid|incorrect) (?:json )?schema for function",
    r"invalid_function_parameters",
    r"is not a valid (?:moonshot flavored )?json schema",
)


def _refused_keywords(refusal: Refusal) -> frozenset[str]:
    """The keywords that a refusal names; other words are names of properties."""
    matches = _KEYWORD.finditer(refusal.message)
    found = {word for match in matches for word in match.groups() if word}
    return frozenset(found & json_schema.KEYWORDS_REFUSED)


def _without_keywords(draft: RequestDraft, keywords: frozenset[str]) -> Repaired | None:
    named = ", ".join(f"keyword '{keyword}' is not supported" for keyword in sorted(keywords))
    return _with_schemas(
        draft,
        lambda tool, _: json_schema.without_keywords(tool["input_schema"], keywords),
        f"tool schemas: {named}",
    )


def _each(change: Callable[[Any], Any]) -> Callable[[RequestDraft, object], Repaired | None]:
    """A change of every schema, without regard to its tool."""
    return lambda draft, _: _with_schemas(draft, lambda tool, _: change(tool["input_schema"]))


def _valid(draft: RequestDraft, refusal: Refusal) -> Repaired | None:
    """Make all schemas valid, and plain the one that the refusal names."""
    index, name = _named_tool(draft, refusal)

    def change(tool: Any, position: int) -> Any:
        is_named = position == index or (name and string(tool, "name") == name)
        return (json_schema.plain if is_named else json_schema.valid)(tool["input_schema"])

    lesson = "input_schema: JSON schema is invalid" + (name and f" for tool {name}")
    return _with_schemas(draft, change, lesson)


def _named_tool(draft: RequestDraft, refusal: Refusal) -> tuple[int, str]:
    """The tool that a refusal is about: its index, and its name if that is safe to store."""
    tools, found = _tools(draft), _INDEX.search(refusal.text)
    index = int(found[1]) if found else -1
    if 0 <= index < len(tools):
        name = string(tools[index], "name")
        return index, name if re.fullmatch(r"[\w.-]{1,128}", name) else ""
    by_name = _FOR_TOOL.search(refusal.message)
    return -1, by_name[1] if by_name else ""


def _with_schemas(
    draft: RequestDraft, change: Callable[[Any, int], Any], lesson: str | None = None
) -> Repaired | None:
    """The draft with the schema of each custom tool changed; Anthropic's own tools have none."""
    made: list[Any] = []
    for position, tool in enumerate(_tools(draft)):
        new = tool
        if is_custom(tool) and "input_schema" in tool:
            schema = change(tool, position)
            new = tool if schema == tool["input_schema"] else {**tool, "input_schema": schema}
        made.append(new)
    count = sum(new is not old for new, old in zip(made, _tools(draft), strict=True))
    body = draft.body.with_items("tools", made) if count else draft.body
    return repaired(draft, body, describe(count, "tool schema", "rewritten"), lesson=lesson)


# --- Tools that the provider would have to run ---

_SERVER_TOOLS: Final = lazy_re(r"\bserver tools (?P<kinds>\w+(?:, \w+){0,9}) are not supported")


def _refused_server_tools(refusal: Refusal) -> tuple[str, ...]:
    """The beginnings of the types of server tools that a refusal names."""
    found = _SERVER_TOOLS.search(refusal.text)
    return tuple(found["kinds"].split(", ")) if found else ()


def _without_server_tools(draft: RequestDraft, kinds: tuple[str, ...]) -> Repaired | None:
    """Remove these tools, and say in words what they did before.

    If there are no other tools, the request makes no sense without them.
    """
    tools, messages = _tools(draft), draft.body.messages
    kept = [tool for tool in tools if is_custom(tool) or not kind_of(tool).startswith(kinds)]
    if tools and not kept:
        return None
    body = draft.body if len(kept) == len(tools) else draft.body.with_items("tools", kept)
    choice = body.get("tool_choice")
    if kind_of(choice) == "tool" and string(choice, "name") not in {
        string(tool, "name") for tool in kept
    }:
        body = body.without("tool_choice")
    changed = [describe(len(tools) - len(kept), "server tool", "removed")]
    said = map_messages(messages, in_words(kinds))
    if not is_same(said, messages):
        body = body.with_items("messages", without_empty_messages(said))
        changed.append("earlier calls of server tools said in words")
    return repaired(draft, body, *changed)


FIELDS: Final[tuple[Rule[Any], ...]] = (Rule("tool_fields", _refused_fields, _without_fields),)

SERVER_TOOLS: Final[tuple[Rule[Any], ...]] = (
    Rule("server_tools", _refused_server_tools, _without_server_tools),
)

CHANGES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        "tool_changes",
        says(
            r"input tag tool_(?:addition|removal) found",
            r"unknown variant tool_(?:addition|removal)\b",
            r"\b(?:tool_(?:addition|removal)\w*|inline tools?|tool additions?|tool changes)\b"
            r".{0,60}not (?:supported|available|allowed|permitted|enabled)",
            r"not support.{0,20}\b(?:tool_(?:addition|removal)|inline tools?)\b",
        ),
        on_body(with_tool_changes_made, "tool changes moved from messages to tools"),
        "tool_addition and tool_removal are not supported",
    ),
)

RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        "tool_names",
        says(r"tool names must be unique|duplicate (?:tool|function) (?:name|declaration)s?\b"),
        _unique,
    ),
    Rule("tool_name_form", _longest_name, _rename_tools),
    Rule("tool_count", _most_tools, _with_fewer_tools),
    Rule("tool_descriptions", _longest_description, _with_short_descriptions),
    Rule(
        "tools_missing",
        says(
            r"requests which include tool_use or tool_result blocks must define tools",
            r"toolconfig field must be defined when using tooluse and toolresult",
            r"expects the tools= param(?:eter)? to be passed",
        ),
        _with_stubs,
        "requests which include tool_use or tool_result blocks must define tools",
        when=lambda draft: not draft.body.get("tools"),
    ),
    Rule("tool_schemas", _refused_keywords, _without_keywords),
    Rule(
        "tool_schemas",
        says(
            r"does not support oneof, allof,? (?:or|and) anyof at the top level",
            r"schema must have (?:a )?type object and not have",
            r"(?:oneof|anyof|allof)\b.{0,40}\bat the (?:top level|root)",
        ),
        _each(json_schema.flat),
        "input_schema does not support oneOf, allOf, or anyOf at the top level",
    ),
    Rule(
        "tool_schemas",
        says(r"array schema missing items|\bitems: missing field"),
        _each(json_schema.with_items),
        "tool schemas: array schema missing items",
    ),
    Rule("tool_schemas", lambda refusal: refusal if _SAYS_INVALID(refusal) else None, _valid),
)
