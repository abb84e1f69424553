"""Ids of calls: each of one call only, and of the letters and the length that a provider takes.

A call and its result change together. The new id depends on nothing but what stands before it,
so that it is the same in every later request of the conversation.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ccfallback.messages.tools import BAD_LETTER, alphanumerics
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.pairs import claims_of
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import (
    Block,
    Place,
    counted,
    kind_of,
    messages_of,
    places,
    role_of,
    with_blocks,
    with_messages,
    word,
)

_VALID: Final = re.compile(r"[a-zA-Z0-9_-]+")

_TWICE: Final = re.compile(r"\btool_use ids must be unique|duplicate tool_?(?:use|call) ?_?ids?\b")
_LETTERS: Final = re.compile(
    r"\btool_use(?:\.|_| -> )id\b.*should match pattern(?! \^srvtoolu)"
    r"|tool ids? should match pattern \^\[a-za-z0-9_-\]"
)
_LENGTH: Final = re.compile(
    r"\btool_(?:calls?|use)(?:\b[^ ]*(?:\.| -> )|_)id\b.*(?:maximum length|at most) (\d{1,3})\b"
)
_SHORTEST: Final = 8
"""Letters below which the calls of a long conversation could not be told apart."""
_EXACT: Final = re.compile(r"must be a-z, a-z, 0-9, with a length of (\d{1,2})\b")


@dataclass(frozen=True, slots=True)
class _Form:
    """What an id has to look like."""

    valid: Callable[[str], bool]
    fitting: Callable[[str], str]
    """A valid id for any text, nearly always another one for another text."""
    lesson: str | None


class _ToolIds:
    name = "tool_ids"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Every call has a valid id of its own, and its result the same."""
        form = _form(refusal.text)
        if form is None:
            return None
        messages = messages_of(draft)
        ids = _new_ids(messages, form)
        renamed = sum(
            ids.get(place, _id_of(block)) != _id_of(block) for place, block in places(messages)
        )
        if not renamed:
            return None
        made = [_renamed(message, index, ids) for index, message in enumerate(messages)]
        changed = counted(renamed, "tool id", "rewritten")
        return Repaired(with_messages(draft, made), changed, form.lesson)


def _form(refused: str) -> _Form | None:
    exact = _EXACT.search(refused)
    if exact and int(exact[1]) >= _SHORTEST:
        size = int(exact[1])
        return _Form(
            lambda tool_id: len(tool_id) == size and tool_id.isascii() and tool_id.isalnum(),
            lambda seed: alphanumerics(seed, size),
            f"tool call id must be a-z, A-Z, 0-9, with a length of {size}",
        )
    length = _LENGTH.search(refused)
    if length and int(length[1]) >= 2 * _SHORTEST:
        size = int(length[1])
        return _Form(
            lambda tool_id: len(tool_id) <= size and bool(_VALID.fullmatch(tool_id)),
            lambda seed: f"call_{alphanumerics(seed, min(size - 5, 24))}",
            f"tool_call_id: maximum length {size}",
        )
    if _LETTERS.search(refused):
        lesson = "tool ids should match pattern '^[a-zA-Z0-9_-]+$'"
        return _Form(_is_valid, _sanitised, lesson)
    return _Form(_is_valid, _sanitised, None) if _TWICE.search(refused) else None


def _is_valid(tool_id: str) -> bool:
    return bool(_VALID.fullmatch(tool_id))


def _sanitised(tool_id: str) -> str:
    return BAD_LETTER.sub("_", tool_id) or "toolu_0"


def _new_ids(messages: Sequence[Any], form: _Form) -> dict[Place, str]:
    """The id of every call and of every result."""
    claims = claims_of(messages)
    ids: dict[Place, str] = {}
    taken: set[str] = set()
    same: dict[str, str] = {}
    for place, block in places(messages):
        if kind_of(block) != "tool_use" or role_of(messages[place[0]]) != "assistant":
            continue
        old = _id_of(block)
        ids[place] = _free(old, form, taken)
        taken.add(ids[place])
        same.setdefault(old, ids[place])
        if place in claims:
            ids[claims[place]] = ids[place]
    for place, block in places(messages):
        if kind_of(block) == "tool_result" and place not in ids:
            old = _id_of(block)
            ids[place] = same.get(old) or _free(old, form, ())
    return ids


def _free(old: str, form: _Form, taken: Collection[str]) -> str:
    """A valid id that no call before has; the old one where it will do."""
    if form.valid(old) and old not in taken:
        return old
    new = form.fitting(old)
    count = 1
    while new in taken or not form.valid(new):
        count += 1
        new = form.fitting(f"{old}_{count}")
    return new


def _id_of(block: Block) -> str:
    return word(block, "id" if kind_of(block) == "tool_use" else "tool_use_id")


def _renamed(message: Any, index: int, ids: dict[Place, str]) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    made: list[Any] = []
    for position, block in enumerate(content):
        new = ids.get((index, position))
        if new is None or new == _id_of(block):
            made.append(block)
        else:
            key = "id" if kind_of(block) == "tool_use" else "tool_use_id"
            made.append({**block, key: new})
    return with_blocks(message, made) if made != content else message


TOOL_IDS: Final[Rectifier] = _ToolIds()
