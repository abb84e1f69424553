"""Flags that a provider does not know."""

import pytest

from ccfallback.rectify.beta_flags import BETA_FLAGS
from tests.rectify.drafts import BETAS, FULL, HI, draft, members, refused, repaired

CONTEXT, EFFORT = "context-management-2025-06-27", "effort-2025-11-24"
SENTENCE = "Unexpected value(s) `{}` for the `anthropic-beta` header"


def test_several_flags_go_with_their_fields_and_the_others_keep_their_order() -> None:
    betas = ("a-1", CONTEXT, "b-1", "foo-1", "c-1")
    before = draft(HI, betas=betas, context_management={"edits": []})
    made = repaired(BETA_FLAGS, before, SENTENCE.format(f"{CONTEXT}`, `foo-1"))
    assert made.draft.betas == ("a-1", "b-1", "c-1")
    assert "context_management" not in made.draft.body
    assert made.changed == (f"2 beta flags removed: {CONTEXT}, foo-1, and context_management")


def test_a_flag_without_a_field_leaves_the_body_as_it_is() -> None:
    before = draft(HI, betas=("foo-1",))
    made = repaired(BETA_FLAGS, before, SENTENCE.format("foo-1"))
    assert made.draft.body is before.body
    assert made.draft.betas == ()


def test_a_flag_that_begins_like_another() -> None:
    before = draft(HI, betas=("foo-1", "foo-1-more", "a-foo-1"))
    made = repaired(BETA_FLAGS, before, SENTENCE.format("foo-1"))
    assert made.draft.betas == ("foo-1-more", "a-foo-1")


def test_deferred_tools_need_their_flag() -> None:
    flag = "advanced-tool-use-2025-11-20"
    made = repaired(BETA_FLAGS, FULL[0], SENTENCE.format(flag))
    tools = members(made.draft)["tools"]
    assert [tool["name"] for tool in tools] == ["Bash", "WebFetch"]
    assert not any("defer_loading" in tool or "input_examples" in tool for tool in tools)


def test_flags_without_names_all_go_but_the_logins() -> None:
    before = draft(HI, betas=(*BETAS, "oauth-2025-04-20"))
    made = repaired(BETA_FLAGS, before, "invalid beta flag")
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
def test_other_words(message: str) -> None:
    assert refused(BETA_FLAGS, draft(HI, betas=(EFFORT,)), message)
