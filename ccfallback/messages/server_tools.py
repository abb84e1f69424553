"""Tools that Anthropic ran: what a conversation says of them, for providers that lack them.

Their calls and results become words in the assistant's message, so that the model knows what was
found.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ccfallback.messages.tools import available_note
from ccfallback.messages.turns import (
    blocks_of,
    is_server_result,
    kind_of,
    not_blank,
    objects_in,
    string,
    text_block,
)

Block = Mapping[str, Any]

_MCP: Final = frozenset({"mcp_tool_use", "mcp_tool_result", "mcp_tool_listing"})
_CITATION: Final = "web_search_result_location"
"""The type of a citation that points into the results of a search."""


def in_words(kinds: tuple[str, ...]) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    """A function that puts the blocks of some server tools into words, and leaves all others.

    `kinds` are the beginnings of the types of these tools, such as `web_search`. The function
    returns `None` for a block that has nothing to say.
    """
    stems = tuple(kind.removesuffix("_toolset") for kind in kinds)

    def change(block: dict[str, Any]) -> dict[str, Any] | None:
        if _tool_of(block).startswith(stems):
            words = server_tool_words(block)
            return text_block(words, like=block) if words else None
        if "citations" in block and kind_of(block) == "text" and "web_search" in stems:
            return _without_search_citations(block)
        return block

    return change


def _tool_of(block: Block) -> str:
    """The name of the server tool that a block belongs to; empty if it belongs to none."""
    kind = kind_of(block)
    if kind in _MCP:
        return "mcp"
    name = string(block, "name") if kind == "server_tool_use" else ""
    if is_server_result(block):
        name = kind
    # One tool has a call and a result of its own for each of its parts.
    return name.removeprefix("bash_").removeprefix("text_editor_")


def _without_search_citations(block: dict[str, Any]) -> dict[str, Any]:
    citations = block["citations"]
    kept = [each for each in objects_in(citations) if kind_of(each) != _CITATION]
    if not isinstance(citations, list) or len(kept) == len(citations):
        return block
    rest = {key: value for key, value in block.items() if key != "citations"}
    return {**rest, "citations": kept} if kept else rest


def server_tool_words(block: Block) -> str:
    """The call or result of a tool that Anthropic ran in words; empty for any other block."""
    kind, name = kind_of(block), not_blank(block.get("name"))
    if kind == "server_tool_use":
        return _call_words(name, block)
    if kind == "mcp_tool_use":
        return _call_words(
            ".".join(filter(None, (not_blank(block.get("server_name")), name))), block
        )
    if not kind.endswith("_tool_result"):
        return ""
    content = block.get("content")
    items = [content] if isinstance(content, dict) else blocks_of(content)
    lines = [line for item in items for line in _result_lines(item)]
    if block.get("is_error") is True:
        lines.insert(0, "Error:")
    return "\n".join([f"[{kind.removesuffix('_tool_result')} result]", *lines])


def _call_words(name: str, block: Block) -> str:
    given = block.get("input")
    tool_input = given if isinstance(given, dict) else {}
    brief = not_blank(tool_input.get("query")) or not_blank(tool_input.get("url"))
    words = (
        f'"{brief}"' if brief else msgspec.json.encode(tool_input).decode() if tool_input else ""
    )
    return f"[{' '.join(filter(None, (name or 'tool', words)))}]"


def _result_lines(item: Block) -> list[str]:
    """What can be read in one result: a page found, a text, the output of a program."""
    title, url = not_blank(item.get("title")), not_blank(item.get("url"))
    found = [f"- {title} ({url})" if title and url else f"- {title or url}"] if title or url else []
    readable = ("text", "stdout", "stderr", "error_code", "content")
    found += [text for key in readable if (text := not_blank(item.get(key)))]
    page = item.get("content")
    if isinstance(page, dict):
        # The page of a fetch is a document.
        source = page.get("source")
        found += filter(
            None,
            (
                not_blank(page.get("title")),
                not_blank(source.get("data") if isinstance(source, dict) else ""),
            ),
        )
    references = objects_in(item.get("tool_references"))
    found += [available_note(each.get("tool_name")) for each in references]
    if item.get("return_code"):
        found.append(f"return code {item['return_code']}")
    return found
