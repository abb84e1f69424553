"""Requests as bytes."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from ccfallback.http1.request import RequestEncoder


def raw(request: httpx.Request) -> bytes:
    """All that is sent."""

    async def collected() -> bytes:
        outgoing = RequestEncoder(request)
        if outgoing.body is not None:
            return outgoing.head + outgoing.body
        return outgoing.head + b"".join([piece async for piece in outgoing.pieces()])

    return asyncio.run(collected())


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


def test_the_host_comes_first_and_the_rest_as_given() -> None:
    headers = [(b"X-One", b"1"), (b"x-two", b""), (b"Host", b"elsewhere"), (b"x-two", b" \xff\t")]
    request = httpx.Request("POST", "http://up.test/a%20b?q=1", headers=headers, content=b"hi")
    assert raw(request) == (
        b"POST /a%20b?q=1 HTTP/1.1\r\nHost: elsewhere\r\nX-One: 1\r\nx-two: \r\n"
        b"x-two:  \xff\t\r\nContent-Length: 2\r\n\r\nhi"
    )


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://up.test", b"up.test"),
        ("http://up.test:8080", b"up.test:8080"),
        ("http://[::1]:80", b"[::1]"),
        ("http://[::1]:8080", b"[::1]:8080"),
    ],
)
def test_a_host_is_added_where_it_is_missing(url: str, host: bytes) -> None:
    request = httpx.Request("GET", url)
    del request.headers["host"]
    assert raw(request) == b"GET / HTTP/1.1\r\nhost: %b\r\n\r\n" % host


def test_the_target_goes_out_as_it_came_in() -> None:
    request = httpx.Request("GET", "http://up.test/x", extensions={"target": b"/a%2fb/../c?d=%"})
    assert raw(request).startswith(b"GET /a%2fb/../c?d=% HTTP/1.1\r\n")


@pytest.mark.parametrize("bad", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b", b"a\r\n b"])
def test_nothing_in_a_header_ends_its_line(bad: bytes) -> None:
    for header in ((b"x-good", bad), (bad, b"good"), (b"host", bad)):
        with pytest.raises(httpx.LocalProtocolError):
            RequestEncoder(httpx.Request("GET", "http://up.test", headers=[header]))


@pytest.mark.parametrize("name", [b"", b"a b", b"a:b", b"a\xff", b" a", b"a ", b"\ta"])
def test_a_header_is_named_by_a_token(name: bytes) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        RequestEncoder(httpx.Request("GET", "http://up.test", headers=[(name, b"value")]))


@pytest.mark.parametrize(
    "target", [b"", b"/a b", b"/a\r\nb: c", b"/ HTTP/1.1\r\nx: y\r\n\r\nGET /"]
)
def test_a_target_is_one_word(target: bytes) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        RequestEncoder(httpx.Request("GET", "http://up.test", extensions={"target": target}))


@pytest.mark.parametrize("method", ["GE T", "GET\r\n", "", "GÉT"])
def test_a_method_is_a_token(method: str) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        RequestEncoder(httpx.Request(method, "http://up.test"))


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
        [(b"host", b"a"), (b"host", b"b")],
    ],
)
def test_a_body_that_could_be_read_in_two_ways_is_not_sent(
    headers: list[tuple[bytes, bytes]],
) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        RequestEncoder(httpx.Request("POST", "http://up.test", headers=headers, content=b"hi"))


def test_a_whole_body_gets_its_length_where_nobody_gave_it() -> None:
    request = httpx.Request("POST", "http://up.test", content=b"hi")
    del request.headers["content-length"]
    assert raw(request).endswith(b"\r\ncontent-length: 2\r\n\r\nhi")


@pytest.mark.parametrize(("body", "sent"), [(b"hi", b"2\r\nhi\r\n0\r\n\r\n"), (b"", b"0\r\n\r\n")])
def test_a_whole_body_is_one_chunk_where_chunks_are_announced(body: bytes, sent: bytes) -> None:
    request = httpx.Request("POST", "http://up.test", content=body)
    del request.headers["content-length"]
    request.headers["transfer-encoding"] = "chunked"
    assert raw(request).endswith(b"\r\ntransfer-encoding: chunked\r\n\r\n" + sent)


def test_pieces_are_chunks_unless_their_length_is_known() -> None:
    request = httpx.Request("POST", "http://up.test", content=pieces(b"a", b"", b"b" * 17))
    assert raw(request).endswith(b"1\r\na\r\n11\r\n" + b"b" * 17 + b"\r\n0\r\n\r\n")
    request = httpx.Request("POST", "http://up.test", content=pieces(b"a"))
    del request.headers["transfer-encoding"]
    assert raw(request).endswith(b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
    known = {"content-length": "3"}
    request = httpx.Request("POST", "http://up.test", headers=known, content=pieces(b"a", b"bc"))
    assert raw(request).endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize("given", [(b"a",), (b"ab", b"cd"), ()])
def test_pieces_add_up_to_their_length(given: tuple[bytes, ...]) -> None:
    known = {"content-length": "3"}
    request = httpx.Request("POST", "http://up.test", headers=known, content=pieces(*given))
    with pytest.raises(httpx.LocalProtocolError):
        raw(request)
