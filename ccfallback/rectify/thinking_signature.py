"""Thinking that somebody else has signed, or nobody.

Which block is meant can't be told: the refusal counts the blocks of what was sent, of which the
draft may have more. And one foreign block seldom comes alone, but a repair is made only once.
"""

import re
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.parts import Block, counted, kind_of
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.thinking_parts import (
    is_in_tool_loop,
    thinking_of,
    without_switch,
    without_thoughts,
)

_INVALID: Final = re.compile(
    r"invalid signature in (?:a )?thinking block"
    r"|signature in (?:a )?thinking block"
    r"|\b(?:invalid|corrupted|bad) thought signature"
    r"|thought signature\b.{0,60}(?:invalid|not valid|corrupt)"
    r"|invalid data in redacted_thinking block"
    r"|thinking\.signature: (?:invalid|input should be)"
)
_MISSING: Final = re.compile(r"\bsignature: (?:field|input) required|\bsignature\b field required")


class _ThinkingSignature:
    name = "thinking_signature"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take the thinking out of the history: what is unsigned, or all of it."""
        text = refusal.text
        if _MISSING.search(text):
            body, count = without_thoughts(draft.body, _is_unsigned)
        elif _INVALID.search(text):
            body, count = without_thoughts(draft.body)
        else:
            return None
        if not count:
            return None
        changed = f"{counted(count, 'thinking block')} removed from the history"
        repaired = draft.with_body(body)
        if thinking_of(body).get("type") == "enabled" and is_in_tool_loop(body):
            # A turn that goes on has to have begun with thinking.
            repaired = without_switch(repaired)
            changed += ", thinking switched off"
        return Repaired(repaired, changed)


def _is_unsigned(_index: int, block: Block) -> bool:
    return kind_of(block) == "thinking" and not block.get("signature")


THINKING_SIGNATURE: Final[Rectifier] = _ThinkingSignature()
