"""The adapter to the network: which transport carries a request, and what its errors mean.

`ConnectionPool` carries what goes straight to a provider, httpx what takes an outgoing proxy: this
module is the only one that knows either. An httpx client around its transport would cost more than
the rest of the proxy, so the transport is called directly; redirects are never followed.

Whatever goes wrong is an `HTTPError` of `http1`, on both ways.
"""

import errno
import socket
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from ccfallback.addresses import is_loopback
from ccfallback.http1 import (
    ConnectError,
    ConnectionLost,
    ConnectionPool,
    ConnectTimeout,
    Headers,
    HTTPError,
    LocalProtocolError,
    Origin,
    RemoteDisconnected,
    RemoteProtocolError,
    Request,
)
from ccfallback.policy.outcome import Fault

_PORTS: Final = {"http": 80, "https": 443}
_NO_ROUTE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
)
_LIMITS: Final = httpx.Limits(
    max_connections=None, max_keepalive_connections=100, keepalive_expiry=60.0
)
STALE_TRIES: Final = 20
"""Pooled connections that may turn out to be closed before a fresh one is insisted on."""


class InvalidURL(HTTPError):
    """The text is not an http or https URL."""


class ProxyError(HTTPError):
    """The outgoing proxy refused."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to an upstream. Its `repr` shows no key and no content."""

    url: str = field(repr=False)
    headers: Headers = field(repr=False)
    """Without `host`; the framing is added where it is missing."""
    content: bytes | AsyncIterable[bytes] = field(repr=False)
    connect_timeout: float | None
    """Seconds for name, TCP and TLS together."""
    method: str = "POST"
    target: bytes | None = field(default=None, repr=False)
    """What the request line says, where that is not the URL's path and query in normal form."""


class Response(Protocol):
    """An upstream's response, while its body is still arriving."""

    @property
    def status(self) -> int:
        """The status."""

    @property
    def headers(self) -> Headers:
        """The headers, as the upstream spells them."""

    @property
    def is_ready(self) -> bool:
        """Whether the next `read` returns without waiting."""

    async def read(self) -> bytes:
        """All of the body that has arrived since the last time; empty at its end."""

    async def aclose(self) -> None:
        """Keep the connection where the response is complete, else close it at once."""


class Transport(Protocol):
    """A way to upstreams."""

    async def send(self, request: UpstreamRequest) -> Response:
        """Send a request and return the response, whose body is still to be read."""

    async def aclose(self) -> None:
        """Close every connection."""


class Upstreams:
    """The transports of a server: a direct one, and one for each outgoing proxy in use."""

    def __init__(self, proxy: str | None = None) -> None:
        self._proxy = proxy
        self._environment = getproxies()
        self._transports: dict[str | None, Transport] = {}

    def use_proxy(self, proxy: str | None) -> None:
        """Send new requests through this outgoing proxy."""
        self._proxy = proxy

    def transport(self, url: str) -> Transport:
        """The transport for requests to `url`."""
        proxy = self._proxy_for(url)
        if proxy not in self._transports:
            self._transports[proxy] = (
                DirectTransport() if proxy is None else ProxiedTransport(proxy)
            )
        return self._transports[proxy]

    async def prepare(self, urls: Iterable[str]) -> None:
        """Load in advance what the first request to one of these would wait for."""
        for transport in {self.transport(url) for url in urls if url.startswith("https:")}:
            if isinstance(transport, DirectTransport):
                with suppress(ConnectError):
                    await transport.pool.load_trust()

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
        # Many environments give host and port only.
        return f"http://{found}" if found and "://" not in found else found or None

    async def aclose(self) -> None:
        """Close every connection."""
        for transport in self._transports.values():
            await transport.aclose()


class DirectTransport:
    """HTTP/1.1 without an outgoing proxy."""

    def __init__(self) -> None:
        self.pool = ConnectionPool(load_ssl_context=_load_ssl_context)

    async def send(self, request: UpstreamRequest) -> Response:
        """Send a request and return the response, whose body is still to be read."""
        origin, target = _locate(request.url)
        return await self.pool.send(
            Request(
                origin, request.method, request.target or target, request.headers, request.content
            ),
            request.connect_timeout,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self.pool.aclose()


class ProxiedTransport:
    """httpx's transport, through an outgoing proxy.

    A request is sent again on another connection where the upstream had closed a pooled one
    without answering a byte: it had not seen the request.
    """

    def __init__(self, proxy: str) -> None:
        self._pool = httpx.AsyncHTTPTransport(proxy=proxy, limits=_LIMITS)

    async def send(self, request: UpstreamRequest) -> Response:
        """Send a request and return the response, whose body is still to be read."""
        _locate(request.url)
        has_connected = False

        async def trace(event: str, _info: dict[str, Any]) -> None:
            nonlocal has_connected
            has_connected = has_connected or event.startswith("connection.connect")

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
                    return ProxiedResponse(await self._pool.handle_async_request(made))
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                    if has_connected or not _is_unanswered(error):
                        raise
            return ProxiedResponse(await self._pool.handle_async_request(made))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise translate_error(error) from error

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class ProxiedResponse:
    """A response of httpx."""

    is_ready = False

    def __init__(self, response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self.status = response.status_code
        self.headers: Headers = list(response.headers.raw)
        self._response = response
        self._pieces: AsyncIterator[bytes] = response.stream.__aiter__()

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end."""
        try:
            async for piece in self._pieces:
                if piece:
                    return piece
        except httpx.HTTPError as error:
            raise translate_error(error) from error
        return b""

    async def aclose(self) -> None:
        """Keep or close the connection, as httpx does."""
        await self._response.aclose()


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
            return ProxyError(message)
        case httpx.RemoteProtocolError():
            is_closed = "without" in message or "closed" in message
            return (RemoteDisconnected if is_closed else RemoteProtocolError)(message)
        case httpx.LocalProtocolError():
            return LocalProtocolError(message)
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return InvalidURL(message)
        case _:
            return ConnectionLost(message)


def describe_error(error: Exception) -> tuple[Fault, str]:
    """What an error means for the attempt, and a few words for it."""
    if isinstance(error, ConnectTimeout):
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
    match error:
        case ConnectError():
            return Fault.TRANSPORT, "connection failed"
        case ProxyError():
            return Fault.TRANSPORT, "the outgoing proxy refused"
        case RemoteDisconnected():
            return Fault.TRANSPORT, "connection closed"
        case RemoteProtocolError():
            return Fault.TRANSPORT, "broken HTTP"
        case _:
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


@lru_cache(maxsize=512)
def _locate(url: str) -> tuple[Origin, bytes]:
    """Where a URL leads: the origin, and the target there. Raises `InvalidURL`."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidURL(str(error)) from None
    scheme, host = parsed.scheme, parsed.raw_host.decode("ascii")
    if scheme not in _PORTS or not host:
        raise InvalidURL(f"not an http or https URL: {scheme}://{host}")
    return Origin(scheme, host, parsed.port or _PORTS[scheme]), parsed.raw_path


def _load_ssl_context() -> ssl.SSLContext:
    """TLS as httpx sets it up: with the authorities that the environment names, or certifi's."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
