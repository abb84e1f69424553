"""The frames of Amazon's event streams (`application/vnd.amazon.eventstream`).

A frame has a prelude (its length, the length of its headers, a checksum of these two), headers, a
payload, and a checksum of all of it. Numbers are big-endian. A stream with a wrong frame is broken:
where the next one begins cannot be known.
"""

import struct
from binascii import crc32
from typing import Final

import msgspec

MEDIA_TYPE: Final = "application/vnd.amazon.eventstream"

MAX_HEADERS: Final = 128 * 1024
MAX_FRAME: Final = 6 * 1024 * 1024
"""The longest frame: one with an event of 4 MiB in base64. The format allows 24 MiB."""

_PRELUDE: Final = struct.Struct(">III")
_CHECKSUM: Final = struct.Struct(">I")
_LENGTH: Final = struct.Struct(">H")
_OVERHEAD: Final = _PRELUDE.size + _CHECKSUM.size

_STRING: Final = 7
_BYTES: Final = 6
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""The bytes of a header's value by its type: true, false, integers, time, UUID. Bytes and strings
say their length themselves."""


class BrokenFrame(ValueError):
    """The bytes are not frames, or a checksum is wrong; the message says which."""


class Frame(msgspec.Struct, frozen=True):
    """One frame."""

    headers: dict[str, str] = {}
    """Its headers of type string, which are all that Bedrock sends."""
    payload: bytes = b""


class FrameDecoder:
    """Cuts a stream of bytes into frames, wherever its reads are cut."""

    __slots__ = ("_buffer", "_wanted", "is_broken")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wanted = _PRELUDE.size
        """So many bytes must be there before there is anything to do."""
        self.is_broken = False
        """Whether a frame was wrong: what follows cannot be read."""

    @property
    def is_between_frames(self) -> bool:
        """Whether the stream may end here."""
        return not self._buffer

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that are complete now, up to a broken one.

        Raises `BrokenFrame` for a broken frame that is the first; it stays broken.
        """
        if self.is_broken:
            raise BrokenFrame("the stream is broken")
        buffer = self._buffer
        buffer += chunk
        frames: list[Frame] = []
        start = 0
        try:
            while len(buffer) - start >= self._wanted:
                total, headers, checksum = _PRELUDE.unpack_from(buffer, start)
                if self._wanted == _PRELUDE.size:
                    self._wanted = _check_prelude(buffer, start, total, headers, checksum)
                    continue
                frames.append(
                    _read_frame(bytes(memoryview(buffer)[start : start + total]), headers)
                )
                start += total
                self._wanted = _PRELUDE.size
        except BrokenFrame:
            self.is_broken = True
            if not frames:
                raise
        if start:
            del buffer[:start]
        return frames

    def finish(self) -> None:
        """Note the end of the stream. Raises `BrokenFrame` if it cuts a frame, or if one was
        broken."""
        if self.is_broken or self._buffer:
            raise BrokenFrame("the stream is broken" if self.is_broken else "a frame is cut")


def _check_prelude(buffer: bytearray, start: int, total: int, headers: int, checksum: int) -> int:
    """The length of a frame, if its prelude is right."""
    if crc32(memoryview(buffer)[start : start + 8]) != checksum:
        raise BrokenFrame("a wrong checksum of a prelude")
    if headers > MAX_HEADERS or total > MAX_FRAME or total < headers + _OVERHEAD:
        raise BrokenFrame("a frame of an impossible length")
    return total


def _read_frame(raw: bytes, headers: int) -> Frame:
    end = len(raw) - _CHECKSUM.size
    if crc32(memoryview(raw)[:end]) != _CHECKSUM.unpack_from(raw, end)[0]:
        raise BrokenFrame("a wrong checksum of a frame")
    start = _PRELUDE.size
    return Frame(_read_headers(raw[start : start + headers]), raw[start + headers : end])


def _read_headers(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    place = 0
    try:
        while place < len(raw):
            size = raw[place]
            name = raw[place + 1 : place + 1 + size]
            kind = raw[place + 1 + size]
            place += size + 2
            if kind in (_STRING, _BYTES):
                (length,) = _LENGTH.unpack_from(raw, place)
                place += _LENGTH.size
            else:
                length = _SIZES[kind]
            value = raw[place : place + length]
            place += length
            if place > len(raw):
                raise BrokenFrame("a header without an end")
            if kind == _STRING:
                found[name.decode()] = value.decode()
    except (KeyError, IndexError, struct.error, UnicodeDecodeError):
        raise BrokenFrame("an unreadable header") from None
    return found


def encode_frame(headers: dict[str, str], payload: bytes) -> bytes:
    """A frame with headers of type string."""
    encoded = b"".join(
        struct.pack(">B", len(name.encode()))
        + name.encode()
        + struct.pack(">BH", _STRING, len(value.encode()))
        + value.encode()
        for name, value in headers.items()
    )
    lengths = struct.pack(">II", len(encoded) + len(payload) + _OVERHEAD, len(encoded))
    frame = lengths + _CHECKSUM.pack(crc32(lengths)) + encoded + payload
    return frame + _CHECKSUM.pack(crc32(frame))
