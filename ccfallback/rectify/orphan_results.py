"""Results without a call: each goes to its call if there is one, and becomes a text if not."""

import re
from typing import Any, Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.pairs import orphans_of, paired
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import (
    Block,
    Place,
    blocks_of,
    counted,
    kind_of,
    messages_of,
    results_first,
    summed,
    text,
    with_blocks,
    with_messages,
    word,
)

_TRIGGER: Final = re.compile(
    r"unexpected tool_use_id found in tool_result"
    r"|\btool_result block must have a corresponding tool_use"
    r"|each tool_use must have a single result"
    r"|tool_result blocks can only be in user messages"
    # What relays that speak OpenAI's format inside make of the same fault.
    r"|messages? with role tool must be a response to a prece+ding message with tool_calls"
    r"|tool message must follow (?:an assistant message with )?tool_calls"
    r"|no tool call found for (?:function|tool) call output"
    r"|toolresult blocks at .* exceeds the number of tooluse blocks"
)


class _OrphanResults:
    name = "orphan_results"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Every result follows its call."""
        messages = messages_of(draft)
        if not _TRIGGER.search(refusal.text) or not orphans_of(messages):
            return None
        # A result that came too late is not to be told as text: its call still waits for it.
        made = paired(messages)
        orphans = orphans_of(made.messages)
        told = list(made.messages)
        for index in {place[0] for place in orphans}:
            told[index] = _told(told[index], index, orphans)
        changed = summed(
            counted(made.moved, "tool result", "moved to its call"),
            counted(made.invented, "tool result", "invented"),
            counted(len(orphans), "tool result", "without a call turned into text"),
        )
        return Repaired(with_messages(draft, told), changed)


def _told(message: dict[str, Any], index: int, orphans: set[Place]) -> dict[str, Any]:
    """A message in which these results are texts, behind the ones that are still results."""
    blocks: list[Any] = []
    for position, block in enumerate(blocks_of(message)):
        blocks += _as_text(block) if (index, position) in orphans else [block]
    if message.get("role") == "user":
        blocks = results_first(blocks)
    return with_blocks(message, blocks)


def _as_text(result: Block) -> list[Block]:
    inner = [block for block in blocks_of(result) if isinstance(block, dict)]
    words = [word(block, "text") for block in inner if kind_of(block) == "text"]
    # What a tool found is still worth knowing, pictures included; a reference loads nothing here.
    rest = [block for block in inner if kind_of(block) in ("image", "document", "search_result")]
    label = f"[tool result {word(result, 'tool_use_id')}]"
    told = text("\n".join([label, *filter(str.strip, words)]))
    if "cache_control" in result:
        told["cache_control"] = result["cache_control"]
    return [told, *rest]


ORPHAN_RESULTS: Final[Rectifier] = _OrphanResults()
