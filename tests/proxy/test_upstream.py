"""What a transport's error means, and which way a request takes."""

import errno
import socket
import ssl

import httpx
import pytest

from ccfallback.core.outcome import Fault
from ccfallback.proxy.upstream import Upstreams, fault_of


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
