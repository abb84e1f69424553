"""A turn that goes on without the thinking it has to begin with: the model shall not think."""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.parts import counted
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.thinking_parts import without_switch, without_thoughts

_EXPECTED: Final = re.compile(
    r"expected thinking or redacted_thinking,? but found"
    r"|must start with a thinking block"
)


class _ThinkingStart:
    name = "thinking_start"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Switch thinking off, and take what there is of it out of the history."""
        if not _EXPECTED.search(refusal.text):
            return None
        body, count = without_thoughts(draft.body)
        is_on = "thinking" in body
        if not (count or is_on):
            return None
        done = [f"{counted(count, 'thinking block')} removed from the history"] if count else []
        done += ["thinking switched off"] if is_on else []
        return Repaired(without_switch(draft.with_body(body)), ", ".join(done))


THINKING_START: Final[Rectifier] = _ThinkingStart()
