"""Tools: names that every provider accepts, and tools that are added, removed or loaded."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.messages.tools import (
    ToolNames,
    alphanumerics,
    available_note,
    has_deferred,
    tool_changes,
    tools_after_changes,
    with_all_loaded,
)
from ccfallback.policy.draft import RequestDraft
from tests.rectify.drafts import HI, RESULT, captured, draft, members, text
from tests.rectify.drafts import user as user_message
from tests.wire.openai.asked import asked, assistant, body, call, result, tool, user

VALID = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
LONG = "mcp__server__" + "x" * 51


def test_long_names_that_begin_alike_stay_apart() -> None:
    names = [LONG + "_first_tool_here", LONG + "_other_tool_here"]
    members: Any = {
        "tools": [tool(name) for name in names],
        "tool_choice": {"type": "tool", "name": names[1]},
        "messages": [assistant(call("t", names[1])), user(result("t", "ok"))],
    }
    made = asked(**members)
    sent = [one["function"]["name"] for one in made["tools"]]
    assert len(set(sent)) == 2
    assert all(VALID.fullmatch(name) for name in sent)
    assert made["messages"][0]["tool_calls"][0]["function"]["name"] == sent[1]
    assert made["tool_choice"]["function"]["name"] == sent[1]
    assert asked(**members) == made
    back = ToolNames.of(body(**members))
    assert [back.to_client(name) for name in sent] == names


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Bash", "Bash"), ("a.b/c", "a_b_c"), ("1st", "t_1st"), ("", "unnamed"), ("é", "_")],
)
def test_a_name_is_changed_only_where_it_has_to_be(name: str, expected: str) -> None:
    assert ToolNames([]).to_provider(name) == expected


def test_a_valid_name_is_kept() -> None:
    names = ToolNames(["a.b", "a_b"])
    assert names.to_provider("a_b") == "a_b"
    assert names.to_provider("a.b") != "a_b"


def test_names_of_tools_that_came_later_are_known() -> None:
    later = {
        "type": "tool_addition",
        "tool": {"type": "tool_definition", "definition": tool("a.b")},
    }
    names = ToolNames.of(body(messages=[{"role": "system", "content": [later]}]))
    assert names.to_client("a_b") == "a.b"


@given(st.lists(st.text(max_size=90)), st.text(max_size=90))
def test_names_go_there_and_back(names: list[str], stranger: str) -> None:
    known = ToolNames(names)
    sent = [known.to_provider(name) for name in names]
    assert [known.to_client(name) for name in sent] == names
    assert all(VALID.fullmatch(name) for name in [*sent, known.to_provider(stranger)])
    assert len(set(sent)) == len(set(names))
    assert (known.to_provider(stranger) in sent) == (stranger in names)


@given(st.text(max_size=90))
def test_an_unknown_name_reaches_the_client_as_a_name_that_anthropic_takes(name: str) -> None:
    made = ToolNames([]).to_client(name)
    assert re.fullmatch("[a-zA-Z0-9_-]{1,128}", made)
    assert ToolNames([]).to_client(made) == made


@pytest.mark.parametrize(
    "name",
    [
        *("Bash<|channel|>commentary", "functions.Bash", " Bash ", "Bash<|end|>", "Bash:0"),
        *(
            "functions.Bash:12",
            "default_api.Bash",
            "functions.Bash <|constrain|>json",
            "tools:Bash",
        ),
    ],
)
def test_marks_of_a_models_own_format_are_cut_off_a_name(name: str) -> None:
    assert ToolNames(["Bash", "a.b"]).to_client(name) == "Bash"
    assert ToolNames([]).to_client(name) == "Bash"


def test_a_name_that_the_client_has_is_never_cut() -> None:
    names = ["functions.Bash", "x:1", "a<|b"]
    assert [ToolNames(names).to_client(name) for name in names] == names


@pytest.mark.parametrize("raw", [b"{}", b'{"tools":{}}', b'{"tools":[1,{"name":2}],"messages":3}'])
def test_a_request_without_readable_tools_has_no_names(raw: bytes) -> None:
    assert ToolNames.of(Body.parse(raw)).to_client("Bash") == "Bash"


@given(st.lists(st.text(max_size=90), max_size=6), st.integers(16, 128))
def test_a_name_is_no_longer_than_the_provider_takes(names: list[str], longest: int) -> None:
    known = ToolNames(names, longest)
    sent = [known.to_provider(name) for name in names]
    assert all(len(name) <= longest for name in sent)
    assert [known.to_client(name) for name in sent] == names


def test_letters_for_a_text_are_the_same_again() -> None:
    assert alphanumerics("a", 9) == alphanumerics("a", 9) != alphanumerics("b", 9)
    assert re.fullmatch(r"[A-Za-z0-9]{24}", alphanumerics("\ud800", 24))


LOADED = {"name": "a", "input_schema": {"type": "object"}}


def test_deferred_tools_are_loaded_and_the_placeholder_goes() -> None:
    placeholder = {**LOADED, "name": "DeferredToolPlaceholder", "defer_loading": True}
    before = draft(HI, tools=[LOADED, {**LOADED, "defer_loading": True}, placeholder])
    after = RequestDraft(with_all_loaded(before.body))
    assert members(after)["tools"] == [LOADED, LOADED]
    assert not has_deferred(after.body)


def test_what_a_search_found_is_described_in_words() -> None:
    reference = {"type": "tool_reference", "tool_name": "Web"}
    before = draft(user_message({**RESULT, "content": [reference, text("x")]}, text("y")))
    assert has_deferred(before.body)
    assert members(RequestDraft(with_all_loaded(before.body)))["messages"] == [
        user_message({**RESULT, "content": [text("Tool Web is available."), text("x")]}, text("y"))
    ]


def test_the_real_clients_search() -> None:
    for one in captured():
        raw = with_all_loaded(one.body).raw
        assert b'"defer_loading"' not in raw
        assert b'"type":"tool_reference"' not in raw


def test_a_note_names_the_tool_that_was_found() -> None:
    assert available_note("Web") == "Tool Web is available."
    assert available_note(None) == available_note("") == "A tool was found."


def test_the_last_definition_of_a_tool_counts() -> None:
    new = {**LOADED, "description": "new"}
    change = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": new}}
    body = draft(HI, {"role": "system", "content": [change]}, tools=[LOADED]).body
    assert list(tool_changes(body)) == [change]
    assert tools_after_changes(body) == [new]
