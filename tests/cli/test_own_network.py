"""Failures while this machine is offline count for no breaker, and every screen says so."""

from collections.abc import Callable

import httpx

from ccfallback.simulator import scripted
from ccfallback.simulator.faults import UNKNOWN_HOST
from tests.cli.conftest import Run
from tests.conftest import Chain, RunningProxy

ASK = {"model": "claude-x", "max_tokens": 10, "messages": []}

OFFLINE = f"""
[breaker]
network_wait = 0
[primary]
base_url = "http://{UNKNOWN_HOST}.invalid"
[[providers]]
name = "spare"
base_url = "http://{UNKNOWN_HOST}.example"
"""

NOTE = "not counted: your own network (anthropic-primary 1, spare 1)"


def test_every_screen_says_what_is_not_counted(
    ccf: Run, running: Callable[[str], RunningProxy]
) -> None:
    proxy = running(OFFLINE)
    assert httpx.post(f"{proxy.url}/v1/messages", json=ASK).status_code == 502
    ended = proxy.wait_for("request.error")
    uncounted = {"anthropic-primary": 1, "spare": 1}
    assert ended["data"]["uncounted"] == uncounted
    proxy.stop()
    for command in ("status", "top", "stats"):
        assert NOTE in ccf(command).out, command
    # Its labels are in a column, and long lines are wrapped.
    assert NOTE.replace(":", "") in " ".join(ccf("explain").out.split())
    assert ccf("status", "--json").json["requests"][0]["uncounted"] == uncounted
    for command in ("top", "stats"):
        found = ccf(command, "--json").json["providers"]
        assert {each["name"]: each["uncounted"] for each in found} == uncounted
    states = ccf("breaker", "status", "--json").json["providers"]
    assert [each["consecutiveFailures"] for each in states] == [0, 0]


def test_every_round_of_a_waiting_request_is_counted_as_such(
    running: Callable[[str], RunningProxy],
) -> None:
    proxy = running(OFFLINE.replace("network_wait = 0", "network_wait = 0.1"))
    httpx.post(f"{proxy.url}/v1/messages", json=ASK)
    ended = proxy.wait_for("request.error")
    attempts = len(proxy.events("provider.attempt"))
    assert sum(ended["data"]["uncounted"].values()) == attempts > 2


def test_a_failure_that_counts_is_not_listed(ccf: Run, chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(500, "api_error"), scripted.error(500, "api_error"))
    httpx.post(f"{running.url}/v1/messages", json=ASK)
    assert "uncounted" not in running.proxy.wait_for("request.error")["data"]
    for command in ("status", "top", "stats", "explain"):
        assert "not counted" not in ccf(command).out


def test_one_host_that_is_gone_is_its_own_failure(
    running: Callable[[str], RunningProxy], upstream: Callable[..., scripted.ScriptedUpstream]
) -> None:
    spare = upstream(scripted.reply("here"))
    proxy = running(OFFLINE.replace(f"http://{UNKNOWN_HOST}.example", spare.url))
    assert httpx.post(f"{proxy.url}/v1/messages", json=ASK).status_code == 200
    assert "uncounted" not in proxy.wait_for("request.complete")["data"]
