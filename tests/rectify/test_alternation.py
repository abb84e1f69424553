"""User and assistant taking turns."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.rectify.alternation import ALTERNATION
from tests.rectify.refused import REFUSED
from tests.rectify.structure import (
    assistant,
    call,
    conversations,
    made,
    repaired,
    result,
    system,
    text,
    user,
)
from tests.rectify.validity import faults

TURNS, FIRST = REFUSED["alternation"][0], REFUSED["alternation"][3]
HI = user(text("hi"))
OK = assistant(text("ok"))
START = user(text("(start)"))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HI, HI, OK, OK], [user(text("hi"), text("hi")), assistant(text("ok"), text("ok"))]),
        ([{"role": "user", "content": "a"}, HI], [user(text("a"), text("hi"))]),
        ([OK, HI], [START, OK, HI]),
        (
            [HI, system("s"), OK],
            [user(text("hi"), text("<system-reminder>\ns\n</system-reminder>")), OK],
        ),
        (
            [HI, assistant(call("a")), user(result("a")), user(text("x"), result("b"))],
            [HI, assistant(call("a")), user(result("a"), result("b"), text("x"))],
        ),
    ],
)
def test_messages_in_a_row_become_one(messages: list[Any], expected: list[Any]) -> None:
    repair = repaired(ALTERNATION, {"messages": messages}, TURNS)
    assert repair is not None
    assert made(ALTERNATION, {"messages": messages}, repair.lesson or "")["messages"] == expected


@pytest.mark.parametrize("messages", [[OK, OK, HI], [system("s"), HI, HI]])
def test_the_user_begins_and_nothing_else_changes(messages: list[Any]) -> None:
    repair = repaired(ALTERNATION, {"messages": messages}, FIRST)
    assert repair is not None
    assert repair.changed == "1 first message added"
    assert repair.lesson is None
    assert made(ALTERNATION, {"messages": messages}, FIRST)["messages"] == [START, *messages]


@pytest.mark.parametrize("words", [TURNS, FIRST])
def test_where_they_take_turns_nothing_is_to_do(words: str) -> None:
    assert repaired(ALTERNATION, {"messages": [HI, OK, HI]}, words) is None
    assert repaired(ALTERNATION, {"messages": []}, words) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nobody_speaks_twice_in_a_row(data: st.DataObject) -> None:
    body = data.draw(conversations())
    messages = []
    for message in body["messages"]:
        messages.append(message)
        if message["role"] == "user" and data.draw(st.booleans()):
            messages.append(user(text("and")))
        if message["role"] == "assistant" and data.draw(st.booleans()):
            messages.insert(-1, assistant(text("well")))
    first = [assistant(text("well"))] if data.draw(st.booleans()) else []
    broken = {**body, "messages": [*first, *messages]}
    repair = repaired(ALTERNATION, broken, TURNS)
    after = made(ALTERNATION, broken, TURNS) if repair else broken
    assert not faults(after, alternating=True)
