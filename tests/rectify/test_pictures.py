"""What an image is, as its first bytes say."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.rectify.pictures import corrected, data_of, media_type_of, size_of
from tests.rectify.structure import PNG, image


def jpeg(width: int, height: int, preview: int = 0) -> bytes:
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    extra = b"\xff\xe1" + (preview + 2).to_bytes(2, "big") + b"x" * preview
    return b"\xff\xd8" + extra + b"\xff\xff\xc0\x00\x11\x08" + size + b"\x03\x01\x22\x00"


def webp(form: bytes, rest: bytes) -> bytes:
    return b"RIFF\x00\x00\x00\x00WEBP" + form + rest


IMAGES = [
    (b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x0b\xb8\x00\x00\x03\xe8", "png", (3000, 1000)),
    (b"GIF89a\x20\x03\x58\x02", "gif", (800, 600)),
    (jpeg(800, 600), "jpeg", (800, 600)),
    (jpeg(4000, 2, 20000), "jpeg", (4000, 2)),
    (jpeg(4000, 2, 60000), "jpeg", None),
    (
        webp(b"VP8X", b"\x0a\x00\x00\x00" + bytes(4) + b"\x1f\x03\x00\x57\x02\x00"),
        "webp",
        (800, 600),
    ),
    (webp(b"VP8L", b"\x00" * 4 + b"\x2f\x1f\xc3\x95\x00" + bytes(9)), "webp", (800, 600)),
    (
        webp(b"VP8 ", b"\x00" * 4 + b"\x00" * 3 + b"\x9d\x01\x2a\x20\x03\x58\x02"),
        "webp",
        (800, 600),
    ),
    (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "webp", None),
    (b"\xff\xd8\xff\xe0", "jpeg", None),
    (b"\x89PNG\r\n\x1a\n", "png", None),
    (b"GIF8", "gif", None),
    (b"RIFF\x00\x00\x00\x00WAVEfmt ", "", None),
    (b"%PDF-1.7", "", None),
    (b"", "", None),
]


@pytest.mark.parametrize(("head", "kind", "size"), IMAGES)
def test_its_head_says_what_it_is(head: bytes, kind: str, size: tuple[int, int] | None) -> None:
    data = b64encode(head).decode()
    assert media_type_of(data) == (f"image/{kind}" if kind else "")
    assert size_of(data) == size


def test_it_is_called_what_it_is() -> None:
    right = image()
    assert corrected(right) is right
    assert corrected(image(PNG, "image/jpeg", a=1)) == image(a=1)
    for unknown in (image("AAAA"), {"type": "image"}, {"type": "image", "source": {"url": "u"}}):
        assert corrected(unknown) is unknown
        assert not media_type_of(data_of(unknown))


@given(st.text(max_size=20) | st.binary(max_size=40).map(lambda raw: b64encode(raw).decode()))
def test_nothing_is_too_strange(data: str) -> None:
    assert media_type_of(data) or size_of(data) is None


@given(st.sampled_from(IMAGES), st.integers(0, 60), st.binary(max_size=12))
def test_nothing_torn_is_too_strange(
    known: tuple[bytes, str, object], at: int, noise: bytes
) -> None:
    size = size_of(b64encode(known[0][:at] + noise).decode())
    assert size is None or len(size) == 2
