"""Token counts, models, pass-through, and the proxy's own pages."""

import gzip
import socket
import threading
from collections.abc import Callable

import httpx
import msgspec
import pytest

from ccfallback import __version__
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import estimate
from ccfallback.simulator import scripted
from tests.conftest import Chain, RunningProxy

COUNT = {"model": "claude-x", "messages": [{"role": "user", "content": "hello there"}]}


def counted(tokens: int) -> scripted.Script:
    """An upstream's count."""
    return scripted.answer(200, msgspec.json.encode({"input_tokens": tokens}))


def count(chain: Chain) -> httpx.Response:
    """Ask for a count."""
    return httpx.post(f"{chain.url}/v1/messages/count_tokens?beta=true", json=COUNT)


def test_the_primary_counts_tokens(chain: Callable[..., Chain]) -> None:
    running = chain(counted(42), counted(1))
    response = count(running)
    assert response.json() == {"input_tokens": 42}
    assert response.headers["x-ccfallback-provider"] == "anthropic-primary"
    assert running.primary.received[0].target == "/v1/messages/count_tokens?beta=true"


@pytest.mark.parametrize(
    "fault",
    [
        scripted.error(404, "x"),
        scripted.error(400, "x"),
        scripted.html(),
        scripted.reset,
        scripted.error(200, "overloaded_error"),
        *(
            scripted.answer(200, body)
            for body in (
                b"",
                b"{}",
                b'{"input_tokens":',
                b'{"input_tokens":"7"}',
                b'{"input_tokens":7.5}',
                b'{"input_tokens":true}',
                b'{"input_tokens":-1}',
                b'{"input_tokens":9007199254740992}',
            )
        ),
    ],
)
def test_a_fallback_counts_when_the_primary_does_not(
    chain: Callable[..., Chain], fault: scripted.Script
) -> None:
    running = chain(fault, counted(7))
    assert count(running).json() == {"input_tokens": 7}
    assert running.fallback.received[0].target == "/v1/messages/count_tokens"


def test_an_estimate_is_better_than_an_error(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(529, "overloaded_error"), scripted.error(400, "x"))
    for _ in range(5):
        response = count(running)
        assert response.status_code == 200
        assert response.json()["input_tokens"] > 0
        assert response.headers["x-ccfallback-estimate"] == "1"
        assert "x-ccfallback-provider" not in response.headers
    assert running.proxy.state == {}


@pytest.mark.parametrize(("words", "threads"), [(10, 1), (10_000, 2)])
def test_a_long_prompt_is_estimated_beside_the_event_loop(
    chain: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch, words: int, threads: int
) -> None:
    seen: list[threading.Thread] = []

    def watched(body: Body) -> int:
        seen.append(threading.current_thread())
        return estimate(body)

    monkeypatch.setattr("ccfallback.server.bill.estimate", watched)
    running = chain(scripted.error(529, "overloaded_error"), scripted.error(400, "x"))
    said = [{"role": "user", "content": "word " * words}]
    for body in (COUNT, {**COUNT, "messages": said}):
        response = httpx.post(f"{running.url}/v1/messages/count_tokens", json=body)
        assert response.headers["x-ccfallback-estimate"] == "1"
    # The first one is short, so the loop's thread estimates it.
    assert len(set(seen)) == threads


def test_a_skip_during_a_count_is_logged_at_the_side_level(chain: Callable[..., Chain]) -> None:
    limited = scripted.error(429, "rate_limit_error", headers={"retry-after": "500"})
    running = chain(limited, [scripted.reply("hello"), counted(7)])
    httpx.post(f"{running.url}/v1/messages", json={**COUNT, "max_tokens": 9})
    assert count(running).json() == {"input_tokens": 7}
    skips = running.proxy.events("circuit_breaker.skip")
    assert skips
    assert {record["level"] for record in skips} == {"debug"}
    assert "ccfallback_skips_total{" not in httpx.get(f"{running.url}/metrics").text


def test_a_count_remembers_no_refused_login(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(401, "authentication_error"), scripted.reply("no"))
    login = {"authorization": "Bearer sk-ant-oat-dummy"}
    httpx.post(f"{running.url}/v1/messages/count_tokens", json=COUNT, headers=login)
    # The client has not seen that refusal, so this is the one by which it refreshes its login.
    body = {**COUNT, "max_tokens": 1}
    answer = httpx.post(f"{running.url}/v1/messages", json=body, headers=login)
    assert answer.status_code == 401


def test_a_count_is_never_a_stream(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("hello"), counted(7))
    address = f"{running.url}/v1/messages/count_tokens"
    for _ in range(3):
        response = httpx.post(address, json={**COUNT, "stream": True})
        assert response.json() == {"input_tokens": 7}
    assert "stream" not in running.primary.received[0].json
    # A connection that is not given back can't be used again.
    assert running.fallback.connections == 1


def test_a_count_learns_no_rejection(chain: Callable[..., Chain]) -> None:
    refusal = "context_management: Extra inputs are not permitted"
    refused = scripted.error(400, "invalid_request_error", refusal)
    running = chain(scripted.error(529, "overloaded_error"), [refused, counted(7)])
    body = {**COUNT, "context_management": {"edits": []}}
    answer = httpx.post(f"{running.url}/v1/messages/count_tokens", json=body)
    assert answer.json() == {"input_tokens": 7}
    assert running.proxy.state == {}


def test_the_primary_lists_its_models(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.answer(200, b'{"data":[]}'))
    assert httpx.get(f"{running.url}/v1/models?limit=1000").content == b'{"data":[]}'
    assert running.primary.received[0].target == "/v1/models?limit=1000"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models?limit=1000", "/v1/models/a-model"])
def test_the_models_of_the_primary_reach_the_client_as_they_are(
    chain: Callable[..., Chain], path: str
) -> None:
    body = b'{ "data": [{"id": "a-model", "x": null}], "id": "a-model", "error": null }'
    running = chain(scripted.answer(200, body, headers={"request-id": "req_1"}))
    response = httpx.get(running.url + path)
    assert (response.status_code, response.content) == (200, body)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["request-id"] == "req_1"
    assert response.headers["x-ccfallback-provider"] == "anthropic-primary"
    assert running.primary.received[0].target == path


def test_a_compressed_list_of_models_is_read(chain: Callable[..., Chain]) -> None:
    body = b'{"data":[{"id":"a-model"}]}'
    packed = {"content-encoding": "gzip"}
    running = chain(scripted.answer(200, gzip.compress(body), headers=packed))
    response = httpx.get(f"{running.url}/v1/models", headers={"accept-encoding": "br, zstd"})
    assert response.content == body
    assert "content-encoding" not in response.headers
    # What comes has to be read here, so only that is asked for which can be.
    assert running.primary.received[0].header("accept-encoding") == "identity"


CUT_LIST = {"content-type": "application/json", "content-length": "40"}
NO_MODELS = {
    "a page": scripted.html(),
    "nothing": scripted.answer(200, b""),
    "no content": scripted.with_headers(204, {}),
    "cut JSON": scripted.answer(200, b'{"data":['),
    "a cut body": scripted.with_headers(200, CUT_LIST, b'{"data":[]}'),
    "an error": scripted.error(200, "overloaded_error"),
    "an error beside data": scripted.answer(200, b'{"data":[],"error":{"message":"x"}}'),
    "another error": scripted.answer(200, b'{"error":{"message":"x"}}'),
    "a JSON text": scripted.answer(200, b'"models"'),
    "an encoding that can't be read": scripted.answer(
        200, b'{"data":[]}', headers={"content-encoding": "br"}
    ),
    "a broken encoding": scripted.answer(200, b"\x1f\x8b{}", headers={"content-encoding": "gzip"}),
    "an error status": scripted.answer(500, b'{"data":[]}'),
    "a stall": scripted.head_and_then(scripted.hang),
    "no end": scripted.head_and_then(scripted.repeating(b" ")),
}


@pytest.mark.parametrize("answer", NO_MODELS.values(), ids=NO_MODELS)
def test_a_success_that_is_no_list_of_models_is_a_failure(
    chain: Callable[..., Chain], answer: scripted.Script
) -> None:
    limits = "[timeouts]\nidle = 0.2\nnon_streaming = 0.5\n"
    running = chain(answer, scripted.reply("unused"), more=limits)
    config = running.proxy.paths.config
    config.write_text(config.read_text() + 'model_mapping = { "claude-big" = "x" }\n')
    listed = httpx.get(f"{running.url}/v1/models")
    assert listed.status_code == 200
    assert [model["id"] for model in listed.json()["data"]] == ["claude-big"]
    assert "x-ccfallback-provider" not in listed.headers
    one = httpx.get(f"{running.url}/v1/models/claude-big")
    assert (one.status_code, one.json()["id"]) == (200, "claude-big")
    unknown = httpx.get(f"{running.url}/v1/models/claude-none")
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
    assert running.proxy.state == {}


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"data":{}}', b'{"data":null}'])
def test_an_object_without_a_list_is_no_list_of_models(
    chain: Callable[..., Chain], body: bytes
) -> None:
    running = chain(scripted.answer(200, body))
    assert httpx.get(f"{running.url}/v1/models").json()["data"] == []


def test_mapped_models_are_listed_if_the_primary_gives_no_list(
    running: Callable[[str], RunningProxy],
) -> None:
    proxy = running(
        '[primary]\nbase_url = "http://127.0.0.1:1"\n'
        '[[providers]]\nname = "a"\nbase_url = "http://127.0.0.1:2"\n'
        'model_mapping = { "claude-big" = "x", "claude-*" = "y", "claude-small" = "z" }\n'
    )
    listed = httpx.get(f"{proxy.url}/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["claude-big", "claude-small"]
    assert (listed["first_id"], listed["last_id"]) == ("claude-big", "claude-small")
    assert httpx.get(f"{proxy.url}/v1/models/claude-big").json()["type"] == "model"
    unknown = httpx.get(f"{proxy.url}/v1/models/claude-none")
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")


def test_the_front_page_names_the_program_and_its_version(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.html(), scripted.html())
    page = httpx.get(running.url)
    assert page.headers["content-type"].startswith("text/plain")
    assert page.text == f"ccfallback {__version__}: 2 providers\n"
    head = httpx.head(running.url)
    assert (head.status_code, head.content) == (200, b"")


def test_health_lists_the_providers_without_a_secret(chain: Callable[..., Chain]) -> None:
    busy = scripted.error(429, "rate_limit_error", headers={"retry-after": "600"})
    running = chain(busy, scripted.reply("ok"))
    httpx.post(f"{running.url}/v1/messages", json={**COUNT, "max_tokens": 1})
    response = httpx.get(f"{running.url}/health")
    page = response.json()
    assert (page["status"], page["version"]) == ("ok", __version__)
    assert page["uptime"] >= 0
    primary, fallback = page["providers"]
    assert (primary["name"], primary["available"]) == ("anthropic-primary", False)
    assert primary["cooldownUntil"] == running.proxy.state["anthropic-primary"]["cooldownUntil"]
    assert fallback == {
        "name": "fallback1",
        "available": True,
        "disabled": False,
        "cooldownUntil": None,
    }
    assert "http" not in response.text
    assert "fallback-key" not in response.text


def test_an_unknown_path_is_an_error_in_anthropics_envelope(chain: Callable[..., Chain]) -> None:
    response = httpx.get(f"{chain(scripted.html()).url}/nowhere")
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"
    assert response.json()["request_id"] == response.headers["ccr-request-id"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_wrong_method_is_refused(chain: Callable[..., Chain], path: str) -> None:
    response = httpx.get(chain(scripted.html()).url + path)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_a_request_is_passed_through_unchanged(chain: Callable[..., Chain]) -> None:
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


@pytest.mark.parametrize("path", ["/v1/files", "/v1/messages", "/v1/messages/count_tokens"])
def test_an_upstreams_headers_of_our_own_names_never_stand_beside_ours(
    chain: Callable[..., Chain], path: str
) -> None:
    body = msgspec.json.encode({**scripted.message("hi"), "input_tokens": 3})
    named = {
        "ccr-request-id": "of-the-upstream",
        "CCR-Request-ID": "of-the-upstream",
        "x-ccfallback-provider": "of-the-upstream",
        "X-CCFallback-Attempts": "99",
        "x-ccfallback-estimate": "1",
    }
    running = chain(scripted.answer(200, body, headers=named))
    asked = {"model": "claude-x", "max_tokens": 1, "messages": []}
    response = httpx.post(f"{running.url}{path}", json=asked)
    assert response.status_code == 200
    ids = response.headers.get_list("ccr-request-id")
    assert len(ids) == 1
    assert ids[0].startswith("ccr-")
    assert response.headers.get_list("x-ccfallback-provider") == ["anthropic-primary"]
    assert "of-the-upstream" not in str(response.headers)
    assert "99" not in response.headers.get_list("x-ccfallback-attempts")
    assert "x-ccfallback-estimate" not in response.headers


def test_errors_are_passed_through_and_count_for_nothing(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(529, "overloaded_error"))
    assert httpx.get(f"{running.url}/api/oauth/usage").status_code == 529
    assert running.proxy.state == {}


def test_a_compressed_response_stays_compressed(chain: Callable[..., Chain]) -> None:
    packed = gzip.compress(b"hello")
    running = chain(scripted.answer(200, packed, headers={"content-encoding": "gzip"}))
    with httpx.stream("GET", f"{running.url}/v1/x") as response:
        assert b"".join(response.iter_raw()) == packed
        assert response.headers["content-encoding"] == "gzip"
    assert running.primary.received[0].header("accept-encoding") == "gzip, deflate"


def test_a_response_to_head_has_no_body(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.answer(200, b""))
    assert httpx.head(f"{running.url}/api/hello").status_code == 200
    assert running.primary.received[0].method == "HEAD"


def test_a_chunked_body_is_passed_through(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.answer(200, b"ok"))
    httpx.post(f"{running.url}/v1/files", content=iter([b"one", b"two"]))
    assert running.primary.received[0].body == b"onetwo"


def test_an_unreachable_primary_is_reported(running: Callable[[str], RunningProxy]) -> None:
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


def test_a_response_that_breaks_off_is_dropped(chain: Callable[..., Chain]) -> None:
    async def cut(_request: scripted.Received, _connection: scripted.Connection) -> None:
        raise scripted.Hangup

    running = chain(scripted.stream([b"half"], then=cut))
    try:
        httpx.get(f"{running.url}/v1/x")
    except httpx.RemoteProtocolError:
        return
    raise AssertionError("the broken answer looked whole")


def test_the_dots_in_a_path_are_not_resolved(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.answer(200, b"ok"))
    port = int(running.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /v1/a/../../etc?x=1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert running.primary.received[0].target == "/v1/a/../../etc?x=1"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_client_that_leaves_closes_the_upstream(chain: Callable[..., Chain], method: str) -> None:
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


def test_a_loop_through_a_side_endpoint_is_refused(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.answer(200, b"ok"))
    httpx.get(f"{running.url}/v1/x")
    via = running.primary.received[0].header("via")
    assert via is not None
    response = httpx.get(f"{running.url}/v1/x", headers={"via": via})
    assert (response.status_code, response.json()["error"]["type"]) == (502, "proxy_error")
