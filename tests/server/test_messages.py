"""`POST /v1/messages` over real sockets: what the providers receive, and what the client gets."""

import asyncio
import gzip
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import pytest

from ccfallback.simulator import scripted
from ccfallback.simulator.faults import UNKNOWN_HOST
from ccfallback.simulator.scripted import Connection, Hangup, Received, Script, ScriptedUpstream
from tests.conftest import Chain, RunningProxy, together

ASK = {"model": "claude-x", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
OVERLOADED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
EVENTS = scripted.events_of(msgspec.json.encode(scripted.message("partial text")))
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
USER_KEY = "the-users-own-key"


def ask(
    chain: Chain, *, stream: bool = False, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """Send one request with the user's credentials."""
    return httpx.post(
        f"{chain.url}/v1/messages?beta=true",
        json={**ASK, "stream": stream},
        headers={"x-api-key": USER_KEY, **(headers or {})},
        timeout=30,
    )


async def cut(_request: Received, connection: Connection) -> None:
    """Close a chunked answer without its last chunk."""
    raise Hangup


def saying(event: bytes) -> Script:
    """One more event, and then the end."""

    async def script(_request: Received, connection: Connection) -> None:
        await connection.chunk(event)

    return script


@pytest.mark.parametrize("stream", [False, True])
def test_the_primary_answers(chain: Callable[..., Chain], stream: bool) -> None:
    running = chain(scripted.reply("hello"), scripted.reply("no"))
    response = ask(running, stream=stream)
    assert response.status_code == 200
    assert "hello" in response.text
    assert response.headers["x-ccfallback-provider"] == "anthropic-primary"
    assert response.headers["x-ccfallback-attempts"] == "1"
    assert response.headers["ccr-request-id"].startswith("ccr-")
    assert running.fallback.received == []


def test_the_primary_gets_the_clients_bytes_and_the_client_the_primarys(
    chain: Callable[..., Chain],
) -> None:
    answer = b'{ "content" : [],\n"type":"message", "x-new": {"a": 1.50} }'
    running = chain(scripted.answer(200, answer, headers={"request-id": "req_1", "x-new": "y"}))
    body = b'{"model":"m",  "messages":[], "z": "\\u00e9", "a": 1e2}\n'
    headers = {"anthropic-beta": "b-1,b-2", "anthropic-version": "2026-10-21", "x-team": "red"}
    response = httpx.post(f"{running.url}/v1/messages?beta=true", content=body, headers=headers)
    received = running.primary.received[0]
    assert received.body == body
    assert received.target == "/v1/messages?beta=true"
    for name, value in headers.items():
        assert received.header(name) == value
    assert response.content == answer
    assert response.headers["request-id"] == "req_1"
    assert response.headers["x-new"] == "y"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        scripted.error(401, "authentication_error"),
        scripted.error(402, "billing_error"),
        scripted.error(403, "permission_error"),
        scripted.error(400, "invalid_request_error", "Your credit balance is too low"),
        scripted.error(404, "not_found_error", "model: claude-x"),
        scripted.error(408, "timeout_error"),
        scripted.error(429, "rate_limit_error"),
        scripted.error(500, "api_error"),
        scripted.error(529, "overloaded_error"),
        scripted.answer(502, b"<html>Bad gateway</html>", "text/html"),
        scripted.answer(302, b"", headers={"location": "http://127.0.0.1:1/"}),
        scripted.answer(999, b"{}"),
        scripted.html(),
        scripted.answer(200, b""),
        scripted.answer(200, b'{"type":"mess'),
        scripted.answer(200, b"[]"),
        scripted.answer(200, b'{"type":"error","error":{"type":"overloaded_error"}}'),
        scripted.answer(200, b'{"error":{"code":429,"message":"slow down"}}'),
        scripted.stream([OVERLOADED]),
        scripted.stream([PING, OVERLOADED]),
        scripted.stream([EVENTS[0], OVERLOADED]),
        scripted.stream([EVENTS[0], PING]),
        scripted.stream([EVENTS[0]], then=cut),
        scripted.stream([EVENTS[0]], then=scripted.reset),
        scripted.stream([b"data: not json\n\n"]),
        scripted.stream([]),
        scripted.reset,
        scripted.close,
    ],
)
def test_every_fault_of_the_primary_leads_to_failover(
    chain: Callable[..., Chain], fault: Script, stream: bool
) -> None:
    running = chain(fault, scripted.reply("from the fallback"))
    response = ask(running, stream=stream)
    assert response.status_code == 200
    assert "from the fallback" in response.text
    assert response.headers["x-ccfallback-provider"] == "fallback1"
    assert response.headers["x-ccfallback-attempts"] == "2"


def test_an_error_without_a_type_is_classified_by_its_code(chain: Callable[..., Chain]) -> None:
    body = b'{"error":{"code":404,"message":"no such model"}}'
    running = chain(scripted.answer(200, body), scripted.reply("spare"))
    assert ask(running).headers["x-ccfallback-provider"] == "fallback1"
    failed = running.proxy.wait_for("provider.failure")["data"]
    assert (failed["fault"], failed["error"]) == ("unknown-model", "no such model")
    assert running.proxy.state["anthropic-primary"]["models"]["claude-x"]["consecutiveFailures"]


def test_a_refused_connection_and_an_unknown_host_lead_to_failover(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> None:
    last = upstream(scripted.reply("still here"))
    proxy = running(
        '[primary]\nbase_url = "http://127.0.0.1:1"\n'
        f'[[providers]]\nname = "lost"\nbase_url = "http://{UNKNOWN_HOST}.invalid"\n'
        f'[[providers]]\nname = "last"\nbase_url = "{last.url}"\n'
    )
    response = httpx.post(f"{proxy.url}/v1/messages", json=ASK)
    assert response.headers["x-ccfallback-provider"] == "last"
    assert response.headers["x-ccfallback-attempts"] == "3"
    assert proxy.state["anthropic-primary"]["reason"] == "connection refused"
    assert proxy.state["lost"]["reason"] == "name not resolved"


@pytest.mark.parametrize("stream", [False, True])
def test_a_silent_primary_costs_its_timeout_and_no_more(
    chain: Callable[..., Chain], stream: bool
) -> None:
    limits = "[timeouts]\nfirst_byte = 0.2\nnon_streaming = 0.2\n"
    running = chain(scripted.hang, scripted.reply("awake"), more=limits)
    assert "awake" in ask(running, stream=stream).text
    fired = running.proxy.events("provider.timeout")[0]["data"]
    assert fired["timeout"] == ("first_byte" if stream else "non_streaming")
    state = running.proxy.state["anthropic-primary"]
    assert state["consecutiveFailures"] == 1
    assert state["cooldownUntil"] > state["lastFailure"]


def test_a_stream_that_stalls_before_its_content_leads_to_failover(
    chain: Callable[..., Chain],
) -> None:
    stalling = scripted.stream([EVENTS[0]], then=scripted.hang)
    running = chain(stalling, scripted.reply("awake"), more="[timeouts]\nidle = 0.2\n")
    assert "awake" in ask(running, stream=True).text


@pytest.mark.parametrize(
    "fault",
    [
        cut,
        scripted.reset,
        scripted.hang,
        scripted.nothing,
        saying(OVERLOADED),
        saying(b"event: x\ndata: {nonsense\n\n"),
    ],
)
def test_an_answer_that_breaks_after_the_commit_point_is_dropped(
    chain: Callable[..., Chain], fault: Script
) -> None:
    seen = threading.Event()

    async def then(request: Received, connection: Connection) -> None:
        await asyncio.to_thread(seen.wait)
        await fault(request, connection)

    broken = scripted.stream(EVENTS[:3], then=then)
    running = chain(broken, scripted.reply("second try"), more="[timeouts]\nidle = 0.2\n")
    text: list[bytes] = []

    def read(answer: httpx.Response) -> None:
        for part in answer.iter_bytes():
            text.append(part)
            if b"".join(text) == b"".join(EVENTS[:3]):
                seen.set()

    asked = {**ASK, "stream": True}
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("POST", f"{running.url}/v1/messages", json=asked) as answer,
    ):
        read(answer)
    assert b"".join(text) == b"".join(EVENTS[:3])
    assert running.proxy.wait_for("request.error")["data"]["provider"] == "anthropic-primary"
    state = running.proxy.state["anthropic-primary"]
    assert state["consecutiveFailures"] == 1
    assert state["cooldownUntil"] > state["lastFailure"]
    assert "second try" in ask(running, stream=True).text


def test_an_error_in_the_same_read_as_the_first_text_leads_to_failover(
    chain: Callable[..., Chain],
) -> None:
    at_once = scripted.stream([b"".join([*EVENTS[:3], OVERLOADED])])
    running = chain(at_once, scripted.reply("second try"))
    response = ask(running, stream=True)
    assert "second try" in response.text
    assert response.headers["x-ccfallback-attempts"] == "2"


def test_the_stream_reaches_the_client_as_it_comes(chain: Callable[..., Chain]) -> None:
    go_on = threading.Event()

    async def wait(_request: Received, connection: Connection) -> None:
        while not go_on.is_set():
            await connection.writer.drain()
            await asyncio.sleep(0.01)
        for event in EVENTS[3:]:
            await connection.chunk(event)

    running = chain(scripted.stream(EVENTS[:3], then=wait))
    with httpx.stream("POST", f"{running.url}/v1/messages", json={**ASK, "stream": True}) as answer:
        parts = answer.iter_bytes()
        assert next(parts).startswith(b"event: message_start")
        go_on.set()
        rest = b"".join(parts)
    assert rest.endswith(EVENTS[-1])


def test_an_answer_with_a_broken_head_leads_to_failover(chain: Callable[..., Chain]) -> None:
    whole = msgspec.json.encode(scripted.message("fine"))
    bad = scripted.answer(200, whole, headers={"x-bad": "a\x01b"})
    running = chain(bad, scripted.reply("well"))
    response = ask(running)
    assert response.headers["x-ccfallback-provider"] == "fallback1"
    assert running.proxy.state["anthropic-primary"]["reason"] == "broken HTTP"


@pytest.mark.parametrize("end", [cut, scripted.reset, scripted.hang])
def test_an_answer_that_breaks_after_its_stop_reason_is_complete(
    chain: Callable[..., Chain], end: Script
) -> None:
    running = chain(scripted.stream(EVENTS[:-1], then=end), more="[timeouts]\nidle = 0.2\n")
    assert ask(running, stream=True).content == b"".join(EVENTS[:-1])
    assert running.proxy.wait_for("request.complete")


def test_pings_keep_a_stream_waiting_for_its_first_content(chain: Callable[..., Chain]) -> None:
    async def pings(_request: Received, connection: Connection) -> None:
        for _ in range(6):
            await asyncio.sleep(0.1)
            await connection.chunk(PING)
        for event in EVENTS[1:]:
            await connection.chunk(event)

    limits = "[timeouts]\nfirst_byte = 0.2\nidle = 0.2\n"
    running = chain(scripted.stream(EVENTS[:1], then=pings), scripted.reply("no"), more=limits)
    assert ask(running, stream=True).headers["x-ccfallback-provider"] == "anthropic-primary"


def test_what_follows_the_last_event_is_not_read(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.stream([*EVENTS, *EVENTS], then=scripted.hang))
    assert ask(running, stream=True).content == b"".join(EVENTS)


def test_the_last_event_may_be_missing_after_a_stop_reason(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.stream(EVENTS[:-1]), scripted.reply("no"))
    assert ask(running, stream=True).content == b"".join(EVENTS[:-1])


def test_an_empty_answer_with_a_stop_reason_is_an_answer(chain: Callable[..., Chain]) -> None:
    empty = scripted.events_of(msgspec.json.encode(scripted.message([])))
    running = chain(scripted.stream(empty), scripted.reply("no"))
    assert ask(running, stream=True).content == b"".join(empty)


def test_the_failover_list_decides_about_the_primary(chain: Callable[..., Chain]) -> None:
    running = chain(
        scripted.error(500, "api_error"), scripted.reply("no"), more='[failover]\non = ["429"]\n'
    )
    for _ in range(4):
        assert ask(running).status_code == 500
    assert running.fallback.received == []


def test_login_refusals_at_the_same_instant_do_not_open_the_breaker(
    chain: Callable[..., Chain],
) -> None:
    refused = scripted.error(401, "authentication_error")
    running = chain(together(5, refused), scripted.reply("spare"))
    login = {"authorization": "Bearer sk-ant-oat-dummy"}
    with ThreadPoolExecutor(5) as pool:
        pending = [pool.submit(ask, running, headers=login) for _ in range(5)]
        statuses = sorted(answer.result().status_code for answer in pending)
    assert statuses == [200, 200, 200, 200, 401]
    assert "anthropic-primary" not in running.proxy.state


def test_old_logins_are_tried_again_although_the_fallback_is_gone_for_hours(
    chain: Callable[..., Chain],
) -> None:
    refused = scripted.error(401, "authentication_error")
    gone = scripted.error(429, "rate_limit_error", headers={"retry-after": "9000"})
    running = chain(together(3, refused), gone)
    login = {"authorization": "Bearer sk-ant-oat-dummy"}
    with ThreadPoolExecutor(3) as pool:
        pending = [pool.submit(ask, running, headers=login) for _ in range(3)]
        answers = [answer.result() for answer in pending]
    assert sorted(answer.status_code for answer in answers) == [401, 502, 502]
    assert all("x-should-retry" not in answer.headers for answer in answers)
    # A request that begins when the client knows has no such excuse.
    assert ask(running, headers=login).headers["x-should-retry"] == "false"


def test_model_names_are_mapped_and_nothing_else_changes(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> None:
    other = upstream(scripted.reply("mapped"))
    proxy = running(
        f'[primary]\ndisabled = true\n[[providers]]\nname = "a"\nbase_url = "{other.url}/v1"\n'
        'model_mapping = { "claude-*" = "glm-4" }\n'
    )
    httpx.post(f"{proxy.url}/v1/messages", content=b'{"x": [1,  2], "model" : "claude-x"}')
    received = other.received[0]
    assert received.target == "/v1/messages"
    assert received.json == {"x": [1, 2], "model": "glm-4"}
    assert b"[1,  2]" in received.body


def test_a_compressed_answer_stays_consistent(chain: Callable[..., Chain]) -> None:
    plain = msgspec.json.encode(scripted.message("squeezed"))
    squeezed = scripted.answer(200, gzip.compress(plain), headers={"content-encoding": "gzip"})
    assert ask(chain(squeezed)).json()["content"][0]["text"] == "squeezed"


UNREADABLE = b"\x0b\x02\x80not decoded\x03"
"""The body of an error in an encoding that the proxy does not know."""


def unreadable(status: int, encoding: str, headers: Mapping[str, str] | None = None) -> Script:
    named = {"content-encoding": encoding, **(headers or {})}
    return scripted.answer(status, UNREADABLE, headers=named)


def ask_raw(
    chain: Chain, headers: Mapping[str, str] | None = None
) -> tuple[int, httpx.Headers, bytes]:
    """Send one request, and decode nothing."""
    with httpx.stream(
        "POST", f"{chain.url}/v1/messages", json=ASK, headers=headers, timeout=30
    ) as response:
        return response.status_code, response.headers, b"".join(response.iter_raw())


@pytest.mark.parametrize("encoding", ["br", "zstd", "new", "gzip, br"])
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_in_an_unknown_encoding_is_passed_on(
    chain: Callable[..., Chain], status: int, encoding: str
) -> None:
    running = chain(unreadable(status, encoding), scripted.reply("no"))
    found, headers, body = ask_raw(running)
    assert (found, headers["content-encoding"], body) == (status, encoding, UNREADABLE)
    assert running.fallback.received == []
    assert "anthropic-primary" not in running.proxy.state


def test_the_first_401_of_a_login_in_an_unknown_encoding_is_passed_on(
    chain: Callable[..., Chain],
) -> None:
    running = chain(unreadable(401, "br"), scripted.reply("spare"))
    login = {"authorization": "Bearer sk-ant-oat-dummy"}
    status, _, body = ask_raw(running, login)
    assert (status, body) == (401, UNREADABLE)
    assert "anthropic-primary" not in running.proxy.state
    assert ask_raw(running, login)[0] == 200


def test_a_429_in_an_unknown_encoding_starts_the_cooldown_that_it_asks_for(
    chain: Callable[..., Chain],
) -> None:
    running = chain(unreadable(429, "zstd", {"retry-after": "3000"}), scripted.reply("spare"))
    assert ask_raw(running)[0] == 200
    state = running.proxy.state["anthropic-primary"]
    assert state["consecutiveFailures"] == 1
    assert state["cooldownUntil"] is not None


def test_without_fallbacks_an_error_in_an_unknown_encoding_is_the_answer(
    chain: Callable[..., Chain],
) -> None:
    status, headers, body = ask_raw(chain(unreadable(429, "zstd", {"retry-after": "7"})))
    assert (status, headers["retry-after"], body) == (429, "7", UNREADABLE)


def test_an_answer_in_an_unknown_encoding_leads_to_failover(chain: Callable[..., Chain]) -> None:
    running = chain(unreadable(200, "br"), scripted.reply("spare"))
    assert ask(running).headers["x-ccfallback-provider"] == "fallback1"
    assert running.proxy.state["anthropic-primary"]["consecutiveFailures"] == 1


def test_a_compressed_request_is_decoded(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("ok"))
    content = gzip.compress(msgspec.json.encode(ASK))
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    response = httpx.post(f"{running.url}/v1/messages", content=content, headers=headers)
    assert response.status_code == 200
    assert running.primary.received[0].json == ASK


def test_a_whole_answer_to_a_stream_request_becomes_a_stream(chain: Callable[..., Chain]) -> None:
    whole = scripted.answer(200, msgspec.json.encode(scripted.message("all at once")))
    response = ask(chain(whole), stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.startswith("event: message_start")
    assert "all at once" in response.text


def test_a_stream_for_a_whole_message_request_becomes_a_message(
    chain: Callable[..., Chain],
) -> None:
    response = ask(chain(scripted.stream(EVENTS)), stream=False)
    assert response.headers["content-type"] == "application/json"
    assert response.json()["content"] == [{"type": "text", "text": "partial text"}]


def test_without_fallbacks_the_primarys_own_failure_is_the_answer(
    chain: Callable[..., Chain],
) -> None:
    body = b'{"type":"error",  "error":{"type":"overloaded_error","message":"Overloaded"}}'
    running = chain(scripted.answer(529, body, headers={"retry-after": "7"}))
    for _ in range(5):
        response = ask(running)
        assert (response.status_code, response.content) == (529, body)
        assert response.headers["retry-after"] == "7"
    models = running.proxy.state["anthropic-primary"]["models"]
    assert models["claude-x"]["consecutiveFailures"] == 5
    assert models["claude-x"]["cooldownUntil"] is None


def test_without_fallbacks_an_unreachable_primary_is_reported(
    running: Callable[[str], RunningProxy],
) -> None:
    proxy = running('[primary]\nbase_url = "http://127.0.0.1:1"\n')
    response = httpx.post(f"{proxy.url}/v1/messages", json=ASK)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (502, "proxy_error")
    assert error["message"].startswith("Primary API failed and no fallbacks configured")
    assert "connection refused" in error["message"]
    assert response.json()["request_id"] == response.headers["ccr-request-id"]


def test_when_all_fail_the_error_lists_each_failure(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(529, "overloaded_error"), scripted.error(500, "api_error"))
    response = ask(running)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (502, "fallback_exhausted")
    assert error["model"] == "claude-x"
    assert error["attempts"] == [
        {"provider": "anthropic-primary", "status": 529, "error": "529 overloaded_error"},
        {"provider": "fallback1", "status": 500, "error": "500 api_error"},
    ]
    assert "anthropic-primary" in error["message"]
    assert "\n" not in error["message"]
    assert response.headers["x-ccfallback-attempts"] == "2"
    assert "x-ccfallback-provider" not in response.headers
    assert "retry-after" not in response.headers
    assert "x-should-retry" not in response.headers


def test_a_short_cooldown_becomes_a_retry_after_header(chain: Callable[..., Chain]) -> None:
    busy = scripted.error(429, "rate_limit_error", headers={"retry-after": "20"})
    response = ask(chain(busy, busy))
    assert 1 <= int(response.headers["retry-after"]) <= 20


def test_failures_that_need_a_person_are_not_retried(chain: Callable[..., Chain]) -> None:
    running = chain(
        scripted.error(401, "authentication_error"),
        scripted.error(429, "rate_limit_error", headers={"retry-after": "7200"}),
    )
    response = ask(running)
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers
    told = running.proxy.wait_for("request.error")["data"]["told"]
    assert told == {"x-should-retry": "false"}


def test_three_failures_open_the_breaker_and_the_valve_is_the_last_attempt(
    chain: Callable[..., Chain],
) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("spare"))
    for _ in range(3):
        ask(running)
    assert ask(running).headers["x-ccfallback-attempts"] == "1"
    assert len(running.primary.received) == 3
    running.fallback.script(scripted.error(500, "api_error"))
    running.primary.script(scripted.reply("back again"))
    response = ask(running)
    assert response.headers["x-ccfallback-provider"] == "anthropic-primary"
    assert running.proxy.events("safety_valve.triggered")
    assert running.proxy.state["anthropic-primary"]["cooldownUntil"] is None


def test_a_failure_is_in_the_file_before_the_response_ends(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("spare"))
    for count in range(1, 5):
        ask(running)
        expected = min(count, 3)
        assert running.proxy.state["anthropic-primary"]["consecutiveFailures"] == expected


def test_a_client_that_leaves_in_mid_stream_closes_the_upstream(
    chain: Callable[..., Chain],
) -> None:
    left = threading.Event()

    async def until_left(_request: Received, connection: Connection) -> None:
        await connection.reader.read(1)
        left.set()
        raise Hangup

    running = chain(scripted.stream(EVENTS[:3], then=until_left), scripted.reply("no"))
    with httpx.stream("POST", f"{running.url}/v1/messages", json={**ASK, "stream": True}) as answer:
        next(answer.iter_bytes())
    assert left.wait(10)
    assert running.proxy.wait_for("request.error")["data"]["status"] == 499
    assert running.proxy.state == {}


def test_a_pooled_connection_that_was_closed_meanwhile_costs_nothing(
    chain: Callable[..., Chain],
) -> None:
    async def once(request: Received, connection: Connection) -> None:
        await scripted.reply("hello")(request, connection)
        raise Hangup

    running = chain(once, scripted.reply("no"))
    for _ in range(5):
        response = ask(running)
        assert response.headers["x-ccfallback-provider"] == "anthropic-primary"
        assert response.headers["x-ccfallback-attempts"] == "1"
    assert (
        "anthropic-primary" not in running.proxy.state
        or not (running.proxy.state["anthropic-primary"]["consecutiveFailures"])
    )


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]", b'"x"', b'{"a":', b"\xff{}"])
def test_a_body_that_is_not_an_object_is_refused(chain: Callable[..., Chain], body: bytes) -> None:
    response = httpx.post(f"{chain(scripted.reply('no')).url}/v1/messages", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(chain: Callable[..., Chain], chunked: bool) -> None:
    running = chain(scripted.reply("no"), more="[server]\nmax_body_bytes = 2000\n")
    body = msgspec.json.encode({**ASK, "x": "y" * 3000})
    content = iter([body]) if chunked else body
    response = httpx.post(f"{running.url}/v1/messages", content=content)
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "request_too_large"
    bomb = gzip.compress(b" " * 1_000_000)
    headers = {"content-encoding": "gzip"}
    response = httpx.post(f"{running.url}/v1/messages", content=bomb, headers=headers)
    assert response.status_code == 413


def test_a_fallback_never_gets_the_users_credentials(chain: Callable[..., Chain]) -> None:
    user = msgspec.json.encode({"device_id": "device-of-the-user", "session_id": "s"}).decode()
    body = {
        **ASK,
        "metadata": {"user_id": user},
        "system": [{"type": "text", "text": "x-anthropic-billing-header: cc_version=1;"}],
    }
    secrets = {
        "authorization": "Bearer users-login-token",
        "x-api-key": USER_KEY,
        "cookie": "users-cookie",
        "proxy-authorization": "Basic users-proxy-password",
        "x-ccf-api-key": "users-access-token",
        "x-team": "users-custom-secret",
        "x-claude-code-session-id": "users-session",
        "x-stainless-os": "users-os",
        "anthropic-beta": "oauth-2025-04-20,effort-2025-11-24",
    }
    running = chain(scripted.error(529, "overloaded_error"), scripted.reply("ok"))
    response = httpx.post(f"{running.url}/v1/messages", json=body, headers=secrets)
    assert response.headers["x-ccfallback-provider"] == "fallback1"
    received = running.fallback.received[0]
    everything = str(received.headers) + received.body.decode()
    assert "users-" not in everything
    assert "device-of-the-user" not in everything
    assert "oauth" not in everything
    assert "billing-header" not in everything
    assert received.header("anthropic-beta") == "effort-2025-11-24"
    assert received.header("x-api-key") == "fallback-key-1"
    primary = running.primary.received[0]
    assert primary.header("cookie") == "users-cookie"
    assert primary.header("x-ccf-api-key") is None


@pytest.mark.parametrize(("stream", "failures"), [(False, 1), (True, 0)])
def test_a_client_that_waited_long_for_a_whole_answer_blames_the_provider(
    chain: Callable[..., Chain], stream: bool, failures: int
) -> None:
    running = chain(scripted.hang, more="[timeouts]\nnon_streaming = 1\nfirst_byte = 60\n")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{running.url}/v1/messages", json={**ASK, "stream": stream}, timeout=0.8)
    assert running.proxy.wait_for("request.error")["data"]["error"] == "client disconnected"
    assert len(running.proxy.events("provider.timeout")) == failures


def test_a_first_401_that_the_client_did_not_wait_for_is_not_its_first(
    chain: Callable[..., Chain],
) -> None:
    arrived, leave = threading.Event(), threading.Event()

    async def late(request: Received, connection: Connection) -> None:
        arrived.set()
        await asyncio.to_thread(leave.wait, 10)
        await scripted.error(401, "authentication_error")(request, connection)

    running = chain([late, scripted.error(401, "authentication_error")], scripted.reply("hello"))
    login = {"authorization": "Bearer sk-ant-oat-dummy"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{running.url}/v1/messages", json=ASK, headers=login, timeout=0.2)
    running.proxy.wait_for("request.error")
    leave.set()
    assert ask(running, headers=login).status_code == 401
    assert ask(running, headers=login).headers["x-ccfallback-provider"] == "fallback1"


def with_count(body: bytes) -> bytes:
    """The message or the events, with a prompt of more tokens than JSON can hold."""
    return body.replace(b'"input_tokens":12', b'"input_tokens":9007199254740992')


@pytest.mark.parametrize("stream", [False, True])
def test_an_impossible_token_count_of_a_fallback_goes_to_the_next_one(
    chain: Callable[..., Chain], stream: bool
) -> None:
    raw = with_count(msgspec.json.encode(scripted.message("impossible")))
    odd = scripted.stream(map(with_count, EVENTS)) if stream else scripted.answer(200, raw)
    running = chain(scripted.error(500, "api_error"), odd, scripted.reply("fallback2"))
    answer = ask(running, stream=stream)
    assert answer.headers["x-ccfallback-provider"] == "fallback2"
    assert "impossible" not in answer.text
    assert running.proxy.state["fallback1"]["consecutiveFailures"] == 1


def test_an_impossible_token_count_at_the_end_of_a_stream_drops_the_connection(
    chain: Callable[..., Chain],
) -> None:
    seen = threading.Event()

    async def then(request: Received, connection: Connection) -> None:
        await asyncio.to_thread(seen.wait)
        end = EVENTS[-2].replace(b'"output_tokens":7', b'"output_tokens":9007199254740992')
        await connection.chunk(end + EVENTS[-1])

    failing = scripted.error(500, "api_error")
    running = chain(failing, scripted.stream(EVENTS[:3], then=then), scripted.reply("other"))
    with httpx.stream("POST", f"{running.url}/v1/messages", json={**ASK, "stream": True}) as answer:
        parts = answer.iter_bytes()
        assert next(parts)
        seen.set()
        with pytest.raises(httpx.RemoteProtocolError):
            list(parts)
    assert running.proxy.wait_for("request.error")["data"]["provider"] == "fallback1"
    assert running.proxy.state["fallback1"]["consecutiveFailures"] == 1
