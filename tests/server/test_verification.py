"""Nothing switches the check of an upstream's certificate off: no key, no variable, no code."""

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest

import ccfallback
from ccfallback.config.schema import parse
from ccfallback.errors import ConfigError
from ccfallback.http1 import ConnectError
from ccfallback.server.proxied import ProxiedTransport
from ccfallback.server.upstream import UpstreamRequest, Upstreams, describe_error
from ccfallback.wire import FORMATS
from tests.network import OK, Certificates, Peer, RawUpstream, always

VARIABLES = {
    "PYTHONHTTPSVERIFY": "0",
    "CURL_CA_BUNDLE": "",
    "REQUESTS_CA_BUNDLE": "",
    "NODE_TLS_REJECT_UNAUTHORIZED": "0",
    "GIT_SSL_NO_VERIFY": "1",
    "SSL_VERIFY": "false",
    "HTTPX_VERIFY": "false",
    "CCFALLBACK_VERIFY": "0",
    "CCFALLBACK_INSECURE": "1",
}
"""What switches it off elsewhere, or might be tried."""

SWITCHES: list[dict[str, Any]] = [
    *({name: False} for name in ("verify", "tls_verify", "ssl_verify", "verify_ssl")),
    *({name: True} for name in ("insecure", "skip_tls_verify", "allow_insecure")),
]


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: next(iter(switch)))
def test_no_configuration_key_switches_verification_off(switch: dict[str, Any]) -> None:
    provider = {"name": "b", "base_url": "https://b.test", **switch}
    tables = [switch, {"providers": [provider]}]
    tables += [{section: switch} for section in ("network", "primary", "server", "timeouts")]
    for table in tables:
        with pytest.raises(ConfigError, match="unknown key"):
            parse(table, formats=FORMATS)


@pytest.mark.usefixtures("untraced")
def test_no_line_of_the_program_switches_verification_off() -> None:
    forbidden = {"CERT_NONE", "CERT_OPTIONAL", "_create_unverified_context"}
    for module in Path(ccfallback.__file__).parent.rglob("*.py"):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        # mypy holds these to their type, and such a context verifies unless a line changes it.
        contexts = {
            ast.unparse(node.target)
            for node in ast.walk(tree)
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "ssl.SSLContext"
        }
        for node in ast.walk(tree):
            where = f"{module}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in forbidden, where
            elif isinstance(node, ast.keyword):
                assert node.arg != "verify" or ast.unparse(node.value) in contexts, where
            elif isinstance(node, ast.Assign):
                names = {getattr(target, "attr", "") for target in node.targets}
                assert not names & {"check_hostname", "verify_mode"}, where


@pytest.mark.parametrize("name", ["good", "other", "expired"])
async def test_no_environment_variable_switches_verification_off(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)
    if name != "good":
        # The authority is known, so only the certificate itself is wrong.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))

    async with RawUpstream(always(OK), tls=certificates.server(name)) as upstream:
        upstreams = Upstreams()
        await refuses(upstreams.send(to(upstream.url)))
        await upstreams.aclose()


@pytest.mark.parametrize("name", ["good", "other", "expired"])
def test_an_outgoing_proxy_does_not_switch_verification_off(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)
    if name != "good":
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))

    async def story() -> None:
        seen = []
        async with RawUpstream(always(OK), tls=certificates.server(name)) as upstream:

            async def tunnel(peer: Peer) -> None:
                seen.append(await peer.request())
                await peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
                reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
                await asyncio.gather(
                    pour(peer.reader, writer), pour(reader, peer.writer), return_exceptions=True
                )

            async with RawUpstream(tunnel) as proxy:
                transport = ProxiedTransport(proxy.url)
                await refuses(transport.send(to(upstream.url)))
                await transport.aclose()
        assert len(seen) == 1
        assert seen[0].startswith(b"CONNECT ")

    asyncio.run(story())


def to(url: str) -> UpstreamRequest:
    return UpstreamRequest(url, [(b"x-api-key", b"never to be seen")], b"{}", 10)


async def refuses(sending: Any, why: str = "") -> None:
    """The reported fault is the certificate."""
    with pytest.raises(ConnectError) as caught:
        await sending
    assert describe_error(caught.value)[1].startswith(f"TLS certificate refused: {why}")


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until they end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
