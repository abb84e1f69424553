"""The server that accepts connections: it ends as soon as what is under way has ended."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ccfallback.http1 import (
    App,
    ConnectionLimit,
    Message,
    Receive,
    Scope,
    Send,
    Server,
    ServerProtocol,
)

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


async def serving(
    app: App, story: Callable[[Server, int], Awaitable[None]], drain_seconds: float = 60.0
) -> None:
    """Tell a story beside a server, which has to end after it."""
    server = Server()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]

        def create() -> ServerProtocol:
            return ServerProtocol(app, server, lambda *_: ([], b""), ConnectionLimit(9))

        running = asyncio.create_task(
            server.serve(sock, create, backlog=9, drain_seconds=drain_seconds)
        )
        await story(server, port)
        await running


@asynccontextmanager
async def connected(port: int, sent: bytes = b"") -> AsyncIterator[asyncio.StreamReader]:
    """What comes back on a connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        yield reader
    finally:
        writer.close()


class Held:
    """An application that answers once `go_on` is set."""

    def __init__(self) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self.ended = asyncio.Event()
        self.cancelled = False

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.asked.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.ended.set()
        await send(START)
        await send({"type": "http.response.body", "body": b"the end"})


@pytest.mark.usefixtures("run")
async def test_a_stop_lets_the_response_end_and_closes_idle_connections() -> None:
    app = Held()

    async def story(server: Server, port: int) -> None:
        async with connected(port) as idle, connected(port, GET) as reader:
            await app.asked.wait()
            await asyncio.to_thread(server.stop)
            assert await idle.read() == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            # A stop that is repeated changes nothing.
            server.stop()
            app.go_on.set()
            assert (await reader.read()).endswith(b"the end\r\n0\r\n\r\n")

    await serving(app, story)


@pytest.mark.usefixtures("run")
async def test_with_force_it_does_not_wait() -> None:
    app = Held()

    async def story(server: Server, port: int) -> None:
        async with connected(port, GET):
            await app.asked.wait()
            server.stop()
            server.stop(force=True)
            running.update(server.tasks)

    running: set[asyncio.Task[None]] = set()
    await serving(app, story)
    app.go_on.set()
    await asyncio.gather(*running)
    assert not app.cancelled


@pytest.mark.usefixtures("run")
async def test_it_waits_no_longer_than_it_may() -> None:
    app = Held()

    async def story(server: Server, port: int) -> None:
        async with connected(port, GET):
            await app.asked.wait()
            server.stop()
            await app.ended.wait()

    await serving(app, story, drain_seconds=0.0)
    assert app.cancelled


@pytest.mark.usefixtures("run")
async def test_a_stop_before_the_start_counts() -> None:
    server = Server()
    server.stop()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        await server.serve(sock, asyncio.Protocol, backlog=1, drain_seconds=60.0)
