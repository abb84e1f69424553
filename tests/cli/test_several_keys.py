"""Several keys of one provider, as the commands set, show and test them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ccfallback.paths import Paths
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from tests.cli.conftest import Run
from tests.conftest import RunningProxy

FIRST, SECOND = "not-the-first-key-aaaa", "not-the-second-key-bbb"
ADD = ("providers", "add", "spare", "--base-url", "https://spare.example")


def shown(ccf: Run) -> dict[str, Any]:
    provider: dict[str, Any] = ccf("providers", "show", "spare", "--json", "--show-keys").json[
        "provider"
    ]
    return {key: provider[key] for key in ("api_key", "api_keys", "api_key_env")}


def test_flags_are_repeated_for_several_keys(ccf: Run) -> None:
    assert ccf(*ADD, "--api-key", FIRST, "--api-key", f" {SECOND}\n").code == 0
    assert shown(ccf) == {"api_key": None, "api_keys": [FIRST, SECOND], "api_key_env": None}
    assert ccf("providers", "set", "spare", "--api-key-env", "A", "--api-key-env", "B").code == 0
    assert shown(ccf) == {"api_key": None, "api_keys": None, "api_key_env": ["A", "B"]}
    assert ccf("providers", "set", "spare", "--api-key", FIRST).code == 0
    assert shown(ccf) == {"api_key": FIRST, "api_keys": None, "api_key_env": None}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--api-key", FIRST, "--api-key", FIRST), "without one twice"),
        (("--api-key-env", "A", "--api-key-env", "not a name"), "environment variable"),
        (("--api-key", FIRST, "--api-key-env", "A"), "give one of --api-key"),
    ],
)
def test_keys_that_cannot_be(ccf: Run, given: tuple[str, ...], said: str) -> None:
    ran = ccf(*ADD, *given)
    assert ran.code != 0
    assert said in ran.err
    assert FIRST not in ran.err


def test_an_export_comes_back_with_all_keys(ccf: Run, tmp_path: Path) -> None:
    ccf(*ADD, "--api-key", FIRST, "--api-key", SECOND)
    ccf("providers", "add", "other", "--base-url", "https://o.example", "--api-key-env", "A")
    ccf("providers", "set", "other", "--api-key-env", "A", "--api-key-env", "B")
    before = ccf("config", "export").json
    assert before["providers"][0]["api_keys"] == [FIRST, SECOND]
    assert before["providers"][1]["api_key_env"] == ["A", "B"]
    backup = str(tmp_path / "backup.json")
    ccf("config", "export", backup)
    ccf("config", "reset")
    ccf("config", "import", backup)
    assert ccf("config", "export").json == before


def test_lists_mask_each_key(ccf: Run) -> None:
    ccf(*ADD, "--api-key", FIRST, "--api-key", SECOND)
    masked = ["not-t…aaaa", "not-t…-bbb"]
    assert ccf("providers", "list", "--json").json["providers"][1]["api_keys"] == masked
    assert ", ".join(masked) in ccf("providers", "list").out
    assert f"{FIRST}, {SECOND}" in ccf("providers", "list", "--show-keys").out
    ccf("providers", "set", "spare", "--api-key-env", "A", "--api-key-env", "B")
    assert "$A, $B" in ccf("providers", "list").out


@pytest.fixture
def lived(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> RunningProxy:
    """A proxy whose first key is used up for an hour, and a request that found out."""
    there = upstream(scripted.reply("well"))
    used_up = scripted.error(429, "rate_limit_error", headers={"retry-after": "3600"})
    well = scripted.reply("well")
    there.route = lambda request: used_up if request.header("x-api-key") == FIRST else well
    proxy = running(
        '[primary]\ndisabled = true\n\n[[providers]]\nname = "spare"\n'
        f'base_url = "{there.url}"\napi_keys = ["{FIRST}", "{SECOND}"]\n'
    )
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    assert httpx.post(f"{proxy.url}/v1/messages", json=body).status_code == 200
    # At its end it has written its log.
    proxy.stop()
    return proxy


def test_the_health_of_each_key_is_shown(ccf: Run, lived: RunningProxy) -> None:
    spare = ccf("breaker", "status", "spare", "--json").json["providers"][0]
    assert spare["available"] is True
    assert [(each["key"], each["available"]) for each in spare["keys"]] == [(1, False), (2, True)]
    table = ccf("breaker", "status", "spare").out
    assert [line.split()[:4] for line in table.splitlines()[-2:]] == [
        ["key", "1", "cooling", "down"],
        ["key", "2", "ready", "0"],
    ]
    assert "key 1" in ccf("providers", "show", "spare").out
    assert ccf("status", "--json").json["providers"][1]["available"] is True
    assert "no provider is cooling down" in ccf("doctor").out


def test_a_reset_is_for_all_keys(ccf: Run, lived: RunningProxy) -> None:
    assert ccf("breaker", "reset", "spare", "--json").json["reset"] == ["spare"]
    keys = ccf("breaker", "status", "spare", "--json").json["providers"][0]["keys"]
    assert all(each["available"] for each in keys)


def test_a_cooldown_by_hand_is_for_all_keys(ccf: Run, lived: RunningProxy) -> None:
    assert ccf("breaker", "trip", "spare", "--for", "10m").code == 0
    spare = ccf("breaker", "status", "spare", "--json").json["providers"][0]
    assert spare["available"] is False
    assert not any(each["available"] for each in spare["keys"])


def test_each_key_is_tested(ccf: Run, lived: RunningProxy) -> None:
    ran = ccf("providers", "test", "spare", "--model", "m", "--json")
    found = [(each["provider"], each["key"], each["status"]) for each in ran.json["results"]]
    assert found == [("spare", 1, 429), ("spare", 2, 200)]
    assert ran.code == 1
    assert "spare key 1: " in ran.err


def test_explain_tells_the_keys_apart(ccf: Run, lived: RunningProxy) -> None:
    story = ccf("explain").out
    assert "spare key 1" in story
    assert "tried with the next key" in story
    candidates = ccf("explain", "--json").json["request"]["candidates"]
    found = [(each["provider"], each["key"], each["standing"]) for each in candidates]
    assert found[1:] == [("spare", 1, "failed"), ("spare", 2, "answered")]
    assert candidates[1]["set"]["reason"] == "429 rate_limit_error"


def test_doctor_warns_of_one_key_that_is_missing(
    ccf: Run, configure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(
        '[[providers]]\nname = "spare"\nbase_url = "https://a.example"\napi_key_env = ["A", "B"]\n'
    )

    def finding() -> tuple[str, str]:
        checks = ccf("doctor", "--json").json["checks"]
        first = next(each for each in checks if each["id"] == "keys" and not each["ok"])
        return first["severity"], first["message"]

    assert finding() == ("error", "spare key 1 has no key: the environment variable A is not set")
    monkeypatch.setenv("A", FIRST)
    assert finding() == ("warning", "spare key 2 has no key: the environment variable B is not set")


def test_a_service_sees_none_of_the_variables(
    ccf: Run, configure: Callable[[str], None], paths: Paths
) -> None:
    configure(
        '[[providers]]\nname = "spare"\nbase_url = "https://a.example"\napi_key_env = ["A", "B"]\n'
    )
    ran = ccf("service", "install", "--print")
    assert "no key from A and B for spare" in ran.err
