"""The connections that wait for a request, the one that waits longest first."""

import asyncio

from ccfallback.http1.connection import Connection, Origin


class Pool:
    """At most `max_idle` connections, none for longer than `idle_seconds`."""

    def __init__(self, max_idle: int, idle_seconds: float) -> None:
        self._max_idle = max_idle
        self._idle_seconds = idle_seconds
        self._idle: dict[Connection, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, origin: Origin) -> Connection | None:
        """A connection that was quiet since its last response: the one used last."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        while True:
            for connection in reversed(self._idle):
                if connection.origin == origin:
                    break
            else:
                return None
            del self._idle[connection]
            if not connection.closed:
                late = now - connection.idle_since > self._idle_seconds
                if not late and not connection.has_unread():
                    return connection
                connection.abort()

    def give(self, connection: Connection) -> None:
        """Keep a connection for another request, or close it when it can carry none."""
        if not connection.reusable or not self._max_idle:
            connection.abort()
            return
        connection.rest()
        self._idle[connection] = None
        if len(self._idle) > self._max_idle:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.abort()
        if self._timer is None:
            self._wake_in(self._idle_seconds)

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self._idle.pop(connection, None)

    def clear(self) -> None:
        """Close every connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _wake_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._idle:
            oldest = next(iter(self._idle))
            left = oldest.idle_since + self._idle_seconds - now
            if left > 0:
                self._wake_in(left)
                return
            del self._idle[oldest]
            oldest.abort()
