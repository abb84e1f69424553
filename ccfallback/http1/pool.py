"""Send requests over connections that are kept for the next one.

A connection is used again only when the exchange before is over on both sides and not one byte
came after its response. A kept connection that the upstream had closed meanwhile costs another
connection, never an error: the request is sent again where no byte of a response had arrived, or
where the response says that the upstream was about to close.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, Self

from ccfallback.http1.connect import connect
from ccfallback.http1.connection import Connection, clock
from ccfallback.http1.errors import ConnectError, ConnectionLost, RemoteProtocolError
from ccfallback.http1.request import Headers, Origin, Request, RequestEncoder
from ccfallback.http1.response import ResponseParser
from ccfallback.http1.trust import Trust

REQUEST_TIMEOUT: Final = 408
"""With `connection: close`, an idle connection ends. A request that crosses that response may be
sent again on another connection (RFC 9110, 15.5.9). Without it, the request itself is meant."""


class ConnectionPool:
    """An HTTP/1.1 client for one event loop.

    At most `max_idle` connections are kept, none for longer than `idle_seconds`. TLS verifies the
    upstream's certificate with `ssl_context`, or with what `load_ssl_context` returns.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        load_ssl_context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        max_idle: int = 100,
        idle_seconds: float = 60.0,
    ) -> None:
        if ssl_context is not None and not (
            ssl_context.check_hostname and ssl_context.verify_mode is ssl.CERT_REQUIRED
        ):
            raise ValueError("an upstream's certificate is always verified")
        self.trust = Trust(load_ssl_context, ssl_context)
        self._max_idle = max_idle
        self._idle_seconds = idle_seconds
        self._connections: set[Connection] = set()
        """Every open connection."""
        self._idle: dict[Connection, None] = {}
        """Those that are kept for another request, the longest idle first."""
        self._expiry: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._on_retired: Callable[[], object] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def send(self, request: Request, connect_timeout: float | None = None) -> "Response":
        """Send a request and return the response, whose body is still to be read.

        `connect_timeout` limits name, TCP and TLS together, and the wait for the TLS context
        before. Other waits have no limit here: the caller cancels them. Raises `HTTPError`.
        """
        encoder = RequestEncoder(request)
        while True:
            connection = self._take(request.origin)
            is_fresh = connection is None
            if connection is None:
                connection = await self._connect(request.origin, connect_timeout)
            try:
                parser = await connection.exchange(encoder)
            except (ConnectionLost, RemoteProtocolError):
                connection.abort()
                if is_fresh or connection.is_answered or encoder.is_started:
                    raise
                # The upstream had closed the connection before it saw the request.
            except BaseException:
                connection.abort()
                raise
            else:
                is_idle_timeout = parser.status == REQUEST_TIMEOUT and not parser.will_keep
                if not is_idle_timeout or is_fresh or encoder.is_started:
                    return Response(connection, parser, self)
                connection.abort()

    def retire(self, on_closed: Callable[[], object]) -> None:
        """Keep no connection from now on; call `on_closed` when the last exchange is over."""
        self._max_idle = 0
        self._on_retired = on_closed
        while self._idle:
            self._close_longest_idle()
        if not self._connections:
            on_closed()

    async def aclose(self) -> None:
        """Close every connection; exchanges that are under way fail."""
        self._is_closed = True
        self.trust.close()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        self._idle.clear()
        for connection in connections:
            await connection.wait_lost()

    def keep(self, connection: Connection) -> None:
        """Keep a connection for another request, or close it where it cannot carry one."""
        if not connection.is_reusable or not self._max_idle:
            connection.abort()
            return
        connection.release()
        self._idle[connection] = None
        if len(self._idle) > self._max_idle:
            self._close_longest_idle()
        if self._expiry is None:
            self._set_expiry(self._idle_seconds)

    def _take(self, origin: Origin) -> Connection | None:
        """A kept connection to this origin: the last one used. None has a byte that is unread."""
        now = clock()
        while True:
            for connection in reversed(self._idle):
                if connection.origin == origin:
                    break
            else:
                return None
            del self._idle[connection]
            if not connection.is_closed:
                is_expired = now - connection.idle_since > self._idle_seconds
                if not is_expired and not connection.has_unread():
                    return connection
                connection.abort()

    async def _connect(self, origin: Origin, timeout: float | None) -> Connection:
        connection = Connection(origin, self._forget)
        tls = await self.trust.get(timeout) if origin.scheme == "https" else None
        await connect(connection, tls, timeout)
        if self._is_closed:
            connection.abort()
            raise ConnectError("the pool is closed")
        self._connections.add(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._idle.pop(connection, None)
        if self._on_retired is not None and not self._connections:
            self._on_retired()

    def _close_longest_idle(self) -> None:
        connection = next(iter(self._idle))
        del self._idle[connection]
        connection.abort()

    def _set_expiry(self, seconds: float) -> None:
        self._expiry = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        """Close what has been idle for too long, and set the timer for the next."""
        self._expiry = None
        now = clock()
        while self._idle:
            left = next(iter(self._idle)).idle_since + self._idle_seconds - now
            if left > 0:
                self._set_expiry(left)
                return
            self._close_longest_idle()


class Response:
    """A response whose body is read from its connection."""

    __slots__ = ("_connection", "_pool", "headers", "status")

    def __init__(
        self, connection: Connection, parser: ResponseParser, pool: ConnectionPool
    ) -> None:
        assert parser.status is not None
        self.status: int = parser.status
        self.headers: Headers = parser.headers
        self._connection: Connection | None = connection
        self._pool = pool

    @property
    def is_ready(self) -> bool:
        """Whether the next `read` returns without waiting."""
        return self._connection is None or self._connection.is_ready

    async def read(self) -> bytes:
        """All of the body that has arrived since the last time; empty at its end."""
        connection = self._connection
        if connection is None:
            return b""
        data = await connection.read()
        if connection.is_read:
            self._connection = None
            self._pool.keep(connection)
        return data

    def take_whole(self) -> bytes | None:
        """The whole rest of the body if it has arrived already; `None` if not."""
        connection = self._connection
        if connection is None:
            return b""
        if not connection.is_complete:
            return None
        data = connection.take()
        self._connection = None
        self._pool.keep(connection)
        return data

    async def aclose(self) -> None:
        """Keep the connection where the response is complete, else close it at once."""
        connection = self._connection
        if connection is None:
            return
        if connection.is_complete:
            self._connection = None
            self._pool.keep(connection)
        else:
            # The connection stays here, so that another read raises an error and does not
            # return what looks like an end.
            connection.abort()
