"""Tools that are loaded only when the model has found them, for those who load all at once."""

from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.rectify.parts import (
    ANY,
    blocks_of,
    has,
    kind_of,
    messages_of,
    with_content,
    with_list,
    with_members,
    without,
)

PLACEHOLDER: Final = "DeferredToolPlaceholder"
"""The client's stand-in for tools that are not loaded; it means nothing without the search."""

_DEFERRED: Final = ("tools", ANY, "defer_loading")
_RESULTS: Final = "tool_result"
_REFERENCE: Final = "tool_reference"


def has_deferred(body: Body) -> bool:
    """Whether a tool is not loaded, or one was found by a search."""
    return has(body, _DEFERRED) or any(
        _has_reference(block) for message in messages_of(body) for block in blocks_of(message)
    )


def loaded(body: Body) -> Body:
    """A body in which all tools are loaded, and what a search found is said in words."""
    body = with_list(body, "tools", _without_placeholder)
    body, _ = without(body, _DEFERRED)
    return with_list(body, "messages", _with_words)


def _without_placeholder(tool: Any, raw: msgspec.Raw) -> msgspec.Raw | None:
    is_placeholder = isinstance(tool, dict) and tool.get("name") == PLACEHOLDER
    return None if is_placeholder else raw


def _with_words(message: Any, raw: msgspec.Raw) -> msgspec.Raw:
    blocks = blocks_of(message)
    if not any(map(_has_reference, blocks)):
        return raw
    return with_content(
        raw,
        lambda raws: [
            with_members(one, content=list(map(_in_words, block["content"])))
            if _has_reference(block)
            else one
            for block, one in zip(blocks, raws, strict=True)
        ],
    )


def _has_reference(block: object) -> bool:
    return kind_of(block) == _RESULTS and any(
        kind_of(inner) == _REFERENCE for inner in blocks_of(block)
    )


def _in_words(block: Any) -> Any:
    if kind_of(block) != _REFERENCE:
        return block
    name = block.get("tool_name")
    said = f"Tool {name} is available now." if isinstance(name, str) else "A tool was found."
    return {"type": "text", "text": said}
