"""What holds of every repair: it knows its own refusals, and no request is too strange for it."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify import NAMES, attempt
from ccfallback.rectify.rule import Refusal
from tests.rectify.drafts import (
    BETAS,
    CAPTURED,
    FULL,
    MARK,
    PNG,
    STRANGE,
    assistant,
    call,
    captured,
    captured_body,
    conversations,
    document,
    draft_of,
    image,
    members,
    repair_body,
    repaired,
    result,
    server_call,
    server_result,
    system,
    text,
    tool,
    user,
)
from tests.rectify.refusals import NEVER, OTHERS, REFUSALS, REFUSED, STRUCTURE

WORDINGS: Final = [(name, wording) for name, wordings in REFUSALS.items() for wording in wordings]

SHARED: Final = {
    # The binding comes first, and what it repairs leaves the others nothing to do.
    ("thinking_signature", "thinking_binding"),
    ("thinking_mode", "thinking_budget"),
}
"""Repairs that know a wording of another one."""

MAY_CHANGE: Final = {
    "beta_flags": {"context_management", "output_config", "messages", "tools"},
    "context_management": {"context_management"},
    "output_config": {"output_config", "messages", "thinking", "system"},
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
    assert set(REFUSALS) == set(MAY_CHANGE)
    own = [name for name in NAMES if name.startswith("dialect_")]
    assert {*REFUSALS, *REFUSED, *own, "tool_name_form"} == set(NAMES)


@pytest.mark.parametrize(("name", "wording"), WORDINGS)
def test_a_wording_is_recognized(name: str, wording: str) -> None:
    rule = name
    hit = [one for one in FULL if attempt(rule, one, Refusal(400, wording)) is not None]
    assert hit
    for one in hit:
        made = repaired(rule, one, wording)
        assert is_well_formed(members(made.draft))
        assert set(made.draft.betas) <= set(one.betas)


@pytest.mark.parametrize(("name", "wording"), WORDINGS)
def test_no_other_repair_recognizes_the_wording(name: str, wording: str) -> None:
    for rule in REFUSALS:
        if rule == name or (rule, name) in SHARED:
            continue
        for one in DRAFTS:
            assert attempt(rule, one, Refusal(400, wording)) is None, rule


@pytest.mark.parametrize("wording", [*NEVER, *STRUCTURE])
def test_what_is_not_to_be_repaired(wording: str) -> None:
    for rule, one in product(REFUSALS, DRAFTS):
        assert attempt(rule, one, Refusal(400, wording)) is None, rule


@pytest.mark.parametrize(("name", "wording"), WORDINGS)
def test_a_repair_changes_only_its_own_members(name: str, wording: str) -> None:
    for one in DRAFTS:
        made = attempt(name, one, Refusal(400, wording))
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
        made = attempt(name, one, Refusal(400, wording))
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
FIELD_WORDS = st.sampled_from([wording for _, wording in WORDINGS])
NOISE = st.text(max_size=40) | st.builds(
    lambda first, second, cut: first[:cut] + second[cut:],
    FIELD_WORDS,
    FIELD_WORDS,
    st.integers(0, 120),
)


@given(LOOSE, FIELD_WORDS | NOISE)
def test_nothing_is_too_strange(loose: dict[str, Any], wording: str) -> None:
    before = RequestDraft(Body.parse(msgspec.json.encode(loose)), BETAS)
    raw = before.body.raw
    for rule in REFUSALS:
        made = attempt(rule, before, Refusal(400, wording))
        assert before.body.raw == raw
        if made is not None:
            assert made.draft.body.raw != raw or made.draft.betas != before.betas, rule
            assert made.draft.body.get("model") == loose.get("model")
            again = attempt(rule, made.draft, Refusal(400, wording))
            assert again is None, (rule, again)


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
def turns(draw: st.DrawFn) -> list[dict[str, Any]]:
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


@pytest.mark.usefixtures("untraced")
@given(
    turns(),
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
        made = attempt(name, before, Refusal(400, wording))
        if made is not None:
            assert is_well_formed(members(made.draft)), wording


@pytest.mark.parametrize("before", DRAFTS)
def test_one_repair_after_the_other(before: RequestDraft) -> None:
    now = before
    for rule, (name, wording) in product(REFUSALS, WORDINGS):
        if rule == name:
            made = attempt(rule, now, Refusal(400, wording))
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


# --- Structure ---

FAULTY: Any = {
    "messages": [
        assistant(text("first"), document()),
        assistant(
            call("a.b:0" * 12), call("same"), server_call("web-1"), server_call("srvtoolu_1")
        ),
        user(
            text("", **MARK),
            image("A" * 8, **MARK),
            document(**MARK),
            text("cited", citations=[{"type": "char_location"}], **MARK),
            result("same", [image(PNG, "image/jpeg"), text("t")]),
            result("unasked"),
        ),
        user(text("again", cache_control={"type": "ephemeral", "ttl": "1h"})),
        system("remember"),
        assistant(call("same"), server_result("srvtoolu_2")),
        user(result("same"), text("on", **MARK), image(PNG)),
        assistant(text("well ")),
    ],
    "tools": [
        {**tool("Bash", oneOf=[{"required": ["a"]}]), **MARK},
        {**tool("Long"), "description": "Reads. " * 300},
        tool("Bash", properties={"a": {"type": "array", "uniqueItems": 3}}, **{"$schema": "old"}),
    ],
}
"""Everything at once is wrong with it."""


def sides(texts: tuple[str, ...], name: str) -> list[Any]:
    return [pytest.param(name, words, id=f"{name}: {words[:60]}") for words in texts]


CASES = [case for name, texts in REFUSED.items() for case in sides(texts, name)]


def faulty(words: str) -> Any:
    lowered = words.lower()
    if "must define" in lowered or "must be defined" in lowered or "tools=" in lowered:
        return {**FAULTY, "tools": []}
    return FAULTY


@pytest.mark.parametrize(("name", "words"), CASES)
def test_one_repair_matches_a_refusal_and_is_made_once(name: str, words: str) -> None:
    draft = draft_of(faulty(words))
    known = [each for each in REFUSED if attempt(each, draft, Refusal(400, words))]
    assert known == [name]
    assert repair_body(name, faulty(words), words)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_about_structure_is_left_alone(name: str) -> None:
    for draft in (draft_of(FAULTY), draft_of({**FAULTY, "tools": []})):
        for words in (*NEVER, *OTHERS):
            assert attempt(name, draft, Refusal(400, words)) is None, words


ALL_WORDS = st.sampled_from([words for texts in REFUSED.values() for words in texts])


@given(STRANGE, ALL_WORDS)
def test_no_body_is_too_strange(body: Any, words: str) -> None:
    for name in REFUSED:
        repair_body(name, body, words)


@given(st.text(max_size=30), ALL_WORDS, st.integers(0, 80), st.integers(0, 80))
def test_no_message_is_too_strange(noise: str, words: str, start: int, end: int) -> None:
    draft = draft_of(FAULTY)
    for name in REFUSED:
        attempt(name, draft, Refusal(400, words[start:] + noise + words[:end]))


# Of a request without faults there is nothing to repair, save what the provider itself refuses.
LEARNS = {
    *("media", "alternation", "after_results", "prefill", "tool_schemas", "tool_ids"),
    *("cache_marks", "citations", "block_types", "tool_count", "tool_descriptions"),
}


@given(conversations(), ALL_WORDS)
def test_a_request_without_faults_stays_as_it_is(body: Any, words: str) -> None:
    for name in REFUSED:
        if name not in LEARNS:
            assert repair_body(name, body, words) is None


@pytest.mark.parametrize("case", CAPTURED, ids=lambda case: case.stem)
def test_the_clients_own_requests_need_no_repair(case: Path) -> None:
    body = captured_body(case)
    for name in REFUSED:
        for words in REFUSED[name]:
            made = repair_body(name, body, words)
            assert made is None or name in LEARNS, words


def test_deep_bodies_do_not_raise() -> None:
    schema: Any = {"type": "object"}
    block: Any = text("deep")
    for _ in range(300):
        schema = {"type": "object", "properties": {"a": schema}, "oneOf": [schema["type"]]}
        block = result("a", [block])
    body = {"messages": [user(block)], "tools": [tool("Deep", **schema)]}
    for name in REFUSED:
        for texts in REFUSED.values():
            for words in texts:
                attempt(name, draft_of(body), Refusal(400, words))
