"""Kinds of blocks that a provider does not know: said in words where they say something, or gone.

What Anthropic's own tools did is of no use to whoever can't read it.
"""

import re
from typing import Any, Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.deferred_tools import has_deferred, loaded
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import (
    Block,
    blocks_of,
    counted,
    kind_of,
    mapped,
    mapped_messages,
    messages_of,
    places,
    text,
    with_messages,
    word,
)
from ccfallback.rectify.turns import settled as filled

_UNKNOWN: Final = re.compile(
    r"input tag (?P<tag>[a-z_]+) found using type does not match any of the expected tags"
    r"|unknown variant (?P<variant>[a-z_]+), expected"
    # vLLM says no kind; of what the client sends this is the one that it does not know.
    r"|(?P<nameless>unexpected item type in content)"
)

_REFERENCE: Final = "tool_reference"
_FOUND: Final = "search_result"

_SERVER: Final = frozenset({"server_tool_use", "mcp_tool_use", "mcp_tool_listing"})
_LOST: Final = frozenset({"container_upload", "fallback", "connector_text"})
"""Kinds of which nothing is left where they are not known."""


class _BlockTypes:
    name = "block_types"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Every block is of a kind that the provider knows."""
        found = _UNKNOWN.search(refusal.text)
        if not found:
            return None
        kind = _REFERENCE if found["nameless"] else found["tag"] or found["variant"]
        lesson = f"input tag '{kind}' found using 'type' does not match any of the expected tags"
        if kind == _REFERENCE:
            if not has_deferred(draft.body):
                return None
            made = settled(draft, loaded(draft.body))
            return Repaired(made, "deferred tools loaded, references said in words", lesson)
        if not (kind == _FOUND or kind in _LOST or _is_server(kind)):
            return None
        messages = messages_of(draft)
        changed = mapped_messages(messages, lambda block: _known(block, kind))
        count = sum(_is_unknown(block, kind) for _, block in places(messages))
        if all(new is old for new, old in zip(changed, messages, strict=True)):
            return None
        told = counted(count, "block", "of an unknown kind removed")
        return Repaired(
            with_messages(draft, filled(changed)), told or "search results said in words", lesson
        )


def _is_server(kind: str) -> bool:
    return kind in _SERVER or (kind.endswith("_tool_result") and kind != "tool_result")


def _is_unknown(block: Block, kind: str) -> bool:
    """Whether a block goes: calls and results of Anthropic's tools go together."""
    own = kind_of(block)
    return own in _LOST if kind in _LOST else _is_server(kind) and _is_server(own)


def _known(block: Block, kind: str) -> Block | None:
    if _is_unknown(block, kind):
        return None
    if kind != _FOUND:
        return block
    if kind_of(block) == "tool_result":
        content = block.get("content")
        new = mapped(content, _in_words)
        return block if new is content else {**block, "content": new}
    return _in_words(block)


def _in_words(block: Block) -> Block:
    """What was found, as a text."""
    if kind_of(block) != _FOUND:
        return block
    said = [word(each, "text") for each in blocks_of(block) if kind_of(each) == "text"]
    parts: list[Any] = [word(block, "title"), word(block, "source"), *said]
    new = text("\n\n".join(filter(str.strip, parts)) or "[search result]")
    return {**new, "cache_control": mark} if (mark := block.get("cache_control")) else new


BLOCK_TYPES: Final[Rectifier] = _BlockTypes()
