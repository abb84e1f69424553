"""The server's side of a connection: an asyncio protocol that lets an ASGI application answer.

A connection that sends no request in time, or a request that is slow, endless or malformed, costs
a few kilobytes and one timer until it is refused. What follows a complete request never disturbs
its response.

    WAITING ──first byte──► HEAD ──the head's end──► BODY ──the body's end──► WAITING …
       │ IDLE_SECONDS         │ HEAD_SECONDS           │ BODY_SECONDS
       ▼                      ▼                        ▼
     close                  408, close               408, close      any violation: 4xx, close

Requests that follow each other without waiting (pipelining) are answered in their order: one is
being answered, one is being read, others wait in between.

Why not uvicorn's `HttpToolsProtocol`? In a comparison of 30 rounds that took turns, with 2 kB
requests on 16 connections, it takes 6% more CPU per request (161 µs, not 151 µs), which
alone would not justify a protocol. But it has no deadline for a first request, a head or a body,
and no limit on a head or a target; no setting adds them. It passes trailers on as headers, drops
the body of a request that asks for an upgrade, writes its plain-text 400 into the response before
a malformed request, and sends chunks to HTTP/1.0 clients. A subclass would have to replace all
parser callbacks and the request cycle, none of which is a public interface.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from time import monotonic
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools

from ccfallback.http1.deadline import Deadline, Timer
from ccfallback.http1.known_head import MAX_DIGITS, KnownHead, learn_head
from ccfallback.http1.listener import Server
from ccfallback.http1.request import Headers, encode_head
from ccfallback.http1.request_cycle import STARTED, App, RequestCycle

IDLE_SECONDS: Final = 120.0
"""How long a connection may be open before a request, the first or the next: clients connect ahead
of time, and should seldom find a pooled connection closed when they use it."""

HEAD_SECONDS: Final = 15.0
"""From the first byte of a request to the end of its head."""

BODY_SECONDS: Final = 60.0
"""How long no byte of a body may arrive."""

STALL_SECONDS: Final = 120.0
"""How long a client may read nothing of a response that waits for it."""

LINGER_SECONDS: Final = 2.0
"""How long a refused client may go on sending: if the connection closed while bytes of it are
unread, the system might take the refusal back."""

MAX_HEADERS: Final = 1000
"""Headers of one request."""

MAX_HEAD: Final = 64 * 1024
"""Bytes of a head; of trailers and of chunk sizes in a row too."""

MAX_TARGET: Final = 32 * 1024
"""Bytes of a target: few enough that it is still a URL below a provider's address."""

CONNECTION_KEY: Final = "http1.connection"
"""The scope's key for the `ServerProtocol`, which knows when the client leaves."""

ARRIVAL_KEY: Final = "http1.arrival"
"""The scope's key for the time at which the request's head was complete, by the monotonic clock."""

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
_CHECKED: Final = frozenset({b"content-length", b"expect", b"transfer-encoding", b"upgrade"})
"""Request headers that the connection reads itself."""
_OFFERS: Final = frozenset({b"upgrade", b"http2-settings"})
"""Request headers with which a client offers another protocol."""
_OTHER_PROTOCOLS: Final = (b" RTSP/1.0", b" ICE/1.0")
_END_OF_LINE: Final = max(map(len, _OTHER_PROTOCOLS)) + 2
"""The bytes of such a name and of the line end after it."""
"""The parser takes them for HTTP/1.0."""

Refuse = Callable[[int, str], tuple[Headers, bytes]]
"""Called with status and message when a request is refused; returns headers and body to send."""


class ConnectionLimit:
    """How many connections a server keeps; beyond that, the one that is idle longest is closed.

    A connection is idle while the head of a request is awaited. Only those can be closed, so that
    silent connections never keep out a client that has a request.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.idle: dict[ServerProtocol, None] = {}
        """The idle connections, the longest idle first."""

    def make_room(self, count: int) -> None:
        """Close idle connections until there are not more than allowed; `count` are open."""
        for connection in list(self.idle)[: max(count - self.most, 0)]:
            del self.idle[connection]
            connection.transport.abort()


class ReadState(Enum):
    """Which part of a request a connection expects; see the diagram above."""

    WAITING = auto()
    HEAD = auto()
    BODY = auto()
    REFUSED = auto()
    """Nothing more is read."""


# Looking up a member costs Python 3.11 as much as the rest of a test.
(WAITING, HEAD, BODY, REFUSED) = ReadState


class _Refused(Exception):
    """A request is refused: status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ServerProtocol(asyncio.Protocol):
    """A connection from a client, whose requests `app` answers."""

    # A dictionary of so many attributes would take more than a kilobyte.
    __slots__ = (
        "_addresses", "_allowed", "_answering", "_app", "_expects_continue", "_head_size",
        "_headers", "_is_chunked", "_is_counting", "_is_read_paused", "_known_head",
        "_late_refusal", "_limit", "_missing", "_offers_upgrade", "_parser", "_read", "_reading",
        "_refuse_with", "_server", "_stall", "_state", "_timer", "_unread", "_unsent", "_url",
        "_waiting", "_writable", "deadline", "is_gone", "is_write_paused", "loop", "memory",
        "on_gone", "transport",
    )  # fmt: skip

    def __init__(
        self,
        app: App,
        server: Server,
        refuse: Refuse,
        limit: ConnectionLimit,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app = app
        self._limit = limit
        self._server = server
        self._refuse_with = refuse
        # For the life of the connection. What has no underscore is for the application.
        self.loop = loop or asyncio.get_running_loop()
        """The connection's event loop; finding the running one takes a system call."""
        self.deadline = Deadline()
        """For the application's own waits: kept here, so that all requests share its timer."""
        self.is_gone = False
        """Whether the connection is closed."""
        self.on_gone: Callable[[], None] | None = None
        """What to call when it closes."""
        self.memory: object = None
        """What the application keeps from one request to the next."""
        self.transport: asyncio.Transport
        self._is_read_paused = False
        self.is_write_paused = False
        self._writable: asyncio.Event | None = None
        """Set when the loop has written; `None` before it first had enough to write."""
        self._addresses: tuple[Any, Any] = (None, None)
        """The server's address and the client's."""
        self._parser: httptools.HttpRequestParser | None = self._make_parser()
        self._stall: Timer | None = None
        """Limits how long the client reads nothing."""
        self._unsent = 0
        """The bytes that waited for the client when that limit began."""
        self._timer = Timer(self._time_out)
        self._allowed: float | None = None
        """Seconds until more has to arrive, by what was read last: 0 if nothing has to, `None` if
        the timer stays as it is."""
        # The requests.
        self._reading: RequestCycle | None = None
        """The request whose body is arriving, or else the last one."""
        self._answering: RequestCycle | None = None
        """The request that is being answered, or else was answered last."""
        self._waiting: list[RequestCycle] = []
        """The requests that wait for the response before theirs."""
        # The request that is being read.
        self._state = WAITING
        self._url = b""
        self._headers: Headers = []
        self._expects_continue = False
        self._is_chunked = False
        self._offers_upgrade = False
        self._known_head: KnownHead | None = None
        """The head of the last request, if a request with the same one need not be parsed."""
        self._missing = 0
        """Bytes that are still to come of the body of a request that was not parsed."""
        self._late_refusal: tuple[int, str] | None = None
        """How to refuse what follows the last request, as soon as that is answered."""
        self._read = b""
        """What the loop read last, while it may hold a part of a head."""
        self._unread = 0
        """Bytes that arrived since a head, a piece of a body or a request was complete."""
        self._head_size = 0
        self._is_counting = False
        """Whether the parts of the head are counted: not where all that arrived is short enough."""

    # Callbacks of the event loop and the server.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has accepted it."""
        # uvloop's transports do not inherit from asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self._addresses = (
            transport.get_extra_info("sockname"),
            transport.get_extra_info("peername"),
        )
        self._server.connections.add(self)
        self._timer.set(IDLE_SECONDS)
        self._limit.make_room(len(self._server.connections))
        self._limit.idle[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop has closed it."""
        self._timer.close()
        self.deadline.close()
        self.is_gone = True
        self._parser = None
        self._server.connections.discard(self)
        self._limit.idle.pop(self, None)
        if self._stall is not None:
            self._stall.close()
        for cycle in (self._answering, self._reading, *self._waiting):
            if cycle is not None:
                cycle.disconnect()
        # They refer to this connection: unlinked, they need no garbage collector.
        self._answering = self._reading = self._known_head = None
        self._waiting.clear()
        self.resume_writing()
        if self.on_gone is not None:
            self.on_gone()

    def pause_writing(self) -> None:
        """The loop has enough to write."""
        self.is_write_paused = True
        self._writable = asyncio.Event()
        self._watch_client()

    def resume_writing(self) -> None:
        """The loop has written."""
        self.is_write_paused = False
        if self._writable is not None:
            self._writable.set()
        if self._stall is not None:
            self._stall.stop()

    def shutdown(self, *, is_patient: bool = False) -> None:
        """The server stops: close after the response that is under way.

        With `is_patient`, only after a response that tells the client so: until then, its next
        request may be on the way.
        """
        cycle = self._reading
        if cycle is None or cycle.is_complete:
            if not is_patient:
                self.transport.close()
        elif not (is_patient and cycle.state is STARTED):
            cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        """The loop has read."""
        if self._state is REFUSED or self._parser is None or self.transport.is_closing():
            return
        if self._missing:
            self._feed_known(data)
            return
        is_first = self._state is WAITING and (self._reading is None or self._reading.is_complete)
        if is_first and self._known_head is not None:
            known = self._known_head.match(data)
            if known is not None:
                self._start_known(*known)
                return
        self._allowed = None
        continues_head = self._state is HEAD
        if self._state is WAITING:
            self._expect_head()
        # The name of another protocol may be cut between two reads.
        self._read = self._read[-_END_OF_LINE:] + data if continues_head else data
        self._unread += len(data)
        if continues_head and not self._is_counting:
            # The first part of this head was too short to be counted on its own.
            pairs = ((self._url, b""), *self._headers)
            self._head_size = sum(len(name) + len(value) + 4 for name, value in pairs)
        # Where no more has arrived, no head in it can be too long.
        self._is_counting = continues_head or self._unread > MAX_HEAD
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._refuse_malformed(error)
        else:
            if self._allowed:
                self._timer.set(self._allowed)
            elif self._allowed is not None:
                self._timer.stop()
            if self._state is not HEAD:
                self._read = b""
            if self._unread > MAX_HEAD:
                self._refuse(431, "Request head is too long")
            if is_first and (self._state is WAITING or self._state is BODY):
                self._learn_head(data)

    def _start_known(self, scope: dict[str, Any], body: bytes, missing: int) -> None:
        """Let the application answer a request whose head has been read before.

        So many bytes are missing of its body: the parser does not get them either.
        """
        self._limit.idle.pop(self, None)
        scope[ARRIVAL_KEY] = monotonic()
        cycle = self._reading = RequestCycle(
            self, scope, keep_alive=not self._server.is_stopping, body=None if missing else body
        )
        self._missing = missing
        if missing:
            self._state = BODY
            self._timer.set(BODY_SECONDS)
            if body:
                cycle.feed(body)
        else:
            self._timer.stop()
        self._start(cycle)

    def _feed_known(self, data: bytes) -> None:
        """Take a piece of the body of a request whose head has been read before."""
        cycle = self._reading
        assert cycle is not None, "its body is arriving"
        after = data[self._missing :]
        cycle.feed(data[: self._missing])
        self._missing -= len(data) - len(after)
        if self._missing:
            self._timer.set(BODY_SECONDS)
            return
        cycle.end()
        self._state = WAITING
        if cycle.is_complete:
            # It was answered before it had arrived as a whole.
            self._timer.set(IDLE_SECONDS)
        else:
            self._timer.stop()
        if after:
            self.data_received(after)

    def _learn_head(self, data: bytes) -> None:
        """Remember the head of a request, unless more than its bytes decides what it means."""
        self._known_head = None
        cycle = self._reading
        if cycle is not None and cycle.keep_alive and not self._expects_continue:
            # The application has not begun yet, so that scope and body are as they came.
            self._known_head = learn_head(data, {**cycle.scope}, cycle.unread_size)

    def _parse(self, data: bytes) -> None:
        while True:
            assert self._parser is not None
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as error:
                data = self._without_upgrade() + data[error.args[0] :]
                self._parser = self._make_parser()
            else:
                return

    def _make_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # What follows a request that announced `connection: close` must not break that request.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _without_upgrade(self) -> bytes:
        """The head of a request without its offer of another protocol (RFC 9110, 7.8).

        The parser takes what follows the head for the other protocol, even a body: so another
        parser gets this head, and then the rest.
        """
        assert self._parser is not None
        version = self._parser.get_http_version().encode()
        lines = [self._parser.get_method() + b" " + self._url + b" HTTP/" + version]
        for name, value in self._headers:
            if name == b"connection":
                options = [option.strip() for option in value.split(b",")]
                value = b", ".join([each for each in options if each.lower() not in _OFFERS])
            if name not in _OFFERS and (value or name != b"connection"):
                lines.append(b": ".join((name, value)))
        return b"\r\n".join(lines) + b"\r\n\r\n"

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        """Start a request."""
        self._url = b""
        self._headers = []
        self._expects_continue = self._is_chunked = self._offers_upgrade = False
        self._head_size = 0
        if self._state is WAITING:
            # It follows another request in the same read.
            self._expect_head()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._url += url
        if len(self._url) > MAX_TARGET:
            raise _Refused(414, f"Request target is over the limit of {MAX_TARGET} bytes")
        if self._is_counting:
            self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. A trailer is dropped: it comes after all checks of the headers."""
        if self._is_counting:
            self._count(len(name) + len(value))
        if self._state is HEAD:
            name = name.lower()
            # The parser leaves the white space behind a value.
            value = value.rstrip(b" \t")
            if name in _CHECKED:
                self._check_header(name, value)
            self._headers.append((name, value))

    def _check_header(self, name: bytes, value: bytes) -> None:
        """Refuse what the next server might read in another way."""
        if name == b"expect":
            self._expects_continue = value.lower() == b"100-continue"
        elif name == b"content-length":
            if len(value) > MAX_DIGITS or not value.isdigit():
                raise _Refused(400, "Content-Length is not a length")
        elif name == b"transfer-encoding":
            if self._is_chunked or value.lower() != b"chunked":
                raise _Refused(400, "Only `chunked` is a transfer coding here")
            self._is_chunked = True
        elif b"websocket" in value.lower():
            raise _Refused(400, "WebSocket is not spoken here")

    def on_headers_complete(self) -> None:
        """Let the application answer, or queue the request."""
        parser = self._parser
        assert parser is not None
        version = parser.get_http_version()
        if version != "1.1":
            self._check_version(version)
        if len(self._headers) > MAX_HEADERS:
            raise _Refused(431, f"Request has more than {MAX_HEADERS} headers")
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise _Refused(400, "This is not a proxy for other servers")
            self._offers_upgrade = True
            return
        path, raw_path, query = _parse_target(self._url)
        before = self._reading
        cycle = self._reading = RequestCycle(
            self,
            {
                "type": "http",
                "asgi": _ASGI,
                "http_version": version,
                "server": self._addresses[0],
                "client": self._addresses[1],
                "scheme": "http",
                "root_path": "",
                "method": parser.get_method().decode("ascii"),
                "path": path,
                "raw_path": raw_path,
                "query_string": query,
                "headers": self._headers,
                CONNECTION_KEY: self,
                ARRIVAL_KEY: monotonic(),
            },
            keep_alive=(
                version != "1.0" and parser.should_keep_alive() and not self._server.is_stopping
            ),
            expects_continue=self._expects_continue and version != "1.0",
        )
        self._state = BODY
        self._limit.idle.pop(self, None)
        self._unread = self._head_size = 0
        self._allowed = BODY_SECONDS
        if before is None or before.is_complete:
            self._start(cycle)
        else:
            self.pause_reading()
            self._waiting.append(cycle)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        if self._reading is not None:
            self._reading.feed(body)
        self._unread = self._head_size = 0
        self._allowed = BODY_SECONDS

    def on_message_complete(self) -> None:
        """End a request: the next one may start."""
        if self._offers_upgrade:
            # `_parse` reads it again.
            return
        cycle = self._reading
        if cycle is not None:
            cycle.end()
        self._state = WAITING
        self._unread = 0
        if cycle is not None and cycle.is_complete:
            # It was answered before it had arrived as a whole.
            self._allowed = IDLE_SECONDS
        else:
            self._allowed = 0.0

    def _check_version(self, version: str) -> None:
        if version != "1.0":
            raise _Refused(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here")
        if any(protocol in self._read for protocol in _OTHER_PROTOCOLS):
            raise _Refused(400, "Only HTTP is spoken here")

    def _expect_head(self) -> None:
        self._state = HEAD
        self._allowed = HEAD_SECONDS

    def _start(self, cycle: RequestCycle) -> None:
        self._answering = cycle
        cycle.start(self._app, self.loop, self._server.tasks)

    def _count(self, size: int) -> None:
        self._head_size += size + 4
        if self._head_size > MAX_HEAD:
            raise _Refused(431, "Request head is too long")

    # What its requests use.

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self._is_read_paused:
            self._is_read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._is_read_paused:
            self._is_read_paused = False
            self.transport.resume_reading()

    async def drain(self) -> None:
        """Wait until the loop has written."""
        if self._writable is not None:
            await self._writable.wait()

    def response_complete(self) -> None:
        """A response was sent: start the next request, or wait for one."""
        if self.transport.is_closing():
            return
        if self._is_read_paused:
            self.resume_reading()
        if self._waiting:
            self._start(self._waiting.pop(0))
            return
        if self._late_refusal is not None:
            self._send_refusal(*self._late_refusal)
            return
        if not self._timer.is_set:
            self._timer.set(IDLE_SECONDS)
        if self._state is not BODY:
            self._limit.idle[self] = None

    def _watch_client(self) -> None:
        """Drop the client if it reads nothing for a while."""
        if self._stall is None:
            self._stall = Timer(self._drop_stalled)
        self._unsent = self.transport.get_write_buffer_size()
        self._stall.set(STALL_SECONDS)

    def _drop_stalled(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent >= self._unsent:
            self.transport.abort()
        else:
            self._watch_client()

    def close(self) -> None:
        """Close when all is written."""
        if self.transport.get_write_buffer_size():
            # A client that never reads would keep it open.
            self._watch_client()
        self.transport.close()

    def reset(self) -> None:
        """Close so that the client sees an error, not an end."""
        with suppress(OSError, ValueError, AttributeError):
            # The transport's own socket object allows no options everywhere.
            number = os.dup(self.transport.get_extra_info("socket").fileno())
            with socket.socket(fileno=number) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    # Refusals.

    def _time_out(self) -> None:
        if self._state is HEAD:
            self._refuse(408, "Request head did not come in time")
        elif self._state is WAITING or self._state is REFUSED:
            self.close()
        elif self._is_read_paused:
            # The delay is on this side: the application has not read what arrived.
            self._timer.set(BODY_SECONDS)
        else:
            self._refuse(408, "Request body did not come in time")

    def _refuse_malformed(self, error: httptools.HttpParserError) -> None:
        """Refuse a request for what a callback raised, or else for what the parser found."""
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, _Refused):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            self._refuse(400, "Request is not readable as HTTP/1.1")
        else:
            self._refuse(cause.status, cause.message)

    def _refuse(self, status: int, message: str) -> None:
        """Respond with an error and close; after a complete request, close after its response."""
        self._timer.stop()
        if self._waiting and self._waiting[-1].is_arriving:
            # That request is dropped, and those before it are answered.
            self._waiting.pop()
            self._reading = self._waiting[-1] if self._waiting else self._answering
        cycle = self._reading
        self._state = REFUSED
        is_unanswered = cycle is not None and not cycle.is_complete
        if cycle is not None and is_unanswered and not cycle.is_arriving:
            self._late_refusal = status, message
            return
        if cycle is None or cycle.state is not STARTED:
            self._send_refusal(status, message)
        else:
            self._refuse_with(status, message)
            self.transport.close()

    def _send_refusal(self, status: int, message: str) -> None:
        """Send an error; close when the client has stopped sending, or soon."""
        headers, body = self._refuse_with(status, message)
        start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()
        framing = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        self.transport.write(encode_head(start, [*headers, *framing]) + body)
        if not self.transport.can_write_eof():
            self.close()
            return
        self.transport.write_eof()
        self.resume_reading()
        self._timer.set(LINGER_SECONDS)


def _parse_target(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, raw path and query of a target. Raises what the parser reports as an error."""
    return _recall_target(url) if len(url) < 256 else _split_target(url)


def _split_target(url: bytes) -> tuple[str, bytes, bytes]:
    parsed = httptools.parse_url(url)
    return unquote(parsed.path.decode("ascii")), parsed.path, parsed.query or b""


# A client asks for the same few targets again and again.
_recall_target = lru_cache(maxsize=256)(_split_target)
