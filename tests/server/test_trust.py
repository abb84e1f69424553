"""Which authorities count: every source adds to the others, for every transport."""

import asyncio
import os
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ccfallback.config.model import Network
from ccfallback.http1 import ConnectError
from ccfallback.paths import CERTIFICATE_VARIABLES
from ccfallback.server import trust
from ccfallback.server.trust import TrustedRoots, create_context
from ccfallback.server.upstream import UpstreamRequest, Upstreams
from tests.conftest import RunningProxy
from tests.network import OK, Certificates, Peer, RawUpstream, always
from tests.server.test_verification import pour, refuses


async def ask(upstreams: Upstreams, url: str) -> bytes:
    response = await upstreams.send(UpstreamRequest(url, [], b"hello", 5))
    body = await response.read()
    await response.aclose()
    return body


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CERTIFICATE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("source", ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "ca_file"])
async def test_an_authority_may_be_named_in_several_ways(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    network = Network()
    if source == "ca_file":
        network = Network(ca_file=str(certificates.authority))
    else:
        monkeypatch.setenv(source, str(certificates.authority))

    async with RawUpstream(always(OK), tls=certificates.server("good")) as upstream:
        upstreams = Upstreams(network)
        assert await ask(upstreams, upstream.url) == b"ok"
        await upstreams.aclose()


def test_the_systems_store_and_a_folder_count(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = TrustedRoots(environ={}, system_files=()).load().cert_store_stats()["x509_ca"]
    assert bundled > 10
    roots = TrustedRoots(environ={}, system_files=("/nonexistent", str(certificates.authority)))
    assert roots.load().cert_store_stats()["x509_ca"] == bundled + 1
    assert [source.added for source in roots.sources][1:] == [1]
    folders = TrustedRoots(environ={"SSL_CERT_DIR": f"{tmp_path}{os.pathsep}/nowhere"})
    assert folders.find_problems() == ["SSL_CERT_DIR (/nowhere): it can't be read: no such folder"]


async def test_a_proxied_request_trusts_the_same_authorities(certificates: Certificates) -> None:
    async with RawUpstream(always(OK), tls=certificates.server("good")) as upstream:

        async def tunnel(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
            reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
            await asyncio.gather(
                pour(peer.reader, writer), pour(reader, peer.writer), return_exceptions=True
            )

        async with RawUpstream(tunnel, tls=certificates.server("good")) as proxy:
            authority = str(certificates.authority)
            upstreams = Upstreams(Network(proxy=proxy.url, ca_file=authority))
            url = f"https://localhost.test:{upstream.port}/"
            # The certificate is for another name; the authority is not what is wrong.
            await refuses(upstreams.send(UpstreamRequest(url, [], b"", 5)), "Hostname mismatch")
            await upstreams.aclose()


def test_a_source_that_cannot_be_read_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("hello")
    environ = {"NODE_EXTRA_CA_CERTS": str(tmp_path / "missing.pem"), "SSL_CERT_FILE": str(tmp_path)}
    roots = TrustedRoots(str(tmp_path / "text.pem"), environ)
    expected = [
        f"NODE_EXTRA_CA_CERTS ({tmp_path}/missing.pem): it can't be read: no such file",
        f"SSL_CERT_FILE ({tmp_path}): it can't be read: not a file",
        f"network.ca_file ({tmp_path}/text.pem): it holds no certificates in PEM format",
    ]
    assert roots.find_problems() == expected
    assert roots.load().cert_store_stats()["x509_ca"] > 10
    assert [each.problem != "" for each in roots.sources][-3:] == [True] * 3


async def test_a_changed_ca_file_counts_for_new_connections_and_spares_running_ones(
    certificates: Certificates,
) -> None:
    release = asyncio.Event()

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no")
        await release.wait()
        await peer.send(b"k")
        await peer.closed()

    async with RawUpstream(answer, tls=certificates.server("good")) as upstream:
        upstreams = Upstreams(Network(ca_file=str(certificates.authority)))
        response = await upstreams.send(UpstreamRequest(upstream.url, [], b"", 5))
        upstreams.use_network(Network())
        with pytest.raises(ConnectError):
            await ask(upstreams, upstream.url)
        release.set()
        assert await response.read() + await response.read() == b"ok"
        await response.aclose()
        await upstreams.aclose()


@pytest.mark.parametrize("content", [None, "", "no certificate"])
async def test_a_ca_file_that_goes_bad_leaves_the_authorities_of_before(
    certificates: Certificates, tmp_path: Path, content: str | None
) -> None:
    bad = tmp_path / "bad.pem"
    if content is not None:
        bad.write_text(content)
    async with RawUpstream(always(OK), tls=certificates.server("good")) as upstream:
        upstreams = Upstreams(Network(ca_file=str(certificates.authority)))
        assert await ask(upstreams, upstream.url) == b"ok"
        for _ in range(2):
            assert upstreams.use_network(Network(ca_file=str(bad)))
            (problem,) = upstreams.find_problems()
            assert problem.startswith(f"network.ca_file ({bad}): ")
            assert await ask(upstreams, upstream.url) == b"ok"
            assert not upstreams.use_network(Network(ca_file=str(bad)))
            bad = bad.with_suffix(".worse")
        # A file that is unset on purpose does not count any more.
        upstreams.use_network(Network())
        with pytest.raises(ConnectError):
            await ask(upstreams, upstream.url)
        await upstreams.aclose()


def test_a_ca_file_that_goes_bad_while_serving_is_reported(
    running: Callable[[str], RunningProxy], certificates: Certificates, tmp_path: Path
) -> None:
    network = '[network]\nca_file = "{}"\n'
    proxy = running(network.format(certificates.authority))
    missing = tmp_path / "missing.pem"
    proxy.paths.config.write_text(network.format(missing))
    httpx.post(f"{proxy.url}/v1/messages", content=b"[]", trust_env=False)
    found = proxy.wait_for("config.error")
    assert found["message"].startswith(f"network.ca_file ({missing}): it can't be read")
    assert found["message"].endswith("what was in use before stays")


def test_every_python_verifies_alike() -> None:
    context = create_context()
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.skipif(sys.platform == "win32", reason="runs a shell script")
@pytest.mark.parametrize(("verdict", "added"), [(0, 1), (1, 0)])
def test_only_trusted_certificates_of_a_keychain_count(
    certificates: Certificates, tmp_path: Path, verdict: int, added: int
) -> None:
    program = tmp_path / "security"
    authority = certificates.authority
    program.write_text(
        f'#!/bin/sh\n[ "$1" = find-certificate ] && exec cat {authority}\nexit {verdict}\n'
    )
    program.chmod(0o755)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust._load_keychain(context, str(program))
    assert context.cert_store_stats()["x509_ca"] == added
