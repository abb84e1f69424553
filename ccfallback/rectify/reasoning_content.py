"""Assistant messages without the thinking that a provider wants back with each of them.

What the model thought is not known any more, or was never shown; that it thought is enough.
"""

import re
from typing import Any, Final

import msgspec

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.parts import (
    blocks_of,
    kind_of,
    role_of,
    with_content,
    with_list,
    with_members,
)
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

_WANTED: Final = re.compile(
    r"\b(?:reasoning_content|content\[\]\.thinking)\b.{0,60}"
    r"(?:must be passed back|is missing|is required|field required)"
    r"|missing reasoning_content field in the assistant message"
)
_OMITTED: Final = "(omitted)"
"""Neither empty nor space, because some take that for nothing."""

_THOUGHT: Final = {"type": "thinking", "thinking": _OMITTED, "signature": "omitted"}


class _ReasoningContent:
    name = "reasoning_content"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Say of each assistant message that there was some."""
        if not _WANTED.search(refusal.text):
            return None
        body = with_list(draft.body, "messages", _with_thought)
        if body is draft.body:
            return None
        return Repaired(
            draft.with_body(body),
            "omitted thinking marked in assistant messages",
            "reasoning_content in the thinking mode must be passed back",
        )


def _with_thought(message: Any, raw: msgspec.Raw) -> msgspec.Raw:
    if role_of(message) != "assistant":
        return raw
    content = message.get("content")
    if isinstance(content, str) and content:
        return with_members(raw, content=[_THOUGHT, {"type": "text", "text": content}])
    blocks = blocks_of(message)
    if not blocks or any(map(_says_something, blocks)):
        return raw
    return with_content(raw, lambda raws: [_THOUGHT, *_without_silent(blocks, raws)])


def _without_silent(blocks: list[Any], raws: list[msgspec.Raw]) -> list[msgspec.Raw]:
    pairs = zip(blocks, raws, strict=True)
    return [raw for block, raw in pairs if kind_of(block) != "thinking"]


def _says_something(block: Any) -> bool:
    text = block.get("thinking") if kind_of(block) == "thinking" else None
    return isinstance(text, str) and bool(text.strip())


REASONING_CONTENT: Final[Rectifier] = _ReasoningContent()
