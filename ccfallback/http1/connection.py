"""A connection to an upstream: one exchange after another, each a request and its response.

    CONNECTING ──connected──► IDLE ──exchange()──► ACTIVE ──release()──► IDLE
                               │                     │
                               │ any byte, or the    │ abort(), a protocol violation,
                               │ end: nothing was    │ or the upstream closes
                               │ requested           │
                               └────────► CLOSED ◄───┘

It never reads ahead of a slow reader by more than a fixed amount.
"""

import asyncio
import select
import sys
import time
from collections.abc import AsyncIterator, Callable
from enum import Enum, auto
from functools import partial
from typing import Final, cast

from ccfallback.http1.errors import ConnectionLost, HTTPError, RemoteDisconnected
from ccfallback.http1.request import HIGH_WATER, Origin, RequestEncoder, in_writes
from ccfallback.http1.response import ResponseParser


def _choose_clock() -> Callable[[], float]:
    if hasattr(time, "CLOCK_BOOTTIME"):
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        # There, `time.monotonic` is another clock than this one.
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return time.monotonic


clock: Final = _choose_clock()
"""Seconds since some moment, and the machine's sleep counts: the loop's clock stops on Linux and
macOS when a laptop is closed, so that an idle connection would look fresh afterwards."""


class ConnectionState(Enum):
    """What a connection is doing; see the diagram above."""

    CONNECTING = auto()
    IDLE = auto()
    ACTIVE = auto()
    CLOSED = auto()


# Looking up a member costs Python 3.11 as much as the rest of a test.
(CONNECTING, IDLE, ACTIVE, CLOSED) = ConnectionState


class Connection(asyncio.Protocol):
    """A connection to an origin; `on_lost` is called when it has closed."""

    def __init__(self, origin: Origin, on_lost: "Callable[[Connection], None]") -> None:
        # For the life of the connection.
        self.origin = origin
        self.state = CONNECTING
        self.idle_since = 0.0
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._readable: Callable[[], object] | None = None
        # For one exchange.
        self._response: ResponseParser | None = None
        self._is_sent = False
        """Whether the whole request was handed to the transport."""
        self._error: HTTPError | None = None
        """Why the response will not be complete. It is never raised itself: its traceback would
        refer to this connection, and only the garbage collector would find the two."""
        self._pieces: list[bytes] = []
        self._size = 0
        """The pieces of the body that wait for their reader, and how many bytes that is."""
        # For back-pressure: the futures that the reader and the writer wait for.
        self._reading_paused = False
        self._writing_paused = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether it is closed or closing, or was never connected."""
        transport = self._transport
        return self.state is CLOSED or transport is None or transport.is_closing()

    @property
    def is_answered(self) -> bool:
        """Whether a single byte of the response has arrived."""
        return self._response is not None and self._response.is_started

    @property
    def is_complete(self) -> bool:
        """Whether the response is complete."""
        return self._response is not None and self._response.is_done

    @property
    def is_ready(self) -> bool:
        """Whether the next `read` returns without waiting."""
        response = self._response
        return bool(self._pieces) or response is None or response.is_done

    @property
    def is_read(self) -> bool:
        """Whether the response is complete and was read to its end."""
        response = self._response
        return not self._pieces and response is not None and response.is_done

    @property
    def is_reusable(self) -> bool:
        """Whether it may carry another request: this exchange is over on both sides."""
        response, transport = self._response, self._transport
        return (
            response is not None
            and response.is_reusable
            and self._is_sent
            and self.state is not CLOSED
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        )

    def has_unread(self) -> bool:
        """Whether bytes, or the end, have arrived and the loop has not read them yet."""
        if self._readable is None:
            assert self._transport is not None
            self._readable = _readability_check(self._transport.get_extra_info("socket").fileno())
        return bool(self._readable())

    async def exchange(self, request: RequestEncoder) -> ResponseParser:
        """Send a request and wait for the response's head. When this fails, call `abort`."""
        response = self._response = ResponseParser(is_head=request.is_head)
        transport = self._transport
        assert transport is not None
        if self.state is CLOSED or transport.is_closing():
            raise RemoteDisconnected("the upstream closed the connection before the request")
        self.state = ACTIVE
        self._is_sent = request.body is not None
        if request.body is None:
            transport.write(request.head)
            await self._upload(request.pieces())
        else:
            for data in in_writes(request.head, request.body):
                transport.write(data)
        while response.status is None:
            self._raise_error()
            await self._news()
        return response

    async def read(self) -> bytes:
        """All of the body that has arrived since the last time; empty at its end."""
        while not self._pieces:
            response = self._response
            if response is None or response.is_done:
                return b""
            self._raise_error()
            await self._news()
        return self.take()

    def take(self) -> bytes:
        """All of the body that waits for its reader."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._reading_paused:
            self._reading_paused = False
            assert self._transport is not None
            self._transport.resume_reading()
        return data

    def release(self) -> None:
        """End the exchange: from now on nothing may arrive."""
        self.state = IDLE
        self.idle_since = clock()
        self._response = None
        if self._pieces:
            self._pieces.clear()
            self._size = 0

    def abort(self) -> None:
        """Close it at once, whatever it is doing."""
        self._fail(ConnectionLost("the connection was aborted"))
        if self.state is not CLOSED:
            self.state = CLOSED
            if self._transport is not None:
                self._transport.abort()

    async def wait_lost(self) -> None:
        """Wait until its socket is closed."""
        if self._transport is not None:
            await asyncio.shield(self._lost)

    # Callbacks of the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has connected it."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self.state = IDLE

    def data_received(self, data: bytes) -> None:
        """The loop has read."""
        response = self._response
        if response is None:
            self.abort()
            return
        body = response.feed(data)
        if body:
            self._pieces.append(body)
            self._size += len(body)
            if self._size > HIGH_WATER and not response.is_done and self._transport is not None:
                self._reading_paused = True
                self._transport.pause_reading()
        if response.error is not None:
            self._fail(response.error)
            self.abort()
        elif response.status is not None:
            _wake(self._reader)

    def eof_received(self) -> None:
        """The upstream will send nothing more, so there is nothing left to wait for."""
        if self._response is not None:
            self._response.end()
            self._fail(self._response.error)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop has closed it."""
        if exc is not None:
            self._fail(ConnectionLost(str(exc)), exc)
        elif self._response is not None and self.state is not CLOSED:
            # After `abort`, a body without a length must not look complete.
            self._response.end()
            self._fail(self._response.error)
        self.state = CLOSED
        if self._response is not None:
            self._response.close()
        if not self._lost.done():
            self._lost.set_result(None)
        self._on_lost(self)

    def pause_writing(self) -> None:
        """The loop has enough to write."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The loop has written."""
        self._writing_paused = False
        _wake(self._writer)

    async def _upload(self, pieces: AsyncIterator[bytes]) -> None:
        """Send a body piece by piece, until its end or a response that makes the rest needless."""
        upload = self._loop.create_task(self._write_pieces(pieces))
        upload.add_done_callback(self._upload_done)
        try:
            while not upload.done() and not self._is_refused:
                await self._news()
        finally:
            if not upload.done():
                upload.cancel()
                await asyncio.wait([upload])
        if not upload.cancelled():
            self._is_sent = upload.result()

    @property
    def _is_refused(self) -> bool:
        """Whether the upstream will not read the rest of the request."""
        response = self._response
        assert response is not None
        is_error = response.status is not None and response.status >= 300
        return is_error or response.is_done or self._error is not None

    async def _write_pieces(self, pieces: AsyncIterator[bytes]) -> bool:
        """Whether the whole body was written."""
        assert self._transport is not None
        async for piece in pieces:
            # An upstream that refuses a body responds and then resets the connection. If a write
            # found the reset first, the response would be lost: so read what has arrived before.
            while not self.is_closed and not self._reading_paused and self.has_unread():
                await asyncio.sleep(0)
            if self.is_closed:
                return False
            self._transport.write(piece)
            while self._writing_paused:
                # When the connection closes meanwhile, this task is cancelled.
                self._writer = self._loop.create_future()
                await self._writer
        return not self.is_closed

    def _upload_done(self, upload: "asyncio.Task[bool]") -> None:
        if not upload.cancelled():
            # Marks the exception as retrieved; `_upload` raises it.
            upload.exception()
        _wake(self._reader)

    def _fail(self, error: HTTPError | None, cause: Exception | None = None) -> None:
        """Let the response end with this error, unless it is complete or has failed before."""
        response = self._response
        if (
            response is not None
            and not response.is_done
            and self._error is None
            and error is not None
        ):
            error.__cause__ = cause
            self._error = error
        _wake(self._reader)

    def _raise_error(self) -> None:
        """Raise what the response ended with, if it did."""
        error = self._error
        if error is not None:
            raise type(error)(*error.args) from error.__cause__

    def _news(self) -> "asyncio.Future[None]":
        """Done when something has happened that a reader wants to know."""
        self._reader = self._loop.create_future()
        return self._reader


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _readability_check(fd: int) -> Callable[[], object]:
    """A function that says whether a socket has something to read."""
    if sys.platform == "win32":
        return lambda: select.select([fd], [], [], 0)[0]
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return lambda: poll.poll(0)
