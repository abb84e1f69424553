"""Tools that messages bring or take, for a provider that knows only `tools`."""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.inline_system import has_tool_changes, with_tool_changes_made
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

_REFUSED: Final = re.compile(
    r"input tag tool_(?:addition|removal) found"
    r"|unknown variant tool_(?:addition|removal)\b"
    r"|\b(?:tool_(?:addition|removal)\w*|inline tools?|tool additions?|tool changes)\b.{0,60}"
    r"not (?:supported|available|allowed|permitted|enabled)"
    r"|not support.{0,20}\b(?:tool_(?:addition|removal)|inline tools?)\b"
)


class _ToolChanges:
    name = "tool_changes"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Make the changes in `tools`, and take them out of the messages."""
        if not _REFUSED.search(refusal.text) or not has_tool_changes(draft.body):
            return None
        return Repaired(
            settled(draft, with_tool_changes_made(draft.body)),
            "tool changes moved from messages to tools",
            "tool_addition and tool_removal are not supported",
        )


TOOL_CHANGES: Final[Rectifier] = _ToolChanges()
