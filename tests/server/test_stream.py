"""An upstream's response and its events: decoding, limits, deadlines, and the commit point."""

import asyncio
import gzip
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import Timeouts
from ccfallback.http1 import ConnectionLost, Deadline, DeadlineExceeded
from ccfallback.messages.body import Body
from ccfallback.messages.sse import PING as PING_EVENT
from ccfallback.messages.tokens import Usage
from ccfallback.policy.latency import Learned
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.quotes import QUOTE
from ccfallback.server.client import KeepAlive
from ccfallback.server.response import (
    MAX_EMPTY,
    MAX_PIECE,
    MAX_WHOLE,
    BrokenResponse,
    UpstreamResponse,
)
from ccfallback.server.stream import EMPTY, END_SECONDS, AttemptTimeouts, EventStream
from ccfallback.simulator import scripted
from ccfallback.wire.anthropic import AnthropicStream
from ccfallback.wire.openai.stream import OpenAIStream
from tests.server.scripted_upstreams import Chunk, ScriptedResponse

EVENTS = scripted.events_of(msgspec.json.encode(scripted.message("partial text")))
START, BLOCK, TEXT, *REST = EVENTS
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
OVERLOADED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
CUT = ConnectionLost("")


def response(*chunks: Chunk, encoding: str | None = None) -> UpstreamResponse:
    headers = [] if encoding is None else [(b"content-encoding", encoding.encode())]
    return UpstreamResponse(ScriptedResponse(chunks, headers=headers), Deadline())


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        (None, b"hello"),
        ("gzip", gzip.compress(b"hello", mtime=0)),
        ("deflate", zlib.compress(b"hello")),
    ],
)
@given(cut=st.integers(1, 40))
def test_every_cut_of_a_body_reads_the_same(encoding: str | None, packed: bytes, cut: int) -> None:
    chunks = [chunk for chunk in (packed[:cut], packed[cut:]) if chunk]
    found = response(*chunks, encoding=encoding)
    assert asyncio.run(found.read_all("idle", 5)) == b"hello"
    assert found.decoded is (encoding is not None)


def test_an_unknown_encoding_is_a_broken_response() -> None:
    with pytest.raises(BrokenResponse, match="content-encoding br"):
        response(b"x", encoding="br")


@pytest.mark.parametrize(
    "packed", [b"", b"\x1f", b"\x1f\x8bnonsense", gzip.compress(b"hello", mtime=0)[:-9]]
)
def test_a_body_that_does_not_decode_is_a_broken_response(packed: bytes) -> None:
    with pytest.raises(BrokenResponse, match="content-encoding"):
        asyncio.run(response(packed, encoding="gzip").read_all("idle", 5))


def test_silence_ends_with_the_timeout_that_fired() -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        asyncio.run(response(b"some", None).read_all("idle", 0.01))
    assert (caught.value.timeout, caught.value.seconds) == ("idle", 0.01)


def test_a_compression_bomb_is_read_in_bounded_pieces() -> None:
    bomb = gzip.compress(bytes(8 * MAX_PIECE))

    async def story() -> list[int]:
        found = response(bomb, encoding="gzip")
        sizes = []
        while piece := await found.read():
            sizes.append(len(piece))
        return sizes

    sizes = asyncio.run(story())
    assert sum(sizes) == 8 * MAX_PIECE
    assert max(sizes) <= MAX_PIECE


def test_the_limit_of_a_whole_answer_counts_decoded_bytes() -> None:
    bomb = gzip.compress(bytes(MAX_WHOLE + 1), 1)
    with pytest.raises(BrokenResponse, match="without an end"):
        asyncio.run(response(bomb, encoding="gzip").read_all("idle", 30))


def event_stream(
    *chunks: Chunk, whole: bool = False, timeouts: Timeouts | None = None
) -> EventStream:
    return EventStream(
        response(*chunks),
        AnthropicStream(),
        AttemptTimeouts(timeouts or Timeouts(), 0),
        whole=whole,
        secrets=lambda: ("supersecret",),
    )


def read(stream: EventStream) -> tuple[bytes, list[bytes], Outcome]:
    """Read a stream to its end: the events before the commit point, those after it by write."""
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        assert message["more_body"]
        assert message["type"] == "http.response.body"
        sent.append(message["body"])

    async def story() -> tuple[bytes, Outcome]:
        return await stream.begin(), await stream.relay(send)

    begun, outcome = asyncio.run(story())
    return begun, sent, outcome


@given(cuts=st.lists(st.integers(1, len(b"".join(EVENTS)) - 1), max_size=4))
def test_every_cut_of_a_stream_gives_the_same_events(cuts: list[int]) -> None:
    data = b"".join(EVENTS)
    places = [0, *sorted(set(cuts)), len(data)]
    chunks = [data[a:b] for a, b in pairwise(places)]
    begun, sent, outcome = read(event_stream(*chunks))
    assert begun + b"".join(sent) == data
    assert outcome == Outcome(Fault.NONE, status=200, usage=Usage(12, 7))


def test_the_commit_point_is_the_first_content() -> None:
    stream = event_stream(START, PING, BLOCK, TEXT)
    assert asyncio.run(stream.begin()) == START + PING + BLOCK
    assert not stream.failure
    assert not stream.ended


def test_each_read_after_the_commit_point_is_one_write() -> None:
    _, sent, _ = read(event_stream(START + BLOCK, TEXT + REST[0], b"".join(REST[1:])))
    assert sent == [TEXT + REST[0], b"".join(REST[1:])]


def test_a_whole_message_is_read_to_its_end() -> None:
    stream = event_stream(*EVENTS, whole=True)
    assert asyncio.run(stream.begin()) == b"".join(EVENTS)
    assert stream.ended


@pytest.mark.parametrize(
    ("chunks", "failure"),
    [
        ([], EMPTY),
        ([START], "stream ended without a stop reason"),
        ([START, OVERLOADED], "error in the stream: overloaded_error"),
        # Together with the first content: the client must not see a part of such an answer.
        ([START + BLOCK + OVERLOADED], "error in the stream: overloaded_error"),
        ([b"data: nonsense\n\n"], "error in the stream: api_error"),
    ],
)
def test_what_goes_wrong_before_the_commit_point_is_no_answer(
    chunks: Sequence[bytes], failure: str
) -> None:
    stream = event_stream(*chunks)
    asyncio.run(stream.begin())
    assert stream.failure == failure
    assert stream.raw == b"".join(chunks)


@pytest.mark.parametrize("error", [CUT, BrokenResponse("broken")])
def test_a_cut_before_the_commit_point_raises(error: Exception) -> None:
    with pytest.raises(type(error)):
        asyncio.run(event_stream(START, error).begin())


def test_an_answer_without_an_end_is_broken() -> None:
    comment = b":" + bytes(MAX_WHOLE // 8) + b"\n\n"
    stream = event_stream(START, *[comment] * 9, whole=True)
    with pytest.raises(BrokenResponse, match="without an end"):
        asyncio.run(stream.begin())


@pytest.mark.parametrize(
    ("chunks", "fault", "reason"),
    [
        ([], Fault.TORN, "stream ended without a stop reason"),
        ([TEXT], Fault.TORN, "stream ended without a stop reason"),
        ([OVERLOADED], Fault.TORN, "error in the stream: overloaded_error"),
        ([b"data: nonsense\n\n"], Fault.TORN, "error in the stream: api_error"),
        ([CUT], Fault.TORN, "stream cut: connection broken"),
        ([BrokenResponse("broken")], Fault.TORN, "stream broken: broken"),
        ([None], Fault.TIMEOUT, "stream stalled"),
    ],
)
def test_what_goes_wrong_after_the_commit_point_tears_the_answer(
    chunks: Sequence[Chunk], fault: Fault, reason: str
) -> None:
    _, _, outcome = read(event_stream(START + BLOCK, *chunks, timeouts=Timeouts(idle=0.01)))
    assert outcome == Outcome(fault, reason, usage=Usage(12, 0))


def test_events_before_an_error_still_reach_the_client() -> None:
    _, sent, outcome = read(event_stream(START + BLOCK, TEXT + OVERLOADED))
    assert sent == [TEXT]
    assert outcome.fault is Fault.TORN


@pytest.mark.parametrize(
    "end", [CUT, BrokenResponse("broken"), None, OVERLOADED, b"data: nonsense\n\n"]
)
def test_what_goes_wrong_after_the_stop_reason_tears_nothing(
    end: Chunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccfallback.server.stream.END_SECONDS", 0.01)
    stream = event_stream(*EVENTS[:-1], end)
    begun, sent, outcome = read(stream)
    assert begun + b"".join(sent) == b"".join(EVENTS[:-1])
    assert outcome.ok


def test_a_secret_that_a_torn_stream_quotes_is_not_in_the_reason() -> None:
    error = b'event: error\ndata: {"type":"error","error":{"type":"supersecret"}}\n\n'
    _, _, outcome = read(event_stream(START + BLOCK, error))
    assert outcome.reason == "error in the stream: ***"


@pytest.mark.parametrize(
    ("chunks", "timeouts", "fired"),
    [
        ([None], Timeouts(first_byte=0.01), "first_byte"),
        ([START, None], Timeouts(first_byte=0.01, idle=0.02, silence=9), "idle"),
        ([START, None], Timeouts(first_byte=0.01, silence=0.01, idle=9), "first_content"),
    ],
)
def test_each_part_of_a_stream_has_its_own_timeout(
    chunks: Sequence[Chunk], timeouts: Timeouts, fired: str
) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        asyncio.run(event_stream(*chunks, timeouts=timeouts).begin())
    assert caught.value.timeout == fired


def test_a_long_body_may_take_longer_until_the_first_event() -> None:
    timeouts = AttemptTimeouts(Timeouts(first_byte=10, silence=5), body_bytes=50_000)
    assert (timeouts.first_byte, timeouts.first_content) == (12, 17)


@pytest.mark.parametrize(
    ("body_bytes", "configured", "expected", "why"),
    [
        (1_000, 30, 9.2, "usually quick"),
        (100_000, 30, 9.2, "usually quick"),
        (150_000, 30, 11.2, "usually quick"),
        (150_000, 5, 11, ""),
        (1_000, 5, 5.04, ""),
    ],
)
def test_a_provider_that_is_usually_quicker_gets_less_time(
    body_bytes: int, configured: float, expected: float, why: str
) -> None:
    learned = Learned(9.2, 100_000, "usually quick", None)
    timeouts = AttemptTimeouts(Timeouts(first_byte=configured), body_bytes, learned=learned)
    assert timeouts.first_byte == pytest.approx(expected)
    assert timeouts.first_byte_why == why


@pytest.mark.parametrize("rest", [[b"more"], [CUT], [None]])
def test_draining_never_fails_and_closes_the_response(rest: Sequence[Chunk]) -> None:
    upstream = ScriptedResponse(rest)
    stream = EventStream(
        UpstreamResponse(upstream, Deadline()),
        AnthropicStream(),
        AttemptTimeouts(Timeouts(), 0),
        whole=False,
        secrets=tuple,
    )
    asyncio.run(stream.drain())
    assert upstream.closed


def test_an_unforeseen_exception_tears_an_answer_that_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = event_stream(START + BLOCK, TEXT)
    asyncio.run(stream.begin())

    def crash(_self: object, _chunk: bytes) -> bytes:
        raise RuntimeError("supersecret")

    monkeypatch.setattr(AnthropicStream, "feed", crash)

    async def send(_message: Any) -> None:
        raise AssertionError("nothing is left to be sent")

    outcome = asyncio.run(stream.relay(send))
    reason = "internal error: RuntimeError"
    assert outcome == Outcome(Fault.TORN, reason, usage=Usage(12, 0))
    assert isinstance(stream.crash, RuntimeError)


OPENAI = [
    b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
]


@pytest.mark.parametrize(
    "end", [CUT, None, b'data: {"error":{"message":"no"}}\n\n', b"data: {\n\n", b""]
)
@pytest.mark.parametrize("whole", [False, True])
def test_an_openai_stream_is_whole_after_its_finish_reason(
    end: Chunk, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccfallback.server.stream.END_SECONDS", 0.01)
    body = Body.parse(b'{"model":"m","messages":[]}')
    stream = EventStream(
        response(*OPENAI, end),
        OpenAIStream(body),
        AttemptTimeouts(Timeouts(), 0),
        whole=whole,
        secrets=tuple,
    )
    begun, sent, outcome = read(stream)
    assert outcome.ok
    assert (begun + b"".join(sent)).endswith(EVENTS[-1])


TORN = {
    "no reason in words": OPENAI[0].replace(b"}}]}", b'},"finish_reason":"null"}]}'),
    "more after a reason": OPENAI[1] + b'data: {"choices":[{"delta":{"content":" you"}}]}\n\n',
}


@pytest.mark.parametrize("end", [CUT, None, b'data: {"error":{"message":"no"}}\n\n', b""])
@pytest.mark.parametrize("last", TORN.values(), ids=TORN)
def test_an_openai_stream_without_a_finish_reason_at_its_end_is_torn(
    last: bytes, end: Chunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A pause in the middle of an answer may be longer than the wait for what follows the end.
    monkeypatch.setattr("ccfallback.server.stream.END_SECONDS", 10)
    stream = EventStream(
        response(OPENAI[0], last, end),
        OpenAIStream(Body.parse(b'{"model":"m","messages":[]}')),
        AttemptTimeouts(Timeouts(idle=0.01), 0),
        whole=False,
        secrets=tuple,
    )
    begun, sent, outcome = read(stream)
    assert outcome.fault is (Fault.TIMEOUT if end is None else Fault.TORN)
    assert b"message_stop" not in begun + b"".join(sent)


def test_a_silent_stream_sends_pings_to_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccfallback.server.stream.PING_SECONDS", 0.01)
    stream = event_stream(START + BLOCK, TEXT, None, timeouts=Timeouts(idle=0.2))
    _, sent, outcome = read(stream)
    assert sent[0] == TEXT
    assert len(sent) > 2
    assert set(sent[1:]) == {PING_EVENT}
    assert outcome.fault is Fault.TIMEOUT


def test_a_client_that_does_not_read_gets_one_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message["body"])
        await asyncio.Event().wait()

    async def story() -> None:
        keep_alive = KeepAlive(send, 0.005)
        await asyncio.sleep(0.1)
        keep_alive.close()

    asyncio.run(story())
    assert sent == [PING_EVENT]


@pytest.mark.parametrize(
    ("gaps", "idle"),
    [([], 90), ([3], 20), ([5, 10], 40), ([40], 90), ([2, 2, 2], 20)],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("ping", [b": alive\n\n", PING, b'event:ping\ndata: {"type":"ping"}\n\n'])
def test_a_stream_that_misses_its_pings_has_stalled(
    gaps: list[float], idle: float, ping: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("ccfallback.server.stream.monotonic", lambda: now)
    timeouts = AttemptTimeouts(Timeouts(), 0)
    timeouts.note(ping)
    for gap in gaps:
        timeouts.note(TEXT)
        now += gap
        timeouts.note(ping)
    assert timeouts.idle == idle


@pytest.mark.parametrize(
    ("usual", "gaps", "idle", "why"),
    [
        (6.0, [], 24, "its usual longest gap between pings is 6.0 s"),
        (6.0, [1], 24, "its usual longest gap between pings is 6.0 s"),
        (6.0, [10], 40, "its longest gap between pings is 10.0 s"),
        (1.0, [], 20, "its usual longest gap between pings is 1.0 s"),
        (50.0, [], 90, ""),
    ],
)
def test_a_stream_with_one_ping_is_held_to_the_rhythm_of_earlier_streams(
    usual: float, gaps: list[float], idle: float, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("ccfallback.server.stream.monotonic", lambda: now)
    timeouts = AttemptTimeouts(Timeouts(), 0, learned=Learned(8.0, 0, "", usual))
    timeouts.note(TEXT)
    assert timeouts.idle == 90
    timeouts.note(PING)
    for gap in gaps:
        now += gap
        timeouts.note(PING)
    assert timeouts.idle == idle
    assert timeouts.idle_why == why


def test_a_whole_answer_that_comes_as_a_stream_has_no_first_byte_timeout() -> None:
    timeouts = AttemptTimeouts(Timeouts(first_byte=0.05, non_streaming=600), 0, is_stream=False)
    assert timeouts.non_streaming == 600
    assert timeouts.next_read() == ("idle", 90)
    assert timeouts.next_read(AnthropicStream()) == ("idle", 90)


def test_the_members_of_a_compressed_body_are_one_body() -> None:
    members = b"".join(gzip.compress(part, mtime=0) for part in EVENTS)
    for chunks in ([members], [bytes([byte]) for byte in members]):
        found = response(*chunks, encoding="gzip")
        assert asyncio.run(found.read_all("idle", 5)) == b"".join(EVENTS)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_follows_a_compressed_body_is_not_read(encoding: str) -> None:
    packed = gzip.compress(b"hello") if encoding == "gzip" else zlib.compress(b"hello")
    upstream = ScriptedResponse(
        [packed + b"\0" * 9, *[bytes(MAX_EMPTY)] * 9],
        headers=[(b"content-encoding", encoding.encode())],
    )
    found = UpstreamResponse(upstream, Deadline())
    assert asyncio.run(found.read_all("idle", 5)) == b"hello"
    assert upstream.reads == 1


def test_endless_encoded_bytes_without_content_are_refused() -> None:
    empty = gzip.compress(b"", mtime=0) * 4096
    with pytest.raises(BrokenResponse, match="without content"):
        asyncio.run(response(*[empty] * 99, encoding="gzip").read_all("idle", 30))


@pytest.mark.parametrize(
    ("given", "is_total", "expected"),
    [
        (Timeouts(non_streaming=10, idle=90), True, ("non_streaming", 10.0)),
        (Timeouts(non_streaming=600, idle=90), True, ("idle", 90.0)),
        (Timeouts(non_streaming=10, idle=90), False, ("idle", 90.0)),
    ],
)
def test_a_whole_answer_may_take_its_share_of_the_time(
    given: Timeouts, is_total: bool, expected: tuple[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccfallback.server.stream.monotonic", lambda: 100.0)
    timeouts = AttemptTimeouts(given, 0, is_stream=False, is_total=is_total)
    assert timeouts.next_read() == expected


def test_the_timeouts_of_a_stream_by_what_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("ccfallback.server.stream.monotonic", lambda: now)
    timeouts = AttemptTimeouts(Timeouts(first_byte=10, silence=20, idle=90), 0)
    assert timeouts.first_byte == 10
    now += 4
    assert timeouts.next_read() == ("first_byte", 6)
    timeouts.note(b": alive\n")
    assert timeouts.next_read() == ("first_content", 26)
    translator = AnthropicStream()
    assert timeouts.next_read(translator) == ("first_content", 26)
    translator.feed(START + BLOCK)
    assert timeouts.next_read(translator) == ("idle", 90)
    translator.feed(b"".join(EVENTS[2:-1]))
    assert timeouts.next_read(translator) == ("end", END_SECONDS)
    now += 2
    assert timeouts.next_read(translator) == ("end", END_SECONDS - 2)


def test_the_end_is_waited_for_anew_after_each_event(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("ccfallback.server.stream.monotonic", lambda: now)
    stream = event_stream(b"".join(EVENTS[:-2]), EVENTS[-2], EVENTS[-1])
    timeouts = stream._timeouts
    timeouts.stopped = 1.0
    read(stream)
    assert timeouts.stopped is None or timeouts.stopped >= now


def test_what_comes_before_an_error_in_one_read_after_the_stop_reason_is_sent() -> None:
    begun, sent, outcome = read(event_stream(START + BLOCK, b"".join(EVENTS[2:]) + OVERLOADED))
    assert begun + b"".join(sent) == b"".join(EVENTS)
    assert outcome.ok


def test_pings_shorten_the_wait_of_an_answer_that_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ccfallback.server.stream.SHORTEST_STALL", 0.05)
    stream = event_stream(START + BLOCK, PING, PING, None, timeouts=Timeouts(idle=60))
    begun, _, outcome = read(stream)
    assert begun == START + BLOCK
    assert outcome.fault is Fault.TIMEOUT


def test_no_ping_follows_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccfallback.server.stream.PING_SECONDS", 0.01)
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message["body"])

    async def story() -> None:
        stream = event_stream(START + BLOCK, TEXT, *REST)
        await stream.begin()
        await stream.relay(send)
        sent.clear()
        await asyncio.sleep(0.05)

    asyncio.run(story())
    assert not sent


def test_the_silence_is_measured_from_the_last_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    restarted: list[float] = []

    class Watched(KeepAlive):
        def restart(self) -> None:
            restarted.append(1.0)
            super().restart()

    monkeypatch.setattr("ccfallback.server.stream.KeepAlive", Watched)
    _, sent, _ = read(event_stream(START + BLOCK, TEXT, *REST))
    assert len(restarted) == len(sent)


@pytest.mark.parametrize(
    ("kind", "shown"), [("k" * (QUOTE - 1), "k" * (QUOTE - 1)), ("k" * QUOTE, "of an unknown type")]
)
def test_a_long_unknown_type_of_an_error_is_not_repeated(kind: str, shown: str) -> None:
    error = b'event: error\ndata: {"type":"error","error":{"type":"%b"}}\n\n' % kind.encode()
    stream = event_stream(START + BLOCK, TEXT + error)
    _, _, outcome = read(stream)
    assert outcome.reason == f"error in the stream: {shown}"
    assert stream.written > 0


def test_a_stall_says_which_rhythm_it_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccfallback.server.stream.SHORTEST_STALL", 0.05)
    stream = event_stream(START + BLOCK, PING, PING, None, timeouts=Timeouts(idle=60))
    assert (stream.gap, stream.late, stream.late_why) == (None, None, "")
    read(stream)
    assert stream.gap is not None
    assert stream.late is not None
    assert stream.late.timeout == "idle"
    assert stream.late_why == "its longest gap between pings is 0.0 s"
    plain = event_stream(START + BLOCK, None, timeouts=Timeouts(idle=0.02))
    read(plain)
    assert (plain.gap, plain.late_why) == (None, "")
    whole = event_stream(*EVENTS)
    read(whole)
    assert (whole.late, whole.late_why) == (None, "")


def test_an_answer_that_its_model_breaks_off_is_torn_by_the_model() -> None:
    def chunk(**choice: Any) -> bytes:
        value = {"choices": [{"index": 0, "delta": {}, **choice}]}
        return b"data: " + msgspec.json.encode(value) + b"\n\n"

    stream = EventStream(
        response(chunk(delta={"content": "a"}), chunk(finish_reason="abort")),
        OpenAIStream(Body.parse(b'{"model":"m","stream":true}')),
        AttemptTimeouts(Timeouts(), 0),
        whole=False,
        secrets=tuple,
    )
    assert read(stream)[2].fault is Fault.MODEL_TORN
    torn = event_stream(START + BLOCK, TEXT + OVERLOADED)
    assert read(torn)[2].fault is Fault.TORN
    assert torn.error is not None
    assert torn.error.type == "overloaded_error"


def test_an_error_in_the_read_of_the_stop_reason_hides_no_event() -> None:
    last = b"".join(EVENTS[2:-1])
    begun, sent, outcome = read(event_stream(START + BLOCK, last + OVERLOADED))
    assert begun + b"".join(sent) == START + BLOCK + last
    assert outcome.ok


def test_draining_reads_all_that_follows() -> None:
    upstream = ScriptedResponse([b"a", b"b"])
    stream = EventStream(
        UpstreamResponse(upstream, Deadline()),
        AnthropicStream(),
        AttemptTimeouts(Timeouts(), 0),
        whole=False,
        secrets=tuple,
    )
    asyncio.run(stream.drain())
    assert (upstream.reads, upstream.closed) == (3, True)
