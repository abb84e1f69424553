"""The commands of an operator while the configuration is broken and the server goes on."""

from collections.abc import Callable

import msgspec
import pytest

from ccfallback.paths import Paths
from tests.cli.conftest import Run
from tests.conftest import RunningProxy

CHAIN = """
[server]
port = 0
[[providers]]
name = "spare"
base_url = "https://spare.example"
api_key = "a-key-of-spare"
[[tokens]]
token = "a-token-that-is-long-enough"
"""

BROKEN = "[server\n"

ON_TOP = "! the configuration is broken; this is the last one that loaded; "
SHOWS_FAULTS = "`ccfallback config validate` lists the faults"

READING = [
    ("status",),
    ("top",),
    ("env",),
    ("breaker", "status"),
    ("providers", "list"),
    ("providers", "show", "spare"),
    ("tokens", "list"),
]


@pytest.fixture
def proxy(running: Callable[[str], RunningProxy], paths: Paths) -> RunningProxy:
    """A server whose configuration was broken after its start."""
    started = running(CHAIN)
    paths.config.write_text(BROKEN)
    return started


def trip(paths: Paths) -> None:
    """Let the spare fail."""
    state = {"consecutiveFailures": 4, "lastFailure": 1, "reason": "529 overloaded_error"}
    paths.state.write_bytes(msgspec.json.encode({"version": 1, "providers": {"spare": state}}))


@pytest.mark.usefixtures("proxy")
@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_commands_that_read_use_the_configuration_of_the_server(
    ccf: Run, command: tuple[str, ...]
) -> None:
    ran = ccf(*command)
    assert ran.code == 0
    first = (ran.err or ran.out).splitlines()
    assert any(line.startswith(ON_TOP) for line in first[:4])
    assert SHOWS_FAULTS in ran.err + ran.out
    assert ccf(*command, "--json").code == 0


def test_they_say_what_they_say_of_a_good_configuration(
    ccf: Run, proxy: RunningProxy, paths: Paths
) -> None:
    trip(paths)
    status = ccf("status", "--json").json
    assert (status["running"], status["url"]) == (True, proxy.url)
    assert status["troubles"] == [ON_TOP.removeprefix("! ") + SHOWS_FAULTS]
    names = ["anthropic-primary", "spare"]
    assert [each["name"] for each in status["providers"]] == names
    assert status["providers"][1]["consecutiveFailures"] == 4
    assert status["providers"] == ccf("breaker", "status", "--json").json["providers"]
    listed = ccf("providers", "list", "--json").json["providers"]
    assert [each["base_url"] for each in listed][1:] == ["https://spare.example"]
    variables = ccf("env", "--json").json
    assert variables["ANTHROPIC_BASE_URL"] == proxy.url
    assert "a-token-that-is-long-enough" in variables["ANTHROPIC_CUSTOM_HEADERS"]


@pytest.mark.usefixtures("proxy")
def test_breakers_are_reset_and_tripped(ccf: Run, paths: Paths) -> None:
    trip(paths)
    assert ccf("breaker", "reset", "--all", "--json").json["reset"] == ["spare"]
    assert ccf("breaker", "trip", "spare", "--for", "1m", "--json").json["tripped"] == ["spare"]
    assert ccf("breaker", "status", "--json").json["providers"][1]["available"] is False
    assert ccf("breaker", "reset", "sprae").err.endswith("did you mean spare?\n")


@pytest.mark.usefixtures("proxy")
def test_run_shows_the_token_that_the_server_wants(ccf: Run) -> None:
    child = "import os; print(os.environ['ANTHROPIC_CUSTOM_HEADERS'])"
    ran = ccf("run", "--", "python3", "-c", child)
    assert ran.out == "x-ccf-api-key: a-token-that-is-long-enough\n"


@pytest.mark.usefixtures("proxy")
def test_without_any_version_the_server_tells_the_names(ccf: Run, paths: Paths) -> None:
    trip(paths)
    for version in paths.config.with_name("config.toml.history").iterdir():
        version.unlink()
    ran = ccf("breaker", "status", "--json")
    assert [each["name"] for each in ran.json["providers"]] == ["anthropic-primary", "spare"]
    assert ran.json["providers"][1]["consecutiveFailures"] == 4
    assert "the server tells only the names of its providers" in ran.err
    assert ccf("providers", "list").code == 0


def test_without_a_server_a_broken_configuration_is_an_error(
    ccf: Run, configure: Callable[[str], None], paths: Paths
) -> None:
    configure(BROKEN)
    for command in (("providers", "list"), ("breaker", "status"), ("env",)):
        ran = ccf(*command)
        assert (ran.code, ran.out) == (1, "")
        assert f"{paths.config}:1: not valid TOML" in ran.err
    assert ccf("status", "--json").json["running"] is False
    trip(paths)
    assert ccf("breaker", "reset", "--all", "--json").json["reset"] == ["spare"]


def test_a_port_that_each_start_picks_has_no_address(
    ccf: Run, configure: Callable[[str], None]
) -> None:
    configure("[server]\nport = 0\n")
    for command in ("status", "top"):
        assert "✗ down: no ccfallback runs\n" in ccf(command).out
    ran = ccf("env")
    assert (ran.code, ran.out) == (1, "")
    assert "each start picks a free port" in ran.err
