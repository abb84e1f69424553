"""What the first bytes of an image say: its kind and its size in pixels.

No image is decoded. Of data in base64 only the head is read.
"""

from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, Final

Size = tuple[int, int]
"""Width and height in pixels."""

HEAD: Final = 64 * 1024
"""Base64 characters that are read; a JPEG may have a preview before its size."""

_KIND_HEAD: Final = 64
"""Base64 characters that tell the kind."""

_JPEG_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of a frame header (ITU T.81, B.1.1.3); the other three of that range are not."""


def base64_data(block: Mapping[str, Any]) -> str:
    """The base64 data of an image or document block; empty if its source has another form."""
    source = block.get("source")
    if not isinstance(source, dict) or source.get("type") != "base64":
        return ""
    data = source.get("data")
    return data if isinstance(data, str) else ""


def media_type(data: str) -> str:
    """The media type of an image in base64, by its first bytes; empty if they are unknown."""
    head = _decode(data[:_KIND_HEAD])
    for name, magic, _ in _KINDS:
        if head.startswith(magic) and (name != "image/webp" or head[8:12] == b"WEBP"):
            return name
    return ""


def image_size(data: str) -> Size | None:
    """The size of an image in base64; `None` if it can't be read."""
    kind = media_type(data)
    head = _decode(data[:HEAD]) if kind else b""
    return next((measure(head) for name, _, measure in _KINDS if name == kind), None)


def with_true_media_type(image: dict[str, Any]) -> dict[str, Any]:
    """The image block with the media type that its bytes have; itself if it has it already, or
    if they are unknown."""
    kind = media_type(base64_data(image))
    if not kind or image["source"].get("media_type") == kind:
        return image
    return {**image, "source": {**image["source"], "media_type": kind}}


def _decode(data: str) -> bytes:
    # Some encoders break lines, as MIME does.
    data = "".join(data.split())
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
        if marker in _JPEG_FRAMES:
            return _number(head, at + 7, 2), _number(head, at + 5, 2)
        # Any number of fill bytes may precede a marker (ITU T.81, B.1.1.2). Every segment before
        # the frame begins with its length.
        at += 1 if marker == 0xFF else 2 + max(2, _number(head, at + 2, 2))
    return None


def _webp(head: bytes) -> Size | None:
    form = head[12:16]
    if form == b"VP8L" and len(head) >= 25:
        bits = _number(head, 21, 4, little=True)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if form == b"VP8X" and len(head) >= 30:
        return 1 + _number(head, 24, 3, little=True), 1 + _number(head, 27, 3, little=True)
    if form == b"VP8 " and len(head) >= 30:
        width, height = _number(head, 26, 2, little=True), _number(head, 28, 2, little=True)
        return width & 0x3FFF, height & 0x3FFF
    return None


_KINDS: Final[tuple[tuple[str, bytes, Callable[[bytes], Size | None]], ...]] = (
    ("image/png", b"\x89PNG\r\n\x1a\n", _png),
    ("image/jpeg", b"\xff\xd8\xff", _jpeg),
    ("image/gif", b"GIF8", _gif),
    ("image/webp", b"RIFF", _webp),
)
"""Media type, first bytes, and how to read the size."""
