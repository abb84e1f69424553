"""Tools that are loaded from the start."""

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.deferred_tools import has_deferred, loaded
from tests.rectify.drafts import HI, RESULT, captured, draft, members, text, user

TOOL = {"name": "a", "input_schema": {"type": "object"}}


def test_deferred_tools_are_loaded_and_the_placeholder_goes() -> None:
    placeholder = {**TOOL, "name": "DeferredToolPlaceholder", "defer_loading": True}
    before = draft(HI, tools=[TOOL, {**TOOL, "defer_loading": True}, placeholder])
    after = RequestDraft(loaded(before.body))
    assert members(after)["tools"] == [TOOL, TOOL]
    assert not has_deferred(after.body)


def test_what_a_search_found_is_said_in_words() -> None:
    reference = {"type": "tool_reference", "tool_name": "Web"}
    before = draft(user({**RESULT, "content": [reference, text("x")]}, text("y")))
    assert has_deferred(before.body)
    assert members(RequestDraft(loaded(before.body)))["messages"] == [
        user({**RESULT, "content": [text("Tool Web is available now."), text("x")]}, text("y"))
    ]


def test_the_real_clients_search() -> None:
    for one in captured():
        raw = loaded(one.body).raw
        assert b'"defer_loading"' not in raw
        assert b'"type":"tool_reference"' not in raw
