"""Budgets that are refused."""

from typing import Any

import pytest

from ccfallback.rectify.thinking_budget import THINKING_BUDGET as RULE
from tests.rectify.drafts import after, draft, refused, repaired

SMALL = "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
ANSWER = "`max_tokens` must be greater than `thinking.budget_tokens`"
LARGE = "The thinking_budget parameter must not be greater than 24576"


def budget(tokens: Any, max_tokens: int = 64000) -> Any:
    return draft(max_tokens=max_tokens, thinking={"type": "enabled", "budget_tokens": tokens})


@pytest.mark.parametrize(
    ("before", "message", "tokens"),
    [
        (budget(500), SMALL, 32000),
        (budget(500, 20000), SMALL, 19999),
        (budget(0, 1025), SMALL, 1024),
        (budget(32000, 32000), ANSWER, 31999),
        (budget(32000, 1025), ANSWER, 1024),
        (budget(32000), LARGE, 24576),
    ],
)
def test_a_budget_that_is_taken(before: Any, message: str, tokens: int) -> None:
    assert after(RULE, before, message)["thinking"] == {
        "type": "enabled",
        "budget_tokens": tokens,
    }


@pytest.mark.parametrize(
    ("before", "message"),
    [(budget(500, 1024), SMALL), (budget(1024, 1000), ANSWER), (budget(5000), LARGE[:-5] + "512")],
)
def test_no_thinking_where_there_is_no_room(before: Any, message: str) -> None:
    assert "thinking" not in after(RULE, before, message)


def test_what_is_learned() -> None:
    assert repaired(RULE, budget(32000), LARGE).lesson == (
        "budget_tokens: Input should be less than or equal to 24576"
    )


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (budget(2000), SMALL),
        (budget(2000), ANSWER),
        (budget(2000), LARGE),
        (budget("x"), SMALL),
        (draft(thinking={"type": "adaptive"}), SMALL),
        (draft(), SMALL),
    ],
)
def test_nothing_to_do(before: Any, message: str) -> None:
    assert refused(RULE, before, message)
