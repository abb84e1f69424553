"""Anthropic's own format: good streams pass unchanged, and nothing bad passes."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback.config.model import Provider
from ccfallback.messages import sse
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import Usage
from ccfallback.wire.anthropic import ANTHROPIC, AnthropicStream
from ccfallback.wire.format import IMPOSSIBLE_COUNT

PROVIDER = Provider(name="b", base_url="https://h.test")
ASKED = Body.parse(b'{"model":"m"}')


def ev(kind: str, **members: Any) -> bytes:
    return sse.event(kind, msgspec.json.encode({"type": kind, **members}))


def delta(**members: Any) -> bytes:
    return ev("content_block_delta", index=0, delta=members)


USAGE = {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 4}
START = ev("message_start", message={"id": "msg_1", "content": [], "usage": USAGE})
PING = ev("ping")
OPEN = ev("content_block_start", index=0, content_block={"type": "text", "text": ""})
TEXT = delta(type="text_delta", text="data: {not an event}\\n\\n é 漢")
CLOSE = ev("content_block_stop", index=0)
END = ev("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 25})
STOP = ev("message_stop")
ERROR = ev("error", error={"type": "overloaded_error", "message": "Overloaded"})

PLAIN = START + PING + OPEN + TEXT + TEXT + CLOSE + END + STOP

GOOD = {
    "plain": PLAIN,
    "CRLF": PLAIN.replace(b"\n", b"\r\n"),
    "CR": PLAIN.replace(b"\n", b"\r") + b":\n\n",
    "BOM": b"\xef\xbb\xbf" + PLAIN,
    "comments": b": hi\n\n" + START + b":\n\n" + OPEN + b"\n\n" + CLOSE + END + STOP,
    "unknown events and deltas": START
    + ev("never_heard_of", x=[1, {}])
    + OPEN
    + delta(type="new_delta", x=1)
    + sse.event("odd", b'["a list"]')
    + sse.event("odd", b"5")
    + ev("content_block_delta", index=0, delta="odd")
    + CLOSE
    + END
    + STOP,
    "two message_delta": START + OPEN + CLOSE
    + ev("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 2}) + END + STOP,
    "no event names": b"".join(
        line + b"\n" for line in PLAIN.split(b"\n")[:-1] if not line.startswith(b"event")
    ),
    "several lines of data":
        START + b'data: {"type":\ndata: "ping"}\n\n' + OPEN + CLOSE + END + STOP,
    "half a letter": START + OPEN + sse.event(
        "content_block_delta",
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"\\ud83d"}}',
    ) + CLOSE + END + STOP,
    "empty errors":
        START + OPEN + ev("ping", error=None) + ev("ping", error="") + CLOSE + END + STOP,
}  # fmt: skip


def watch(chunks: list[bytes]) -> tuple[AnthropicStream, bytes]:
    stream = AnthropicStream()
    out = b"".join(stream.feed(chunk) for chunk in chunks)
    return stream, out + stream.finish()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(bounds)]


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


CUTS = st.lists(st.integers(0, 10_000), max_size=6)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=12)
@given(places=CUTS)
def test_a_good_stream_passes_as_it_is_under_every_cut(name: str, places: list[int]) -> None:
    raw = GOOD[name]
    for chunks in (cut(raw, places), bytewise(raw)):
        stream, out = watch(chunks)
        assert raw.startswith(out)
        assert raw[len(out) :].strip(b":\r\n") == b""
        assert stream.error is None
        assert stream.heard
        assert stream.started
        assert stream.complete
        assert stream.finished
        assert stream.usage.input_tokens == 9
        assert stream.usage.output_tokens == 25
        assert stream.usage.cache_read == 4


def test_a_read_of_whole_events_passes_as_the_same_bytes() -> None:
    assert AnthropicStream().feed(OPEN) == OPEN
    assert AnthropicStream().feed(PLAIN) == PLAIN


def test_the_state_follows_the_stream() -> None:
    stream = AnthropicStream()
    seen = []
    for each in (b": hi\n\n", START, PING, OPEN, TEXT, CLOSE, END, STOP):
        assert stream.feed(each) == each
        seen.append((stream.heard, stream.started, stream.complete, stream.finished))
    assert seen == [
        (False, False, False, False),
        (True, False, False, False),
        (True, False, False, False),
        *[(True, True, False, False)] * 3,
        (True, True, True, False),
        (True, True, True, True),
    ]


ERRORS = {
    "an error event": (ERROR, "overloaded_error", "Overloaded"),
    "an error event in CRLF": (ERROR.replace(b"\n", b"\r\n"), "overloaded_error", "Overloaded"),
    "an error without a name": (
        b'data: {"type":"error","error":{"type":"api_error","message":"m"}}\n\n',
        "api_error",
        "m",
    ),
    "an error by name only": (sse.event("error", b'{"message":"m","code":500}'), "", "m"),
    "an error by name, compact": (b'event:error\ndata:{"message":"m"}\n\n', "", "m"),
    "an error by a compact name": (b'event:error\ndata: {"message":"m"}\n\n', "", "m"),
    "an error by name in CRLF": (b'event: error\r\ndata: {"message":"m"}\r\n\r\n', "", "m"),
    "an error by name in a mixture": (b'event: error\r\ndata: {"message":"m"}\n\n', "", "m"),
    "an error by name that is no JSON": (sse.event("error", b"Bad gateway"), "", "Bad gateway"),
    "an error with null": (b'data: {"type":"error","error":null}\n\n', "", ""),
    "an error that is a text": (b'data: {"type":"error","error":"m"}\n\n', "", "m"),
    "an error member": (
        b'data: {"error":{"message":"m","type":"server_error"}}\n\n',
        "server_error",
        "m",
    ),
    "an error member beside content": (
        ev("content_block_delta", index=0, delta={}, error={"type": "t", "message": "m"}),
        "t",
        "m",
    ),
    "an error in an odd shape": (b'data: {"type":5,"error":{"message":"m"}}\n\n', "", "m"),
    "not JSON": (b"event: ping\ndata: {not json}\n\n", "api_error", "an event that is not JSON"),
    "half of JSON": (b'event: x\ndata: {"a":\n\n', "api_error", "an event that is not JSON"),
    "HTML": (b"data: <html>\n\n", "api_error", "an event that is not JSON"),
}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("before", [b"", START, START + OPEN + TEXT], ids=len)
@settings(max_examples=5)
@given(places=CUTS)
def test_an_error_is_kept_back_with_all_that_follows(
    name: str, before: bytes, places: list[int]
) -> None:
    raw, kind, message = ERRORS[name]
    whole = before + raw + CLOSE + END + STOP
    for chunks in ([whole], cut(whole, places), bytewise(whole)):
        stream, out = watch(chunks)
        assert out == before
        assert stream.error is not None
        assert (stream.error.type, stream.error.message) == (kind, message)
        assert stream.started is (OPEN in before)
        assert not stream.complete
        assert not stream.finished


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_an_error_that_only_the_end_of_the_stream_ends_is_kept_back(end: bytes) -> None:
    stream, out = watch([START, ERROR.rstrip(b"\n") + end])
    assert out == START
    assert stream.error is not None


def test_the_end_marker_of_the_openai_format_is_dropped() -> None:
    stream, out = watch([START + OPEN + CLOSE + END, b"data: [DONE]\n\n", b"more"])
    assert out == START + OPEN + CLOSE + END
    assert stream.finished
    assert stream.complete
    assert stream.error is None


def test_the_end_marker_alone_completes_nothing() -> None:
    stream, _ = watch([START + OPEN, b"data: [DONE]\n\n"])
    assert not stream.complete


def test_without_message_stop_a_stop_reason_is_enough() -> None:
    stream, out = watch([START + OPEN + CLOSE + END])
    assert out == START + OPEN + CLOSE + END
    assert stream.complete
    assert not stream.finished


def test_without_message_delta_the_stream_is_cut() -> None:
    stream, _ = watch([START + OPEN + CLOSE + STOP])
    assert not stream.complete


@pytest.mark.parametrize("reason", [{}, *({"stop_reason": no} for no in (None, "", "null"))])
def test_message_stop_completes_a_stream_without_a_stop_reason(reason: dict[str, Any]) -> None:
    nothing = ev("message_delta", delta=reason, usage={"output_tokens": 1})
    stream = AnthropicStream()
    stream.feed(START + OPEN + CLOSE + nothing)
    assert not stream.complete
    assert not stream.stopped
    stream.feed(STOP)
    assert stream.complete


def test_nothing_is_read_after_the_stop() -> None:
    stream, out = watch([PLAIN + ERROR + TEXT, ERROR])
    assert out == PLAIN
    assert stream.error is None


def test_a_last_event_without_an_empty_line_is_made_whole() -> None:
    stream, out = watch([START + OPEN + CLOSE + END + STOP.rstrip(b"\n")])
    assert out == PLAIN.replace(PING, b"").replace(TEXT, b"")
    assert stream.finished


@pytest.mark.parametrize("line", [b"id: 1\n", b": a comment\n"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_last_event_with_other_lines_is_made_whole(line: bytes, end: bytes) -> None:
    last = STOP.rstrip(b"\n").replace(b"\ndata", b"\n" + line + b"data") + end
    stream, out = watch([START, OPEN, CLOSE, END, last])
    assert out == START + OPEN + CLOSE + END + last + b"\n\n"
    assert stream.error is None
    assert stream.finished


def test_a_last_event_that_was_cut_is_an_error() -> None:
    stream, out = watch([START + OPEN + TEXT[:-9]])
    assert out == START + OPEN
    assert stream.error is not None


def test_an_event_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 50)
    stream, out = watch([b"data: " + b"x" * 100, START])
    assert out == b""
    assert stream.error is not None


@given(length=st.integers(0, len(PLAIN)), name=st.sampled_from(sorted(GOOD)), places=CUTS)
def test_no_prefix_that_stops_before_the_stop_reason_is_complete(
    length: int, name: str, places: list[int]
) -> None:
    raw = GOOD[name]
    prefix = raw[:length]
    stream, out = watch(cut(prefix, places))
    assert prefix.startswith(out) or out == prefix + b"\n\n"
    if stream.complete:
        assert b"end_turn" in prefix


@given(
    chunks=st.lists(st.binary(max_size=60) | st.sampled_from([OPEN, ERROR, b"data: "]), max_size=6)
)
def test_no_bytes_raise_and_no_output_is_invented(chunks: list[bytes]) -> None:
    stream = AnthropicStream()
    out = b"".join(stream.feed(chunk) for chunk in chunks)
    assert b"".join(chunks).startswith(out)
    stream.finish()


WHOLE = {"type": "message", "content": [{"type": "text", "text": "é"}], "usage": USAGE}


def test_a_whole_answer_keeps_its_bytes() -> None:
    raw = b' { "content" : [ ] , "stop_reason":"end_turn" } '
    counted = raw.replace(b"}", b',"usage":{"input_tokens":1,"output_tokens":1}}')
    for body, provider in ((raw, replace(PROVIDER, primary=True)), (counted, PROVIDER)):
        whole = ANTHROPIC.whole(body, ASKED, provider)
        assert whole.body is body
        assert whole.error is None


def test_the_usage_of_a_whole_answer() -> None:
    whole = ANTHROPIC.whole(msgspec.json.encode(WHOLE), ASKED, PROVIDER)
    assert whole.usage == Usage(input_tokens=9, output_tokens=1, cache_read=4)


@pytest.mark.parametrize("error", [None, "", {}])
def test_an_empty_error_member_is_not_an_error(error: Any) -> None:
    raw = msgspec.json.encode({**WHOLE, "error": error})
    assert ANTHROPIC.whole(raw, ASKED, PROVIDER).error is None


@pytest.mark.parametrize(
    ("raw", "kind", "message"),
    [
        (b"", "", "the answer is not JSON"),
        (b"<html>", "", "the answer is not JSON"),
        (b'{"content":[', "", "the answer is not JSON"),
        (b"{}", "", "the answer is not a message"),
        (b"[]", "", "the answer is not a message"),
        (b"null", "", "the answer is not a message"),
        (b'{"content":null}', "", "the answer is not a message"),
        (b'{"content":"text"}', "", "the answer is not a message"),
        (b'{"content":["text"]}', "", "the answer is not a message"),
        (b'{"type":"error","error":{"type":"t","message":"m"}}', "t", "m"),
        (b'{"error":{"message":"m"}}', "", "m"),
        (b'{"content":[],"error":{"message":"m","code":429}}', "", "m"),
        (b'{"content":[],"type":"error"}', "", ""),
    ],
)
def test_answers_that_are_not_messages(raw: bytes, kind: str, message: str) -> None:
    whole = ANTHROPIC.whole(raw, ASKED, PROVIDER)
    assert whole.error is not None
    assert (whole.error.type, whole.error.message) == (kind, message)


@given(raw=st.binary(max_size=60))
def test_random_bytes_are_refused_without_raising(raw: bytes) -> None:
    assert ANTHROPIC.whole(raw, ASKED, PROVIDER).error is not None


def test_a_request_is_the_clients_own() -> None:
    assert ANTHROPIC.request(ASKED, PROVIDER) is ASKED


def test_a_reset_that_only_the_body_of_an_error_gives() -> None:
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"x","resets_in":90}}'
    assert ANTHROPIC.refusal(429, {}, body, 1000.0).until == 1090.0
    assert ANTHROPIC.refusal(429, {"retry-after": "5"}, body, 1000.0).until is None
    assert ANTHROPIC.refusal(400, {}, body, 1000.0).until is None


@pytest.mark.parametrize(
    "counts",
    [
        {"input_tokens": 2**53},
        {"output_tokens": 10**30},
        {"cache_read_input_tokens": 2**63},
        {"cache_creation": {"ephemeral_1h_input_tokens": 2**53}},
    ],
)
def test_a_count_that_no_reader_can_hold_breaks_the_answer_of_a_fallback(
    counts: dict[str, Any],
) -> None:
    usage = {**USAGE, **counts}
    first = ev("message_start", message={"id": "msg_1", "content": [], "usage": usage})
    end = ev("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)
    for events, passed in (
        ([first, OPEN, CLOSE, END, STOP], b""),
        ([START, OPEN, CLOSE, end, STOP], START + OPEN + CLOSE),
    ):
        stream = ANTHROPIC.stream(ASKED, PROVIDER)
        assert stream.feed(b"".join(events)) == passed
        assert (stream.error, stream.complete) == (IMPOSSIBLE_COUNT, False)
        primary = ANTHROPIC.stream(ASKED, replace(PROVIDER, primary=True))
        assert primary.feed(b"".join(events)) == b"".join(events)
        assert primary.complete
    raw = msgspec.json.encode({"type": "message", "content": [], "usage": usage})
    assert ANTHROPIC.whole(raw, ASKED, PROVIDER).error == IMPOSSIBLE_COUNT
    kept = ANTHROPIC.whole(raw, ASKED, replace(PROVIDER, primary=True))
    assert (kept.body, kept.error) == (raw, None)
