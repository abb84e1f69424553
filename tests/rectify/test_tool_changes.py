"""Tools that come and go in messages."""

from ccfallback.rectify.tool_changes import TOOL_CHANGES
from tests.rectify.drafts import BETAS, HI, draft, members, refused, repaired

REFUSAL = "tool_addition blocks are not supported"
ADDED = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "a"}}
TOOL = {"name": "a", "input_schema": {}}


def test_changes_are_made_in_tools() -> None:
    before = draft(
        HI,
        {"role": "system", "content": [ADDED]},
        tools=[{**TOOL, "defer_loading": True}],
        betas=BETAS,
    )
    made = repaired(TOOL_CHANGES, before, REFUSAL)
    assert members(made.draft)["tools"] == [TOOL]
    assert members(made.draft)["messages"] == [HI]
    assert set(BETAS) - set(made.draft.betas) == {
        "mid-conversation-tool-changes-2026-07-01",
        "advanced-tool-use-2025-11-20",
    }


def test_nothing_to_do() -> None:
    assert refused(TOOL_CHANGES, draft(tools=[TOOL]), REFUSAL)
