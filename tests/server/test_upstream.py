"""What a transport's error means, and which way a request takes."""

import asyncio
import errno
import socket
import ssl
import threading

import httpx
import pytest

from ccfallback.policy.outcome import Fault
from ccfallback.server.transport import UpstreamRequest
from ccfallback.server.upstream import Upstreams, fault_of
from tests.server.raw_upstream import Peer, RawUpstream, Runs

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def caused(error: Exception, cause: BaseException) -> Exception:
    """An error as a library raises it, with what led to it."""
    error.__cause__ = cause
    return error


CERTIFICATE = ssl.SSLCertVerificationError("bad")
CERTIFICATE.verify_message = "self-signed certificate"


@pytest.mark.parametrize(
    ("error", "fault", "words"),
    [
        (httpx.ConnectTimeout("x"), Fault.CONNECT_TIMEOUT, "connect timeout"),
        (
            caused(httpx.ConnectError("x"), socket.gaierror(-2, "unknown")),
            Fault.UNREACHABLE,
            "name not resolved",
        ),
        (
            caused(httpx.ConnectError("x"), OSError(errno.ENETUNREACH, "unreachable")),
            Fault.UNREACHABLE,
            "no route to host",
        ),
        (
            caused(
                httpx.ConnectError("x"),
                ExceptionGroup("all", [ConnectionRefusedError(errno.ECONNREFUSED, "refused")]),
            ),
            Fault.TRANSPORT,
            "connection refused",
        ),
        (
            caused(httpx.ConnectError("x"), CERTIFICATE),
            Fault.TRANSPORT,
            "TLS certificate refused: self-signed certificate",
        ),
        (
            caused(httpx.ReadError("x"), ConnectionResetError()),
            Fault.TRANSPORT,
            "connection reset",
        ),
        (httpx.ConnectError("x"), Fault.TRANSPORT, "connection failed"),
        (httpx.ProxyError("x"), Fault.TRANSPORT, "the outgoing proxy refused"),
        (
            httpx.RemoteProtocolError("Server disconnected without sending a response."),
            Fault.TRANSPORT,
            "connection closed",
        ),
        (httpx.RemoteProtocolError("illegal header line"), Fault.TRANSPORT, "broken HTTP"),
        (httpx.WriteError("x"), Fault.TRANSPORT, "connection broken"),
    ],
)
def test_every_error_has_its_meaning(error: Exception, fault: Fault, words: str) -> None:
    assert fault_of(error) == (fault, words)


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
    upstreams = Upstreams("http://configured.test:2")
    before = upstreams.transport("https://outside.test")
    upstreams.use_proxy(None)
    assert upstreams.transport("https://outside.test") is not before


def test_an_environment_may_name_host_and_port_alone(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async def answer(peer: Peer) -> None:
            assert (await peer.request()).startswith(b"POST http://provider.test/v1 HTTP/1.1\r\n")
            await peer.send(OK)

        async with RawUpstream(answer) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url.removeprefix("http://"))
            assert await ask(Upstreams()) == b"ok"

    run(story)


def test_a_request_goes_through_a_socks_proxy(run: Runs) -> None:
    async def story() -> None:
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
            assert await ask(Upstreams(url)) == b"ok"

    run(story)


def test_a_pooled_connection_through_a_proxy_may_be_closed_meanwhile(run: Runs) -> None:
    async def story() -> None:
        async def answer(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            if peer.number == 1:
                # It closes when the next request is there already.
                await peer.request()
            else:
                await peer.closed()

        async with RawUpstream(answer) as proxy:
            upstreams = Upstreams(proxy.url)
            transport = upstreams.transport("http://provider.test/v1")
            for _ in range(2):
                response = await transport.post(POST)
                assert await response.read() == b"ok"
                assert await response.read() == b""
            assert proxy.connections == 2
            await upstreams.aclose()

    run(story)


POST = UpstreamRequest("http://provider.test/v1", [], b"hello", 5)


async def ask(upstreams: Upstreams) -> bytes:
    response = await upstreams.transport(POST.url).post(POST)
    body = await response.read()
    assert not await response.read()
    await response.aclose()
    await upstreams.aclose()
    return body


def test_the_trusted_certificates_are_read_beside_the_loop_and_once(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    create = httpx.create_ssl_context

    def noted() -> ssl.SSLContext:
        threads.append(threading.get_ident())
        return create()

    async def story() -> None:
        threads.clear()
        upstreams = Upstreams()
        both = [upstreams.prepare(["https://a.test", "http://b.test"]) for _ in range(2)]
        await asyncio.gather(*both)
        await upstreams.prepare(["https://c.test"])
        assert len(threads) == 1
        assert threads[0] != threading.get_ident()
        await upstreams.aclose()

    monkeypatch.setattr(httpx, "create_ssl_context", noted)
    run(story)


def test_certificates_that_cannot_be_read_are_a_failure_to_connect(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/certificates.pem")
        upstreams = Upstreams()
        await upstreams.prepare(["https://localhost:1"])
        asked = UpstreamRequest("https://localhost:1/v1", [], b"", 5)
        with pytest.raises(httpx.ConnectError):
            await upstreams.transport(asked.url).post(asked)
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(httpx.ConnectError) as caught:
            await upstreams.transport(asked.url).post(asked)
        assert fault_of(caught.value)[1] == "connection refused"
        await upstreams.aclose()

    run(story)
