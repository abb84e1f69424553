"""Exchanges over real sockets: which connections are kept, what is sent again, what is an error."""

import asyncio
import random
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from ccfallback.http1 import (
    ConnectError,
    ConnectionLost,
    ConnectionPool,
    HTTPError,
    LocalProtocolError,
    RemoteDisconnected,
    RemoteProtocolError,
    connection,
)
from ccfallback.http1 import pool as pool_module
from ccfallback.policy.outcome import Fault
from ccfallback.server.upstream import describe_error
from tests.network import (
    HAS_PROC,
    OK,
    Certificates,
    Peer,
    RawUpstream,
    always,
    ask,
    body_of,
    once,
    open_sockets,
    pieces_of,
    post,
    request,
    steady,
    until,
)

H = b"HTTP/1.1 200 OK\r\n"
CHUNKED = H + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
POISON = H + b"content-length: 6\r\n\r\npoison"


async def test_a_response_is_passed_on_unchanged() -> None:
    head = b"HTTP/1.1 529 Overloaded\r\nX-One: 1\r\nx-two: 2\r\nX-One: 3\r\n"
    segments = (head, b"content-length: 2\r\n\r\n", b"ok")
    async with RawUpstream(always(*segments)) as upstream, ConnectionPool() as pool:
        response = await pool.send(post(upstream.url))
        assert response.status == 529
        assert response.headers == [
            (b"x-one", b"1"),
            (b"x-two", b"2"),
            (b"x-one", b"3"),
            (b"content-length", b"2"),
        ]
        assert await body_of(response) == b"ok"


@pytest.mark.parametrize(
    ("wire", "connections"),
    [
        (OK, 1),
        (CHUNKED, 1),
        (H + b"transfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0;c\r\nx: y\r\n\r\n", 1),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\n" + OK, 1),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", 1),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 3),
        (H + b"connection: close\r\ncontent-length: 2\r\n\r\nok", 3),
        (OK + b"\r\n", 3),
        (CHUNKED + b"\r\n", 3),
        (OK + POISON, 3),
        (CHUNKED + POISON, 3),
    ],
)
async def test_a_connection_is_used_again_only_after_a_clean_end(
    wire: bytes, connections: int
) -> None:
    async with RawUpstream(always(wire)) as upstream, ConnectionPool() as pool:
        for _ in range(3):
            assert await ask(pool, upstream.url) == (200, b"ok")
        assert upstream.connections == connections


@pytest.mark.parametrize("wire", [OK, CHUNKED])
async def test_a_response_is_the_same_wherever_the_network_cuts_it(wire: bytes) -> None:
    async def answer(peer: Peer) -> None:
        for at in range(1, len(wire)):
            await peer.request()
            await peer.send(wire[:at])
            await asyncio.sleep(0.001)
            await peer.send(wire[at:])
        await peer.request()
        for at in range(len(wire)):
            await peer.send(wire[at : at + 1])
            await asyncio.sleep(0)
        await peer.closed()

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        for _ in range(len(wire)):
            assert await ask(pool, upstream.url) == (200, b"ok")
        assert upstream.connections == 1


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        H + b"content-length: 5\r\n\r\n",
    ],
)
async def test_some_responses_have_no_body(method: str, head: bytes) -> None:
    body = b"hello" if method == "GET" and b"200" in head else b""

    async with RawUpstream(always(head + body)) as upstream, ConnectionPool() as pool:
        for _ in range(3):
            response = await pool.send(request(method, upstream.url))
            assert await body_of(response) == body
        assert upstream.connections == 1


async def test_a_body_without_a_length_ends_with_the_connection(certificates: Certificates) -> None:
    for tls in (None, certificates.server("good")):
        upstream = RawUpstream(once(H + b"\r\nhel", b"lo"), tls=tls)
        async with upstream, ConnectionPool(ssl_context=certificates.client()) as pool:
            for _ in range(2):
                assert await ask(pool, upstream.url) == (200, b"hello")
            assert upstream.connections == 2


async def test_a_late_second_response_closes_the_connection() -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await first.wait()
        await peer.send(POISON)
        await peer.closed()
        closed.set()

    first, closed = asyncio.Event(), asyncio.Event()
    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        for number in range(1, 5):
            assert await ask(pool, upstream.url) == (200, b"ok")
            assert upstream.connections == number
            assert len(pool._idle) == 1
            first.set()
            await closed.wait()
            assert len(pool._idle) == 0
            first.clear()
            closed.clear()


@contextmanager
def in_a_thread(surplus: bytes) -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """An upstream that goes on while the loop stands still: it answers, waits, and says more."""
    go_on, said = threading.Event(), threading.Event()

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.recv(65536)
                peer.sendall(OK)
                if not go_on.wait(10):
                    return
                if surplus:
                    peer.sendall(surplus)
                else:
                    peer.shutdown(socket.SHUT_WR)
                go_on.clear()
                said.set()
                with suppress(ConnectionError):
                    while peer.recv(65536):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener], daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", go_on, said
        listener.shutdown(socket.SHUT_RDWR)
        go_on.set()
        thread.join()


@pytest.mark.parametrize("surplus", [POISON, b""], ids=["a second response", "the end"])
async def test_bytes_that_arrived_while_the_loop_was_busy_are_noticed_before_reuse(
    surplus: bytes,
) -> None:
    with in_a_thread(surplus) as (url, go_on, said):
        async with ConnectionPool() as pool:
            for _ in range(10):
                assert await ask(pool, url) == (200, b"ok")
                # Not one turn of the loop between the second response and the next request.
                go_on.set()
                assert said.wait(10)
                said.clear()


async def pieces() -> AsyncIterator[bytes]:
    yield b"hel"
    yield b"lo"


async def test_a_stale_pooled_connection_causes_no_error() -> None:
    async with RawUpstream(once(OK)) as upstream, ConnectionPool() as pool:
        for number in range(1, 20):
            content = pieces() if number % 2 else b"hello"
            assert await ask(pool, upstream.url, content) == (200, b"ok")
            assert upstream.connections == number


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_many_stale_pooled_connections_cause_no_error(how: str) -> None:
    async def answer(peer: Peer) -> None:
        assert (await peer.request()).endswith(b"\r\n\r\nhello")
        await peer.send(OK)
        if peer.number <= 30:
            # It closes when the next request is there already.
            await peer.request()
            if how == "reset":
                peer.reset()
        else:
            await peer.closed()

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        responses = [await pool.send(post(upstream.url)) for _ in range(30)]
        for response in responses:
            await body_of(response)
        assert len(pool._idle) == 30
        assert await ask(pool, upstream.url) == (200, b"ok")
        assert upstream.connections == 31


TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


async def test_a_kept_connection_that_times_out_causes_no_error() -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(TIMED_OUT)

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        for number in range(1, 4):
            assert await ask(pool, upstream.url) == (200, b"ok")
            assert upstream.connections == number


async def test_a_time_out_of_the_request_itself_is_not_repeated_on_a_kept_connection() -> None:
    async def answer(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(OK)
            await peer.request()
            await peer.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        assert await ask(pool, upstream.url) == (200, b"ok")
        assert (await ask(pool, upstream.url))[0] == 408
        assert upstream.connections == 1


async def test_a_request_that_times_out_itself_is_not_sent_again() -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        if peer.number > 1:
            await peer.send(OK)
            await peer.request()
        await peer.send(TIMED_OUT)

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        assert (await ask(pool, upstream.url))[0] == 408
        assert await ask(pool, upstream.url) == (200, b"ok")
        # Its body has been read, and can't be read again.
        assert (await ask(pool, upstream.url, pieces()))[0] == 408
        assert upstream.connections == 2


async def test_a_partly_sent_body_is_not_sent_again() -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        await ask(pool, upstream.url)
        with pytest.raises(RemoteProtocolError) as caught:
            await ask(pool, upstream.url, pieces())
        assert describe_error(caught.value) == (Fault.TRANSPORT, "connection closed")
        assert upstream.connections == 1


async def test_a_request_is_not_repeated_after_a_byte_of_its_response() -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(b"H")

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        await ask(pool, upstream.url)
        with pytest.raises(RemoteProtocolError):
            await ask(pool, upstream.url)
        assert upstream.connections == 1


async def test_a_fresh_connection_that_is_closed_is_an_error_at_once() -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        with pytest.raises(RemoteProtocolError):
            await pool.send(post(upstream.url))
        assert upstream.connections == 1


CLOSED = (Fault.TRANSPORT, "connection closed")
BROKEN = (Fault.TRANSPORT, "broken HTTP")
RESET = (Fault.TRANSPORT, "connection reset")


@pytest.mark.parametrize(
    ("wire", "reset", "kind", "means"),
    [
        (b"", False, RemoteDisconnected, CLOSED),
        (b"", True, ConnectionLost, RESET),
        (H, False, RemoteDisconnected, CLOSED),
        (H, True, ConnectionLost, RESET),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False, RemoteDisconnected, CLOSED),
        (H + b"content-length: 5\r\n\r\nhell", False, RemoteDisconnected, CLOSED),
        (H + b"content-length: 5\r\n\r\nhell", True, ConnectionLost, RESET),
        (CHUNKED[:-2], False, RemoteDisconnected, CLOSED),
        (CHUNKED[:-5], False, RemoteDisconnected, CLOSED),
        (CHUNKED[:-2], True, ConnectionLost, RESET),
        # Without a length, only an end in good order is an end.
        (H + b"\r\nhello", True, ConnectionLost, RESET),
        (b"SSH-2.0-OpenSSH\r\n", False, RemoteProtocolError, BROKEN),
        (b"HTTP/1.1 101 Switching\r\n\r\n", False, RemoteProtocolError, BROKEN),
        (
            H + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok",
            False,
            RemoteProtocolError,
            BROKEN,
        ),
        (
            H + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
            False,
            RemoteProtocolError,
            BROKEN,
        ),
        (H + b"a: b\r\n" * 12000 + b"\r\n", False, RemoteProtocolError, BROKEN),
        (CHUNKED[:-5] + b"x\r\n", False, RemoteProtocolError, BROKEN),
    ],
)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_broken_response_is_an_error_after_its_valid_part(
    certificates: Certificates,
    tls: bool,
    wire: bytes,
    reset: bool,
    kind: type[HTTPError],
    means: tuple[Fault, str],
) -> None:
    upstream = RawUpstream(
        once(wire, reset=reset), tls=certificates.server("good") if tls else None
    )
    async with upstream, ConnectionPool(ssl_context=certificates.client()) as pool:
        got = b""
        with pytest.raises(HTTPError) as caught:  # noqa: PT012
            response = await pool.send(post(upstream.url))
            async for piece in pieces_of(response):
                got += piece
        assert type(caught.value) is kind
        assert describe_error(caught.value) == means
        assert wire.partition(b"\r\n\r\n")[2].replace(b"2\r\n", b"").startswith(got)
        assert len(pool._idle) == 0
        await until(lambda: not pool._connections)
        assert upstream.connections == 1


async def test_an_illegal_request_never_connects() -> None:
    async with RawUpstream(always(OK)) as upstream, ConnectionPool() as pool:
        for _ in range(2):
            illegal = request("GET", upstream.url, [(b"a", b"b\r\nc: d")])
            with pytest.raises(LocalProtocolError):
                await pool.send(illegal)
        assert upstream.connections == 0


async def test_a_thousand_requests_one_after_another_take_one_connection() -> None:
    async with RawUpstream(always(CHUNKED)) as upstream, ConnectionPool() as pool:
        for _ in range(1000):
            await ask(pool, upstream.url)
        assert upstream.connections == 1
        assert len(pool._connections) == 1


async def test_a_hundred_requests_at_once_take_a_hundred_connections_and_keep_them() -> None:
    everybody = asyncio.Barrier(100)

    async def answer(peer: Peer) -> None:
        while True:
            await peer.request()
            await everybody.wait()
            await peer.send(OK)

    before = open_sockets() if HAS_PROC else 0
    async with RawUpstream(answer) as upstream:
        async with ConnectionPool() as pool:
            for _ in range(3):
                found = await asyncio.gather(*(ask(pool, upstream.url) for _ in range(100)))
                assert found == [(200, b"ok")] * 100
                assert upstream.connections == 100
                assert len(pool._idle) == len(pool._connections) == 100
        assert not pool._connections
    if HAS_PROC:
        await until(lambda: open_sockets() == before)


async def test_closing_the_pool_fails_exchanges_under_way() -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(H + b"content-length: 5\r\n\r\nhel")
        await peer.closed()

    before = open_sockets() if HAS_PROC else 0
    async with RawUpstream(answer) as upstream:
        pool = ConnectionPool()
        response = await pool.send(post(upstream.url))
        reading = asyncio.create_task(body_of(response))
        await asyncio.sleep(0)
        await pool.aclose()
        with pytest.raises(ConnectionLost):
            await reading
        with pytest.raises(ConnectError):
            await ask(pool, upstream.url)
    if HAS_PROC:
        await until(lambda: open_sockets() == before)


async def test_closing_the_pool_cancels_a_connection_attempt(certificates: Certificates) -> None:
    before = open_sockets() if HAS_PROC else 0
    async with RawUpstream(always(OK), tls=certificates.server("good")) as upstream:
        pool = ConnectionPool(ssl_context=certificates.client())
        asking = asyncio.create_task(ask(pool, upstream.url))
        await asyncio.sleep(0)
        await pool.aclose()
        with pytest.raises(ConnectError):
            await asking
    if HAS_PROC:
        await until(lambda: open_sockets() == before)


async def test_an_upload_ends_with_its_connection() -> None:
    given = 0

    async def answer(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        peer.reset()

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield b"a" * 65536

    go_on = asyncio.Event()
    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        asking = asyncio.create_task(ask(pool, upstream.url, endless()))
        await steady(lambda: given)
        go_on.set()
        with pytest.raises(ConnectionLost) as caught:
            await asking
        assert describe_error(caught.value) == (Fault.TRANSPORT, "connection reset")


async def test_a_cancelled_request_closes_its_connection() -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def answer(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.closed()
        closed.set()

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        exchange = asyncio.create_task(ask(pool, upstream.url))
        await asked.wait()
        exchange.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange
        await closed.wait()
        assert not pool._connections


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("content", ["whole", "pieces"])
async def test_a_request_may_be_cancelled_at_any_moment(
    certificates: Certificates, tls: bool, content: str
) -> None:
    chance = random.Random(f"{tls}{content}")

    async def answer(peer: Peer) -> None:
        while True:
            received = await peer.request()
            number = received.partition(b"x-number: ")[2].partition(b"\r\n")[0]
            head = H + b"transfer-encoding: chunked\r\n\r\n"
            echo = b"%x\r\n%b\r\n" % (len(number), number)
            for segment in (head[:10], head[10:], echo, b"0\r\n", b"\r\n"):
                await peer.send(segment)
                await asyncio.sleep(0)

    async def exchange(pool: ConnectionPool, url: str, number: int) -> bytes:
        numbered = request(
            "POST",
            url,
            [(b"x-number", b"%d" % number)],
            pieces() if content == "pieces" else b"hello",
        )
        return await body_of(await pool.send(numbered))

    before = open_sockets() if HAS_PROC else 0
    upstream = RawUpstream(answer, tls=certificates.server("good") if tls else None)
    pool = ConnectionPool(ssl_context=certificates.client())
    async with upstream, pool:
        whole = 0
        for number in range(10_000):
            # Neither all before the first step nor all after the last one, on a busy machine too.
            if number >= 500 and 20 < whole < number - 20:
                break
            task = asyncio.create_task(exchange(pool, upstream.url, number))
            for _ in range(chance.randrange(chance.choice([10, 20, 40, 80, 160, 320]))):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                assert await task == b"%d" % number
                whole += 1
            for connection in pool._idle:
                assert not connection.is_closed
                assert connection in pool._connections
        assert 20 < whole < number - 20
        for number in range(10_000, 10_010):
            assert await exchange(pool, upstream.url, number) == b"%d" % number
        await until(lambda: len(pool._connections) == len(pool._idle))
    if HAS_PROC:
        await until(lambda: open_sockets() == before)


@pytest.mark.parametrize(("max_idle", "kept"), [(0, 0), (3, 3), (100, 5)])
async def test_the_pool_keeps_at_most_max_idle_connections(max_idle: int, kept: int) -> None:
    closed = 0

    async def answer(peer: Peer) -> None:
        nonlocal closed
        await peer.request()
        await peer.send(OK)
        await peer.closed()
        closed += 1

    async with RawUpstream(answer) as upstream, ConnectionPool(max_idle=max_idle) as pool:
        responses = [await pool.send(post(upstream.url)) for _ in range(5)]
        for response in responses:
            assert await body_of(response) == b"ok"
        assert len(pool._idle) == kept
        await until(lambda: closed == 5 - kept)


async def test_the_connection_used_last_is_used_next() -> None:
    async def answer(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % peer.number)

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        both = [await pool.send(post(upstream.url)) for _ in range(2)]
        assert [await body_of(response) for response in both] == [b"1", b"2"]
        assert (await ask(pool, upstream.url))[1] == b"2"


async def test_upstreams_do_not_share_connections() -> None:
    async with (
        RawUpstream(always(OK)) as one,
        RawUpstream(always(OK)) as two,
        ConnectionPool() as pool,
    ):
        for _ in range(3):
            await ask(pool, one.url)
            await ask(pool, two.url)
            # The same address by another name.
            await ask(pool, one.url.replace("127.0.0.1", "localhost"))
        assert (one.connections, two.connections) == (2, 1)
        assert len(pool._idle) == 3


async def test_a_connection_that_was_idle_for_too_long_is_closed() -> None:
    closed = asyncio.Event()

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.closed()
        closed.set()

    async with RawUpstream(answer) as upstream, ConnectionPool(idle_seconds=0.1) as pool:
        await ask(pool, upstream.url)
        assert len(pool._idle) == 1
        await closed.wait()
        assert len(pool._idle) == 0


async def test_the_expiry_timer_continues_for_younger_connections() -> None:
    closed: list[int] = []

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.closed()
        closed.append(peer.number)

    async with RawUpstream(answer) as upstream, ConnectionPool(idle_seconds=0.2) as pool:
        both = [await pool.send(post(upstream.url)) for _ in range(2)]
        await body_of(both[0])
        await asyncio.sleep(0.1)
        await body_of(both[1])
        await until(lambda: len(closed) == 2)
        assert closed == [1, 2]


async def test_an_expired_connection_is_not_used_even_if_no_timer_ran() -> None:
    async with RawUpstream(always(OK)) as upstream, ConnectionPool(idle_seconds=0.05) as pool:
        await ask(pool, upstream.url)
        # Nothing else runs in the loop meanwhile.
        time.sleep(0.1)
        await ask(pool, upstream.url)
        assert upstream.connections == 2


async def test_a_connection_from_before_a_sleep_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with RawUpstream(always(OK)) as upstream, ConnectionPool() as pool:
        await ask(pool, upstream.url)
        before = connection.clock()
        # The clock of the loop, and so its timers, stand still while the machine sleeps.
        for module in (connection, pool_module):
            monkeypatch.setattr(module, "clock", lambda: before + 3600)
        await ask(pool, upstream.url)
        await ask(pool, upstream.url)
        assert upstream.connections == 2


@pytest.mark.skipif(not hasattr(time, "clock_gettime"), reason="the clocks are those of POSIX")
@pytest.mark.parametrize(
    ("platform", "clocks", "chosen"),
    [
        ("linux", ["CLOCK_BOOTTIME", "CLOCK_MONOTONIC"], "CLOCK_BOOTTIME"),
        ("darwin", ["CLOCK_MONOTONIC"], "CLOCK_MONOTONIC"),
        ("freebsd", ["CLOCK_MONOTONIC"], None),
    ],
)
def test_the_clock_counts_the_sleep_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, platform: str, clocks: list[str], chosen: str | None
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    for name in clocks:
        monkeypatch.setattr(time, name, name, raising=False)
    monkeypatch.setattr(time, "clock_gettime", lambda clock: clock)
    monkeypatch.setattr(time, "monotonic", lambda: None)
    choose: Callable[[], Callable[[], Any]] = connection._choose_clock
    assert choose()() == chosen


async def test_closing_the_pool_closes_idle_connections_and_fails_the_others() -> None:
    async with RawUpstream(always(OK)) as upstream:
        pool = ConnectionPool()
        await ask(pool, upstream.url)
        await pool.aclose()
        assert len(pool._idle) == 0
        assert not pool._connections
