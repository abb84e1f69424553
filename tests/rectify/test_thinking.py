"""Thinking that is refused: its switch, its budgets, its blocks."""

from typing import Any

import pytest

from ccfallback.config.quirks import Quirks
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify import find_repairs
from ccfallback.rectify.betas import without_idle_betas
from ccfallback.rectify.fields import without_clearing
from ccfallback.rectify.rule import Refusal
from ccfallback.rectify.thinking import is_in_tool_loop, lacks_thought, with_budget, without_switch
from ccfallback.wire.openai.request import to_openai
from tests.rectify.drafts import (
    BETAS,
    CALL,
    HI,
    RESULT,
    THOUGHT,
    after,
    assistant,
    captured,
    draft,
    members,
    refused,
    repaired,
    text,
    user,
)

# --- thinking_parts ---

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
def test_a_tool_loop_is_recognized(messages: list[Any], loop: bool, lacking: bool) -> None:
    body = draft(*messages).body
    assert (is_in_tool_loop(body), lacks_thought(body)) == (loop, lacking)


def test_the_edit_that_clears_thinking_is_removed_with_thinking() -> None:
    before = draft(
        HI, betas=BETAS, thinking={"type": "adaptive"}, context_management={"edits": [CLEARING]}
    )
    after = without_idle_betas(before, before.with_body(without_switch(before.body)))
    assert members(after).keys() == {"model", "max_tokens", "messages"}
    assert after.betas == tuple(beta for beta in BETAS if not beta.startswith("context-management"))


def test_other_edits_stay() -> None:
    before = draft(HI, betas=BETAS, context_management={"edits": [CLEARING, OTHER]})
    after = before.with_body(without_clearing(before.body))
    assert members(after)["context_management"] == {"edits": [OTHER]}
    assert without_idle_betas(before, after).betas == BETAS


@pytest.mark.parametrize(
    ("budget", "max_tokens", "expected"),
    [(2000, 32000, 2000), (50000, 32000, 31999), (2000, 1025, 1024), (2000, 1024, None)],
)
def test_a_budget_fits_the_answer(budget: int, max_tokens: int, expected: int | None) -> None:
    before = draft(HI, max_tokens=max_tokens, thinking={"type": "adaptive", "display": "omitted"})
    thinking = with_budget(before.body, budget).get("thinking")
    if expected is None:
        assert thinking is None
    else:
        assert thinking == {"type": "enabled", "display": "omitted", "budget_tokens": expected}


# --- signature_field ---

EXTRA = "{}: Extra inputs are not permitted"
SIGNED = {**CALL, "signature": "s"}


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("messages.1.content.1.tool_use.signature", [THOUGHT, CALL]),
        ("messages.1.content.0.thinking.signature", [SIGNED]),
        ("messages.1.content.0.signature", [CALL]),
        ("signature", [CALL]),
    ],
)
def test_only_refused_signatures_are_removed(path: str, left: list[Any]) -> None:
    now = after("signature_field", draft(HI, assistant(THOUGHT, SIGNED)), EXTRA.format(path))
    assert now["messages"] == [HI, assistant(*left)]


def test_signatures_stay_if_something_else_is_refused() -> None:
    path = EXTRA.format("messages.1.content.1.tool_use.signature")
    assert refused("signature_field", draft(HI, assistant(THOUGHT, CALL)), path)
    assert refused("signature_field", draft(), EXTRA.format("signature"))


# --- thinking_fields ---

BINDING = {"prefix_mismatch_behavior": "drop_block"}


def test_a_refused_display_is_removed() -> None:
    before = draft(thinking={"type": "adaptive", "display": "updates", "block_binding": BINDING},
                   betas=("thinking-display-updates-2026-01-01", "a-1"))  # fmt: skip
    made = repaired(
        "thinking_fields", before, "thinking.adaptive.display: Input should be 'omitted'"
    )
    assert members(made.draft)["thinking"] == {"type": "adaptive", "block_binding": BINDING}
    assert made.draft.betas == ("a-1",)


@pytest.mark.parametrize("path", ["thinking.adaptive.block_binding", "thinking.block_binding.x"])
def test_a_refused_binding_is_removed_with_its_flag(path: str) -> None:
    before = draft(thinking={"type": "adaptive", "block_binding": BINDING},
                   betas=("thinking-binding-controls-2026-08-01",))  # fmt: skip
    made = repaired("thinking_fields", before, f"{path}: Extra inputs are not permitted")
    assert members(made.draft)["thinking"] == {"type": "adaptive"}
    assert made.draft.betas == ()


def test_thinking_fields_stay_if_something_else_is_refused() -> None:
    message = "thinking.adaptive.display: Extra inputs are not permitted"
    assert refused("thinking_fields", draft(thinking={"type": "adaptive"}), message)


# --- thinking_binding ---

REFUSAL = (
    "messages.1.content.0: Invalid `signature` in `thinking` block: the block is bound to a "
    "different conversation"
)


def test_bound_thinking_is_removed_and_thinking_stays_on() -> None:
    thinking = {"type": "adaptive"}
    before = draft(
        HI,
        assistant(THOUGHT, CALL),
        user(RESULT),
        assistant({"type": "redacted_thinking", "data": "x"}, CALL),
        user(RESULT),
        thinking=thinking,
    )
    now = after("thinking_binding", before, REFUSAL)
    assert now["messages"] == [HI, assistant(CALL), user(RESULT), assistant(CALL), user(RESULT)]
    assert now["thinking"] == thinking


def test_a_history_without_thinking_needs_no_unbinding() -> None:
    assert refused("thinking_binding", draft(HI, assistant(CALL), user(RESULT)), REFUSAL)


# --- thinking_signature ---

INVALID = "messages.1.content.0: Invalid `signature` in `thinking` block"
MISSING = "messages.1.content.0.thinking.signature: Field required"
UNSIGNED = {"type": "thinking", "thinking": "Hm."}
LOOP = (HI, assistant(THOUGHT, CALL), user(RESULT))


def test_all_thinking_is_removed_if_a_signature_is_invalid() -> None:
    before = draft(HI, assistant(THOUGHT, text("a")), HI, assistant(THOUGHT, CALL), user(RESULT))
    made = repaired("thinking_signature", before, INVALID)
    assert made.draft.body.get("messages") == [
        HI,
        assistant(text("a")),
        HI,
        assistant(CALL),
        user(RESULT),
    ]
    assert made.changed == "2 thinking blocks removed from the history"
    assert made.lesson is None


def test_only_unsigned_thinking_is_removed_if_a_signature_is_missing() -> None:
    empty = {**UNSIGNED, "signature": ""}
    before = draft(HI, assistant(THOUGHT, UNSIGNED, empty, text("a")), HI)
    assert after("thinking_signature", before, MISSING)["messages"] == [
        HI,
        assistant(THOUGHT, text("a")),
        HI,
    ]


def test_thinking_is_switched_off_if_a_turn_continues_without_it() -> None:
    budget = {"type": "enabled", "budget_tokens": 2000}
    edits = {"edits": [{"type": "clear_thinking_20251015"}]}
    now = after(
        "thinking_signature", draft(*LOOP, thinking=budget, context_management=edits), INVALID
    )
    assert now.keys() == {"model", "max_tokens", "messages"}
    kept = after("thinking_signature", draft(*LOOP[:2], HI, thinking=budget), INVALID)
    assert kept["thinking"] == budget
    adaptive = {"type": "adaptive"}
    assert (
        after("thinking_signature", draft(*LOOP, thinking=adaptive), INVALID)["thinking"]
        == adaptive
    )


@pytest.mark.parametrize("before", captured())
def test_the_real_clients_signatures_are_removed(before: RequestDraft) -> None:
    if b'"thinking","thinking"' not in before.body.raw:
        assert refused("thinking_signature", before, INVALID)
        return
    now = repaired("thinking_signature", before, INVALID).draft.body
    for member in ("model", "system", "tools", "thinking", "metadata"):
        assert now.member(member) == before.body.member(member)


def test_refusals_of_other_signatures_leave_thinking_alone() -> None:
    assert refused(
        "thinking_signature", draft(*LOOP), "messages.1.content.0.tool_use.id: Field required"
    )
    assert refused("thinking_signature", draft(*LOOP), MISSING)


# --- thinking_start ---

NO_START = "Expected `thinking` or `redacted_thinking`, but found `tool_use`"


def test_thinking_is_switched_off_and_removed() -> None:
    before = draft(
        HI,
        assistant(THOUGHT, text("a")),
        HI,
        assistant(CALL),
        user(RESULT),
        thinking={"type": "enabled", "budget_tokens": 2000},
        context_management={"edits": [{"type": "clear_thinking_20251015"}]},
    )
    now = after("thinking_start", before, NO_START)
    assert now.keys() == {"model", "max_tokens", "messages"}
    assert now["messages"] == [HI, assistant(text("a")), HI, assistant(CALL), user(RESULT)]


def test_a_request_without_thinking_needs_no_start() -> None:
    assert refused("thinking_start", draft(HI, assistant(CALL), user(RESULT)), NO_START)


# --- thinking_latest ---

CHANGED = (
    "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified"
)
FINAL = (
    "When thinking is disabled, an `assistant` message in the final position cannot contain "
    "`thinking`"
)
BUDGET = {"type": "enabled", "budget_tokens": 2000}
FIRST = (HI, assistant(THOUGHT, CALL), user(RESULT))


def test_only_the_last_messages_thinking_is_removed() -> None:
    now = after(
        "thinking_latest",
        draft(*FIRST, assistant(THOUGHT, CALL), user(RESULT), thinking=BUDGET),
        CHANGED,
    )
    assert now["messages"] == [*FIRST, assistant(CALL), user(RESULT)]
    assert "thinking" not in now


def test_adaptive_thinking_stays_on() -> None:
    adaptive = {"type": "adaptive"}
    assert (
        after("thinking_latest", draft(*FIRST, thinking=adaptive), CHANGED)["thinking"] == adaptive
    )


def test_a_last_message_with_only_thinking_is_removed() -> None:
    before = draft(HI, assistant(THOUGHT), thinking={"type": "disabled"})
    now = after("thinking_latest", before, FINAL)
    assert now["messages"] == [HI]
    assert now["thinking"] == {"type": "disabled"}


def test_a_last_message_without_thinking_stays() -> None:
    assert refused("thinking_latest", draft(HI, assistant(CALL), user(RESULT)), CHANGED)
    assert refused("thinking_latest", draft(), FINAL)


# --- thinking_budget ---

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
def test_a_refused_budget_becomes_an_accepted_one(before: Any, message: str, tokens: int) -> None:
    assert after("thinking_budget", before, message)["thinking"] == {
        "type": "enabled",
        "budget_tokens": tokens,
    }


@pytest.mark.parametrize(
    ("before", "message"),
    [(budget(500, 1024), SMALL), (budget(1024, 1000), ANSWER), (budget(5000), LARGE[:-5] + "512")],
)
def test_thinking_is_switched_off_if_the_answer_has_no_room(before: Any, message: str) -> None:
    assert "thinking" not in after("thinking_budget", before, message)


def test_the_limits_of_budgets_are_learned() -> None:
    assert repaired("thinking_budget", budget(32000), LARGE).lesson == (
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
def test_an_accepted_budget_stays(before: Any, message: str) -> None:
    assert refused("thinking_budget", before, message)


# --- thinking_mode ---

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


def budgeted(tokens: int) -> dict[str, Any]:
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
    now = after("thinking_mode", draft(thinking=budgeted(tokens), **more), NO_ENABLED)
    assert now["thinking"] == ADAPTIVE
    assert now.get("output_config") == config


@pytest.mark.parametrize(
    ("effort", "tokens"),
    [("low", 2000), ("medium", 8000), ("high", 16000), ("max", 31999), (None, 16000)],
)
def test_an_effort_becomes_a_budget(effort: str | None, tokens: int) -> None:
    config: Any = {"output_config": {"effort": effort}} if effort else {}
    now = after("thinking_mode", draft(thinking=ADAPTIVE, **config), NO_ADAPTIVE)
    assert now["thinking"] == budgeted(tokens)


@pytest.mark.parametrize(
    ("messages", "more", "message"),
    [
        ([HI], {"max_tokens": 1024}, NO_ADAPTIVE),
        ([HI], {"tool_choice": {"type": "any"}}, NO_ADAPTIVE),
        ([HI, assistant(CALL), user(RESULT)], {}, NO_ADAPTIVE),
        ([HI], {}, ONLY_DISABLED),
    ],
)
def test_thinking_is_switched_off_if_a_budget_would_be_refused(
    messages: list[Any], more: Any, message: str
) -> None:
    assert "thinking" not in after(
        "thinking_mode", draft(*messages, thinking=ADAPTIVE, **more), message
    )


def test_a_turn_that_began_with_thinking_continues_with_it() -> None:
    before = draft(HI, assistant(THOUGHT, CALL), user(RESULT), thinking=ADAPTIVE)
    assert after("thinking_mode", before, NO_ADAPTIVE)["thinking"] == budgeted(16000)


def test_disabled_thinking_is_left_to_the_model() -> None:
    assert "thinking" not in after("thinking_mode", draft(thinking=DISABLED), NO_DISABLED)


def test_an_effort_gives_way_to_disabled_thinking() -> None:
    high: Any = {"output_config": {"effort": "max"}}
    now = after("thinking_mode", draft(thinking=DISABLED, **high), NOT_WITH_MAX)
    assert (now["thinking"], now["output_config"]) == (DISABLED, {"effort": "high"})
    made = repaired("thinking_mode", draft(thinking=DISABLED, betas=BETAS, **high), NOT_WITH_EFFORT)
    assert made.draft.body.get("thinking") == DISABLED
    assert "output_config" not in made.draft.body
    assert "effort-2025-11-24" not in made.draft.betas


@pytest.mark.parametrize(
    ("thinking", "message"),
    [
        (ADAPTIVE, NO_ENABLED),
        (budgeted(2000), NO_ADAPTIVE),
        (DISABLED, NO_ADAPTIVE),
        (ADAPTIVE, NO_DISABLED),
        (DISABLED, NOT_WITH_EFFORT),
        (DISABLED, NOT_WITH_MAX),
        (7, NO_ENABLED),
    ],
)
def test_the_way_of_thinking_stays_if_it_is_another(thinking: Any, message: str) -> None:
    assert refused("thinking_mode", draft(thinking=thinking), message)


# --- forced_tool ---

ANTHROPIC = "Thinking may not be enabled when tool_choice forces tool use."
KIMI = "tool_choice 'specified' is incompatible with thinking enabled"
AT_ALL = 'tool_choice: type "tool" and "any" are not supported for this model'
TOOL = {"type": "tool", "name": "Bash", "disable_parallel_tool_use": True}
ANY = {"type": "any"}
ON = {"type": "enabled", "budget_tokens": 2000}


def test_thinking_gives_way_to_a_forced_tool() -> None:
    now = after("forced_tool", draft(thinking=ON, tool_choice=TOOL), ANTHROPIC)
    assert "thinking" not in now
    assert now["tool_choice"] == TOOL


@pytest.mark.parametrize("more", [{}, {"thinking": ON}])
def test_thinking_is_disabled_if_it_is_on_by_default(more: Any) -> None:
    now = after("forced_tool", draft(tool_choice=ANY, **more), KIMI)
    assert now["thinking"] == {"type": "disabled"}
    assert now["tool_choice"] == ANY


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HI], [user(text("hi"), text("Now call the Bash tool."))]),
        ([user(RESULT)], [user(RESULT, text("Now call the Bash tool."))]),
        (
            [HI, {"role": "system", "content": "x"}],
            [user(text("hi"), text("Now call the Bash tool.")), {"role": "system", "content": "x"}],
        ),
    ],
)
def test_the_user_asks_for_the_forced_tool(messages: list[Any], expected: list[Any]) -> None:
    now = after("forced_tool", draft(*messages, tool_choice=TOOL), AT_ALL)
    assert now["messages"] == expected
    assert now["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


def test_the_user_asks_for_any_tool() -> None:
    now = after("forced_tool", draft(tool_choice=ANY), AT_ALL)
    assert now["messages"] == [user(text("hi"), text("Now call one of the tools."))]


@pytest.mark.parametrize("message", [ANTHROPIC, KIMI])
def test_the_choice_of_tool_gives_way_where_thinking_cannot(message: str) -> None:
    before = draft(thinking=ON, tool_choice=TOOL)
    changes = [made.changed for _, made in find_repairs(before, Refusal(400, message))]
    assert changes == ["thinking switched off", "tool_choice changed to auto"]


@pytest.mark.parametrize("choice", [None, {"type": "auto"}, {"type": "none"}, 7])
@pytest.mark.parametrize("message", [ANTHROPIC, KIMI, AT_ALL])
def test_a_free_choice_of_tool_stays(choice: Any, message: str) -> None:
    assert refused("forced_tool", draft(thinking=ON, tool_choice=choice), message)


# --- reasoning_content ---

MISSING_REASONING = "The `reasoning_content` in the thinking mode must be passed back to the API."
SHOWN = {"type": "thinking", "thinking": "(omitted)", "signature": "omitted"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (assistant(CALL), assistant(SHOWN, CALL)),
        ({"role": "assistant", "content": "a"}, assistant(SHOWN, text("a"))),
        (assistant({**THOUGHT, "thinking": ""}, CALL), assistant(SHOWN, CALL)),
        (assistant({**THOUGHT, "thinking": " "}, CALL), assistant(SHOWN, CALL)),
    ],
)
def test_messages_without_thinking_are_marked(message: Any, expected: Any) -> None:
    made = repaired("reasoning_content", draft(HI, message, user(RESULT)), MISSING_REASONING)
    assert made.draft.body.get("messages") == [HI, expected, user(RESULT)]


def test_the_mark_reaches_the_other_format() -> None:
    made = repaired(
        "reasoning_content", draft(HI, assistant(CALL), user(RESULT)), MISSING_REASONING
    )
    sent = to_openai(made.draft.body, Quirks(reasoning_content="all"), "m").get("messages")
    assert sent[1]["reasoning_content"] == "(omitted)"


@pytest.mark.parametrize("message", [assistant(THOUGHT, CALL), assistant(), HI])
def test_messages_with_thinking_stay(message: Any) -> None:
    assert refused("reasoning_content", draft(HI, message), MISSING_REASONING)
