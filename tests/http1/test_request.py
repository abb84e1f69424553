"""Requests as bytes, and the heads of requests and responses."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ccfallback.http1 import FixedHeaders, Headers, LocalProtocolError, Origin, Request
from ccfallback.http1.request import RequestEncoder, encode_head

ORIGIN = Origin("http", "up.test", 80)


def encode(
    method: str = "POST",
    target: bytes = b"/",
    headers: Headers | None = None,
    content: Any = b"",
    origin: Origin = ORIGIN,
) -> bytes:
    """All that is sent."""

    async def collect() -> bytes:
        encoder = RequestEncoder(Request(origin, method, target, headers or [], content))
        if encoder.body is not None:
            return encoder.head + encoder.body
        return encoder.head + b"".join([piece async for piece in encoder.pieces()])

    return asyncio.run(collect())


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


def test_the_host_header_comes_first() -> None:
    headers = [(b"X-One", b"1"), (b"x-two", b""), (b"Host", b"elsewhere"), (b"x-two", b" \xff\t")]
    assert encode("POST", b"/a%20b?q=1", headers, b"hi") == (
        b"POST /a%20b?q=1 HTTP/1.1\r\nHost: elsewhere\r\nX-One: 1\r\nx-two: \r\n"
        b"x-two:  \xff\t\r\ncontent-length: 2\r\n\r\nhi"
    )


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (Origin("http", "up.test", 80), b"up.test"),
        (Origin("https", "up.test", 443), b"up.test"),
        (Origin("https", "up.test", 80), b"up.test:80"),
        (Origin("http", "up.test", 8080), b"up.test:8080"),
        (Origin("http", "::1", 80), b"[::1]"),
        (Origin("http", "::1", 8080), b"[::1]:8080"),
    ],
)
def test_a_missing_host_is_added(origin: Origin, host: bytes) -> None:
    assert encode("GET", origin=origin) == b"GET / HTTP/1.1\r\nhost: %b\r\n\r\n" % host


@pytest.mark.parametrize("bad", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b", b"a\r\n b"])
def test_a_header_cannot_end_its_line(bad: bytes) -> None:
    for header in ((b"x-good", bad), (bad, b"good"), (b"host", bad)):
        with pytest.raises(LocalProtocolError):
            encode("GET", headers=[header])


@pytest.mark.parametrize("name", [b"", b"a b", b"a:b", b"a\xff", b" a", b"a ", b"\ta"])
def test_a_header_name_must_be_a_token(name: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        encode("GET", headers=[(name, b"value")])


@pytest.mark.parametrize(
    "target", [b"", b"/a b", b"/a\r\nb: c", b"/ HTTP/1.1\r\nx: y\r\n\r\nGET /"]
)
def test_a_target_must_be_one_word(target: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        encode("GET", target)


@pytest.mark.parametrize("method", ["GE T", "GET\r\n", "", "GÉT"])
def test_a_method_must_be_a_token(method: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode(method)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"2"), (b"content-length", b"2")],
        [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"3")],
        [(b"content-length", b"+2")],
        [(b"content-length", b"")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"2")],
        [(b"host", b"a"), (b"host", b"b")],
    ],
)
def test_ambiguous_framing_is_not_sent(headers: Headers) -> None:
    with pytest.raises(LocalProtocolError):
        encode(headers=headers, content=b"hi")


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("POST", b"hi", b"2"), ("POST", b"", b"0"), ("GET", b"hi", b"2"), ("GET", b"", None)],
)
def test_a_missing_content_length_is_added(method: str, body: bytes, length: bytes | None) -> None:
    added = b"" if length is None else b"content-length: %b\r\n" % length
    assert encode(method, content=body).endswith(b"up.test\r\n%b\r\n%b" % (added, body))


@pytest.mark.parametrize(("body", "sent"), [(b"hi", b"2\r\nhi\r\n0\r\n\r\n"), (b"", b"0\r\n\r\n")])
def test_a_whole_body_is_one_chunk_if_chunked_is_announced(body: bytes, sent: bytes) -> None:
    announced = [(b"transfer-encoding", b"chunked")]
    assert encode(headers=announced, content=body).endswith(
        b"\r\ntransfer-encoding: chunked\r\n\r\n" + sent
    )


def test_pieces_are_chunks_unless_their_length_is_known() -> None:
    chunks = b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n11\r\n" + b"b" * 17 + b"\r\n0\r\n\r\n"
    for headers in ([], [(b"transfer-encoding", b"chunked")]):
        sent = encode(headers=headers, content=pieces(b"a", b"", b"b" * 17))
        assert sent.endswith(chunks)
        assert sent.count(b"transfer-encoding") == 1
    length = [(b"content-length", b"3")]
    assert encode(headers=length, content=pieces(b"a", b"bc")).endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize("given", [(b"a",), (b"ab", b"cd"), ()])
def test_pieces_must_add_up_to_the_announced_length(given: tuple[bytes, ...]) -> None:
    with pytest.raises(LocalProtocolError):
        encode(headers=[(b"content-length", b"3")], content=pieces(*given))


def test_the_repr_of_a_request_shows_nothing_that_may_be_secret() -> None:
    request = Request(ORIGIN, "POST", b"/?key=hidden", [(b"x-api-key", b"hidden")], b"hidden")
    assert "hidden" not in repr(request)


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1", b"HTTP/1.1 200 OK", b"HTTP/1.1 529 "])
@pytest.mark.parametrize(
    "headers",
    [[], [(b"host", b"localhost")], [(b"x", b""), (b"!#$%&'*+-.^_`|~09aZ", b"\xc3\xa4\t :")]],
)
def test_a_head_is_its_first_line_and_a_line_for_each_header(
    start: bytes, headers: Headers
) -> None:
    lines = [start, *(name + b": " + value for name, value in headers)]
    assert encode_head(start, headers) == b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\ny: b"),
        (b"x", b"a\ry: b"),
        (b"x", b"a\ny: b"),
        (b"x", b"a\r\n\r\nGET / HTTP/1.1"),
        (b"x", b"a\x00b"),
        (b"x y", b"a"),
        (b"x ", b"a"),
        (b"x\xe4", b"a"),
        (b"x:y", b"a"),
        (b"x\r\ny", b"a"),
        (b"x\x7f", b"a"),
        (b"", b"a"),
        (b"", b""),
    ],
)
@pytest.mark.parametrize("start", [b"GET / HTTP/1.1", b"HTTP/1.1 200 OK"])
def test_an_illegal_header_is_refused(start: bytes, header: tuple[bytes, bytes]) -> None:
    for headers in ([header], [(b"first", b""), header, (b"last", b"one")]):
        with pytest.raises(ValueError, match="illegal character"):
            encode_head(start, headers)


@pytest.mark.parametrize(
    "start",
    [
        b"GET /a b HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET / HTTP/1.1\r\nx: y",
        b"GET / HTTP/1.1\n",
        b"G(T / HTTP/1.1",
        b"GET / HTTP/1.0",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 200 \xe4",
        b"HTTP/1.1 200 OK\r\n",
        b"",
    ],
)
def test_an_illegal_first_line_is_refused(start: bytes) -> None:
    with pytest.raises(ValueError, match="illegal character"):
        encode_head(start, [(b"host", b"localhost")])


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-one", b"1"), (b"X-Two", b"\xff ")],
        [(b"x-one", b"1"), (b"Host", b"elsewhere")],
        [(b"content-length", b"2")],
        [(b"transfer-encoding", b"chunked")],
    ],
)
def test_fixed_headers_are_sent_like_others(headers: Headers) -> None:
    fixed = FixedHeaders(headers)
    for method, target in (("POST", b"/"), ("POST", b"/other"), ("GET", b"/")):
        for _ in range(2):
            sent = encode(method, target, fixed, b"hi")
            assert sent == encode(method, target, list(headers), b"hi")
    assert encode("POST", b"/", fixed, pieces(b"hi")) == encode(
        "POST", b"/", list(headers), pieces(b"hi")
    )


@pytest.mark.parametrize(
    "header", [(b"x", b"a\r\nb: c"), (b"x", b"\0"), (b"x y", b"a"), (b"", b"")]
)
def test_illegal_fixed_headers_are_refused_each_time(header: tuple[bytes, bytes]) -> None:
    fixed = FixedHeaders([(b"first", b""), header])
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="illegal character"):
            encode("POST", b"/", fixed, b"hi")
    with pytest.raises(LocalProtocolError, match="illegal character"):
        encode("POST", b"/ HTTP/1.1\r\n", FixedHeaders([(b"first", b"")]), b"hi")
