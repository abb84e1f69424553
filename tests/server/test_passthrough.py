"""Whatever is no message goes to the primary as it is, and comes back so."""

import gzip
import socket
import threading
from collections.abc import Callable

import httpx
import pytest

from ccfallback.simulator import scripted
from tests.conftest import Chain, RunningProxy


def test_a_request_passes_as_it_is(chain: Callable[..., Chain]) -> None:
    running = chain(
        scripted.answer(
            207, b"anything", "x/y", {"x-own": "1", "connection": "x-hop", "x-hop": "1"}
        ),
        scripted.html(),
    )
    response = httpx.put(
        f"{running.url}/v1/files/a%2Fb?x=1&y=%20",
        content=b"\x00raw",
        headers={"x-api-key": "users-key", "content-type": "a/b", "x-ccf-debug": "1"},
    )
    received = running.primary.received[0]
    assert (received.method, received.target) == ("PUT", "/v1/files/a%2Fb?x=1&y=%20")
    assert received.body == b"\x00raw"
    assert received.header("content-type") == "a/b"
    assert received.header("x-api-key") == "users-key"
    assert received.header("x-ccf-debug") is None
    assert (response.status_code, response.content) == (207, b"anything")
    assert response.headers["x-own"] == "1"
    assert "x-hop" not in response.headers
    assert running.fallback.received == []


def test_errors_pass_and_count_for_nothing(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(529, "overloaded_error"))
    assert httpx.get(f"{running.url}/api/oauth/usage").status_code == 529
    assert running.proxy.state == {}


def test_a_compressed_answer_passes_compressed(chain: Callable[..., Chain]) -> None:
    packed = gzip.compress(b"hello")
    running = chain(scripted.answer(200, packed, headers={"content-encoding": "gzip"}))
    with httpx.stream("GET", f"{running.url}/v1/x") as response:
        assert b"".join(response.iter_raw()) == packed
        assert response.headers["content-encoding"] == "gzip"
    assert running.primary.received[0].header("accept-encoding") == "gzip, deflate"


def test_head_has_no_body(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.answer(200, b""))
    assert httpx.head(f"{running.url}/api/hello").status_code == 200
    assert running.primary.received[0].method == "HEAD"


def test_a_chunked_body_passes(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.answer(200, b"ok"))
    httpx.post(f"{running.url}/v1/files", content=iter([b"one", b"two"]))
    assert running.primary.received[0].body == b"onetwo"


def test_an_unreachable_primary_is_said(running: Callable[[str], RunningProxy]) -> None:
    proxy = running('[primary]\nbase_url = "http://127.0.0.1:1"\n')
    response = httpx.get(f"{proxy.url}/v1/organizations")
    assert (response.status_code, response.json()["error"]["type"]) == (502, "proxy_error")


def test_a_disabled_primary_gets_nothing(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.answer(200, b"ok"))
    config = running.proxy.paths.config
    config.write_text(config.read_text() + "disabled = true\n")
    response = httpx.get(f"{running.url}/v1/organizations")
    assert response.status_code == 502
    assert running.primary.received == []


def test_an_answer_that_breaks_is_not_ended(chain: Callable[..., Chain]) -> None:
    async def cut(_request: scripted.Received, _connection: scripted.Connection) -> None:
        raise scripted.Hangup

    running = chain(scripted.stream([b"half"], then=cut))
    try:
        httpx.get(f"{running.url}/v1/x")
    except httpx.RemoteProtocolError:
        return
    raise AssertionError("the broken answer looked whole")


def test_a_path_is_not_resolved(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.answer(200, b"ok"))
    port = int(running.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /v1/a/../../etc?x=1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert running.primary.received[0].target == "/v1/a/../../etc?x=1"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_client_that_leaves_cancels_the_upstream(
    chain: Callable[..., Chain], method: str
) -> None:
    arrived, left = threading.Event(), threading.Event()

    async def until_left(_request: scripted.Received, connection: scripted.Connection) -> None:
        arrived.set()
        await connection.reader.read(1)
        left.set()
        raise scripted.Hangup

    running = chain(until_left)
    port = int(running.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        head = f"{method} /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
        client.sendall(head.encode())
        assert arrived.wait(10)
    assert left.wait(10)


def test_a_loop_is_noticed_here_too(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.answer(200, b"ok"))
    httpx.get(f"{running.url}/v1/x")
    via = running.primary.received[0].header("via")
    assert via is not None
    response = httpx.get(f"{running.url}/v1/x", headers={"via": via})
    assert (response.status_code, response.json()["error"]["type"]) == (502, "proxy_error")
