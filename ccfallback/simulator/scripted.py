"""A scripted upstream: real sockets on loopback that answer, refuse, stall, drip or break.

A script is a coroutine function that is called with a request and its connection. The functions
below make the usual ones: good answers in Anthropic's format, errors, and misbehavior of HTTP.
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

MOMENT: Final = 0.05
"""Seconds in which the client reads what was sent, apart from what follows."""

PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
COMMENT: Final = b": still here\n\n"

_RESET_ON_CLOSE: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""A linger time of zero: closing the socket resets the connection and drops unsent bytes."""


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
    """The upstream's side of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    more: Mapping[str, str] = field(default_factory=dict)
    """Headers of the next response besides its own."""

    async def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send a status line and headers."""
        lines = [f"HTTP/1.1 {status} Scripted"]
        lines += [f"{name}: {value}" for name, value in {**headers, **self.more}.items()]
        self.more = {}
        await self.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body; an empty one ends it."""
        await self.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def silence(self) -> None:
        """Send nothing until the client leaves or the upstream stops."""
        leaving = asyncio.create_task(self.reader.read(1))
        stopping = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({leaving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        stopping.cancel()
        raise Hangup

    def reset(self) -> None:
        """Break the connection with a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.writer.transport.abort()


class Hangup(Exception):
    """A script closes the connection."""


Script = Callable[[Received, Connection], Awaitable[None]]


@dataclass(slots=True)
class ScriptedUpstream:
    """A server on its own port, in its own thread.

    Requests are answered by the scripts in turn, and from then on by the last one; a function in
    `route` chooses by the request instead. `received` holds all requests.
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
        server = await asyncio.start_server(self._serve_connection, self.host, 0, limit=1 << 26)
        self._port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stopping.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        # The closed connections release their sockets in one turn of the loop.
        await asyncio.sleep(0)

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        assert self._stopping is not None
        self.connections += 1
        connection = Connection(reader, writer, self._stopping)
        try:
            while True:
                request = await _read_request(connection)
                self.received.append(request)
                await self._next_script(request)(request, connection)
        except (Hangup, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # A script, the client or the end of the server has ended the connection.
            pass
        finally:
            writer.close()

    def _next_script(self, request: Received) -> Script:
        if self.route is not None:
            return self.route(request)
        script = self.scripts[min(self._turn, len(self.scripts) - 1)]
        self._turn += 1
        return script


async def _read_request(connection: Connection) -> Received:
    reader = connection.reader
    letter = await reader.readexactly(1)
    if not letter.isalpha():
        # Another protocol, such as TLS: refused as any HTTP server refuses it.
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


# Answers.


def answer(
    status: int, body: bytes, media_type: str = JSON, headers: Mapping[str, str] | None = None
) -> Script:
    """A whole answer."""
    length = str(len(body))
    return _send(
        status, {"content-type": media_type, "content-length": length, **(headers or {})}, body
    )


def error(
    status: int, kind: str, message: str = "scripted", headers: Mapping[str, str] | None = None
) -> Script:
    """An error in Anthropic's envelope."""
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return answer(status, msgspec.json.encode(body), headers=headers)


def html(status: int = 200) -> Script:
    """A web page instead of an answer."""
    page = b"<html><head><title>Just a moment</title></head><body>Checking</body></html>"
    return answer(status, page, "text/html")


def to_blocks(content: Iterable[Mapping[str, Any]] | str) -> list[Mapping[str, Any]]:
    """The blocks of a message; of a text, a block of text."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def message(
    content: Iterable[Mapping[str, Any]] | str,
    *,
    model: str = "scripted-model",
    stop_reason: str = "end_turn",
) -> dict[str, Any]:
    """A whole message of Anthropic's."""
    return {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": to_blocks(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 12, "output_tokens": 7},
    }


def reply(content: Iterable[Mapping[str, Any]] | str, *, stop_reason: str = "end_turn") -> Script:
    """A good answer of Anthropic's: a stream or a whole message, as the request wants it."""

    async def script(request: Received, connection: Connection) -> None:
        wanted = request.json
        whole = message(content, model=wanted.get("model", ""), stop_reason=stop_reason)
        body = msgspec.json.encode(whole)
        streamed = wanted.get("stream") is True
        await (stream(events_of(body)) if streamed else answer(200, body))(request, connection)

    return script


def choose(holds: Callable[[Received], bool], script: Script, otherwise: Script) -> Script:
    """One script for the requests for which something holds, and another one for all others."""

    async def chosen(request: Received, connection: Connection) -> None:
        await (script if holds(request) else otherwise)(request, connection)

    return chosen


def with_more_headers(script: Script, headers: Mapping[str, str]) -> Script:
    """The same response with more headers."""

    async def send(request: Received, connection: Connection) -> None:
        connection.more = dict(headers)
        await script(request, connection)

    return send


def events_of(body: bytes) -> list[bytes]:
    """The events that stream a whole message of Anthropic's."""
    return EventSplitter().feed(to_events(body))


def stream(
    events: Iterable[bytes], then: Script | None = None, headers: Mapping[str, str] | None = None
) -> Script:
    """Events as a chunked stream, each in its own write, and `then` something before its end."""

    async def script(request: Received, connection: Connection) -> None:
        head = {"content-type": EVENTS, "transfer-encoding": "chunked", **(headers or {})}
        await connection.head(200, head)
        for event in events:
            await connection.chunk(event)
        if then is not None:
            await then(request, connection)
        await connection.chunk(b"")

    return script


def _send(
    status: int, headers: Mapping[str, str], body: bytes = b"", *, close: bool = False
) -> Script:
    """A response with exactly these headers; then it may close the connection."""

    async def script(_request: Received, connection: Connection) -> None:
        await connection.head(status, headers)
        await connection.write(body)
        if close:
            raise Hangup

    return script


# Misbehavior. Each script does one thing wrong, the same way every time; `faults` names them.


async def nothing(_request: Received, _connection: Connection) -> None:
    """Send nothing more, and end the answer."""


async def hang(_request: Received, connection: Connection) -> None:
    """Send nothing, and keep the connection open."""
    await connection.silence()


async def reset(_request: Received, connection: Connection) -> None:
    """Reset the connection."""
    connection.reset()
    raise Hangup


async def close(_request: Received, _connection: Connection) -> None:
    """Close the connection."""
    raise Hangup


def in_sequence(*scripts: Script) -> Script:
    """Several scripts, one after the other."""

    async def script(request: Received, connection: Connection) -> None:
        for each in scripts:
            await each(request, connection)

    return script


def in_a_moment(after: Script) -> Script:
    """The same, when the client has had time to read what was sent before."""

    async def script(request: Received, connection: Connection) -> None:
        await asyncio.sleep(MOMENT)
        await after(request, connection)

    return script


def one_chunk(data: bytes) -> Script:
    """One more chunk of an answer that has begun."""

    async def script(_request: Received, connection: Connection) -> None:
        await connection.chunk(data)

    return script


def raw(*pieces: bytes, pause: float = 0.0, forever: bool = False) -> Script:
    """Bytes as they are; then the last piece again and again, or the end of the connection."""

    async def script(_request: Received, connection: Connection) -> None:
        for piece in pieces:
            await connection.write(piece)
        while forever:
            await asyncio.sleep(pause)
            await connection.write(pieces[-1])
        raise Hangup

    return script


def head_and_then(after: Script) -> Script:
    """The head of a stream, and then something else than its body."""

    async def script(request: Received, connection: Connection) -> None:
        await connection.head(200, {"content-type": EVENTS, "transfer-encoding": "chunked"})
        await after(request, connection)

    return script


def repeating(data: bytes) -> Script:
    """A chunk again and again, for as long as the client stays."""

    async def script(_request: Received, connection: Connection) -> None:
        while True:
            await connection.chunk(data)
            await asyncio.sleep(MOMENT)

    return script


def with_headers(status: int, headers: Mapping[str, str], body: bytes = b"") -> Script:
    """An answer with exactly these headers, and the end of the connection."""
    return _send(status, headers, body, close=True)


def with_long_head(size: int) -> Script:
    """A head of that many bytes."""
    line = b"x-padding: " + b"x" * 1000 + b"\r\n"
    return raw(b"HTTP/1.1 200 OK\r\n", *[line] * (size // len(line) + 1), b"\r\n")


def dripping(good: Script) -> Script:
    """The same bytes, a few at a time."""

    async def script(request: Received, connection: Connection) -> None:
        slow = _DrippingConnection(connection.reader, connection.writer, connection.stopping)
        await good(request, slow)

    return script


class _DrippingConnection(Connection):
    """A connection that sends seven bytes at a time: no boundary stays in step with that."""

    async def write(self, data: bytes) -> None:
        """Send bytes, seven at a time."""
        for start in range(0, len(data), 7):
            await super().write(data[start : start + 7])
            await asyncio.sleep(0)
