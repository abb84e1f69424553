"""One request on a server's connection and its response, as ASGI's `receive` and `send`.

AWAITED ──http.response.start──► STARTED ──last piece──► COMPLETE
   └────────── the client leaves ──┴──► DISCONNECTED
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, Protocol

from ccfallback.http1.request import HIGH_WATER, ONE_WRITE, Headers, encode_head, in_writes

_LAST_CHUNK: Final = b"0\r\n\r\n"
_WITHOUT_BODY: Final = frozenset({204, 304})
_FRAMING: Final = frozenset({b"connection", b"transfer-encoding"})
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class ClientConnection(Protocol):
    """What a request uses of its connection."""

    transport: asyncio.Transport
    is_write_paused: bool
    """Whether the loop has enough to write."""

    def pause_reading(self) -> None:
        """Read no more for now."""

    def resume_reading(self) -> None:
        """Read again."""

    async def drain(self) -> None:
        """Wait until the loop has written."""

    def response_complete(self) -> None:
        """A response was sent: start the next request, or wait for one."""

    def close(self) -> None:
        """Close when all is written."""

    def reset(self) -> None:
        """Close so that the client sees an error, not an end."""


class CycleState(Enum):
    """How far a request is answered; see above."""

    AWAITED = auto()
    STARTED = auto()
    COMPLETE = auto()
    DISCONNECTED = auto()


# Looking up a member costs Python 3.11 as much as the rest of a test.
(AWAITED, STARTED, COMPLETE, DISCONNECTED) = CycleState


class RequestCycle:
    """A request and its response: the connection feeds it, the application reads and answers.

    The head of a response leaves with the first piece of its body, because a client that is woken
    twice, each time by a system call, waits longer. To send the head alone, an application sends
    an empty piece. A message that starts a response may hold a `body`: that is the whole one.
    """

    __slots__ = (
        "_chunked", "_connection", "_expects_continue", "_head", "_is_delivered", "_left", "_news",
        "_pieces", "_size", "_task", "is_arriving", "keep_alive", "scope", "state",
    )  # fmt: skip

    def __init__(
        self,
        connection: ClientConnection,
        scope: Scope,
        *,
        keep_alive: bool,
        expects_continue: bool = False,
        body: bytes | None = None,
    ) -> None:
        """`body` is that of the request if all of it has arrived."""
        self.scope = scope
        self._connection = connection
        self._task: asyncio.Task[None] | None = None
        # The request.
        self.is_arriving = body is None
        """Whether the client is still sending the body."""
        self._is_delivered = False
        """Whether the application has the whole body."""
        self._expects_continue = expects_continue
        self._pieces = [] if body is None else [body]
        self._size = 0
        self._news: asyncio.Future[None] | None = None
        """What `receive` waits for."""
        # The response.
        self.state = AWAITED
        self.keep_alive = keep_alive
        """Whether the connection may carry another request after this one."""
        self._head = b""
        """The head, until it leaves."""
        self._chunked = False
        self._left: int | None = None
        """The bytes that are missing of a body with a `content-length`."""

    @property
    def is_complete(self) -> bool:
        """Whether the whole response was sent."""
        return self.state is COMPLETE

    @property
    def unread_size(self) -> int:
        """Bytes of the body that have arrived and that the application has not got."""
        return self._size

    def feed(self, piece: bytes) -> None:
        """The client has sent a piece of the body."""
        if self.state is COMPLETE:
            return
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > HIGH_WATER:
            self._connection.pause_reading()
        if self._news is not None:
            self._wake()

    def end(self) -> None:
        """The client has sent the whole body."""
        self.is_arriving = False
        if self._news is not None:
            self._wake()

    def disconnect(self) -> None:
        """The client has left."""
        if self.state is not COMPLETE:
            self.state = DISCONNECTED
        self._wake()

    def start(
        self, app: App, loop: asyncio.AbstractEventLoop, tasks: "set[asyncio.Task[None]]"
    ) -> None:
        """Let the application answer, in a task that is one of `tasks` while it runs."""
        self._task = loop.create_task(self._run(app, tasks))
        tasks.add(self._task)

    async def _run(self, app: App, tasks: "set[asyncio.Task[None]]") -> None:
        """Answer; a response that is not complete ends with the connection."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            # The server stops and has no more time.
            pass
        finally:
            if self.state is not COMPLETE:
                self._give_up()
            if self._task is not None:
                # A callback of the task would cost another turn of the loop.
                tasks.discard(self._task)
                self._task = None

    def _give_up(self) -> None:
        """End a response that is not complete."""
        if self.state is STARTED and self._ends_with_connection:
            # Otherwise, what has left would look like the whole response.
            self._connection.reset()
        elif self.state is not DISCONNECTED:
            self._connection.close()

    @property
    def _ends_with_connection(self) -> bool:
        """Whether only the end of the connection ends the body."""
        return not self._chunked and self._left is None

    async def receive(self) -> Message:
        """What has arrived of the body since the last time, or that the client has left."""
        if self._expects_continue and not self._connection.transport.is_closing():
            self._expects_continue = False
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while self.state is AWAITED or self.state is STARTED:
            pieces = self._pieces
            if pieces or not (self.is_arriving or self._is_delivered):
                body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                pieces.clear()
                self._size = 0
                self._is_delivered = not self.is_arriving
                return {"type": "http.request", "body": body, "more_body": self.is_arriving}
            self._connection.resume_reading()
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send the head of the response, or a piece of its body."""
        if self._connection.is_write_paused and self.state is not DISCONNECTED:
            await self._connection.drain()
        if self.state is DISCONNECTED:
            return
        if message["type"] == "http.response.start":
            self._start_response(message["status"], message["headers"])
            if "body" not in message:
                return
        is_last = not message.get("more_body", False)
        self._write(message.get("body", b""), is_last=is_last)
        if is_last:
            self.state = COMPLETE
            if self._news is not None:
                self._wake()
            if not self.keep_alive:
                self._connection.close()
            self._connection.response_complete()

    def _start_response(self, status: int, headers: Headers) -> None:
        if self.state is not AWAITED:
            raise RuntimeError("the response has started already")
        # A client that gets its response needs no leave to send the body.
        self._expects_continue = False
        self._left, self._chunked = None, False
        given = dict(headers)
        if not _FRAMING.isdisjoint(given):
            raise RuntimeError("the connection decides how a response is framed")
        length = given.get(b"content-length")
        if length is not None:
            self._left = int(length)
        if not self.keep_alive:
            headers = [*headers, (b"connection", b"close")]
        if self.scope["method"] == "HEAD" or status in _WITHOUT_BODY:
            self._left = 0
        elif self._left is None and self.scope["http_version"] != "1.0":
            # In HTTP/1.0, a body without a length ends with the connection.
            self._chunked = True
            headers = [*headers, (b"transfer-encoding", b"chunked")]
        try:
            self._head = encode_head(_status_line(status), headers)
        except ValueError as error:
            raise RuntimeError(str(error)) from None
        self.state = STARTED

    def _write(self, body: bytes, *, is_last: bool) -> None:
        if self.state is not STARTED:
            raise RuntimeError("a piece of a body before the head or after the end")
        before, self._head = self._head, b""
        after = b""
        if self._chunked:
            if body and not is_last and len(body) <= ONE_WRITE:
                # So is nearly every piece of a stream.
                piece = b"%b%x\r\n%b\r\n" % (before, len(body), body)
                self._connection.transport.write(piece)
                return
            if body:
                before = b"%b%x\r\n" % (before, len(body))
                after = b"\r\n"
            if is_last:
                after += _LAST_CHUNK
        elif self.scope["method"] == "HEAD":
            body = b""
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (is_last and self._left):
                raise RuntimeError("the body is not as long as its content-length")
        for data in in_writes(before, body, after):
            self._connection.transport.write(data)

    def _wake(self) -> None:
        news = self._news
        if news is not None and not news.done():
            news.set_result(None)


@lru_cache(maxsize=64)
def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}".encode()
