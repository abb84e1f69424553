"""What another process writes is there for the server's next request."""

import subprocess
import sys
from collections.abc import Callable

import httpx

from ccfallback.simulator import scripted
from tests.conftest import Chain, RunningProxy

ASK = {"model": "claude-x", "max_tokens": 10, "messages": []}


def ccfallback(proxy: RunningProxy, *arguments: str) -> None:
    """Run a command in a process of its own on the same files."""
    paths = proxy.paths
    files = ["--config", paths.config, "--state", paths.state, "--log-file", paths.log]
    command = [sys.executable, "-m", "ccfallback", *map(str, files), *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_a_reset_breaker_is_live_for_the_next_request(chain: Callable[..., Chain]) -> None:
    busy = scripted.error(429, "rate_limit_error", headers={"retry-after": "600"})
    running = chain(busy, scripted.reply("spare"))
    url = f"{running.url}/v1/messages"
    httpx.post(url, json=ASK)
    assert httpx.post(url, json=ASK).headers["x-ccfallback-attempts"] == "1"
    running.primary.script(scripted.reply("well again"))
    ccfallback(running.proxy, "breaker", "reset", "anthropic-primary")
    assert "well again" in httpx.post(url, json=ASK).text


def test_an_added_provider_is_live_for_the_next_request(
    chain: Callable[..., Chain], upstream: Callable[..., scripted.ScriptedUpstream]
) -> None:
    running = chain(scripted.error(500, "api_error"))
    spare = upstream(scripted.reply("added"))
    assert httpx.post(f"{running.url}/v1/messages", json=ASK).status_code == 500
    ccfallback(running.proxy, "providers", "add", "spare", "--base-url", spare.url)
    response = httpx.post(f"{running.url}/v1/messages", json=ASK)
    assert response.headers["x-ccfallback-provider"] == "spare"
    assert running.proxy.events("config.load")


def test_a_broken_config_keeps_the_last_good_one(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("spare"))
    config = running.proxy.paths.config
    good = config.read_text()
    config.write_text("[[[nonsense")
    for _ in range(2):
        response = httpx.post(f"{running.url}/v1/messages", json=ASK)
        assert response.headers["x-ccfallback-provider"] == "fallback1"
    assert len(running.proxy.events("config.error")) == 1
    config.write_text(good.replace("fallback1", "renamed"))
    response = httpx.post(f"{running.url}/v1/messages", json=ASK)
    assert response.headers["x-ccfallback-provider"] == "renamed"


def test_a_corrupt_state_file_is_set_aside_and_counts_as_empty(
    chain: Callable[..., Chain],
) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.reply("spare"))
    paths = running.proxy.paths
    paths.state.write_bytes(b'{"providers": {"anthro')
    assert httpx.post(f"{running.url}/v1/messages", json=ASK).status_code == 200
    assert list(paths.state.parent.glob("state.json.corrupt-*"))
    assert running.proxy.state["anthropic-primary"]["consecutiveFailures"] == 1
    assert running.proxy.events("state.corrupt")
