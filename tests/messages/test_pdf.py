"""Pages and text of a PDF, by its structure."""

import zlib
from base64 import b64encode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.messages.pdf import MOST_READ, Pdf, read_pdf
from ccfallback.messages.tokens import estimate

SENTENCE = b"BT /F1 12 Tf 72 700 Td (" + b"word " * 40 + b") Tj ET"


def stream(content: bytes, more: bytes = b"", *, packed: bool = True) -> bytes:
    if packed:
        content, more = zlib.compress(content), more + b"/Filter /FlateDecode"
    return b"4 0 obj\n<< /Length %d %b >>\nstream\n%b\nendstream\nendobj\n" % (
        len(content),
        more,
        content,
    )


PAGE = b"3 0 obj\n<< /Type /Page /Parent 2 0 R >>\nendobj\n"


@pytest.mark.parametrize("packed", [False, True])
def test_the_text_of_a_page_is_counted(packed: bool) -> None:
    assert read_pdf(b"%PDF-1.4\n" + PAGE + stream(SENTENCE, packed=packed)) == Pdf(1, 200)


@pytest.mark.parametrize(
    ("content", "letters"),
    [
        (b"BT [(He) -20 (llo)] TJ ET", 5),
        (b"BT <00480065006C006C006F> Tj ET", 5),
        (rb"BT (a\)b) Tj (c) ' ET", 5),
        (b"0 0 m 10 10 l S", None),
        (b"/CIDInit begincmap <0000> <FFFF> endcmap", None),
    ],
)
def test_the_letters_of_a_page(content: bytes, letters: int | None) -> None:
    assert read_pdf(PAGE + stream(content)).letters == letters


def test_pages_in_a_compressed_object_stream_are_counted() -> None:
    objects = b"3 0 5 40 << /Type /Page /Parent 2 0 R >> << /Type/Page >> << /Type /Pages >>"
    raw = b"%PDF-1.5\n" + stream(objects, b"/Type /ObjStm /N 3") + stream(SENTENCE)
    assert read_pdf(raw) == Pdf(2, 200)


@pytest.mark.parametrize("more", [b"/Subtype /Image", b"/Length1 900"])
def test_images_and_fonts_have_no_text(more: bytes) -> None:
    assert read_pdf(PAGE + stream(SENTENCE, more)) == Pdf(1, None)


def test_what_is_decompressed_is_bounded() -> None:
    bomb = stream(b"(x) Tj " * MOST_READ)
    assert read_pdf(PAGE + bomb * 3) == Pdf(1, None)


@given(st.binary() | st.binary().map(lambda raw: PAGE + b"<< /FlateDecode >> stream\n" + raw))
def test_any_bytes_are_read(raw: bytes) -> None:
    assert read_pdf(raw).pages >= 0


def test_a_dense_page_has_as_many_tokens_as_anthropic_documents() -> None:
    dense = b"BT (" + b"seven words and some more " * 150 + b") Tj ET"
    source = {"type": "base64", "data": b64encode(PAGE * 10 + stream(dense) * 10).decode()}
    document = {"type": "document", "source": source}
    members = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": [document]}]}
    assert 10 * 1500 <= estimate(Body.parse(msgspec.json.encode(members))) <= 10 * 3000
