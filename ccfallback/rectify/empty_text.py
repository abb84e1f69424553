"""Texts that say nothing: they go, and a cache mark on one goes to the block before it."""

import re
from typing import Any, Final

from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import (
    counted,
    kind_of,
    messages_of,
    settled,
    with_blocks,
)

_TRIGGER: Final = re.compile(
    r"text content blocks must (?:be non-empty|contain non-whitespace text)"
    r"|text content blocks? (?:cannot|can not|must not) be empty"
    r"|must have non-empty content"
    r"|cache_control cannot be set for empty text blocks"
    # Bedrock's, Moonshot's and Gemini's words.
    r"|text field in the contentblock object .{0,60} is blank"
    r"|content field in the message object .{0,60} is empty"
    r"|message at position \d+ with role \w+ must not be empty"
    r"|\bparts must not be empty|must have a text parameter"
)

_UNMARKABLE: Final = frozenset({"thinking", "redacted_thinking"})
"""Blocks that may carry no cache mark."""


class _EmptyText:
    name = "empty_text"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """No text is empty, and no message."""
        if not _TRIGGER.search(refusal.text):
            return None
        messages = messages_of(draft)
        kept = [_without_blanks(message) for message in messages]
        settled_messages = settled(kept)
        body = draft.body
        removed = sum(map(_blanks, messages)) + _blanks({"content": body.get("system")})
        empty = sum(isinstance(each, dict) and each.get("content") == [] for each in messages)
        if settled_messages != messages:
            body = body.with_items("messages", settled_messages)
        body = _with_system(body)
        if body is draft.body:
            return None
        changed = counted(removed, "empty text", "removed") or counted(
            empty, "empty message", "filled or removed"
        )
        return Repaired(draft.with_body(body), changed)


def _with_system(body: Body) -> Body:
    system = body.get("system")
    if _is_blank(system) if isinstance(system, str) else False:
        return body.without("system")
    kept = _kept(system)
    if kept is system:
        return body
    return body.with_members(system=kept) if kept else body.without("system")


def _without_blanks(message: Any) -> Any:
    """A message without empty texts; without blocks where nothing else was in it."""
    if not isinstance(message, dict):
        return message
    content = message.get("content")
    if _is_blank(content):
        return with_blocks(message, [])
    kept = _kept(content)
    return message if kept is content else {**message, "content": kept}


def _kept(content: Any, *, nested: bool = False) -> Any:
    """Content without empty texts; the very same where there are none."""
    if not isinstance(content, list):
        return content
    kept: list[Any] = []
    same = True
    for block in content:
        if kind_of(block) == "text" and _is_blank(block.get("text")):
            same = False
            _hand_over(kept, block.get("cache_control"))
            continue
        inner = block.get("content") if kind_of(block) == "tool_result" and not nested else None
        new = _kept(inner, nested=True)
        same = same and new is inner
        kept.append(block if new is inner else {**block, "content": new})
    return content if same else kept


def _hand_over(kept: list[Any], mark: Any) -> None:
    """Give a cache mark to the last block that may have one and has none."""
    if not mark:
        return
    for index in range(len(kept) - 1, -1, -1):
        block = kept[index]
        if isinstance(block, dict) and kind_of(block) not in _UNMARKABLE:
            # With a mark of its own the block already ends a cached part.
            if not block.get("cache_control"):
                kept[index] = {**block, "cache_control": mark}
            return


def _blanks(message: Any) -> int:
    """How many empty texts a message has."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return int(_is_blank(content))
    return sum(
        _blanks(block) if kind_of(block) == "tool_result" and _is_listed(block) else _is_text(block)
        for block in content
    )


def _is_listed(block: Any) -> bool:
    return isinstance(block.get("content"), list)


def _is_text(block: Any) -> bool:
    return kind_of(block) == "text" and _is_blank(block.get("text"))


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


EMPTY_TEXT: Final[Rectifier] = _EmptyText()
