"""Results of tools as messages of the role `tool`, which may hold text only."""

from dataclasses import dataclass, field
from typing import Any, Final

from ccfallback.config.quirks import Quirks
from ccfallback.wire.openai.content import (
    Block,
    Part,
    blocks_of,
    is_text,
    marked,
    note_of,
    parts_of,
    said,
    text_part,
)

NO_RESULT: Final = "[no result]"
"""Stands for a result that never came: a call without one is refused."""

_NO_OUTPUT: Final = "(no output)"

_NOUNS: Final = {"image_url": "image", "file": "document"}


@dataclass(slots=True)
class Attachments:
    """What results bring along beside text: it follows in the user message after them."""

    parts: list[Part] = field(default_factory=list)
    count: int = 0

    def take(self, part: Part, source: str) -> str:
        """Keep a part for later; what the result says in its place."""
        self.count += 1
        what = f"{_NOUNS[part['type']]} {self.count}"
        self.parts += [text_part(f"[{what} of {source}]"), part]
        return f"[{what} attached below]"


def id_of(block: Block) -> str:
    """The id of the call that a result belongs to."""
    return said(block.get("tool_use_id"))


def result_message(
    block: Block, tool_id: str, source: str, quirks: Quirks, attachments: Attachments
) -> dict[str, Any]:
    """The message that answers one call."""
    text = result_text(block, source, quirks, attachments)
    part = marked(text_part(text), block)
    marks = quirks.cache_control and "cache_control" in part
    return {"role": "tool", "tool_call_id": tool_id, "content": [part] if marks else text}


def result_text(block: Block, source: str, quirks: Quirks, attachments: Attachments) -> str:
    """What a result says, with notes for what is attached."""
    lines: list[str] = []
    for part in parts_of(blocks_of(block.get("content")), quirks):
        if is_text(part):
            lines.append(part["text"])
        elif quirks.user_after_tool:
            lines.append(attachments.take(part, source))
        else:
            lines.append(note_of(part))
    text = "\n".join(lines) or _NO_OUTPUT
    if block.get("is_error") is True and not text.lower().startswith("error"):
        return f"Error: {text}"
    return text


def append(message: dict[str, Any], parts: list[Part]) -> None:
    """Let a tool message say more, where no user message may follow it."""
    texts = [part["text"] if is_text(part) else note_of(part) for part in parts]
    content = message["content"]
    if isinstance(content, list):
        content += [text_part(text) for text in texts]
    else:
        message["content"] = "\n\n".join([content, *texts])
