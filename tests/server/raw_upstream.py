"""An upstream that a test writes byte by byte, on loopback."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from ccfallback.http1 import ConnectionPool, Headers, Origin, Request, Response

Runs = Callable[[Callable[[], Coroutine[Any, Any, Any]]], None]
"""Runs a story in an event loop and fails when it leaves something behind."""

PROC = Path("/proc/self/fd")
HAS_PROC = PROC.is_dir()
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Peer:
    """The upstream's end of one connection."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """One request, whole; raises `IncompleteReadError` when none comes."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        body = b""
        for line in head.lower().split(b"\r\n"):
            name, _, value = line.partition(b": ")
            if name == b"content-length":
                body = await self.reader.readexactly(int(value))
            elif name == b"transfer-encoding":
                while not body.endswith(b"0\r\n\r\n"):
                    body += await self.reader.readuntil(b"\r\n")
        return head + body

    async def send(self, *segments: bytes) -> None:
        """Send, each segment on its own."""
        for segment in segments:
            self.writer.write(segment)
            await self.writer.drain()

    async def closed(self) -> None:
        """Wait until the client has closed."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def close(self) -> None:
        """Close in good order."""
        self.writer.close()

    def reset(self) -> None:
        """Close with a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class RawUpstream:
    """Hands every connection to `answer`, and closes it when that returns."""

    def __init__(
        self,
        answer: Callable[[Peer], Awaitable[None]],
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._answer = answer
        self._host = host
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self.port}/"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._answer(Peer(self.connections, reader, writer))
            writer.close()
            await writer.wait_closed()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # The client left, or the test is over.
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)


def always(*segments: bytes) -> Callable[[Peer], Awaitable[None]]:
    """Give every request the same response."""

    async def answer(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*segments)

    return answer


def once(*segments: bytes, reset: bool = False) -> Callable[[Peer], Awaitable[None]]:
    """Give one response and close."""

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(*segments)
        if reset:
            await asyncio.sleep(0.05)
            peer.reset()

    return answer


def request(
    method: str, url: str, headers: Headers | None = None, content: Any = b"", target: bytes = b"/"
) -> Request:
    """A request to the server at a URL."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return Request(
        Origin(parts.scheme, parts.hostname or "", port), method, target, headers or [], content
    )


def post(url: str, content: Any = b"hello") -> Request:
    return request("POST", url, content=content)


async def pieces_of(response: Response) -> AsyncIterator[bytes]:
    """The body of a response, as it is read."""
    while piece := await response.read():
        yield piece


async def body_of(response: Response) -> bytes:
    """The whole body, then closed."""
    try:
        return b"".join([piece async for piece in pieces_of(response)])
    finally:
        await response.aclose()


async def ask(pool: ConnectionPool, url: str, content: Any = b"hello") -> tuple[int, bytes]:
    """One exchange, from request to the end of the body."""
    response = await pool.send(post(url, content))
    return response.status, await body_of(response)


async def steady(value: Callable[[], int]) -> int:
    """A number, when it has stopped growing."""
    last = -1
    while last != value() or not last:
        last = value()
        await asyncio.sleep(0.1)
    return last


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that tells nobody."""
    while not condition():
        await asyncio.sleep(0.001)


def open_sockets() -> int:
    """How many sockets this process holds."""
    count = 0
    for entry in PROC.iterdir():
        # The folder is read through a descriptor that is gone by now.
        with suppress(FileNotFoundError):
            count += str(entry.readlink()).startswith("socket:")
    return count


def refused_port(host: str = "127.0.0.1") -> int:
    """A port where nobody listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port
