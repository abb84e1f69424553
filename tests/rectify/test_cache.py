"""Marks of prompt caching that are refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rectify.drafts import (
    CACHED,
    MARK,
    RESULT,
    THOUGHT,
    assistant,
    body_after,
    conversations,
    draft,
    members,
    refused,
    repair_body,
    repaired,
    result,
    text,
    tool,
    user,
)
from tests.rectify.refusals import REFUSED
from tests.rectify.validity import faults, marked

# --- cache_control ---

EXTRA = "{}: Extra inputs are not permitted"


def marked_draft(**more: Any) -> Any:
    return draft(
        user({**RESULT, "content": [text("a", **CACHED)], **CACHED}, text("b", **CACHED)),
        system=[text("c", **CACHED)],
        tools=[{"name": "d", "input_schema": {"cache_control": {"ttl": "1h"}}, **CACHED}],
        betas=("extended-cache-ttl-2025-04-11", "prompt-caching-scope-2026-01-05"),
        **more,
    )


@pytest.mark.parametrize(
    ("part", "flag"), [("scope", "prompt-caching-scope"), ("ttl", "extended-cache-ttl")]
)
def test_a_refused_part_is_removed_from_every_mark(part: str, flag: str) -> None:
    before = marked_draft(**CACHED)
    made = repaired(
        "cache_control", before, EXTRA.format(f"system.0.cache_control.ephemeral.{part}")
    )
    raw = made.draft.body.raw
    assert raw.count(b'"cache_control"') == before.body.raw.count(b'"cache_control"')
    assert raw.count(b'"ephemeral"') == 6
    assert raw.count(part.encode()) == (1 if part == "ttl" else 0)
    assert not any(beta.startswith(flag) for beta in made.draft.betas)
    assert len(made.draft.betas) == 1


@pytest.mark.parametrize(
    ("path", "left"),
    [("tools.0.cache_control", 5), ("messages.0.content.0.text.cache_control", 5),
     ("messages.0.content.0.cache_control", 4), ("*.cache_control", 1)],
)  # fmt: skip
def test_marks_are_removed_at_the_named_places(path: str, left: int) -> None:
    made = repaired("cache_control", marked_draft(), EXTRA.format(path))
    assert made.draft.body.raw.count(b'"cache_control"') == left


def test_all_marks_are_removed_if_no_place_is_named() -> None:
    made = repaired("cache_control", marked_draft(**CACHED), EXTRA.format("cache_control"))
    assert made.draft.body.raw.count(b'"cache_control"') == 1
    assert made.draft.betas == ()


@pytest.mark.parametrize(
    "message",
    [
        EXTRA.format("messages.0.content.0.thinking.cache_control"),
        "cache_control cannot be set for empty text blocks",
        "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block",
    ],
)
def test_other_marks_stay(message: str) -> None:
    assert refused("cache_control", marked_draft(), message)


def test_a_mark_on_thinking_is_removed() -> None:
    before = draft({"role": "assistant", "content": [{**THOUGHT, **CACHED}, text("a", **CACHED)]})
    made = repaired(
        "cache_control", before, EXTRA.format("messages.0.content.0.thinking.cache_control")
    )
    assert members(made.draft)["messages"][0]["content"] == [THOUGHT, text("a", **CACHED)]


# --- cache_marks ---

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
def test_the_last_marks_stay(most: int, expected: list[str]) -> None:
    words = TOO_MANY.replace("4", str(most))
    repair = repair_body("cache_marks", everywhere(MARK), words)
    assert repair is not None
    assert repair.lesson == f"a maximum of {most} blocks with cache_control may be provided"
    assert repair.changed == f"{9 - most} cache marks removed"
    body = body_after("cache_marks", everywhere(MARK), repair.lesson)
    assert marks_of(body) == expected
    bare = body_after("cache_marks", body, TOO_MANY.replace("4", "0")) if most else body
    assert bare == everywhere({})


def test_the_mark_of_the_whole_request_counts() -> None:
    body = {**everywhere(MARK), **MARK}
    assert marks_of(body_after("cache_marks", body, TOO_MANY)) == ["all", "B", "b", "4"]
    body = body_after("cache_marks", body, TOO_MANY.replace("4", "0"))
    assert body == everywhere({})


def test_lifetimes_are_removed_if_their_order_is_refused() -> None:
    body = {**everywhere(MARK), **LONG}
    body["messages"].append(assistant(text("5", **LONG)))
    repair = repair_body("cache_marks", body, ORDER)
    assert repair is not None
    assert repair.changed == "2 cache lifetimes removed"
    assert repair.lesson is None
    expected = {**everywhere(MARK), **MARK}
    expected["messages"].append(assistant(text("5", **MARK)))
    assert body_after("cache_marks", body, ORDER) == expected


def test_a_property_of_that_name_is_not_a_mark() -> None:
    schema = {"properties": {"cache_control": {"type": "string"}}}
    call = {"type": "tool_use", "id": "a", "name": "A", "input": {"cache_control": {"ttl": "1h"}}}
    body = {"tools": [tool("A", **schema)] * 5, "messages": [assistant(call)] * 5}
    assert repair_body("cache_marks", body, TOO_MANY) is None
    assert repair_body("cache_marks", body, ORDER) is None


@given(st.data())
def test_number_and_order_of_marks_are_valid_after_the_repair(data: st.DataObject) -> None:
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
        repair = repair_body("cache_marks", broken, words)
        if repair is None:
            assert not [fault for fault in faults(broken) if wrong in fault]
        else:
            broken = body_after("cache_marks", broken, words)
    assert not faults(broken)
