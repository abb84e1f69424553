"""Tools: their names and ids, and how a conversation adds and removes them.

Names and ids are made to fit the strictest provider. Nothing is remembered between requests: the
same input gives the same name, and what must be translated back is read off the request's tools.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.messages.edit import (
    ANY,
    has,
    map_items,
    raw_with_content,
    raw_with_members,
    without,
)
from ccfallback.messages.json_schema import rewrite
from ccfallback.messages.patterns import lazy_re
from ccfallback.messages.turns import (
    TOOL_CHANGES,
    is_same,
    kind_of,
    objects_in,
    places,
    string,
    text_block,
)

LONGEST_NAME: Final = 64
"""Characters of a tool name that every provider takes."""

LONGEST_CLIENT_NAME: Final = 128
"""Characters of a tool name that Anthropic takes."""

MOST_TOOLS: Final = 128
"""Tools that OpenAI accepts, and many that follow its API."""

LONGEST_DESCRIPTION: Final = 1024
"""Characters of a description, by the same API."""

BAD_LETTER: Final = lazy_re(r"[^a-zA-Z0-9_-]")
"""Any character that a name or an id may not contain."""

_SERVER: Final = lazy_re(
    r"(?:web_search|web_fetch|code_execution|tool_search_tool|advisor|mcp_toolset)(?:_|$)"
)
_NAME: Final = lazy_re(r"[a-zA-Z_][a-zA-Z0-9_-]*")
_NAMESPACE: Final = lazy_re(r"^(?:functions|default_api|tools)[.:]\s*")
"""What some models write before the name of every tool."""
_COUNTER: Final = lazy_re(r":\d{1,4}$")
"""The number that Kimi's ids have after a name."""
_ALPHANUMERICS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

PLACEHOLDER: Final = "DeferredToolPlaceholder"
"""The client's stand-in for tools that are not loaded; it means nothing without tool search."""

_DEFERRED: Final = ("tools", ANY, "defer_loading")

INTERRUPTED: Final = "[interrupted]"
"""The content of a result made up for a call that has none, in a Messages request."""

NO_RESULT: Final = "[no result]"
"""The same in a Chat Completions request."""


def available_note(name: object) -> str:
    """The text that replaces a reference to a tool which a tool search found."""
    return f"Tool {name} is available." if isinstance(name, str) and name else "A tool was found."


def is_custom(tool: object) -> bool:
    """Whether the client runs a tool itself; Anthropic's own tools have another type."""
    return isinstance(tool, dict) and kind_of(tool) in ("", "custom")


def is_server_tool(tool: object) -> bool:
    """Whether Anthropic runs a tool itself; no other provider can offer it."""
    return _SERVER.match(kind_of(tool)) is not None


_COMMANDS: Final = {"type": "string", "description": "What to do"}
_PATH: Final = {"type": "string", "description": "The path of the file or folder"}
_TEXT: Final = {"type": "string"}
_RANGE: Final = {
    "type": "array",
    "items": {"type": "integer"},
    "description": "The first and the last line to view; -1 as the last one means the end",
}
_FILE_EDITS: Final[dict[str, Any]] = {
    "path": _PATH,
    "file_text": {**_TEXT, "description": "For create: the content of the file"},
    "old_str": {**_TEXT, "description": "For str_replace: the text to replace, which occurs once"},
    "new_str": {**_TEXT, "description": "For str_replace: the new text"},
    "insert_line": {"type": "integer", "description": "For insert: the line to insert after"},
    "insert_text": {**_TEXT, "description": "For insert: the text to insert"},
    "view_range": _RANGE,
}
_POINT: Final = {
    "type": "array",
    "items": {"type": "integer"},
    "description": "x and y in pixels from the top left corner",
}


def _commands(*names: str) -> dict[str, Any]:
    return {"command": {**_COMMANDS, "enum": list(names)}}


_DEFINED: Final[tuple[tuple[str, str, dict[str, Any], tuple[str, ...]], ...]] = (
    (
        "bash_",
        "Runs a command in a bash shell whose state is kept from one call to the next.",
        {"command": _TEXT, "restart": {"type": "boolean", "description": "Start a new shell"}},
        (),
    ),
    (
        "text_editor_",
        "Views, creates and edits text files.",
        {**_commands("view", "create", "str_replace", "insert"), **_FILE_EDITS},
        ("command", "path"),
    ),
    (
        "memory_",
        "Keeps notes in files below /memories for later conversations.",
        {
            **_commands("view", "create", "str_replace", "insert", "delete", "rename"),
            **_FILE_EDITS,
            "old_path": {**_TEXT, "description": "For rename"},
            "new_path": {**_TEXT, "description": "For rename"},
        },
        ("command",),
    ),
    (
        "computer_",
        "Controls a computer by its screen, mouse and keyboard.",
        {
            "action": {
                "type": "string",
                "enum": [
                    *("key", "type", "mouse_move", "left_click", "left_click_drag", "right_click"),
                    *("middle_click", "double_click", "triple_click", "screenshot", "scroll"),
                    *("cursor_position", "left_mouse_down", "left_mouse_up", "hold_key", "wait"),
                ],
            },
            "coordinate": _POINT,
            "start_coordinate": _POINT,
            "text": {**_TEXT, "description": "What to type, or the keys to press"},
            "duration": {"type": "number", "description": "Seconds to hold or to wait"},
            "scroll_direction": {"type": "string", "enum": ["up", "down", "left", "right"]},
            "scroll_amount": {"type": "integer"},
        },
        ("action",),
    ),
)
"""Tools that the client runs and whose schemas only Anthropic's models know: the start of the type,
a description, the properties of the input as Anthropic documents them, and the required ones."""


def with_own_schema(tool: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A tool that Anthropic defines and the client runs, as a custom tool with a schema.

    `None` for any other tool.
    """
    if is_custom(tool) or is_server_tool(tool):
        return None
    for start, description, properties, required in _DEFINED:
        if kind_of(tool).startswith(start):
            width, height = tool.get("display_width_px"), tool.get("display_height_px")
            if isinstance(width, int) and isinstance(height, int):
                description += f" The screen has {width} by {height} pixels."
            schema = {"type": "object", "properties": properties, "required": list(required)}
            named = {key: tool[key] for key in ("defer_loading",) if key in tool}
            name = string(tool, "name")
            return {"name": name, "description": description, "input_schema": schema, **named}
    return None


def only_server_tools(body: Body) -> list[Mapping[str, Any]]:
    """The tools of a request that asks for nothing but tools that Anthropic runs.

    Claude Code makes such a request for every web search.
    """
    tools = objects_in(body.get("tools"))
    return list(tools) if tools and all(map(is_server_tool, tools)) else []


def tool_changes(body: Body) -> Iterator[Mapping[str, Any]]:
    """The blocks of a conversation that add or remove a tool, in order."""
    for message in objects_in(body.messages):
        content = message.get("content")
        # Every request is searched; calling `blocks_of` for each message would take longer.
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and kind_of(block) in TOOL_CHANGES:
                yield block


def changed_tool(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tool that a block adds or removes: its definition, or a reference to it by name."""
    tool = block.get("tool")
    if not isinstance(tool, dict):
        return {}
    definition = tool.get("definition")
    return definition if isinstance(definition, dict) else tool


def tools_after_changes(body: Body) -> list[Any]:
    """The tools as the conversation leaves them, with the definition that was given last.

    A reference to a declared tool loads it; one to an unknown tool adds nothing.
    """
    given = body.get("tools")
    tools: list[Any] = list(given) if isinstance(given, list) else []
    declared = {name: tool for tool in reversed(tools) if (name := string(tool, "name"))}
    for block in tool_changes(body):
        tool = changed_tool(block)
        name = string(tool, "name")
        others = [each for each in tools if string(each, "name") != name]
        if not name:
            continue
        if kind_of(block) == "tool_removal":
            tools = others
        elif tool is not block.get("tool"):
            tools = [*others, tool]
        elif name in declared:
            loaded = {key: value for key, value in declared[name].items() if key != "defer_loading"}
            is_there = len(others) < len(tools)
            tools = (
                [loaded if string(each, "name") == name else each for each in tools]
                if is_there
                else [*tools, loaded]
            )
    return tools


def has_deferred(body: Body) -> bool:
    """Whether a tool is loaded only when a search finds it, or a search found one."""
    return has(body, _DEFERRED) or any(_has_reference(block) for _, block in places(body.messages))


def with_all_loaded(body: Body) -> Body:
    """The body with all tools loaded, and words for the references that a search returned."""

    def without_placeholder(tool: Any, raw: msgspec.Raw) -> msgspec.Raw | None:
        return None if string(tool, "name") == PLACEHOLDER else raw

    def with_notes(message: Any, raw: msgspec.Raw) -> msgspec.Raw:
        content = message.get("content") if isinstance(message, dict) else None
        blocks = content if isinstance(content, list) else []
        if not any(map(_has_reference, blocks)):
            return raw
        return raw_with_content(
            raw,
            lambda raws: [
                raw_with_members(one, content=list(map(_as_note, block["content"])))
                if _has_reference(block)
                else one
                for block, one in zip(blocks, raws, strict=True)
            ],
        )

    body = map_items(body, "tools", without_placeholder)
    body, _ = without(body, _DEFERRED)
    return map_items(body, "messages", with_notes)


def _has_reference(block: Any) -> bool:
    content = block.get("content") if kind_of(block) == "tool_result" else None
    return isinstance(content, list) and any(kind_of(each) == "tool_reference" for each in content)


def _as_note(block: Any) -> Any:
    if kind_of(block) != "tool_reference":
        return block
    return text_block(available_note(block.get("tool_name")))


def called_names(body: Body) -> frozenset[str]:
    """The names of the tools that the conversation has called or found, or that must be called."""
    found = {string(body.get("tool_choice"), "name")}
    for _, block in places(body.messages):
        if kind_of(block) == "tool_use":
            found.add(string(block, "name"))
        elif kind_of(block) == "tool_result":
            found.update(string(each, "tool_name") for each in objects_in(block.get("content")))
    return frozenset(found - {""})


def with_at_most_tools(body: Body, most: int) -> Body:
    """The body with at most so many tools, in their order: those that the conversation uses, and
    the first of the others."""
    tools = body.get("tools")
    if not isinstance(tools, list) or len(tools) <= most:
        return body
    used = called_names(body)
    wanted = sorted(range(len(tools)), key=lambda index: string(tools[index], "name") not in used)
    kept = sorted(wanted[:most])
    return body.with_items("tools", [tools[index] for index in kept])


def with_short_descriptions(body: Body, longest: int) -> Body:
    """The body with no description of a tool, or of a part of its input, over this length."""

    def shorten(tool: Any) -> Any:
        if not isinstance(tool, dict):
            return tool
        made = _shorten_description(tool, longest)
        schema = tool.get("input_schema")
        shorter = rewrite(schema, lambda part: _shorten_description(part, longest))
        return made if shorter is schema else {**made, "input_schema": shorter}

    tools = body.get("tools")
    made = list(map(shorten, tools)) if isinstance(tools, list) else []
    if not made or is_same(made, tools):
        return body
    return body.with_items("tools", made)


def _shorten_description(part: dict[str, Any], longest: int) -> dict[str, Any]:
    """A part with its description cut after the last sentence or line that fits."""
    description = string(part, "description")
    if len(description) <= longest:
        return part
    cut = description[: longest - 1]
    end = max(cut.rfind("\n"), cut.rfind(". ") + 1, longest // 2)
    return {**part, "description": cut[:end].rstrip() if end > longest // 2 else cut + "…"}


class ToolNames:
    """The client's and the provider's names of the tools of one request."""

    __slots__ = ("_longest", "_to_client", "_to_provider")

    def __init__(self, names: Iterable[str], longest: int = LONGEST_NAME) -> None:
        self._longest = longest
        distinct = dict.fromkeys(names)
        # A valid name is kept, even if an invalid one before it would be changed to the same.
        self._to_client = {name: name for name in distinct if self._is_valid(name)}
        self._to_provider = dict(self._to_client)
        for name in distinct:
            if name not in self._to_provider:
                fitting = self._fitting(name)
                self._to_provider[name] = fitting
                self._to_client[fitting] = name

    @classmethod
    def of(cls, body: Body, longest: int = LONGEST_NAME) -> "ToolNames":
        """The names of the tools of a client's request."""
        return cls(_declared_names(body), longest)

    def to_provider(self, name: str) -> str:
        """A name that every provider takes."""
        known = self._to_provider.get(name)
        # A call in the history may be of a tool that is no longer there.
        return known if known is not None else self._fitting(name)

    def to_client(self, name: str) -> str:
        """The client's name for a tool. A name that the client does not have is put right.

        Some models write marks of their own format into a name: `Bash<|channel|>commentary`,
        `functions.Bash`. Whatever name comes out is one that Anthropic takes in the next request.
        """
        known = self._known_name(name)
        if known is not None:
            return known
        plain = _COUNTER.sub("", name.partition("<|")[0].strip())
        found = self._known_name(plain) or self._known_name(_NAMESPACE.sub("", plain))
        if found is not None:
            return found
        return BAD_LETTER.sub("_", _NAMESPACE.sub("", plain))[:LONGEST_CLIENT_NAME] or "unnamed"

    def _known_name(self, name: str) -> str | None:
        if name in self._to_provider:
            return name
        return self._to_client.get(name)

    def _is_valid(self, name: str) -> bool:
        return len(name) <= self._longest and _NAME.fullmatch(name) is not None

    def _fitting(self, name: str) -> str:
        """A valid name for `name` that no other tool has."""
        taken, longest = self._to_client, self._longest
        plain = BAD_LETTER.sub("_", name) or "unnamed"
        if not plain[0].isalpha() and plain[0] != "_":
            # Moonshot and Gemini refuse names that begin with a digit.
            plain = f"t_{plain}"
        if len(plain) <= longest and plain not in taken:
            return plain
        hashed = digest(name)
        for size in range(8, longest, 8):
            fitting = f"{plain[: longest - 1 - size]}_{hashed[:size]}"
            if fitting not in taken:
                return fitting
        return f"_{hashed[: longest - 1]}"


def _declared_names(body: Body) -> Iterable[str]:
    """The names of all tools of a request, those that its conversation adds included."""
    added = (block for block in tool_changes(body) if kind_of(block) == "tool_addition")
    tools = [*objects_in(body.get("tools")), *map(changed_tool, added)]
    return filter(None, (string(tool, "name") for tool in tools))


def alphanumerics(text: str, size: int) -> str:
    """As many letters and digits as `size` says, the same for the same text."""
    number = int(digest(text), 16)
    letters: list[str] = []
    for _ in range(size):
        number, index = divmod(number, len(_ALPHANUMERICS))
        letters.append(_ALPHANUMERICS[index])
    return "".join(letters)


def digest(text: str) -> str:
    """64 hexadecimal digits, the same for the same text."""
    return sha256(text.encode(errors="surrogatepass")).hexdigest()
