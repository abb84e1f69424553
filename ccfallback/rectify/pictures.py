"""What an image is, as its first bytes say: its kind, its size on the screen and in bytes.

No image is decoded; of what is sent in base64 only the head is looked at.
"""

from base64 import b64decode
from collections.abc import Callable
from typing import Any, Final

from ccfallback.rectify.turns import Block, word

_HEAD: Final = 65536
"""Letters of base64 that are looked at: a JPEG may carry a preview before its size."""

_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of a JPEG that are followed by its size."""

Size = tuple[int, int]


def data_of(image: Block) -> str:
    """The base64 text of an image or document; empty where it is sent otherwise."""
    source = image.get("source")
    return word(source, "data") if word(source, "type") == "base64" else ""


def media_type_of(data: str) -> str:
    """What kind of image a base64 text is; empty where it is none that is known."""
    head = _head(data[:64])
    for media_type, magic, _ in _KINDS:
        if head.startswith(magic) and (media_type != "image/webp" or head[8:12] == b"WEBP"):
            return media_type
    return ""


def size_of(data: str) -> Size | None:
    """Width and height in pixels; `None` where they can't be found."""
    media_type = media_type_of(data)
    head = _head(data[:_HEAD])
    for kind, _, measure in _KINDS:
        if kind == media_type:
            return measure(head)
    return None


def _head(data: str) -> bytes:
    try:
        return b64decode(data[: len(data) // 4 * 4], validate=True)
    except ValueError:
        return b""


def _number(head: bytes, start: int, size: int, *, little: bool = False) -> int:
    return int.from_bytes(head[start : start + size], "little" if little else "big")


def _png(head: bytes) -> Size | None:
    return (_number(head, 16, 4), _number(head, 20, 4)) if len(head) >= 24 else None


def _gif(head: bytes) -> Size | None:
    if len(head) < 10:
        return None
    return _number(head, 6, 2, little=True), _number(head, 8, 2, little=True)


def _jpeg(head: bytes) -> Size | None:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker in _FRAMES:
            return _number(head, at + 7, 2), _number(head, at + 5, 2)
        # A fill byte stands alone; every other part says how long it is.
        at += 1 if marker == 0xFF else 2 + max(2, _number(head, at + 2, 2))
    return None


def _webp(head: bytes) -> Size | None:
    if len(head) < 30:
        return None
    form = head[12:16]
    if form == b"VP8X":
        return 1 + _number(head, 24, 3, little=True), 1 + _number(head, 27, 3, little=True)
    if form == b"VP8L":
        bits = _number(head, 21, 4, little=True)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return (
        _number(head, 26, 2, little=True) & 0x3FFF,
        _number(head, 28, 2, little=True) & 0x3FFF,
    )


_KINDS: Final[tuple[tuple[str, bytes, Callable[[bytes], Size | None]], ...]] = (
    ("image/png", b"\x89PNG\r\n\x1a\n", _png),
    ("image/jpeg", b"\xff\xd8\xff", _jpeg),
    ("image/gif", b"GIF8", _gif),
    ("image/webp", b"RIFF", _webp),
)


def corrected(image: Block) -> Block:
    """An image whose media type is what it is; the very same where it was, or is not known."""
    source: Any = image.get("source")
    media_type = media_type_of(data_of(image))
    if not media_type or source.get("media_type") == media_type:
        return image
    return {**image, "source": {**source, "media_type": media_type}}
