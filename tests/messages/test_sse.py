"""Events out of bytes: every framing, every cut, in linear time."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages import sse
from ccfallback.messages.sse import (
    EventSplitter,
    EventTooLong,
    data_of,
    event,
    is_named_error,
    json_event,
)

FRAMINGS = [
    ("LF", b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    ("CRLF", b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    ("CR", b"data: a\r\rdata: b\r\rdata: c", [b"a", b"b", b"c"]),
    ("mixed", b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\ndata: d\n\r\n", [b"a", b"b", b"c", b"d"]),
    ("mixed CR", b"data: a\n\rdata: b\r\n\rdata: c\n\n", [b"a", b"b", b"c"]),
    ("BOM", b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    ("comments", b": hello\n\ndata: a\n: inside\n\n:\n\n", [b"", b"a", b""]),
    ("several lines of data", b"data: a\ndata: b\ndata:\n\n", [b"a\nb\n"]),
    ("no space after the colon", b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
    ("no colon", b"data\n\n", [b""]),
    ("blank lines to keep alive", b"\n\n\n\ndata: a\n\n\n\n", [b"", b"", b"a", b""]),
    ("an odd number of blank lines", b"data: a\n\n\ndata: b\n\n", [b"a", b"b"]),
    ("no blank line at the end", b"data: a\n\ndata: b\n", [b"a", b"b"]),
    ("other fields", b"event: x\nid: 1\nretry: 5\nDATA: no\ndata: a\n\n", [b"a"]),
    ("nothing", b"", []),
]


def split(chunks: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter()
    events = [event for chunk in chunks for event in splitter.feed(chunk)]
    return events, splitter.rest


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(bounds)]


CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@pytest.mark.parametrize(
    ("stream", "data"), [f[1:] for f in FRAMINGS], ids=[f[0] for f in FRAMINGS]
)
def test_every_framing(stream: bytes, data: list[bytes]) -> None:
    for chunks in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        events, rest = split(chunks)
        read = [data_of(event) for event in [*events, *([rest] if rest.strip() else [])]]
        assert read == data


SOUP = st.lists(
    st.sampled_from(
        [b"\n", b"\r", b"\r\n", b"\n\n", b"data: ", b"event: x", b":", b"{}", b"\xef\xbb\xbf", b"a"]
    ),
    max_size=30,
).map(b"".join)


@given(stream=SOUP | st.binary(max_size=60), places=CUTS)
def test_no_cut_changes_anything(stream: bytes, places: list[int]) -> None:
    # A carriage return at the end may wait for its line feed, so the end is made plain.
    stream += b"x"
    whole = split([stream])
    assert split(cut(stream, places)) == whole
    assert split([stream[i : i + 1] for i in range(len(stream))]) == whole


@given(stream=SOUP | st.binary(max_size=60), places=CUTS)
def test_the_events_and_the_rest_are_the_input(stream: bytes, places: list[int]) -> None:
    events, rest = split(cut(stream, places))
    assert b"".join(events) + rest == stream


@given(stream=st.binary(max_size=100))
def test_no_bytes_raise(stream: bytes) -> None:
    data_of(stream)
    is_named_error(stream)


@given(stream=SOUP)
def test_an_event_ends_with_an_empty_line_and_holds_no_other_data_after_one(stream: bytes) -> None:
    for each in split([stream])[0]:
        lines = each.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        assert lines.endswith(b"\n\n")
        assert b"\n\n" not in lines.lstrip(b"\n")[:-1]


def test_a_long_line_in_small_reads_is_joined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = 0

    class Counting:
        """The pattern, adding up the bytes that it looks at."""

        def search(self, data: bytes) -> Any:
            nonlocal searched
            searched += len(data)
            return pattern.search(data)

        def finditer(self, data: bytes) -> Any:
            nonlocal searched
            searched += len(data)
            return pattern.finditer(data)

    pattern = sse._END
    monkeypatch.setattr(sse, "_END", Counting())
    splitter = EventSplitter()
    reads = 20_000
    assert splitter.feed(b"data: ") == []
    for _ in range(reads):
        assert splitter.feed(b"0123456789") == []
    (long,) = splitter.feed(b"\n\n")
    assert len(data_of(long)) == 10 * reads
    assert searched < 5 * len(long)


def test_an_event_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    splitter = EventSplitter()
    splitter.feed(b"data: a\n\n" * 50)
    splitter.feed(b"x" * 100)
    with pytest.raises(EventTooLong):
        splitter.feed(b"x")


def test_an_event_on_the_wire() -> None:
    written = event("ping", b'{"type":"ping"}')
    assert written == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert json_event({"type": "ping"}) == written
