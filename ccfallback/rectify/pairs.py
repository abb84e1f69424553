"""Calls and their results: every call is answered right after it, every result has its call.

A turn is the messages of the assistant up to the user's next one. What stands between a call and
its result, a `role:"system"` message or another part of the answer, is put where it may stand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ccfallback.rectify.turns import (
    Block,
    Message,
    Place,
    blocks_of,
    kind_of,
    places,
    role_of,
    settled,
    user,
    with_blocks,
    word,
)

INTERRUPTED: Final = "[interrupted]"

_ASIDE: Final = frozenset({"assistant", "system"})
"""Roles that may be met between a call and the user's turn that answers it."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Messages of which every call has its result, and what it took."""

    messages: list[Any]
    moved: int = 0
    invented: int = 0
    turns: int = 0
    """Turns that had to be put in order."""


def claims_of(messages: Sequence[Any]) -> dict[Place, Place]:
    """Which result belongs to which call: one of the turn right after it, else any that is left.

    Where two calls share their id, the first result is the first one's.
    """
    calls: list[tuple[Place, str]] = []
    results: dict[str, list[Place]] = {}
    for place, block in places(messages):
        kind = kind_of(block)
        if kind == "tool_use" and role_of(messages[place[0]]) == "assistant":
            calls.append((place, word(block, "id")))
        elif kind == "tool_result":
            results.setdefault(word(block, "tool_use_id"), []).append(place)
    claims: dict[Place, Place] = {}
    for own_only in (True, False):
        for call, tool_id in calls:
            if call not in claims:
                answer = _answer(messages, call[0])
                for place in results.get(tool_id, ()):
                    if not own_only or place[0] == answer:
                        claims[call] = place
                        results[tool_id].remove(place)
                        break
    return claims


def _answer(messages: Sequence[Any], index: int) -> int:
    """Where the user's turn is that answers an assistant's; -1 where there is none."""
    for after in range(index + 1, len(messages)):
        role = role_of(messages[after])
        if role not in _ASIDE:
            return after if role == "user" else -1
    return -1


def paired(messages: Sequence[Any]) -> Paired:
    """Messages in which the user's turn after calls begins with their results.

    A result that is elsewhere is moved there, one that is nowhere is invented.
    """
    claims = claims_of(messages)
    away = {place for call, place in claims.items() if place[0] != _answer(messages, call[0])}
    made: list[Any] = []
    asides: list[Any] = []
    invented = turns = 0
    index = 0
    while index < len(messages):
        first = index
        index += 1
        if asides and role_of(messages[first]) == "assistant":
            made += asides
            asides = []
        calls = _calls_of(messages, first)
        if not calls:
            made.append(_without(messages, first, away))
            continue
        while index < len(messages) and role_of(messages[index]) in _ASIDE:
            calls += _calls_of(messages, index)
            index += 1
        turn = range(first, index)
        answered = index < len(messages) and role_of(messages[index]) == "user"
        wanted = [claims.get(call) for call in calls]
        if answered and len(turn) == 1 and _is_answered(index, wanted):
            made.append(_without(messages, first, away))
            made.append(_without(messages, index, away))
        else:
            turns += 1
            invented += wanted.count(None)
            made += _in_order(messages, turn, calls, wanted, away, answered=answered)
            asides = [messages[each] for each in turn if role_of(messages[each]) == "system"]
        index += answered
    made += asides
    if not turns and not away:
        return Paired(list(messages))
    return Paired(settled(made), len(away), invented, turns)


def _calls_of(messages: Sequence[Any], index: int) -> list[Place]:
    message = messages[index]
    if role_of(message) != "assistant":
        return []
    return [
        (index, position)
        for position, block in enumerate(blocks_of(message))
        if kind_of(block) == "tool_use"
    ]


def _is_answered(index: int, wanted: Sequence[Place | None]) -> bool:
    """Whether a user's message begins with all these results and nothing else."""
    return {place for place in wanted if place} == {(index, n) for n in range(len(wanted))}


def _without(messages: Sequence[Any], index: int, away: set[Place]) -> Any:
    message = messages[index]
    blocks = blocks_of(message)
    kept = [block for position, block in enumerate(blocks) if (index, position) not in away]
    return message if len(kept) == len(blocks) else with_blocks(message, kept)


def _in_order(
    messages: Sequence[Any],
    turn: range,
    calls: Sequence[Place],
    wanted: Sequence[Place | None],
    away: set[Place],
    *,
    answered: bool,
) -> list[Message]:
    """A turn as one message, and the user's answer to it."""
    spoken = [index for index in turn if role_of(messages[index]) == "assistant"]
    asked = _without(messages, spoken[0], away)
    if len(spoken) > 1:
        parts = (blocks_of(_without(messages, index, away)) for index in spoken)
        asked = with_blocks(asked, [block for blocks in parts for block in blocks])
    results = [
        _block(messages, place) if place else _interrupted(messages, call)
        for call, place in zip(calls, wanted, strict=True)
    ]
    if not answered:
        return [asked, user(*results)]
    answer = messages[turn.stop]
    used = away | {place for place in wanted if place}
    rest = blocks_of(_without(messages, turn.stop, used))
    return [asked, with_blocks(answer, [*results, *rest])]


def _block(messages: Sequence[Any], place: Place) -> Block:
    block: Block = messages[place[0]]["content"][place[1]]
    return block


def _interrupted(messages: Sequence[Any], call: Place) -> Block:
    return {
        "type": "tool_result",
        "tool_use_id": word(_block(messages, call), "id"),
        "content": INTERRUPTED,
        "is_error": True,
    }


def orphans_of(messages: Sequence[Any]) -> set[Place]:
    """Results that no call right before them asks for, and any but the first one to it."""
    claims = claims_of(messages)
    answered = {place for call, place in claims.items() if place[0] == _answer(messages, call[0])}
    return {
        place
        for place, block in places(messages)
        if kind_of(block) == "tool_result" and place not in answered
    }
