"""Calls of Anthropic's own tools."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.rectify.server_tools import SERVER_TOOLS
from tests.rectify.refused import REFUSED
from tests.rectify.structure import (
    assistant,
    conversations,
    made,
    repaired,
    server_call,
    server_result,
    text,
    user,
)
from tests.rectify.validity import faults

UNPAIRED = REFUSED["server_tools"][0]
FOREIGN = REFUSED["server_tools"][3]
HI = user(text("hi"))
ONE, TWO = "srvtoolu_1", "srvtoolu_2"


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([text("a"), server_call(ONE)], [text("a")]),
        ([server_result(ONE), text("a")], [text("a")]),
        ([server_result(ONE), server_call(ONE), text("a")], [text("a")]),
        (
            [server_call(ONE), server_call(TWO), server_result(TWO)],
            [server_call(TWO), server_result(TWO)],
        ),
        ([server_call(ONE)], [text("(no content)")]),
    ],
)
def test_what_has_no_other_half_goes(blocks: list[Any], expected: list[Any]) -> None:
    body = made(SERVER_TOOLS, {"messages": [HI, assistant(*blocks), HI]}, UNPAIRED)
    assert body["messages"] == [HI, assistant(*expected), HI]


def test_the_halves_may_be_in_messages_in_a_row() -> None:
    messages = [HI, assistant(server_call(ONE)), assistant(server_result(ONE)), HI]
    assert repaired(SERVER_TOOLS, {"messages": messages}, UNPAIRED) is None


def test_a_call_that_is_to_be_gone_on_with_stays_unless_it_is_named() -> None:
    messages = [HI, assistant(text("a"), server_call(ONE)), HI, assistant(server_call(TWO))]
    body = made(SERVER_TOOLS, {"messages": messages}, UNPAIRED)
    assert body["messages"] == [HI, assistant(text("a")), HI, assistant(server_call(TWO))]
    body = made(SERVER_TOOLS, {"messages": messages}, f"{UNPAIRED}: {TWO}")
    assert body["messages"] == [HI, assistant(text("a")), HI]


def test_what_has_an_id_of_somebody_else_goes() -> None:
    messages = [
        HI,
        assistant(
            *(server_call("call:1"), server_result("call:1")),
            *(server_call(ONE), server_result(ONE), text("a")),
        ),
        HI,
    ]
    repair = repaired(SERVER_TOOLS, {"messages": messages}, FOREIGN)
    assert repair is not None
    assert repair.changed == "1 server tool call removed, 1 server tool result removed"
    body = made(SERVER_TOOLS, {"messages": messages}, repair.lesson or "")
    assert body["messages"][1] == assistant(server_call(ONE), server_result(ONE), text("a"))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_server_tools_come_in_pairs(data: st.DataObject) -> None:
    body = data.draw(conversations())
    messages = []
    for message in body["messages"]:
        if message["role"] == "assistant":
            blocks = []
            for block in message["content"]:
                is_server = block["type"] in ("server_tool_use", "web_search_tool_result")
                if not is_server or data.draw(st.booleans()):
                    blocks.append(block)
            message = assistant(*(blocks or [text("x")]))
        messages.append(message)
    broken = {**body, "messages": messages}
    if faults(broken):
        assert not faults(made(SERVER_TOOLS, broken, UNPAIRED))
    else:
        assert repaired(SERVER_TOOLS, broken, UNPAIRED) is None
