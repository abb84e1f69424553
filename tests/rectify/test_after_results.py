"""What the user says after a result."""

from itertools import pairwise
from typing import Any

from hypothesis import assume, given, settings

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.rectify.after_results import AFTER_RESULTS
from ccfallback.wire.openai.request import to_openai
from tests.rectify.refused import REFUSED
from tests.rectify.structure import (
    assistant,
    body_of,
    call,
    conversations,
    draft_of,
    image,
    made,
    repaired,
    result,
    system,
    text,
    user,
)

REFUSAL = REFUSED["after_results"][0]
HI = user(text("hi"))
REMINDER = text("<system-reminder>\ns\n</system-reminder>")


def test_it_is_said_in_the_last_result() -> None:
    messages = [
        *(HI, assistant(call("a"), call("b")), user(result("a"), text("x"), result("b"))),
        *(system("s"), HI, assistant(text("ok")), HI),
    ]
    repair = repaired(AFTER_RESULTS, {"messages": messages}, REFUSAL)
    assert repair is not None
    assert repair.changed == "1 system message told by the user, 3 texts moved into tool results"
    body = made(AFTER_RESULTS, {"messages": messages}, repair.lesson or "")
    assert body["messages"] == [
        *(HI, assistant(call("a"), call("b"))),
        user(result("a"), result("b", [text("done"), text("x"), REMINDER, text("hi")])),
        *(assistant(text("ok")), HI),
    ]


def test_pictures_are_said_to_be_left_out() -> None:
    messages = [assistant(call("a")), user(result("a", [image(), text("x")]), image())]
    body = made(AFTER_RESULTS, {"messages": messages}, REFUSAL)
    noted = text("[image omitted]")
    assert body["messages"][1] == user(result("a", [noted, text("x"), noted]))


def test_where_nothing_follows_a_result_nothing_is_to_do() -> None:
    messages = [HI, system("s"), assistant(call("a")), user(result("a")), assistant(text("ok"))]
    assert repaired(AFTER_RESULTS, {"messages": messages}, REFUSAL) is None


@settings(max_examples=60, deadline=None)
@given(conversations())
def test_no_user_follows_a_result_in_the_other_format(body: Any) -> None:
    # A turn of nothing but thinking is none in the other format.
    kinds = [
        {block["type"] for block in message["content"]}
        for message in body["messages"]
        if message["role"] == "assistant"
    ]
    assume(all(each != {"thinking"} for each in kinds))
    repair = repaired(AFTER_RESULTS, body, REFUSAL)
    after = body_of(repair.draft) if repair else body
    sent: Body = to_openai(draft_of(after).body, Quirks(), "m")
    roles = [message["role"] for message in sent.get("messages")]
    assert ("tool", "user") not in pairwise(roles)
