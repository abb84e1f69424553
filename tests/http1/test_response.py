"""Responses out of bytes, however these are cut."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.http1.response import MAX_HEAD, ResponseParser

H = b"HTTP/1.1 200 OK\r\n"
CHUNKED = H + b"transfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Read:
    """What a response came to."""

    status: int | None
    body: bytes
    done: bool
    reusable: bool
    broken: bool


def read(*segments: bytes, is_head: bool = False, end: bool = False) -> Read:
    parser = ResponseParser(is_head=is_head)
    body = b"".join([parser.feed(segment) for segment in segments])
    if end:
        parser.end()
    return Read(parser.status, body, parser.is_done, parser.is_reusable, parser.error is not None)


WHOLE: dict[str, tuple[bytes, bytes, bool]] = {
    "length": (H + b"content-length: 5\r\n\r\nhello", b"hello", True),
    "no body": (H + b"content-length: 0\r\n\r\n", b"", True),
    "leading zeros": (H + b"content-length: 005\r\n\r\nhello", b"hello", True),
    "chunks": (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello", True),
    "no chunks": (CHUNKED + b"0\r\n\r\n", b"", True),
    "extensions": (CHUNKED + b'5;a=b;c="d e";f\r\nhello\r\n0;x\r\n\r\n', b"hello", True),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nconnection: close\r\nx: y\r\n\r\n", b"hello", True),
    "zeros": (CHUNKED + b"00005\r\nhello\r\n0000\r\n\r\n", b"hello", True),
    "line ends in chunks": (CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", True),
    "capitals": (
        H + b"Transfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
        b"0123456789",
        True,
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "204 with a length": (b"HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n", b"", True),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b"", True),
    "304 with chunks": (b"HTTP/1.1 304 N\r\ntransfer-encoding: chunked\r\n\r\n", b"", True),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: a\r\ncontent-length: 9\r\n\r\n"
        + H
        + b"content-length: 2\r\n\r\nok",
        b"ok",
        True,
    ),
    "close": (H + b"connection: close\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
    "close among others": (
        H + b"Connection: x, Close\r\ncontent-length: 2\r\n\r\nok",
        b"ok",
        False,
    ),
    "close, in chunks": (CHUNKED[:-2] + b"connection: close\r\n\r\n0\r\n\r\n", b"", False),
    "1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
    "1.0 kept": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
        b"ok",
        True,
    ),
    "an upgrade that is only offered": (
        H + b"upgrade: h2c\r\nconnection: Upgrade\r\ncontent-length: 2\r\n\r\nok",
        b"ok",
        True,
    ),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", b"ok", True),
}

BROKEN = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "not a status": b"HTTP/1.1 abc OK\r\n",
    "a short status": b"HTTP/1.1 20 OK\r\n",
    "a long status": b"HTTP/1.1 2000 OK\r\n",
    "lines that end in LF": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "space in a name": H + b"a b: c\r\n\r\n",
    "space after a name": H + b"content-length : 2\r\n\r\nok",
    "a folded line": H + b"a: b\r\n c\r\n\r\n",
    "NUL": H + b"a: b\0c\r\n\r\n",
    "two lengths": H + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok",
    "the same length twice": H + b"content-length: 2\r\ncontent-length: 2\r\n\r\nok",
    "a list of lengths": H + b"content-length: 2, 2\r\n\r\nok",
    "a signed length": H + b"content-length: +2\r\n\r\nok",
    "a negative length": H + b"content-length: -2\r\n\r\nok",
    "an empty length": H + b"content-length: \r\n\r\nok",
    "a hexadecimal length": H + b"content-length: 0x2\r\n\r\nok",
    "an endless length": H + b"content-length: " + b"9" * 5000 + b"\r\n\r\nok",
    "length, then chunks": H + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks, then length": CHUNKED[:-2] + b"content-length: 2\r\n\r\n0\r\n\r\n",
    "chunks twice": CHUNKED[:-2] + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": H + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "no coding": H + b"transfer-encoding: identity\r\n\r\nok",
    "101": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "101 without an upgrade": b"HTTP/1.1 101 Switching\r\n\r\n",
    "blank lines first": b"\r\n\r\n" + H + b"content-length: 2\r\n\r\nok",
    "not a chunk size": CHUNKED + b"x\r\nhello\r\n",
    "a signed chunk size": CHUNKED + b"-5\r\nhello\r\n",
    "an endless chunk size": CHUNKED + b"f" * 17 + b"\r\n",
    "no chunk size": CHUNKED + b"\r\nhello\r\n",
    "a chunk that goes on": CHUNKED + b"2\r\nhello\r\n",
    "a length in the trailers": CHUNKED + b"0\r\ncontent-length: 3\r\n\r\n",
    "chunk lines that end in LF": CHUNKED + b"2\nok\n0\n\n",
}


def cuts(data: bytes) -> list[list[bytes]]:
    """The same bytes whole, one by one, and cut in two everywhere."""
    in_two = [[data[:at], data[at:]] for at in range(1, len(data))] if len(data) < 1000 else []
    return [[data], [data[at : at + 1] for at in range(len(data))], *in_two]


@pytest.mark.parametrize("name", WHOLE)
def test_a_response_is_the_same_however_it_is_cut(name: str) -> None:
    data, body, reusable = WHOLE[name]
    for cut in cuts(data):
        found = read(*cut)
        assert (found.body, found.done, found.reusable) == (body, True, reusable), cut
        assert not found.broken


@pytest.mark.parametrize("name", WHOLE)
def test_no_prefix_of_a_response_looks_complete(name: str) -> None:
    data, _, _ = WHOLE[name]
    for at in range(len(data)):
        found = read(data[:at], end=True)
        assert found.broken
        assert not found.done


@pytest.mark.parametrize("extra", [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\r\n" * 5, b"x", H, b"\0"])
@pytest.mark.parametrize("name", WHOLE)
def test_a_byte_after_the_end_is_noticed_and_never_read(name: str, extra: bytes) -> None:
    data, body, _ = WHOLE[name]
    for cut in cuts(data + extra):
        found = read(*cut)
        assert (found.body, found.done, found.reusable) == (body, True, False), cut
        assert not found.broken


def test_a_second_response_is_not_part_of_the_first() -> None:
    second = CHUNKED + b"6\r\npoison\r\n0\r\n\r\n"
    for data, body, _ in WHOLE.values():
        found = read(data + second)
        assert (found.body, found.reusable) == (body, False)


@pytest.mark.parametrize("name", BROKEN)
def test_invalid_http_is_refused_however_it_is_cut(name: str) -> None:
    for cut in cuts(BROKEN[name]):
        found = read(*cut)
        assert found.broken, cut
        assert not found.done


def test_a_body_before_a_violation_is_delivered() -> None:
    found = read(CHUNKED + b"2\r\nok\r\nnot a size\r\n")
    assert found.body == b"ok"
    assert found.broken


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_without_a_length_the_body_ends_with_the_connection(version: bytes) -> None:
    data = b"HTTP/%b 200 OK\r\nx: y\r\n\r\nhello" % version
    for cut in cuts(data):
        assert read(*cut) == Read(200, b"hello", done=False, reusable=False, broken=False)
        assert read(*cut, end=True) == Read(200, b"hello", done=True, reusable=False, broken=False)


def test_a_response_to_head_has_no_body_whatever_its_headers_say() -> None:
    for headers in (b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n"):
        for cut in cuts(H + headers + b"\r\n"):
            found = read(*cut, is_head=True)
            assert (found.body, found.done, found.reusable) == (b"", True, True)
    assert not read(H + b"content-length: 1\r\n\r\nx", is_head=True).reusable
    assert read(H + b"\r\n", is_head=True).done


@pytest.mark.parametrize("status", [0, 99, 200, 226, 499, 529, 599, 600, 999])
def test_a_status_is_a_number(status: int) -> None:
    data = b"HTTP/1.1 %03d What\r\ncontent-length: 2\r\n\r\nok" % status
    for cut in cuts(data):
        assert read(*cut) == Read(status, b"ok", done=True, reusable=True, broken=False)


def test_headers_keep_their_order_in_lower_case_without_trailers() -> None:
    data = H + b"X-One:  1 \r\nx-two: \r\nX-One:\xff\r\ntransfer-encoding: chunked\r\n\r\n"
    for cut in cuts(data + b"0\r\nX-Late: 1\r\n\r\n"):
        parser = ResponseParser()
        for segment in cut:
            parser.feed(segment)
        found = [(name, value.strip()) for name, value in parser.headers]
        assert found[:3] == [(b"x-one", b"1"), (b"x-two", b""), (b"x-one", b"\xff")]
        assert len(found) == 4


@pytest.mark.parametrize("step", [100, 65536, 10**6])
@pytest.mark.parametrize(
    "endless",
    [
        H + b"a: " + b"b" * MAX_HEAD,
        H + b"a: b\r\n" * (MAX_HEAD // 6),
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD // 25 + 1),
        CHUNKED + b"0\r\n" + b"a: b\r\n" * (MAX_HEAD // 6 + 10),
        CHUNKED + b"1;" + b"a" * MAX_HEAD + b"a" * 200,
    ],
    ids=["a header", "headers", "interim responses", "trailers", "an extension"],
)
def test_an_endless_head_or_trailer_is_refused(endless: bytes, step: int) -> None:
    found = read(*(endless[at : at + step] for at in range(0, len(endless), step)))
    assert found.broken


def test_a_long_head_within_the_limit_is_read() -> None:
    data = H + b"a: " + b"b" * (MAX_HEAD - 100) + b"\r\ncontent-length: 2\r\n\r\nok"
    assert read(data).body == b"ok"
    assert read(*cuts(data)[1]).body == b"ok"


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=10), st.data())
def test_chunks_are_joined_however_they_are_cut(chunks: list[bytes], data: st.DataObject) -> None:
    wire = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    wire += b"0\r\n\r\n"
    places = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=8)))
    cut = [wire[a:b] for a, b in zip([0, *places], [*places, len(wire)], strict=True)]
    assert read(*cut) == Read(200, b"".join(chunks), done=True, reusable=True, broken=False)


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=60), max_size=6), st.sampled_from([b"", H, CHUNKED]))
def test_arbitrary_bytes_end_in_a_response_or_an_error(segments: list[bytes], first: bytes) -> None:
    found = read(first, *segments, end=True)
    assert found.done is not found.broken
