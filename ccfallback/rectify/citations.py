"""Citations in what the user says, and documents in what the assistant says.

Newer versions of the API take neither; the text of both is worth keeping.
"""

import re
from typing import Any, Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import (
    Block,
    blocks_of,
    counted,
    kind_of,
    mapped,
    messages_of,
    role_of,
    summed,
    text,
    with_messages,
    word,
)

_REFUSED: Final = (
    r"(?:not (?:be )?(?:allowed|permitted|supported)|unsupported|(?:can|may|must) ?not|only)"
)
_TRIGGER: Final = re.compile(
    rf"\bcitations?\b.{{0,80}}{_REFUSED}.{{0,80}}\b(?:user|text)\b"
    rf"|\bcitations?\b.{{0,80}}\b(?:user|text)\b.{{0,80}}{_REFUSED}"
    rf"|\bdocument\b.{{0,80}}{_REFUSED}.{{0,80}}\b(?:assistant|user)\b"
    rf"|\bdocument\b.{{0,80}}\bassistant\b.{{0,80}}{_REFUSED}"
)
_UNKNOWN: Final = "extra inputs are not permitted"
"""A field that is unknown is another matter, and another rectifier's."""
_LESSON: Final = "citations in user text and documents in assistant messages are not permitted"


class _Citations:
    name = "citations"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Texts of the user cite nothing, and the assistant has no documents."""
        if _UNKNOWN in refusal.text or not _TRIGGER.search(refusal.text):
            return None
        cited = told = 0
        made: list[Any] = []
        for message in messages_of(draft):
            content = message.get("content") if isinstance(message, dict) else None
            new = content
            if role_of(message) == "user":
                new = mapped(content, _uncited)
                cited += new is not content
            elif role_of(message) == "assistant":
                new = mapped(content, _told)
                told += new is not content
            made.append(message if new is content else {**message, "content": new})
        changed = summed(
            counted(cited, "user message", "left without citations"),
            counted(told, "assistant message", "with documents turned into text"),
        )
        return Repaired(with_messages(draft, made), changed, _LESSON) if changed else None


def _uncited(block: Block) -> Block:
    if kind_of(block) != "text" or not block.get("citations"):
        return block
    return {key: value for key, value in block.items() if key != "citations"}


def _told(block: Block) -> Block:
    """A document as the text that it is; as a note where it is none."""
    if kind_of(block) != "document":
        return block
    source = block.get("source")
    said = [word(each, "text") for each in blocks_of(source) if kind_of(each) == "text"]
    if word(source, "type") == "text":
        said.append(word(source, "data"))
    title = word(block, "title")
    words = "\n\n".join(filter(str.strip, [title, word(block, "context"), *said]))
    if not any(map(str.strip, said)):
        words = f"[document omitted: {title}]" if title.strip() else "[document omitted]"
    new = text(words)
    return {**new, "cache_control": mark} if (mark := block.get("cache_control")) else new


CITATIONS: Final[Rectifier] = _Citations()
