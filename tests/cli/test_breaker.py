from collections.abc import Callable
from time import time
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.paths import Paths
from ccfallback.simulator import scripted
from tests.cli.conftest import NOW as SCREEN_NOW
from tests.cli.conftest import Run
from tests.conftest import Chain

pytestmark = pytest.mark.usefixtures("two_providers")

NOW = round(time() * 1000)
FRESH = {
    "available": True,
    "consecutiveFailures": 0,
    "lastFailure": None,
    "lastSuccess": None,
    "cooldownUntil": None,
    "reason": None,
}
FAILING = {
    "consecutiveFailures": 3,
    "lastFailure": NOW - 1000,
    "lastSuccess": NOW - 7_200_000,
    "cooldownUntil": NOW + 7_190_000,
    "reason": "529 overloaded_error",
}


@pytest.fixture
def failing(paths: Paths) -> None:
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    providers = {
        "one": {**FAILING, "models": {"claude-x": {**FAILING, "consecutiveFailures": 1}}},
        "gone": {"consecutiveFailures": 1, "lastFailure": NOW},
        "two": {"consecutiveFailures": 1, "cooldownUntil": NOW + 10**12},
    }
    paths.state.write_bytes(msgspec.json.encode({"version": 1, "providers": providers}))


def states(paths: Paths) -> Any:
    return msgspec.json.decode(paths.state.read_bytes())["providers"]


def test_unused_providers_are_listed_too(ccf: Run) -> None:
    assert ccf("breaker", "status", "--json").json == {
        "providers": [
            {"name": name, **FRESH, "models": {}} for name in ("anthropic-primary", "one", "two")
        ]
    }


@pytest.mark.usefixtures("failing")
def test_the_json_of_the_status(ccf: Run) -> None:
    (one,) = ccf("breaker", "status", "one", "--json").json["providers"]
    closed = {"available": False, **FAILING}
    assert one == {
        "name": "one",
        **closed,
        "models": {"claude-x": {**closed, "consecutiveFailures": 1}},
    }


@pytest.mark.usefixtures("failing")
def test_a_time_that_a_wrong_clock_wrote_counts_as_not_set(ccf: Run) -> None:
    (two,) = ccf("breaker", "status", "two", "--json").json["providers"]
    assert two["cooldownUntil"] is None
    assert two["available"] is True


@pytest.mark.usefixtures("failing")
def test_the_table_of_the_status(ccf: Run) -> None:
    out = ccf("breaker", "status").out
    assert "in 2 h" in out
    assert "529 overloaded_error" in out
    assert "2 h ago" in out
    assert "claude-x" in out


def test_a_narrow_terminal_has_room_for_the_state(
    paths: Paths, ccf_screen: Callable[..., str]
) -> None:
    tripped = {**FAILING, "cooldownUntil": (SCREEN_NOW + 7200) * 1000}
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    for_model = {"models": {"claude-opus-5-5-20260101": tripped}}
    providers = {"one": tripped, "two": for_model}
    paths.state.write_bytes(msgspec.json.encode({"version": 1, "providers": providers}))
    for command in (("breaker", "status"), ("providers", "list"), ("status",)):
        screen = ccf_screen(*command, columns=80)
        assert "cooling down, 2 h" in screen
        assert "1 model cooling down" in screen
        assert max(map(len, screen.splitlines())) <= 80


def test_an_unknown_name_fails(ccf: Run) -> None:
    for verb in ("status", "reset"):
        ran = ccf("breaker", verb, "oen")
        assert ran.code == 1
        assert "did you mean one?" in ran.err


@pytest.mark.usefixtures("failing")
def test_a_reset_clears_one_provider_and_is_logged(ccf: Run, paths: Paths) -> None:
    ran = ccf("breaker", "reset", "one", "--json")
    assert ran.json == {"reset": ["one"], "unchanged": []}
    assert set(states(paths)) == {"one", "gone", "two"}
    assert ccf("breaker", "status", "one", "--json").json["providers"] == [
        {"name": "one", **FRESH, "lastSuccess": FAILING["lastSuccess"], "models": {}}
    ]
    (line,) = paths.log.read_bytes().splitlines()
    record = msgspec.json.decode(line)
    assert record["event"] == "circuit_breaker.reset"
    assert record["level"] == "info"
    assert record["data"] == {"provider": "one", "by": "cli"}
    again = ccf("breaker", "reset", "one", "--json")
    assert (again.code, again.json) == (0, {"reset": [], "unchanged": ["one"]})
    assert "nothing to reset" in again.err
    assert paths.log.read_bytes().count(b"\n") == 1


@pytest.mark.usefixtures("failing")
def test_a_provider_that_was_removed_can_be_reset(ccf: Run, paths: Paths) -> None:
    assert ccf("breaker", "reset", "gone").code == 0
    assert "gone" not in states(paths)


@pytest.mark.usefixtures("failing")
def test_all_resets_every_provider(ccf: Run, paths: Paths) -> None:
    assert ccf("breaker", "reset", "--all", "--json").json == {
        "reset": ["one", "two", "gone"],
        "unchanged": ["anthropic-primary"],
    }
    assert set(states(paths)) == {"one"}


def test_a_reset_of_all_leaves_alone_what_has_not_failed(ccf: Run, paths: Paths) -> None:
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    answered = {"consecutiveFailures": 0, "lastSuccess": NOW - 5000}
    paths.state.write_bytes(
        msgspec.json.encode({"version": 1, "providers": {"one": answered, "two": FAILING}})
    )
    ran = ccf("breaker", "reset", "--all", "--json")
    assert "one" in ran.json["unchanged"]
    assert states(paths)["one"] == answered


@pytest.mark.parametrize("arguments", [(), ("one", "--all")])
def test_reset_needs_names_or_all(ccf: Run, arguments: tuple[str, ...]) -> None:
    assert ccf("breaker", "reset", *arguments).code == 2


def test_a_corrupt_state_is_moved_and_reported(ccf: Run, paths: Paths) -> None:
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    paths.state.write_text("{")
    ran = ccf("breaker", "status", "--json")
    assert ran.code == 0
    assert len(ran.json["providers"]) == 3
    assert "corrupt" in ran.err


def test_a_trip_puts_a_provider_in_cooldown_and_is_logged(ccf: Run, paths: Paths) -> None:
    now = round(time() * 1000)
    ran = ccf("breaker", "trip", "one", "--for", "10m", "--json")
    until = ran.json["cooldownUntil"]
    assert ran.json == {"tripped": ["one"], "cooldownUntil": until}
    assert until == pytest.approx(now + 600_000, abs=60_000)
    (one,) = ccf("breaker", "status", "one", "--json").json["providers"]
    assert (one["available"], one["cooldownUntil"]) == (False, until)
    assert one["reason"] == "put in cooldown by hand"
    assert one["consecutiveFailures"] == 0
    table = ccf("breaker", "status", "one").out
    assert "put in cooldown by hand" in table
    assert "never: " not in table
    record = msgspec.json.decode(paths.log.read_bytes())
    assert record["event"] == "circuit_breaker.cooldown"
    assert record["data"]["by"] == "cli"
    assert ccf("breaker", "reset", "one").code == 0
    (one,) = ccf("breaker", "status", "one", "--json").json["providers"]
    assert one["available"] is True


def test_a_trip_that_is_longer_than_a_cooldown_may_last_is_refused(ccf: Run, paths: Paths) -> None:
    ran = ccf("breaker", "trip", "one", "--for", "7h", "--json")
    assert ran.code == 1
    assert "7 h is longer than a cooldown may last (6 h" in ran.json["error"]["message"]
    assert "providers disable one" in ran.err
    assert not paths.state.exists()


@pytest.mark.parametrize("length", ["soon", "0", "-5m"])
def test_the_length_of_a_trip_is_a_positive_duration(ccf: Run, length: str) -> None:
    assert ccf("breaker", "trip", "one", f"--for={length}").code == 2


def test_a_trip_needs_names_and_a_length(ccf: Run) -> None:
    assert ccf("breaker", "trip", "one").code == 2
    assert ccf("breaker", "trip", "--for", "1m").code == 2
    assert ccf("breaker", "trip", "oen", "--for", "1m").code == 1


def test_the_only_provider_is_used_although_it_was_tripped(
    ccf: Run, configure: Callable[[str], None]
) -> None:
    configure("")
    assert "used all the same" in ccf("breaker", "trip", "anthropic-primary", "--for", "1m").err


def test_a_trip_applies_to_the_next_request(ccf: Run, chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("primary"), scripted.reply("spare"))
    ask = {"model": "claude-x", "max_tokens": 10, "messages": []}
    for provider in ("anthropic-primary", "fallback1"):
        response = httpx.post(f"{running.url}/v1/messages", json=ask, timeout=30)
        assert response.headers["x-ccfallback-provider"] == provider
        assert ccf("breaker", "trip", "anthropic-primary", "--for", "10m").code == 0
    skip = running.proxy.events("circuit_breaker.skip")[0]["data"]
    assert skip["reason"] == "put in cooldown by hand"
