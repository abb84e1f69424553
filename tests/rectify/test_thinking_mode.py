"""Ways of asking for thinking that are refused."""

from typing import Any

import pytest

from ccfallback.rectify.thinking_mode import THINKING_MODE as RULE
from tests.rectify.drafts import (
    BETAS,
    CALL,
    HI,
    RESULT,
    THOUGHT,
    after,
    assistant,
    draft,
    refused,
    repaired,
    user,
)

ADAPTIVE = {"type": "adaptive", "display": "omitted"}
DISABLED = {"type": "disabled"}
NO_ENABLED = '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive"'
NO_ADAPTIVE = "adaptive thinking is not supported on this model"
NO_DISABLED = '"thinking.type.disabled" is not supported for this model'
NOT_WITH_EFFORT = "thinking options type cannot be disabled when reasoning_effort is set"
NOT_WITH_MAX = "thinking.type.disabled is not supported with effort xhigh or max"
ONLY_DISABLED = (
    "thinking: Input tag 'adaptive' found using 'type' does not match any of the expected tags: "
    "'disabled'"
)


def budget(tokens: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": tokens, "display": "omitted"}


@pytest.mark.parametrize(
    ("tokens", "more", "config"),
    [
        (2000, {}, {"effort": "low"}),
        (9000, {}, {"effort": "medium"}),
        (31999, {}, None),
        (2000, {"output_config": {"effort": "max"}}, {"effort": "max"}),
        (2000, {"output_config": {"format": 1}}, {"format": 1, "effort": "low"}),
    ],
)
def test_a_budget_becomes_an_effort(tokens: int, more: Any, config: Any) -> None:
    now = after(RULE, draft(thinking=budget(tokens), **more), NO_ENABLED)
    assert now["thinking"] == ADAPTIVE
    assert now.get("output_config") == config


@pytest.mark.parametrize(
    ("effort", "tokens"),
    [("low", 2000), ("medium", 8000), ("high", 16000), ("max", 31999), (None, 16000)],
)
def test_an_effort_becomes_a_budget(effort: str | None, tokens: int) -> None:
    config: Any = {"output_config": {"effort": effort}} if effort else {}
    now = after(RULE, draft(thinking=ADAPTIVE, **config), NO_ADAPTIVE)
    assert now["thinking"] == budget(tokens)


@pytest.mark.parametrize(
    ("messages", "more", "message"),
    [
        ([HI], {"max_tokens": 1024}, NO_ADAPTIVE),
        ([HI], {"tool_choice": {"type": "any"}}, NO_ADAPTIVE),
        ([HI, assistant(CALL), user(RESULT)], {}, NO_ADAPTIVE),
        ([HI], {}, ONLY_DISABLED),
    ],
)
def test_no_thinking_where_a_budget_would_be_refused(
    messages: list[Any], more: Any, message: str
) -> None:
    assert "thinking" not in after(RULE, draft(*messages, thinking=ADAPTIVE, **more), message)


def test_a_turn_that_began_with_thinking_goes_on_so() -> None:
    before = draft(HI, assistant(THOUGHT, CALL), user(RESULT), thinking=ADAPTIVE)
    assert after(RULE, before, NO_ADAPTIVE)["thinking"] == budget(16000)


def test_a_model_that_can_not_be_told() -> None:
    assert "thinking" not in after(RULE, draft(thinking=DISABLED), NO_DISABLED)


def test_disabled_thinking_and_an_effort() -> None:
    high: Any = {"output_config": {"effort": "max"}}
    now = after(RULE, draft(thinking=DISABLED, **high), NOT_WITH_MAX)
    assert (now["thinking"], now["output_config"]) == (DISABLED, {"effort": "high"})
    made = repaired(RULE, draft(thinking=DISABLED, betas=BETAS, **high), NOT_WITH_EFFORT)
    assert made.draft.body.get("thinking") == DISABLED
    assert "output_config" not in made.draft.body
    assert "effort-2025-11-24" not in made.draft.betas


@pytest.mark.parametrize(
    ("thinking", "message"),
    [
        (ADAPTIVE, NO_ENABLED),
        (budget(2000), NO_ADAPTIVE),
        (DISABLED, NO_ADAPTIVE),
        (ADAPTIVE, NO_DISABLED),
        (DISABLED, NOT_WITH_EFFORT),
        (DISABLED, NOT_WITH_MAX),
        (7, NO_ENABLED),
    ],
)
def test_nothing_to_do(thinking: Any, message: str) -> None:
    assert refused(RULE, draft(thinking=thinking), message)
