"""Turns that did not begin with thinking."""

from ccfallback.rectify.thinking_start import THINKING_START as RULE
from tests.rectify.drafts import (
    CALL,
    HI,
    RESULT,
    THOUGHT,
    after,
    assistant,
    draft,
    refused,
    text,
    user,
)

REFUSAL = "Expected `thinking` or `redacted_thinking`, but found `tool_use`"


def test_thinking_is_off_and_out() -> None:
    before = draft(
        HI,
        assistant(THOUGHT, text("a")),
        HI,
        assistant(CALL),
        user(RESULT),
        thinking={"type": "enabled", "budget_tokens": 2000},
        context_management={"edits": [{"type": "clear_thinking_20251015"}]},
    )
    now = after(RULE, before, REFUSAL)
    assert now.keys() == {"model", "max_tokens", "messages"}
    assert now["messages"] == [HI, assistant(text("a")), HI, assistant(CALL), user(RESULT)]


def test_nothing_to_do() -> None:
    assert refused(RULE, draft(HI, assistant(CALL), user(RESULT)), REFUSAL)
