"""Thinking of the last assistant message that was changed, or may not be there at all."""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.parts import counted
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.thinking_parts import (
    last_assistant,
    thinking_of,
    without_switch,
    without_thoughts,
)

_CHANGED: Final = re.compile(r"thinking\b.{0,80}\bcannot be modified")
_UNWANTED: Final = re.compile(
    r"assistant message in the final position cannot contain (?:redacted_)?thinking"
)


class _ThinkingLatest:
    name = "thinking_latest"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take it out of that message."""
        text = refusal.text
        is_changed = _CHANGED.search(text) is not None
        if not (is_changed or _UNWANTED.search(text)):
            return None
        last = last_assistant(draft.body)
        body, count = without_thoughts(draft.body, lambda index, _block: index == last)
        if not count:
            return None
        changed = f"{counted(count, 'thinking block')} removed from the last assistant message"
        repaired = draft.with_body(body)
        if is_changed and thinking_of(body).get("type") == "enabled":
            repaired = without_switch(repaired)
            changed += ", thinking switched off"
        return Repaired(repaired, changed)


THINKING_LATEST: Final[Rectifier] = _ThinkingLatest()
