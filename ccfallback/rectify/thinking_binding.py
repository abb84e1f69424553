"""Signed thinking before which something has changed: Claude's newer models refuse that.

A binding can't be mended. Only a history without any thinking is taken; one without the named
block is not.
"""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.parts import counted
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.thinking_parts import without_thoughts

_BOUND: Final = re.compile(r"bound to a different conversation|prefix_mismatch_behavior")


class _ThinkingBinding:
    name = "thinking_binding"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take all thinking out of the history."""
        if not _BOUND.search(refusal.text):
            return None
        body, count = without_thoughts(draft.body)
        if not count:
            return None
        return Repaired(
            draft.with_body(body), f"{counted(count, 'thinking block')} removed from the history"
        )


THINKING_BINDING: Final[Rectifier] = _ThinkingBinding()
