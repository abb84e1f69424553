"""Records: made once, scrubbed, and only as many as wanted."""

import pytest

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
        recorder.log(name, "event", "message")
    assert len(sink.records) == kept


def test_a_record_has_the_promised_members_and_reaches_everybody() -> None:
    sink, heard = Kept(), Kept()
    recorder = Recorder(sink)
    recorder.listeners.append(heard.put)
    recorder.log("info", "request.start", "a sentence", "ccr-1", model="m")
    (record,) = sink.records
    assert set(record) == {"timestamp", "level", "event", "message", "requestId", "data"}
    assert record["data"] == {"model": "m"}
    assert heard.records == [record]


def test_an_upstreams_words_are_scrubbed_cut_and_on_one_line() -> None:
    said = "Bad key the-secret-key,\n or Bearer abcdefghijklmnop " + "x" * 500
    line = upstream_text(said, ["the-secret-key"])
    assert "the-secret-key" not in line
    assert "abcdefghijklmnop" not in line
    assert "\n" not in line
    assert len(line) <= 200
