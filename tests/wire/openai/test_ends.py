"""When a stream has ended: what counts as its end, and what undoes it."""

from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.wire.openai.stream import whole
from tests.wire.openai import grammar
from tests.wire.openai.upstream import (
    ASKED,
    DONE,
    NOT_THINKING,
    body,
    calls,
    chunk,
    completion,
    counted,
    each_byte,
    line,
    piece,
    says,
    translate,
)

ABSENT = [None, "", " ", "null", "NULL", "none", "None"]
"""What servers write for a finish reason that is still absent."""

ERROR = line({"error": {"message": "boom", "type": "server_error"}})


def ends(*reads: bytes, **more: Any) -> bool:
    """Whether a stream that is cut after these reads looks like a whole answer."""
    cut = translate(*reads, ended=False, **more)
    grammar.obey(cut)
    stopped = cut.stream.stopped
    for rest in ((), (ERROR,), (b"data: {",)):
        translated = translate(*reads, *rest, **more)
        grammar.obey(translated)
        assert translated.stream.complete == stopped
    return stopped


@pytest.mark.parametrize("absent", ABSENT)
def test_an_absent_finish_reason_does_not_end_a_stream(absent: str | None) -> None:
    begun = [chunk({"content": "Hel"}, absent), chunk({"content": "lo"}, absent)]
    assert not ends(*begun)
    assert not ends(*begun, counted())
    assert ends(*begun, chunk({}, "stop"))
    assert ends(*begun, chunk({}, "stop"), chunk({}, absent))
    call = [chunk({"tool_calls": [piece(0, "a", "A", '{"x"')]}, absent)]
    assert not ends(*call)
    assert translate(*call, DONE).stream.error is not None


@pytest.mark.parametrize("absent", ABSENT)
def test_the_marker_ends_a_stream_without_a_finish_reason(absent: str | None) -> None:
    translated = translate(chunk({"content": "Hello"}, absent), counted(), DONE)
    grammar.obey(translated)
    assert translated.blocks == [("text", "Hello")]
    assert translated.stop_reason == "end_turn"


@pytest.mark.parametrize("absent", ABSENT)
def test_a_whole_answer_needs_no_finish_reason(absent: str | None) -> None:
    message = msgspec.json.decode(whole(completion({"content": "x"}, absent), ASKED).body)
    assert message["stop_reason"] == "end_turn"


MORE = {
    "text": says("more"),
    "text in a message": line({"choices": [{"index": 0, "message": {"content": "more"}}]}),
    "thinking": chunk({"reasoning_content": "more"}),
    "details": chunk({"reasoning_details": [{"type": "reasoning.text", "text": "more"}]}),
    "refusal": chunk({"refusal": "more"}),
    "call": calls(piece(0, "a", "A")),
    "old call": chunk({"function_call": {"name": "A", "arguments": ""}}),
    "call of another choice": line(
        {"choices": [{"index": 1, "delta": {"tool_calls": [piece(0, "a", "A", "{}")]}}]}
    ),
    "text with an error": chunk({"content": "more"}, "network_error"),
}


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
@pytest.mark.parametrize("asked", [ASKED, NOT_THINKING], ids=["thinking", "plain"])
def test_content_after_a_finish_reason_undoes_the_end(more: bytes, asked: Any) -> None:
    begun = [says("Hello "), chunk({}, "stop")]
    if b"message" in more:
        begun = [line({"choices": [{"index": 0, "message": {"content": "Hello "}}]}), begun[1]]
    assert ends(*begun, client_body=asked)
    assert not ends(*begun, more, client_body=asked)
    assert not ends(*begun, more, counted(), client_body=asked)


ASIDES = {
    "usage": chunk(None, usage={"prompt_tokens": 10, "completion_tokens": 2}),
    "an empty text": says(""),
    "an empty call": calls({"index": 0, "function": {"arguments": ""}}),
    "the message again": line({"choices": [{"index": 0, "message": {"content": "Hello"}}]}),
    "annotations": chunk({"annotations": []}),
    "encrypted thinking": chunk({"reasoning_details": [{"type": "x", "data": "c2VjcmV0"}]}),
    "null members": chunk({"content": None, "tool_calls": None, "function_call": None}),
    "another choice": line({"choices": [{"index": 1, "delta": {"content": "another answer"}}]}),
}


@pytest.mark.parametrize("aside", ASIDES.values(), ids=ASIDES)
def test_what_is_not_content_leaves_the_end_as_it_is(aside: bytes) -> None:
    assert ends(says("Hello"), chunk({}, "stop"), aside)


def test_a_later_finish_reason_ends_the_answer_again() -> None:
    reads = [says("Hel"), chunk({}, "stop"), says("lo"), chunk({}, "length")]
    assert ends(*reads)
    translated = translate(*reads, DONE)
    assert translated.blocks == [("text", "Hello")]
    assert translated.stop_reason == "max_tokens"


def test_a_finish_reason_on_each_chunk_does_not_end_the_answer() -> None:
    reads = [chunk({"content": text}, "stop") for text in "abc"]
    for count in (2, 3):
        assert not ends(*reads[:count])
        assert not ends(*reads[:count], counted())
    assert ends(*reads, chunk({}, "stop"))
    translated = translate(*reads, DONE)
    assert translated.blocks == [("text", "abc")]
    assert translated.stop_reason == "end_turn"


def test_a_finish_reason_on_each_piece_of_a_call() -> None:
    parts = [piece(0, "a", "A", '{"x"'), piece(0, args=":"), piece(0, args="1}")]
    reads = [chunk({"tool_calls": [part]}, "tool_calls") for part in parts]
    assert not ends(*reads[:2])
    assert translate(*reads[:2], DONE).stream.error is not None
    assert translate(*reads, DONE).blocks == [("tool_use", "a", "A", '{"x":1}')]
    cut = [chunk({"tool_calls": [part]}, "length") for part in parts[:2]]
    assert translate(*cut, DONE).stop_reason == "max_tokens"


def test_an_early_finish_reason_does_not_end_an_empty_answer() -> None:
    early = chunk({"role": "assistant", "content": ""}, "stop")
    assert not ends(early)
    assert not ends(early, says("Hello"))
    assert ends(early, says("Hello"), chunk({}, "stop"))
    # Nothing is left to come after these.
    assert ends(chunk({}, "length"))
    assert ends(chunk({}, "content_filter"))


def test_a_stop_sequence_counts_only_at_the_end() -> None:
    def stop(**more: Any) -> bytes:
        return line({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", **more}]})

    asked = body(stop_sequences=["E"])
    reads = [says("a"), stop(stop_reason="E"), says("b"), stop()]
    assert translate(*reads, client_body=asked).stop_reason == "end_turn"
    assert translate(*reads[:2], client_body=asked).stop_reason == "stop_sequence"


def second(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return line({"choices": [{"index": 1, "delta": delta, "finish_reason": finish}]})


def test_a_stream_with_its_calls_in_another_choice_ends_with_both() -> None:
    reads = [
        says("I look."),
        second({"tool_calls": [piece(0, "a", "A", '{"x":')]}),
        chunk({}, "stop"),
        second({"tool_calls": [piece(0, args="1}")]}, "tool_calls"),
    ]
    assert [ends(*reads[:count]) for count in range(1, 5)] == [False, False, False, True]
    early = [reads[0], reads[2], reads[1], reads[3]]
    assert [ends(*early[:count]) for count in range(1, 5)] == [False, True, False, True]
    calls_first = [reads[0], reads[1], reads[3], reads[2]]
    assert [ends(*calls_first[:count]) for count in range(1, 5)] == [False, False, False, True]
    assert ends(*reads[1:2], reads[3])


def test_an_error_in_the_last_bytes_does_not_undo_an_answer() -> None:
    reads = [says("Hello"), chunk({}, "stop")]
    for rest in (ERROR.rstrip(), b'event: error\ndata: {"reason":"no"}'):
        assert translate(*reads, rest).stream.complete
        assert not translate(reads[0], rest).stream.complete


class Piece(NamedTuple):
    """A chunk of a stream, and what the test knows of it."""

    raw: bytes
    text: str = ""
    has_call: bool = False
    finish: str | None = None


NULLS = {"tool_calls": None, "function_call": None, "refusal": None, "reasoning_content": None}
WORDS = st.text("ab \n<>", min_size=1, max_size=4)
FINISHES = st.sampled_from([*ABSENT, *ABSENT, "stop", "STOP", "eos", "tool_calls"])
NOTHING: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"content": ""}, {"content": None}, NULLS, {"role": "assistant"}]
)
USAGES = st.sampled_from([None, {"prompt_tokens": 10, "completion_tokens": 2}])


@st.composite
def bodies(draw: st.DrawFn) -> list[Piece]:
    """The chunks of an answer, with finish reasons anywhere, and in any way of writing none."""
    made: list[Piece] = []
    always = draw(st.booleans())
    usual = draw(FINISHES)
    kinds = st.sampled_from(["text", "text", "call", "nothing"])
    for kind in draw(st.lists(kinds, min_size=1, max_size=7)):
        finish = usual if always else draw(FINISHES)
        delta: dict[str, Any] = draw(NOTHING)
        text = ""
        if kind == "text":
            text = draw(WORDS)
            delta = {**delta, "content": text}
        elif kind == "call":
            args = draw(st.sampled_from(["", "{", '"x"', ":1}", "{}"]))
            delta = {**delta, "tool_calls": [piece(0, "a", "A", args)]}
        usage = draw(USAGES)
        more = {} if usage is None and draw(st.booleans()) else {"usage": usage}
        made.append(Piece(chunk(delta, finish, **more), text, kind == "call", finish))
    return made


def is_reason(finish: str | None) -> bool:
    return finish not in ABSENT


def is_over(chunks: list[Piece]) -> bool:
    """Whether nothing but the end can be missing from a stream that is cut after these chunks."""
    content = [at for at, each in enumerate(chunks) if each.text or each.has_call]
    if not content:
        return False
    reasons = [at for at, each in enumerate(chunks) if is_reason(each.finish)]
    if any(at > content[-1] for at in reasons):
        return True
    # A reason that comes with the last content counts if no earlier one was wrong.
    return reasons[:1] == [content[-1]]


@settings(deadline=None)
@given(chunks=bodies(), tags=st.booleans())
def test_no_cut_looks_like_an_answer(chunks: list[Piece], tags: bool) -> None:
    for count in range(len(chunks) + 1):
        begun = chunks[:count]
        reads = [each.raw for each in begun]
        for rest in ([], [ERROR], [line({"choices": []})], [b"data: {"]):
            translated = translate(*reads, *rest, think_tags=tags)
            grammar.obey(translated)
            said = "".join(each.text for each in begun)
            # An answer of white space alone is an empty one.
            is_empty = not said.strip() and not any(each.has_call for each in begun)
            assert translated.stream.complete == (is_over(begun) and not is_empty)


@settings(deadline=None)
@given(chunks=bodies(), usage_at=st.integers(0, 7), at=st.integers(0, 10_000))
def test_no_finish_reason_loses_a_part_of_an_answer(
    chunks: list[Piece], usage_at: int, at: int
) -> None:
    reads = [each.raw for each in chunks]
    if not is_over(chunks[:usage_at]):
        # A chunk with nothing but the usage ends an answer that has come to its end.
        reads.insert(usage_at, counted())
    stream = b"".join([*reads, DONE])
    translated = translate(stream)
    grammar.obey(translated)
    if translated.stream.complete:
        said = "".join(each.text for each in chunks)
        got = "".join(block[-1] for block in translated.blocks if block[0] == "text")
        assert "".join(got.split()) == "".join(said.split())
    assert translate(*each_byte(stream)).out == translated.out
    place = at % (len(stream) + 1)
    assert translate(stream[:place], stream[place:]).out == translated.out


def test_the_pieces_of_a_stream_are_told_apart() -> None:
    """The test's own rule, on streams whose end is plain."""
    text, end, both = Piece(b"", "a"), Piece(b"", finish="stop"), Piece(b"", "a", finish="stop")
    assert [is_over(each) for each in ([text], [text, end], [both], [end, text])] == [
        *(False, True, True, False)
    ]
    assert not any(is_over(list(pair)) for pair in pairwise([both, both, both]))
