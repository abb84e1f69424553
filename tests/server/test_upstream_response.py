"""An upstream's answer: decoded, bounded, each read with its deadline."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import Provider
from ccfallback.http1.deadline import Deadline, DeadlineExceeded
from ccfallback.http1.transport import DirectTransport
from ccfallback.messages.body import Body
from ccfallback.policy.outcome import Fault
from ccfallback.server.attempt import Prepared, attempt
from ccfallback.server.transport import LibraryResponse
from ccfallback.server.upstream_response import MAX_PIECE, MAX_WHOLE, Broken, UpstreamResponse
from ccfallback.wire import FORMATS
from tests.server.raw_upstream import Peer, RawUpstream, Runs


class Pieces(httpx.AsyncByteStream):
    """A body in the given pieces; `None` is silence."""

    def __init__(self, pieces: Sequence[bytes | None]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if piece is None:
                await asyncio.Event().wait()
            else:
                yield piece


def answer(*pieces: bytes | None, encoding: str | None = None) -> UpstreamResponse:
    """An answer with that body."""
    headers = {} if encoding is None else {"content-encoding": encoding}
    return UpstreamResponse(
        LibraryResponse(httpx.Response(200, headers=headers, stream=Pieces(pieces))), Deadline()
    )


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        (None, b"hello"),
        ("gzip", gzip.compress(b"hello", mtime=0)),
        ("deflate", zlib.compress(b"hello")),
    ],
)
@given(cut=st.integers(0, 40))
def test_every_cut_reads_the_same(encoding: str | None, packed: bytes, cut: int) -> None:
    found = answer(packed[:cut], packed[cut:], encoding=encoding)
    assert asyncio.run(found.read_all("idle", 5)) == b"hello"
    assert found.decoded is (encoding is not None)


def test_an_encoding_that_nobody_asked_for_is_no_answer() -> None:
    with pytest.raises(Broken, match="content-encoding br"):
        answer(b"x", encoding="br")


def test_the_connection_of_such_an_answer_is_closed_at_once(run: Runs) -> None:
    async def story() -> None:
        closed = asyncio.Event()

        async def answer(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 9\r\n\r\n")
            await peer.closed()
            closed.set()

        async with RawUpstream(answer) as upstream, DirectTransport() as transport:
            provider = Provider(name="a", base_url=upstream.url)
            asked = Body.parse(b"{}")
            wire = FORMATS["anthropic"]
            prepared = Prepared(provider, wire, asked, upstream.url, [], asked.raw)
            reply = await attempt(prepared, transport, timeouts=provider.timeouts, watch=Deadline())
            assert reply.outcome.fault is Fault.UPSTREAM
            await closed.wait()

    run(story)


@pytest.mark.parametrize("packed", [b"nonsense", gzip.compress(b"hello", mtime=0)[:-9]])
def test_a_broken_encoding_is_no_answer(packed: bytes) -> None:
    with pytest.raises(Broken, match="content-encoding"):
        asyncio.run(answer(packed, encoding="gzip").read_all("idle", 5))


def test_silence_ends_with_the_timeout_that_fired() -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        asyncio.run(answer(b"some", None).read_all("idle", 0.01))
    assert (caught.value.timeout, caught.value.seconds) == ("idle", 0.01)


def test_a_small_answer_that_unpacks_to_a_huge_one_is_read_in_bounded_pieces() -> None:
    bomb = gzip.compress(bytes(8 * MAX_PIECE))

    async def story() -> list[int]:
        found = answer(bomb, encoding="gzip")
        sizes = []
        while piece := await found.read():
            sizes.append(len(piece))
        return sizes

    sizes = asyncio.run(story())
    assert sum(sizes) == 8 * MAX_PIECE
    assert max(sizes) <= MAX_PIECE


def test_the_limit_of_a_whole_answer_holds_for_what_it_unpacks_to() -> None:
    bomb = gzip.compress(bytes(MAX_WHOLE + 1), 1)
    with pytest.raises(Broken, match="without an end"):
        asyncio.run(answer(bomb, encoding="gzip").read_all("idle", 30))
