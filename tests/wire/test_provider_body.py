"""What a provider sees: the primary the client's own bytes, a fallback no name of the user."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback.config.model import Config, Privacy, Provider
from ccfallback.messages.body import Body
from ccfallback.messages.system import BILLING_MARK, without_billing
from ccfallback.wire.provider_body import adapt_body, with_pseudonym

PRIMARY = Config().primary
FALLBACK = Provider(name="b", base_url="https://b.test")
STRIP, KEEP = Privacy(), Privacy(strip_billing_header=False)
USER = "user-account-of-a-person"
BILLING = {"type": "text", "text": f"{BILLING_MARK} cc_version=1; cc_entrypoint=cli;"}
PROMPT = {"type": "text", "text": "You are", "cache_control": {"type": "ephemeral"}}


def body(**members: Any) -> Body:
    return Body.parse(json.JSONEncoder(indent=1).encode(members).encode())


WHOLE = body(
    model="claude-a", metadata={"user_id": USER, "other": 1}, system=[BILLING, PROMPT], messages=[]
)


@pytest.mark.parametrize("privacy", [STRIP, KEEP])
def test_the_primary_gets_the_very_same_bytes(privacy: Privacy) -> None:
    sent = adapt_body(PRIMARY, WHOLE, privacy)
    assert sent is WHOLE
    assert sent.raw is WHOLE.raw


def test_a_mapping_for_the_primary_changes_the_model_and_no_more() -> None:
    mapped = replace(PRIMARY, model_mapping={"claude-*": "claude-b"})
    sent = adapt_body(mapped, WHOLE, STRIP)
    assert sent.model == "claude-b"
    assert sent.get("metadata") == WHOLE.get("metadata")
    assert sent.get("system") == WHOLE.get("system")
    assert WHOLE.model == "claude-a"


def test_a_mapping_to_the_same_name_changes_nothing() -> None:
    mapped = replace(PRIMARY, model_mapping={"*": "claude-a"})
    assert adapt_body(mapped, WHOLE, STRIP) is WHOLE


def test_a_body_without_an_identity_reaches_a_fallback_unchanged() -> None:
    raw = b'{"model":"m","system":[ 1.0 ],"messages":[],"metadata":{"other":  1}}'
    assert adapt_body(FALLBACK, Body.parse(raw), STRIP).raw == raw


def test_a_repeated_member_is_not_sent_unread() -> None:
    raw = b'{"metadata":{"user_id":"the-users-id"},"model":"m","metadata":{}}'
    sent = adapt_body(FALLBACK, Body.parse(raw), STRIP)
    assert b"the-users-id" not in sent.raw


def test_a_fallback_gets_a_pseudonym_and_no_billing_line() -> None:
    sent = adapt_body(FALLBACK, WHOLE, STRIP)
    assert USER.encode() not in sent.raw
    assert BILLING_MARK.encode() not in sent.raw
    assert sent.get("system") == [PROMPT]
    assert sent.get("metadata")["other"] == 1
    assert sent.get("metadata")["user_id"].startswith("user_")


def test_the_billing_line_is_kept_if_the_configuration_says_so() -> None:
    assert adapt_body(FALLBACK, WHOLE, KEEP).get("system") == [BILLING, PROMPT]


def pseudonym(user: Any, provider: str) -> Any:
    return with_pseudonym(body(metadata={"user_id": user}), provider).get("metadata")["user_id"]


@given(user=st.text(min_size=12, max_size=80), other=st.text(min_size=12, max_size=80))
def test_a_pseudonym_is_stable_and_differs_by_provider_and_user(user: str, other: str) -> None:
    assert pseudonym(user, "a") == pseudonym(user, "a")
    assert pseudonym(user, "a") != pseudonym(user, "b")
    assert (pseudonym(user, "a") == pseudonym(other, "a")) is (user == other)
    assert user not in pseudonym(user, "a")


@given(
    user=st.from_regex(r"[a-z]{4}-[0-9]{8}-[a-z]{4}", fullmatch=True),
    more=st.dictionaries(st.sampled_from(["a", "b"]), st.integers() | st.none()),
)
def test_the_raw_id_is_nowhere_in_a_fallbacks_bytes(user: str, more: dict[str, Any]) -> None:
    for user_id in (user, {"device_id": user}, [user]):
        sent = adapt_body(FALLBACK, body(metadata={**more, "user_id": user_id}), STRIP)
        assert user.encode() not in sent.raw


ID = "user-12345678-account"
SPELLED = st.lists(st.booleans(), min_size=len(ID), max_size=len(ID)).map(
    lambda escaped: "".join(
        f"\\u{ord(letter):04x}" if hidden else letter
        for letter, hidden in zip(ID, escaped, strict=True)
    )
)


@given(spellings=st.lists(SPELLED, min_size=1, max_size=3), twice=st.booleans(), key=st.booleans())
def test_the_raw_id_is_nowhere_however_it_is_spelled_and_how_often(
    spellings: list[str], twice: bool, key: bool
) -> None:
    name = "\\u0075ser_id" if key else "user_id"
    members = ",".join(f'"{name}":"{spelling}"' for spelling in spellings)
    metadata = f'"metadata":{{{members}}}'
    raw = f'{{"model":"m",{metadata}{"," + metadata if twice else ""}}}'
    sent = adapt_body(FALLBACK, Body.parse(raw.encode()), STRIP)
    assert not any(spelling.encode() in sent.raw for spelling in (ID, *spellings))
    # However the client spells it, it is the same user.
    assert sent.get("metadata") == {"user_id": pseudonym(ID, FALLBACK.name)}


@pytest.mark.parametrize("metadata", [b'{"user_id":"name \xff"}', b'["name"]', b'"name"'])
def test_unreadable_metadata_is_not_sent(metadata: bytes) -> None:
    unreadable = Body.parse(b'{"model":"m","metadata":' + metadata + b"}")
    assert adapt_body(PRIMARY, unreadable, STRIP) is unreadable
    assert b"name" not in adapt_body(FALLBACK, unreadable, STRIP).raw


@pytest.mark.parametrize("members", [{}, {"metadata": {}}, {"metadata": {"x": 1}}])
def test_without_a_user_nothing_changes(members: dict[str, Any]) -> None:
    nobody = body(model="m", **members)
    assert with_pseudonym(nobody, "b") is nobody


def test_huge_numbers_next_to_the_user_stay() -> None:
    huge = 1 << 90
    sent = with_pseudonym(body(metadata={"user_id": USER, "n": huge}), "b")
    assert sent.get("metadata")["n"] == huge


@pytest.mark.parametrize(
    ("system", "left"),
    [
        ([BILLING, PROMPT], [PROMPT]),
        ([PROMPT, BILLING], [PROMPT]),
        ([BILLING], None),
        (f"{BILLING_MARK} x\n\nYou are", "You are"),
        (f"{BILLING_MARK} x", None),
        (f"{BILLING_MARK} x\n", None),
    ],
)
def test_the_billing_line_is_removed(system: Any, left: Any) -> None:
    cleaned = without_billing(body(system=system, model="m"))
    assert cleaned.get("system") == left
    assert ("system" in cleaned) is (left is not None)


@pytest.mark.parametrize("system", ["You are", [PROMPT], [], None, 5, ["text"], [{"text": 5}]])
def test_a_system_prompt_without_a_billing_line_is_not_touched(system: Any) -> None:
    untouched = body(system=system)
    assert without_billing(untouched) is untouched


JOINED = f"{BILLING_MARK} cc_version=2; cc_entrypoint=cli;\nYou are Claude Code."


def test_only_the_billing_line_of_a_block_is_cut() -> None:
    mark = {"type": "ephemeral"}
    block = {"type": "text", "text": JOINED, "cache_control": mark}
    assert without_billing(body(system=[block])).get("system") == [
        {"type": "text", "text": "You are Claude Code.", "cache_control": mark}
    ]
    assert without_billing(body(system=JOINED)).get("system") == "You are Claude Code."
    behind = f"You are Claude Code.\n{BILLING_MARK} cc_version=2;\nBe brief."
    assert without_billing(body(system=behind)).get("system") == "You are Claude Code.\nBe brief."


def test_a_prompt_that_mentions_the_billing_line_is_kept() -> None:
    about = {"type": "text", "text": f"Never repeat the {BILLING_MARK}"}
    assert without_billing(body(system=[about])).get("system") == [about]
