"""Results without a call."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.rectify.orphan_results import ORPHAN_RESULTS
from tests.rectify.refused import REFUSED
from tests.rectify.structure import (
    MARK,
    TOOLS,
    assistant,
    call,
    conversations,
    image,
    made,
    repaired,
    result,
    text,
    user,
)
from tests.rectify.validity import faults

REFUSAL = REFUSED["orphan_results"][0]
HI = user(text("hi"))


def test_it_becomes_a_text() -> None:
    messages = [user(result("a", "found it"), text("see")), assistant(text("ok")), HI]
    body = made(ORPHAN_RESULTS, {"messages": messages}, REFUSAL)
    assert body["messages"] == [
        user(text("[tool result a]\nfound it"), text("see")),
        assistant(text("ok")),
        HI,
    ]


def test_what_it_holds_stays_and_so_does_its_cache_mark() -> None:
    content = [text("one"), image(), text(" "), {"type": "tool_reference", "tool_name": "X"}]
    messages = [user(result("a", content, **MARK), result("b", None))]
    body = made(ORPHAN_RESULTS, {"messages": messages}, REFUSAL)
    assert body["messages"] == [
        user(text("[tool result a]\none", **MARK), image(), text("[tool result b]"))
    ]


def test_the_second_result_of_a_call_is_one_too() -> None:
    messages = [HI, assistant(call("a")), user(result("a", "1"), result("a", "2"), text("x"))]
    body = made(ORPHAN_RESULTS, {"messages": messages, "tools": TOOLS}, REFUSAL)
    assert body["messages"][2] == user(result("a", "1"), text("[tool result a]\n2"), text("x"))
    assert not faults(body)


def test_a_late_result_goes_to_its_call_instead() -> None:
    messages = [HI, assistant(call("a")), HI, assistant(text("x")), user(result("a"), result("b"))]
    body = made(ORPHAN_RESULTS, {"messages": messages, "tools": TOOLS}, REFUSAL)
    assert body["messages"] == [
        *(HI, assistant(call("a")), user(result("a"), text("hi")), assistant(text("x"))),
        user(text("[tool result b]\ndone")),
    ]


def test_texts_stay_behind_results() -> None:
    messages = [HI, assistant(call("a")), user(result("x"), result("a"))]
    body = made(ORPHAN_RESULTS, {"messages": messages, "tools": TOOLS}, REFUSAL)
    assert body["messages"][2] == user(result("a"), text("[tool result x]\ndone"))


def test_it_is_said_in_counts() -> None:
    repair = repaired(ORPHAN_RESULTS, {"messages": [user(result("a", "secret"))]}, REFUSAL)
    assert repair is not None
    assert repair.changed == "1 tool result without a call turned into text"


def forgotten(draw: st.DrawFn, messages: list[Any]) -> list[Any]:
    """A conversation in which calls are forgotten, and results are told twice or by others."""
    kept: list[Any] = []
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            blocks: list[Any] = []
            for block in content:
                times = 1
                if block["type"] in ("tool_use", "tool_result"):
                    times = draw(st.sampled_from([1, 1, 0 if block["type"] == "tool_use" else 2]))
                blocks += [block] * times
            message = {**message, "content": blocks or [text("x")]}
        kept.append(message)
    if draw(st.booleans()):
        kept += [assistant(text("x"), result("z")), user(result("y"))]
    return kept


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_result_has_its_call(data: st.DataObject) -> None:
    body = data.draw(conversations())
    broken = {**body, "messages": data.draw(st.composite(forgotten)(body["messages"]))}
    if broken["messages"] == body["messages"]:
        assert repaired(ORPHAN_RESULTS, broken, REFUSAL) is None
    else:
        found = faults(made(ORPHAN_RESULTS, broken, REFUSAL))
        assert not [fault for fault in found if "before the user" not in fault]
