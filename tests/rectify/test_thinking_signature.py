"""Thinking that the provider has not signed."""

import pytest

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.thinking_signature import THINKING_SIGNATURE as RULE
from tests.rectify.drafts import (
    CALL,
    HI,
    RESULT,
    THOUGHT,
    after,
    assistant,
    captured,
    draft,
    refused,
    repaired,
    text,
    user,
)

INVALID = "messages.1.content.0: Invalid `signature` in `thinking` block"
MISSING = "messages.1.content.0.thinking.signature: Field required"
UNSIGNED = {"type": "thinking", "thinking": "Hm."}
LOOP = (HI, assistant(THOUGHT, CALL), user(RESULT))


def test_all_thinking_goes() -> None:
    before = draft(HI, assistant(THOUGHT, text("a")), HI, assistant(THOUGHT, CALL), user(RESULT))
    made = repaired(RULE, before, INVALID)
    assert made.draft.body.get("messages") == [
        HI,
        assistant(text("a")),
        HI,
        assistant(CALL),
        user(RESULT),
    ]
    assert made.changed == "2 thinking blocks removed from the history"
    assert made.lesson is None


def test_only_unsigned_thinking_goes_where_a_signature_is_missing() -> None:
    empty = {**UNSIGNED, "signature": ""}
    before = draft(HI, assistant(THOUGHT, UNSIGNED, empty, text("a")), HI)
    assert after(RULE, before, MISSING)["messages"] == [HI, assistant(THOUGHT, text("a")), HI]


def test_a_turn_that_goes_on_can_not_do_with_a_budget() -> None:
    budget = {"type": "enabled", "budget_tokens": 2000}
    edits = {"edits": [{"type": "clear_thinking_20251015"}]}
    now = after(RULE, draft(*LOOP, thinking=budget, context_management=edits), INVALID)
    assert now.keys() == {"model", "max_tokens", "messages"}
    kept = after(RULE, draft(*LOOP[:2], HI, thinking=budget), INVALID)
    assert kept["thinking"] == budget
    adaptive = {"type": "adaptive"}
    assert after(RULE, draft(*LOOP, thinking=adaptive), INVALID)["thinking"] == adaptive


@pytest.mark.parametrize("before", captured())
def test_the_real_clients_history(before: RequestDraft) -> None:
    if b'"thinking","thinking"' not in before.body.raw:
        assert refused(RULE, before, INVALID)
        return
    now = repaired(RULE, before, INVALID).draft.body
    for member in ("model", "system", "tools", "thinking", "metadata"):
        assert now.member(member) == before.body.member(member)


def test_what_is_not_about_thinking() -> None:
    assert refused(RULE, draft(*LOOP), "messages.1.content.0.tool_use.id: Field required")
    assert refused(RULE, draft(*LOOP), MISSING)
