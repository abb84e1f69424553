"""Records: made once, scrubbed, and dropped below the level."""

import asyncio
import threading

import msgspec
import pytest

from ccfallback.events.records import Event, ProviderFailure, RequestStart
from ccfallback.messages.body import Body
from ccfallback.quotes import CHEAP_BYTES, Quotes
from ccfallback.server.record import Record, Recorder, upstream_text


class Kept:
    """A sink that keeps."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def put(self, record: Record) -> None:
        self.records.append(record)


@pytest.mark.parametrize(("level", "kept"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_the_level_decides_what_is_kept(level: str, kept: int) -> None:
    sink = Kept()
    recorder = Recorder(sink, level)
    for name in ("debug", "info", "warn", "error"):
        recorder.log(RequestStart(), "message", level=name)
    assert len(sink.records) == kept


def test_a_record_has_the_documented_members_and_reaches_all_listeners() -> None:
    sink, heard = Kept(), Kept()
    recorder = Recorder(sink)
    recorder.listeners.append(heard.put)
    event = RequestStart(model="m")
    recorder.log(event, "a sentence", "ccr-1")
    (record,) = sink.records
    line = msgspec.json.decode(msgspec.json.encode(record))
    assert list(line) == ["timestamp", "level", "event", "message", "requestId", "data"]
    assert (line["event"], line["level"], line["requestId"]) == ("request.start", "info", "ccr-1")
    assert line["data"]["model"] == "m"
    assert record.data is event
    assert heard.records == [record]


def test_an_upstreams_words_are_scrubbed_cut_and_on_one_line() -> None:
    said = "Bad key the-secret-key,\n or Bearer abcdefghijklmnop " + "x" * 500
    line = asyncio.run(upstream_text(said, ["the-secret-key"]))
    assert "the-secret-key" not in line
    assert "abcdefghijklmnop" not in line
    assert "\n" not in line
    assert len(line) <= 200


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
