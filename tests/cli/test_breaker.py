from time import time
from typing import Any

import msgspec
import pytest

from ccfallback.store.paths import Paths
from tests.cli.conftest import Run

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


def test_providers_that_were_never_used_are_there_too(ccf: Run) -> None:
    assert ccf("breaker", "status", "--json").json == {
        "providers": [
            {"name": name, **FRESH, "models": {}} for name in ("anthropic-primary", "one", "two")
        ]
    }


@pytest.mark.usefixtures("failing")
def test_the_status_has_the_promised_shape(ccf: Run) -> None:
    (one,) = ccf("breaker", "status", "one", "--json").json["providers"]
    closed = {"available": False, **FAILING}
    assert one == {
        "name": "one",
        **closed,
        "models": {"claude-x": {**closed, "consecutiveFailures": 1}},
    }


@pytest.mark.usefixtures("failing")
def test_a_time_that_no_clock_of_ours_wrote_counts_as_not_set(ccf: Run) -> None:
    (two,) = ccf("breaker", "status", "two", "--json").json["providers"]
    assert two["cooldownUntil"] is None
    assert two["available"] is True


@pytest.mark.usefixtures("failing")
def test_the_status_for_people(ccf: Run) -> None:
    out = ccf("breaker", "status").out
    assert "back in 2 h" in out
    assert "529 overloaded_error" in out
    assert "2 h ago" in out
    assert "claude-x" in out


def test_an_unknown_name_fails(ccf: Run) -> None:
    for verb in ("status", "reset"):
        ran = ccf("breaker", verb, "oen")
        assert ran.code == 1
        assert "did you mean one?" in ran.err


@pytest.mark.usefixtures("failing")
def test_a_reset_forgets_one_and_is_logged(ccf: Run, paths: Paths) -> None:
    ran = ccf("breaker", "reset", "one", "--json")
    assert ran.json == {"reset": ["one"], "unchanged": []}
    assert set(states(paths)) == {"gone", "two"}
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
def test_a_provider_that_left_the_chain_can_be_reset(ccf: Run, paths: Paths) -> None:
    assert ccf("breaker", "reset", "gone").code == 0
    assert "gone" not in states(paths)


@pytest.mark.usefixtures("failing")
def test_all_means_all(ccf: Run, paths: Paths) -> None:
    assert ccf("breaker", "reset", "--all").code == 0
    assert states(paths) == {}


@pytest.mark.parametrize("arguments", [(), ("one", "--all")])
def test_it_must_be_said_whom_to_reset(ccf: Run, arguments: tuple[str, ...]) -> None:
    assert ccf("breaker", "reset", *arguments).code == 2


def test_a_corrupt_state_is_set_aside_and_said(ccf: Run, paths: Paths) -> None:
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    paths.state.write_text("{")
    ran = ccf("breaker", "status", "--json")
    assert ran.code == 0
    assert len(ran.json["providers"]) == 3
    assert "corrupt" in ran.err
