"""Longer answers asked for than a model gives. The budget of thinking stays below the limit."""

import re
from typing import Final

from ccfallback.messages.effort import with_at_most
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.thinking_parts import max_tokens_of, thinking_of, without_clearing

_NAME: Final = r"\bmax_(?:completion_|output_)?tokens\b"
_MOST: Final = r"(?P<most>\d[\d,]{0,11})"

_LIMITS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_NAME}: \d[\d,]* > {_MOST},? which is the maximum",
        rf"{_NAME}.{{0,40}}too (?:large|high|big).{{0,80}}supports at most {_MOST}\b",
        rf"range of {_NAME} (?:should be|is) \[\d+, ?{_MOST}\]",
        rf"{_NAME}.{{0,40}}range\b.{{0,40}}\[\d+, ?{_MOST}\]",
        rf"(?<!\+ ){_NAME}:? (?:value )?(?:must|should|has to) be"
        rf" (?:less than or equal to|<=|at most|no (?:more|greater) than) ?{_MOST}\b",
        rf"{_NAME}: input should be less than or equal to {_MOST}\b",
        rf"maximum tokens you requested exceeds the model limit of {_MOST}\b",
        rf"{_NAME}.{{0,20}}(?:exceeds|exceeded|above|over) (?:the )?(?:model )?(?:output )?"
        rf"(?:limit|maximum)(?: of|:)? {_MOST}\b",
    )
)
_OF_CONTEXT: Final = re.compile(r"context (?:length|limit|window)|prompt|input (?:length|tokens)")


class _MaxTokens:
    name = "max_tokens"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Ask for as many as there are."""
        text = refusal.text
        match = next((found for limit in _LIMITS if (found := limit.search(text))), None)
        if match is None or _OF_CONTEXT.search(text):
            return None
        most = int(match["most"].replace(",", ""))
        wanted = max_tokens_of(draft.body)
        if not 0 < most < wanted:
            return None
        return Repaired(
            shortened(draft, most),
            f"max_tokens changed from {wanted} to {most}",
            f"max_tokens is too large: this model supports at most {most}",
        )


def shortened(draft: RequestDraft, most: int) -> RequestDraft:
    """The draft with an answer of so many tokens, thinking included."""
    body = with_at_most(draft.body, most)
    shorter = settled(draft, body)
    was_on = bool(thinking_of(draft.body))
    return without_clearing(shorter) if was_on and not thinking_of(body) else shorter


MAX_TOKENS: Final[Rectifier] = _MaxTokens()
