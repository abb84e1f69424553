"""Calls of Anthropic's own tools without their result, results without call, ids of others.

All of it stands in the assistant's turns, and none of it can be made up: it is taken out.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import (
    Place,
    counted,
    kind_of,
    messages_of,
    places,
    role_of,
    settled,
    summed,
    with_blocks,
    with_messages,
    word,
)

_UNPAIRED: Final = re.compile(
    r"found without (?:a )?corresponding \w+_tool_result"
    r"|(?:server|mcp)_tool_use (?:\w+ )*(?:ids? )?(?:was|were) found without"
    r"|unexpected tool_use_id found in \w+_tool_result"
    r"|\w+_tool_result block must have a corresponding (?:server|mcp)_tool_use"
)
_FOREIGN: Final = re.compile(r"string should match pattern \^srvtoolu_")
_PATTERN: Final = "^srvtoolu_[a-zA-Z0-9_]+$"
_GENUINE: Final = re.compile(r"srvtoolu_[a-zA-Z0-9_]+")

_CALLS: Final = frozenset({"server_tool_use", "mcp_tool_use"})


class _ServerTools:
    name = "server_tools"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Calls and results of server tools come in pairs, and have ids of Anthropic's."""
        messages = messages_of(draft)
        if _FOREIGN.search(refusal.text):
            lost, lesson = _foreign(messages), f"string should match pattern '{_PATTERN}'"
        elif _UNPAIRED.search(refusal.text):
            lost, lesson = _unpaired(messages, refusal.message), None
        else:
            return None
        if not lost:
            return None
        kinds = [kind_of(messages[index]["content"][position]) for index, position in lost]
        calls = sum(kind in _CALLS for kind in kinds)
        changed = summed(
            counted(calls, "server tool call", "removed"),
            counted(len(kinds) - calls, "server tool result", "removed"),
        )
        kept = [_without(message, index, lost) for index, message in enumerate(messages)]
        return Repaired(with_messages(draft, settled(kept)), changed, lesson)


def _is_result(block: object) -> bool:
    kind = kind_of(block)
    return kind.endswith("_tool_result") and kind != "tool_result"


def _foreign(messages: Sequence[Any]) -> set[Place]:
    """Calls with an id of somebody else's, and the results that name one."""
    return {
        place
        for place, block in places(messages)
        if (kind_of(block) == "server_tool_use" and not _GENUINE.fullmatch(word(block, "id")))
        or (
            _is_result(block)
            and kind_of(block) != "mcp_tool_result"
            and not _GENUINE.fullmatch(word(block, "tool_use_id"))
        )
    }


def _unpaired(messages: Sequence[Any], message: str) -> set[Place]:
    """Calls without a result later in their turn, and results without a call earlier in it."""
    lost: set[Place] = set()
    turns = list(_turns(messages))
    for number, turn in enumerate(turns):
        waiting: dict[str, Place] = {}
        for place, block in turn:
            if kind_of(block) in _CALLS:
                waiting[word(block, "id")] = place
            elif _is_result(block) and not waiting.pop(word(block, "tool_use_id"), None):
                lost.add(place)
        is_last = number == len(turns) - 1 and role_of(messages[-1]) == "assistant"
        # A call at the very end is one that the API is to go on with, unless it says otherwise.
        lost |= {place for tool_id, place in waiting.items() if not is_last or tool_id in message}
    return lost


def _turns(messages: Sequence[Any]) -> Iterator[list[tuple[Place, Any]]]:
    """The blocks of the assistant's turns; several messages in a row are one."""
    blocks: dict[int, list[tuple[Place, Any]]] = {}
    for place, block in places(messages):
        blocks.setdefault(place[0], []).append((place, block))
    turn: list[tuple[Place, Any]] = []
    for index, message in enumerate(messages):
        role = role_of(message)
        if role == "assistant":
            turn += blocks.get(index, [])
        elif turn and role != "system":
            yield turn
            turn = []
    if turn:
        yield turn


def _without(message: Any, index: int, lost: set[Place]) -> Any:
    if not any(place[0] == index for place in lost):
        return message
    content = message["content"]
    return with_blocks(
        message, [block for n, block in enumerate(content) if (index, n) not in lost]
    )


SERVER_TOOLS: Final[Rectifier] = _ServerTools()
