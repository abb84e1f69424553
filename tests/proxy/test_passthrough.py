"""Whatever is no message goes to the primary as it is, and comes back so."""

import gzip
from collections.abc import Callable

import httpx

from ccfallback.proxy import scripted
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
