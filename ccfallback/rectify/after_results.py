"""What the user says after a tool's result, where a provider takes nothing but an answer there.

It is said as a part of the last result. A picture can't be: it would have to follow the result.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.inline_system import folded
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import (
    Block,
    blocks_of,
    counted,
    kind_of,
    messages_of,
    role_of,
    summed,
    text,
    with_blocks,
    with_messages,
    word,
)

_TRIGGER: Final = re.compile(r"unexpected role (?:user|system) after role tool\b")
_LESSON: Final = "unexpected role 'user' after role 'tool'"


class _AfterResults:
    name = "after_results"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Nothing but an answer follows a tool's result."""
        if not _TRIGGER.search(refusal.text):
            return None
        folds = sum(role_of(message) == "system" for message in messages_of(draft))
        draft = settled(draft, folded(draft.body)) if folds else draft
        messages = messages_of(draft)
        made: list[Any] = []
        moved = omitted = index = 0
        while index < len(messages):
            first = index
            index += 1
            results = _results(messages[first])
            if role_of(messages[first]) != "user" or not results:
                made.append(messages[first])
                continue
            while index < len(messages) and role_of(messages[index]) == "user":
                results += _results(messages[index])
                index += 1
            turn = messages[first:index]
            said = _said(turn)
            plain = [_plain(result) for result in results]
            lost = sum(new is not old for new, old in zip(plain, results, strict=True))
            if not said and not lost and len(turn) == 1:
                made.append(messages[first])
                continue
            moved += len(said)
            omitted += lost
            plain[-1] = _saying(plain[-1], said)
            made.append(with_blocks(messages[first], plain))
        if not moved and not omitted:
            return None
        changed = summed(
            counted(folds, "system message", "told by the user"),
            counted(moved, "text", "moved into tool results"),
            counted(omitted, "tool result", "left without pictures"),
        )
        return Repaired(with_messages(draft, made), changed, _LESSON)


def _is_result(block: object) -> bool:
    return kind_of(block) == "tool_result"


def _results(message: object) -> list[Block]:
    return [block for block in blocks_of(message) if _is_result(block)]


def _said(turn: Sequence[Any]) -> list[Block]:
    """What is said in a turn besides the results."""
    said: list[Block] = []
    for message in turn:
        for block in blocks_of(message):
            if _is_result(block):
                continue
            words = word(block, "text") if kind_of(block) == "text" else _note(block)
            if words.strip():
                said.append(text(words))
    return said


def _note(block: object) -> str:
    kind = kind_of(block)
    return f"[{kind} omitted]" if kind in ("image", "document") else ""


def _plain(result: Block) -> Block:
    """A result of which everything is text; the very same where it is."""
    content = blocks_of(result)
    if not any(map(_note, content)):
        return result
    return with_blocks(result, [text(_note(each)) if _note(each) else each for each in content])


def _saying(result: Block, said: Sequence[Block]) -> Block:
    return with_blocks(result, [*blocks_of(result), *said]) if said else result


AFTER_RESULTS: Final[Rectifier] = _AfterResults()
