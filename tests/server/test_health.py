"""The server's breakers: shared with commands, safe on a disk that refuses, one probe at a time."""

from collections.abc import Callable
from time import time
from typing import Any

import httpx
import msgspec

from ccfallback.simulator import scripted
from tests.conftest import Chain

ASK = {"model": "claude-x", "max_tokens": 10, "messages": []}


def post(chain: Chain, model: str = "claude-x") -> httpx.Response:
    """One request."""
    return httpx.post(f"{chain.url}/v1/messages", json={**ASK, "model": model}, timeout=30)


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
