"""Records: made once, scrubbed, and dropped below the level."""

import asyncio
import threading

import msgspec
import pytest

from ccfallback.events.records import Event, LogError, ProviderFailure, RequestStart
from ccfallback.messages.body import Body
from ccfallback.quotes import CHEAP_BYTES, Quotes
from ccfallback.server.record import Record, Recorder, upstream_text


class Kept:
    """A sink that keeps."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.asked = 0

    def add(self, records: list[Record]) -> None:
        self.records += records

    def wake(self) -> None:
        """Note that it was asked."""
        self.asked += 1


@pytest.mark.parametrize(("level", "kept"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_the_level_decides_what_is_kept(level: str, kept: int) -> None:
    sink = Kept()
    recorder = Recorder(sink, level)
    for name in ("debug", "info", "warn", "error"):
        recorder.log(RequestStart(), "message", level=name)
    recorder.settle()
    assert len(sink.records) == kept


def test_a_record_has_the_documented_members_and_reaches_all_listeners() -> None:
    sink, heard, printed = Kept(), list[Record](), list[Record]()
    recorder = Recorder(sink)
    recorder.listeners.append(heard.append)
    recorder.outputs.append(printed.extend)
    event = RequestStart(model="m")
    recorder.log(event, "a sentence", "ccr-1")
    (record,) = sink.records
    line = msgspec.json.decode(msgspec.json.encode(record))
    assert list(line) == ["timestamp", "level", "event", "message", "requestId", "data"]
    assert (line["event"], line["level"], line["requestId"]) == ("request.start", "info", "ccr-1")
    assert line["data"]["model"] == "m"
    assert record.data is event
    assert heard == printed == [record]


class Odd(RequestStart, tag="odd"):
    """An event that can't be described."""

    def describe(self) -> str:
        raise ValueError("secret")


def test_an_event_that_cannot_be_counted_or_described_is_logged_and_stops_nothing() -> None:
    def fail(_event: Event) -> None:
        raise KeyError("secret")

    sink = Kept()
    recorder = Recorder(sink)
    recorder.log(Odd())
    recorder.log(RequestStart(model="m"))
    recorder.settle()
    recorder.count = fail
    recorder.log(RequestStart(), "a sentence")
    recorder.settle()
    odd, plain, uncounted = (each.message for each in sink.records)
    assert odd.startswith("internal error: ValueError at ")
    assert plain == RequestStart(model="m").describe()
    assert uncounted == "a sentence"
    assert "secret" not in odd


def test_a_request_waits_for_nothing_that_follows_from_its_events() -> None:
    sink, counted, printed = Kept(), list[Event](), list[int]()
    recorder = Recorder(sink)
    recorder.count = counted.append
    recorder.outputs.append(lambda records: printed.append(len(records)))
    for _ in range(3):
        recorder.log(RequestStart())
    assert (sink.asked, sink.records, counted, printed) == (1, [], [], [])
    with recorder.settled():
        assert len(counted) == 3
    assert (len(sink.records), printed) == (3, [3])
    recorder.log(RequestStart())
    assert sink.asked == 2
    recorder.settle()
    recorder.settle()
    assert (len(sink.records), len(counted), printed) == (4, 4, [3, 1])


def test_records_say_when_it_happened_and_not_when_they_were_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink, now = Kept(), [1_788_000_000.9994]
    monkeypatch.setattr("ccfallback.server.record.time", lambda: now[0])
    recorder = Recorder(sink)
    recorder.log(RequestStart())
    now[0] += 0.0006
    recorder.log(RequestStart())
    now[0] += 60
    recorder.settle()
    assert [each.timestamp for each in sink.records] == [
        "2026-08-29T10:40:00.999Z",
        "2026-08-29T10:40:01.000Z",
    ]


def test_what_was_logged_before_a_change_of_the_level_has_the_old_one() -> None:
    sink = Kept()
    recorder = Recorder(sink)
    recorder.log(RequestStart())
    recorder.set_level("error")
    recorder.log(RequestStart())
    recorder.settle()
    assert len(sink.records) == 1


def test_no_event_is_lost_between_threads() -> None:
    sink, counted = Kept(), list[Event]()
    recorder = Recorder(sink)
    recorder.count = counted.append
    ended = threading.Event()

    def settle() -> None:
        while not ended.is_set():
            recorder.settle()

    def log() -> None:
        for number in range(2000):
            recorder.log(RequestStart(bytes=number), request_id=threading.current_thread().name)

    settling = [threading.Thread(target=settle) for _ in range(2)]
    logging = [threading.Thread(target=log, name=name) for name in ("one", "two")]
    for thread in (*settling, *logging):
        thread.start()
    for thread in logging:
        thread.join()
    ended.set()
    for thread in settling:
        thread.join()
    recorder.settle()
    for name in ("one", "two"):
        sizes = [each.data.bytes for each in sink.records if each.request_id == name]
        assert sizes == list(range(2000))
    assert counted == [each.data for each in sink.records]


def test_a_failure_of_the_log_is_told_to_everyone_but_the_log() -> None:
    sink, heard, printed = Kept(), list[Record](), list[Record]()
    recorder = Recorder(sink)
    recorder.listeners.append(heard.append)
    recorder.outputs.append(printed.extend)
    recorder.announce(LogError(), "the disk is full")
    assert sink.records == []
    assert heard == printed
    assert [each.message for each in heard] == ["the disk is full"]


def test_an_upstreams_words_are_scrubbed_cut_and_on_one_line() -> None:
    said = "Bad key the-secret-key,\n or Bearer abcdefghijklmnop " + "x" * 500
    line = asyncio.run(upstream_text(said, ["the-secret-key"]))
    assert "the-secret-key" not in line
    assert "abcdefghijklmnop" not in line
    assert "\n" not in line
    assert len(line) <= 200


def test_a_cut_hides_no_quote() -> None:
    said = "a quote of the conversation"
    quotes = Quotes(Body.parse(msgspec.json.encode({"messages": [said]})))
    before = "x " * 85
    line = asyncio.run(upstream_text(f"{before}bad: {said} {said}", quotes=quotes))
    assert line == f"{before}bad: […]…"


def test_the_mark_of_a_cut_does_not_slow_the_search() -> None:
    quotes = Quotes(Body.parse(msgspec.json.encode({"messages": ["a conversation"]})))
    line = asyncio.run(upstream_text("Too many tokens a minute. " * 20, quotes=quotes))
    assert line.endswith("…")
    assert len(line) == 200
    assert quotes._content is None


def test_side_endpoints_are_not_counted_and_others_at_every_level() -> None:
    counted: list[Event] = []
    recorder = Recorder(None, "error")
    recorder.count = counted.append
    recorder.log(ProviderFailure(), "message", level="debug")
    assert counted == []
    recorder.log(ProviderFailure(), "message")
    assert counted == [ProviderFailure()]


class Watched(Quotes):
    """Notes in which thread it searches."""

    searched_by: int | None = None

    def remove(self, text: str) -> str:
        self.searched_by = threading.get_ident()
        return super().remove(text)


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_a_long_conversation_is_searched_beside_the_event_loop(size: int) -> None:
    said = "a quote of the conversation"
    quotes = Watched(Body.parse(msgspec.json.encode({"messages": [said, "x" * size]})))
    assert asyncio.run(upstream_text(f"bad: {said}", quotes=quotes)) == "bad: […]"
    is_here = quotes.searched_by == threading.get_ident()
    assert is_here == (size < CHEAP_BYTES)
