"""The server: it accepts connections at a socket, and lets responses end when it stops."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

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
        self._is_forced = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def stop(self, *, force: bool = False) -> None:
        """Stop, with `force` without waiting for responses. For any thread and signal handler."""
        self.is_stopping = True
        self._is_forced |= force
        if self._loop is not None:
            # The loop may have ended.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def serve(
        self,
        sock: socket.socket,
        create_protocol: Callable[[], asyncio.Protocol],
        *,
        backlog: int,
        drain_seconds: float,
    ) -> None:
        """Accept connections until `stop`; then wait for the responses under way, but not longer
        than `drain_seconds`."""
        self._loop = asyncio.get_running_loop()
        listener = await self._loop.create_server(create_protocol, sock=sock, backlog=backlog)
        if not self.is_stopping:
            await self._stopping.wait()
        listener.close()
        sock.close()
        if self.tasks and not self._is_forced:
            self._on_drain(len(self.tasks))
        until = self._loop.time() + drain_seconds
        while (self.connections or self.tasks) and not self._is_forced:
            if self._loop.time() > until:
                for task in self.tasks:
                    task.cancel()
                return
            # Some may have been accepted a moment ago.
            for connection in list(self.connections):
                connection.shutdown()
            await asyncio.sleep(_TICK)
