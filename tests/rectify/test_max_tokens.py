"""Limits of an answer."""

from typing import Any

import pytest

from ccfallback.rectify.max_tokens import MAX_TOKENS
from tests.rectify.drafts import after, draft, refused, repaired
from tests.rectify.refusals import REFUSALS

LIMIT = "max_tokens: 128000 > {}, which is the maximum allowed number of output tokens for m"


@pytest.mark.parametrize("message", REFUSALS["max_tokens"])
def test_the_limit_is_read(message: str) -> None:
    most = after(MAX_TOKENS, draft(max_tokens=128000), message)["max_tokens"]
    assert most in (64000, 16384, 8192)
    assert str(most) in message


@pytest.mark.parametrize(
    ("most", "budget"), [(8192, 8191), (64000, 31999), (1025, 1024), (1024, None)]
)
def test_thinking_stays_below(most: int, budget: int | None) -> None:
    before = draft(
        max_tokens=128000,
        thinking={"type": "enabled", "budget_tokens": 31999},
        context_management={"edits": [{"type": "clear_thinking_20251015"}]},
    )
    now = after(MAX_TOKENS, before, LIMIT.format(most))
    assert now["max_tokens"] == most
    assert now.get("thinking", {}).get("budget_tokens") == budget
    assert ("context_management" in now) == (budget is not None)


def test_what_is_learned_is_the_limit() -> None:
    made = repaired(MAX_TOKENS, draft(), LIMIT.format("8,192"))
    assert made.lesson == "max_tokens is too large: this model supports at most 8192"
    assert made.changed == "max_tokens changed from 32000 to 8192"


@pytest.mark.parametrize("limit", [32000, "64,000", 0])
@pytest.mark.parametrize("asked", [32000, "x", None, True])
def test_nothing_to_do(limit: Any, asked: Any) -> None:
    assert refused(MAX_TOKENS, draft(max_tokens=asked), LIMIT.format(limit))
