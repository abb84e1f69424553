"""The switch, the budgets and the blocks."""

from typing import Any

import pytest

from ccfallback.rectify.thinking_parts import (
    effort_for,
    is_in_tool_loop,
    lacks_thought,
    with_budget,
    without_clearing,
    without_switch,
)
from tests.rectify.drafts import (
    BETAS,
    CALL,
    HI,
    RESULT,
    THOUGHT,
    assistant,
    draft,
    members,
    text,
    user,
)

CLEARING = {"type": "clear_thinking_20251015", "keep": "all"}
OTHER = {"type": "clear_tool_uses_20250919"}
NOTE = {"role": "system", "content": "x"}


@pytest.mark.parametrize(
    ("messages", "loop", "lacking"),
    [
        ([HI], False, False),
        ([HI, assistant(text("a")), HI], False, False),
        ([HI, assistant(CALL), user(RESULT)], True, True),
        ([HI, assistant(THOUGHT, CALL), user(RESULT), NOTE], True, False),
        ([HI, assistant(text("a"), THOUGHT, CALL), user(RESULT)], True, True),
    ],
)
def test_tool_loops(messages: list[Any], loop: bool, lacking: bool) -> None:
    body = draft(*messages).body
    assert (is_in_tool_loop(body), lacks_thought(body)) == (loop, lacking)


def test_without_thinking_nothing_clears_it() -> None:
    before = draft(
        HI,
        betas=BETAS,
        thinking={"type": "adaptive"},
        context_management={"edits": [CLEARING]},
    )
    after = without_switch(before)
    assert members(after).keys() == {"model", "max_tokens", "messages"}
    assert after.betas == tuple(beta for beta in BETAS if not beta.startswith("context-management"))


def test_other_edits_stay() -> None:
    before = draft(HI, betas=BETAS, context_management={"edits": [CLEARING, OTHER]})
    after = without_clearing(before)
    assert members(after)["context_management"] == {"edits": [OTHER]}
    assert after.betas == BETAS


@pytest.mark.parametrize(
    ("budget", "max_tokens", "expected"),
    [(2000, 32000, 2000), (50000, 32000, 31999), (2000, 1025, 1024), (2000, 1024, None)],
)
def test_a_budget_fits_the_answer(budget: int, max_tokens: int, expected: int | None) -> None:
    before = draft(HI, max_tokens=max_tokens, thinking={"type": "adaptive", "display": "omitted"})
    thinking = members(with_budget(before, budget)).get("thinking")
    if expected is None:
        assert thinking is None
    else:
        assert thinking == {"type": "enabled", "display": "omitted", "budget_tokens": expected}


@pytest.mark.parametrize(
    ("budget", "effort"), [(1024, "low"), (10000, "medium"), (31999, None), (None, None)]
)
def test_an_effort_for_a_budget(budget: int | None, effort: str | None) -> None:
    assert effort_for(budget) == effort
