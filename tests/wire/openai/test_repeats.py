"""Answers that say things twice, badly, in another place, or end for an unknown reason."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.wire.openai.arguments import Arguments, repaired
from ccfallback.wire.openai.stream import whole
from tests.wire.openai import grammar
from tests.wire.openai.upstream import (
    ASKED,
    DONE,
    Translated,
    calls,
    chunk,
    completion,
    cut,
    line,
    piece,
    says,
    translate,
)


def last(message: dict[str, Any], finish: str = "stop", **more: Any) -> bytes:
    """A last frame that has the whole message, as MiniMax sends it."""
    return line(
        {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            **more,
        }
    )


def obeying(*reads: bytes, **more: Any) -> Translated:
    translated = translate(*reads, **more)
    grammar.obey(translated)
    return translated


def test_a_whole_message_after_deltas_adds_only_its_usage() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    frame = last({"role": "assistant", "content": "Hello there"}, usage=usage)
    translated = obeying(says("Hello "), says("there"), frame, DONE)
    assert translated.blocks == [("text", "Hello there")]
    assert translated.stop_reason == "end_turn"
    assert translated.stream.usage.input_tokens == 7


def test_a_whole_message_without_deltas_is_the_answer() -> None:
    assert obeying(last({"content": "Hello"}), DONE).blocks == [("text", "Hello")]


def test_pieces_of_a_message_beside_empty_deltas_are_all_taken() -> None:
    def part(text: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": {}, "message": {"content": text}, "finish_reason": finish}
        return line({"choices": [choice]})

    assert obeying(part("Hel"), part("lo"), part("", "stop")).blocks == [("text", "Hello")]


def test_a_whole_message_adds_what_no_delta_contained() -> None:
    call = piece(None, "a", "A", "{}")
    frame = last({"content": "x", "reasoning_content": "t", "tool_calls": [call]}, "tool_calls")
    thought = chunk({"reasoning_content": "t"})
    assert obeying(thought, frame, DONE).blocks == [
        ("thinking", "t"),
        ("text", "x"),
        ("tool_use", "a", "A", "{}"),
    ]


@pytest.mark.parametrize("given_id", ["a", "another", None])
def test_a_call_in_a_whole_message_is_not_made_twice(given_id: str | None) -> None:
    args = '{"command":"echo x >> f"}'
    again = piece(None, given_id, "Bash", args)
    translated = obeying(
        calls(piece(0, "a", "Bash", args[:9])),
        calls(piece(0, args=args[9:])),
        last({"content": "", "tool_calls": [again]}, "tool_calls"),
        DONE,
    )
    assert translated.blocks == [("tool_use", "a", "Bash", args)]


@pytest.mark.parametrize("again", [piece(0, "a", "A", '{"x":1}'), piece(0, None, "A", '{"x":1}')])
def test_a_whole_call_that_comes_again_in_a_delta(again: dict[str, Any]) -> None:
    translated = obeying(calls(piece(0, "a", "A", '{"x":1}')), calls(again), DONE)
    assert translated.blocks == [("tool_use", "a", "A", '{"x":1}')]


def test_what_follows_the_end_of_arguments_is_dropped() -> None:
    translated = obeying(
        calls(piece(0, "a", "A", '{"x":1}')), calls(piece(0, args="</tool>")), DONE
    )
    assert translated.blocks == [("tool_use", "a", "A", '{"x":1}')]


UNKNOWN = ["abort", "error", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER", "x" * 999]


@pytest.mark.parametrize("finish", UNKNOWN)
def test_an_unknown_end_counts_as_a_failure(finish: str) -> None:
    for reads in ([chunk({}, finish)], [says("Hello"), chunk({}, finish)]):
        stream = translate(*reads, DONE).stream
        assert stream.error is not None
        assert not stream.complete
        assert len(stream.error.message) < 200
    assert whole(completion({"content": "Hello"}, finish), ASKED).error is not None


@pytest.mark.parametrize(
    ("finish", "stop_reason"),
    [
        *[(word, "end_turn") for word in ("stop", "STOP", "eos", "end_turn", "stop_sequence", "")],
        *[(word, "max_tokens") for word in ("length", "MAX_TOKENS", "max_new_tokens")],
        *[(word, "refusal") for word in ("content_filter", "content_filter: x", "SAFETY")],
    ],
)
def test_good_ends(finish: str, stop_reason: str) -> None:
    assert obeying(says("x"), chunk({}, finish), DONE).stop_reason == stop_reason
    body = msgspec.json.decode(whole(completion({"content": "x"}, finish), ASKED).body)
    assert body["stop_reason"] == stop_reason


def test_a_whole_answer_that_azure_filtered() -> None:
    raw = b'{"choices":[{"index":0,"finish_reason":"content_filter"}]}'
    body = msgspec.json.decode(whole(raw, ASKED).body)
    assert body["stop_reason"] == "refusal"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"a":"x\ny\tz"}', {"a": "x\ny\tz"}),
        ('{"a":"\\d+ \\w"}', {"a": "\\d+ \\w"}),
        ('{"a":"\x01"}', {"a": "\x01"}),
        ('{"a":"\\u12"}', {"a": "\\u12"}),
        ('{"a":"C:\\Users"}', {"a": "C:\\Users"}),
        ('{"a":"\\\\d \\" \\u00e9"}', {"a": '\\d " é'}),
        ('{"a":{"b":["\n"]}}', {"a": {"b": ["\n"]}}),
    ],
)
def test_strings_that_are_not_json_are_repaired(written: str, read: Any) -> None:
    assert msgspec.json.decode(repaired(written)) == read
    for size in (1, 2, 3, len(written)):
        parts = [written[at : at + size] for at in range(0, len(written), size)]
        reads = [calls(piece(0, "a", "A", "")), *(calls(piece(0, args=part)) for part in parts)]
        [call] = obeying(*reads, chunk({}, "tool_calls"), DONE).blocks
        assert msgspec.json.decode(call[-1]) == read
    message = completion({"tool_calls": [piece(None, "a", "A", written)]}, "tool_calls")
    body = msgspec.json.decode(whole(message, ASKED).body)
    assert body["content"][0]["input"] == read


@given(text=st.text(st.sampled_from('{}[]"\\\n dux0:,'), max_size=30), at=st.integers(0, 30))
def test_a_cut_does_not_change_the_repaired_text(text: str, at: int) -> None:
    at_once, in_two = Arguments(), Arguments()
    at_once.add(text)
    in_two.add(text[:at])
    in_two.add(text[at:])
    assert (at_once.text, at_once.is_whole) == (in_two.text, in_two.is_whole)


@given(
    value=st.dictionaries(
        st.text(max_size=4), st.text(max_size=6) | st.lists(st.integers(), max_size=2), max_size=3
    )
)
def test_an_object_that_is_json_stays_as_it_is(value: dict[str, Any]) -> None:
    text = msgspec.json.encode(value).decode()
    arguments = Arguments()
    arguments.add(text)
    assert (arguments.text, arguments.is_whole) == (text, True)


def test_thinking_in_tags_that_a_member_repeats_is_taken_once() -> None:
    reads = [
        chunk({"reasoning_content": "The user", "content": "<think>The user"}),
        chunk({"reasoning_content": " asks.", "content": " asks."}),
        says("</think>\n\nHello"),
    ]
    for think_tags in (True, False):
        translated = obeying(*reads, chunk({}, "stop"), DONE, think_tags=think_tags)
        assert translated.blocks == [("thinking", "The user asks."), ("text", "Hello")]


def test_thinking_that_ends_but_never_began() -> None:
    raw = completion({"content": "First, I\n</think>\n\nHello"})
    content = msgspec.json.decode(whole(raw, ASKED, think_tags=True).body)["content"]
    assert [block.get("thinking") or block["text"] for block in content] == ["First, I\n", "Hello"]
    content = msgspec.json.decode(whole(raw, ASKED).body)["content"]
    assert len(content) == 1


def test_a_whole_answer_with_its_calls_in_the_second_choice() -> None:
    choices = [
        {"index": 0, "message": {"content": "I look."}, "finish_reason": "stop"},
        {
            "index": 1,
            "message": {"tool_calls": [piece(None, "a", "A", "{}")]},
            "finish_reason": "tool_calls",
        },
    ]
    for index in (0, 1):
        choices[1]["index"] = index
        body = msgspec.json.decode(whole(msgspec.json.encode({"choices": choices}), ASKED).body)
        assert [block["type"] for block in body["content"]] == ["text", "tool_use"]
        assert body["stop_reason"] == "tool_use"


def test_a_stream_with_its_calls_in_the_second_choice() -> None:
    def second(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return line({"choices": [{"index": 1, "delta": delta, "finish_reason": finish}]})

    translated = obeying(
        says("I look."),
        second({"content": "another answer", "tool_calls": [piece(0, "a", "A", '{"x":')]}),
        second({"tool_calls": [piece(0, args="1}")]}),
        chunk({}, "stop"),
        second({}, "tool_calls"),
        DONE,
    )
    assert translated.blocks == [("text", "I look."), ("tool_use", "a", "A", '{"x":1}')]
    assert translated.stop_reason == "tool_use"


SINGLE = b"".join([says("Hel"), says("lo"), chunk({}, "stop"), DONE]).replace(b"\n\n", b"\n")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_that_end_with_a_single_line_end(end: bytes) -> None:
    stream = SINGLE.replace(b"\n", end)
    for size in (1, 7, len(stream)):
        reads = cut(stream, range(0, len(stream), size))
        assert obeying(*reads).blocks == [("text", "Hello")]


def test_such_an_event_counts_when_its_line_ends() -> None:
    translated = translate(says("Hello").replace(b"\n\n", b"\n"), ended=False)
    assert translated.blocks == [("text", "Hello")]


def test_json_over_several_lines_of_one_event() -> None:
    pretty = msgspec.json.format(says("Hello")[6:].strip()).replace(b"\n", b"\ndata: ")
    assert obeying(b"data: " + pretty + b"\n\n", chunk({}, "stop")).blocks == [("text", "Hello")]


@pytest.mark.parametrize("value", [b'{"message":"no","code":429}', b'{"error":{"message":"no"}}'])
def test_an_error_in_a_field_of_its_own(value: bytes) -> None:
    error = translate(b"error: " + value + b"\n\n", DONE).stream.error
    assert error is not None
    assert error.message == "no"


USAGES: list[tuple[dict[str, Any], tuple[int, int, int, int]]] = [
    (
        {
            "prompt_tokens": 2168,
            "prompt_tokens_details": {"cached_tokens": 2161, "cache_write_tokens": 2161},
        },
        (0, 2161, 7, 2),
    ),
    ({"prompt_tokens": 10, "num_cached_tokens": 4}, (6, 4, 0, 2)),
    ({"prompt_tokens": 5, "cached_tokens": 9, "total_tokens": 16}, (5, 9, 0, 2)),
    ({"prompt_tokens": 10, "total_tokens": 74}, (10, 0, 0, 64)),
    ({"prompt_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 96}}, (10, 0, 0, 98)),
    ({"prompt_tokens": 1e300, "completion_tokens": 2}, (-1, -1, -1, 2)),
]


TOO_MUCH: list[dict[str, Any]] = [
    {"usage": {"prompt_tokens": 1 << 53, "completion_tokens": 2}},
    {"usage": {"prompt_tokens": 10, "completion_tokens": 1 << 60}},
    {"usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 10**30}},
    {"usage": {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 1 << 53}}},
    {"usage": None, "timings": {"prompt_n": 1 << 53, "predicted_n": 5}},
]


@pytest.mark.parametrize("counts", TOO_MUCH)
def test_a_count_that_no_reader_can_hold_breaks_the_answer(counts: dict[str, Any]) -> None:
    found = whole(completion({"content": "x"}, **counts), ASKED)
    assert found.error is not None
    assert "a token count" in found.error.message
    for ends in (
        [chunk({}, "stop", **counts), DONE],
        [chunk({}, "stop"), chunk(**counts), DONE],
        [chunk({}, "stop"), line({"choices": [], **counts}), DONE],
    ):
        translated = translate(says("Hello"), *ends)
        assert translated.blocks == [("text", "Hello")]
        assert translated.stream.error == found.error
        assert not translated.stream.complete


@pytest.mark.parametrize(("usage", "expected"), USAGES)
def test_the_parts_of_a_usage_never_exceed_the_whole(
    usage: dict[str, Any], expected: tuple[int, int, int, int]
) -> None:
    raw = completion({"content": "x"}, usage={"completion_tokens": 2, **usage})
    counts = msgspec.json.decode(whole(raw, ASKED).body)["usage"]
    keys = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    read = tuple(counts[key] for key in (*keys, "output_tokens"))
    if expected[0] >= 0:
        assert read == expected
    thinking = counts.get("output_tokens_details", {}).get("thinking_tokens", 0)
    assert thinking <= counts["output_tokens"] < 1 << 53
