"""The adapter to the network: which transport carries a request, and what its errors mean.

`ConnectionPool` carries what goes straight to a provider, httpx what takes an outgoing proxy: see
`proxied`. An httpx client around its transport would cost more than the rest of the proxy, so the
transport is called directly; redirects are never followed.

Whatever goes wrong is an `HTTPError` of `http1`, on both ways.
"""

import errno
import re
import socket
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from ccfallback.config.model import Network
from ccfallback.credentials.fetch import Fetch, Fetcher
from ccfallback.http1 import (
    ConnectError,
    ConnectionPool,
    ConnectTimeout,
    Headers,
    HTTPError,
    Origin,
    RemoteDisconnected,
    RemoteProtocolError,
    Request,
    TrustUnavailable,
)
from ccfallback.policy.outcome import Fault
from ccfallback.server.outgoing import InvalidProxy, OutgoingProxies
from ccfallback.server.trust import TrustedRoots
from ccfallback.short_cache import short_cache
from ccfallback.structs import Discreet

if TYPE_CHECKING:
    from ccfallback.server.proxied import ProxiedTransport, Transport

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

PROXY_PASSWORD: Final = re.compile(r"^407\b|^Requested|password", re.IGNORECASE)
"""What httpx says where the outgoing proxy wants another name or password."""

MOST_PROXIES: Final = 8
"""Outgoing proxies whose connections are kept."""


class InvalidURL(HTTPError):
    """The text is not an http or https URL."""


class ProxyError(HTTPError):
    """The outgoing proxy refused to connect to the upstream."""


class ProxyUnreachable(HTTPError):
    """No connection to the outgoing proxy, or it does not serve this machine."""


class UpstreamRequest(Discreet, msgspec.Struct):
    """A request to an upstream, never changed. Its `repr` shows no key and no content."""

    SHOWN = ("method", "connect_timeout")

    url: str
    headers: Headers
    """Without `host`; the framing is added where it is missing."""
    content: bytes | AsyncIterable[bytes]
    connect_timeout: float | None
    """Seconds for name, TCP and TLS together."""
    method: str = "POST"
    target: bytes | None = None
    """What the request line says, where that is not the URL's path and query in normal form."""


class Response(Protocol):
    """An upstream's response, while its body is still arriving."""

    @property
    def status(self) -> int:
        """The status."""

    @property
    def headers(self) -> Headers:
        """The headers, with lower-case names."""

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
        from ccfallback.server.proxied import ProxiedTransport

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
        origin, target = locate(request.url)
        return self._pool.send(
            Request(
                origin, request.method, request.target or target, request.headers, request.content
            ),
            request.connect_timeout,
        )

    async def prepare(self) -> None:
        """Load the trusted certificates."""
        await self._pool.trust.get()

    def retire(self, on_closed: Callable[[], object]) -> None:
        """Close each connection as soon as its exchange is over."""
        self._pool.retire(on_closed)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


LoadTrust = Callable[[], ssl.SSLContext]
"""Returns the TLS context for upstreams. It may take a while, so a thread calls it."""


def describe_error(error: Exception) -> tuple[Fault, str]:
    """What an error means for the attempt, and a few words for it."""
    match error:
        case ConnectTimeout():
            return Fault.CONNECT_TIMEOUT, "connect timeout"
        case ProxyUnreachable() if PROXY_PASSWORD.search(str(error)):
            return Fault.OWN_MACHINE, "the outgoing proxy refuses this machine's name or password"
        case ProxyUnreachable():
            return Fault.OWN_MACHINE, "the outgoing proxy can't be reached"
        case TrustUnavailable():
            return Fault.OWN_MACHINE, f"this machine can't read its trusted certificates: {error}"
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


_BYTE: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_PLAIN_URL: Final = re.compile(
    rf"(https?)://((?=[\d.-]*[a-z])[a-z\d.-]+|{_BYTE}(?:\.{_BYTE}){{3}})"
    r"(?::([1-9]\d{0,4}))?((?:/(?!\.)[\w~:=&+,;@.-]*)*)(\?[\w~:/?=&+,;@.-]*)?",
    re.ASCII,
)
"""A URL that is in normal form, but for the port."""


@short_cache(512)
def locate(url: str) -> tuple[Origin, bytes]:
    """Where a URL leads: the origin, and the target there. Raises `InvalidURL`."""
    plain = _PLAIN_URL.fullmatch(url)
    if plain is not None and len(url) < 4096 and int(plain[3] or 0) < 65536:
        scheme, host, port, path, query = plain.groups("")
        return Origin(scheme, host, int(port or _PORTS[scheme])), f"{path or '/'}{query}".encode()
    # Loaded only for such a URL: it takes as much memory as the rest of the server together.
    import httpx

    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidURL(str(error)) from None
    scheme, host = parsed.scheme, parsed.raw_host.decode("ascii")
    if scheme not in _PORTS or not host:
        raise InvalidURL(f"not an http or https URL: {scheme}://{host}")
    return Origin(scheme, host, parsed.port or _PORTS[scheme]), parsed.raw_path
