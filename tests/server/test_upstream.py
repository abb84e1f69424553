"""What a transport's error means, and which way a request takes."""

import asyncio
import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import Network
from ccfallback.http1 import (
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    HTTPError,
    LocalProtocolError,
    Origin,
    RemoteDisconnected,
    RemoteProtocolError,
)
from ccfallback.policy.outcome import Fault
from ccfallback.server import proxied as module
from ccfallback.server import trust
from ccfallback.server.proxied import ProxiedTransport, Transport, translate_error
from ccfallback.server.upstream import (
    DirectTransport,
    InvalidURL,
    ProxyError,
    Response,
    UpstreamRequest,
    Upstreams,
    describe_error,
    locate,
)
from tests.network import Peer, RawUpstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


CERTIFICATE = ssl.SSLCertVerificationError("bad")
CERTIFICATE.verify_message = "self-signed certificate"
REFUSED = ExceptionGroup("all", [ConnectionRefusedError(errno.ECONNREFUSED, "refused")])


@pytest.mark.parametrize(
    ("error", "cause", "fault", "words"),
    [
        (ConnectTimeout, None, Fault.CONNECT_TIMEOUT, "connect timeout"),
        (ConnectError, socket.gaierror(-2, "unknown"), Fault.UNREACHABLE, "name not resolved"),
        (ConnectError, OSError(errno.ENETUNREACH, "no"), Fault.UNREACHABLE, "no route to host"),
        (ConnectError, REFUSED, Fault.TRANSPORT, "connection refused"),
        (
            ConnectError,
            CERTIFICATE,
            Fault.TRANSPORT,
            "TLS certificate refused: self-signed certificate",
        ),
        (ConnectError, None, Fault.TRANSPORT, "connection failed"),
        (ProxyError, None, Fault.TRANSPORT, "the outgoing proxy refused"),
        (ConnectionLost, ConnectionResetError(), Fault.TRANSPORT, "connection reset"),
        (ConnectionLost, None, Fault.TRANSPORT, "connection broken"),
        (RemoteDisconnected, None, Fault.TRANSPORT, "connection closed"),
        (RemoteProtocolError, None, Fault.TRANSPORT, "broken HTTP"),
        (LocalProtocolError, None, Fault.TRANSPORT, "connection broken"),
        (InvalidURL, None, Fault.TRANSPORT, "connection broken"),
    ],
)
def test_every_error_of_the_network_has_its_fault(
    error: type[HTTPError], cause: BaseException | None, fault: Fault, words: str
) -> None:
    raised = error("x")
    raised.__cause__ = cause
    assert describe_error(raised) == (fault, words)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectTimeout("x"), ConnectTimeout),
        (httpx.ConnectError("x"), ConnectError),
        (httpx.ProxyError("x"), ProxyError),
        (httpx.ReadError("x"), ConnectionLost),
        (httpx.WriteError("x"), ConnectionLost),
        (
            httpx.RemoteProtocolError("Server disconnected without sending a response."),
            RemoteDisconnected,
        ),
        (
            httpx.RemoteProtocolError("peer closed connection without sending complete message"),
            RemoteDisconnected,
        ),
        (httpx.RemoteProtocolError("illegal header line"), RemoteProtocolError),
        (httpx.LocalProtocolError("x"), LocalProtocolError),
        (httpx.UnsupportedProtocol("x"), InvalidURL),
        (httpx.InvalidURL("x"), InvalidURL),
    ],
)
def test_every_error_of_httpx_becomes_one_of_ours(
    error: httpx.HTTPError | httpx.InvalidURL, kind: type[HTTPError]
) -> None:
    assert type(translate_error(error)) is kind


@pytest.mark.parametrize("transport", [DirectTransport, lambda: ProxiedTransport("http://p.test")])
@pytest.mark.parametrize(
    "url",
    [
        "ftp://up.test/",
        "http:///path",
        "/path",
        "http://up.test/?" + "x" * 70_000,
        "http://up.test/\x7f",
        "http://",
    ],
    ids=lambda url: url[:20],
)
async def test_a_url_that_is_not_for_http_is_an_error(
    transport: Callable[[], Transport], url: str
) -> None:
    made = transport()
    with pytest.raises(InvalidURL):
        await made.send(UpstreamRequest(url, [], b"", 1.0))
    await made.aclose()


@pytest.mark.parametrize(
    ("url", "target", "first_lines"),
    [
        ("/a b/../c?q=1", None, b"POST /c?q=1 HTTP/1.1\r\nhost: "),
        ("/x", b"/a%2fb/../c?d=%", b"POST /a%2fb/../c?d=% HTTP/1.1\r\nhost: "),
    ],
)
async def test_the_target_is_sent_as_given_or_in_the_urls_normal_form(
    url: str, target: bytes | None, first_lines: bytes
) -> None:
    received = b""

    async def answer(peer: Peer) -> None:
        nonlocal received
        received = await peer.request()
        await peer.send(OK)

    async with RawUpstream(answer) as upstream:
        for transport in (DirectTransport(), ProxiedTransport(upstream.url)):
            where = upstream.url.rstrip("/") + url
            response = await transport.send(UpstreamRequest(where, [], b"hello", 5, target=target))
            assert await response.read() == b"ok"
            await response.aclose()
            await transport.aclose()
            if isinstance(transport, DirectTransport):
                assert received.startswith(first_lines)


def test_loopback_is_never_proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:1")
    monkeypatch.setenv("NO_PROXY", "inside.test")
    upstreams = Upstreams()
    direct = upstreams.transport("http://127.0.0.1:1")
    assert upstreams.transport("https://localhost") is direct
    assert upstreams.transport("https://inside.test") is direct
    assert upstreams.transport("https://outside.test") is not direct


def test_the_configured_proxy_beats_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:1")
    upstreams = Upstreams(Network(proxy="http://configured.test:2"))
    before = upstreams.transport("https://outside.test")
    upstreams.use_network(Network())
    assert upstreams.transport("https://outside.test") is not before


async def test_an_environment_may_name_host_and_port_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(peer: Peer) -> None:
        assert (await peer.request()).startswith(b"POST http://provider.test/v1 HTTP/1.1\r\n")
        await peer.send(OK)

    async with RawUpstream(answer) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removeprefix("http://"))
        assert await ask(Upstreams()) == b"ok"


async def test_a_request_goes_through_a_socks_proxy() -> None:
    async def answer(peer: Peer) -> None:
        # RFC 1928: a greeting that offers "no authentication", then CONNECT to a name.
        assert await peer.reader.readexactly(3) == b"\x05\x01\x00"
        await peer.send(b"\x05\x00")
        name = b"provider.test"
        wanted = b"\x05\x01\x00\x03" + bytes([len(name)]) + name + b"\x00\x50"
        assert await peer.reader.readexactly(len(wanted)) == wanted
        await peer.send(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
        assert (await peer.request()).startswith(b"POST /v1 HTTP/1.1\r\n")
        await peer.send(OK)

    async with RawUpstream(answer) as proxy:
        url = proxy.url.replace("http://", "socks5://")
        assert await ask(Upstreams(Network(proxy=url))) == b"ok"


async def test_a_pooled_connection_through_a_proxy_may_be_closed_meanwhile() -> None:
    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.number == 1:
            # It closes when the next request is there already.
            await peer.request()
        else:
            await peer.closed()

    async with RawUpstream(answer) as proxy:
        upstreams = Upstreams(Network(proxy=proxy.url))
        transport = upstreams.transport("http://provider.test/v1")
        for _ in range(2):
            response = await transport.send(POST)
            assert await response.read() == b"ok"
            assert await response.read() == b""
        assert proxy.connections == 2
        await upstreams.aclose()


@pytest.mark.parametrize("is_answering", [False, True], ids=["idle", "busy"])
async def test_after_a_sleep_no_connection_through_a_proxy_is_used_again(
    monkeypatch: pytest.MonkeyPatch, is_answering: bool
) -> None:
    requests: list[int] = []

    async def answer(peer: Peer) -> None:
        # The network forgot the first connection: nothing closes it, and nothing arrives on it.
        await peer.request()
        requests.append(peer.number)
        await peer.send(OK)
        while await peer.reader.read(1000):
            pass

    slept = 0.0
    monkeypatch.setattr(module, "clock", lambda: time.monotonic() + slept)
    async with RawUpstream(answer) as proxy:
        upstreams = Upstreams(Network(proxy=proxy.url))
        transport = upstreams.transport("http://provider.test/v1")
        first = await transport.send(POST)
        if not is_answering:
            await read_all(first)
        slept = 3600.0
        second = await asyncio.wait_for(transport.send(POST), 10)
        if is_answering:
            await read_all(first)
        await read_all(second)
        assert requests == [1, 2]
        await upstreams.aclose()


POST = UpstreamRequest("http://provider.test/v1", [], b"hello", 5)


async def ask(upstreams: Upstreams) -> bytes:
    body = await read_all(await upstreams.send(POST))
    await upstreams.aclose()
    return body


async def read_all(response: Response) -> bytes:
    body = await response.read()
    assert not await response.read()
    await response.aclose()
    return body


HOSTS = st.one_of(
    st.sampled_from(["a.example", "localhost", "127.0.0.1", "10.0.0.256", "01.2.3.4", "A"]),
    st.text("ab1.-_", min_size=1, max_size=9),
    st.integers(0, 2**33).map(
        lambda number: ".".join(str(number >> 8 * n & 511) for n in range(4))
    ),
)
PATHS = st.lists(st.text("aZ9_~:=&+,;@.-%2/ é", max_size=6), max_size=4).map("/".join)


@given(
    st.sampled_from(["http", "https", "HTTP", "ftp"]),
    HOSTS,
    st.sampled_from(["", ":80", ":443", ":8443", ":080", ":65535", ":65536", ":x", ":"]),
    PATHS,
    st.sampled_from(["", "?", "?a=b&c", "?a/..?b", "#x"]),
)
def test_a_plain_url_leads_where_httpx_says(
    scheme: str, host: str, port: str, path: str, query: str
) -> None:
    url = f"{scheme}://{host}{port}/{path}{query}"
    locate.cache_clear()
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        expected = None
    else:
        usual = {"http": 80, "https": 443}.get(parsed.scheme)
        host = parsed.raw_host.decode()
        target = parsed.raw_path
        expected = (
            (Origin(parsed.scheme, host, parsed.port or usual), target) if usual and host else None
        )
    if expected is None:
        with pytest.raises(InvalidURL):
            locate(url)
    else:
        assert locate(url) == expected


async def test_the_trusted_certificates_are_read_once_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []
    create = trust.create_context

    def noted() -> ssl.SSLContext:
        threads.append(threading.get_ident())
        return create()

    monkeypatch.setattr(trust, "create_context", noted)
    threads.clear()
    upstreams = Upstreams()
    both = [upstreams.prepare(["https://a.test", "http://b.test"]) for _ in range(2)]
    await asyncio.gather(*both)
    await upstreams.prepare(["https://c.test"])
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    await upstreams.aclose()
