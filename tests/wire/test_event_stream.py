"""Frames of Amazon's event streams: vectors, botocore as the judge, and any bytes."""

from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ccfallback.wire.event_stream import (
    MAX_FRAME,
    BrokenFrame,
    Frame,
    FrameDecoder,
    encode_frame,
)
from tests.proportion import grows_in_proportion

CHUNK: Final = bytes.fromhex(
    "000000900000004b552a60610b3a6576656e742d747970650700056368756e6b0d3a636f6e74656e742d747970"
    "650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b2262"
    "79746573223a2265794a306558426c496a6f696257567a6332466e5a56397a64473977496e303d222c2270223a"
    "226162227dc07c0b72"
)
EXCEPTION: Final = bytes.fromhex(
    "0000008e00000061514180540f3a657863657074696f6e2d747970650700137468726f74746c696e6745786365"
    "7074696f6e0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d65737361"
    "67652d74797065070009657863657074696f6e7b226d657373616765223a22546f6f206d616e7920746f6b656e"
    "73227dc81b1ec1"
)
CHUNK_FRAME: Final = Frame(
    {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"},
    b'{"bytes":"eyJ0eXBlIjoibWVzc2FnZV9zdG9wIn0=","p":"ab"}',
)
EXCEPTION_FRAME: Final = Frame(
    {
        ":exception-type": "throttlingException",
        ":content-type": "application/json",
        ":message-type": "exception",
    },
    b'{"message":"Too many tokens"}',
)

HEADERS: Final = st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=60), max_size=5)
FRAMES: Final = st.lists(st.builds(Frame, HEADERS, st.binary(max_size=300)), max_size=5)


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({min(place, len(raw)) for place in places} | {0, len(raw)})
    return [raw[start:end] for start, end in pairwise(ends)]


def test_vectors() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(CHUNK + EXCEPTION) == [CHUNK_FRAME, EXCEPTION_FRAME]
    assert decoder.is_between_frames
    decoder.finish()
    for raw, frame in ((CHUNK, CHUNK_FRAME), (EXCEPTION, EXCEPTION_FRAME)):
        assert encode_frame(frame.headers, frame.payload) == raw


@given(frames=FRAMES, places=st.lists(st.integers(0, 2000), max_size=20))
def test_a_cut_anywhere_changes_nothing(frames: list[Frame], places: list[int]) -> None:
    raw = b"".join(encode_frame(frame.headers, frame.payload) for frame in frames)
    decoder = FrameDecoder()
    assert [frame for part in cut(raw, places) for frame in decoder.feed(part)] == frames
    decoder.finish()


def test_a_byte_at_a_time() -> None:
    decoder = FrameDecoder()
    found = [frame for byte in CHUNK + EXCEPTION for frame in decoder.feed(bytes([byte]))]
    assert found == [CHUNK_FRAME, EXCEPTION_FRAME]


@given(place=st.integers(0, len(CHUNK) - 1), bit=st.integers(0, 7))
def test_a_wrong_bit_anywhere_breaks_the_stream_for_good(place: int, bit: int) -> None:
    wrong = bytearray(CHUNK)
    wrong[place] ^= 1 << bit
    decoder = FrameDecoder()
    assert decoder.feed(EXCEPTION) == [EXCEPTION_FRAME]
    try:
        found = decoder.feed(bytes(wrong) + CHUNK)
    except BrokenFrame:
        found = []
    assert found == []
    with pytest.raises(BrokenFrame):
        decoder.feed(CHUNK)
    with pytest.raises(BrokenFrame):
        decoder.finish()


def test_good_frames_before_a_broken_one_come_out() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(CHUNK + b"\xff" * 20) == [CHUNK_FRAME]
    with pytest.raises(BrokenFrame):
        decoder.feed(CHUNK)


@pytest.mark.parametrize("end", [1, 8, 12, 40, len(CHUNK) - 1])
def test_a_cut_frame_at_the_end_is_broken(end: int) -> None:
    decoder = FrameDecoder()
    assert decoder.feed(CHUNK[:end]) == []
    assert not decoder.is_between_frames
    with pytest.raises(BrokenFrame):
        decoder.finish()


def prelude(total: int, headers: int) -> bytes:
    from binascii import crc32

    lengths = total.to_bytes(4, "big") + headers.to_bytes(4, "big")
    return lengths + crc32(lengths).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("total", "headers"),
    [(0, 0), (15, 0), (16, 1), (100, 85), (MAX_FRAME + 1, 0), (2**32 - 1, 0), (200_000, 140_000)],
)
def test_a_frame_of_an_impossible_length_is_broken_at_once(total: int, headers: int) -> None:
    with pytest.raises(BrokenFrame):
        FrameDecoder().feed(prelude(total, headers))


def with_headers(raw: bytes) -> bytes:
    from binascii import crc32

    head = prelude(16 + len(raw), len(raw)) + raw
    return head + crc32(head).to_bytes(4, "big")


@pytest.mark.parametrize(
    "raw",
    [
        *(b"\x01", b"\x01a", b"\x01a\x07", b"\x01a\x07\x00", b"\x01a\x07\x00\x05ab", b"\x01a\x0a"),
        *(b"\x01a\x04\x00\x00", b"\x01a\x07\x00\x01\xff", b"\x05ab"),
    ],
)
def test_an_unreadable_header_breaks_the_stream(raw: bytes) -> None:
    with pytest.raises(BrokenFrame):
        FrameDecoder().feed(with_headers(raw))


def test_headers_of_every_type_are_skipped() -> None:
    sizes = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
    raw = b"".join(bytes([1, 97, kind]) + bytes(size) for kind, size in sizes.items())
    raw += b"\x01b\x06\x00\x02xx" + b"\x01c\x07\x00\x02ok"
    assert FrameDecoder().feed(with_headers(raw)) == [Frame({"c": "ok"})]


@given(parts=st.lists(st.binary(max_size=200), max_size=10))
@example(parts=[CHUNK[:50], b"", CHUNK[50:]])
def test_any_bytes_are_frames_or_broken(parts: list[bytes]) -> None:
    decoder = FrameDecoder()
    try:
        for part in parts:
            decoder.feed(part)
        decoder.finish()
    except BrokenFrame:
        pass


def test_the_work_is_proportional_to_the_bytes() -> None:
    def read(size: int) -> None:
        raw = encode_frame({}, bytes(size))
        decoder = FrameDecoder()
        frames = [frame for byte in raw for frame in decoder.feed(bytes((byte,)))]
        assert len(frames) == 1

    grows_in_proportion(read, 50_000)


def frames_of_botocore(raw: bytes) -> list[Any]:
    eventstream = pytest.importorskip("botocore.eventstream", reason="botocore is not installed")
    buffer = eventstream.EventStreamBuffer()
    buffer.add_data(raw)
    return list(buffer)


@given(frames=FRAMES)
def test_botocore_reads_the_same_frames(frames: list[Frame]) -> None:
    raw = b"".join(encode_frame(frame.headers, frame.payload) for frame in frames)
    theirs = [Frame(each.headers, each.payload) for each in frames_of_botocore(raw)]
    assert theirs == FrameDecoder().feed(raw) == frames
