"""The adapter to the network: which transport carries a request, and what its errors mean.

`ConnectionPool` carries what goes straight to a provider, httpx what takes an outgoing proxy: this
module is the only one that knows either. An httpx client around its transport would cost more than
the rest of the proxy, so the transport is called directly; redirects are never followed.

Whatever goes wrong is an `HTTPError` of `http1`, on both ways.
"""

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic
from typing import Any, Final, Protocol

import httpx

from ccfallback.config.model import Network
from ccfallback.credentials.fetch import Fetch, Fetcher
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
from ccfallback.http1.connection import clock
from ccfallback.policy.outcome import Fault
from ccfallback.server.outgoing import InvalidProxy, OutgoingProxies
from ccfallback.server.trust import TrustedRoots

_PORTS: Final = {"http": 80, "https": 443}
_NO_ROUTE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
)
_OWN_MACHINE: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EACCES, errno.EPERM}
    # WSAEMFILE and WSAENOBUFS of Windows.
    | {10024, 10055}
)
"""What the system says when the reason lies here: no free descriptors, no memory, a firewall."""

_OWN_LOOKUP: Final = frozenset(
    {getattr(socket, "EAI_MEMORY", -10), getattr(socket, "EAI_SYSTEM", -11)}
)
"""The same, while it looks up a name."""

_PROXY_PASSWORD: Final = re.compile(r"^407\b|^Requested|password", re.IGNORECASE)
"""What httpx says where the outgoing proxy wants another name or password."""

_LIMITS: Final = httpx.Limits(
    max_connections=None, max_keepalive_connections=100, keepalive_expiry=60.0
)
_LONGEST_SLEEP: Final = 60.0
"""Seconds of sleep after which pooled connections are given up: as long as they may be idle."""

MOST_PROXIES: Final = 8
"""Outgoing proxies whose connections are kept."""

STALE_TRIES: Final = 20
"""Pooled connections that may turn out to be closed before a fresh one is insisted on."""


class InvalidURL(HTTPError):
    """The text is not an http or https URL."""


class ProxyError(HTTPError):
    """The outgoing proxy refused to connect to the upstream."""


class ProxyUnreachable(HTTPError):
    """No connection to the outgoing proxy, or it does not serve this machine."""


@dataclass(slots=True)
class UpstreamRequest:
    """A request to an upstream, never changed. Its `repr` shows no key and no content.

    Not frozen, because every request makes one: a frozen dataclass takes twice as long to make.
    """

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

    def take_whole(self) -> bytes | None:
        """The whole rest of the body if it has arrived already; `None` if not."""

    async def aclose(self) -> None:
        """Keep the connection where the response is complete, else close it at once."""


class Upstreams:
    """The transports of a server: a direct one, and one for each outgoing proxy in use."""

    def __init__(self, network: Network | None = None) -> None:
        self._network = network or Network()
        self._roots = TrustedRoots(self._network.ca_file)
        self._proxies = OutgoingProxies(self._network.proxy)
        self._direct: DirectTransport | None = None
        self._proxied: dict[str, ProxiedTransport] = {}
        """The last ones used, the longest unused first."""
        self._retired: set[Transport] = set()
        """Those that new requests do not take, until their last response is closed."""

    def use_network(self, network: Network) -> bool:
        """Reach upstreams in this way from now on; requests under way go on as they began.

        If the new `ca_file` can't be read, the authorities of before stay. False if nothing is new.
        """
        if network == self._network:
            return False
        self._proxies.configured = network.proxy
        if network.ca_file != self._network.ca_file:
            self._roots = TrustedRoots(network.ca_file, before=self._roots)
            for transport in (self._direct, *self._proxied.values()):
                if transport is not None:
                    self._retire(transport)
            self._direct = None
            self._proxied = {}
        self._network = network
        return True

    def make_fetch(self) -> Fetch:
        """A client for a thread that reaches other servers in the same way."""
        return Fetcher(self._roots.load, OutgoingProxies(self._network.proxy).for_url)

    def find_problems(self) -> list[str]:
        """What is wrong with the files and variables that the user named. Reads files."""
        return [*self._roots.find_problems(), *self._proxies.find_problems()]

    def send(self, request: UpstreamRequest) -> Awaitable[Response]:
        """Send a request and return the response, whose body is still to be read.

        Raises `HTTPError`, from the call or from what it returns.
        """
        return self.transport(request.url).send(request)

    def transport(self, url: str) -> "Transport":
        """The transport for requests to `url`. Raises `InvalidProxy`."""
        proxy = self._proxies.for_url(url)
        if proxy is None:
            if self._direct is None:
                self._direct = DirectTransport(self._roots.load)
            return self._direct
        transport = self._proxied.pop(proxy, None) or ProxiedTransport(proxy, self._roots.load)
        self._proxied[proxy] = transport
        if len(self._proxied) > MOST_PROXIES:
            self._retire(self._proxied.pop(next(iter(self._proxied))))
        return transport

    async def prepare(self, urls: Iterable[str]) -> None:
        """Load in advance what the first request to one of these would wait for."""
        for url in urls:
            if url.startswith("https:"):
                with suppress(HTTPError):
                    await self.transport(url).prepare()

    async def aclose(self) -> None:
        """Close every connection."""
        for transport in (self._direct, *self._proxied.values(), *self._retired):
            if transport is not None:
                await transport.aclose()

    def _retire(self, transport: "Transport") -> None:
        self._retired.add(transport)
        transport.retire(lambda: self._retired.discard(transport))


class DirectTransport:
    """HTTP/1.1 without an outgoing proxy."""

    def __init__(self, load_trust: "LoadTrust | None" = None) -> None:
        self._pool = ConnectionPool(load_ssl_context=load_trust or TrustedRoots().load)

    def send(self, request: UpstreamRequest) -> Awaitable[Response]:
        """Send a request and return the response, whose body is still to be read."""
        origin, target = _locate(request.url)
        return self._pool.send(
            Request(
                origin, request.method, request.target or target, request.headers, request.content
            ),
            request.connect_timeout,
        )

    async def prepare(self) -> None:
        """Load the trusted certificates."""
        await self._pool.load_trust()

    def retire(self, on_closed: Callable[[], object]) -> None:
        """Close each connection as soon as its exchange is over."""
        self._pool.retire(on_closed)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class ProxiedTransport:
    """httpx's transport, through an outgoing proxy.

    A request is sent again on another connection where the upstream had closed a pooled one
    without answering a byte: it had not seen the request. httpx measures by a clock that stops
    while the machine sleeps, so connections from before a sleep are given up.
    """

    def __init__(self, proxy: str, load_trust: "LoadTrust | None" = None) -> None:
        self._proxy = proxy
        self._load_trust = load_trust or TrustedRoots().load
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

        _locate(request.url)
        pool = await self._open()
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

    async def _open(self) -> httpx.AsyncHTTPTransport:
        slept = _slept_seconds()
        if self._pool is not None and slept - self._slept > _LONGEST_SLEEP:
            self._former.append(self._pool)
            self._pool = None
        if self._pool is None:
            # Loading takes long enough to hold up every stream.
            context = await asyncio.to_thread(self._load_trust)
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
        await self._close_former()
        if self._pool is not None:
            await self._pool.aclose()
        if self._on_closed is not None:
            self._on_closed()


Transport = DirectTransport | ProxiedTransport


def _slept_seconds() -> float:
    """A number of seconds that grows by as much as the machine sleeps."""
    return clock() - monotonic()


LoadTrust = Callable[[], ssl.SSLContext]
"""Returns the TLS context for upstreams. It may take a while, so a thread calls it."""


def _for_proxy(proxy: str, context: ssl.SSLContext) -> ssl.SSLContext | None:
    """The context for the connection to the proxy itself, if that is encrypted."""
    return context if proxy.lower().startswith("https:") else None


class ProxiedResponse:
    """A response of httpx."""

    is_ready = False

    def __init__(self, response: httpx.Response, on_closed: Callable[[], Awaitable[None]]) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self.status = response.status_code
        self.headers: Headers = list(response.headers.raw)
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
            is_own = _PROXY_PASSWORD.search(message) is not None
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


def describe_error(error: Exception) -> tuple[Fault, str]:
    """What an error means for the attempt, and a few words for it."""
    match error:
        case ConnectTimeout():
            return Fault.CONNECT_TIMEOUT, "connect timeout"
        case ProxyUnreachable() if _PROXY_PASSWORD.search(str(error)):
            return Fault.OWN_MACHINE, "the outgoing proxy refuses this machine's name or password"
        case ProxyUnreachable():
            return Fault.OWN_MACHINE, "the outgoing proxy can't be reached"
        case InvalidProxy():
            return Fault.TRANSPORT, str(error)
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Fault.TRANSPORT, f"TLS certificate refused: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return Fault.TRANSPORT, f"TLS error: {cause.reason or 'handshake failed'}"
        if isinstance(cause, OSError) and cause.errno in (
            _OWN_LOOKUP if isinstance(cause, socket.gaierror) else _OWN_MACHINE
        ):
            return Fault.OWN_MACHINE, f"this machine can't connect: {cause.strerror}"
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
