"""Scripts of an upstream that breaks the rules: of HTTP, of its format, or of good manners.

Each does one thing wrong, the same way every time; `faults` gives them names.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from ccfallback.simulator.scripted import EVENTS, JSON, Connection, Hangup, Received, Script

MOMENT: Final = 0.05
"""Seconds in which what was said before reaches the client, and is seen apart from what follows."""

PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
COMMENT: Final = b": still here\n\n"


def then(*scripts: Script) -> Script:
    """One after the other."""

    async def script(request: Received, connection: Connection) -> None:
        for each in scripts:
            await each(request, connection)

    return script


def in_a_moment(after: Script) -> Script:
    """The same, when the client has had time to see what came before."""

    async def script(request: Received, connection: Connection) -> None:
        await asyncio.sleep(MOMENT)
        await after(request, connection)

    return script


def say(data: bytes) -> Script:
    """One more chunk of an answer that has begun."""

    async def script(_request: Received, connection: Connection) -> None:
        await connection.chunk(data)

    return script


def raw(*pieces: bytes, pause: float = 0.0, forever: bool = False) -> Script:
    """Bytes as they are, whatever they mean; then the end, or the last piece again and again."""

    async def script(_request: Received, connection: Connection) -> None:
        for piece in pieces:
            await connection.write(piece)
        while forever:
            await asyncio.sleep(pause)
            await connection.write(pieces[-1])
        raise Hangup

    return script


def head_first(after: Script, media_type: str = EVENTS) -> Script:
    """The head of an answer, and then something else than its body."""

    async def script(request: Received, connection: Connection) -> None:
        await connection.head(200, {"content-type": media_type, "transfer-encoding": "chunked"})
        await after(request, connection)

    return script


def pings(pause: float = MOMENT) -> Script:
    """Signs of life, and nothing else, for as long as anybody listens."""

    async def script(_request: Received, connection: Connection) -> None:
        while True:
            await connection.chunk(PING)
            await connection.chunk(COMMENT)
            await asyncio.sleep(pause)

    return script


def of_length(length: int, body: bytes, media_type: str = JSON) -> Script:
    """An answer whose `content-length` lies; then the connection is closed."""

    async def script(_request: Received, connection: Connection) -> None:
        await connection.head(200, {"content-type": media_type, "content-length": str(length)})
        await connection.write(body)
        raise Hangup

    return script


def long_head(size: int) -> Script:
    """A head of that many bytes."""
    line = b"x-padding: " + b"x" * 1000 + b"\r\n"
    return raw(b"HTTP/1.1 200 OK\r\n", *[line] * (size // len(line) + 1), b"\r\n")


def dripping(good: Script, pause: float = 0.0) -> Script:
    """The same bytes, a few at a time."""

    async def script(request: Received, connection: Connection) -> None:
        slow = _Dripping(connection.reader, connection.writer, connection.stopping)
        slow.pause = pause
        await good(request, slow)

    return script


class _Dripping(Connection):
    """A connection on which nothing is said in one go."""

    pause = 0.0

    async def write(self, data: bytes) -> None:
        """Send bytes, seven at a time: no boundary of anything falls there for long."""
        for start in range(0, len(data), 7):
            await super().write(data[start : start + 7])
            await asyncio.sleep(self.pause)


def once(good: Script) -> Script:
    """A good answer, after which the connection is closed though it was not said."""
    return then(good, raw())


def with_headers(status: int, headers: Mapping[str, str], body: bytes = b"") -> Script:
    """An answer with exactly these headers, and the end of the connection."""

    async def script(_request: Received, connection: Connection) -> None:
        await connection.head(status, headers)
        await connection.write(body)
        raise Hangup

    return script
