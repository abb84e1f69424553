"""Calls without a result: results are put right after their calls, missing ones are invented.

Interrupted turns leave such calls behind, and so does text in front of the results.
"""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.pairs import paired
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.turns import counted, messages_of, summed, with_messages

_TRIGGER: Final = re.compile(
    # `server_tool_use` and `mcp_tool_use` are no business of this one.
    r"\btool_use ids were found without tool_result"
    r"|\btool_use block must have a corresponding tool_result"
    r"|did not find \d+ tool_result blocks?(?:\(s\))? at the beginning"
    # What relays that speak OpenAI's format inside make of the same fault.
    r"|assistant message with tool_calls must be followed by tool messages"
    r"|insufficient tool messages following tool_calls"
    r"|tool_call_ids did not have response messages"
    # Bedrock's and Gemini's words.
    r"|expected toolresult blocks at"
    r"|number of function response parts is equal to the number of function call parts"
)


class _ToolUseConcurrency:
    name = "tool_use_concurrency"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Every call is followed by its result."""
        if not _TRIGGER.search(refusal.text):
            return None
        made = paired(messages_of(draft))
        if not made.turns and not made.moved:
            return None
        changed = summed(
            counted(made.moved, "tool result", "moved to its call"),
            counted(made.invented, "tool result", "invented"),
            counted(made.turns, "turn", "put in order"),
        )
        return Repaired(with_messages(draft, made.messages), changed)


TOOL_USE_CONCURRENCY: Final[Rectifier] = _ToolUseConcurrency()
