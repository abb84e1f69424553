"""Which transport carries a request, and what its errors mean.

Transports are called directly: a client around them would cost more than the rest of the proxy.
Redirects are therefore never followed.
Our own transport carries what goes straight to a provider, the library's what takes an outgoing
proxy.
"""

import errno
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from ccfallback.addresses import is_loopback
from ccfallback.http1.transport import DirectTransport
from ccfallback.policy.outcome import Fault
from ccfallback.server import transport as carrier
from ccfallback.server.transport import Response, Transport, UpstreamRequest

_NO_ROUTE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
)
_LIMITS: Final = httpx.Limits(
    max_connections=None, max_keepalive_connections=100, keepalive_expiry=60.0
)
STALE_TRIES: Final = 20
"""Pooled connections that may turn out to be closed before a fresh one is insisted on."""


class Upstreams:
    """The transports of this server: a direct one, and one for each outgoing proxy in use."""

    def __init__(self, proxy: str | None = None) -> None:
        self._proxy = proxy
        self._environment = getproxies()
        self._transports: dict[str | None, Transport] = {}

    def use_proxy(self, proxy: str | None) -> None:
        """Send what begins from now on through this outgoing proxy."""
        self._proxy = proxy

    def transport(self, url: str) -> Transport:
        """What carries a request to `url`."""
        proxy = self._proxy_for(url)
        if proxy not in self._transports:
            self._transports[proxy] = DirectTransport() if proxy is None else Proxied(proxy)
        return self._transports[proxy]

    async def prepare(self, urls: Iterable[str]) -> None:
        """Do beforehand what the first request to one of these would wait for."""
        for transport in {self.transport(url) for url in urls if url.startswith("https:")}:
            if isinstance(transport, DirectTransport):
                with suppress(httpx.ConnectError):
                    await transport.trust()

    def _proxy_for(self, url: str) -> str | None:
        if self._proxy is None and not self._environment:
            return None
        parts = urlsplit(url)
        host = parts.hostname or ""
        if is_loopback(host):
            return None
        if self._proxy is not None:
            return self._proxy
        if proxy_bypass(host):
            return None
        found = self._environment.get(parts.scheme) or self._environment.get("all")
        # Many an environment names host and port alone.
        return f"http://{found}" if found and "://" not in found else found or None

    async def aclose(self) -> None:
        """Close every connection."""
        for transport in self._transports.values():
            await transport.aclose()


class Proxied(httpx.AsyncBaseTransport):
    """The library's transport, through an outgoing proxy.

    A request is sent again on another connection where a pooled one had been closed meanwhile.
    That is safe because the upstream has not answered a byte on it: it closed the connection
    without having seen the request.
    """

    def __init__(self, proxy: str) -> None:
        self._pool = httpx.AsyncHTTPTransport(proxy=proxy, limits=_LIMITS)

    async def post(self, post: UpstreamRequest) -> Response:
        """Send a request; the response has its head."""
        return await carrier.post(self, post)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the response has its head, and its stream the body as it comes."""
        opened = False

        async def trace(event: str, _info: dict[str, Any]) -> None:
            nonlocal opened
            opened = opened or event.startswith("connection.connect")

        request.extensions["trace"] = trace
        for _ in range(STALE_TRIES):
            try:
                return await self._pool.handle_async_request(request)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                if opened or not _closed_without_answer(error):
                    raise
        return await self._pool.handle_async_request(request)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


def _closed_without_answer(error: httpx.TransportError) -> bool:
    if isinstance(error, httpx.RemoteProtocolError):
        return "without sending a response" in str(error)
    return True


def fault_of(error: Exception) -> tuple[Fault, str]:
    """What a transport's error means, and the few words for it."""
    if isinstance(error, httpx.ConnectTimeout):
        return Fault.CONNECT_TIMEOUT, "connect timeout"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Fault.TRANSPORT, f"TLS certificate refused: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return Fault.TRANSPORT, f"TLS error: {cause.reason or 'handshake failed'}"
        if isinstance(cause, socket.gaierror):
            return Fault.UNREACHABLE, "name not resolved"
        if isinstance(cause, ConnectionRefusedError):
            return Fault.TRANSPORT, "connection refused"
        if isinstance(cause, ConnectionResetError | BrokenPipeError):
            return Fault.TRANSPORT, "connection reset"
        if isinstance(cause, OSError) and cause.errno in _NO_ROUTE:
            return Fault.UNREACHABLE, "no route to host"
    if isinstance(error, httpx.ConnectError):
        return Fault.TRANSPORT, "connection failed"
    if isinstance(error, httpx.ProxyError):
        return Fault.TRANSPORT, "the outgoing proxy refused"
    if isinstance(error, httpx.RemoteProtocolError):
        closed = "without" in str(error) or "closed" in str(error)
        return Fault.TRANSPORT, "connection closed" if closed else "broken HTTP"
    return Fault.TRANSPORT, "connection broken"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error with everything that led to it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__cause__, cause.__context__]
        if isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions
