"""Members of tools that are refused."""

import pytest

from ccfallback.rectify.tool_fields import FIELDS, TOOL_FIELDS
from tests.rectify.drafts import FULL, after, draft, members, refused, repaired

EXTRA = "tools.0.custom.{}: Extra inputs are not permitted"


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_a_member_goes_from_every_tool(field: str) -> None:
    made = repaired(TOOL_FIELDS, FULL[0], EXTRA.format(field))
    before, now = members(FULL[0])["tools"], members(made.draft)["tools"]
    assert any(field in tool for tool in before)
    assert not any(field in tool for tool in now)
    expected = [
        {key: value for key, value in tool.items() if key != field}
        for tool in before
        if field != "defer_loading" or tool["name"] != "DeferredToolPlaceholder"
    ]
    assert now == expected
    assert made.lesson == f"tools.*.{field}: Extra inputs are not permitted"


def test_a_property_of_that_name_stays() -> None:
    schema = {"type": "object", "properties": {"strict": {}}, "strict": True}
    tools = [{"name": "a", "input_schema": schema, "strict": True}]
    now = after(TOOL_FIELDS, draft(tools=tools), EXTRA.format("strict"))
    assert now["tools"] == [{"name": "a", "input_schema": schema}]


def test_several_go_at_once() -> None:
    message = "; ".join(EXTRA.format(field) for field in sorted(FIELDS))
    made = repaired(TOOL_FIELDS, FULL[0], message)
    assert not any(FIELDS & tool.keys() for tool in members(made.draft)["tools"])
    assert "advanced-tool-use-2025-11-20" not in made.draft.betas


def test_references_go_with_deferred_loading() -> None:
    now = after(TOOL_FIELDS, FULL[0], EXTRA.format("defer_loading"))
    result = now["messages"][-1]["content"][0]
    assert result["content"] == [{"type": "text", "text": "Tool WebFetch is available now."}]


def test_nothing_to_do() -> None:
    assert refused(TOOL_FIELDS, draft(tools=[{"name": "a"}]), EXTRA.format("strict"))
    assert refused(TOOL_FIELDS, FULL[0], EXTRA.format("cache_control"))
