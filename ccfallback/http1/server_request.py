"""One request of a client and its answer, as ASGI has them: a scope, `receive` and `send`.

The head of an answer leaves with the first piece of its body, because a client that is woken
twice, and each time by a system call, waits longer. Whoever wants the head to leave alone sends
an empty piece.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

from ccfallback.http1.head import whole_head
from ccfallback.server.client import Message, Receive, Scope, Send

App = Callable[[Scope, Receive, Send], Awaitable[None]]

HIGH_WATER: Final = 256 * 1024
"""Bytes of a body that wait for the app before reading pauses."""

ONE_WRITE: Final = 64 * 1024
"""A piece up to this length is copied behind what stands before it, to leave with it."""

_LAST_CHUNK: Final = b"0\r\n\r\n"
_NO_BODY: Final = frozenset({204, 304})
_FRAMING: Final = frozenset({b"connection", b"transfer-encoding"})


class ClientRequest:
    """A request under way; the connection feeds it, the app reads it and answers."""

    __slots__ = (
        "_chunked", "_complete", "_delivered", "_ended", "_expects", "_flow", "_head", "_left",
        "_news", "_on_complete", "_pieces", "_size", "_task", "_transport", "disconnected",
        "keep_alive", "scope", "started",
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        transport: asyncio.Transport,
        flow: FlowControl,
        *,
        keep_alive: bool,
        expects_continue: bool,
        on_complete: Callable[[], None],
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        """Whether the connection may carry another request after this one."""
        self.disconnected = False
        self.started = False
        """Whether the app has begun to answer."""
        self._transport = transport
        self._flow = flow
        self._on_complete = on_complete
        self._expects = expects_continue
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = self._delivered = False
        self._news: asyncio.Future[None] | None = None
        self._head = b""
        self._chunked = False
        self._left: int | None = None
        """Bytes that are missing of a body whose length was announced."""
        self._complete = False
        self._task: asyncio.Task[None] | None = None

    @property
    def complete(self) -> bool:
        """Whether the answer is out."""
        return self._complete

    @property
    def unread(self) -> bool:
        """Whether the client is still sending its body."""
        return not self._ended

    def feed(self, piece: bytes) -> None:
        """The client has sent a piece of the body."""
        if self._complete:
            return
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > HIGH_WATER:
            self._flow.pause_reading()
        self._wake()

    def end(self) -> None:
        """The client has sent the whole body."""
        self._ended = True
        self._wake()

    def leave(self) -> None:
        """The client has left."""
        if not self._complete:
            self.disconnected = True
        self._wake()

    def start(
        self, app: App, loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[None]]
    ) -> None:
        """Let the app answer, in a task that is one of `tasks` for as long as it takes."""
        self._task = loop.create_task(self._run(app, tasks))
        tasks.add(self._task)

    async def _run(self, app: App, tasks: set[asyncio.Task[None]]) -> None:
        """Answer; an answer that is not whole ends with the connection."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            # The server stops, and has no more time.
            pass
        finally:
            if not self._complete and not self.disconnected:
                self._transport.close()
            if self._task is not None:
                # A callback of the task's would do it a turn of the loop later, and cost one.
                tasks.discard(self._task)
                self._task = None

    async def receive(self) -> Message:
        """What has come of the body since the last time, or that the client is not there."""
        if self._expects and not self._transport.is_closing():
            self._expects = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self.disconnected or self._complete):
            if self._pieces or (self._ended and not self._delivered):
                body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces.clear()
                self._size = 0
                self._delivered = self._ended
                return {"type": "http.request", "body": body, "more_body": not self._ended}
            self._flow.resume_reading()
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send the head of the answer, or a piece of its body."""
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message["headers"])
            return
        last = not message.get("more_body", False)
        self._write(message.get("body", b""), last=last)
        if last:
            self._complete = True
            self._wake()
            if not self.keep_alive:
                self._transport.close()
            self._on_complete()

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self.started:
            raise RuntimeError("the answer has begun already")
        # What was to be said before the answer is no longer of interest.
        self._expects = False
        self._left, self._chunked = None, False
        lines = [_status_line(status)]
        for pair in headers:
            if pair[0] in _FRAMING:
                raise RuntimeError("how an answer is framed is the connection's to say")
            if pair[0] == b"content-length":
                self._left = int(pair[1])
            lines.append(b": ".join(pair))
        if not self.keep_alive:
            lines.append(b"connection: close")
        if self.scope["method"] == "HEAD" or status in _NO_BODY:
            self._left = 0
        elif self._left is None and self.scope["http_version"] != "1.0":
            # Before that version, a body without a length ends with the connection.
            self._chunked = True
            lines.append(b"transfer-encoding: chunked")
        try:
            self._head = whole_head(lines)
        except ValueError as error:
            raise RuntimeError(str(error)) from None
        self.started = True

    def _write(self, body: bytes, *, last: bool) -> None:
        if not self.started or self._complete:
            raise RuntimeError("a piece of a body before its head or after its end")
        before, self._head = self._head, b""
        after = b""
        if self._chunked:
            if body:
                before = b"%b%x\r\n" % (before, len(body))
                after = b"\r\n"
            if last:
                after += _LAST_CHUNK
        elif self.scope["method"] == "HEAD":
            body = b""
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (last and self._left):
                raise RuntimeError("the body is not as long as its content-length")
        if len(body) > ONE_WRITE:
            self._transport.writelines([piece for piece in (before, body, after) if piece])
        elif data := b"%b%b%b" % (before, body, after):
            self._transport.write(data)

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
