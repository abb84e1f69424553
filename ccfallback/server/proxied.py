"""Requests through an outgoing proxy, which httpx carries.

Imported with the first of them, because httpx takes much memory and few servers need it.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any, Final

import httpx

from ccfallback.http1 import (
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    Headers,
    HTTPError,
    LocalProtocolError,
    RemoteDisconnected,
    RemoteProtocolError,
    Trust,
)
from ccfallback.http1.connection import clock
from ccfallback.server.outgoing import InvalidProxy
from ccfallback.server.trust import TrustedRoots
from ccfallback.server.upstream import (
    PROXY_PASSWORD,
    DirectTransport,
    InvalidURL,
    LoadTrust,
    ProxyError,
    ProxyUnreachable,
    Response,
    UpstreamRequest,
    locate,
)

_LIMITS: Final = httpx.Limits(
    max_connections=None, max_keepalive_connections=100, keepalive_expiry=60.0
)
_LONGEST_SLEEP: Final = 60.0
"""Seconds of sleep after which pooled connections are given up: as long as they may be idle."""

STALE_TRIES: Final = 20
"""Pooled connections that may turn out to be closed before a fresh one is insisted on."""


class ProxiedTransport:
    """httpx's transport, through an outgoing proxy.

    A request is sent again on another connection where the upstream had closed a pooled one
    without answering a byte: it had not seen the request. httpx measures by a clock that stops
    while the machine sleeps, so connections from before a sleep are given up.
    """

    def __init__(self, proxy: str, load_trust: "LoadTrust | None" = None) -> None:
        self._proxy = proxy
        self._trust = Trust(load_trust or TrustedRoots().load)
        self._pool: httpx.AsyncHTTPTransport | None = None
        self._former: list[httpx.AsyncHTTPTransport] = []
        """Pools from before a sleep, which are closed when there are no users."""
        self._slept = _slept_seconds()
        """When the pool was made."""
        self._users = 0
        """Requests that are being sent, and responses that are not closed."""
        self._on_closed: Callable[[], object] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def send(self, request: UpstreamRequest) -> Response:
        """Send a request and return the response, whose body is still to be read."""
        self._users += 1
        try:
            return ProxiedResponse(await self._send(request), self._end_use)
        except BaseException:
            await self._end_use()
            raise

    async def _send(self, request: UpstreamRequest) -> httpx.Response:
        # Few servers have an outgoing proxy, and it takes time and memory to load this.
        from socksio.exceptions import SOCKSError

        locate(request.url)
        pool = await self._open(request.connect_timeout)
        has_connected = is_proxy_reached = False
        stream: Any = None

        async def trace(event: str, info: dict[str, Any]) -> None:
            nonlocal has_connected, is_proxy_reached, stream
            # The names are those of httpcore: a TLS handshake of `connection` is the proxy's own.
            has_connected = has_connected or event.endswith("connect_tcp.started")
            if event.endswith(("connect_tcp.failed", "connection.start_tls.failed")):
                is_proxy_reached = False
            elif event.endswith("connect_tcp.complete"):
                stream = info["return_value"]
            elif event.endswith(("send_request_headers.started", "socks5_connection.started")):
                is_proxy_reached = True

        extensions = {"timeout": {"connect": request.connect_timeout}, "trace": trace}
        if request.target is not None:
            extensions["target"] = request.target
        try:
            made = httpx.Request(
                request.method,
                request.url,
                headers=request.headers,
                content=request.content,
                extensions=extensions,
            )
            for _ in range(STALE_TRIES):
                try:
                    return await pool.handle_async_request(made)
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                    if has_connected or not _is_unanswered(error):
                        raise
            return await pool.handle_async_request(made)
        except BaseException as error:
            if stream is not None:
                # httpcore forgets it where the handshake with a SOCKS proxy fails.
                await stream.aclose()
            match error:
                case httpx.ConnectError() | httpx.ConnectTimeout() if not is_proxy_reached:
                    raise ProxyUnreachable(str(error)) from error
                case httpx.HTTPError() | httpx.InvalidURL():
                    raise translate_error(error) from error
                case SOCKSError() | AssertionError():
                    # httpcore passes on what its SOCKS library raises.
                    raise ProxyUnreachable("the outgoing proxy does not speak SOCKS") from error
            raise

    async def prepare(self) -> None:
        """Load the trusted certificates."""
        await self._open()

    async def _open(self, timeout: float | None = None) -> httpx.AsyncHTTPTransport:
        slept = _slept_seconds()
        if self._pool is not None and slept - self._slept > _LONGEST_SLEEP:
            self._former.append(self._pool)
            self._pool = None
        if self._pool is None:
            context = await self._trust.get(timeout)
            if self._pool is None:
                try:
                    # An https:// proxy shows a certificate of its own.
                    proxy = httpx.Proxy(self._proxy, ssl_context=_for_proxy(self._proxy, context))
                    self._pool = httpx.AsyncHTTPTransport(context, proxy=proxy, limits=_LIMITS)
                    self._slept = slept
                except (ValueError, httpx.InvalidURL) as error:
                    raise InvalidProxy(
                        "the outgoing proxy is not a URL that can be used"
                    ) from error
        return self._pool

    def retire(self, on_closed: Callable[[], object]) -> None:
        """Close the connections as soon as no response is open."""
        self._on_closed = on_closed
        if not self._users:
            self._closing = asyncio.get_running_loop().create_task(self.aclose())

    async def _end_use(self) -> None:
        self._users -= 1
        if not self._users:
            if self._on_closed is not None:
                await self.aclose()
            else:
                await self._close_former()

    async def _close_former(self) -> None:
        while self._former:
            await self._former.pop().aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        self._trust.close()
        await self._close_former()
        if self._pool is not None:
            await self._pool.aclose()
        if self._on_closed is not None:
            self._on_closed()


Transport = DirectTransport | ProxiedTransport


def _slept_seconds() -> float:
    """A number of seconds that grows by as much as the machine sleeps."""
    return clock() - monotonic()


def _for_proxy(proxy: str, context: ssl.SSLContext) -> ssl.SSLContext | None:
    """The context for the connection to the proxy itself, if that is encrypted."""
    return context if proxy.lower().startswith("https:") else None


class ProxiedResponse:
    """A response of httpx."""

    is_ready = False

    def __init__(self, response: httpx.Response, on_closed: Callable[[], Awaitable[None]]) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self.status = response.status_code
        self.headers: Headers = [(name.lower(), value) for name, value in response.headers.raw]
        self._response = response
        self._pieces: AsyncIterator[bytes] = response.stream.__aiter__()
        self._on_closed: Callable[[], Awaitable[None]] | None = on_closed

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end."""
        try:
            async for piece in self._pieces:
                if piece:
                    return piece
        except httpx.HTTPError as error:
            raise translate_error(error) from error
        return b""

    def take_whole(self) -> bytes | None:
        """httpx does not tell what has arrived."""
        return None

    async def aclose(self) -> None:
        """Keep or close the connection, as httpx does."""
        try:
            await self._response.aclose()
        finally:
            on_closed, self._on_closed = self._on_closed, None
            if on_closed is not None:
                await on_closed()


def _is_unanswered(error: httpx.TransportError) -> bool:
    """Whether the upstream closed the connection before the first byte of a response."""
    if isinstance(error, httpx.RemoteProtocolError):
        return "without sending a response" in str(error)
    return True


def translate_error(error: httpx.HTTPError | httpx.InvalidURL) -> HTTPError:
    """The `HTTPError` for an error of httpx."""
    message = str(error)
    match error:
        case httpx.ConnectTimeout():
            return ConnectTimeout(message)
        case httpx.ConnectError():
            return ConnectError(message)
        case httpx.ProxyError():
            is_own = PROXY_PASSWORD.search(message) is not None
            return (ProxyUnreachable if is_own else ProxyError)(message)
        case httpx.RemoteProtocolError():
            is_closed = "without" in message or "closed" in message
            return (RemoteDisconnected if is_closed else RemoteProtocolError)(message)
        case httpx.LocalProtocolError():
            return LocalProtocolError(message)
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return InvalidURL(message)
        case _:
            return ConnectionLost(message)
