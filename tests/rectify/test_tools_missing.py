"""Calls in a request without tools."""

import pytest

from ccfallback.rectify.tools_missing import TOOLS_MISSING
from tests.rectify.structure import TOOLS, assistant, call, made, repaired, result, text, user
from tests.rectify.validity import faults

REFUSAL = "Requests which include `tool_use` or `tool_result` blocks must define tools"
MESSAGES = [
    user(text("hi")),
    assistant(call("a", "Read"), call("b", "Bash"), call("c", "Read")),
    user(result("a"), result("b"), result("c")),
]


@pytest.mark.parametrize("body", [{"messages": MESSAGES}, {"messages": MESSAGES, "tools": []}])
def test_stubs_stand_in_for_what_was_called(body: dict[str, object]) -> None:
    repair = repaired(TOOLS_MISSING, body, REFUSAL)
    assert repair is not None
    assert repair.changed == "2 tools stubbed"
    after = made(TOOLS_MISSING, body, repair.lesson or "")
    assert [tool["name"] for tool in after["tools"]] == ["Read", "Bash"]
    assert after["messages"] == MESSAGES
    assert not faults(after)


def test_where_nothing_was_called_or_tools_are_there_nothing_is_to_do() -> None:
    assert repaired(TOOLS_MISSING, {"messages": MESSAGES, "tools": TOOLS}, REFUSAL) is None
    assert repaired(TOOLS_MISSING, {"messages": [user(text("hi"))]}, REFUSAL) is None
    assert repaired(TOOLS_MISSING, {"messages": [user(result("a"))]}, REFUSAL) is None
