"""Which outgoing proxy a URL takes, and whose fault it is when that proxy fails."""

import asyncio
import errno
import socket

import pytest

from ccfallback.config.model import Network
from ccfallback.http1 import ConnectError, HTTPError
from ccfallback.policy.outcome import BLAME, Blame, Fault
from ccfallback.server import outgoing
from ccfallback.server.outgoing import (
    LOOK_SECONDS,
    InvalidProxy,
    OutgoingProxies,
    ProxySettings,
    needs_no_proxy,
    usable_url,
)
from ccfallback.server.upstream import MOST_PROXIES, UpstreamRequest, Upstreams, describe_error
from tests.network import Peer, RawUpstream, refused_port

POST = UpstreamRequest("https://provider.test/v1", [], b"hello", 5)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("socks://h:1", "socks5://h:1"),
        (" SOCKS://h:1/ ", "socks5://h:1/"),
        ("socks5h://h:1", "socks5h://h:1"),
        ("h:1\n", "http://h:1"),
        ("http://name:word@h:1", "http://name:word@h:1"),
    ],
)
def test_a_proxy_variable_is_read_generously(value: str, url: str) -> None:
    assert usable_url(value) == url


@pytest.mark.parametrize(
    "value",
    ["socks4://h:1", "http://secret@", "http://h:secret", "://secret", "secret word", "x:0"],
)
async def test_a_malformed_variable_fails_one_attempt_and_is_reported(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)

    upstreams = Upstreams()
    await upstreams.prepare([POST.url])
    with pytest.raises(InvalidProxy) as caught:
        await upstreams.send(POST)
    fault, reason = describe_error(caught.value)
    assert fault is Fault.TRANSPORT
    assert reason.startswith("the outgoing proxy is not ")
    problems = upstreams.find_problems()
    assert len(problems) == 1
    assert problems[0].startswith("ALL_PROXY: ")
    assert "secret" not in f"{problems} {reason}"
    # Loopback needs no proxy, so that a local fallback still answers.
    assert upstreams.transport("http://127.0.0.1:1") is upstreams.transport("http://localhost")
    await upstreams.aclose()


@pytest.mark.parametrize(
    ("host", "rule", "matches"),
    [
        ("a.test", "*", True),
        ("a.test", "a.test", True),
        ("a.test.", "A.test", True),
        ("x.a.test", "a.test", True),
        ("xa.test", "a.test", False),
        ("x.a.test", ".a.test", True),
        ("x.a.test", "*.a.test", True),
        ("a.test", "a.test:443", True),
        ("a.test", "a.test:80", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("169.254.1.1", "169.254/16", True),
        ("10.1.2.3", "10.*", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("a.test", "10.0.0.0/8", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "[fd00::1]", True),
        ("fd00::1", "fd00::1", True),
        ("a.test", "", False),
        ("a.test", "a.test/", False),
    ],
)
def test_exceptions_are_compared_by_name_alone(
    monkeypatch: pytest.MonkeyPatch, host: str, rule: str, matches: bool
) -> None:
    def look_up(*_: object) -> str:
        raise AssertionError("a name was looked up")

    for name in ("gethostbyname", "getaddrinfo", "getfqdn"):
        monkeypatch.setattr(socket, name, look_up)
    assert needs_no_proxy(host, 443, ProxySettings({}, [f" {rule} "])) is matches


def test_a_name_without_a_dot_may_need_no_proxy() -> None:
    assert needs_no_proxy("intranet", 80, ProxySettings({}, [], excludes_simple=True))
    assert not needs_no_proxy("a.test", 80, ProxySettings({}, [], excludes_simple=True))


def test_the_settings_of_the_system_are_read_again_regularly() -> None:
    now = 0.0
    read = iter([ProxySettings({"https": "http://old:1"}), ProxySettings({"https": "new:1"})])

    async def story() -> None:
        nonlocal now
        proxies = OutgoingProxies(read=lambda: next(read), clock=lambda: now)
        assert proxies.for_url("https://a.test") == "http://old:1"
        now = LOOK_SECONDS + 1
        while proxies.for_url("https://a.test") != "http://new:1":
            await asyncio.sleep(0.001)

    asyncio.run(story())


def test_the_environment_beats_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://p:1")
    monkeypatch.setenv("no_proxy", "a.test,b.test")
    settings = outgoing.read_settings()
    assert settings.urls["https"] == "http://p:1"
    assert list(settings.exceptions) == ["a.test", "b.test"]


async def hangs_up(peer: Peer) -> None:
    await peer.reader.read(1)


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
@pytest.mark.parametrize("target", ["http://provider.test/v1", "https://provider.test/v1"])
async def test_an_unreachable_outgoing_proxy_is_not_blamed_on_a_provider(
    scheme: str, target: str
) -> None:
    upstreams = Upstreams(Network(proxy=f"{scheme}://127.0.0.1:{refused_port()}"))
    with pytest.raises(HTTPError) as caught:
        await upstreams.send(UpstreamRequest(target, [], b"", 5))
    fault, reason = describe_error(caught.value)
    assert reason == "the outgoing proxy can't be reached"
    assert BLAME[fault] is Blame.NONE
    await upstreams.aclose()


@pytest.mark.parametrize(
    ("answer", "fault", "reason"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
            Fault.OWN_MACHINE,
            "the outgoing proxy refuses this machine's name or password",
        ),
        (
            b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
            Fault.TRANSPORT,
            "the outgoing proxy refused",
        ),
    ],
)
async def test_a_refusal_by_the_outgoing_proxy_is_a_fault_of_its_kind(
    answer: bytes, fault: Fault, reason: str
) -> None:
    async def respond(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    async with RawUpstream(respond) as proxy:
        upstreams = Upstreams(Network(proxy=proxy.url))
        with pytest.raises(HTTPError) as caught:
            await upstreams.send(POST)
        assert describe_error(caught.value) == (fault, reason)
        await upstreams.aclose()


async def test_a_socks_proxy_that_hangs_up_is_tried_once() -> None:
    async with RawUpstream(hangs_up) as proxy:
        url = proxy.url.replace("http://", "socks5://")
        upstreams = Upstreams(Network(proxy=url))
        with pytest.raises(HTTPError):
            await upstreams.send(POST)
        assert proxy.connections == 1
        await upstreams.aclose()


@pytest.mark.parametrize(
    "code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EACCES, errno.EPERM]
)
def test_a_lack_on_this_machine_is_not_blamed_on_a_provider(code: int) -> None:
    error = ConnectError("x")
    error.__cause__ = OSError(code, "what is wrong")
    fault, reason = describe_error(error)
    assert BLAME[fault] is Blame.NONE
    assert reason == "this machine can't connect: what is wrong"


async def test_the_transports_of_former_proxies_are_closed() -> None:
    upstreams = Upstreams()
    for port in range(1, 3 * MOST_PROXIES):
        upstreams.use_network(Network(proxy=f"http://127.0.0.1:{port}"))
        upstreams.transport(POST.url)
    await asyncio.sleep(0)
    assert len(upstreams._proxied) == MOST_PROXIES
    assert not upstreams._retired
    await upstreams.aclose()
