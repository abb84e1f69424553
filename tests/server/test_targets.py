"""Request targets as nobody writes them, byte by byte: passed on as they are, or a clear 4xx."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ccfallback.http1.server_connection import MAX_TARGET
from ccfallback.simulator import scripted
from tests.conftest import Chain
from tests.http1.test_server_connection import answers, connected, everything, refusal

BODY = b'{"model":"m","max_tokens":1,"messages":[]}'
ANSWER = scripted.answer(200, b'{"as":"it is"}')


def sent(chain: Chain, target: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
    """All that comes back for one request on a connection of its own."""
    head = b"%s %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" % (method, target)
    length = b"content-length: %d\r\n" % len(body) if body else b""
    with connected(chain) as client:
        client.sendall(head + length + b"\r\n" + body)
        return everything(client)


@pytest.mark.parametrize(
    "target",
    [
        b"/v1//x",
        b"/v1/../../x",
        b"/v1/./x/",
        b"/v1/%2e%2e/%2F",
        b"/v1/%00",
        b"/v1/%ff%fe?%ff",
        b"/v1/%zz?%",
        b"/v1/models/%ff",
        b"/v1/[::1",
        b"/v1/;a=b@host:99999",
        b"/v1/x?url=http://[::1&a=%20+",
        b'/v1/{x}|^`"<>\\?{}|^`"<>\\\'',
        b"/api/?",
        b"/api/" + b"x" * (MAX_TARGET - 5),
        b"/v1/models?after_id=" + b"x" * (MAX_TARGET - 20),
    ],
    ids=lambda target: target[:24].decode(),
)
def test_an_odd_target_is_passed_on_as_it_is(chain: Callable[..., Chain], target: bytes) -> None:
    running = chain(ANSWER)
    assert answers(sent(running, target)) == [(200, b'{"as":"it is"}')]
    (received,) = running.primary.received
    assert received.target == target.removesuffix(b"?").decode()


@pytest.mark.parametrize(
    ("target", "passed_on"),
    [
        (b"/v1/x?a=b#fragment", "/v1/x?a=b"),
        (b"http://localhost/v1/x?a=b", "/v1/x?a=b"),
        (b"http://evil.example:80/v1/x", "/v1/x"),
        (b"http://name:word@localhost/v1/x", "/v1/x"),
    ],
)
def test_nobody_but_the_primary_is_asked(
    chain: Callable[..., Chain], target: bytes, passed_on: str
) -> None:
    running = chain(ANSWER)
    assert answers(sent(running, target))[0][0] == 200
    assert [received.target for received in running.primary.received] == [passed_on]


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/a\x01b",
        b"/v1/a\tb",
        b"/v1/a\x7fb",
        b"/v1/a\x00b",
        b"/v1/x?a=\x1f",
        b"/v1/a b",
        b"/v1/\xc3\xa9",
        b"/v1/x?a=\xff\xfe",
        b"v1/x",
        b"?a=b",
        b"http://[::1/v1/x",
        b"http://localhost:99999/v1/x",
        b"http:///v1/x",
    ],
)
def test_what_is_no_target_is_refused(chain: Callable[..., Chain], target: bytes) -> None:
    running = chain(ANSWER)
    assert refusal(sent(running, target)) == (400, "invalid_request_error")
    assert running.primary.received == []


@pytest.mark.parametrize("target", [b"localhost:443", b"evil.example:443", b"/v1/messages"])
def test_nobody_is_connected(chain: Callable[..., Chain], target: bytes) -> None:
    running = chain(ANSWER)
    assert refusal(sent(running, target, b"CONNECT")) == (400, "invalid_request_error")
    assert running.primary.received == []


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"OPTIONS", b"*"),
        (b"GET", b"*"),
        (b"GET", b"//v1/x"),
        (b"GET", b"//evil.example/v1/x"),
        (b"GET", b"/../v1/x"),
        (b"GET", b"/v1/a%0d%0ab"),
        (b"GET", b"/v1"),
    ],
)
def test_what_leads_nowhere_is_not_found(
    chain: Callable[..., Chain], method: bytes, target: bytes
) -> None:
    running = chain(ANSWER)
    assert refusal(sent(running, target, method)) == (404, "not_found_error")
    assert running.primary.received == []


@pytest.mark.parametrize("start", [b"/v1/x?q=", b"/api/", b"/v1/messages?q=", b"/v1/models/"])
@pytest.mark.parametrize("length", [MAX_TARGET + 1, 64 * 1024, 1 << 20])
def test_a_target_without_end_is_refused(
    chain: Callable[..., Chain], start: bytes, length: int
) -> None:
    running = chain(ANSWER)
    target = start + b"y" * (length - len(start))
    assert refusal(sent(running, target)) == (414, "request_too_large")
    assert running.primary.received == []
    assert running.proxy.state == {}


@pytest.mark.parametrize("path", ["/v1/x", "/v1/models"])
def test_what_is_no_url_below_the_primarys_address_is_refused(
    chain: Callable[..., Chain], path: str
) -> None:
    running = chain(ANSWER)
    config: Path = running.proxy.paths.config
    long = f"{running.primary.url}/{'x' * 40_000}"
    config.write_text(config.read_text().replace(running.primary.url, long))
    response = httpx.get(f"{running.url}{path}?q={'y' * 30_000}")
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert "URL too long" in response.json()["error"]["message"]
