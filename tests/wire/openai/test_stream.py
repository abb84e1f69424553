"""Streamed completions: recorded ones, every cut of them, and what no stream may do."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.messages.assemble import to_message
from ccfallback.messages.body import Body
from ccfallback.messages.thinking import is_own, mark, read_envelope
from ccfallback.messages.tokens import Usage
from ccfallback.wire.openai import lines
from ccfallback.wire.openai.stream import whole
from tests.messages.test_assemble import accumulated
from tests.wire.openai import grammar
from tests.wire.openai.upstream import (
    ASKED,
    DONE,
    NOT_THINKING,
    Translated,
    body,
    calls,
    chunk,
    completion,
    counted,
    cut,
    each_byte,
    line,
    piece,
    says,
    translate,
)

CASES = sorted((Path(__file__).parent / "cases" / "stream").glob("*.txt"))
SEPARATOR = b"=====\n"

PLAIN = [chunk({"role": "assistant", "content": ""}), says("Hel"), says("lo"), chunk({}, "stop")]
HELLO = ["message_start", "+0 text", "Hel", "lo", "-0", "end_turn", "message_stop"]


class Case:
    """What an upstream sent, and what the client gets."""

    def __init__(self, path: Path) -> None:
        head, self.upstream, self.expected = path.read_bytes().split(SEPARATOR)
        given = msgspec.json.decode(head)
        self.asked = Body.parse(msgspec.json.encode(given["asked"]))
        self.think_tags = bool(given.get("think_tags"))

    def translated(self, reads: list[bytes]) -> Translated:
        return translate(*reads, client_body=self.asked, think_tags=self.think_tags)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_recorded_stream(path: Path) -> None:
    case = Case(path)
    translated = case.translated([case.upstream])
    grammar.obey(translated)
    if "UPDATE_CASES" in os.environ:
        head = path.read_bytes().split(SEPARATOR)[0]
        path.write_bytes(SEPARATOR.join([head, case.upstream, translated.out]))
    else:
        assert translated.out.decode() == case.expected.decode()


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_cut_anywhere_changes_nothing(path: Path) -> None:
    case = Case(path)
    assert case.translated(each_byte(case.upstream)).out == case.expected
    for step in (2, 3, 7, 50):
        reads = cut(case.upstream, range(0, len(case.upstream), step))
        assert case.translated(reads).out == case.expected


def starts_thinking(*reads: bytes, **members: Any) -> list[tuple[Any, ...]]:
    translated = translate(*reads, think_start=True, **members)
    grammar.obey(translated)
    return [block[:2] for block in translated.blocks]


def test_an_answer_that_begins_inside_thinking() -> None:
    end = (chunk({}, "stop"), DONE)
    assert starts_thinking(says("I see"), says(".</thi"), says("nk>\n\nYes"), *end) == [
        ("thinking", "I see."),
        ("text", "Yes"),
    ]
    # No thinking at all: what looked like it is said as text, too.
    assert starts_thinking(says("Ye"), says("s"), *end) == [("thinking", "Yes"), ("text", "Yes")]
    assert starts_thinking(says("Yes"), *end, client_body=NOT_THINKING) == [("text", "Yes")]
    # A call follows, or the limit of tokens: it was thinking.
    call = calls(piece(0, "c", "Bash", "{}"))
    assert [each[0] for each in starts_thinking(says("I see"), call, *end)] == [
        "thinking",
        "tool_use",
    ]
    assert starts_thinking(says("I se"), chunk({}, "length"), DONE) == [("thinking", "I se")]
    # The server separates the thinking itself.
    own = (chunk({"reasoning_content": "I see."}), says("Yes"), *end)
    assert starts_thinking(*own) == [("thinking", "I see."), ("text", "Yes")]


@settings(max_examples=15, deadline=None)
@given(places=st.lists(st.integers(0, 100_000), max_size=6))
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_any_cuts_change_nothing(path: Path, places: list[int]) -> None:
    case = Case(path)
    assert case.translated(cut(case.upstream, places)).out == case.expected


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_no_prefix_looks_like_an_answer(path: Path) -> None:
    case = Case(path)
    chunks = case.upstream.split(b"\n\n")
    ending = next(
        (i for i, part in enumerate(chunks) if b'"finish_reason":"' in part or b"[DONE]" in part),
        len(chunks),
    )
    for count in range(ending + 1):
        translated = case.translated([b"\n\n".join(chunks[:count])])
        grammar.obey(translated)
        assert not translated.stream.complete
        assert b"message_delta" not in translated.out


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_official_client_reads_it(path: Path) -> None:
    case = Case(path)
    if b"message_stop" not in case.expected:
        pytest.skip("no whole answer")

    read = accumulated(case.expected)
    folded = msgspec.json.decode(to_message(case.expected))
    for block, expected in zip(read["content"], folded["content"], strict=True):
        assert {key: block.get(key) for key in expected} == expected
    assert read["stop_reason"] == folded["stop_reason"]
    assert read["usage"]["output_tokens"] == folded["usage"]["output_tokens"]


def test_a_plain_answer() -> None:
    translated = translate(*PLAIN, counted(10, 2), DONE)
    assert translated.brief == HELLO
    assert translated.end["usage"]["input_tokens"] == 10
    assert translated.stream.usage == Usage(10, 2, 0, 0)


def test_characters_split_between_reads() -> None:
    stream = says("é") + says("👍") + chunk({}, "stop") + DONE
    for place in range(len(stream)):
        translated = translate(stream[:place], stream[place:])
        assert translated.blocks == [("text", "é👍")]


FRAMINGS = {
    "CRLF": lambda stream: stream.replace(b"\n", b"\r\n"),
    "CR": lambda stream: stream.replace(b"\n", b"\r"),
    "no space": lambda stream: stream.replace(b"data: ", b"data:"),
    "BOM": lambda stream: b"\xef\xbb\xbf" + stream,
    "comments": lambda stream: b": hello\n\n" + stream.replace(b"\n\n", b"\n\n: x\n\n"),
    "blank lines": lambda stream: b"\n\n\n" + stream.replace(b"\n\n", b"\n\n\n\n"),
    "event and id": lambda stream: stream.replace(b"data:", b"event: message\nid: 1\ndata:"),
    "no last blank line": lambda stream: stream.removesuffix(b"\n\n"),
    "no marker": lambda stream: stream.removesuffix(DONE),
    "spaces around the marker": lambda stream: stream.replace(b"[DONE]", b"  [DONE]  "),
    "rubbish after the marker": lambda stream: stream + b"data: {nonsense\n\n" + says("more"),
    "a word to keep alive": lambda stream: b"data: ping\n\n" + stream,
    "JSON that is not an object": lambda stream: b"data: null\n\ndata: []\n\ndata: 1\n\n" + stream,
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("ending", [[], [counted()]], ids=["", "counted"])
def test_every_framing(framing: str, ending: list[bytes]) -> None:
    plain = b"".join([*PLAIN, *ending, DONE])
    stream = FRAMINGS[framing](plain)
    for reads in ([stream], each_byte(stream)):
        assert translate(*reads).out == translate(plain).out


def test_data_of_several_lines() -> None:
    stream = says("Hello").replace(b',"choices"', b'\ndata: ,"choices"') + chunk({}, "stop") + DONE
    assert translate(stream).blocks == [("text", "Hello")]


def test_a_chunk_of_many_reads() -> None:
    text = "x" * (3 << 20)
    stream = says(text) + chunk({}, "stop") + DONE
    reads = cut(stream, range(0, len(stream), 1 << 16))
    assert translate(*reads).blocks == [("text", text)]


def test_an_event_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_EVENT", 1000)
    translated = translate(says("Hello"), b"data: " + b"x" * 1001, says("more"))
    assert translated.stream.error is not None
    assert translated.brief == ["message_start", "+0 text", "Hello"]


def test_thinking_then_text_then_a_call() -> None:
    translated = translate(
        chunk({"reasoning_content": "Let"}),
        chunk({"reasoning_content": " me"}),
        says("Yes"),
        calls(piece(0, "a", "Bash", "{}")),
        chunk({}, "tool_calls"),
        DONE,
    )
    assert translated.brief == [
        *("message_start", "+0 thinking", "Let", " me", "signature", "-0"),
        *("+1 text", "Yes", "-1", "+2 tool_use", "{}", "-2", "tool_use", "message_stop"),
    ]
    signature = msgspec.json.decode(to_message(translated.out))["content"][0]["signature"]
    assert is_own(signature)
    assert signature == mark("Let me")


def test_no_text_block_for_whitespace_before_a_call() -> None:
    reads = [says("  "), says("\n"), calls(piece(0, "a", "Bash", "{}")), says("\n")]
    assert translate(*reads, chunk({}, "stop"), DONE).blocks == [("tool_use", "a", "Bash", "{}")]


def test_whitespace_before_a_text_is_kept() -> None:
    translated = translate(says("  "), says("\n"), says("a"), says(" "), chunk({}, "stop"))
    assert translated.blocks == [("text", "  \na ")]


ERRORS = [
    ({"error": {"message": "Slow down", "code": 429}}, "rate_limit_error"),
    ({"error": {"message": "Gone", "type": "server_error"}}, "api_error"),
    ({"error": "Overloaded, sorry", "choices": None}, "api_error"),
    ({"object": "error", "message": "No", "code": 400}, "invalid_request_error"),
    ([{"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}}], "overloaded_error"),
    ({"choices": [{"delta": {}, "finish_reason": "error"}]}, "failed_stop_reason"),
    ({"choices": [{"delta": {"content": "x"}, "finish_reason": "network_error"}]}, "api_error"),
    (
        {"choices": [{"delta": {}, "finish_reason": "insufficient_system_resource"}]},
        "overloaded_error",
    ),
    ({"choices": [], "x_groq": {"error": "over capacity"}}, "api_error"),
    ({"choices": [{"index": 0, "error": {"code": 402, "message": "no"}}]}, "billing_error"),
]


@pytest.mark.parametrize(("value", "kind"), ERRORS)
def test_an_error_first(value: Any, kind: str) -> None:
    translated = translate(b": x\n\n", line(value), says("more"), DONE)
    assert translated.out == b""
    assert translated.stream.error is not None
    assert translated.stream.error.type == kind
    assert not translated.stream.complete


@pytest.mark.parametrize(("value", "kind"), ERRORS)
def test_an_error_after_text(value: Any, kind: str) -> None:
    translated = translate(says("Hal") + line(value) + says("f") + DONE)
    grammar.obey(translated)
    assert translated.brief == ["message_start", "+0 text", "Hal"]
    assert translated.stream.error is not None
    assert translated.stream.error.type == kind
    assert not translated.stream.complete


def test_an_event_that_is_named_error() -> None:
    translated = translate(b'event: error\ndata: {"reason":"no"}\n\n')
    assert translated.stream.error is not None
    assert translated.stream.error.type == "api_error"


def test_a_broken_event_is_an_error() -> None:
    translated = translate(says("a"), b'data: {"choices":[{"delta":{"con\n\n', says("b"))
    assert translated.brief == ["message_start", "+0 text", "a"]
    assert translated.stream.error is not None


def test_an_end_after_the_finish_reason() -> None:
    translated = translate(*PLAIN)
    assert translated.brief == HELLO
    assert translated.stream.complete


def test_a_cut_after_the_finish_reason() -> None:
    assert translate(*PLAIN, counted()[:20]).stream.complete


def test_an_end_without_a_finish_reason() -> None:
    translated = translate(*PLAIN[:-1])
    assert translated.brief == HELLO[:4]
    assert not translated.stream.complete


def test_an_end_before_anything() -> None:
    translated = translate()
    assert (translated.out, translated.stream.heard, translated.stream.complete) == (
        b"",
        False,
        False,
    )


def test_the_marker_is_an_end_too() -> None:
    assert translate(*PLAIN[:-1], DONE).brief == HELLO


def test_the_marker_in_the_middle_of_a_call_is_a_cut() -> None:
    translated = translate(calls(piece(0, "a", "Bash", '{"command":"rm')), DONE)
    assert translated.stream.error is not None
    assert not translated.stream.complete


def test_chunks_without_choices() -> None:
    first = line({"choices": [], "prompt_filter_results": [], "usage": None})
    bare = line({"id": "x", "model": ""})
    translated = translate(first, bare, *PLAIN, bare, DONE)
    assert translated.brief == HELLO


def test_usage_in_every_chunk_is_reported_once() -> None:
    usage = [{"prompt_tokens": 10, "completion_tokens": count} for count in range(1, 4)]
    translated = translate(
        chunk({"content": "Hel"}, usage=usage[0]),
        chunk({"content": "lo"}, usage=usage[1]),
        chunk({}, "stop", usage=usage[2]),
        DONE,
    )
    assert translated.brief == HELLO
    assert translated.end["usage"]["output_tokens"] == 3


def test_missing_counts_are_estimated() -> None:
    translated = translate(says("x" * 400), chunk({}, "stop"), DONE)
    assert translated.end["usage"]["output_tokens"] == 100
    assert translated.end["usage"]["input_tokens"] > 0
    assert translated.stream.usage == Usage()


def test_the_last_bytes_wait_for_no_marker() -> None:
    translated = translate(*PLAIN, counted(), ended=False)
    assert translated.stream.complete
    assert translated.stream.finished


def test_the_usage_may_follow_the_finish_reason() -> None:
    stream = translate(*PLAIN, ended=False).stream
    assert not stream.complete
    stream.feed(counted(7, 3))
    assert stream.complete
    assert stream.usage.output_tokens == 3


def test_message_start_comes_with_the_first_block() -> None:
    stream = translate(PLAIN[0], ended=False).stream
    assert stream.heard
    assert not stream.started
    assert stream.feed(PLAIN[1]).count(b"event: ") == 3
    assert stream.started


def test_a_comment_does_not_end_the_wait() -> None:
    assert not translate(b": x\n\n", b"data: ping\n\n", ended=False).stream.heard


def test_nothing_more_comes_after_the_end() -> None:
    stream = translate(*PLAIN, DONE, ended=False).stream
    assert (stream.feed(says("x")), stream.finish()) == (b"", b"")


@pytest.mark.parametrize("said", [[], [says("\n")], [chunk({"reasoning_content": " "})]])
def test_an_empty_answer_is_a_failure(said: list[bytes]) -> None:
    translated = translate(*said, chunk({}, "stop"), DONE)
    assert translated.out == b""
    assert translated.stream.error is not None
    assert translated.stream.error.type == "api_error"


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_tokens"), ("sensitive", "refusal")])
def test_an_empty_answer_with_a_stop_reason_is_valid(finish: str, reason: str) -> None:
    translated = translate(chunk({"role": "assistant"}), chunk({}, finish), DONE)
    grammar.obey(translated)
    assert translated.brief == ["message_start", reason, "message_stop"]


def test_thinking_is_hidden_unless_requested() -> None:
    reads = [chunk({"reasoning": "Hm"}), says("a"), chunk({"reasoning": "Hm"}), says("b")]
    translated = translate(*reads, chunk({}, "stop"), DONE, client_body=NOT_THINKING)
    grammar.obey(translated)
    assert translated.brief == [
        *("message_start", "+0 text", "a", "ping", "b", "-0", "end_turn", "message_stop")
    ]


def test_hidden_thinking_alone_is_an_empty_answer() -> None:
    reads = [chunk({"reasoning": "Hm"}), chunk({}, "stop")]
    assert translate(*reads, client_body=NOT_THINKING).stream.error is not None
    assert translate(*reads).stream.complete


def test_omitted_thinking_sends_pings() -> None:
    asked = body(thinking={"type": "adaptive", "display": "omitted"})
    reads = [chunk({"reasoning": "Hm"}), chunk({"reasoning": "!"}), says("a"), chunk({}, "stop")]
    translated = translate(*reads, client_body=asked)
    grammar.obey(translated)
    assert translated.brief[1:5] == ["+0 thinking", "ping", "signature", "-0"]


def test_thinking_in_several_members_counts_once() -> None:
    both = {"reasoning": "R", "reasoning_content": "R", "reasoning_details": [{"text": "R"}]}
    assert translate(chunk(both), chunk({}, "stop")).blocks == [("thinking", "R")]


def test_thinking_after_text_is_a_separate_block() -> None:
    reads = [says("a"), chunk({"reasoning": "R"}), says("b"), chunk({}, "stop")]
    translated = translate(*reads)
    grammar.obey(translated)
    assert translated.blocks == [("text", "a"), ("thinking", "R"), ("text", "b")]


def test_reasoning_details_are_kept_in_the_signature() -> None:
    secret = {"type": "reasoning.encrypted", "data": "c2VjcmV0", "index": 0}
    reads = [chunk({"reasoning_details": [secret]}), says("a"), chunk({}, "stop")]
    translated = translate(*reads)
    grammar.obey(translated)
    thought = msgspec.json.decode(to_message(translated.out))["content"][0]
    assert thought["thinking"] == ""
    assert read_envelope(thought["signature"]) == {"reasoning_details": [secret]}


def test_details_with_a_call_are_a_block_before_it() -> None:
    secret = {"type": "reasoning.encrypted", "data": "c2VjcmV0", "index": 0}
    call = {"tool_calls": [piece(0, "a", "A", "{}")], "reasoning_details": [secret]}
    translated = translate(says("a"), chunk(call), chunk({}, "stop"))
    grammar.obey(translated)
    assert [block[0] for block in translated.blocks] == ["text", "thinking", "tool_use"]


def test_details_at_the_end_make_no_block() -> None:
    # What reads only the last block of an answer would find no text there.
    late = chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]})
    assert translate(says("a"), late, chunk({}, "stop")).blocks == [("text", "a")]


def test_reasoning_details_alone_are_no_answer() -> None:
    reads = [chunk({"reasoning_details": [{"type": "reasoning.encrypted"}]}), chunk({}, "stop")]
    assert translate(*reads).stream.error is not None


def test_think_tags_only_with_the_switch() -> None:
    reads = [says("<think>a</think>b"), chunk({}, "stop")]
    assert translate(*reads, think_tags=True).blocks == [("thinking", "a"), ("text", "b")]
    assert translate(*reads).blocks == [("text", "<think>a</think>b")]


def test_half_a_tag_at_the_end_is_text() -> None:
    assert translate(says("<thi"), chunk({}, "stop"), think_tags=True).blocks == [("text", "<thi")]


def test_other_choices_are_ignored() -> None:
    second = line({"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]})
    assert translate(PLAIN[0], second, *PLAIN[1:], DONE).brief == HELLO


def test_the_stop_sequence_that_the_upstream_names() -> None:
    end = line(
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "E"}]}
    )
    for sequences, expected in ((["E"], ("stop_sequence", "E")), (["F"], ("end_turn", None))):
        translated = translate(says("a"), end, DONE, client_body=body(stop_sequences=sequences))
        assert tuple(translated.end["delta"].values()) == expected


def test_a_lone_surrogate_is_replaced() -> None:
    broken = b'data: {"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}\n\n'
    bytes_ = b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n'
    assert translate(broken, bytes_, chunk({}, "stop")).blocks == [("text", "a\ufffd\ufffd")]


def test_a_whole_message_as_the_only_event() -> None:
    translated = translate(b"data: " + completion({"content": "Hello"}) + b"\n\n", DONE)
    assert translated.blocks == [("text", "Hello")]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 1 << 70) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
INPUTS = st.dictionaries(TEXTS, JSON, max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[Any], dict[str, Any], str]:
    """The deltas of a stream and the message that they add up to, and how it ends."""
    message: dict[str, Any] = {"content": draw(TEXTS)}
    deltas: list[Any] = []
    if thinking := draw(TEXTS):
        member = draw(st.sampled_from(["reasoning", "reasoning_content"]))
        message[member] = thinking
        deltas += [{member: part} for part in pieces(draw, thinking)]
    deltas += [{"content": part} for part in pieces(draw, message["content"])]
    inputs = draw(st.lists(INPUTS, max_size=3))
    if inputs:
        arguments = [msgspec.json.encode(value).decode() for value in inputs]
        message["tool_calls"] = [
            {"id": f"call_{i}", **piece(None, None, "Bash", text)}
            for i, text in enumerate(arguments)
        ]
        for i, text in enumerate(arguments):
            deltas.append({"tool_calls": [piece(i, f"call_{i}", "Bash", "")]})
            deltas += [{"tool_calls": [piece(i, args=part)]} for part in pieces(draw, text)]
    finish = draw(st.sampled_from(["stop", "tool_calls", "length", "content_filter", "", "eos"]))
    return deltas, message, finish or "eos"


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    place = draw(st.integers(0, len(text)))
    return [part for part in (text[:place], text[place:]) if part]


HABITS = st.sampled_from([None, "", "null", "none", "stop", "tool_calls"])
"""What a server writes for the finish reason into each chunk before the last one."""


@given(answer=answers(), is_counted=st.booleans(), habit=HABITS)
def test_a_stream_adds_up_to_the_whole_answer(
    answer: tuple[list[Any], dict[str, Any], str], is_counted: bool, habit: str | None
) -> None:
    deltas, message, finish = answer
    usage = {"prompt_tokens": 10, "completion_tokens": 2} if is_counted else None
    reads = [chunk(delta, habit) for delta in deltas]
    translated = translate(*reads, chunk({}, finish, usage=usage), DONE)
    grammar.obey(translated)
    expected = whole(completion(message, finish, usage=usage), ASKED)
    assert (expected.error is None) == translated.stream.complete
    if expected.error is None:
        assert grammar.same(to_message(translated.out), expected.body)
        assert translated.stream.usage == expected.usage


ODD_NAMES = (
    *("choices", "delta", "message", "content", "tool_calls", "function", "name"),
    *("arguments", "id", "index", "type", "error", "usage", "finish_reason"),
    *("reasoning_details", "x_groq", "prompt_tokens", "prompt_tokens_details"),
    *("cached_tokens", "function_call", "refusal", "reasoning", "code", "status"),
    *("details", "metadata", "raw", "object", "base_resp"),
)
ODD = st.sampled_from(ODD_NAMES)
SHAPES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 600)
    | st.floats()
    | st.sampled_from(["", "stop", "a", "{", "}", "{}", "[]", '"x"', "error", "length", "\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD, inner, max_size=5),
    max_leaves=12,
)


ODD_CALLS = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2) | SHAPES,
        "id": st.sampled_from(["a", "b", ""]) | SHAPES,
        "function": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["A", "B", ""]) | SHAPES,
                "arguments": st.sampled_from(["{", "}", "{}", '"a":1', '{"a":1}', " "]) | SHAPES,
            },
        ),
    },
)
ODD_DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "content": TEXTS | SHAPES,
        "reasoning": TEXTS | SHAPES,
        "tool_calls": st.lists(ODD_CALLS, max_size=3) | SHAPES,
        "refusal": SHAPES,
        "reasoning_details": SHAPES,
    },
)
ODD_CHOICES = st.fixed_dictionaries(
    {"delta": ODD_DELTAS},
    optional={"finish_reason": st.sampled_from(["stop", "length", "null", None]) | SHAPES},
)
ODD_CHUNKS = (
    st.fixed_dictionaries({"choices": st.lists(ODD_CHOICES, min_size=1, max_size=1) | SHAPES})
    | SHAPES
    | st.fixed_dictionaries({"choices": st.lists(ODD_CHOICES, max_size=2), "usage": SHAPES})
)
"""JSON that looks a little like a chunk."""


@given(values=st.lists(ODD_CHUNKS, max_size=6), tags=st.booleans(), done=st.booleans())
def test_odd_chunks_break_no_grammar(values: list[Any], tags: bool, done: bool) -> None:
    stream = b"".join(line(value) for value in values) + (DONE if done else b"")
    translated = translate(stream, think_tags=tags)
    grammar.obey(translated)
    assert translate(*each_byte(stream), think_tags=tags).out == translated.out


@given(reads=st.lists(st.binary(max_size=30) | st.sampled_from([*PLAIN, DONE, b"data: "])))
def test_any_bytes_break_no_grammar(reads: list[bytes]) -> None:
    grammar.obey(translate(*reads))
