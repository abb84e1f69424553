"""An answer begun by the client."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.rectify.prefill import PREFILL
from tests.rectify.refused import REFUSED
from tests.rectify.structure import (
    TOOLS,
    assistant,
    call,
    conversations,
    made,
    missing,
    repaired,
    system,
    text,
    user,
)
from tests.rectify.validity import faults

SPACE, REFUSED_PREFILL = REFUSED["prefill"][:2]
HI = user(text("hi"))
MORE = user(text("Continue."))
REMINDER = text("<system-reminder>\ns\n</system-reminder>")
BEGUN = assistant(text("It was a dark"))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HI, BEGUN], [HI, BEGUN, MORE]),
        ([HI, BEGUN, system("s")], [HI, BEGUN, user(text("Continue."), REMINDER)]),
        ([HI, assistant(text("{")), system("s")], [user(text("hi"), REMINDER)]),
        ([HI, assistant(text("{"))], [HI]),
        ([HI, assistant(text("<answer>\n"))], [HI]),
        ([HI, assistant(text("Done."))], [HI, assistant(text("Done.")), MORE]),
        ([assistant(text("{"))], [assistant(text("{")), MORE]),
        ([HI, BEGUN, assistant(text("{"))], [HI, BEGUN, assistant(text("{")), MORE]),
        (
            [HI, assistant(call("a"))],
            [HI, assistant(call("a")), user(missing("a"), text("Continue."))],
        ),
        (
            [HI, {"role": "assistant", "content": "It was"}],
            [HI, {"role": "assistant", "content": "It was"}, MORE],
        ),
    ],
)
def test_the_user_has_the_last_word(messages: list[Any], expected: list[Any]) -> None:
    repair = repaired(PREFILL, {"messages": messages}, REFUSED_PREFILL)
    assert repair is not None
    assert made(PREFILL, {"messages": messages}, repair.lesson or "")["messages"] == expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HI, assistant(text("a \n"))], [HI, assistant(text("a"))]),
        ([HI, assistant(text("a"), text(" "))], [HI, assistant(text("a"))]),
        ([HI, assistant(text("a "), text(" "))], [HI, assistant(text("a"))]),
        ([HI, assistant(text(" "))], [HI]),
        ([HI, {"role": "assistant", "content": "a "}], [HI, assistant(text("a"))]),
        ([HI, assistant(text("a ")), system("s")], [HI, assistant(text("a")), system("s")]),
    ],
)
def test_no_space_is_last(messages: list[Any], expected: list[Any]) -> None:
    assert made(PREFILL, {"messages": messages}, SPACE)["messages"] == expected


def test_nor_has_a_system_message_the_last_word() -> None:
    messages = [HI, system("s"), BEGUN, HI, system("t")]
    repair = repaired(PREFILL, {"messages": messages}, REFUSED_PREFILL)
    assert repair is not None
    assert repair.changed == "2 system messages told by the user"
    body = made(PREFILL, {"messages": messages}, repair.lesson or "")
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][-1]["content"][-1]["text"] == "<system-reminder>\nt\n</system-reminder>"


@pytest.mark.parametrize("messages", [[HI], [HI, assistant(text("a ")), HI], [], [system(" ")]])
@pytest.mark.parametrize("words", [SPACE, REFUSED_PREFILL])
def test_where_the_user_had_it_nothing_is_to_do(messages: list[Any], words: str) -> None:
    assert repaired(PREFILL, {"messages": messages}, words) is None


@settings(max_examples=60, deadline=None)
@given(conversations(), st.sampled_from(["{", "It was ", " ", "call"]))
def test_the_conversation_ends_with_the_user(body: Any, words: str) -> None:
    answer = assistant(call("zz")) if words == "call" else assistant(text(words))
    broken = {**body, "messages": [*body["messages"], answer], "tools": TOOLS}
    after = made(PREFILL, broken, REFUSED_PREFILL)
    assert not [fault for fault in faults(after, prefill=False) if "empty text" not in fault]
