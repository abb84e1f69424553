"""Calls and results that do not belong together."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.rectify.tool_results import match_results, orphans_in, pair
from tests.rectify.drafts import (
    MARK,
    TOOLS,
    assistant,
    body_after,
    call,
    conversations,
    image,
    missing,
    repair_body,
    result,
    server_call,
    server_result,
    system,
    text,
    user,
)
from tests.rectify.refusals import REFUSED
from tests.rectify.validity import faults, of_kind

# --- pairs ---

HI = user(text("hi"))
A, B = call("a"), call("b")
DONE_A, DONE_B = result("a"), result("b")


@pytest.mark.parametrize(
    ("messages", "claims", "orphans"),
    [
        ([HI, assistant(A), user(DONE_A)], {(1, 0): (2, 0)}, set()),
        ([HI, assistant(A), user(text("x"), DONE_A)], {(1, 0): (2, 1)}, set()),
        ([HI, assistant(A)], {}, set()),
        ([user(DONE_A), assistant(A)], {(1, 0): (0, 0)}, {(0, 0)}),
        ([assistant(A), system("s"), user(DONE_A)], {(0, 0): (2, 0)}, set()),
        ([assistant(A), assistant(text("x")), user(DONE_A)], {(0, 0): (2, 0)}, set()),
        ([assistant(A), user(DONE_A, DONE_A)], {(0, 0): (1, 0)}, {(1, 1)}),
        (
            [assistant(A), user(DONE_A), assistant(A), user(DONE_A)],
            {(0, 0): (1, 0), (2, 0): (3, 0)},
            set(),
        ),
        (
            [assistant(A), HI, assistant(A), user(DONE_A, DONE_A)],
            {(0, 0): (3, 1), (2, 0): (3, 0)},
            {(3, 1)},
        ),
        ([user(A), assistant(DONE_A)], {}, {(1, 0)}),
    ],
)
def test_a_result_belongs_to_the_call_before_it(
    messages: list[Any], claims: dict[Any, Any], orphans: set[Any]
) -> None:
    assert match_results(messages) == claims
    assert orphans_in(messages) == orphans


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HI, assistant(A)], [HI, assistant(A), user(missing("a"))]),
        ([HI, assistant(A), HI], [HI, assistant(A), user(missing("a"), text("hi"))]),
        (
            [HI, assistant(A), {"role": "user", "content": "hi"}],
            [HI, assistant(A), user(missing("a"), text("hi"))],
        ),
        (
            [assistant(A, B), user(text("x"), DONE_B), HI, assistant(text("y")), user(DONE_A)],
            [
                *(assistant(A, B), user(DONE_A, DONE_B, text("x")), HI, assistant(text("y"))),
                user(text("(no content)")),
            ],
        ),
        ([assistant(A, B), user(DONE_A), user(DONE_B)], [assistant(A, B), user(DONE_A, DONE_B)]),
        (
            [assistant(A), assistant(text("x"), B), user(DONE_A, DONE_B)],
            [assistant(A, text("x"), B), user(DONE_A, DONE_B)],
        ),
        (
            [assistant(A), system("s"), user(DONE_A), HI, assistant(text("x"))],
            [assistant(A), user(DONE_A), HI, system("s"), assistant(text("x"))],
        ),
        ([assistant(A), system("s")], [assistant(A), user(missing("a")), system("s")]),
        ([assistant(A), {"role": "tool"}], [assistant(A), user(missing("a")), {"role": "tool"}]),
    ],
)
def test_results_are_put_right_after_their_calls(messages: list[Any], expected: list[Any]) -> None:
    made = pair(messages)
    assert made.messages == expected
    assert pair(expected).messages == expected


@pytest.mark.parametrize(
    "messages",
    [
        [HI, assistant(A, B), user(DONE_B, DONE_A, text("x"))],
        [HI, assistant(text("x")), assistant(A), user(DONE_A), system("s")],
        [HI, user(DONE_B)],
        [5, {"role": "assistant", "content": 7}, {"role": "assistant"}],
    ],
)
def test_paired_messages_stay(messages: list[Any]) -> None:
    made = pair(messages)
    assert made.messages == messages
    assert all(new is old for new, old in zip(made.messages, messages, strict=True))
    assert not made.moved + made.invented + made.turns


# --- tool_use_concurrency ---

REFUSAL = REFUSED["tool_use_concurrency"][0]


def test_a_late_result_is_moved_and_a_missing_one_invented() -> None:
    messages = [
        HI,
        assistant(text("both"), call("toolu_01"), call("toolu_02")),
        user(text("wait")),
        assistant(text("well")),
        user(result("toolu_02"), text("more")),
    ]
    body = body_after("tool_use_concurrency", {"messages": messages, "tools": TOOLS}, REFUSAL)
    assert body["messages"] == [
        HI,
        assistant(text("both"), call("toolu_01"), call("toolu_02")),
        user(missing("toolu_01"), result("toolu_02"), text("wait")),
        assistant(text("well")),
        user(text("more")),
    ]
    assert not faults(body)


def test_paired_results_are_counted() -> None:
    messages = [HI, assistant(call("a")), user(text("secret")), assistant(call("b"))]
    repair = repair_body("tool_use_concurrency", {"messages": messages}, REFUSAL)
    assert repair is not None
    assert repair.changed == "2 tool results invented, 2 turns put in order"
    assert repair.lesson is None


def test_a_result_without_call_is_left_to_another_repair() -> None:
    messages = [HI, assistant(text("ok")), user(result("a"))]
    assert repair_body("tool_use_concurrency", {"messages": messages}, REFUSAL) is None


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


@given(st.data())
def test_every_call_is_answered(data: st.DataObject) -> None:
    body = data.draw(conversations())
    broken = {**body, "messages": data.draw(st.composite(torn)(body["messages"]))}
    if repair_body("tool_use_concurrency", broken, REFUSAL) is None:
        assert broken["messages"] == body["messages"] or not any(
            "asked" in fault or "at the end" in fault or "between" in fault
            for fault in faults(broken)
        )
        return
    found = faults(body_after("tool_use_concurrency", broken, REFUSAL))
    assert not [fault for fault in found if "before the user" not in fault]


# --- orphan_results ---

ORPHAN = REFUSED["orphan_results"][0]


def test_a_result_without_call_becomes_text() -> None:
    messages = [user(result("a", "found it"), text("see")), assistant(text("ok")), HI]
    body = body_after("orphan_results", {"messages": messages}, ORPHAN)
    assert body["messages"] == [
        user(text("[tool result a]\nfound it"), text("see")),
        assistant(text("ok")),
        HI,
    ]


def test_a_result_that_becomes_text_keeps_media_and_cache_mark() -> None:
    content = [text("one"), image(), text(" "), {"type": "tool_reference", "tool_name": "X"}]
    messages = [user(result("a", content, **MARK), result("b", None))]
    body = body_after("orphan_results", {"messages": messages}, ORPHAN)
    assert body["messages"] == [
        user(text("[tool result a]\none", **MARK), image(), text("[tool result b]"))
    ]


def test_the_second_result_of_a_call_becomes_text() -> None:
    messages = [HI, assistant(call("a")), user(result("a", "1"), result("a", "2"), text("x"))]
    body = body_after("orphan_results", {"messages": messages, "tools": TOOLS}, ORPHAN)
    assert body["messages"][2] == user(result("a", "1"), text("[tool result a]\n2"), text("x"))
    assert not faults(body)


def test_a_late_result_is_moved_to_its_call_instead() -> None:
    messages = [HI, assistant(call("a")), HI, assistant(text("x")), user(result("a"), result("b"))]
    body = body_after("orphan_results", {"messages": messages, "tools": TOOLS}, ORPHAN)
    assert body["messages"] == [
        *(HI, assistant(call("a")), user(result("a"), text("hi")), assistant(text("x"))),
        user(text("[tool result b]\ndone")),
    ]


def test_texts_stay_behind_results() -> None:
    messages = [HI, assistant(call("a")), user(result("x"), result("a"))]
    body = body_after("orphan_results", {"messages": messages, "tools": TOOLS}, ORPHAN)
    assert body["messages"][2] == user(result("a"), text("[tool result x]\ndone"))


def test_results_that_become_text_are_counted() -> None:
    repair = repair_body("orphan_results", {"messages": [user(result("a", "secret"))]}, ORPHAN)
    assert repair is not None
    assert repair.changed == "1 tool result without a call turned into text"


def forgotten(draw: st.DrawFn, messages: list[Any]) -> list[Any]:
    """A conversation in which results are missing, repeated, or in messages of another role."""
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


@given(st.data())
def test_every_result_has_its_call(data: st.DataObject) -> None:
    body = data.draw(conversations())
    broken = {**body, "messages": data.draw(st.composite(forgotten)(body["messages"]))}
    if broken["messages"] == body["messages"]:
        assert repair_body("orphan_results", broken, ORPHAN) is None
    else:
        found = faults(body_after("orphan_results", broken, ORPHAN))
        assert not [fault for fault in found if "before the user" not in fault]


# --- tool_ids ---

TWICE = "messages.3.content.1: `tool_use` ids must be unique"
LETTERS = "messages.1.content.1.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
NINE = "Tool call id was toolu_01 but must be a-z, A-Z, 0-9, with a length of 9."
LENGTH = "Invalid 'messages[2].tool_calls[0].id': string too long. Expected maximum length 40"


def ids_of(body: Any, kind: str = "tool_use", key: str = "id") -> list[str]:
    return [block[key] for message in body["messages"] for block in of_kind(message, kind)]


def test_the_second_call_of_an_id_gets_another_and_so_does_its_result() -> None:
    messages = [
        HI,
        assistant(call("a"), call("a")),
        user(result("a", "1"), result("a", "2")),
        assistant(call("a"), call("a_2")),
        user(result("a", "3"), result("a_2", "4")),
    ]
    body = body_after("tool_ids", {"messages": messages, "tools": TOOLS}, TWICE)
    assert ids_of(body) == ["a", "a_2", "a_3", "a_2_2"]
    assert ids_of(body, "tool_result", "tool_use_id") == ["a", "a_2", "a_3", "a_2_2"]
    assert not faults(body)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["functions.Bash:0"], ["functions_Bash_0"]),
        (["a.b", "a:b", "a_b"], ["a_b", "a_b_2", "a_b_3"]),
        (["", "ok"], ["toolu_0", "ok"]),
        (["\u00e9\u00e9", "a|b"], ["__", "a_b"]),
    ],
)
def test_refused_characters_in_ids_are_replaced(ids: list[str], expected: list[str]) -> None:
    messages = [HI, assistant(*map(call, ids)), user(*map(result, ids))]
    body = body_after("tool_ids", {"messages": messages, "tools": TOOLS}, LETTERS)
    assert ids_of(body) == expected
    assert ids_of(body, "tool_result", "tool_use_id") == ids_of(body)
    assert not faults(body)


def test_the_id_of_a_result_without_call_is_replaced_too() -> None:
    messages = [HI, assistant(call("a.b")), user(result("a.b"), result("a.b"), result("c.d"))]
    body = body_after("tool_ids", {"messages": messages}, LETTERS)
    assert ids_of(body, "tool_result", "tool_use_id") == ["a_b", "a_b", "c_d"]


def test_an_id_gets_the_exact_length() -> None:
    messages = [HI, assistant(call("toolu_01"), call("Abcdef123")), user(result("toolu_01"))]
    repair = repair_body("tool_ids", {"messages": messages}, NINE)
    assert repair is not None
    assert repair.changed == "2 tool ids rewritten"
    assert repair.lesson == "tool call id must be a-z, A-Z, 0-9, with a length of 9"
    body = body_after("tool_ids", {"messages": messages}, repair.lesson)
    first, second = ids_of(body)
    assert re.fullmatch(r"[a-zA-Z0-9]{9}", first)
    assert second == "Abcdef123"
    assert ids_of(body, "tool_result", "tool_use_id") == [first]


def test_an_id_gets_at_most_the_longest_length() -> None:
    messages = [HI, assistant(call("x" * 60), call("short")), user(result("x" * 60))]
    body = body_after("tool_ids", {"messages": messages}, LENGTH)
    first, second = ids_of(body)
    assert re.fullmatch(r"call_[a-zA-Z0-9]{24}", first)
    assert second == "short"
    assert ids_of(body, "tool_result", "tool_use_id") == [first]


SAME = st.sampled_from(["a", "a_2", "b.c", "b:c", "b_c", "", "toolu_0", "x" * 70])


@given(st.data(), st.sampled_from([TWICE, LETTERS, NINE, LENGTH]))
def test_every_call_has_its_own_id(data: st.DataObject, words: str) -> None:
    body = data.draw(conversations())
    messages: list[Any] = []
    names: dict[str, str] = {}
    for message in body["messages"]:
        content = message["content"]
        if isinstance(content, list):
            blocks = []
            for block in content:
                if block["type"] == "tool_use":
                    names[block["id"]] = data.draw(SAME)
                    block = {**block, "id": names[block["id"]]}
                elif block["type"] == "tool_result":
                    block = {**block, "tool_use_id": names[block["tool_use_id"]]}
                blocks.append(block)
            message = {**message, "content": blocks}
        messages.append(message)
    broken = {**body, "messages": messages}
    repair = repair_body("tool_ids", broken, words)
    after = body_after("tool_ids", broken, words) if repair else broken
    assert not faults(after)
    # What comes later changes nothing of what was before: providers cache by prefix.
    shorter = {**broken, "messages": messages[:-2]}
    before = (
        body_after("tool_ids", shorter, words)
        if repair_body("tool_ids", shorter, words)
        else shorter
    )
    assert after["messages"][: len(before["messages"])] == before["messages"]


# --- server_tools ---

UNPAIRED = REFUSED["server_tools"][0]
FOREIGN = REFUSED["server_tools"][3]
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
def test_unpaired_server_calls_and_results_are_removed(
    blocks: list[Any], expected: list[Any]
) -> None:
    body = body_after("server_tools", {"messages": [HI, assistant(*blocks), HI]}, UNPAIRED)
    assert body["messages"] == [HI, assistant(*expected), HI]


def test_a_server_call_and_its_result_may_be_in_successive_messages() -> None:
    messages = [HI, assistant(server_call(ONE)), assistant(server_result(ONE)), HI]
    assert repair_body("server_tools", {"messages": messages}, UNPAIRED) is None


def test_a_last_server_call_stays_unless_it_is_named() -> None:
    messages = [HI, assistant(text("a"), server_call(ONE)), HI, assistant(server_call(TWO))]
    body = body_after("server_tools", {"messages": messages}, UNPAIRED)
    assert body["messages"] == [HI, assistant(text("a")), HI, assistant(server_call(TWO))]
    body = body_after("server_tools", {"messages": messages}, f"{UNPAIRED}: {TWO}")
    assert body["messages"] == [HI, assistant(text("a")), HI]


def test_server_calls_with_foreign_ids_are_removed() -> None:
    messages = [
        HI,
        assistant(
            *(server_call("call:1"), server_result("call:1")),
            *(server_call(ONE), server_result(ONE), text("a")),
        ),
        HI,
    ]
    repair = repair_body("server_tools", {"messages": messages}, FOREIGN)
    assert repair is not None
    assert repair.changed == "1 server tool call removed, 1 server tool result removed"
    body = body_after("server_tools", {"messages": messages}, repair.lesson or "")
    assert body["messages"][1] == assistant(server_call(ONE), server_result(ONE), text("a"))


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
        assert not faults(body_after("server_tools", broken, UNPAIRED))
    else:
        assert repair_body("server_tools", broken, UNPAIRED) is None
