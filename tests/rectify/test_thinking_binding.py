"""Thinking that is bound to another history."""

from ccfallback.rectify.thinking_binding import THINKING_BINDING as RULE
from tests.rectify.drafts import CALL, HI, RESULT, THOUGHT, after, assistant, draft, refused, user

REFUSAL = (
    "messages.1.content.0: Invalid `signature` in `thinking` block: the block is bound to a "
    "different conversation"
)


def test_all_thinking_goes_and_the_model_goes_on_thinking() -> None:
    thinking = {"type": "adaptive"}
    before = draft(
        HI,
        assistant(THOUGHT, CALL),
        user(RESULT),
        assistant({"type": "redacted_thinking", "data": "x"}, CALL),
        user(RESULT),
        thinking=thinking,
    )
    now = after(RULE, before, REFUSAL)
    assert now["messages"] == [HI, assistant(CALL), user(RESULT), assistant(CALL), user(RESULT)]
    assert now["thinking"] == thinking


def test_nothing_to_do() -> None:
    assert refused(RULE, draft(HI, assistant(CALL), user(RESULT)), REFUSAL)
