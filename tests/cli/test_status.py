"""`status`: its screen, its JSON, and its exit code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ccfallback import __version__
from ccfallback.paths import Paths
from tests.cli import logbook
from tests.cli.conftest import NOW, Run
from tests.conftest import RunningProxy

CHAIN = """
[server]
port = {port}
[[providers]]
name = "one"
base_url = "https://one.example"
api_key = "key"
[[providers]]
name = "two"
base_url = "https://two.example"
api_key = "key"
disabled = true
"""


def state(paths: Paths, now: float) -> None:
    """The primary cools down, and one model has trouble at `one`."""
    ms = round(now * 1000)
    model = {"consecutiveFailures": 1, "lastFailure": ms - 60_000, "reason": "529 overloaded_error"}
    providers: dict[str, Any] = {
        "anthropic-primary": {
            "consecutiveFailures": 3,
            "lastFailure": ms - 20_000,
            "lastSuccess": ms - 900_000,
            "cooldownUntil": ms + 240_000,
            "reason": "429 rate_limit_error",
        },
        "one": {"lastSuccess": ms - 9000, "models": {"claude-opus-5-5": model}},
    }
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    paths.state.write_bytes(msgspec.json.encode({"version": 1, "providers": providers}))


@pytest.mark.parametrize("columns", [50, 80, 140])
def test_the_screen(
    columns: int,
    paths: Paths,
    configure: Callable[[str], None],
    ccf_screen: Callable[..., str],
    golden: Callable[[str, str], None],
) -> None:
    configure(CHAIN.format(port=1))
    state(paths, NOW)
    logbook.write(paths.log, logbook.day(NOW))
    screen = ccf_screen("status", columns=columns)
    assert max(map(len, screen.splitlines()[1:])) <= columns
    golden(f"status-{columns}.txt", screen)


def test_down_is_1_and_has_the_same_shape(
    ccf: Run, paths: Paths, configure: Callable[[str], None]
) -> None:
    configure(CHAIN.format(port=1))
    state(paths, NOW)
    ran = ccf("status", "--json")
    assert ran.code == 1
    assert ran.json["running"] is False
    assert [ran.json[key] for key in ("url", "pid", "version", "uptime")] == [None] * 4
    names = [provider["name"] for provider in ran.json["providers"]]
    assert names == ["anthropic-primary", "one", "two"]
    assert ccf("status").err == "`ccfallback serve` starts it\n"


def test_up_is_0_and_says_where(
    ccf: Run, paths: Paths, running: Callable[[str], RunningProxy]
) -> None:
    proxy = running("")
    logbook.write(paths.log, logbook.answered(NOW, "one", 1000.0, request="ccr-1_xyz"))
    ran = ccf("status", "--json")
    assert ran.code == 0
    found = ran.json
    assert (found["running"], found["url"], found["version"]) == (True, proxy.url, __version__)
    assert isinstance(found["pid"], int)
    assert found["uptime"] >= 0
    assert found["requests"][0]["requestId"] == "ccr-1_xyz"
    assert found["requests"][0]["outputTokens"] == 200
    assert "✓ up at " + proxy.url in ccf("status").out


def test_its_providers_are_those_of_breaker_status(
    ccf: Run, paths: Paths, configure: Callable[[str], None]
) -> None:
    configure(CHAIN.format(port=1))
    state(paths, NOW)
    assert (
        ccf("status", "--json").json["providers"]
        == (ccf("breaker", "status", "--json").json["providers"])
    )


def test_another_program_at_the_address_is_not_ccfallback(
    ccf: Run, configure: Callable[[str], None], upstream: Callable[..., Any]
) -> None:
    from ccfallback.simulator import scripted

    stranger = upstream(scripted.html())
    configure(CHAIN.format(port=stranger.url.rpartition(":")[2]))
    assert ccf("status", "--json").json["running"] is False


def test_a_log_of_other_programs_breaks_nothing(
    ccf: Run, paths: Paths, configure: Callable[[str], None], tmp_path: Path
) -> None:
    configure(CHAIN.format(port=1))
    odd = (
        b'{"event":"request.complete","data":7}\n{"event":"request.error","data":{"latency":"x"}}\n'
    )
    logbook.write(paths.log, [odd])
    assert ccf("status").code == 1
    assert len(ccf("status", "--json").json["requests"]) == 2


def test_a_killed_server_hides_none_that_runs(
    ccf: Run, paths: Paths, running: Callable[[str], RunningProxy]
) -> None:
    proxies = [running(""), running("")]
    found = ccf("status", "--json").json
    assert [each["url"] for each in found["servers"]] == [each.url for each in proxies[::-1]]
    document = msgspec.json.decode(paths.server.read_bytes())
    killed = {**document, "url": "http://127.0.0.1:1", "pid": 0}
    paths.server.write_bytes(msgspec.json.encode(killed))
    assert ccf("status", "--json").json["url"] == proxies[0].url
    assert ccf("statusline", "--json", given="{}").json["url"] == proxies[0].url
    assert ccf("env", "--json").json["ANTHROPIC_BASE_URL"] == proxies[0].url
