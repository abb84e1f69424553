"""Messages and blocks, read and rebuilt."""

import msgspec
import pytest

from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Refusal
from ccfallback.rectify.turns import (
    counted,
    messages_of,
    named_places,
    settled,
    summed,
    with_messages,
)
from tests.rectify.structure import assistant, result, system, text, user

EMPTY_USER = {"role": "user", "content": []}
EMPTY_ASSISTANT = {"role": "assistant", "content": []}
EMPTY_SYSTEM = {"role": "system", "content": []}
HI = user(text("hi"))
OK = assistant(text("ok"))
FILLER = text("(no content)")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HI, OK], [HI, OK]),
        ([HI, EMPTY_USER, OK], [HI, OK]),
        ([EMPTY_USER, HI], [HI]),
        ([HI, OK, EMPTY_USER], [HI, OK, user(FILLER)]),
        ([HI, EMPTY_ASSISTANT], [HI]),
        ([HI, EMPTY_ASSISTANT, HI], [HI, assistant(FILLER), HI]),
        ([HI, EMPTY_ASSISTANT, system("s")], [HI, system("s")]),
        ([HI, EMPTY_SYSTEM, OK], [HI, OK]),
        ([HI, {**EMPTY_SYSTEM, "output_config": {}}, OK], [HI, OK]),
        (
            [HI, {**EMPTY_SYSTEM, "output_config": {"effort": "low"}}],
            [HI, {**EMPTY_SYSTEM, "output_config": {"effort": "low"}}],
        ),
        ([EMPTY_ASSISTANT], [user(FILLER)]),
        ([EMPTY_USER, EMPTY_USER], [user(FILLER)]),
        ([], []),
        ([5, None], [5, None]),
    ],
)
def test_no_message_is_left_empty(messages: list[object], expected: list[object]) -> None:
    assert settled(messages) == expected


@pytest.mark.parametrize(
    ("message", "places"),
    [
        ("messages.3.content.1: no", {(3, 1)}),
        ("messages.3.content.1.image.source.base64.data: no", {(3, 1)}),
        ("messages -> 3 -> content -> 1 -> text: no", {(3, 1)}),
        ("messages.3.content.1.tool_result.content.2.image: no", {(3, 1, 2)}),
        ("messages.3.content.1.content.2: no", {(3, 1, 2)}),
        ("messages.0.content.0: a; messages.12.content.7: b", {(0, 0), (12, 7)}),
        ("messages.3: no", set()),
        ("messages.3.role: no", set()),
        # The places of a request in another format are not those of this one.
        ("messages[3].content[1]: no", set()),
        ("messages.99999999999.content.1", set()),
        ("", set()),
    ],
)
def test_a_refusal_names_places(message: str, places: set[tuple[int, ...]]) -> None:
    assert named_places(Refusal(400, message)) == places


def test_messages_that_stay_keep_their_bytes() -> None:
    raw = b'{"model": "m", "messages": [{"role":"user", "content": "\\u00e9 1.50"}, {"a" : 1.50}]}'
    draft = RequestDraft(Body.parse(raw))
    first, second = messages_of(draft)
    made = with_messages(draft, [first, {**second, "b": 2}, second]).body
    assert made.member("messages") == (
        b'[{"role":"user", "content": "\\u00e9 1.50"},{"a":1.5,"b":2},{"a" : 1.50}]'
    )


def test_there_are_no_messages_in_what_is_no_list() -> None:
    draft = RequestDraft(Body.parse(b'{"messages":{"a":1}}'))
    assert messages_of(draft) == []
    assert msgspec.json.decode(with_messages(draft, [HI]).body.raw) == {"messages": [HI]}


def test_results_are_blocks_like_others() -> None:
    assert settled([user(result("a", []))]) == [user(result("a", []))]


def test_what_was_changed_is_said_in_counts() -> None:
    assert counted(1, "image", "removed") == "1 image removed"
    assert counted(2, "image", "removed") == "2 images removed"
    assert summed(counted(0, "image", "removed"), "a", "b") == "a, b"
