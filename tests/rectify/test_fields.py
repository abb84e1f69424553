"""Fields, flags and values that are refused."""

from typing import Any

import pytest

from ccfallback.rectify import attempt, plain_form
from ccfallback.rectify.fields import LEAST_ANSWER
from ccfallback.rectify.rule import Refusal
from tests.rectify.drafts import (
    BETAS,
    CALL,
    FULL,
    HI,
    after,
    assistant,
    draft,
    members,
    refused,
    repaired,
    text,
)
from tests.rectify.refusals import REFUSALS

# --- beta_flags ---

CONTEXT, EFFORT = "context-management-2025-06-27", "effort-2025-11-24"
SENTENCE = "Unexpected value(s) `{}` for the `anthropic-beta` header"


def test_several_flags_go_with_their_fields_and_the_others_keep_their_order() -> None:
    betas = ("a-1", CONTEXT, "b-1", "foo-1", "c-1")
    before = draft(HI, betas=betas, context_management={"edits": []})
    made = repaired("beta_flags", before, SENTENCE.format(f"{CONTEXT}`, `foo-1"))
    assert made.draft.betas == ("a-1", "b-1", "c-1")
    assert "context_management" not in made.draft.body
    assert made.changed == (f"2 beta flags removed: {CONTEXT}, foo-1, and context_management")


def test_a_flag_without_a_field_leaves_the_body_as_it_is() -> None:
    before = draft(HI, betas=("foo-1",))
    made = repaired("beta_flags", before, SENTENCE.format("foo-1"))
    assert made.draft.body is before.body
    assert made.draft.betas == ()


def test_a_flag_that_begins_like_another_one_stays() -> None:
    before = draft(HI, betas=("foo-1", "foo-1-more", "a-foo-1"))
    made = repaired("beta_flags", before, SENTENCE.format("foo-1"))
    assert made.draft.betas == ("foo-1-more", "a-foo-1")


def test_deferred_tools_need_their_flag() -> None:
    flag = "advanced-tool-use-2025-11-20"
    made = repaired("beta_flags", FULL[0], SENTENCE.format(flag))
    tools = members(made.draft)["tools"]
    assert [tool["name"] for tool in tools] == ["Bash", "WebFetch"]
    assert not any("defer_loading" in tool or "input_examples" in tool for tool in tools)


def test_flags_without_names_all_go_but_the_logins() -> None:
    before = draft(HI, betas=(*BETAS, "oauth-2025-04-20"))
    made = repaired("beta_flags", before, "invalid beta flag")
    assert made.draft.betas == ("oauth-2025-04-20",)


@pytest.mark.parametrize(
    "message",
    [
        "effort-2025-11-24 is required in the anthropic-beta header",
        SENTENCE.format("bar-1"),
        f"anthropic-beta: invalid value bar-1. Supported values are: {EFFORT}",
        "unexpected value for effort-2025-11-24",
    ],
)
def test_refusals_of_something_else_remove_no_flag(message: str) -> None:
    assert refused("beta_flags", draft(HI, betas=(EFFORT,)), message)


# --- context_management ---

CLEARING = {"type": "clear_thinking_20251015", "keep": "all"}
OTHER = {"type": "clear_tool_uses_20250919"}
NEEDS = "`clear_thinking_20251015` strategy requires `thinking` to be enabled or adaptive"
UNKNOWN = "context_management: Extra inputs are not permitted"


def test_context_management_is_removed_with_its_flag() -> None:
    before = draft(HI, betas=BETAS, context_management={"edits": [CLEARING, OTHER]})
    made = repaired("context_management", before, UNKNOWN)
    assert "context_management" not in made.draft.body
    assert set(BETAS) - set(made.draft.betas) == {"context-management-2025-06-27"}
    assert made.lesson == UNKNOWN


def test_only_the_refused_edit_is_removed() -> None:
    before = draft(HI, betas=BETAS, context_management={"edits": [CLEARING, OTHER]})
    made = repaired("context_management", before, NEEDS)
    assert members(made.draft)["context_management"] == {"edits": [OTHER]}
    assert made.draft.betas == BETAS
    assert made.lesson is not None
    thinks = draft(thinking={"type": "adaptive"}, context_management={"edits": [CLEARING]})
    assert refused("context_management", thinks, made.lesson)


def test_a_refused_edit_is_not_learned_if_there_is_thinking() -> None:
    before = draft(thinking={"type": "adaptive"}, context_management={"edits": [CLEARING]})
    assert repaired("context_management", before, NEEDS).lesson is None


def test_context_management_stays_if_it_is_missing_or_something_else_is_refused() -> None:
    assert refused("context_management", draft(), UNKNOWN)
    assert refused("context_management", draft(context_management={"edits": [OTHER]}), NEEDS)
    assert refused("context_management", draft(context_management=7), NEEDS)


def test_a_promise_about_the_region_is_never_removed() -> None:
    bound = draft(inference_geo="us")
    assert refused("extra_fields", bound, EXTRA.format("inference_geo"))
    assert not refused("extra_fields", draft(service_tier="x"), EXTRA.format("service_tier"))
    reduced, _ = plain_form.apply(bound)
    assert reduced.body.get("inference_geo") == "us"


# --- output_config ---

FORMAT = {"type": "json_schema", "schema": {}}
NOTE = {"role": "system", "content": "x"}
LOW: Any = {"output_config": {"effort": "low"}}
EXTRA = "{}: Extra inputs are not permitted"


@pytest.mark.parametrize(
    ("config", "message", "left"),
    [
        ({"effort": "high"}, EXTRA.format("output_config"), None),
        ({"effort": "high"}, EXTRA.format("output_config.effort"), None),
        ({"effort": "high", "format": FORMAT}, "does not support the effort parameter",
         {"format": FORMAT}),
        ({"effort": "high", "task_budget": {}}, EXTRA.format("output_config.task_budget"),
         {"effort": "high"}),
        ({"effort": "max"}, "output_config.effort: Input should be 'low', 'medium' or 'high'",
         {"effort": "high"}),
        ({"effort": "xhigh"}, "'reasoning_effort' does not support 'xhigh' with this model. "
         "Supported values are: 'low', 'medium', and 'high'.", {"effort": "high"}),
        ({"effort": "low"}, "reasoning_effort must be one of medium, high", {"effort": "medium"}),
    ],
)  # fmt: skip
def test_only_the_refused_part_of_output_config_is_removed(
    config: Any, message: str, left: Any
) -> None:
    assert (
        after("output_config", draft(HI, betas=BETAS, output_config=config), message).get(
            "output_config"
        )
        == left
    )


def test_the_flag_is_removed_with_the_effort() -> None:
    made = repaired(
        "output_config", draft(betas=BETAS, **LOW), "does not support the effort parameter"
    )
    assert set(BETAS) - set(made.draft.betas) == {"effort-2025-11-24"}


def test_the_effort_of_a_message_moves_to_the_top() -> None:
    before = draft(HI, {**NOTE, **LOW}, betas=BETAS, output_config={"effort": "high"})
    made = repaired("output_config", before, EXTRA.format("messages.1.output_config"))
    assert made.draft.body.get("messages") == [HI, NOTE]
    assert made.draft.body.get("output_config") == {"effort": "low"}
    assert set(BETAS) - set(made.draft.betas) == {"per-turn-control-2026-07-01"}


def test_an_unknown_effort_is_lowered_in_messages_too() -> None:
    before = draft(HI, {**NOTE, **LOW}, {"role": "system", "content": "", **LOW})
    now = after("output_config", before, "does not support the effort parameter")
    assert now["messages"] == [HI, {**NOTE, "output_config": {}}]


@pytest.mark.parametrize(
    "message",
    [
        EXTRA.format("output_config"),
        EXTRA.format("output_config.format"),
        "output_config.format requires a model that supports structured outputs",
        "Structured outputs are not supported on this model",
        "This model does not support structured outputs.",
    ],
)
def test_a_format_is_asked_for_in_words(message: str) -> None:
    before = draft(output_config={"format": FORMAT}, system="Be good.")
    now = after("output_config", before, message)
    assert "output_config" not in now
    assert [block["text"] for block in now["system"]] == [
        "Be good.",
        "Answer with JSON that follows this schema, and with nothing else:\n{}",
    ]


def test_an_older_format_is_asked_for_in_words() -> None:
    before = draft(output_format=FORMAT)
    now = after("output_config", before, EXTRA.format("output_format"))
    assert "output_format" not in now
    assert "follows this schema" in now["system"][0]["text"]


def test_a_known_effort_stays() -> None:
    assert refused(
        "output_config", draft(**LOW), "output_config.effort: Input should be 'low' or 'high'"
    )


# --- billing_text ---

REFUSAL = "x-anthropic-billing-header is a reserved keyword"


def test_the_billing_line_is_removed() -> None:
    system = [text("x-anthropic-billing-header: cc_version=2"), text("Be good.")]
    assert after("billing_text", draft(system=system), REFUSAL)["system"] == [text("Be good.")]


@pytest.mark.parametrize("system", [None, "Be good.", [text("Be good.")]])
def test_a_system_prompt_without_billing_line_stays(system: object) -> None:
    assert refused("billing_text", draft(system=system), REFUSAL)


# --- extra_fields ---


def test_only_the_unknown_field_is_removed() -> None:
    before = draft(HI, assistant({**CALL, "caller": 1}, {**text("a"), "caller": 2}), foo=1, bar=2)
    made = repaired("extra_fields", before, EXTRA.format("messages.1.content.0.tool_use.caller"))
    assert members(made.draft) == {
        **members(before),
        "messages": [HI, assistant(CALL, {**text("a"), "caller": 2})],
    }
    assert made.lesson == EXTRA.format("messages.*.content.*.tool_use.caller")


def test_several_unknown_fields_are_removed_with_their_flags() -> None:
    before = draft(HI, speed="fast", foo=1, betas=("fast-mode-2026-01-01", "a-1"))
    made = repaired("extra_fields", before, f"{EXTRA.format('speed')}; {EXTRA.format('foo')}")
    assert made.draft.betas == ("a-1",)
    assert members(made.draft).keys() == {"model", "max_tokens", "messages"}


@pytest.mark.parametrize(
    "path",
    [
        *("model", "messages", "max_tokens", "system", "tools", "stream", "tool_choice"),
        *("output_format", "thread", "compaction", "context_management", "output_config.effort"),
        *("tools.0.strict", "tools.0.input_schema.foo", "tools.0.name", "tools.0.input_schema"),
        *("messages.1.content.0.tool_use.input.command", "messages.0.role", "messages.0.content"),
        *("messages.1.content.0.tool_use.id", "messages.1.content.0.signature", "nothing"),
        "messages.1.content.0.cache_control",
    ],
)
def test_needed_fields_and_those_of_other_repairs_stay(path: str) -> None:
    before = draft(
        HI,
        assistant({**CALL, "signature": "s", "cache_control": {}}),
        tools=[{"name": "a", "input_schema": {"foo": 1}, "strict": True}],
        system="s",
        stream=True,
        tool_choice={"type": "any"},
        output_format={},
        thread={},
        compaction={},
        context_management={},
        output_config={"effort": "low"},
    )
    assert refused("extra_fields", before, EXTRA.format(path))


# --- sampling ---

ALL: Any = {"temperature": 0.7, "top_p": 0.9, "top_k": 5}
BOTH = "`temperature` and `top_p` cannot both be specified for this model."


@pytest.mark.parametrize(
    ("message", "left"),
    [
        (BOTH, {"temperature", "top_k"}),
        ("`temperature` is deprecated for this model.", set()),
        ("`top_k` must be unset when thinking is enabled.", set()),
        ("Unsupported parameter: 'top_p' is not supported with this model.",
         {"temperature", "top_k"}),
        ("top_k: Extra inputs are not permitted", {"temperature", "top_p"}),
        ("Unsupported value: 'temperature' does not support 0.7", {"top_p", "top_k"}),
    ],
)  # fmt: skip
def test_only_the_refused_sampling_parameters_are_removed(message: str, left: set[str]) -> None:
    made = repaired("sampling", draft(**ALL), message)
    assert {name for name in ALL if name in made.draft.body} == left


def test_a_parameter_refused_because_of_thinking_is_not_learned() -> None:
    message = "`temperature` may only be set to 1 when thinking is enabled."
    assert repaired("sampling", draft(**ALL), message).lesson is None


def test_other_sampling_parameters_stay() -> None:
    assert refused("sampling", draft(top_p=1), BOTH)
    assert refused("sampling", draft(), "`temperature` is deprecated for this model.")
    assert refused("sampling", draft(**ALL), "temperature: Input should be less than or equal to 1")


def test_a_parameter_is_removed_whether_or_not_there_is_another() -> None:
    refusal = "Unsupported parameter: 'top_p' is not supported with this model."
    assert "top_p" not in after("sampling", draft(top_p=0.9), refusal)
    both = "`temperature` and `top_p` cannot both be specified for this model."
    assert refused("sampling", draft(top_p=0.9), both)


# --- parameters ---

UNSUPPORTED = "Unsupported parameter: '{}' is not supported with this model."


@pytest.mark.parametrize(
    ("name", "given", "left"),
    [
        ("stop", {"stop_sequences": ["a"]}, {}),
        ("stop_sequences", {"stop_sequences": ["a"]}, {}),
        ("user", {"metadata": {"user_id": "a"}}, {}),
        ("user", {"metadata": {"user_id": "a", "b": 1}}, {"metadata": {"b": 1}}),
        (
            "parallel_tool_calls",
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            {"tool_choice": {"type": "auto"}},
        ),
    ],
)
def test_a_parameter_is_removed_by_the_clients_name(name: str, given: Any, left: Any) -> None:
    now = after("parameters", draft(**given), UNSUPPORTED.format(name))
    assert {key: now[key] for key in now if key not in ("model", "max_tokens", "messages")} == left


def test_other_parameters_stay() -> None:
    assert refused("parameters", draft(), UNSUPPORTED.format("stop"))
    assert refused("parameters", draft(stop_sequences=["a"]), UNSUPPORTED.format("max_tokens"))


# --- max_tokens ---

LIMIT = "max_tokens: 128000 > {}, which is the maximum allowed number of output tokens for m"


@pytest.mark.parametrize(
    ("message", "least"),
    [
        ("Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got"
         " 1 instead.", 16),
        ("max_tokens must be at least 32", 32),
        ("max_tokens: Input should be greater than or equal to 64", 64),
        ("max_completion_tokens must be greater than 1", 2),
        ("The minimum value of max_tokens is 1,024", 1024),
        ("Could not finish the message because max_tokens or model output limit was reached. Please"
         " try again with higher max_tokens.", LEAST_ANSWER),
        ("max_tokens is too low for this model", LEAST_ANSWER),
        ("please increase max_tokens", LEAST_ANSWER),
    ],
)  # fmt: skip
def test_a_limit_that_is_too_low_is_raised(message: str, least: int) -> None:
    made = attempt("max_tokens", draft(max_tokens=1), Refusal(400, message))
    assert made is not None
    assert made.lesson is not None
    assert made.draft.body.max_tokens == least
    # What is learned from it raises the next one, and leaves a higher one as it is.
    assert made.lesson == f"max_tokens must be at least {least}"
    again = attempt("max_tokens", draft(max_tokens=1), Refusal(400, made.lesson))
    assert again is not None
    assert again.draft.body.max_tokens == least
    assert refused("max_tokens", draft(max_tokens=32000), made.lesson)


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens must be greater than thinking.budget_tokens",
        "`max_tokens` must be greater than `thinking.budget_tokens` 1024",
        "max_tokens must be at most 8192",
        "prompt tokens and max_tokens exceed the context length: increase the context window",
    ],
)
def test_a_limit_is_not_raised_for_another_reason(message: str) -> None:
    now = attempt("max_tokens", draft(max_tokens=1), Refusal(400, message))
    assert now is None or now.draft.body.max_tokens <= 1


@pytest.mark.parametrize("message", REFUSALS["max_tokens"])
def test_max_tokens_is_lowered_to_the_stated_limit(message: str) -> None:
    most = after("max_tokens", draft(max_tokens=128000), message)["max_tokens"]
    assert most in (64000, 32768, 30000, 16384, 8192)
    assert str(most) in message or str(most + 1) in message


@pytest.mark.parametrize(
    ("most", "budget"), [(8192, 8191), (64000, 31999), (1025, 1024), (1024, None)]
)
def test_the_budget_of_thinking_stays_below_max_tokens(most: int, budget: int | None) -> None:
    before = draft(
        max_tokens=128000,
        thinking={"type": "enabled", "budget_tokens": 31999},
        context_management={"edits": [{"type": "clear_thinking_20251015"}]},
    )
    now = after("max_tokens", before, LIMIT.format(most))
    assert now["max_tokens"] == most
    assert now.get("thinking", {}).get("budget_tokens") == budget
    assert ("context_management" in now) == (budget is not None)


def test_the_limit_of_the_answer_is_learned() -> None:
    made = repaired("max_tokens", draft(), LIMIT.format("8,192"))
    assert made.lesson == "max_tokens is too large: this model supports at most 8192"
    assert made.changed == "max_tokens changed from 32000 to 8192"


@pytest.mark.parametrize("limit", [32000, "64,000", 0])
@pytest.mark.parametrize("asked", [32000, "x", None, True])
def test_max_tokens_stays_if_the_refusal_is_about_something_else(limit: Any, asked: Any) -> None:
    assert refused("max_tokens", draft(max_tokens=asked), LIMIT.format(limit))


# --- context_limit ---

TOO_LITTLE_ROOM = (
    "input length and `max_tokens` exceed context limit: {} + {} > {}, decrease input length"
)


@pytest.mark.parametrize("message", REFUSALS["context_limit"])
def test_the_answer_is_shortened_to_fit_the_context(message: str) -> None:
    left = after("context_limit", draft(max_tokens=128000), message)["max_tokens"]
    if "at least" in message:
        assert left == 64000
        return
    prompt = 100000 if "100000" in message else 3073 if "3073" in message else 12000
    context = 200000 if "200000" in message else 131072
    assert 0.95 * (context - prompt) < left < context - prompt


def test_the_answer_is_halved_until_it_fits_a_context_of_which_only_a_bound_is_known() -> None:
    before = draft(max_tokens=128000)
    asked = []
    for prompt in (1, 16385, 24577, 28673):
        message = (
            "This model's maximum context length is 32768 tokens. However, you requested"
            f" {before.body.max_tokens} output tokens and your prompt contains at least {prompt}"
            " input tokens, for a total of at least 32769 tokens."
        )
        made = attempt("context_limit", before, Refusal(400, message))
        assert made is not None
        assert made.lesson is None
        before = made.draft
        asked.append(before.body.max_tokens)
    assert asked == [16384, 8192, 4096, 2048]
    assert attempt("context_limit", before, Refusal(400, message)) is None


def test_the_room_in_the_context_is_not_learned() -> None:
    before = draft(max_tokens=128000)
    assert (
        repaired("context_limit", before, TOO_LITTLE_ROOM.format(100, 128000, 128000)).lesson
        is None
    )


@pytest.mark.parametrize(
    "message",
    [
        TOO_LITTLE_ROOM.format(198000, 32000, 200000),
        TOO_LITTLE_ROOM.format(210000, 32000, 200000),
        TOO_LITTLE_ROOM.format(100, 32000, 200000),
        "prompt is too long: 210000 tokens > 200000 maximum",
    ],
)
def test_a_conversation_that_is_too_long_is_not_repaired(message: str) -> None:
    assert LEAST_ANSWER == 2048
    assert refused("context_limit", draft(max_tokens=32000), message)
