"""What holds of every repair of thinking, fields and parameters."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.beta_flags import BETA_FLAGS
from ccfallback.rectify.billing_text import BILLING_TEXT
from ccfallback.rectify.cache_control import CACHE_CONTROL
from ccfallback.rectify.context_limit import CONTEXT_LIMIT
from ccfallback.rectify.context_management import CONTEXT_MANAGEMENT
from ccfallback.rectify.extra_fields import EXTRA_FIELDS
from ccfallback.rectify.forced_tool import FORCED_TOOL
from ccfallback.rectify.max_tokens import MAX_TOKENS
from ccfallback.rectify.output_config import OUTPUT_CONFIG
from ccfallback.rectify.parameters import PARAMETERS
from ccfallback.rectify.reasoning_content import REASONING_CONTENT
from ccfallback.rectify.rule import Rectifier, Refusal
from ccfallback.rectify.sampling import SAMPLING
from ccfallback.rectify.signature_field import SIGNATURE_FIELD
from ccfallback.rectify.system_role import SYSTEM_ROLE
from ccfallback.rectify.thinking_binding import THINKING_BINDING
from ccfallback.rectify.thinking_budget import THINKING_BUDGET
from ccfallback.rectify.thinking_fields import THINKING_FIELDS
from ccfallback.rectify.thinking_latest import THINKING_LATEST
from ccfallback.rectify.thinking_mode import THINKING_MODE
from ccfallback.rectify.thinking_signature import THINKING_SIGNATURE
from ccfallback.rectify.thinking_start import THINKING_START
from ccfallback.rectify.tool_changes import TOOL_CHANGES
from ccfallback.rectify.tool_fields import TOOL_FIELDS
from tests.rectify.drafts import BETAS, FULL, captured, members, repaired
from tests.rectify.refusals import NEVER, REFUSALS, STRUCTURE

RULES: Final[tuple[Rectifier, ...]] = (
    BETA_FLAGS,
    CONTEXT_MANAGEMENT,
    OUTPUT_CONFIG,
    TOOL_FIELDS,
    CACHE_CONTROL,
    TOOL_CHANGES,
    SYSTEM_ROLE,
    BILLING_TEXT,
    SIGNATURE_FIELD,
    THINKING_FIELDS,
    EXTRA_FIELDS,
    SAMPLING,
    PARAMETERS,
    MAX_TOKENS,
    CONTEXT_LIMIT,
    THINKING_BINDING,
    THINKING_SIGNATURE,
    THINKING_START,
    THINKING_LATEST,
    THINKING_BUDGET,
    THINKING_MODE,
    FORCED_TOOL,
    REASONING_CONTENT,
)
"""In the order in which they are to be considered."""

BY_NAME: Final = {rule.name: rule for rule in RULES}
WORDINGS: Final = [(name, wording) for name, wordings in REFUSALS.items() for wording in wordings]

SHARED: Final = {
    # The binding comes first, and what it repairs leaves the others nothing to do.
    ("thinking_signature", "thinking_binding"),
    ("thinking_mode", "thinking_budget"),
}
"""Rectifiers that know a wording of another one."""

MAY_CHANGE: Final = {
    "beta_flags": {"context_management", "output_config", "messages", "tools"},
    "context_management": {"context_management"},
    "output_config": {"output_config", "messages", "thinking"},
    "tool_fields": {"tools", "messages"},
    "cache_control": {"cache_control", "system", "tools", "messages"},
    "tool_changes": {"tools", "messages"},
    "system_role": {"tools", "messages", "output_config"},
    "billing_text": {"system"},
    "extra_fields": {"diagnostics", "messages"},
    "thinking_binding": {"messages"},
    "thinking_signature": {"messages", "thinking", "context_management"},
    "signature_field": {"messages"},
    "thinking_start": {"messages", "thinking", "context_management"},
    "thinking_latest": {"messages", "thinking", "context_management"},
    "thinking_budget": {"thinking", "context_management"},
    "thinking_mode": {"thinking", "context_management", "output_config", "messages"},
    "thinking_fields": {"thinking"},
    "forced_tool": {"thinking", "context_management", "tool_choice", "messages"},
    "sampling": {"temperature", "top_p", "top_k"},
    "max_tokens": {"max_tokens", "thinking", "context_management"},
    "context_limit": {"max_tokens", "thinking", "context_management"},
    "parameters": {"stop_sequences", "tool_choice", "metadata"},
    "reasoning_content": {"messages"},
}
DRAFTS: Final = (*FULL, *captured())


def test_every_rule_has_its_wordings() -> None:
    assert set(BY_NAME) == set(REFUSALS) == set(MAY_CHANGE)
    assert len(BY_NAME) == len(RULES)


@pytest.mark.parametrize(("name", "wording"), WORDINGS)
def test_a_wording_is_known(name: str, wording: str) -> None:
    rule = BY_NAME[name]
    hit = [one for one in FULL if rule.repair(one, Refusal(400, wording)) is not None]
    assert hit
    for one in hit:
        made = repaired(rule, one, wording)
        assert is_well_formed(members(made.draft))
        assert set(made.draft.betas) <= set(one.betas)


@pytest.mark.parametrize(("name", "wording"), WORDINGS)
def test_a_wording_is_known_to_no_other(name: str, wording: str) -> None:
    for rule in RULES:
        if rule.name == name or (rule.name, name) in SHARED:
            continue
        for one in DRAFTS:
            assert rule.repair(one, Refusal(400, wording)) is None, rule.name


@pytest.mark.parametrize("wording", [*NEVER, *STRUCTURE])
def test_what_is_not_to_be_repaired(wording: str) -> None:
    for rule, one in product(RULES, DRAFTS):
        assert rule.repair(one, Refusal(400, wording)) is None, rule.name


@pytest.mark.parametrize(("name", "wording"), WORDINGS)
def test_a_repair_keeps_to_its_own(name: str, wording: str) -> None:
    for one in DRAFTS:
        made = BY_NAME[name].repair(one, Refusal(400, wording))
        if made is not None:
            before, now = members(one), members(made.draft)
            changed = {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
            assert changed <= MAY_CHANGE[name]
            assert list(now) == [key for key in before if key in now] + [
                key for key in now if key not in before
            ]


@pytest.mark.parametrize(("name", "wording"), WORDINGS)
def test_a_repair_says_nothing_of_the_content(name: str, wording: str) -> None:
    for one in FULL:
        made = BY_NAME[name].repair(one, Refusal(400, wording))
        if made is not None:
            for secret in ("Let me.", "Be good.", "gemini", "c2ln", "Well."):
                assert secret not in made.changed
                assert secret not in (made.lesson or "")


ATOMS = st.none() | st.booleans() | st.integers(-5, 200000) | st.text(max_size=3)
WORDS = st.sampled_from(
    [
        *("type", "role", "content", "text", "thinking", "signature", "cache_control", "ttl"),
        *("effort", "output_config", "name", "defer_loading", "display", "edits", "tool"),
        *("tool_use", "tool_result", "system", "user", "assistant", "ephemeral", "enabled"),
        *("adaptive", "disabled", "budget_tokens", "id", "caller", "clear_thinking_1", "any"),
        *("tool_reference", "tool_addition", "definition", "redacted_thinking", "user_id"),
    ]
)
JSON = st.recursive(
    ATOMS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.sampled_from(
    [
        *("messages", "system", "tools", "thinking", "output_config", "context_management"),
        *("tool_choice", "max_tokens", "metadata", "temperature", "cache_control", "diagnostics"),
    ]
)
LOOSE = st.dictionaries(MEMBERS, JSON, max_size=6)
MESSAGES = st.sampled_from([wording for _, wording in WORDINGS])
NOISE = st.text(max_size=40) | st.builds(
    lambda first, second, cut: first[:cut] + second[cut:], MESSAGES, MESSAGES, st.integers(0, 120)
)

some = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@some
@given(LOOSE, MESSAGES | NOISE)
def test_nothing_is_too_strange(loose: dict[str, Any], wording: str) -> None:
    before = RequestDraft(Body.parse(msgspec.json.encode(loose)), BETAS)
    raw = before.body.raw
    for rule in RULES:
        made = rule.repair(before, Refusal(400, wording))
        assert before.body.raw == raw
        if made is not None:
            assert made.draft.body.raw != raw or made.draft.betas != before.betas, rule.name
            assert made.draft.body.get("model") == loose.get("model")
            again = rule.repair(made.draft, Refusal(400, wording))
            assert again is None, (rule.name, again)


TEXTS = st.fixed_dictionaries({"type": st.just("text"), "text": st.sampled_from(["a", "b"])})
THOUGHTS = st.fixed_dictionaries(
    {
        "type": st.just("thinking"),
        "thinking": st.sampled_from(["", "Hm."]),
        "signature": st.sampled_from(["", "c2ln"]),
    }
)
NOTES = st.fixed_dictionaries(
    {"role": st.just("system"), "content": st.text("xy", min_size=1, max_size=3)},
    optional={
        "output_config": st.just({"effort": "low"}),
        "clear_at": st.just("next_user_message"),
    },
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """User and assistant in turns, every call with its result, system messages in between."""
    made: list[dict[str, Any]] = [{"role": "user", "content": draw(st.lists(TEXTS, min_size=1))}]
    for turn in range(draw(st.integers(0, 3))):
        made += draw(st.lists(NOTES, max_size=1))
        said = draw(st.lists(THOUGHTS, max_size=2)) + draw(st.lists(TEXTS, max_size=2))
        calls = [
            {"type": "tool_use", "id": f"t{turn}_{number}", "name": "Bash", "input": {}}
            for number in range(draw(st.integers(0, 2)))
        ]
        if not said and not calls:
            continue
        made.append({"role": "assistant", "content": said + calls})
        results = [
            {"type": "tool_result", "tool_use_id": call["id"], "content": "ok"} for call in calls
        ]
        made.append({"role": "user", "content": results + draw(st.lists(TEXTS, min_size=1))})
    return made + draw(st.lists(NOTES, max_size=1))


@some
@given(
    conversations(),
    st.sampled_from(
        [
            {"thinking": {"type": "adaptive", "display": "omitted"}},
            {"thinking": {"type": "enabled", "budget_tokens": 900}},
            {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}},
            {"tool_choice": {"type": "any"}},
        ]
    ),
)
def test_what_was_well_formed_stays_so(
    messages: list[dict[str, Any]], more: dict[str, Any]
) -> None:
    body = {"model": "m", "max_tokens": 128000, "messages": messages, **more}
    assert is_well_formed(body)
    before = RequestDraft(Body.parse(msgspec.json.encode(body)), BETAS)
    for name, wording in WORDINGS:
        made = BY_NAME[name].repair(before, Refusal(400, wording))
        if made is not None:
            assert is_well_formed(members(made.draft)), wording


@pytest.mark.parametrize("before", DRAFTS)
def test_one_repair_after_the_other(before: RequestDraft) -> None:
    now = before
    for rule, (name, wording) in product(RULES, WORDINGS):
        if rule.name == name:
            made = rule.repair(now, Refusal(400, wording))
            now = now if made is None else made.draft
    assert is_well_formed(members(now))
    assert now.body.model == before.body.model
    assert set(now.betas) <= set(before.betas)


def is_well_formed(body: dict[str, Any]) -> bool:
    """The rules of a conversation, as far as a repair could break them."""
    messages = body["messages"]
    assert messages
    assert messages[0]["role"] != "system"
    for message in messages:
        assert message["content"] or message.get("output_config"), message
    spoken = [message for message in messages if message["role"] != "system"]
    for index, message in enumerate(spoken):
        calls = [block["id"] for block in blocks(message) if block["type"] == "tool_use"]
        following = blocks(spoken[index + 1]) if index + 1 < len(spoken) else []
        results = [block["tool_use_id"] for block in following if block["type"] == "tool_result"]
        assert not calls or results == calls, message
        kinds = [block["type"] == "tool_result" for block in blocks(message)]
        assert kinds == sorted(kinds, reverse=True), message
    return True


def blocks(message: dict[str, Any]) -> Iterator[dict[str, Any]] | list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
