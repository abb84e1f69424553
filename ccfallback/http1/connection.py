"""One connection to an upstream: one request after another, each with its response.

It never reads ahead of a slow reader by more than a fixed amount, and whatever comes while no
request is under way closes it: an answer that nobody asked for must not reach the next one.
"""

import asyncio
import select
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final, cast

import httpx

from ccfallback.http1.request import RequestEncoder
from ccfallback.http1.response import ResponseParser

HIGH_WATER: Final = 256 * 1024
"""Bytes of a body that wait for their reader before reading pauses."""

ONE_WRITE: Final = 64 * 1024
"""A body up to this length is copied behind its head, to leave with it."""

Origin = tuple[str, str, int]
"""Scheme, host and port."""


class Connection(asyncio.Protocol):
    """A connection; `on_lost` hears of its end."""

    def __init__(self, origin: Origin, on_lost: "Callable[[Connection], None]") -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._closing = False
        self._incoming: ResponseParser | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._reading_paused = False
        self._writing_paused = False
        self._sent = False
        self._error: httpx.TransportError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._readable: Callable[[], object] | None = None

    @property
    def closed(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing or self._transport is None or self._transport.is_closing()

    @property
    def answered(self) -> bool:
        """Whether a single byte of the response has come."""
        return self._incoming is not None and self._incoming.started

    @property
    def complete(self) -> bool:
        """Whether the response is whole."""
        return self._incoming is not None and self._incoming.done

    @property
    def ready(self) -> bool:
        """Whether the next read need not wait."""
        incoming = self._incoming
        return bool(self._pieces) or incoming is None or incoming.done

    @property
    def finished(self) -> bool:
        """Whether the response is whole and was read to its end."""
        return self.complete and not self._pieces

    @property
    def reusable(self) -> bool:
        """Whether it may carry another request: this one is over on both sides."""
        return (
            self._incoming is not None
            and self._incoming.reusable
            and self._sent
            and not self.closed
            and self._transport is not None
            and self._transport.get_write_buffer_size() == 0
        )

    def has_unread(self) -> bool:
        """Whether bytes, or the end, have arrived that the loop did not get to yet."""
        if self._readable is None:
            assert self._transport is not None
            self._readable = _poll(self._transport.get_extra_info("socket").fileno())
        return bool(self._readable())

    def rest(self) -> None:
        """The response is over: from now on nothing may come."""
        self._incoming = None
        self._pieces.clear()
        self._size = 0
        self.idle_since = self._loop.time()

    async def exchange(self, request: RequestEncoder) -> ResponseParser:
        """Send a request and wait for the response's head. When this fails, abort."""
        incoming = self._incoming = ResponseParser(head_only=request.head_only)
        transport = self._transport
        assert transport is not None
        if self.closed:
            incoming.end()
            raise incoming.broken or httpx.ReadError("closed")
        self._sent = request.body is not None
        if request.body is None:
            transport.write(request.head)
            await self._upload(request.pieces())
        elif len(request.body) <= ONE_WRITE:
            transport.write(request.head + request.body)
        else:
            transport.writelines([request.head, request.body])
        while incoming.status is None:
            if self._error is not None:
                raise self._error
            await self._news()
        return incoming

    async def read(self) -> bytes:
        """All of the body that has come since the last time; empty at its end."""
        while not self._pieces:
            if self._incoming is None or self._incoming.done:
                return b""
            if self._error is not None:
                raise self._error
            self._reader = self._loop.create_future()
            await self._reader
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._reading_paused:
            self._reading_paused = False
            assert self._transport is not None
            self._transport.resume_reading()
        return data

    def abort(self) -> None:
        """Close it at once, whatever it is doing."""
        self._fail(httpx.ReadError("the connection was given up"))
        if not self._closing:
            self._closing = True
            if self._transport is not None:
                self._transport.abort()

    async def wait_lost(self) -> None:
        """Wait until its socket is closed."""
        if self._transport is not None:
            await asyncio.shield(self._lost)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has connected it."""
        # uvloop's are none by name.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """The loop has read."""
        incoming = self._incoming
        if incoming is None:
            self.abort()
            return
        body = incoming.feed(data)
        if body:
            self._pieces.append(body)
            self._size += len(body)
            if self._size > HIGH_WATER and not incoming.done and self._transport is not None:
                self._reading_paused = True
                self._transport.pause_reading()
        if incoming.broken is not None:
            self._fail(incoming.broken)
            self.abort()
        elif incoming.status is not None:
            _wake(self._reader)

    def eof_received(self) -> None:
        """The upstream will send nothing more, so there is nothing left to wait for."""
        if self._incoming is not None:
            self._incoming.end()
            self._fail(self._incoming.broken)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop has closed it."""
        self._closing = True
        if isinstance(exc, BrokenPipeError):
            self._fail(httpx.WriteError(str(exc)), exc)
        elif exc is not None:
            self._fail(httpx.ReadError(str(exc)), exc)
        elif self._incoming is not None:
            self._incoming.end()
            self._fail(self._incoming.broken)
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
        """Send a body piece by piece, up to its end or to an answer that makes the rest idle."""
        pump = self._loop.create_task(self._pump(pieces))
        pump.add_done_callback(self._pumped)
        try:
            while not pump.done() and not self._refused:
                await self._news()
        finally:
            if not pump.done():
                pump.cancel()
                await asyncio.wait([pump])
        if not pump.cancelled():
            self._sent = pump.result()

    @property
    def _refused(self) -> bool:
        incoming = self._incoming
        assert incoming is not None
        refused = incoming.status is not None and incoming.status >= 300
        return refused or incoming.done or self._error is not None

    async def _pump(self, pieces: AsyncIterator[bytes]) -> bool:
        """Whether the whole body was written."""
        assert self._transport is not None
        async for piece in pieces:
            # An upstream that refuses a body answers and resets: were the reset found first, by
            # writing, the answer would be lost.
            while not self.closed and not self._reading_paused and self.has_unread():
                await asyncio.sleep(0)
            if self.closed:
                return False
            self._transport.write(piece)
            while self._writing_paused:
                # Should the connection end meanwhile, this is cancelled.
                self._writer = self._loop.create_future()
                await self._writer
        return not self.closed

    def _pumped(self, pump: "asyncio.Task[bool]") -> None:
        if not pump.cancelled():
            pump.exception()
        _wake(self._reader)

    def _fail(self, error: httpx.TransportError | None, cause: Exception | None = None) -> None:
        """Let the response end with an error, unless it has come to its end."""
        incoming = self._incoming
        if incoming is not None and not incoming.done and self._error is None and error is not None:
            error.__cause__ = cause
            self._error = error
        _wake(self._reader)

    async def _news(self) -> None:
        self._reader = self._loop.create_future()
        await self._reader


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _poll(fd: int) -> Callable[[], object]:
    """Asks whether a socket has something to read."""
    if sys.platform == "win32":
        return lambda: select.select([fd], [], [], 0)[0]
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return lambda: poll.poll(0)
