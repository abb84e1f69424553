"""`providers test`: which providers it tests, what it shows, and what it does not change."""

from collections.abc import Callable

import pytest

from ccfallback.paths import Paths
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from tests.cli.conftest import Run

Start = Callable[..., ScriptedUpstream]
Configure = Callable[[str], None]


def table(name: str, upstream: ScriptedUpstream, more: str = "") -> str:
    return (
        f'\n[[providers]]\nname = "{name}"\nbase_url = "{upstream.url}"\n'
        f'api_key = "sk-abcdefghijklmnop"\n{more}\n'
    )


@pytest.fixture
def good(upstream: Start) -> ScriptedUpstream:
    return upstream(scripted.reply("Hi"))


@pytest.fixture
def bad(upstream: Start) -> ScriptedUpstream:
    return upstream(scripted.error(401, "authentication_error", "invalid x-api-key"))


def test_one_row_for_each_model_that_a_mapping_leads_to(
    ccf: Run, configure: Configure, good: ScriptedUpstream
) -> None:
    configure(table("good", good, 'model_mapping = { "*haiku*" = "small", "*" = "large" }'))
    ran = ccf("providers", "test", "good", "--json")
    assert ran.code == 0
    assert ran.json["ok"] is True
    assert [
        (each["provider"], each["model"], each["mapped_to"], each["ok"], each["status"])
        for each in ran.json["results"]
    ] == [
        ("good", "claude-sonnet-5-5", "large", True, 200),
        ("good", "claude-haiku-4-5", "small", True, 200),
    ]
    keys = {"provider", "model", "mapped_to", "ok", "status", "seconds", "message", "hint"}
    assert keys <= set(ran.json["results"][0])


def test_models_may_be_named(ccf: Run, configure: Configure, good: ScriptedUpstream) -> None:
    configure(table("good", good))
    ran = ccf("providers", "test", "good", "--model", "a", "--model", "b", "--json")
    assert [each["model"] for each in ran.json["results"]] == ["a", "b"]


def test_a_failure_fails_with_the_hint_on_stderr(
    ccf: Run, configure: Configure, good: ScriptedUpstream, bad: ScriptedUpstream
) -> None:
    configure(table("good", good) + table("bad", bad))
    ran = ccf("providers", "test", "good", "bad")
    assert ran.code == 1
    assert "✓ 200 answers" in ran.out
    assert "✗ 401 authentication_error: invalid x-api-key" in ran.out
    assert "bad: give it another key: `ccfallback providers set bad --api-key-stdin`" in ran.err
    assert "\r" not in ran.err


def test_a_disabled_provider_is_tested_only_by_name(
    ccf: Run, configure: Configure, good: ScriptedUpstream
) -> None:
    configure("[primary]\ndisabled = true\n" + table("off", good, "disabled = true"))
    assert ccf("providers", "test", "--json").json == {"ok": True, "results": []}
    assert ccf("providers", "test", "off", "--json").json["results"][0]["ok"] is True


def test_the_primary_without_a_login_is_not_a_failure(
    ccf: Run, configure: Configure, good: ScriptedUpstream
) -> None:
    configure(f'[primary]\nbase_url = "{good.url}"\n')
    ran = ccf("providers", "test", "anthropic-primary")
    assert ran.code == 0
    assert "not tested" in ran.out
    assert "ANTHROPIC_API_KEY" in ran.err
    assert not good.received


def test_the_environments_model_is_tested_first(
    ccf: Run, configure: Configure, good: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_MODEL", "mine")
    configure(table("good", good))
    assert ccf("providers", "test", "good", "--json").json["results"][0]["model"] == "mine"


def test_no_breaker_and_no_log_knows_of_it(
    ccf: Run, configure: Configure, bad: ScriptedUpstream, paths: Paths
) -> None:
    configure(table("bad", bad))
    for _ in range(4):
        assert ccf("providers", "test", "bad").code == 1
    assert not paths.state.exists()
    assert not paths.log.exists()


def test_an_unknown_name_is_refused(ccf: Run, two_providers: None) -> None:
    ran = ccf("providers", "test", "onee", "--json")
    assert ran.code == 1
    assert "did you mean one?" in ran.json["error"]["hint"]
