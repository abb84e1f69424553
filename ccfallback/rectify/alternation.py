"""User and assistant taking turns, the user first: some providers take nothing else.

Messages in a row become one, and what `role:"system"` messages say is said by the user.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.inline_system import folded
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import (
    SPOKEN,
    blocks_of,
    counted,
    messages_of,
    results_first,
    role_of,
    summed,
    text,
    user,
    with_blocks,
    with_messages,
)

_TURNS: Final = re.compile(
    r"roles must alternate|must alternate between user and (?:assistant|model)"
    r"|(?:does not support|do not support) successive user or assistant messages"
    r"|multiturn requests alternate between user and model"
)
_FIRST: Final = re.compile(
    r"first message must (?:use the user role|be (?:from |a )?(?:the )?user)"
    r"|conversation must start with a user message"
    r"|conversation that starts with a user message"
)
_LESSON: Final = "conversation roles must alternate"

START: Final = "(start)"


class _Alternation:
    name = "alternation"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """User and assistant take turns, and the user begins."""
        refused = refusal.text
        folds = merged = 0
        lesson = None
        made = messages_of(draft)
        if _TURNS.search(refused):
            folds = sum(role_of(message) == "system" for message in made)
            draft = settled(draft, folded(draft.body))
            made, merged = _merged(messages_of(draft))
            lesson = _LESSON
        elif not _FIRST.search(refused):
            return None
        begun = bool(made) and role_of(made[0]) in ("assistant", "system")
        if begun:
            made = [user(text(START)), *made]
        changed = summed(
            counted(folds, "system message", "told by the user"),
            counted(merged, "message", "merged with the one before"),
            counted(int(begun), "first message", "added"),
        )
        return Repaired(with_messages(draft, made), changed, lesson) if changed else None


def _merged(messages: Sequence[Any]) -> tuple[list[Any], int]:
    """Messages of which no two in a row have the same role; and how many were merged."""
    made: list[Any] = []
    count = 0
    for message in messages:
        role = role_of(message)
        if made and role in SPOKEN and role == role_of(made[-1]):
            count += 1
            blocks = [*blocks_of(made[-1]), *blocks_of(message)]
            made[-1] = with_blocks(made[-1], results_first(blocks) if role == "user" else blocks)
        else:
            made.append(message)
    return made, count


ALTERNATION: Final[Rectifier] = _Alternation()
