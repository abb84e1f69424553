"""The size of an image, read off the first bytes of its file."""

from base64 import b64decode
from struct import error as StructError
from struct import unpack_from
from typing import Final

Size = tuple[int, int]

HEAD: Final = 64 * 1024
"""Letters of base64 that are looked at; a JPEG may have a thumbnail before its size."""

_JPEG_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of a frame header (ITU T.81, B.1.1.3): the others of that range are no frames."""


def size_of(encoded: str) -> Size | None:
    """Width and height of an image in base64; `None` where they can't be read."""
    head = encoded[:HEAD]
    try:
        data = b64decode(head[: len(head) - len(head) % 4])
        return _size(data)
    except (ValueError, StructError):
        return None


def _size(data: bytes) -> Size | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = unpack_from(">II", data, 16)
        return width, height
    if data.startswith((b"GIF87a", b"GIF89a")):
        width, height = unpack_from("<HH", data, 6)
        return width, height
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    return None


def _jpeg(data: bytes) -> Size | None:
    place = 2
    while place + 4 <= len(data):
        marker, length = unpack_from(">xBH", data, place)
        if marker in _JPEG_FRAMES:
            height, width = unpack_from(">HH", data, place + 5)
            return width, height
        place += 2 + length
    return None


def _webp(data: bytes) -> Size | None:
    match data[12:16]:
        case b"VP8 ":
            width, height = unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            width = int.from_bytes(data[24:27], "little") + 1
            return width, int.from_bytes(data[27:30], "little") + 1
        case _:
            return None
