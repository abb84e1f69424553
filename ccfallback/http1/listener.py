"""The server: it accepts connections at a socket, and lets responses end when it stops."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn

PATIENCE: Final = 2.0
"""Seconds that a client has for the next request on a connection, where another process accepts
new ones. To close at once would reset a request that is on its way."""

CUT_OFF_SECONDS: Final = 1.5
"""How long a response that is cut off may take to end; it says how its upstream was."""

_TICK: Final = 0.01
"""Seconds between two looks at what is still open, after the server was stopped."""


class Server:
    """What all connections share, and the loop that accepts them."""

    def __init__(self, on_drain: Callable[[int], object] = lambda _: None) -> None:
        """`on_drain` gets the number of responses that a stop has to wait for."""
        self._on_drain = on_drain
        self.connections: set[Any] = set()
        """The open connections, each a `ServerProtocol`."""
        self.tasks: set[asyncio.Task[None]] = set()
        """The tasks that answer requests."""
        self.is_stopping = False
        self._sharers: list[socket.socket] = []
        self._is_forced = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def share(self, way: socket.socket) -> None:
        """Another process accepts from the same socket, until it closes its end of `way`.

        This end is closed when no more connections are accepted here.
        """
        for each in self._sharers:
            if not _is_open(each):
                each.close()
        self._sharers = [*(each for each in self._sharers if each.fileno() >= 0), way]

    @property
    def is_shared(self) -> bool:
        """Whether another process accepts connections from the same socket."""
        return any(map(_is_open, self._sharers))

    def stop(self, *, force: bool = False) -> None:
        """Stop, with `force` without waiting for responses. For any thread and signal handler."""
        self.is_stopping = True
        self._is_forced |= force
        if self._loop is not None:
            # The loop may have ended.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def serve(
        self,
        sock: socket.socket,
        create_protocol: Callable[[], asyncio.Protocol],
        *,
        backlog: int,
        drain_seconds: float,
        delay: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Accept connections until `stop`; then wait for the responses under way, but not longer
        than `drain_seconds`. Connections are accepted for as many seconds as `delay` returns after
        the stop, unless another process accepts them."""
        self._loop = asyncio.get_running_loop()
        if self.is_stopping:
            self._stopping.set()
        await _Uvicorn(
            create_protocol,
            self._stopping,
            lambda: self._linger(delay()),
            lambda: self._drain(drain_seconds),
            backlog,
        ).serve([sock])

    async def _linger(self, seconds: float) -> None:
        """Go on as before for a while, but announce on each connection that it closes."""
        loop = asyncio.get_running_loop()
        until = loop.time() + (0.0 if self.is_shared else seconds)
        while loop.time() < until and not self._is_forced:
            for connection in list(self.connections):
                connection.shutdown(is_patient=True)
            await asyncio.sleep(_TICK)

    async def _drain(self, seconds: float) -> None:
        is_shared = self.is_shared
        for way in self._sharers:
            way.close()
        if self.tasks and not self._is_forced:
            self._on_drain(len(self.tasks))
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (self.connections or self.tasks) and not self._is_forced:
            passed = loop.time() - began
            if passed > seconds:
                await _cut_off(self.tasks)
                return
            # Some may have been accepted a moment ago.
            for connection in list(self.connections):
                connection.shutdown(is_patient=is_shared and passed < PATIENCE)
            await asyncio.sleep(_TICK)


async def _cut_off(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks, and let them end."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CUT_OFF_SECONDS)


def _is_open(way: socket.socket) -> bool:
    """Whether the other end of a connection is open."""
    try:
        way.setblocking(False)
        return bool(way.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except OSError:
        return False


async def _leave_to_protocol(_scope: object, _receive: object, _send: object) -> None:
    """The application that uvicorn wants to know; the protocol has its own."""


class _Uvicorn(uvicorn.Server):
    """uvicorn, but that it wakes when it is stopped, where it would look every 0.1 s whether it is,
    and leaves signals to the caller, because it repeats SIGTERM, so that the exit code is not 0.

    A function is passed as `Config(http=…)`, where a class is expected: it is called with the
    arguments of uvicorn's protocols.
    """

    def __init__(
        self,
        create_protocol: Callable[[], asyncio.Protocol],
        stopping: asyncio.Event,
        linger: Callable[[], Any],
        drain: Callable[[], Any],
        backlog: int,
    ) -> None:
        def create(**_: object) -> asyncio.Protocol:
            return create_protocol()

        super().__init__(
            uvicorn.Config(
                _leave_to_protocol,
                http=create,  # type: ignore[arg-type]  # a function that creates a protocol will do
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                interface="asgi3",
                proxy_headers=False,
                backlog=backlog,
            )
        )
        self._stopping = stopping
        self._linger = linger
        self._drain = drain

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield

    async def main_loop(self) -> None:
        """Wait for the stop."""
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, and wait for the responses under way."""
        await self._linger()
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        await self._drain()
