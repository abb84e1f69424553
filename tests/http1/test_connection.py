"""One connection: what it holds back, what it closes for, and how little it loses."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator

import pytest

from ccfallback.http1 import ConnectionLost, ConnectionPool, Origin
from ccfallback.http1.connection import Connection
from ccfallback.http1.request import HIGH_WATER, ONE_WRITE
from tests.network import (
    OK,
    Certificates,
    Peer,
    RawUpstream,
    always,
    ask,
    body_of,
    pieces_of,
    post,
    steady,
    until,
)

MEGABYTE = 1024 * 1024
IN_FLIGHT = 24 * MEGABYTE
"""More than all buffers of loopback together."""

HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_slow_reader_stops_the_upstream(
    certificates: Certificates, framing: str, tls: bool
) -> None:
    size = 4 * IN_FLIGHT
    piece = bytes(range(256)) * 256

    sent = 0

    async def answer(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        heads = {
            "length": HEAD + b"content-length: %d\r\n\r\n" % size,
            "chunks": HEAD + b"transfer-encoding: chunked\r\n\r\n",
            "close": HEAD + b"\r\n",
        }
        await peer.send(heads[framing])
        while sent < size:
            chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunks" else piece
            await peer.send(chunk)
            sent += len(piece)
        await peer.send(b"0\r\n\r\n" if framing == "chunks" else b"")
        if framing != "close":
            await peer.closed()

    upstream = RawUpstream(answer, tls=certificates.server("good") if tls else None)
    async with upstream, ConnectionPool(ssl_context=certificates.client()) as pool:
        response = await pool.send(post(upstream.url))
        assert await steady(lambda: sent) < IN_FLIGHT
        first = b""
        total = 0
        async for data in pieces_of(response):
            first = first or data
            assert data == (piece * 40)[total % 65536 :][: len(data)]
            total += len(data)
        assert HIGH_WATER / 2 < len(first) < HIGH_WATER + MEGABYTE
        assert total == size
        await response.aclose()
        assert len(pool._idle) == (framing != "close")


async def test_an_upstream_that_closes_before_all_is_written_is_read_whole() -> None:
    size = 4 * IN_FLIGHT

    async def answer(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(HEAD + b"\r\n" + bytes(size))

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        response = await pool.send(post(upstream.url))
        assert len(await body_of(response)) == size


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_slow_upstream_pauses_an_upload_in_pieces(
    certificates: Certificates, tls: bool
) -> None:
    size = 4 * IN_FLIGHT

    given = 0
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal given
        while given < size:
            given += 65536
            yield b"a" * 65536

    async def answer(peer: Peer) -> None:
        await go_on.wait()
        got, end = 0, b""
        while end != b"\r\n0\r\n\r\n":
            data = await peer.reader.read(65536)
            got, end = got + data.count(b"a"), (end + data)[-7:]
        await peer.send(OK if got >= size else b"")
        await peer.closed()

    upstream = RawUpstream(answer, tls=certificates.server("good") if tls else None)
    async with upstream, ConnectionPool(ssl_context=certificates.client()) as pool:
        exchange = asyncio.create_task(ask(pool, upstream.url, pieces()))
        assert await steady(lambda: given) < IN_FLIGHT
        go_on.set()
        assert await exchange == (200, b"ok")
        assert len(pool._idle) == 1


@pytest.mark.parametrize("size", [0, 1, ONE_WRITE, ONE_WRITE + 1, 5 * MEGABYTE])
async def test_a_body_of_any_size_arrives(size: int) -> None:
    body = (bytes(range(256)) * (size // 256 + 1))[:size]

    requests: list[bytes] = []

    async def answer(peer: Peer) -> None:
        while True:
            requests.append(await peer.request())
            await peer.send(OK)

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        for _ in range(2):
            await ask(pool, upstream.url, body)
        assert upstream.connections == 1
        for request in requests:
            assert request.partition(b"\r\n\r\n")[2] == body


async def test_one_read_returns_all_that_has_arrived() -> None:
    chunks = b"".join(b"3\r\n%03d\r\n" % number for number in range(500))
    done = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    async with RawUpstream(always(done)) as upstream, ConnectionPool() as pool:
        response = await pool.send(post(upstream.url))
        pieces = [piece async for piece in pieces_of(response)]
        assert pieces == [b"".join(b"%03d" % number for number in range(500))]


async def test_a_piece_is_delivered_before_the_next_one_is_sent() -> None:
    read = asyncio.Event()

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for number in range(3):
            await read.wait()
            read.clear()
            await peer.send(b"1\r\n%d\r\n" % number)
        await read.wait()
        await peer.send(b"0\r\n\r\n")

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        response = await pool.send(post(upstream.url))
        read.set()
        pieces = []
        async for piece in pieces_of(response):
            pieces.append(piece)
            read.set()
        assert pieces == [b"0", b"1", b"2"]


async def test_a_cancelled_read_loses_no_bytes() -> None:
    go_on = asyncio.Event()

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"content-length: 4\r\n\r\nab")
        await go_on.wait()
        await peer.send(b"cd")

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        response = await pool.send(post(upstream.url))
        assert await response.read() == b"ab"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await response.read()
        go_on.set()
        assert await response.read() == b"cd"
        assert await response.read() == b""


async def test_closing_an_unfinished_response_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"content-length: 4\r\n\r\nab")
        await peer.closed()
        closed.set()

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        response = await pool.send(post(upstream.url))
        await response.aclose()
        await closed.wait()
        assert not pool._connections
        # What was cut never looks like an end.
        with pytest.raises(ConnectionLost):
            async for _ in pieces_of(response):
                pass


@pytest.mark.parametrize("framing", [b"content-length: 4\r\n", b""], ids=["length", "until close"])
async def test_a_body_that_was_cut_by_an_abort_never_looks_complete(framing: bytes) -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + framing + b"\r\nab")
        await peer.closed()

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        response = await pool.send(post(upstream.url))
        assert await response.read() == b"ab"
        await response.aclose()
        await until(lambda: not pool._connections)
        with pytest.raises(ConnectionLost):
            await response.read()


async def test_a_response_that_is_whole_may_be_closed_unread() -> None:
    async with RawUpstream(always(OK)) as upstream, ConnectionPool() as pool:
        for _ in range(5):
            response = await pool.send(post(upstream.url))
            await response.aclose()
            await response.aclose()
        assert upstream.connections == 1


REFUSAL = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 8\r\n\r\ntoo much"


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"a" * 65536


async def stuck() -> AsyncIterator[bytes]:
    yield b"a"
    await asyncio.get_running_loop().create_future()


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("content", ["whole", "endless", "stuck"])
@pytest.mark.parametrize("how", ["closes", "resets", "reads on"])
async def test_an_answer_that_does_not_wait_for_the_body_is_delivered(
    content: str, how: str
) -> None:
    async def answer(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(REFUSAL)
        if how == "reads on":
            await peer.closed()
        elif how == "resets":
            # It may throw the answer away too, were it not there yet.
            await seen.wait()
            peer.reset()

    seen = asyncio.Event()
    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        for _ in range(8):
            seen.clear()
            given = {"whole": b"a" * IN_FLIGHT, "endless": endless(), "stuck": stuck()}
            response = await pool.send(post(upstream.url, given[content]))
            seen.set()
            assert response.status == 413
            assert await body_of(response) == b"too much"
            assert len(pool._idle) == 0


@pytest.mark.parametrize("content", ["whole", "endless", "stuck"])
async def test_a_connection_with_half_a_request_on_it_is_not_used_again(content: str) -> None:
    async def answer(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        # It says nothing of closing.
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 8\r\n\r\ntoo much")
        await done.wait()

    done = asyncio.Event()
    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        for number in range(1, 4):
            given = {"whole": b"a" * IN_FLIGHT, "endless": endless(), "stuck": stuck()}
            assert await ask(pool, upstream.url, given[content]) == (413, b"too much")
            assert len(pool._idle) == 0
            assert upstream.connections == number
        done.set()


async def test_a_response_is_read_although_a_reset_follows_it() -> None:
    reset = threading.Event()

    def serve(listener: socket.socket) -> None:
        for _ in range(20):
            peer, _ = listener.accept()
            with peer:
                while b"a" not in peer.recv(100):
                    pass
                peer.sendall(REFUSAL)
            # It had not read all: that was a reset.
            reset.set()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a" * 1000
        await asyncio.sleep(0.01)
        # Now the loop stands still until everything has happened.
        assert reset.wait(10)
        reset.clear()
        while True:
            yield b"a" * 65536

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener], daemon=True)
        thread.start()
        async with ConnectionPool() as pool:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            for _ in range(20):
                assert await ask(pool, url, pieces()) == (413, b"too much")
        thread.join()


async def test_an_early_success_waits_for_the_rest_of_the_request() -> None:
    sent = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await sent.wait()
        yield b"two"

    async def answer(peer: Peer) -> None:
        await peer.reader.readuntil(b"one\r\n")
        await peer.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        sent.set()
        await peer.reader.readuntil(b"two\r\n0\r\n\r\n")
        await peer.send(b"2\r\nok\r\n0\r\n\r\n")
        await peer.closed()

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        assert await ask(pool, upstream.url, pieces()) == (200, b"ok")
        assert len(pool._idle) == 1


async def test_an_error_of_the_uploading_code_is_raised_unchanged() -> None:
    class Gone(Exception):
        pass

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        raise Gone

    closed = asyncio.Event()

    async def answer(peer: Peer) -> None:
        await peer.closed()
        closed.set()

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        with pytest.raises(Gone):
            await ask(pool, upstream.url, pieces())
        await closed.wait()


async def test_a_connection_with_unrequested_bytes_is_not_used() -> None:
    lost: list[Connection] = []
    connection = Connection(Origin("http", "up.test", 80), lost.append)

    async def answer(peer: Peer) -> None:
        await peer.send(OK)
        await peer.closed()

    async with RawUpstream(answer) as upstream:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: connection, "127.0.0.1", upstream.port)
        await until(lambda: connection.is_closed)
        await connection.wait_lost()
        assert lost == [connection]


async def test_an_unconnected_connection_can_be_aborted() -> None:
    connection = Connection(Origin("http", "up.test", 80), lambda _: None)
    assert connection.is_closed
    connection.abort()
    await connection.wait_lost()
