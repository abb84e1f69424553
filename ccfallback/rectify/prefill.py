"""An answer begun by the client: not every model goes on with one, and none with a space last."""

import re
from collections.abc import Sequence
from typing import Any, Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.inline_system import folded
from ccfallback.rectify.pairs import paired
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import (
    blocks_of,
    counted,
    kind_of,
    messages_of,
    role_of,
    summed,
    text,
    user,
    with_blocks,
    with_messages,
    word,
)
from ccfallback.rectify.turns import settled as filled

_SPACE: Final = re.compile(r"final assistant content cannot end with trailing whitespace")
_REFUSED: Final = re.compile(
    r"does not support (?:assistant message )?prefill"
    r"|pre-?filling (?:\w+ ){0,4}(?:is )?not supported"
    r"|conversation must end with a user message"
    r"|conversation that ends with a user message"
    r"|last message (?:of \S+ )?must (?:be|have|come from) .{0,20}\buser\b"
    r"|expected (?:the )?last role (?:to be )?user"
    r"|when the last message is from the assistant"
)
_LESSON: Final = "this model does not support assistant message prefill"

CONTINUE: Final = "Continue."

_OPENING: Final = re.compile(r"[^\s.!?]{1,12}")
"""The beginning of a form rather than of an answer: `{`, `<json>`. The model finds it again."""


class _Prefill:
    name = "prefill"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """The conversation ends with the user, or with an answer that can be gone on with."""
        messages = messages_of(draft)
        index = _final(messages)
        if _SPACE.search(refusal.text):
            return _without_last_space(draft, messages, index) if index >= 0 else None
        if not _REFUSED.search(refusal.text):
            return None
        changed = "" if index < 0 else "asked to continue the answer"
        if index >= 0 and _is_opening(messages[index]):
            without = _cut(messages, index)
            if _final(without) < 0:
                messages, changed = without, counted(1, "begun answer", "removed")
                index = -1
        if index >= 0:
            messages = _continued(messages, index)
        draft = with_messages(draft, messages) if changed else draft
        if messages and role_of(messages[-1]) == "system":
            # To whoever asks for the user at the end that is not the user.
            count = sum(role_of(message) == "system" for message in messages)
            changed = summed(changed, counted(count, "system message", "told by the user"))
            draft = settled(draft, folded(draft.body))
        return Repaired(draft, changed, _LESSON) if changed and messages_of(draft) else None


def _continued(messages: Sequence[Any], index: int) -> list[Any]:
    """The messages with the user asking for more of this one."""
    made = [*messages[: index + 1], user(text(CONTINUE)), *messages[index + 1 :]]
    # A call at the end wants its result in the same turn.
    if any(kind_of(block) == "tool_use" for block in blocks_of(messages[index])):
        return paired(made).messages
    return made


def _final(messages: Sequence[Any]) -> int:
    """Where the answer is that the conversation ends with; -1 where the user has the last word."""
    for index in range(len(messages) - 1, -1, -1):
        role = role_of(messages[index])
        if role != "system":
            return index if role == "assistant" else -1
    return -1


def _cut(messages: Sequence[Any], index: int) -> list[Any]:
    """The messages without this one; as they are where nobody else says anything."""
    without = [*messages[:index], *messages[index + 1 :]]
    return without if any(role_of(message) == "user" for message in without) else list(messages)


def _is_opening(message: Any) -> bool:
    blocks = blocks_of(message)
    if any(kind_of(block) != "text" for block in blocks):
        return False
    return bool(_OPENING.fullmatch("".join(word(block, "text") for block in blocks).strip()))


def _without_last_space(
    draft: RequestDraft, messages: Sequence[Any], index: int
) -> Repaired | None:
    message = messages[index]
    blocks = list(blocks_of(message))
    while blocks and kind_of(blocks[-1]) == "text":
        said = word(blocks[-1], "text")
        if said.strip():
            blocks[-1] = {**blocks[-1], "text": said.rstrip()}
            break
        blocks.pop()
    if blocks == blocks_of(message) and (blocks or message.get("content") == []):
        return None
    made = [*messages[:index], with_blocks(message, blocks), *messages[index + 1 :]]
    return Repaired(with_messages(draft, filled(made)), "space at the end removed")


PREFILL: Final[Rectifier] = _Prefill()
