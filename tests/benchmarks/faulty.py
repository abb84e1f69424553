"""An upstream that does wrong what it is told to: see `SCENES`.

`python -m tests.benchmarks.faulty PORT CONTROL TLS` listens on three ports of loopback. A line on
CONTROL names the scene of all further requests on PORT. TLS accepts connections, and never answers.
"""

import asyncio
import re
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from tests.benchmarks.upstream import (
    ANTHROPIC_AFTER,
    ANTHROPIC_BEFORE,
    ANTHROPIC_WHOLE,
    JSON_HEAD,
    LAST_CHUNK,
    MESSAGE_START,
    STREAM_HEAD,
    TEXT,
    anthropic_delta,
    chunk,
)

FIRST_TOKEN: Final = 0.2
"""Seconds until the first token, as a quick model takes."""

STREAMED: Final = re.compile(rb'"stream"\s*:\s*true')
LENGTH: Final = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
NO_DELAY_AT_CLOSE: Final = struct.pack("ii", 1, 0)
"""With this SO_LINGER a close sends a reset."""

Writer = asyncio.StreamWriter
Scene = Callable[[Writer, bool], Awaitable[None]]


def reset(writer: Writer) -> None:
    """End the connection with a reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_DELAY_AT_CLOSE)
    writer.transport.abort()


def refuse(status: int, kind: str) -> Scene:
    """An error response."""

    async def scene(writer: Writer, _streamed: bool) -> None:
        body = b'{"type":"error","error":{"type":"%b","message":"No"}}' % kind.encode()
        writer.write(JSON_HEAD % (status, b"No", len(body)) + body)

    return scene


async def good(writer: Writer, streamed: bool) -> None:
    """A whole answer at once, or a stream with a first token."""
    if not streamed:
        writer.write(JSON_HEAD % (200, b"OK", len(ANTHROPIC_WHOLE)) + ANTHROPIC_WHOLE)
        return
    await _begin(writer)
    writer.write(chunk(anthropic_delta(TEXT)) + chunk(ANTHROPIC_AFTER) + LAST_CHUNK)


async def _begin(writer: Writer) -> None:
    await asyncio.sleep(FIRST_TOKEN)
    writer.write(STREAM_HEAD + chunk(ANTHROPIC_BEFORE + anthropic_delta(TEXT)))


async def torn_early(writer: Writer, _streamed: bool) -> None:
    """A stream that is torn before its first token."""
    await asyncio.sleep(FIRST_TOKEN)
    writer.write(STREAM_HEAD + chunk(MESSAGE_START))
    await asyncio.sleep(0.01)
    reset(writer)


async def torn(writer: Writer, _streamed: bool) -> None:
    """A stream that is torn after its first token."""
    await _begin(writer)
    await asyncio.sleep(0.01)
    reset(writer)


async def hang(_writer: Writer, _streamed: bool) -> None:
    """No answer."""
    await asyncio.sleep(3600)


async def empty(writer: Writer, _streamed: bool) -> None:
    """A success without a body."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 0\r\n\r\n")


async def drop(writer: Writer, _streamed: bool) -> None:
    """A reset instead of an answer."""
    reset(writer)


SCENES: Final[dict[str, Scene]] = {
    "good": good,
    "429": refuse(429, "rate_limit_error"),
    "529": refuse(529, "overloaded_error"),
    "reset": drop,
    "empty": empty,
    "torn-early": torn_early,
    "torn": torn,
    "hang": hang,
}
REFUSED: Final = "refused"
"""The scene in which the port is closed."""


class Upstream:
    """What listens, and the scene."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._scene: Scene = good
        self._server: asyncio.Server | None = None
        self._open: set[Writer] = set()

    async def listen(self) -> None:
        """Open the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self._open.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = LENGTH.search(head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                await self._scene(writer, bool(STREAMED.search(body)))
        writer.close()
        self._open.discard(writer)

    async def control(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        """Change the scene with each line; each is acknowledged."""
        async for line in reader:
            name = line.decode().strip()
            if name == REFUSED:
                assert self._server is not None
                self._server.close()
                self._server = None
                for each in list(self._open):
                    each.transport.abort()
            else:
                self._scene = SCENES[name]
                if self._server is None:
                    await self.listen()
            writer.write(b"done\n")


async def main(port: int, control: int, tls: int) -> None:
    """Listen."""
    upstream = Upstream(port)
    await upstream.listen()
    async with (
        await asyncio.start_server(lambda _reader, writer: hang(writer, True), "127.0.0.1", tls),
        await asyncio.start_server(upstream.control, "127.0.0.1", control) as server,
    ):
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
