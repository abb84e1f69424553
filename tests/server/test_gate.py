"""Which requests the gate admits, and the headers of every response."""

import re
import socket
from collections.abc import Callable

import httpx
import pytest

from ccfallback.simulator import scripted
from tests.conftest import Chain

ASK = {"model": "claude-x", "max_tokens": 10, "messages": []}
TOKENS = '[[tokens]]\ntoken = "first-access-token"\n[[tokens]]\ntoken = "second-access-token"\n'


@pytest.mark.parametrize("path", ["/", "/health", "/nowhere", "/v1/models", "/v1/messages"])
def test_every_response_has_a_request_id(chain: Callable[..., Chain], path: str) -> None:
    response = httpx.get(chain(scripted.html(500)).url + path)
    assert re.fullmatch(r"ccr-\d{13}_[a-z0-9]{7}", response.headers["ccr-request-id"])


def test_a_request_id_of_the_client_is_used(chain: Callable[..., Chain]) -> None:
    response = httpx.get(chain(scripted.html()).url, headers={"ccr-request-id": "my.id:1_x-2"})
    assert response.headers["ccr-request-id"] == "my.id:1_x-2"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ü", "a\tb"])
def test_a_malformed_request_id_is_replaced(chain: Callable[..., Chain], given: str) -> None:
    headers = [(b"ccr-request-id", given.encode("latin-1"))]
    response = httpx.get(chain(scripted.html()).url, headers=headers)
    assert response.headers["ccr-request-id"].startswith("ccr-")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:8787", 200),
        ("claude.localhost", 200),
        ("box.internal", 200),
        ("evil.example", 403),
        ("localhost:evil", 403),
        ("user@localhost", 403),
        ("", 403),
        ("evil.example:8787", 403),
        ("127.0.0.1.evil.example", 403),
        ("[", 403),
        ("localhost.", 200),
        ("localhost..", 403),
        (".localhost", 403),
        ("a..localhost", 403),
        ("localhost\u00a0", 403),
    ],
)
def test_only_allowed_host_names_are_served(
    chain: Callable[..., Chain], host: str, status: int
) -> None:
    running = chain(scripted.html(), more='[server]\nallowed_hosts = ["box.internal"]\n')
    assert httpx.get(running.url, headers=[(b"host", host.encode("latin-1"))]).status_code == status


def test_another_configuration_is_valid_on_an_open_connection(chain: Callable[..., Chain]) -> None:
    hosts = '[server]\nallowed_hosts = ["box.internal"]\n'
    running = chain(scripted.html(), more=hosts)
    config = running.proxy.paths.config
    text = config.read_text()
    with httpx.Client(base_url=running.url, headers={"host": "box.internal"}) as client:
        assert [client.get("/").status_code for _ in range(2)] == [200, 200]
        config.write_text(text.replace("box.internal", "other.internal"))
        assert client.get("/").status_code == 403
        config.write_text(f"{text}\n{TOKENS}")
        assert [client.get(path).status_code for path in ("/", "/metrics")] == [200, 401]
        config.write_text(text)
        assert client.get("/metrics").status_code == 200
        assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_a_foreign_web_page_is_refused(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("no"))
    for origin in ("https://evil.example", "null", "http://localhost:3000"):
        response = httpx.post(f"{running.url}/v1/messages", json=ASK, headers={"origin": origin})
        assert response.status_code == 403
        assert response.json()["error"]["type"] == "permission_error"
    assert running.primary.received == []
    assert running.proxy.events("auth.failure")


def test_an_allowed_web_page_is_admitted(chain: Callable[..., Chain]) -> None:
    running = chain(
        scripted.reply("ok"), more='[server]\nallowed_origins = ["https://page.example"]\n' + TOKENS
    )
    headers = {"origin": "https://page.example"}
    preflight = httpx.options(
        f"{running.url}/v1/messages",
        headers={**headers, "access-control-request-headers": "x-api-key"},
    )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://page.example"
    assert preflight.headers["access-control-allow-headers"] == "x-api-key"
    refused = httpx.post(f"{running.url}/v1/messages", json=ASK, headers=headers)
    assert refused.status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ccf-api-key": "first-access-token"},
        {"x-ccf-api-key": "second-access-token"},
        {"authorization": "Bearer first-access-token"},
        {"authorization": "bearer second-access-token"},
        {"x-api-key": "first-access-token"},
    ],
)
def test_an_access_token_admits_and_is_not_sent_upstream(
    chain: Callable[..., Chain], headers: dict[str, str]
) -> None:
    running = chain(scripted.reply("ok"), more=TOKENS)
    response = httpx.post(f"{running.url}/v1/messages", json=ASK, headers=headers)
    assert response.status_code == 200
    assert "access-token" not in str(running.primary.received[0].headers)


def test_the_users_key_is_sent_upstream_if_the_token_has_its_own_header(
    chain: Callable[..., Chain],
) -> None:
    running = chain(scripted.reply("ok"), more=TOKENS)
    headers = {"x-ccf-api-key": "first-access-token", "authorization": "Bearer users-login"}
    httpx.post(f"{running.url}/v1/messages", json=ASK, headers=headers)
    assert running.primary.received[0].header("authorization") == "Bearer users-login"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/models", "/api/hello", "/metrics"])
@pytest.mark.parametrize("headers", [{}, {"x-api-key": "wrong"}, {"x-ccf-api-key": ""}])
def test_a_request_without_a_token_is_refused(
    chain: Callable[..., Chain], path: str, headers: dict[str, str]
) -> None:
    running = chain(scripted.reply("no"), more=TOKENS)
    response = httpx.get(running.url + path, headers=headers)
    assert response.status_code == 401
    assert response.json()["type"] == "error"
    assert response.json()["error"] == {
        "type": "authentication_error",
        "message": "Invalid or missing x-ccf-api-key",
    }
    assert running.primary.received == []


@pytest.mark.parametrize("path", ["/", "/health"])
def test_the_proxys_own_pages_need_no_token(chain: Callable[..., Chain], path: str) -> None:
    assert httpx.get(chain(scripted.html(), more=TOKENS).url + path).status_code == 200


def test_every_host_header_is_checked_and_one_is_required(chain: Callable[..., Chain]) -> None:
    port = int(chain(scripted.html()).url.rpartition(":")[2])
    twice = "host: localhost\r\n" * 2
    for hosts in ("", "host: localhost\r\nhost: evil.example\r\n", twice):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"GET / HTTP/1.1\r\n{hosts}\r\n".encode())
            assert client.recv(1000).startswith(b"HTTP/1.1 403")


def test_a_preflight_without_a_token_reaches_no_provider(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("no"), more=TOKENS)
    own = running.url
    for headers in ({"origin": own}, {}, {"origin": own, "x-api-key": "wrong"}):
        assert httpx.options(f"{running.url}/v1/anything", headers=headers).status_code == 401
    assert running.primary.received == []


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site"])
@pytest.mark.parametrize("path", ["/v1/models", "/api/x", "/health"])
def test_images_and_links_of_a_foreign_page_are_refused(
    chain: Callable[..., Chain], site: str, path: str
) -> None:
    running = chain(scripted.reply("no"))
    response = httpx.get(running.url + path, headers={"sec-fetch-site": site})
    assert response.status_code == 403
    assert running.primary.received == []


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_an_address_typed_in_a_browser_is_answered(chain: Callable[..., Chain], site: str) -> None:
    response = httpx.get(f"{chain(scripted.html()).url}/", headers={"sec-fetch-site": site})
    assert response.status_code == 200
