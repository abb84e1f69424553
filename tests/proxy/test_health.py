"""The server's breakers: shared with commands, safe on a disk that refuses, one probe at a time."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import time
from typing import Any

import httpx
import msgspec

from ccfallback.proxy import scripted
from ccfallback.proxy.scripted import Connection, Received
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


def test_an_overload_is_the_models_and_other_models_go_on(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(529, "overloaded_error"), scripted.reply("spare"))
    for _ in range(3):
        post(running)
    assert post(running).headers["x-ccfallback-attempts"] == "1"
    assert post(running, "claude-other").headers["x-ccfallback-attempts"] == "2"
    models = running.proxy.state["anthropic-primary"]["models"]
    assert models["claude-x"]["consecutiveFailures"] == 3
    assert models["claude-x"]["reason"] == "529 overloaded_error"


def test_a_usage_window_of_one_model_is_the_models(chain: Callable[..., Chain]) -> None:
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


def test_the_latest_rejected_window_counts_up_to_the_limit(chain: Callable[..., Chain]) -> None:
    prefix, now = "anthropic-ratelimit-unified-", int(time())
    headers = {
        f"{prefix}status": "rejected",
        f"{prefix}5h-status": "rejected",
        f"{prefix}5h-reset": str(now + 600),
        f"{prefix}7d-status": "rejected",
        f"{prefix}7d-reset": str(now + 1200),
        "retry-after": "5",
    }
    running = chain(
        scripted.error(429, "rate_limit_error", headers=headers), scripted.reply("spare")
    )
    post(running)
    assert running.proxy.state["anthropic-primary"]["cooldownUntil"] == (now + 1200) * 1000


def test_only_one_request_probes_and_the_others_pass_by(chain: Callable[..., Chain]) -> None:
    probing, go_on = threading.Event(), threading.Event()

    async def slow(request: Received, connection: Connection) -> None:
        probing.set()
        await asyncio.to_thread(go_on.wait, 10)
        await scripted.reply("probed")(request, connection)

    running = chain(slow, scripted.reply("spare"))
    half_open(running)
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(post, running)
        assert probing.wait(10)
        others = [post(running) for _ in range(3)]
        go_on.set()
        assert "probed" in probe.result().text
    assert all(other.headers["x-ccfallback-provider"] == "fallback1" for other in others)
    assert len(running.primary.received) == 1
    assert running.proxy.events("circuit_breaker.reset")
    running.primary.script(scripted.reply("open to all"))
    assert "open to all" in post(running).text


def test_a_busy_probe_is_joined_when_nobody_else_is_left(chain: Callable[..., Chain]) -> None:
    probing, go_on = threading.Event(), threading.Event()

    async def slow(request: Received, connection: Connection) -> None:
        probing.set()
        await asyncio.to_thread(go_on.wait, 10)
        await scripted.reply("probed")(request, connection)

    running = chain([slow, scripted.reply("joined")], scripted.error(500, "api_error"))
    half_open(running)
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(post, running)
        assert probing.wait(10)
        assert "joined" in post(running).text
        go_on.set()
        assert "probed" in probe.result().text


def test_a_failed_probe_counts_as_one_more(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("spare"))
    half_open(running, failures=4)
    post(running)
    state = running.proxy.state["anthropic-primary"]
    assert state["consecutiveFailures"] == 5
    assert 55_000 < state["cooldownUntil"] - state["lastFailure"] <= 60_000


def test_requests_that_fail_together_do_not_jump_tiers(chain: Callable[..., Chain]) -> None:
    waiting: list[Received] = []
    all_there = asyncio.Event()

    async def together(request: Received, connection: Connection) -> None:
        waiting.append(request)
        if len(waiting) == 12:
            all_there.set()
        await all_there.wait()
        await scripted.error(500, "api_error")(request, connection)

    running = chain(together, scripted.reply("spare"))
    with ThreadPoolExecutor(12) as pool:
        pending = [pool.submit(post, running) for _ in range(12)]
        assert all(answer.result().status_code == 200 for answer in pending)
    state = running.proxy.state["anthropic-primary"]
    assert state["consecutiveFailures"] == 12
    assert state["cooldownUntil"] - state["cooldownBegan"] <= 30_000


def test_a_time_far_ahead_counts_as_not_set(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("primary"), scripted.reply("spare"))
    half_open(running)
    state = msgspec.json.decode(running.proxy.paths.state.read_bytes())
    far = int(time() * 1000) + 400 * 86_400_000
    state["providers"]["anthropic-primary"]["cooldownUntil"] = far
    running.proxy.paths.state.write_bytes(msgspec.json.encode(state))
    assert "primary" in post(running).text


def test_a_disk_that_refuses_does_not_stop_the_proxy(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("spare"))
    state = running.proxy.paths.state
    state.mkdir()
    for _ in range(4):
        assert post(running).status_code == 200
    assert post(running).headers["x-ccfallback-attempts"] == "1"
    assert len(running.proxy.events("state.error")) == 1


def test_two_unreachable_hosts_are_this_machines_own_network(
    running: Callable[..., object], chain: Callable[..., Chain]
) -> None:
    proxied = chain(scripted.reply("local model"))
    config = proxied.proxy.paths.config
    config.write_text(
        '[primary]\nbase_url = "http://one.invalid"\n'
        '[[providers]]\nname = "two"\nbase_url = "http://two.invalid"\n'
        f'[[providers]]\nname = "local"\nbase_url = "{proxied.primary.url}"\n'
    )
    for _ in range(4):
        assert post(proxied).headers["x-ccfallback-attempts"] == "3"
    assert "anthropic-primary" not in proxied.proxy.state
    assert "two" not in proxied.proxy.state
