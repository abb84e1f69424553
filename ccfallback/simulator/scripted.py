"""A scripted upstream: real sockets on loopback that answer, refuse, stall, drip or break as told.

It serves `demo` and the tests. A script is a coroutine function that is given the request and
the connection; the functions below make the usual ones.
"""

import asyncio
import contextlib
import socket
import struct
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ccfallback.messages.assemble import to_events
from ccfallback.messages.sse import EventSplitter

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream; charset=utf-8"

_LINGER_NOT: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""Close a socket at once, and let what was not sent be lost."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


@dataclass(slots=True)
class Connection:
    """The way back to the client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    stopping: asyncio.Event

    async def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send a status line and headers."""
        lines = [f"HTTP/1.1 {status} Scripted"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body; an empty one ends it."""
        await self.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def silence(self) -> None:
        """Say nothing until the client or the server leaves."""
        leaving = asyncio.create_task(self.reader.read(1))
        stopping = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({leaving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        stopping.cancel()
        raise Hangup

    def reset(self) -> None:
        """Break the connection with a reset, not with an end in good order."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.writer.transport.abort()


class Hangup(Exception):
    """End the connection here."""


Script = Callable[[Received, Connection], Awaitable[None]]


@dataclass(slots=True)
class ScriptedUpstream:
    """A server on a port of its own, in a thread of its own.

    Requests are answered by the scripts in turn, the last one again and again; a function in
    `route` chooses by the request instead. `received` holds all of them.
    """

    scripts: Sequence[Script] = ()
    route: Callable[[Received], Script] | None = None
    host: str = "127.0.0.1"
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _stopping: asyncio.Event | None = None
    _port: int = 0
    _turn: int = 0

    def __enter__(self) -> "ScriptedUpstream":
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread is not None:
            self._thread.join()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self._port}"

    def script(self, *scripts: Script) -> None:
        """Answer from now on with these, in turn."""
        self.scripts, self._turn = scripts, 0

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._connected, self.host, 0, limit=1 << 26)
        self._port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stopping.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        # One turn of the loop, in which the closed connections let go of their sockets.
        await asyncio.sleep(0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._stopping is not None
        self.connections += 1
        connection = Connection(reader, writer, self._stopping)
        try:
            while True:
                request = await _read_request(connection)
                self.received.append(request)
                await self._next(request)(request, connection)
        except (Hangup, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # However a script, a client or the end of the server ends it, the connection is over.
            pass
        finally:
            writer.close()

    def _next(self, request: Received) -> Script:
        if self.route is not None:
            return self.route(request)
        script = self.scripts[min(self._turn, len(self.scripts) - 1)]
        self._turn += 1
        return script


async def _read_request(connection: Connection) -> Received:
    reader = connection.reader
    letter = await reader.readexactly(1)
    if not letter.isalpha():
        # Another protocol, such as TLS: refused as any server of HTTP refuses it.
        await connection.head(400, {"connection": "close", "content-length": "0"})
        raise Hangup
    head = (letter + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = [line.partition(":") for line in lines]
    headers = tuple((name.strip(), value.strip()) for name, _, value in pairs)
    request = Received(method, target, headers, b"")
    if request.header("transfer-encoding") == "chunked":
        parts = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        body = b"".join(parts)
    else:
        body = await reader.readexactly(int(request.header("content-length") or 0))
    return Received(method, target, headers, body)


def answer(
    status: int, body: bytes, media_type: str = JSON, headers: Mapping[str, str] | None = None
) -> Script:
    """A whole answer."""

    async def script(_request: Received, connection: Connection) -> None:
        length = str(len(body))
        await connection.head(
            status, {"content-type": media_type, "content-length": length, **(headers or {})}
        )
        await connection.write(body)

    return script


def error(
    status: int, kind: str, message: str = "scripted", headers: Mapping[str, str] | None = None
) -> Script:
    """An error in Anthropic's envelope."""
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return answer(status, msgspec.json.encode(body), headers=headers)


def html(status: int = 200) -> Script:
    """A page, where an answer should be."""
    page = b"<html><head><title>Just a moment</title></head><body>Checking</body></html>"
    return answer(status, page, "text/html")


async def nothing(_request: Received, _connection: Connection) -> None:
    """No more than has been said, and then the end."""


async def hang(_request: Received, connection: Connection) -> None:
    """No byte at all."""
    await connection.silence()


async def reset(_request: Received, connection: Connection) -> None:
    """A reset instead of an answer."""
    connection.reset()
    raise Hangup


async def close(_request: Received, _connection: Connection) -> None:
    """A closed connection instead of an answer."""
    raise Hangup


def message(
    content: Iterable[Mapping[str, Any]] | str,
    *,
    model: str = "scripted-model",
    stop_reason: str = "end_turn",
) -> dict[str, Any]:
    """A whole message."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    return {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 12, "output_tokens": 7},
    }


def reply(content: Iterable[Mapping[str, Any]] | str, *, stop_reason: str = "end_turn") -> Script:
    """A good answer: a stream or a whole message, as the request asks."""

    async def script(request: Received, connection: Connection) -> None:
        asked = request.json
        whole = message(content, model=asked.get("model", ""), stop_reason=stop_reason)
        body = msgspec.json.encode(whole)
        if asked.get("stream") is True:
            await stream(events_of(body))(request, connection)
        else:
            await answer(200, body)(request, connection)

    return script


def events_of(body: bytes) -> list[bytes]:
    """The events that stream a whole message."""
    return EventSplitter().feed(to_events(body))


def stream(
    events: Iterable[bytes], then: Script | None = None, headers: Mapping[str, str] | None = None
) -> Script:
    """Events as a chunked stream, each in a write of its own; `then` happens instead of an end."""

    async def script(request: Received, connection: Connection) -> None:
        head = {"content-type": EVENTS, "transfer-encoding": "chunked", **(headers or {})}
        await connection.head(200, head)
        for event in events:
            await connection.chunk(event)
        if then is not None:
            await then(request, connection)
        await connection.chunk(b"")

    return script
