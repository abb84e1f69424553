"""An upstream's response before anybody knows what it holds: headers, pieces, and its end."""

import asyncio
import gzip
import zlib

import pytest

from ccfallback.http1 import Deadline
from ccfallback.server.response import MAX_EMPTY, MAX_WHOLE, BrokenResponse, UpstreamResponse
from tests.server.scripted_upstreams import Chunk, ScriptedResponse

GZIP = (b"content-encoding", b"gzip")


def opened(*chunks: Chunk, headers: tuple[tuple[bytes, bytes], ...] = ()) -> UpstreamResponse:
    return UpstreamResponse(ScriptedResponse(chunks, headers=list(headers)), Deadline())


def read(found: UpstreamResponse) -> bytes:
    return asyncio.run(found.read_all("idle", 5))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), ""),
        (((b"content-type", b" Text/HTML ; charset=utf-8"),), "text/html"),
        (((b"content-type", b"a/b"), (b"content-type", b"c/d"), (b"x-content-t", b"e/f")), "a/b"),
        (((b"content-type", b"caf\xe9/b"),), "caf\xe9/b"),
    ],
)
def test_the_media_type_is_that_of_the_first_header_without_parameters(
    headers: tuple[tuple[bytes, bytes], ...], expected: str
) -> None:
    found = opened(headers=headers)
    assert found.media_type == expected
    assert found.headers == list(headers)
    assert not found.decoded
    assert not found.is_over


@pytest.mark.parametrize(
    "named",
    [b"identity", b" Identity ", b"", b"none", b"UTF-8", b"aws-chunked", b"identity, utf-8,"],
)
def test_a_body_without_an_encoding_is_read_as_it_is(named: bytes) -> None:
    found = opened(b"\x1f\x8b", headers=((b"content-encoding", named),))
    assert not found.decoded
    assert found.is_readable
    assert read(found) == b"\x1f\x8b"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("named", "packed"),
    [
        (b"identity, gzip", gzip.compress(b"hello", mtime=0)),
        (b"GZIP,identity", gzip.compress(b"hello", mtime=0)),
        (b"deflate", raw_deflate(b"hello")),
        (b"deflate", gzip.compress(b"hello", mtime=0)),
        (b"gzip", zlib.compress(b"hello")),
        (b"gzip", b"hello"),
    ],
    ids=["list", "reversed list", "raw deflate", "gzip as deflate", "zlib as gzip", "plain"],
)
def test_the_body_says_more_of_its_encoding_than_its_header(named: bytes, packed: bytes) -> None:
    for cut in range(1, len(packed) + 1):
        chunks = [chunk for chunk in (packed[:cut], packed[cut:]) if chunk]
        found = opened(*chunks, headers=((b"content-encoding", named),))
        assert found.decoded
        assert found.is_readable
        assert read(found) == b"hello"


@pytest.mark.parametrize("named", [b"br", b"zstd", b"gzip, gzip", b"word"])
def test_an_error_keeps_the_body_that_can_not_be_decoded(named: bytes) -> None:
    headers = [(b"content-encoding", named)]
    for status in (302, 400, 429, 500, 999):
        upstream = ScriptedResponse([b"some", b"thing"], status=status, headers=headers)
        found = UpstreamResponse(upstream, Deadline())
        assert (found.status, found.decoded, found.is_readable) == (status, False, False)
        assert read(found) == b"something"
    for status in (200, 201):
        with pytest.raises(BrokenResponse, match="unknown content-encoding"):
            UpstreamResponse(ScriptedResponse([], status=status, headers=headers), Deadline())


class Arrived(ScriptedResponse):
    """A response of which all has arrived."""

    is_ready = True

    def take_whole(self) -> bytes | None:  # type: ignore[override]  # the other has nothing yet
        """All of it."""
        return b"".join(each for each in self.chunks if isinstance(each, bytes))


def test_what_has_arrived_is_taken_without_a_wait() -> None:
    found = UpstreamResponse(Arrived([b"all"], is_ready=True), Deadline())
    assert asyncio.run(_within(found)) == b"all"
    assert found.take_whole() == b"all"
    assert found.is_over


async def _within(found: UpstreamResponse) -> bytes:
    return await found.read_within("idle", 0.0)


def test_an_encoded_body_is_never_taken_whole() -> None:
    found = UpstreamResponse(Arrived([gzip.compress(b"all")], headers=[GZIP]), Deadline())
    assert found.take_whole() is None
    assert not found.is_over
    waiting = opened(b"later")
    assert waiting.take_whole() is None
    assert not waiting.is_over


def test_an_answer_of_the_greatest_length_is_read_and_a_byte_more_is_not() -> None:
    assert len(read(opened(bytes(MAX_WHOLE)))) == MAX_WHOLE
    with pytest.raises(BrokenResponse, match="without an end"):
        read(opened(bytes(MAX_WHOLE), b"."))


def test_nothing_follows_an_encoded_body_that_was_cut_short() -> None:
    found = opened(gzip.compress(b"hello")[:12], headers=(GZIP,))

    async def story() -> None:
        with pytest.raises(BrokenResponse, match="cut short"):
            await found.read_all("idle", 5)
        assert await found.read() == b""

    asyncio.run(story())


def test_encoded_bytes_without_content_are_counted_anew_after_content() -> None:
    empty = gzip.compress(b"", mtime=0)
    many = [empty] * (MAX_EMPTY * 2 // 3 // len(empty))
    one = gzip.compress(b"x", mtime=0)
    assert read(opened(*many, one, *many, one, headers=(GZIP,))) == b"xx"


def test_the_start_of_another_member_may_come_byte_by_byte_and_no_more_is_read() -> None:
    upstream = ScriptedResponse([gzip.compress(b"hello"), b"n", b"o", None], headers=[GZIP])
    assert read(UpstreamResponse(upstream, Deadline())) == b"hello"
    assert upstream.reads == 3


def test_an_encoded_body_ends_where_its_connection_ends() -> None:
    for packed, name in (
        (gzip.compress(b"hello"), b"x-gzip"),
        (zlib.compress(b"hello"), b"deflate"),
    ):
        found = opened(packed, headers=((b"content-encoding", name),))
        assert found.decoded
        assert read(found) == b"hello"
