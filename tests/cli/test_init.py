"""`init`: what it proposes, what it adds, and what it leaves alone."""

import stat
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ccfallback.paths import Paths
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from tests.cli.conftest import Run
from tests.cli.terminal import started, terminal
from tests.cli.test_discover import CANARY, Machine, chain, machine
from tests.conftest import RunningProxy

__all__ = ["chain", "machine"]

Start = Callable[..., ScriptedUpstream]


def write_router(machine: Machine, **urls: str) -> None:
    """A file of claude-code-router with a provider for each address."""
    providers = [
        {"name": name, "api_base_url": f"{url}/v1/messages", "api_key": CANARY, "models": ["m"],
         "transformer": {"use": ["Anthropic"]}}
        for name, url in urls.items()
    ]  # fmt: skip
    router = {"default": ",".join([next(iter(urls)), "m"])}
    machine.write(".claude-code-router/config.json", {"Providers": providers, "Router": router})


@pytest.fixture
def good(upstream: Start) -> ScriptedUpstream:
    return upstream(scripted.reply("Hi"))


@pytest.fixture
def bad(upstream: Start) -> ScriptedUpstream:
    return upstream(scripted.error(401, "authentication_error", "invalid x-api-key"))


def test_what_answers_is_added_and_what_does_not_is_named(
    ccf: Run,
    machine: Machine,
    chain: Callable[[], list[Any]],
    paths: Paths,
    good: ScriptedUpstream,
    bad: ScriptedUpstream,
) -> None:
    write_router(machine, bad=bad.url, good=good.url)
    ran = ccf("init", "--yes")
    assert ran.code == 0, ran.err
    assert [each.name for each in chain()] == ["good"]
    assert "✗ bad: 401" in ran.err
    assert "✓ good: answers" in ran.err
    assert "undo: `ccfallback config rollback`" in ran.err
    assert ran.err.splitlines()[-1] == "start it with `ccfallback serve --background`"
    assert CANARY not in ran.out + ran.err
    assert stat.S_IMODE(paths.config.stat().st_mode) == 0o600
    assert len(good.received) == len(bad.received) == 1


def test_the_json_says_the_same(
    ccf: Run, machine: Machine, good: ScriptedUpstream, bad: ScriptedUpstream
) -> None:
    write_router(machine, bad=bad.url, good=good.url)
    machine.install("claude")
    ran = ccf("init", "--yes", "--json")
    assert [(each["name"], each["ok"]) for each in ran.json["candidates"]] == [
        ("bad", False),
        ("good", True),
    ]
    assert (ran.json["added"], ran.json["start"]) == (["good"], "ccfallback run")
    assert ran.json["candidates"][0]["hint"]
    assert CANARY not in ran.out


@pytest.mark.parametrize(
    ("program", "start"), [("claude", "ccfallback run"), ("other", 'eval "$(ccfallback env)"')]
)
def test_a_server_that_runs_need_not_be_started(
    ccf: Run,
    machine: Machine,
    paths: Paths,
    running: Callable[[str], RunningProxy],
    program: str,
    start: str,
) -> None:
    machine.install(program)
    proxy = running("")
    ran = ccf("init")
    said = f"the server runs at {proxy.url}; send Claude Code there with `{start}`"
    assert ran.err.splitlines()[-1] == said
    assert ccf("init", "--json").json["start"] == start


def test_a_pipe_without_yes_gets_a_proposal_only(
    ccf: Run, machine: Machine, paths: Paths, good: ScriptedUpstream
) -> None:
    write_router(machine, good=good.url)
    ran = ccf("init")
    assert ran.code == 0
    assert "+  2  good" in ran.out
    assert "claude-code-router's config.json" in ran.out
    assert "`ccfallback init --yes` tests and adds them" in ran.err
    assert not paths.config.exists()
    assert not good.received
    assert ccf("init", "--json").json["added"] == []


def test_nothing_of_a_configuration_is_changed(
    ccf: Run, machine: Machine, paths: Paths, good: ScriptedUpstream, upstream: Start
) -> None:
    other = upstream(scripted.reply("Hi"))
    paths.config.parent.mkdir(parents=True)
    before = f'# mine\n[[providers]]\nname = "good"\nbase_url = "{good.url}"\nretry = 1\n'
    paths.config.write_text(before)
    write_router(machine, good=good.url, more=other.url)
    ran = ccf("init", "--yes")
    assert "more added to the fallbacks that you have" in ran.err
    assert paths.config.read_text().startswith(before)
    assert not good.received
    again = ccf("init", "--yes")
    assert "nothing new was found; the chain stays anthropic-primary, good, more" in again.err
    ccf("config", "rollback")
    assert paths.config.read_text() == before


def test_a_taken_name_gets_a_number(
    ccf: Run, machine: Machine, chain: Callable[[], list[Any]], good: ScriptedUpstream
) -> None:
    ccf("providers", "add", "good", "--base-url", "http://other.test")
    write_router(machine, good=good.url)
    ccf("init", "--yes")
    assert [each.name for each in chain()] == ["good", "good-2"]


def test_without_a_test_nothing_is_sent(
    ccf: Run, machine: Machine, chain: Callable[[], list[Any]], bad: ScriptedUpstream
) -> None:
    write_router(machine, bad=bad.url)
    machine.set(DEEPSEEK_API_KEY=CANARY)
    ran = ccf("init", "--yes", "--no-test")
    assert ran.code == 0
    # A key of the environment stays there.
    keys = {each.name: each.key.env for each in chain()}
    assert keys == {"bad": None, "deepseek": "DEEPSEEK_API_KEY"}
    assert not bad.received


def test_what_is_incomplete_or_unreadable_is_said(ccf: Run, machine: Machine) -> None:
    machine.write(".cc-switch/config.json", "{{{")
    machine.write(".azure/azureProfile.json", '{"subscriptions": [{"id": "x"}]}')
    machine.set(CLAUDE_CODE_USE_FOUNDRY="1")
    ran = ccf("init", "--json", "--yes")
    notes = "\n".join(ran.json["notes"])
    assert "config.json can't be used" in notes
    assert "- foundry: " in notes
    assert ran.json["added"] == []


def test_a_machine_with_nothing_gets_a_way_on(ccf: Run, machine: Machine, paths: Paths) -> None:
    ran = ccf("init", "--yes")
    assert (ran.code, ran.out) == (0, "")
    assert "`ccfallback providers presets`" in ran.err
    assert not paths.config.exists()


@pytest.mark.usefixtures("traced_processes")
@pytest.mark.parametrize(("key", "names"), [("y\r", ["good"]), ("\r", ["good"]), ("n\r", [])])
def test_on_a_terminal_it_asks(
    machine: Machine,
    chain: Callable[[], list[Any]],
    good: ScriptedUpstream,
    key: str,
    names: list[str],
) -> None:
    write_router(machine, good=good.url)
    machine.set(HOME=str(machine.home))
    with terminal() as screen, started(screen, "init") as process:
        screen.wait_for(lambda shown: "Test 1 provider? [Y/n]" in shown)
        screen.press(key)
        screen.wait_for(lambda shown: "start it with" in shown)
        assert process.wait(20) == 0
    assert [each.name for each in chain()] == names


def test_a_broken_configuration_is_an_error(ccf: Run, machine: Machine, paths: Paths) -> None:
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text("[[[")
    ran = ccf("init", "--yes", "--json")
    assert ran.code == 1
    assert msgspec.json.decode(ran.out)["error"]["hint"]
