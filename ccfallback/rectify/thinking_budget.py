"""Budgets of thinking outside of what a provider takes, or of what the answer may have in all."""

import re
from typing import Final

from ccfallback.messages.effort import LEAST_BUDGET
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.thinking_parts import max_tokens_of, thinking_of, with_budget

_GOOD: Final = 32000
"""Tokens where a budget was too small: what the client itself has by default."""

_BUDGET: Final = r"(?:budget_tokens|thinking_?budget|thinking budget)"
_TOO_SMALL: Final = re.compile(
    rf"{_BUDGET}\b.{{0,40}}"
    r"(?:greater than or equal to 1024|>= ?1024|at least 1024|minimum.{0,9}1024)"
)
_BEYOND_ANSWER: Final = re.compile(
    r"max_tokens must be (?:greater|larger) than (?:thinking\.)?budget_tokens"
    r"|budget_tokens must be (?:less|smaller) than max_tokens"
)
_TOO_LARGE: Final = re.compile(
    rf"{_BUDGET}\b.{{0,80}}(?:less than or equal to|<=|not (?:be )?greater than|at most"
    r"|between \d{1,9} and) ?(?P<most>\d{1,9})\b"
)


class _ThinkingBudget:
    name = "thinking_budget"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Set a budget that is taken; an answer without room for one comes without thinking."""
        thinking = thinking_of(draft.body)
        budget = thinking.get("budget_tokens")
        if thinking.get("type") != "enabled" or not isinstance(budget, int):
            return None
        found = _wanted(refusal.text, budget, max_tokens_of(draft.body))
        if found is None:
            return None
        wanted, lesson = found
        repaired = with_budget(draft, wanted)
        now = thinking_of(repaired.body).get("budget_tokens")
        return Repaired(
            repaired,
            f"thinking budget {budget} changed to {now}" if now else "thinking switched off",
            lesson,
        )


def _wanted(text: str, budget: int, max_tokens: int) -> tuple[int, str] | None:
    """The budget to have instead, and the lesson; `None` where this one is not at fault."""
    if _TOO_SMALL.search(text) and budget < LEAST_BUDGET:
        return _GOOD, f"budget_tokens: Input should be greater than or equal to {LEAST_BUDGET}"
    if _BEYOND_ANSWER.search(text) and budget >= max_tokens > 0:
        return max_tokens - 1, "max_tokens must be greater than thinking.budget_tokens"
    match = _TOO_LARGE.search(text)
    if match and budget > int(match["most"]):
        most = int(match["most"])
        return most, f"budget_tokens: Input should be less than or equal to {most}"
    return None


THINKING_BUDGET: Final[Rectifier] = _ThinkingBudget()
