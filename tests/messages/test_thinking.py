"""Thinking of ours: its mark, and requests without it."""

from time import perf_counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.messages.thinking import (
    ThinkingMark,
    is_own,
    mark,
    read_envelope,
    without_own_thinking,
)

GENUINE = {"type": "thinking", "thinking": "I see", "signature": "EqQBCkYIARgCKkBx+/8="}
OWN = {"type": "thinking", "thinking": "Hm", "signature": mark("Hm")}
RICH = {"type": "thinking", "thinking": "", "signature": mark("", {"reasoning_details": [1]})}
REDACTED = {"type": "redacted_thinking", "data": "x"}
EMPTY = {"type": "thinking", "thinking": "Hm", "signature": ""}
UNSIGNED = {"type": "thinking", "thinking": "Hm"}
TEXT = {"type": "text", "text": "a"}
CALL = {"type": "tool_use", "id": "t", "name": "Bash", "input": {"b": 1.0, "a": "é"}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "ok"}
PLACEHOLDER = {"type": "text", "text": "(no content)"}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def body(*messages: Any, **members: Any) -> Body:
    return Body.parse(msgspec.json.encode({"model": "m", "messages": list(messages), **members}))


def left(*messages: Any, unsigned: bool = False) -> Any:
    return without_own_thinking(body(*messages), unsigned=unsigned).get("messages")


@settings(deadline=None)
@given(text=st.text(), envelope=st.none() | st.dictionaries(st.text(max_size=3), st.integers()))
def test_a_mark_is_recognized(text: str, envelope: dict[str, int] | None) -> None:
    try:
        signature = mark(text, envelope)
    except UnicodeEncodeError:
        return
    assert is_own(signature)
    assert signature.isascii()
    assert signature.isprintable()
    assert read_envelope(signature) == (envelope or None)


@given(st.lists(st.text(max_size=9) | st.just("x" * 9000), max_size=9))
def test_the_mark_does_not_depend_on_the_pieces(pieces: list[str]) -> None:
    made = ThinkingMark()
    for _ in range(2):
        # Each block has a mark of its own.
        for piece in pieces:
            made.add(piece)
        assert made.take({"a": 1}) == mark("".join(pieces), {"a": 1})


def test_the_same_thinking_has_the_same_mark() -> None:
    assert mark("a") == mark("a") != mark("b")


@pytest.mark.parametrize("signature", [GENUINE["signature"], "", None, 1, [], "ccfallback"])
def test_what_is_not_ours(signature: Any) -> None:
    assert not is_own(signature)
    assert read_envelope(signature) is None


@pytest.mark.parametrize("rest", ["", ".", ".x", ".é", ".bm90IGpzb24=", ".WzFd"])
def test_a_mark_that_was_damaged_carries_nothing(rest: str) -> None:
    assert read_envelope(mark("a") + rest) is None


def test_57_ours_goes_and_the_rest_stays() -> None:
    asked = body(
        user(TEXT),
        assistant(GENUINE, TEXT, CALL),
        user(RESULT),
        assistant(OWN, TEXT, RICH, CALL),
        user(RESULT),
        system="s",
    )
    sent = without_own_thinking(asked)
    assert sent.get("messages") == [
        user(TEXT),
        assistant(GENUINE, TEXT, CALL),
        user(RESULT),
        assistant(TEXT, CALL),
        user(RESULT),
    ]
    gone = [msgspec.json.encode(block) for block in (OWN, RICH)]
    expected = asked.raw.replace(gone[0] + b",", b"").replace(b"," + gone[1], b"")
    assert sent.raw == expected


def test_57_every_other_byte_stays() -> None:
    own = msgspec.json.encode(OWN)
    message = b'{ "role":"assistant", "content":[ {"type":"text", "text":"\\u00e9\\/"} ] }'
    head = b'{ "model" : "m",\n "max_tokens": 1.50, "messages" :[' + message
    tail = b'], "x" : { } }'
    asked = Body.parse(head + b',{"role":"assistant","content":[%b,{"a": 1}]}' % own + tail)
    sent = without_own_thinking(asked)
    assert sent.raw == head + b',{"role":"assistant","content":[{"a": 1}]}' + tail
    assert sent.get("max_tokens") == 1.5


def test_57b_the_beginning_is_the_same_in_every_later_request() -> None:
    turns = [
        *(user(TEXT), assistant(GENUINE, TEXT)),
        *(user(TEXT), assistant(OWN, CALL), user(RESULT), assistant(OWN)),
        *(user(TEXT), assistant(GENUINE, CALL), user(RESULT), assistant(RICH, TEXT), user(TEXT)),
    ]
    before = b""
    for count in range(1, len(turns) + 1):
        sent = without_own_thinking(body(*turns[:count])).raw.removesuffix(b"]}")
        assert sent.startswith(before)
        before = sent


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [user(TEXT)],
        [assistant(GENUINE, TEXT)],
        [assistant(REDACTED)],
        [assistant(EMPTY), assistant(UNSIGNED)],
        [user({"type": "text", "text": f'my signature is "{mark("a")}"'})],
        [user({"type": "text", "text": mark("a"), "signature": mark("a")})],
        [{"role": "user", "content": mark("a")}],
        [{"role": "user", "content": {"x": mark("a")}}, mark("a"), 1, None],
    ],
)
def test_nothing_to_take_out_is_the_very_same_body(messages: list[Any]) -> None:
    asked = body(*messages)
    assert without_own_thinking(asked) is asked


def test_a_message_that_was_only_thinking_says_so() -> None:
    assert left(user(TEXT), assistant(OWN, RICH), user(TEXT)) == [
        user(TEXT),
        assistant(PLACEHOLDER),
        user(TEXT),
    ]


def test_unsigned_thinking_is_removed_on_request() -> None:
    messages = [assistant(EMPTY, GENUINE, TEXT), assistant(UNSIGNED), assistant(REDACTED, OWN)]
    assert left(*messages) == [*messages[:2], assistant(REDACTED)]
    assert left(*messages, unsigned=True) == [
        assistant(GENUINE, TEXT),
        assistant(PLACEHOLDER),
        assistant(REDACTED),
    ]
    asked = body(assistant(GENUINE), thinking={"type": "adaptive"})
    assert without_own_thinking(asked, unsigned=True) is asked


def test_the_same_twice_is_the_same() -> None:
    once = without_own_thinking(body(user(TEXT), assistant(OWN), assistant(OWN, TEXT)))
    assert without_own_thinking(once) is once


def test_a_letter_cut_in_two_does_not_keep_it_there() -> None:
    raw = body(user(TEXT), assistant(OWN, TEXT)).raw.replace(b'"a"', b'"\\ud800"')
    assert mark("Hm").encode() not in without_own_thinking(Body.parse(raw)).raw


def test_the_same_messages_elsewhere_stay() -> None:
    messages = [assistant(OWN, TEXT)]
    asked = Body.parse(
        msgspec.json.encode({"copy": {"messages": messages, "x": messages}, "messages": messages})
    )
    sent = without_own_thinking(asked)
    assert sent.get("copy") == asked.get("copy")
    assert sent.get("messages") == [assistant(TEXT)]


def test_a_long_conversation_is_searched_fast() -> None:
    turns = [user({"type": "text", "text": "x" * 5000}), assistant(GENUINE, TEXT)] * 200
    asked = body(*turns)
    began = perf_counter()
    for _ in range(20):
        assert without_own_thinking(asked) is asked
    assert (perf_counter() - began) / 20 < 0.005


BLOCKS = st.sampled_from([GENUINE, OWN, RICH, REDACTED, EMPTY, UNSIGNED, TEXT, CALL, None, 1])
MESSAGES = st.lists(
    st.lists(BLOCKS, max_size=4).map(lambda blocks: assistant(*blocks)) | st.just(user(TEXT)),
    max_size=5,
)


@settings(deadline=None)
@given(messages=MESSAGES, unsigned=st.booleans())
def test_only_such_blocks_go(messages: list[dict[str, Any]], unsigned: bool) -> None:
    going = [OWN, RICH, *([EMPTY, UNSIGNED] if unsigned else [])]
    expected = []
    for message in messages:
        kept = [block for block in message["content"] if block not in going]
        emptied = message["content"] and not kept
        expected.append({**message, "content": [PLACEHOLDER] if emptied else kept})
    assert left(*messages, unsigned=unsigned) == expected


@settings(deadline=None)
@given(raw=st.binary(max_size=40))
def test_no_body_is_too_odd(raw: bytes) -> None:
    for content in (raw, b'[{"content":[{"signature":"%b"' % mark("a").encode() + raw):
        asked = Body({"messages": msgspec.Raw(content)}, b'{"messages":' + content + b"}")
        assert without_own_thinking(asked, unsigned=True) is asked
