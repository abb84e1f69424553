"""The server's breakers: shared with commands, safe on a disk that refuses, one probe at a time."""

from collections.abc import Callable
from time import time
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.server import failover_driver
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Received, Script
from tests.conftest import Chain

ASK = {"model": "claude-x", "max_tokens": 10, "messages": []}


def post(chain: Chain, model: str = "claude-x", login: str = "") -> httpx.Response:
    """One request."""
    headers = {"authorization": f"Bearer {login}"} if login else {}
    json = {**ASK, "model": model}
    return httpx.post(f"{chain.url}/v1/messages", json=json, headers=headers, timeout=30)


@pytest.mark.parametrize("where", ["adapt_body", "Attempt"])
def test_an_unforeseen_exception_frees_the_half_open_place(
    chain: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    real, calls = getattr(failover_driver, where), []

    def crash_once(*args: Any, **members: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise RuntimeError("nobody expected this")
        return real(*args, **members)

    running = chain([scripted.reply("back")] * 2, scripted.reply("served"))
    half_open(running)
    monkeypatch.setattr(failover_driver, where, crash_once)
    first = httpx.post(f"{running.url}/v1/messages", json=ASK)
    assert first.headers["x-ccfallback-provider"] == "fallback1"
    # The probe has failed, so its cooldown begins anew; after that the place has to be free.
    assert running.proxy.state["anthropic-primary"]["consecutiveFailures"] == 4
    half_open(running, failures=4)
    second = httpx.post(f"{running.url}/v1/messages", json=ASK)
    assert second.headers["x-ccfallback-provider"] == "anthropic-primary"
    assert running.proxy.state["anthropic-primary"]["consecutiveFailures"] == 0


def half_open(chain: Chain, failures: int = 3) -> None:
    """Let the primary's cooldown have ended a moment ago."""
    entry: dict[str, Any] = {
        "consecutiveFailures": failures,
        "lastFailure": int(time() * 1000) - 60_000,
        "lastSuccess": None,
        "cooldownUntil": int(time() * 1000) - 1000,
        "cooldownBegan": int(time() * 1000) - 60_000,
        "reason": "500 api_error",
        "models": {},
    }
    state = {"version": 1, "providers": {"anthropic-primary": entry}}
    chain.proxy.paths.state.write_bytes(msgspec.json.encode(state))


def test_an_overload_opens_the_breaker_of_one_model_only(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(529, "overloaded_error"), scripted.reply("spare"))
    for _ in range(3):
        post(running)
    assert post(running).headers["x-ccfallback-attempts"] == "1"
    assert post(running, "claude-other").headers["x-ccfallback-attempts"] == "2"
    models = running.proxy.state["anthropic-primary"]["models"]
    assert models["claude-x"]["consecutiveFailures"] == 3
    assert models["claude-x"]["reason"] == "529 overloaded_error"


def test_a_rejected_window_of_one_model_opens_the_breaker_of_that_model_only(
    chain: Callable[..., Chain],
) -> None:
    prefix = "anthropic-ratelimit-unified-"
    headers = {
        f"{prefix}status": "rejected",
        f"{prefix}5h-status": "allowed",
        f"{prefix}7d_oi-status": "rejected",
        f"{prefix}7d_oi-reset": str(int(time()) + 500),
    }
    running = chain(
        scripted.error(429, "rate_limit_error", headers=headers), scripted.reply("spare")
    )
    post(running)
    assert post(running).headers["x-ccfallback-attempts"] == "1"
    assert post(running, "claude-other").headers["x-ccfallback-attempts"] == "2"


def test_a_cooldown_far_in_the_future_is_ignored(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("primary"), scripted.reply("spare"))
    half_open(running)
    state = msgspec.json.decode(running.proxy.paths.state.read_bytes())
    far = int(time() * 1000) + 400 * 86_400_000
    state["providers"]["anthropic-primary"]["cooldownUntil"] = far
    running.proxy.paths.state.write_bytes(msgspec.json.encode(state))
    assert "primary" in post(running).text


def test_an_answer_that_ends_a_cooldown_by_hand_is_saved_at_once(
    chain: Callable[..., Chain],
) -> None:
    running = chain(scripted.reply("primary"), scripted.reply("spare"))
    half_open(running, failures=0)
    assert "primary" in post(running).text
    assert running.proxy.state["anthropic-primary"]["cooldownUntil"] is None


def test_a_disk_that_refuses_writes_does_not_stop_the_proxy(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("spare"))
    state = running.proxy.paths.state
    state.mkdir()
    for _ in range(4):
        assert post(running).status_code == 200
    assert post(running).headers["x-ccfallback-attempts"] == "1"
    assert len(running.proxy.events("state.error")) == 1


def by_login(bad: Script) -> Script:
    """The primary, where the login `work` meets `bad` and every other one an answer."""
    good = scripted.reply("primary")

    async def script(request: Received, connection: Connection) -> None:
        is_bad = request.header("authorization") == "Bearer work"
        await (bad if is_bad else good)(request, connection)

    return script


WINDOW_USED = {
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-reset": str(int(time()) + 18_000),
}

REFUSALS = [
    (scripted.error(429, "rate_limit_error", headers=WINDOW_USED), 1),
    (scripted.error(401, "authentication_error"), 3),
    (scripted.error(403, "permission_error"), 3),
    (scripted.error(400, "invalid_request_error", "Your credit balance is too low"), 3),
]


@pytest.mark.parametrize(("refusal", "times"), REFUSALS, ids=["429", "401", "403", "credit"])
def test_a_refused_login_does_not_affect_another_login(
    chain: Callable[..., Chain], refusal: Script, times: int
) -> None:
    running = chain(by_login(refusal), scripted.reply("spare"))
    for _ in range(times):
        assert "spare" in post(running, login="work").text
    assert post(running, login="work").headers["x-ccfallback-attempts"] == "1"
    table = running.proxy.state["anthropic-primary"]
    assert table["consecutiveFailures"] == times
    assert table["cooldownUntil"] > time() * 1000
    assert httpx.get(f"{running.url}/health").json()["providers"][0]["available"] is False
    for login in ("home", ""):
        answer = post(running, login=login)
        assert "primary" in answer.text
        assert answer.headers["x-ccfallback-attempts"] == "1"
    assert "spare" in post(running, login="work").text
    assert httpx.get(f"{running.url}/health").json()["providers"][0]["available"] is True
    assert b"Bearer" not in running.proxy.paths.state.read_bytes()


def test_a_failure_of_the_server_affects_every_login(chain: Callable[..., Chain]) -> None:
    running = chain(by_login(scripted.error(500, "api_error")), scripted.reply("spare"))
    for _ in range(3):
        post(running, login="work")
    assert post(running, login="home").headers["x-ccfallback-provider"] == "fallback1"


@pytest.mark.parametrize("answers", [True, False])
def test_a_long_cooldown_is_probed_early_by_one_request(
    chain: Callable[..., Chain], answers: bool
) -> None:
    bad = scripted.error(429, "rate_limit_error", headers=WINDOW_USED)
    running = chain(scripted.reply("primary") if answers else bad, scripted.reply("spare"))
    half_open(running)
    state = msgspec.json.decode(running.proxy.paths.state.read_bytes())
    entry = state["providers"]["anthropic-primary"]
    entry["cooldownUntil"] = int(time() * 1000) + 17_000_000
    entry["lastFailure"] = entry["cooldownBegan"] = int(time() * 1000) - 1_000_000
    running.proxy.paths.state.write_bytes(msgspec.json.encode(state))
    first, second = post(running), post(running)
    if answers:
        assert "primary" in first.text
        assert "primary" in second.text
        assert running.proxy.state["anthropic-primary"]["cooldownUntil"] is None
    else:
        assert first.headers["x-ccfallback-attempts"] == "2"
        assert second.headers["x-ccfallback-attempts"] == "1"
