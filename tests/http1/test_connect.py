"""Names, addresses and TLS: which connection is made, and what a failed one says."""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ccfallback.http1 import ConnectError, ConnectionPool, ConnectTimeout
from ccfallback.http1 import connect as module
from ccfallback.http1.connect import connect_first, interleave, resolve
from ccfallback.http1.deadline import LATE_SECONDS
from ccfallback.http1.lookup import Address
from ccfallback.policy.outcome import Fault
from ccfallback.server.upstream import describe_error
from tests.network import (
    HAS_PROC,
    OK,
    Certificates,
    Peer,
    RawUpstream,
    always,
    ask,
    body_of,
    open_sockets,
    post,
    refused_port,
)

V4, V6 = socket.AF_INET, socket.AF_INET6


def has_ipv6() -> bool:
    try:
        with socket.socket(V6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback here")


@contextmanager
def silent() -> Iterator[Address]:
    """An address that answers neither yes nor no: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        try:
            while True:
                sock = socket.socket()
                waiting.append(sock)
                sock.settimeout(0.2)
                try:
                    sock.connect(listener.getsockname())
                except TimeoutError:
                    break
            yield V4, listener.getsockname()
        finally:
            for sock in waiting:
                sock.close()


def test_address_families_alternate_without_duplicates() -> None:
    found: list[Address] = [(V6, 1), (V6, 2), (V6, 1), (V4, 1), (V6, 3), (V4, 1)]
    assert interleave(found) == [(V6, 1), (V4, 1), (V6, 2), (V6, 3)]
    assert interleave([(V4, 1), (V4, 2), (V6, 1)]) == [(V4, 1), (V6, 1), (V4, 2)]


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", V4), ("::1", V6)])
async def test_an_address_is_not_looked_up(host: str, family: int) -> None:
    assert await resolve(host, 80) == [(family, (host, 80))]


async def test_a_connection_to_an_address_waits_for_no_lookup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """uvloop looks up even an address, in threads that may all hang."""
    loop = asyncio.get_running_loop()

    async def hang(*_: object, **__: object) -> None:
        await loop.create_future()

    async with RawUpstream(always(OK)) as upstream, ConnectionPool() as pool:
        monkeypatch.setattr(loop, "getaddrinfo", hang)
        here: Address = (V4, ("127.0.0.1", upstream.port))
        for addresses in ([here], [(V4, ("127.0.0.1", refused_port())), here]):
            (await connect_first(addresses)).close()
        assert await ask(pool, upstream.url) == (200, b"ok")


async def test_a_name_is_looked_up() -> None:
    assert (V4, ("127.0.0.1", 80)) in await resolve("localhost", 80)


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test"])
async def test_an_impossible_host_name_is_not_resolved(host: str) -> None:
    async with ConnectionPool() as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.send(post(f"http://{host}/"))
    assert describe_error(caught.value) == (Fault.UNREACHABLE, "name not resolved")


async def test_an_unknown_name_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(host: str, port: int) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, f"{host}:{port}")

    monkeypatch.setattr(module, "resolve", unknown)

    async with ConnectionPool() as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.send(post("http://unknown.test/"))
    assert describe_error(caught.value) == (Fault.UNREACHABLE, "name not resolved")


async def test_a_refused_connection_is_a_connect_error() -> None:
    async with ConnectionPool() as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.send(post(f"http://127.0.0.1:{refused_port()}/"))
    assert describe_error(caught.value) == (Fault.TRANSPORT, "connection refused")


@needs_ipv6
async def test_a_request_goes_over_ipv6() -> None:
    async with RawUpstream(always(OK), "::1") as upstream, ConnectionPool() as pool:
        assert await ask(pool, upstream.url) == (200, b"ok")


@needs_ipv6
async def test_a_refusal_on_one_family_leads_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with RawUpstream(always(OK)) as upstream, ConnectionPool() as pool:

        async def both(_host: str, port: int) -> list[Address]:
            return [(V6, ("::1", port)), (V4, ("127.0.0.1", port))]

        monkeypatch.setattr(module, "resolve", both)
        url = f"http://both.test:{upstream.port}/"
        assert await ask(pool, url) == (200, b"ok")


async def test_every_address_is_tried_and_a_refusal_is_the_reported_error() -> None:
    unreachable: Address = (V4, ("255.255.255.255", 9))
    refused: Address = (V4, ("127.0.0.1", refused_port()))

    for addresses in ([refused, unreachable, refused], [unreachable, refused]):
        with pytest.raises(ExceptionGroup) as caught:
            await connect_first(addresses)
        assert len(caught.value.exceptions) == len(addresses)
        error = ConnectError("all")
        error.__cause__ = caught.value
        assert describe_error(error) == (Fault.TRANSPORT, "connection refused")


async def test_an_address_that_stays_silent_does_not_hold_up_the_next() -> None:
    with silent() as nothing:
        async with RawUpstream(always(OK)) as upstream:
            before = open_sockets() if HAS_PROC else 0
            good: Address = (V4, ("127.0.0.1", upstream.port))
            sock = await connect_first([nothing, nothing, good])
            assert sock.getpeername() == good[1]
            sock.close()
            for _ in range(5):
                await asyncio.sleep(0)
            if HAS_PROC:
                # The server's end may still be there.
                assert open_sockets() <= before + 1


@pytest.mark.parametrize("count", [1, 2])
async def test_the_connect_timeout_covers_tcp(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    with silent() as nothing:

        async def found(_host: str, _port: int) -> list[Address]:
            return [nothing] * count

        monkeypatch.setattr(module, "resolve", found)
        async with ConnectionPool() as pool:
            before = open_sockets() if HAS_PROC else 0
            with pytest.raises(ConnectTimeout) as caught:
                await pool.send(post("http://silent.test/"), 0.05)
            assert describe_error(caught.value)[0] is Fault.CONNECT_TIMEOUT
            for _ in range(5):
                await asyncio.sleep(0)
            if HAS_PROC:
                assert open_sockets() == before


async def test_a_connection_made_while_the_process_was_stopped_is_in_time() -> None:
    async with RawUpstream(always(OK)) as upstream, ConnectionPool() as pool:
        sending = asyncio.create_task(pool.send(post(upstream.url), 0.05))
        asyncio.get_running_loop().call_soon(time.sleep, 0.05 + 3 * LATE_SECONDS)
        assert await body_of(await sending) == b"ok"


async def test_the_connect_timeout_covers_the_name_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_host: str, _port: int) -> list[Address]:
        await asyncio.get_running_loop().create_future()
        return []

    monkeypatch.setattr(module, "resolve", never)

    async with ConnectionPool() as pool:
        with pytest.raises(ConnectTimeout):
            await pool.send(post("http://slow.test/"), 0.05)


async def test_the_connect_timeout_covers_tls() -> None:
    async def quiet(peer: Peer) -> None:
        await peer.closed()
        left.set()

    left = asyncio.Event()
    async with RawUpstream(quiet) as upstream, ConnectionPool() as pool:
        # Loading the certificates may take longer than that on a busy machine.
        await pool.trust.get()
        with pytest.raises(ConnectTimeout):
            await pool.send(post(f"https://127.0.0.1:{upstream.port}/"), 0.2)
        await left.wait()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_good_certificate_is_accepted(certificates: Certificates, host: str) -> None:
    names: list[str | None] = []
    server = certificates.server("good")
    server.sni_callback = lambda _, name, __: names.append(name)
    upstream = RawUpstream(always(OK), tls=server)
    async with upstream, ConnectionPool(ssl_context=certificates.client()) as pool:
        url = f"https://{host}:{upstream.port}/"
        for _ in range(3):
            assert await ask(pool, url) == (200, b"ok")
        assert upstream.connections == 1
        # An address is not a name to be sent.
        assert names == ["localhost" if host == "localhost" else None]


@needs_ipv6
async def test_a_certificate_may_be_for_an_ipv6_address(certificates: Certificates) -> None:
    upstream = RawUpstream(always(OK), "::1", tls=certificates.server("good"))
    async with upstream, ConnectionPool(ssl_context=certificates.client()) as pool:
        assert await ask(pool, upstream.url) == (200, b"ok")


async def test_the_dot_of_the_root_is_not_part_of_the_name(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def here(_host: str, port: int) -> list[Address]:
        return [(V4, ("127.0.0.1", port))]

    monkeypatch.setattr(module, "resolve", here)

    upstream = RawUpstream(always(OK), tls=certificates.server("good"))
    async with upstream, ConnectionPool(ssl_context=certificates.client()) as pool:
        url = f"https://localhost.:{upstream.port}/"
        assert await ask(pool, url) == (200, b"ok")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other", "IP address mismatch, certificate is not valid for '127.0.0.1'."),
        ("expired", "certificate has expired"),
    ],
)
async def test_a_bad_certificate_is_refused(
    certificates: Certificates, name: str, words: str
) -> None:
    upstream = RawUpstream(always(OK), tls=certificates.server(name))
    async with upstream, ConnectionPool(ssl_context=certificates.client()) as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.send(post(upstream.url))
    fault, reason = describe_error(caught.value)
    assert fault is Fault.TRANSPORT
    assert reason == f"TLS certificate refused: {words}"


async def test_only_a_trusted_authority_is_accepted(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RawUpstream(always(OK), tls=certificates.server("good")) as upstream:
        async with ConnectionPool() as pool:
            with pytest.raises(ConnectError) as caught:
                await pool.send(post(upstream.url))
            assert "TLS certificate refused" in describe_error(caught.value)[1]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
        async with ConnectionPool() as pool:
            assert await ask(pool, upstream.url) == (200, b"ok")


def test_a_context_that_verifies_nothing_is_refused() -> None:
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    with pytest.raises(ValueError, match="verified"):
        ConnectionPool(ssl_context=unverified)
    unverified.verify_mode = ssl.CERT_NONE
    with pytest.raises(ValueError, match="verified"):
        ConnectionPool(ssl_context=unverified)


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_a_port_without_tls_is_a_connect_error(says: bytes) -> None:
    async def answer(peer: Peer) -> None:
        await peer.reader.read(10)
        await peer.send(says)

    async with RawUpstream(answer) as upstream, ConnectionPool() as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.send(post(f"https://127.0.0.1:{upstream.port}/"))
    assert describe_error(caught.value)[0] is Fault.TRANSPORT
