"""Carry requests to upstreams over kept connections, straight on asyncio and httptools.

A connection is used again only when both sides are over with the last request and not one byte
came after its response. One that the upstream had closed meanwhile costs another connection and
never an error.
"""

import asyncio
import ssl
from functools import lru_cache

import httpx

from ccfallback.http1.connection import Connection, Origin
from ccfallback.http1.dial import dial
from ccfallback.http1.pool import Pool
from ccfallback.http1.request import RequestEncoder
from ccfallback.http1.response import ResponseParser
from ccfallback.server.transport import Response, UpstreamRequest

_PORTS = {"http": 80, "https": 443}


class DirectTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 without an outgoing proxy; for one event loop.

    Of `timeout` it knows `connect`, for name, TCP and TLS together: reads have their deadlines
    where they are made.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        max_idle: int = 100,
        idle_seconds: float = 60.0,
    ) -> None:
        if ssl_context is not None and not (
            ssl_context.check_hostname and ssl_context.verify_mode is ssl.CERT_REQUIRED
        ):
            raise ValueError("an upstream's certificate is always verified")
        self._ssl_context = ssl_context
        self._trusting: asyncio.Task[ssl.SSLContext] | None = None
        self._pool = Pool(max_idle, idle_seconds)
        self._open: set[Connection] = set()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the response has its head, and its stream the body as it comes."""
        limit = request.extensions.get("timeout", {}).get("connect")
        response = await self._exchange(_origin(request.url), RequestEncoder(request), limit)
        stream = _Stream(response)
        return httpx.Response(response.status, headers=response.headers, stream=stream)

    async def post(self, post: UpstreamRequest) -> Response:
        """Send a request; the response has its head."""
        origin, host, target = _place(post.url)
        outgoing = RequestEncoder.post(target, host, post.headers, post.content)
        return await self._exchange(origin, outgoing, post.connect)

    async def _exchange(
        self, origin: Origin, outgoing: RequestEncoder, limit: float | None
    ) -> "DirectResponse":
        while True:
            connection = self._pool.take(origin)
            fresh = connection is None
            if connection is None:
                connection = await self._connect(origin, limit)
            try:
                incoming = await connection.exchange(outgoing)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                connection.abort()
                if fresh or connection.answered or outgoing.begun:
                    raise
                # The upstream had closed it before it saw the request.
            except BaseException:
                connection.abort()
                raise
            else:
                return DirectResponse(connection, incoming, self._pool)

    async def aclose(self) -> None:
        """Close every connection; what is under way fails."""
        self._closed = True
        if self._trusting is not None:
            self._trusting.cancel()
        self._pool.clear()
        closing = list(self._open)
        for connection in closing:
            connection.abort()
        for connection in closing:
            await connection.wait_lost()

    async def _connect(self, origin: Origin, limit: float | None) -> Connection:
        connection = Connection(origin, self._forget)
        await dial(connection, await self.trust() if origin[0] == "https" else None, limit)
        if self._closed:
            connection.abort()
            raise httpx.ConnectError("the transport is closed")
        self._open.add(connection)
        return connection

    async def trust(self) -> ssl.SSLContext:
        """Whom TLS trusts. Raises `ConnectError` where the authorities can't be read.

        Reading them takes long enough to hold up every stream, so a thread does it, once.
        """
        if self._ssl_context is None:
            if self._trusting is None or self._trusting.done():
                self._trusting = asyncio.create_task(asyncio.to_thread(_authorities))
            try:
                self._ssl_context = await asyncio.shield(self._trusting)
            except OSError as error:
                raise httpx.ConnectError(f"the trusted certificates: {error}") from error
        return self._ssl_context

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._pool.forget(connection)


class DirectResponse:
    """A response whose body is read off its connection."""

    __slots__ = ("_connection", "_pool", "headers", "status")

    def __init__(self, connection: Connection, incoming: ResponseParser, pool: Pool) -> None:
        assert incoming.status is not None
        self.status = incoming.status
        self.headers = incoming.headers
        self._connection: Connection | None = connection
        self._pool = pool

    @property
    def ready(self) -> bool:
        """Whether the next `read` has its bytes in hand and will not wait."""
        return self._connection is None or self._connection.ready

    async def read(self) -> bytes:
        """All that has come since the last time; empty at the end."""
        connection = self._connection
        if connection is None:
            return b""
        data = await connection.read()
        if connection.finished:
            self._connection = None
            self._pool.give(connection)
        return data

    async def aclose(self) -> None:
        """Keep the connection when the response was over, else close it at once."""
        connection = self._connection
        if connection is None:
            return
        if connection.complete:
            self._connection = None
            self._pool.give(connection)
        else:
            # It stays: whoever reads on gets an error, not what looks like an end.
            connection.abort()


class _Stream(httpx.AsyncByteStream):
    """The body of a response as the library has it."""

    def __init__(self, response: DirectResponse) -> None:
        self._response = response

    def __aiter__(self) -> "_Stream":
        return self

    async def __anext__(self) -> bytes:
        data = await self._response.read()
        if not data:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """Done with it."""
        await self._response.aclose()


def _authorities() -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _origin(url: httpx.URL) -> Origin:
    scheme, host = url.scheme, url.raw_host.decode("ascii")
    if scheme not in _PORTS or not host:
        raise httpx.UnsupportedProtocol(f"not an http or https URL: {scheme}://{host}")
    return scheme, host, url.port or _PORTS[scheme]


@lru_cache(maxsize=512)
def _place(url: str) -> tuple[Origin, bytes, bytes]:
    """Where a URL leads, the host that its request names, and the target there."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise httpx.UnsupportedProtocol(f"not a URL: {error}") from None
    return _origin(parsed), parsed.netloc, parsed.raw_path
