"""What the first bytes of an image say: its kind and its size."""

from base64 import b64encode
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.media import base64_data, image_size, media_type, with_true_media_type
from tests.rectify.drafts import PNG, image


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
    # A whole lossless file has 25 bytes before its pixels.
    (webp(b"VP8L", bytes(4) + b"\x2f" + pack("<I", 399 | 351 << 14)), "webp", (400, 352)),
    (webp(b"VP8L", bytes(4) + b"\x2f" + bytes(3)), "webp", None),
    # Fill bytes may precede any marker.
    (b"\xff\xd8\xff\xff\xff\xc2\0\x11\x08" + pack(">HH", 300, 400), "jpeg", (400, 300)),
    (webp(b"none", bytes(30)), "webp", None),
    (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "webp", None),
    (b"\xff\xd8\xff\xe0", "jpeg", None),
    (b"\x89PNG\r\n\x1a\n", "png", None),
    (b"GIF8", "gif", None),
    (b"RIFF\x00\x00\x00\x00WAVEfmt ", "", None),
    (b"%PDF-1.7", "", None),
    (b"", "", None),
]


@pytest.mark.parametrize(("head", "kind", "size"), IMAGES)
def test_the_head_says_kind_and_size(head: bytes, kind: str, size: tuple[int, int] | None) -> None:
    data = b64encode(head).decode()
    assert media_type(data) == (f"image/{kind}" if kind else "")
    assert image_size(data) == size


def test_a_wrong_media_type_is_corrected() -> None:
    right = image()
    assert with_true_media_type(right) is right
    assert with_true_media_type(image(PNG, "image/jpeg", a=1)) == image(a=1)
    for unknown in (image("AAAA"), {"type": "image"}, {"type": "image", "source": {"url": "u"}}):
        assert with_true_media_type(unknown) is unknown
        assert not media_type(base64_data(unknown))


@pytest.mark.usefixtures("untraced")
@given(st.text(max_size=20) | st.binary(max_size=40).map(lambda raw: b64encode(raw).decode()))
def test_no_text_raises(data: str) -> None:
    assert media_type(data) or image_size(data) is None


@given(st.sampled_from(IMAGES), st.integers(0, 60), st.binary(max_size=12))
def test_a_damaged_image_does_not_raise(
    known: tuple[bytes, str, object], at: int, noise: bytes
) -> None:
    size = image_size(b64encode(known[0][:at] + noise).decode())
    assert size is None or len(size) == 2


@pytest.mark.parametrize("space", ["\n", "\r\n", " "])
def test_lines_may_be_broken(space: str) -> None:
    data = b64encode(IMAGES[0][0]).decode()
    assert image_size(space.join(data[at : at + 8] for at in range(0, len(data), 8))) == (
        3000,
        1000,
    )


@pytest.mark.parametrize("text", ["", "not base64 ü", "AAA", "====", "AAAAA"])
def test_what_is_not_an_image_has_no_size(text: str) -> None:
    assert image_size(text) is None
