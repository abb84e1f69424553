"""Which tools a request has for the provider, and which of them the model has to call.

Only what the client runs itself can be asked of another model: Anthropic's own tools stay
behind, and so does a tool that is not loaded yet.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.messages.tools import ToolNames
from ccfallback.wire.openai.content import Block, blocks_of, said
from ccfallback.wire.openai.schemas import is_strict, parameters_of

Tool = Mapping[str, Any]

_SERVER: Final = re.compile(
    r"(?:web_search|web_fetch|code_execution|tool_search_tool|advisor|mcp_toolset)(?:_|$)"
)

_CHOICES: Final[Mapping[str, str]] = {"auto": "auto", "any": "required", "none": "none"}


def tools_of(body: Body) -> list[Tool]:
    """The tools of the client's request that another model may call, as the client named them."""
    known: dict[str, Tool] = {}
    for tool in _objects(body.get("tools")):
        if _name(tool) and _is_custom(tool):
            known.setdefault(_name(tool), tool)
    tools = dict(known)
    history = _objects(body.get("messages"))
    asleep = {name for name, tool in tools.items() if tool.get("defer_loading") is True}
    for block in _changes(history):
        changed = _definition(block.get("tool"))
        name = _name(changed)
        if block.get("type") == "tool_removal":
            tools.pop(name, None)
        elif name in known:
            tools.setdefault(name, known[name])
            asleep.discard(name)
        elif name and "input_schema" in changed and _is_custom(changed):
            tools.setdefault(name, changed)
    if asleep:
        asleep -= {_name(body.get("tool_choice")), *_used(history)}
    return [tool for name, tool in tools.items() if name not in asleep]


def functions_of(tools: Iterable[Tool], names: ToolNames, quirks: Quirks) -> list[dict[str, Any]]:
    """The tools in the other format."""
    return [
        {"type": "function", "function": _function(tool, names, quirks.schema)} for tool in tools
    ]


def choice_of(
    choice: object, tools: Iterable[Tool], names: ToolNames, quirks: Quirks
) -> dict[str, Any]:
    """The members of a request that say which tool to call; only for one that has tools."""
    if not isinstance(choice, dict):
        return {}
    made: dict[str, Any] = {}
    kind, name = said(choice.get("type")), said(choice.get("name"))
    if kind == "tool":
        is_there = quirks.tool_choice_required and any(tool["name"] == name for tool in tools)
        function = {"type": "function", "function": {"name": names.to_provider(name)}}
        made["tool_choice"] = function if is_there else "auto"
    elif kind in _CHOICES:
        refused = kind == "any" and not quirks.tool_choice_required
        made["tool_choice"] = "auto" if refused else _CHOICES[kind]
    if choice.get("disable_parallel_tool_use") is True and quirks.parallel_tool_calls:
        made["parallel_tool_calls"] = False
    return made


def forces_server_tool(body: Body, tools: list[Tool]) -> bool:
    """Whether the answer has to be a call that only Anthropic can make."""
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return False
    asked = [tool for tool in _objects(body.get("tools")) if _is_server(tool)]
    if choice.get("type") == "any":
        return bool(asked) and not tools
    return choice.get("type") == "tool" and any(
        _name(tool) == said(choice.get("name")) for tool in asked
    )


def _function(tool: Tool, names: ToolNames, dialect: str) -> dict[str, Any]:
    function: dict[str, Any] = {"name": names.to_provider(tool["name"])}
    description = said(tool.get("description"))
    if description:
        function["description"] = description
    function["parameters"] = parameters_of(tool.get("input_schema"), dialect)
    if tool.get("strict") is True and dialect == "openai" and is_strict(function["parameters"]):
        function["strict"] = True
    return function


def _is_custom(tool: Tool) -> bool:
    kind = tool.get("type")
    return kind in (None, "custom") or (
        isinstance(tool.get("input_schema"), dict) and not _is_server(tool)
    )


def _is_server(tool: Tool) -> bool:
    return _SERVER.match(said(tool.get("type"))) is not None


def _changes(history: list[Block]) -> Iterator[Block]:
    """Tools that came and went in the course of the conversation."""
    for message in history:
        if message.get("role") == "system":
            for block in blocks_of(message.get("content")):
                if block.get("type") in ("tool_addition", "tool_removal"):
                    yield block


def _used(history: list[Block]) -> Iterator[str]:
    """The names of tools that the conversation has loaded or called."""
    for message in history:
        for block in blocks_of(message.get("content")):
            if block.get("type") == "tool_use":
                yield _name(block)
            elif block.get("type") == "tool_result":
                for item in blocks_of(block.get("content")):
                    if item.get("type") == "tool_reference":
                        yield said(item.get("tool_name"))


def _definition(tool: object) -> Tool:
    """The tool that came or went: its definition, or a reference to one by name."""
    if not isinstance(tool, dict):
        return {}
    definition = tool.get("definition")
    return definition if isinstance(definition, dict) else tool


def _name(tool: object) -> str:
    return said(tool.get("name")) if isinstance(tool, dict) else ""


def _objects(value: object) -> list[Block]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
