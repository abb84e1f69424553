"""Thinking of the last assistant message."""

from ccfallback.rectify.thinking_latest import THINKING_LATEST as RULE
from tests.rectify.drafts import CALL, HI, RESULT, THOUGHT, after, assistant, draft, refused, user

CHANGED = (
    "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified"
)
FINAL = (
    "When thinking is disabled, an `assistant` message in the final position cannot contain "
    "`thinking`"
)
BUDGET = {"type": "enabled", "budget_tokens": 2000}
FIRST = (HI, assistant(THOUGHT, CALL), user(RESULT))


def test_only_the_last_ones_go() -> None:
    now = after(
        RULE, draft(*FIRST, assistant(THOUGHT, CALL), user(RESULT), thinking=BUDGET), CHANGED
    )
    assert now["messages"] == [*FIRST, assistant(CALL), user(RESULT)]
    assert "thinking" not in now


def test_a_model_that_thinks_as_it_likes_goes_on() -> None:
    adaptive = {"type": "adaptive"}
    assert after(RULE, draft(*FIRST, thinking=adaptive), CHANGED)["thinking"] == adaptive


def test_a_last_message_of_only_thinking_goes() -> None:
    before = draft(HI, assistant(THOUGHT), thinking={"type": "disabled"})
    now = after(RULE, before, FINAL)
    assert now["messages"] == [HI]
    assert now["thinking"] == {"type": "disabled"}


def test_nothing_to_do() -> None:
    assert refused(RULE, draft(HI, assistant(CALL), user(RESULT)), CHANGED)
    assert refused(RULE, draft(), FINAL)
