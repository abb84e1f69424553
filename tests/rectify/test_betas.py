"""What beta flags unlock."""

from typing import Any, Final

import pytest

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import UNLOCKED, without_betas, without_idle_betas
from tests.rectify.drafts import BETAS, FULL, HI, draft, members, user

CONTEXT: Final[dict[str, Any]] = {"context_management": {"edits": []}}


def test_a_flag_goes_with_its_field() -> None:
    before = draft(HI, betas=BETAS, **CONTEXT)
    after = without_idle_betas(before, before.with_body(before.body.without("context_management")))
    assert after.betas == tuple(beta for beta in BETAS if not beta.startswith("context-management"))


def test_a_flag_stays_for_another_field() -> None:
    tools = [{"name": "a", "input_schema": {}, "defer_loading": True, "input_examples": []}]
    before = draft(HI, betas=("advanced-tool-use-2025-11-20",), tools=tools)
    fewer = [{"name": "a", "input_schema": {}, "defer_loading": True}]
    assert (
        without_idle_betas(before, before.with_body(before.body.with_members(tools=fewer))).betas
        == before.betas
    )
    assert (
        without_idle_betas(before, before.with_body(before.body.with_members(tools=[]))).betas == ()
    )


def test_a_flag_that_was_idle_before_stays() -> None:
    before = draft(HI, betas=BETAS)
    assert without_idle_betas(before, before.with_body(before.body)).betas == BETAS


def test_fields_go_with_their_flags() -> None:
    before = draft(HI, betas=("context-management-2025-06-27", "foo-1", "bar-1"), **CONTEXT)
    after, gone = without_betas(before, frozenset({"context-management-2025-06-27", "foo-1"}))
    assert after.betas == ("bar-1",)
    assert gone == ["context_management"]
    assert "context_management" not in after.body


def test_a_field_that_another_flag_unlocks_stays() -> None:
    before = draft(HI, betas=("context-management-2025-06-27", "compact-2026-01-12"), **CONTEXT)
    after, gone = without_betas(before, frozenset({"context-management-2025-06-27"}))
    assert (after.betas, gone) == (("compact-2026-01-12",), [])
    assert after.body is before.body


@pytest.mark.parametrize("member", ["thread", "compaction", "output_format"])
def test_fields_that_the_answer_is_read_by_stay(member: str) -> None:
    before = draft(HI, betas=("message-threads-1", "compact-2026-09-04", "structured-outputs-1"))
    before = RequestDraft(before.body.with_members(**{member: {"type": "x"}}), before.betas)
    after, _ = without_betas(before, frozenset(before.betas))
    assert after.betas == ()
    assert member in after.body


@pytest.mark.parametrize(("prefix", "features"), UNLOCKED)
def test_every_field_is_removed_with_its_flag(prefix: str, features: object) -> None:
    extra = {
        "speed": "fast",
        "mcp_servers": [],
        "fallbacks": "default",
        "fallback_credit_token": "x",
        "thinking": {"type": "adaptive", "display": "updates", "block_binding": {}},
    }
    body = FULL[0].body.with_members(**extra)
    body = body.with_members(messages=[*body.get("messages"), user(clear_at="never")])
    after, gone = without_betas(RequestDraft(body, (f"{prefix}x",)), frozenset({f"{prefix}x"}))
    assert after.betas == ()
    kept = prefix.startswith(("compact-2026-09", "structured", "message-threads"))
    expected = 0 if kept else len(features)  # type: ignore[arg-type] # a tuple, as pytest hands it on
    known = prefix.endswith("-")
    assert len(gone) == (expected if known else 0) or prefix == "compact-2026-01-12"
    assert members(after)["model"] == "m"
