"""Cache marks."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.rectify.cache_marks import CACHE_MARKS
from tests.rectify.refused import REFUSED
from tests.rectify.structure import (
    MARK,
    assistant,
    conversations,
    made,
    repaired,
    result,
    text,
    tool,
    user,
)
from tests.rectify.validity import faults, marked

TOO_MANY, ORDER = REFUSED["cache_marks"]
LONG = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def everywhere(mark: dict[str, Any]) -> dict[str, Any]:
    return {
        "tools": [{**tool("A"), **mark}, {**tool("B"), **mark}],
        "system": [text("a", **mark), text("b", **mark)],
        "messages": [
            user(text("1", **mark)),
            assistant(text("2", **mark)),
            user(result("a", [text("3", **mark)], **mark), text("4", **mark)),
        ],
    }


def marks_of(body: Any) -> list[Any]:
    found = [
        block.get("name") or block.get("text") or block["type"]
        for member in ("tools", "system", "messages")
        for block in marked(body.get(member))
    ]
    return (["all"] if body.get("cache_control") else []) + found


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (0, []),
        (1, ["4"]),
        (2, ["b", "4"]),
        (3, ["B", "b", "4"]),
        (4, ["B", "b", "tool_result", "4"]),
        (5, ["B", "b", "tool_result", "3", "4"]),
    ],
)
def test_the_last_ones_stay(most: int, expected: list[str]) -> None:
    words = TOO_MANY.replace("4", str(most))
    repair = repaired(CACHE_MARKS, everywhere(MARK), words)
    assert repair is not None
    assert repair.lesson == f"a maximum of {most} blocks with cache_control may be provided"
    assert repair.changed == f"{9 - most} cache marks removed"
    body = made(CACHE_MARKS, everywhere(MARK), repair.lesson)
    assert marks_of(body) == expected
    bare = made(CACHE_MARKS, body, TOO_MANY.replace("4", "0")) if most else body
    assert bare == everywhere({})


def test_the_mark_of_the_whole_request_is_one_of_them() -> None:
    body = {**everywhere(MARK), **MARK}
    assert marks_of(made(CACHE_MARKS, body, TOO_MANY)) == ["all", "B", "b", "4"]
    body = made(CACHE_MARKS, body, TOO_MANY.replace("4", "0"))
    assert body == everywhere({})


def test_lifetimes_go_where_their_order_is_refused() -> None:
    body = {**everywhere(MARK), **LONG}
    body["messages"].append(assistant(text("5", **LONG)))
    repair = repaired(CACHE_MARKS, body, ORDER)
    assert repair is not None
    assert repair.changed == "2 cache lifetimes removed"
    assert repair.lesson is None
    expected = {**everywhere(MARK), **MARK}
    expected["messages"].append(assistant(text("5", **MARK)))
    assert made(CACHE_MARKS, body, ORDER) == expected


def test_a_property_of_that_name_is_no_mark() -> None:
    schema = {"properties": {"cache_control": {"type": "string"}}}
    call = {"type": "tool_use", "id": "a", "name": "A", "input": {"cache_control": {"ttl": "1h"}}}
    body = {"tools": [tool("A", **schema)] * 5, "messages": [assistant(call)] * 5}
    assert repaired(CACHE_MARKS, body, TOO_MANY) is None
    assert repaired(CACHE_MARKS, body, ORDER) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_marks_are_as_many_and_in_such_order_as_may_be(data: st.DataObject) -> None:
    body = data.draw(conversations())
    fates = st.sampled_from([{}, {}, MARK, LONG])
    broken = {
        **body,
        "tools": [{**one, **data.draw(fates)} for one in body["tools"]],
        "messages": [
            {
                **message,
                "content": [
                    {**block, **(data.draw(fates) if block["type"] != "thinking" else {})}
                    for block in message["content"]
                ],
            }
            if isinstance(message["content"], list)
            else message
            for message in body["messages"]
        ],
    }
    for words, wrong in ((TOO_MANY, "cache marks"), (ORDER, "cache lifetimes")):
        repair = repaired(CACHE_MARKS, broken, words)
        if repair is None:
            assert not [fault for fault in faults(broken) if wrong in fault]
        else:
            broken = made(CACHE_MARKS, broken, words)
    assert not faults(broken)
