"""What the client gets if a third party does not send all of Anthropic's format."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import Provider
from ccfallback.messages.assemble import to_message
from ccfallback.messages.body import Body
from ccfallback.messages.sse import data_of, event
from ccfallback.wire.anthropic import ANTHROPIC
from ccfallback.wire.filters import MAX_HELD, BlockStopHolder, EventFilter, ToolRenamer

FALLBACK = Provider(name="b", base_url="https://h.test")
PRIMARY = Provider(name="a", base_url="https://h.test", primary=True)
BODY = Body.parse(
    msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "word " * 100}]})
)
INPUT = {"path": "a", "n": [1.50, {}]}


def ev(kind: str, **members: Any) -> bytes:
    return event(kind, msgspec.json.encode({"type": kind, **members}))


def start(**usage: Any) -> bytes:
    message = {"id": "i", "type": "message", "role": "assistant", "content": []}
    return ev("message_start", message={**message, "usage": usage} if usage else message)


def call(index: int, value: Any, *pieces: str) -> bytes:
    block = {"type": "tool_use", "id": f"t{index}", "name": "Read", "input": value}
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return b"".join(
        [
            ev("content_block_start", index=index, content_block=block),
            *(ev("content_block_delta", index=index, delta=delta) for delta in deltas),
            ev("content_block_stop", index=index),
        ]
    )


def text(index: int, words: str) -> bytes:
    delta = {"type": "text_delta", "text": words}
    return (
        ev("content_block_start", index=index, content_block={"type": "text", "text": ""})
        + ev("content_block_delta", index=index, delta=delta)
        + ev("content_block_stop", index=index)
    )


def end(**usage: Any) -> bytes:
    delta = {"stop_reason": "end_turn"}
    members = {"delta": delta, "usage": usage} if usage else {"delta": delta}
    return ev("message_delta", **members) + ev("message_stop")


def passed(raw: bytes, size: int = 1 << 20, provider: Provider = FALLBACK) -> bytes:
    stream = ANTHROPIC.stream(BODY, provider)
    chunks = [raw[i : i + size] for i in range(0, len(raw), size)]
    out = b"".join(stream.feed(chunk) for chunk in chunks) + stream.finish()
    assert stream.error is None
    return out


def message(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(to_message(raw))
    return found


@pytest.mark.parametrize("content", [text(0, "hi"), call(0, {}), ev("content_block_stop", index=0)])
def test_content_before_the_start_of_the_message_is_broken(content: bytes) -> None:
    stream = ANTHROPIC.stream(BODY, FALLBACK)
    assert stream.feed(ev("ping") + content) == ev("ping")
    assert stream.error is not None
    assert not stream.started
    assert passed(content + end(output_tokens=1), provider=PRIMARY)


def test_a_whole_answer_passes_byte_for_byte() -> None:
    raw = start(input_tokens=9) + text(0, "hi") + call(1, {}, '{"a":', "1}") + end(output_tokens=7)
    assert passed(raw) == raw
    cached = start(input_tokens=0, cache_read_input_tokens=5) + text(0, "hi") + end(output_tokens=7)
    assert passed(cached) == cached


@pytest.mark.parametrize("first", [{}, {"input_tokens": 0, "output_tokens": 0}])
@pytest.mark.parametrize(
    "last", [{}, {"output_tokens": 0}, {"input_tokens": 0, "output_tokens": 0}]
)
@given(size=st.integers(1, 400))
def test_missing_and_zero_counts_are_estimated(
    first: dict[str, int], last: dict[str, int], size: int
) -> None:
    raw = start(**first) + text(0, "word " * 60) + end(**last)
    usage = message(passed(raw, size))["usage"]
    assert 100 < usage["input_tokens"] < 300
    assert 60 < usage["output_tokens"] < 200


@given(size=st.integers(1, 400), words=st.text("ab", min_size=100, max_size=140))
def test_the_estimate_does_not_depend_on_the_cuts(size: int, words: str) -> None:
    raw = start() + text(0, words) + end()
    assert passed(raw, size) == passed(raw)


def test_counts_that_come_at_the_end_replace_the_estimate() -> None:
    raw = start(input_tokens=0) + text(0, "hi") + end(input_tokens=5, output_tokens=7)
    stream = ANTHROPIC.stream(BODY, FALLBACK)
    usage = message(stream.feed(raw))["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (5, 7)
    assert (stream.usage.input_tokens, stream.usage.output_tokens) == (5, 7)


def test_the_primarys_counts_stay_as_they_are() -> None:
    raw = start() + text(0, "hi") + call(1, INPUT) + end()
    assert passed(raw, provider=PRIMARY) == raw


@pytest.mark.parametrize("value", [INPUT, msgspec.json.encode(INPUT).decode()])
@given(size=st.integers(1, 400))
def test_an_input_that_came_whole_gets_one_delta(value: Any, size: int) -> None:
    raw = start(input_tokens=9) + call(0, value) + text(1, "hi") + call(2, value)
    out = passed(raw + end(output_tokens=7), size)
    assert out.count(b"input_json_delta") == 2
    assert [block.get("input") for block in message(out)["content"]] == [INPUT, None, INPUT]
    starts = [part for part in out.split(b"\n\n") if b'"tool_use"' in part]
    assert all(b'"input":{}' in part for part in starts)


@given(size=st.integers(1, 400))
def test_an_input_that_comes_twice_counts_once(size: int) -> None:
    pieces = ('{"path":"a",', '"n":[1.50,{}]}')
    raw = start(input_tokens=9) + call(0, INPUT, *pieces) + end(output_tokens=7)
    out = passed(raw, size)
    assert out.count(b"input_json_delta") == 2
    assert message(out)["content"][0]["input"] == INPUT


@pytest.mark.parametrize("value", [None, "", "no JSON", [1], 7, "[1]"])
def test_an_input_that_is_not_an_object_stays(value: Any) -> None:
    raw = start(input_tokens=9) + call(0, value) + end(output_tokens=7)
    assert passed(raw) == raw


@pytest.mark.parametrize("usage", [{}, {"usage": None}, {"usage": {"input_tokens": 0}}])
def test_the_counts_of_a_whole_message_are_estimated(usage: dict[str, Any]) -> None:
    answer = {"type": "message", "content": [{"type": "text", "text": "word " * 60}], **usage}
    raw = msgspec.json.encode(answer)
    whole = ANTHROPIC.whole(raw, BODY, FALLBACK)
    found = msgspec.json.decode(whole.body)
    assert 100 < found["usage"]["input_tokens"] < 300
    assert 60 < found["usage"]["output_tokens"] < 200
    assert found["role"] == "assistant"
    assert whole.usage.input_tokens == found["usage"]["input_tokens"]
    assert ANTHROPIC.whole(raw, BODY, PRIMARY).body == raw


@pytest.mark.parametrize(
    "raw", [b'{"type":"list","content":[]}', b'{"content":{}}', b'{"content":[1]}']
)
def test_what_is_not_a_message_is_not_an_answer(raw: bytes) -> None:
    for provider in (PRIMARY, FALLBACK):
        assert ANTHROPIC.whole(raw, BODY, provider).error is not None


def test_signatures_are_kept_as_digests_and_not_for_ever() -> None:
    stream = ANTHROPIC.stream(BODY, PRIMARY)
    for number in range(2000):
        delta = {"type": "signature_delta", "signature": f"{number}" * 100}
        stream.feed(ev("content_block_delta", index=0, delta=delta))
    assert len(stream.signatures) == 512
    assert max(map(len, stream.signatures)) < 40


def test_an_empty_answer_has_counts() -> None:
    assert (
        msgspec.json.decode(passed(start()).partition(b"data: ")[2])["message"]["usage"][
            "output_tokens"
        ]
        == 0
    )
    raw = b'{"type":"message","role":"assistant","content":[],"usage":{"input_tokens":3}}'
    usage = msgspec.json.decode(ANTHROPIC.whole(raw, BODY, FALLBACK).body)["usage"]
    assert usage == {"input_tokens": 3, "output_tokens": 0}


def piece(index: int, text: Any) -> bytes:
    delta = {"type": "input_json_delta", "partial_json": text}
    return ev("content_block_delta", index=index, delta=delta)


def inputs(raw: bytes) -> list[Any]:
    """The inputs of a stream's calls for a client that reads them from the deltas alone."""
    found: list[str] = []
    places: dict[int, int] = {}
    for each in raw.split(b"\n\n")[:-1]:
        value = msgspec.json.decode(data_of(each))
        if value["type"] == "content_block_start":
            assert not value["content_block"]["input"]
            places[value["index"]] = len(found)
            found.append("")
        elif value["type"] == "content_block_delta":
            found[places[value["index"]]] += value["delta"]["partial_json"]
    return [msgspec.json.decode(text or "{}") for text in found]


@pytest.mark.parametrize("blanks", [[""], ["", ""], [" \n"]])
@given(size=st.integers(1, 400))
def test_an_empty_piece_does_not_replace_an_input_that_came_whole(
    blanks: list[Any], size: int
) -> None:
    head, end_of_block = call(0, INPUT).split(b"event: content_block_stop")
    deltas = b"".join(piece(0, blank) for blank in blanks)
    raw = start(input_tokens=9) + head + deltas + b"event: content_block_stop" + end_of_block
    assert inputs(passed(raw + end(output_tokens=7), size)) == [INPUT]


@pytest.mark.parametrize("blanks", [[], [""]])
@given(size=st.integers(1, 400))
def test_an_empty_piece_before_others_adds_nothing(blanks: list[str], size: int) -> None:
    raw = start(input_tokens=9) + call(0, INPUT, *blanks, '{"b":', "", "2}")
    assert inputs(passed(raw + end(output_tokens=7), size)) == [{"b": 2}]


def unended(index: int, value: Any, *pieces: str) -> bytes:
    return call(index, value, *pieces).partition(b"event: content_block_stop")[0]


@given(size=st.integers(1, 400))
def test_the_input_of_a_block_without_an_end_comes_before_the_end_of_the_answer(size: int) -> None:
    raw = start(input_tokens=9) + unended(0, INPUT) + unended(1, {"b": 2}, "")
    for last in (end(output_tokens=7), end(output_tokens=7).partition(b"event: message_stop")[0]):
        out = passed(raw + last, size)
        assert inputs(out.partition(b"event: message_delta")[0]) == [INPUT, {"b": 2}]


@given(size=st.integers(1, 400))
def test_pieces_may_follow_counts_that_come_before_the_stop_reason(size: int) -> None:
    counts = ev("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 1})
    raw = start(input_tokens=9) + unended(0, INPUT) + counts
    assert inputs(passed(raw + piece(0, '{"b":2}') + end(output_tokens=7), size)) == [{"b": 2}]
    no_reason = counts + ev("message_stop")
    assert inputs(passed(start(input_tokens=9) + unended(0, INPUT) + no_reason, size)) == [INPUT]


def test_the_input_of_an_earlier_call_belongs_to_that_call() -> None:
    """Some gateways number every block alike, and send no end of one."""
    plain = call(0, {}, '{"b":2}')
    raw = start(input_tokens=1) + unended(0, INPUT) + plain + end(output_tokens=1)
    assert inputs(passed(raw)) == [INPUT, {"b": 2}]
    raw = start(input_tokens=1) + call(0, {"c": 3}) + plain + end(output_tokens=1)
    assert inputs(passed(raw)) == [{"c": 3}, {"b": 2}]
    raw = start(input_tokens=1) + unended(0, INPUT) + call(0, {}) + end(output_tokens=1)
    assert inputs(passed(raw)) == [INPUT, {}]


def test_a_call_is_renamed_behind_the_input_of_an_earlier_one() -> None:
    raw = start(input_tokens=1) + unended(0, INPUT) + call(0, {"c": 3}) + end(output_tokens=1)
    filters: list[EventFilter] = [ToolRenamer({"Read": "read_file"}), BlockStopHolder()]
    stream = ANTHROPIC.stream(BODY, FALLBACK, filters)
    out = stream.feed(raw)
    assert stream.error is None
    assert inputs(out) == [INPUT, {"c": 3}]
    assert out.count(b'"read_file"') == 2


@given(size=st.integers(1, 400))
def test_half_of_a_letter_in_an_input_does_not_break_a_stream(size: int) -> None:
    pieces = piece(0, '{"a":"HALF') + piece(0, '"}')
    raw = start(input_tokens=1) + unended(0, INPUT) + pieces + end(output_tokens=1)
    raw = raw.replace(b"HALF", b"\\ud83d")
    out = passed(raw, size)
    assert b"\\ud83d" in out
    assert out.count(b"input_json_delta") == 2
    assert b'"path"' not in out


def test_half_of_a_letter_in_an_input_that_came_whole() -> None:
    raw = start(input_tokens=1) + call(0, {"a": "HALF"}) + end(output_tokens=1)
    assert inputs(passed(raw.replace(b"HALF", b"\\ud83d"))) == [{"a": "\ufffd"}]


@pytest.mark.parametrize("provider", [PRIMARY, FALLBACK])
def test_half_of_a_letter_in_a_whole_message(provider: Provider) -> None:
    answer = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "HALF"}]}
    counted = {**answer, "usage": {"input_tokens": 3, "output_tokens": 4}}
    raw = msgspec.json.encode(counted).replace(b"HALF", b"\\ud83d")
    whole = ANTHROPIC.whole(raw, BODY, provider)
    assert (whole.body, whole.error) == (raw, None)


REASONS = [
    *((own, own) for own in ("end_turn", "max_tokens", "tool_use", "refusal", "pause_turn")),
    ("model_context_window_exceeded", "model_context_window_exceeded"),
    ("length", "max_tokens"),
    ("MAX_TOKENS", "max_tokens"),
    ("content_filter", "refusal"),
    ("content_filter: violence", "refusal"),
    ("context_length_exceeded", "model_context_window_exceeded"),
    ("stop", "end_turn"),
    ("tool_calls", "end_turn"),
]


def ended(reason: Any, sequence: str | None = None) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": sequence}
    return ev("message_delta", delta=delta, usage={"output_tokens": 7}) + ev("message_stop")


def whole_message(reason: Any, *blocks: dict[str, Any], sequence: str | None = None) -> bytes:
    usage = {"input_tokens": 9, "output_tokens": 7}
    answer = {"type": "message", "role": "assistant", "content": blocks, "stop_reason": reason}
    return msgspec.json.encode({**answer, "stop_sequence": sequence, "usage": usage})


@pytest.mark.parametrize(("reason", "own"), REASONS)
@given(size=st.integers(1, 400))
def test_stop_reasons_are_anthropics_own(reason: str, own: str, size: int) -> None:
    raw = start(input_tokens=9) + text(0, "hi") + ended(reason)
    out = passed(raw, size)
    assert message(out)["stop_reason"] == own
    assert (out == raw) == (reason == own)
    assert passed(raw, size, PRIMARY) == raw
    raw = whole_message(reason, {"type": "text", "text": "hi"})
    assert ANTHROPIC.whole(raw, BODY, PRIMARY).body == raw
    whole = ANTHROPIC.whole(raw, BODY, FALLBACK)
    assert msgspec.json.decode(whole.body)["stop_reason"] == own
    assert (whole.body == raw) == (reason == own)


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call"])
def test_an_answer_with_calls_ends_with_them(reason: str) -> None:
    raw = start(input_tokens=9) + call(0, {"a": 1}) + ended(reason)
    assert message(passed(raw))["stop_reason"] == "tool_use"
    block = {"type": "tool_use", "id": "t", "name": "Read", "input": {"a": 1}}
    whole = ANTHROPIC.whole(whole_message(reason, block), BODY, FALLBACK)
    assert msgspec.json.decode(whole.body)["stop_reason"] == "tool_use"


def test_a_stop_sequence_is_the_reason_where_it_is_named() -> None:
    raw = start(input_tokens=9) + text(0, "hi") + ended("stop", "END")
    assert message(passed(raw))["stop_reason"] == "stop_sequence"
    whole = ANTHROPIC.whole(whole_message("stop", sequence="END"), BODY, FALLBACK)
    assert msgspec.json.decode(whole.body)["stop_reason"] == "stop_sequence"


def test_a_word_for_no_stop_reason_is_none() -> None:
    counts = ev("message_delta", delta={"stop_reason": "null"}, usage={"output_tokens": 1})
    raw = start(input_tokens=9) + text(0, "hi") + counts
    out = passed(raw + ended("length"))
    assert b'"stop_reason":null' in out
    assert message(out)["stop_reason"] == "max_tokens"


def test_inputs_are_not_held_without_a_limit() -> None:
    big = {"path": "x" * (MAX_HELD // 4)}
    stream = ANTHROPIC.stream(BODY, FALLBACK)
    stream.feed(start(input_tokens=9))
    for index in range(3):
        assert stream.feed(unended(index, big))
    assert stream.error is None
    # What has gone out, or came in pieces as well, is not held any more.
    assert stream.feed(ev("content_block_stop", index=0) + piece(1, "{}"))
    for index in range(3, 5):
        assert stream.feed(unended(index, big))
    assert stream.error is None
    assert stream.feed(unended(5, big)) == b""
    assert stream.error is not None


def test_the_content_of_a_whole_message_keeps_its_bytes() -> None:
    content = (
        b'[{"type": "tool_use", "id": "t", "input": {"n": 1.50, "big": 123456789012345678901}}]'
    )
    raw = b'{"type": "message", "content": ' + content + b', "stop_reason": "tool_calls"}'
    whole = ANTHROPIC.whole(raw, BODY, FALLBACK)
    assert content in whole.body
    assert b'"stop_reason":"tool_use"' in whole.body
