"""Choices of a tool that are refused."""

from typing import Any

import pytest

from ccfallback.rectify.forced_tool import FORCED_TOOL as RULE
from tests.rectify.drafts import HI, RESULT, after, draft, refused, text, user

ANTHROPIC = "Thinking may not be enabled when tool_choice forces tool use."
KIMI = "tool_choice 'specified' is incompatible with thinking enabled"
AT_ALL = 'tool_choice: type "tool" and "any" are not supported for this model'
TOOL = {"type": "tool", "name": "Bash", "disable_parallel_tool_use": True}
ANY = {"type": "any"}
ON = {"type": "enabled", "budget_tokens": 2000}


def test_thinking_gives_way() -> None:
    now = after(RULE, draft(thinking=ON, tool_choice=TOOL), ANTHROPIC)
    assert "thinking" not in now
    assert now["tool_choice"] == TOOL


@pytest.mark.parametrize("more", [{}, {"thinking": ON}])
def test_others_have_to_be_told(more: Any) -> None:
    now = after(RULE, draft(tool_choice=ANY, **more), KIMI)
    assert now["thinking"] == {"type": "disabled"}
    assert now["tool_choice"] == ANY


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HI], [user(text("hi"), text("Now call the Bash tool."))]),
        ([user(RESULT)], [user(RESULT, text("Now call the Bash tool."))]),
        (
            [HI, {"role": "system", "content": "x"}],
            [user(text("hi"), text("Now call the Bash tool.")), {"role": "system", "content": "x"}],
        ),
    ],
)
def test_the_tool_is_asked_for(messages: list[Any], expected: list[Any]) -> None:
    now = after(RULE, draft(*messages, tool_choice=TOOL), AT_ALL)
    assert now["messages"] == expected
    assert now["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


def test_any_tool() -> None:
    now = after(RULE, draft(tool_choice=ANY), AT_ALL)
    assert now["messages"] == [user(text("hi"), text("Now call one of the tools."))]


@pytest.mark.parametrize("choice", [None, {"type": "auto"}, {"type": "none"}, 7])
@pytest.mark.parametrize("message", [ANTHROPIC, KIMI, AT_ALL])
def test_nothing_is_forced(choice: Any, message: str) -> None:
    assert refused(RULE, draft(thinking=ON, tool_choice=choice), message)
