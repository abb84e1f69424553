"""Calls without a result."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.rectify.tool_use_concurrency import TOOL_USE_CONCURRENCY
from tests.rectify.refused import REFUSED
from tests.rectify.structure import (
    TOOLS,
    assistant,
    call,
    conversations,
    made,
    missing,
    repaired,
    result,
    system,
    text,
    user,
)
from tests.rectify.validity import faults

REFUSAL = REFUSED["tool_use_concurrency"][0]
HI = user(text("hi"))


def test_of_two_results_one_comes_later_and_one_never() -> None:
    messages = [
        HI,
        assistant(text("both"), call("toolu_01"), call("toolu_02")),
        user(text("wait")),
        assistant(text("well")),
        user(result("toolu_02"), text("more")),
    ]
    body = made(TOOL_USE_CONCURRENCY, {"messages": messages, "tools": TOOLS}, REFUSAL)
    assert body["messages"] == [
        HI,
        assistant(text("both"), call("toolu_01"), call("toolu_02")),
        user(missing("toolu_01"), result("toolu_02"), text("wait")),
        assistant(text("well")),
        user(text("more")),
    ]
    assert not faults(body)


def test_it_is_said_in_counts() -> None:
    messages = [HI, assistant(call("a")), user(text("secret")), assistant(call("b"))]
    repair = repaired(TOOL_USE_CONCURRENCY, {"messages": messages}, REFUSAL)
    assert repair is not None
    assert repair.changed == "2 tool results invented, 2 turns put in order"
    assert repair.lesson is None


def test_a_result_of_nobody_is_not_its_business() -> None:
    messages = [HI, assistant(text("ok")), user(result("a"))]
    assert repaired(TOOL_USE_CONCURRENCY, {"messages": messages}, REFUSAL) is None


def torn(draw: st.DrawFn, messages: list[Any]) -> list[Any]:
    """A conversation in which results are lost, late, behind texts or behind reminders."""
    kept: list[Any] = []
    late: list[Any] = []
    for message in messages:
        content = message["content"]
        results = [
            block
            for block in (content if isinstance(content, list) else ())
            if block["type"] == "tool_result"
        ]
        if not results:
            kept.append(message)
            continue
        rest = [block for block in content if block["type"] != "tool_result"]
        fate = draw(st.sampled_from(["lost", "late", "behind", "aside", "apart", "kept"]))
        if fate == "aside":
            kept += [system("between"), message]
        elif fate == "apart":
            kept += [user(block) for block in [*results, *rest]]
        elif fate == "kept":
            kept.append(message)
        else:
            late += results if fate == "late" else []
            behind = results if fate == "behind" else []
            kept.append(user(*(rest or [text("so")]), *behind))
    if late:
        kept += [assistant(text("what")), user(*late)]
    if draw(st.booleans()) and kept[-1]["role"] == "user":
        kept.pop()
    return kept


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_call_is_answered(data: st.DataObject) -> None:
    body = data.draw(conversations())
    broken = {**body, "messages": data.draw(st.composite(torn)(body["messages"]))}
    if repaired(TOOL_USE_CONCURRENCY, broken, REFUSAL) is None:
        assert broken["messages"] == body["messages"] or not any(
            "asked" in fault or "at the end" in fault or "between" in fault
            for fault in faults(broken)
        )
        return
    found = faults(made(TOOL_USE_CONCURRENCY, broken, REFUSAL))
    assert not [fault for fault in found if "before the user" not in fault]
