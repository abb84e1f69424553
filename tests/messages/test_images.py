"""The size of an image, by its first bytes."""

from base64 import b64encode
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.images import size_of

PNG = b"\x89PNG\r\n\x1a\n" + pack(">I4sII", 13, b"IHDR", 640, 480)
GIF = b"GIF89a" + pack("<HH", 640, 480)
JPEG = (
    b"\xff\xd8"
    + pack(">BBH", 0xFF, 0xE0, 16) + bytes(14)
    + pack(">BBHBHH", 0xFF, 0xC2, 17, 8, 480, 640)
)  # fmt: skip
LOSSY = b"RIFF\0\0\0\0WEBPVP8 " + bytes(4) + b"\0\0\0\x9d\x01\x2a" + pack("<HH", 640, 480)
LOSSLESS = b"RIFF\0\0\0\0WEBPVP8L" + bytes(4) + b"\x2f" + pack("<I", 639 | 479 << 14)
EXTENDED = b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\x7f\x02\0\xdf\x01\0"


@pytest.mark.parametrize("data", [PNG, GIF, JPEG, LOSSY, LOSSLESS, EXTENDED])
def test_every_format_says_its_size(data: bytes) -> None:
    assert size_of(b64encode(data).decode()) == (640, 480)


@given(data=st.binary(max_size=60) | st.sampled_from([PNG, GIF, JPEG, LOSSY]).map(lambda d: d[:-3]))
def test_no_bytes_raise(data: bytes) -> None:
    size_of(b64encode(data).decode())


@pytest.mark.parametrize("text", ["", "not base64 ü", "AAA", "====", "AAAAA"])
def test_no_text_raises(text: str) -> None:
    assert size_of(text) is None
