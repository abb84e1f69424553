"""Two tools of the same name."""

from ccfallback.rectify.tool_names import TOOL_NAMES
from tests.rectify.structure import TOOLS, made, repaired, tool

REFUSAL = "tools: Tool names must be unique."
TOOLSET = {"type": "browser_toolset_20260801"}


def test_the_first_one_stays() -> None:
    other = tool("Bash", properties={"a": {}})
    tools = [*TOOLS, other, TOOLSET, TOOLSET, tool("Web"), tool("Read")]
    repair = repaired(TOOL_NAMES, {"tools": tools}, REFUSAL)
    assert repair is not None
    assert repair.changed == "2 tools of a name already taken removed"
    assert repair.lesson is None
    body = made(TOOL_NAMES, {"tools": tools}, REFUSAL)
    assert body["tools"] == [*TOOLS, TOOLSET, TOOLSET, tool("Web")]


def test_where_all_have_their_own_there_is_nothing_to_do() -> None:
    assert repaired(TOOL_NAMES, {"tools": TOOLS}, REFUSAL) is None
    assert repaired(TOOL_NAMES, {"tools": 3}, REFUSAL) is None
    assert repaired(TOOL_NAMES, {}, REFUSAL) is None
