"""Efforts and budgets of thinking."""

import pytest

from ccfallback.messages.effort import (
    BUDGET_OF_EFFORT,
    EFFORTS,
    effort_for_budget,
    requested_effort,
    thinking_settings,
    with_at_most,
    with_effort_among,
    without_effort,
)
from ccfallback.policy.draft import RequestDraft
from tests.rectify.drafts import HI, draft, members

LOW = {"role": "system", "content": [], "output_config": {"effort": "low"}}


@pytest.mark.parametrize(
    ("before", "effort"),
    [
        (draft(HI), ""),
        (draft(HI, output_config={"effort": "high"}), "high"),
        (draft(HI, LOW, output_config={"effort": "high"}), "low"),
        (draft(HI, output_config=7), ""),
    ],
)
def test_the_last_word_counts(before: RequestDraft, effort: str) -> None:
    assert requested_effort(before.body) == effort


def test_nothing_is_left_of_it() -> None:
    before = draft(HI, LOW, output_config={"effort": "high"})
    after = members(RequestDraft(without_effort(before.body)))
    assert after["messages"] == [HI]
    assert "output_config" not in after


def test_the_rest_of_a_config_stays() -> None:
    before = draft(HI, output_config={"effort": "high", "format": {}})
    assert members(RequestDraft(without_effort(before.body)))["output_config"] == {"format": {}}


@pytest.mark.parametrize(
    ("effort", "known", "expected"),
    [
        ("max", ("low", "high"), "high"),
        ("medium", ("low", "high"), "low"),
        ("low", ("medium", "high"), "medium"),
        ("low", ("low",), "low"),
        ("strange", ("low",), "strange"),
    ],
)
def test_the_next_lower_effort(effort: str, known: tuple[str, ...], expected: str) -> None:
    message = {**LOW, "output_config": {"effort": effort}}
    before = draft(HI, message, output_config={"effort": effort})
    after = members(RequestDraft(with_effort_among(before.body, known)))
    assert after["output_config"]["effort"] == expected
    assert after["messages"][1]["output_config"]["effort"] == expected


@pytest.mark.parametrize(
    ("budget", "effort"),
    [(1024, "low"), (4097, "medium"), (16384, "medium"), (16385, "high"), (31999, "high"),
     (32000, "xhigh")],
)  # fmt: skip
def test_an_effort_for_a_budget(budget: int, effort: str) -> None:
    assert effort_for_budget(budget) == effort


def test_every_effort_has_a_budget() -> None:
    budgets = [BUDGET_OF_EFFORT[effort] for effort in EFFORTS]
    assert budgets == sorted(budgets)


@pytest.mark.parametrize(
    ("max_tokens", "thinking", "most", "expected"),
    [
        (500, {"budget_tokens": 400}, 1000, {"max_tokens": 500, "budget_tokens": 400}),
        (5000, {"budget_tokens": 400}, 3000, {"max_tokens": 3000, "budget_tokens": 400}),
        (5000, {"budget_tokens": 4000}, 3000, {"max_tokens": 3000, "budget_tokens": 2999}),
        (5000, {"budget_tokens": 4000}, 1024, {"max_tokens": 1024}),
        (5000, {"type": "adaptive"}, 1024, {"max_tokens": 1024, "type": "adaptive"}),
        (None, {"budget_tokens": 4000}, 1024, {"max_tokens": None, "budget_tokens": 4000}),
    ],
)
def test_an_answer_of_at_most_so_many_tokens(
    max_tokens: int | None, thinking: dict[str, object], most: int, expected: dict[str, object]
) -> None:
    body = with_at_most(draft(HI, max_tokens=max_tokens, thinking=thinking).body, most)
    assert {"max_tokens": body.get("max_tokens"), **thinking_settings(body)} == expected
