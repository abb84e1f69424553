"""Pages and text of a PDF, by its structure."""

import zlib
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.messages.pdf import MOST_READ, MOST_STREAMS, Allowance, Pdf, read_pdf
from ccfallback.messages.tokens import PAGE as PAGE_TOKENS
from ccfallback.messages.tokens import TEXT_OF_PAGE, estimate
from tests.proportion import grows_in_proportion

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


@pytest.mark.usefixtures("untraced")
def test_the_documents_of_a_request_are_bounded_together() -> None:
    bomb = document(PAGE + stream(b"(x) Tj " * (MOST_READ // 7)))
    unread = (PAGE_TOKENS + TEXT_OF_PAGE) * 20
    assert estimate_of(*[bomb] * 20) - estimate_of(bomb) < unread


def broken(content: bytes) -> bytes:
    """A stream that can't be decompressed to its end."""
    packed = zlib.compress(content)[:-4] + b"\xff\xff\xff\xff"
    return b"4 0 obj\n<< /FlateDecode >>\nstream\n%b\nendstream\nendobj\n" % packed


def test_a_stream_that_is_broken_at_its_end_counts_as_read() -> None:
    allowance = Allowance()
    read_pdf(PAGE + broken(b"(x) Tj " * 100_000), allowance)
    assert allowance.left < MOST_READ - 600_000
    assert read_pdf(PAGE + broken(b"(x) Tj ") + stream(SENTENCE)) == Pdf(1, 200)


def test_the_streams_of_a_pdf_are_bounded() -> None:
    images = stream(b"", b"/Subtype /Image", packed=False) * MOST_STREAMS
    assert read_pdf(PAGE + images) == Pdf(1, None)
    assert read_pdf(PAGE + images + stream(SENTENCE)) == Pdf(1, None)


SHAPES: dict[str, Callable[[int], bytes]] = {
    "streams in a stream": lambda n: b"obj/FlateDecode>>stream\n" * n + b"endstream",
    "streams without an end": lambda n: b"obj/FlateDecode>>stream\n" * n,
    "broken streams": lambda n: b"obj/FlateDecode>>stream\nx endstream\n" * n,
    "images": lambda n: b"obj/Image>>stream\n" * n,
    "ends of dictionaries": lambda n: b">>" * n,
    "white space": lambda n: b">>" + b" " * n + b"/Type" + b" " * n,
    "strings in a string": lambda n: stream(b"(x) Tj " + rb"(\(\(" * n),
    "escaped strings": lambda n: stream(b"(x) Tj (" + rb"\(" * n),
    "numbers without an end": lambda n: stream(b"(x) Tj " + b"<00" * n),
    "a number without an end": lambda n: stream(b"(x) Tj <" + b"00" * n),
    "marks of text": lambda n: stream(b"(x) Tj " + b")" * n + b" " * n),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_work_grows_in_proportion_to_a_pdf(shape: str) -> None:
    # The time of what a bound cuts off does not grow at all.
    grows_in_proportion(lambda count: read_pdf(SHAPES[shape](count)), 200)


@given(st.binary() | st.binary().map(lambda raw: PAGE + b"<< /FlateDecode >> stream\n" + raw))
def test_any_bytes_are_read(raw: bytes) -> None:
    assert read_pdf(raw).pages >= 0


def document(raw: bytes) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "base64", "data": b64encode(raw).decode()}}


def estimate_of(*blocks: dict[str, Any]) -> int:
    members = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": blocks}]}
    return estimate(Body.parse(msgspec.json.encode(members)))


def test_a_dense_page_has_as_many_tokens_as_anthropic_documents() -> None:
    dense = b"BT (" + b"seven words and some more " * 150 + b") Tj ET"
    found = estimate_of(document(PAGE * 10 + stream(dense) * 10))
    assert 10 * 1500 <= found <= 10 * 3000
