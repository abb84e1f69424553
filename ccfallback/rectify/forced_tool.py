"""A choice of tool that a model can't be held to, or not while it thinks.

Thinking gives way first: whoever forces a tool needs its call.
"""

import re
from typing import Any, Final

from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.parts import (
    blocks_of,
    messages_of,
    raw_messages,
    role_of,
    with_content,
    with_members,
    with_messages,
)
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.thinking_parts import forces_tool, thinking_of, without_clearing

_WHILE_THINKING: Final = re.compile(
    r"thinking may not be enabled when tool_choice forces tool use"
    r"|\btool_choice\b.{0,80}(?:incompatible|not (?:compatible|supported?|allowed)|cannot|conflict)"
    r".{0,60}\bthinking"
    r"|\bthinking\b.{0,60}(?:incompatible|not (?:compatible|supported?|allowed)|cannot|conflict)"
    r".{0,60}\btool_choice\b"
)
_AT_ALL: Final = re.compile(
    r"\btool_choice\b.{0,60}(?:not supported|unsupported|only (?:supports? )?auto|not support)"
    r"|(?:unsupported (?:parameter|value)|does not support):? tool_choice\b"
)
_ENABLED: Final = "thinking may not be enabled when tool_choice forces tool use"
_INCOMPATIBLE: Final = "tool_choice is incompatible with thinking"
"""Of the others, who may think when nothing is said."""
_OFF: Final = {_ENABLED: (None, "disabled"), _INCOMPATIBLE: ("disabled",)}


class _ForcedTool:
    name = "forced_tool"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Let the model not think, or let it choose, and ask it for the call."""
        text = refusal.text
        if not forces_tool(draft.body):
            return None
        if _WHILE_THINKING.search(text):
            lesson = _ENABLED if _ENABLED in text else _INCOMPATIBLE
            if thinking_of(draft.body).get("type") in _OFF[lesson]:
                return None
            repaired = _without_thinking(draft, lesson)
            return Repaired(repaired, "thinking switched off", lesson)
        if not _AT_ALL.search(text):
            return None
        return Repaired(
            draft.with_body(_asking(draft.body)),
            "tool_choice changed to auto",
            "tool_choice: type tool and any are not supported for this model",
        )


def _without_thinking(draft: RequestDraft, lesson: str) -> RequestDraft:
    if lesson == _ENABLED:
        body = draft.body.without("thinking")
    else:
        body = draft.body.with_members(thinking={"type": "disabled"})
    return without_clearing(settled(draft, body))


def _asking(body: Body) -> Body:
    """A body that asks for the call in words, where a user speaks last."""
    choice = body.get("tool_choice")
    name = choice.get("name") if choice.get("type") == "tool" else None
    wanted = f"the {name} tool" if isinstance(name, str) and name else "one of the tools"
    asked: dict[str, Any] = {"type": "text", "text": f"Now call {wanted}."}
    free = {key: value for key, value in choice.items() if key != "name"}
    body = body.with_members(tool_choice={**free, "type": "auto"})
    messages, raws = messages_of(body), raw_messages(body)
    last = max(
        (index for index, message in enumerate(messages) if role_of(message) == "user"), default=-1
    )
    if last < 0:
        return body
    content = messages[last].get("content")
    if isinstance(content, str):
        said = [{"type": "text", "text": content}] if content.strip() else []
        changed = with_members(raws[last], content=[*said, asked])
    elif blocks_of(messages[last]):
        changed = with_content(raws[last], lambda blocks: [*blocks, asked])
    else:
        changed = with_members(raws[last], content=[asked])
    return with_messages(body, [*raws[:last], changed, *raws[last + 1 :]])


FORCED_TOOL: Final[Rectifier] = _ForcedTool()
