"""The client's attribution line in the system prompt, which is a reserved word elsewhere."""

import re
from typing import Final

from ccfallback.messages.system import without_billing
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

_RESERVED: Final = re.compile(r"x-anthropic-billing-header.{0,20}reserved")


class _BillingText:
    name = "billing_text"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take the line out."""
        if not _RESERVED.search(refusal.text):
            return None
        body = without_billing(draft.body)
        if body is draft.body:
            return None
        return Repaired(
            draft.with_body(body),
            "billing line removed from the system prompt",
            "x-anthropic-billing-header is a reserved keyword",
        )


BILLING_TEXT: Final[Rectifier] = _BillingText()
