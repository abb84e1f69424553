"""Which connections are kept, for how long, and which one is used."""

import asyncio
import time

import pytest

from ccfallback.http1.transport import DirectTransport
from tests.server.raw_upstream import OK, Peer, RawUpstream, Runs, always, ask, body_of, post, until


@pytest.mark.parametrize(("max_idle", "kept"), [(0, 0), (3, 3), (100, 5)])
def test_no_more_are_kept_than_allowed(run: Runs, max_idle: int, kept: int) -> None:
    async def story() -> None:
        closed = 0

        async def answer(peer: Peer) -> None:
            nonlocal closed
            await peer.request()
            await peer.send(OK)
            await peer.closed()
            closed += 1

        async with RawUpstream(answer) as upstream, DirectTransport(max_idle=max_idle) as transport:
            responses = [await transport.handle_async_request(post(upstream.url)) for _ in range(5)]
            for response in responses:
                assert await body_of(response) == b"ok"
            assert len(transport._pool) == kept
            await until(lambda: closed == 5 - kept)

    run(story)


def test_the_one_used_last_is_used_next(run: Runs) -> None:
    async def story() -> None:
        async def answer(peer: Peer) -> None:
            while True:
                await peer.request()
                await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % peer.number)

        async with RawUpstream(answer) as upstream, DirectTransport() as transport:
            both = [await transport.handle_async_request(post(upstream.url)) for _ in range(2)]
            assert [await body_of(response) for response in both] == [b"1", b"2"]
            assert (await ask(transport, upstream.url))[1] == b"2"

    run(story)


def test_upstreams_do_not_share_connections(run: Runs) -> None:
    async def story() -> None:
        async with (
            RawUpstream(always(OK)) as one,
            RawUpstream(always(OK)) as two,
            DirectTransport() as transport,
        ):
            for _ in range(3):
                await ask(transport, one.url)
                await ask(transport, two.url)
                # The same address by another name.
                await ask(transport, one.url.replace("127.0.0.1", "localhost"))
            assert (one.connections, two.connections) == (2, 1)
            assert len(transport._pool) == 3

    run(story)


def test_a_connection_that_was_idle_for_too_long_is_closed(run: Runs) -> None:
    async def story() -> None:
        closed = asyncio.Event()

        async def answer(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await peer.closed()
            closed.set()

        async with RawUpstream(answer) as upstream, DirectTransport(idle_seconds=0.1) as transport:
            await ask(transport, upstream.url)
            assert len(transport._pool) == 1
            await closed.wait()
            assert len(transport._pool) == 0

    run(story)


def test_the_timer_goes_on_for_the_younger(run: Runs) -> None:
    async def story() -> None:
        closed: list[int] = []

        async def answer(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await peer.closed()
            closed.append(peer.number)

        async with RawUpstream(answer) as upstream, DirectTransport(idle_seconds=0.2) as transport:
            both = [await transport.handle_async_request(post(upstream.url)) for _ in range(2)]
            await body_of(both[0])
            await asyncio.sleep(0.1)
            await body_of(both[1])
            await until(lambda: len(closed) == 2)
            assert closed == [1, 2]

    run(story)


def test_a_connection_that_is_too_old_is_not_used_though_no_timer_ran(run: Runs) -> None:
    async def story() -> None:
        async with (
            RawUpstream(always(OK)) as upstream,
            DirectTransport(idle_seconds=0.05) as transport,
        ):
            await ask(transport, upstream.url)
            # Nothing else runs in the loop meanwhile.
            time.sleep(0.1)
            await ask(transport, upstream.url)
            assert upstream.connections == 2

    run(story)


def test_closing_closes_what_is_idle_and_fails_what_is_not(run: Runs) -> None:
    async def story() -> None:
        async with RawUpstream(always(OK)) as upstream:
            transport = DirectTransport()
            await ask(transport, upstream.url)
            await transport.aclose()
            assert len(transport._pool) == 0
            assert not transport._open

    run(story)
