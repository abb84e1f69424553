"""Context management that is refused."""

from ccfallback.rectify.context_management import CONTEXT_MANAGEMENT as RULE
from tests.rectify.drafts import BETAS, HI, draft, members, refused, repaired

CLEARING = {"type": "clear_thinking_20251015", "keep": "all"}
OTHER = {"type": "clear_tool_uses_20250919"}
NEEDS = "`clear_thinking_20251015` strategy requires `thinking` to be enabled or adaptive"
UNKNOWN = "context_management: Extra inputs are not permitted"


def test_the_field_goes_with_its_flag() -> None:
    before = draft(HI, betas=BETAS, context_management={"edits": [CLEARING, OTHER]})
    made = repaired(RULE, before, UNKNOWN)
    assert "context_management" not in made.draft.body
    assert set(BETAS) - set(made.draft.betas) == {"context-management-2025-06-27"}
    assert made.lesson == UNKNOWN


def test_only_the_edit_goes_where_only_it_is_refused() -> None:
    before = draft(HI, betas=BETAS, context_management={"edits": [CLEARING, OTHER]})
    made = repaired(RULE, before, NEEDS)
    assert members(made.draft)["context_management"] == {"edits": [OTHER]}
    assert made.draft.betas == BETAS
    assert made.lesson is not None
    thinks = draft(thinking={"type": "adaptive"}, context_management={"edits": [CLEARING]})
    assert refused(RULE, thinks, made.lesson)


def test_nothing_is_learned_where_there_was_thinking() -> None:
    before = draft(thinking={"type": "adaptive"}, context_management={"edits": [CLEARING]})
    assert repaired(RULE, before, NEEDS).lesson is None


def test_nothing_to_do() -> None:
    assert refused(RULE, draft(), UNKNOWN)
    assert refused(RULE, draft(context_management={"edits": [OTHER]}), NEEDS)
    assert refused(RULE, draft(context_management=7), NEEDS)
