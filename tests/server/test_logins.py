"""Credentials that expire in the middle of a conversation, over real sockets."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream
from tests.conftest import RunningProxy
from tests.credentials.machine import FakeMachine, fails

ASK: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "hi"}],
}
CANARY = "canary-of-a-secret-0123456789"

LOGIN = "gcloud auth application-default login"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """This machine, with a home and a PATH of its own."""
    home = tmp_path / "user"
    home.mkdir()
    machine = FakeMachine(home)
    for name, value in machine.environ.items():
        monkeypatch.setenv(name, value)
    return machine


def shown_key(request: Received) -> str:
    return (request.header("authorization") or request.header("x-api-key") or "").removeprefix(
        "Bearer "
    )


def ask(proxy: RunningProxy) -> httpx.Response:
    return httpx.post(f"{proxy.url}/v1/messages", json=ASK, timeout=30)


def write_login(machine: FakeMachine, token_url: str) -> None:
    table = {
        "type": "authorized_user",
        "client_id": "the-client",
        "client_secret": CANARY,
        "refresh_token": CANARY,
        "token_uri": token_url,
        "quota_project_id": "billed",
    }
    text = msgspec.json.encode(table).decode()
    machine.write(".config/gcloud/application_default_credentials.json", text)


def give_tokens() -> list[Script]:
    """Answers with a new token each time."""
    tables = ({"access_token": f"{CANARY}-{n}", "expires_in": 3600} for n in range(1, 9))
    return [scripted.answer(200, msgspec.json.encode(table)) for table in tables]


def config(base_url: str, account: str, other: str) -> str:
    return (
        f'[primary]\ndisabled = true\n\n[[providers]]\nname = "cloud"\nbase_url = "{base_url}"\n'
        f'{account}\n\n[[providers]]\nname = "other"\nbase_url = "{other}"\n'
    )


Start = Callable[..., ScriptedUpstream]
Run = Callable[[str], RunningProxy]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_is_renewed_and_the_turn_stays(
    machine: FakeMachine, upstream: Start, running: Run, status: int
) -> None:
    valid = {f"{CANARY}-1"}
    refused = scripted.error(status, "authentication_error", "The token has expired")

    def route(request: Received) -> Script:
        return scripted.reply("well") if shown_key(request) in valid else refused

    tokens, cloud, other = upstream(*give_tokens()), upstream(refused), upstream(refused)
    cloud.route = route
    write_login(machine, f"{tokens.url}/token")
    proxy = running(config(cloud.url, 'auth = "google"', other.url))
    assert ask(proxy).status_code == 200
    # In the middle of the conversation the token ends before its time.
    valid.clear()
    valid.add(f"{CANARY}-2")
    answer = ask(proxy)
    assert answer.headers.get("x-ccfallback-provider") == "cloud", answer.text
    assert [shown_key(request)[-1] for request in cloud.received] == ["1", "1", "2"]
    assert cloud.received[0].header("x-goog-user-project") == "billed"
    assert other.received == []
    assert len(tokens.received) == 2
    assert [record["data"]["reason"] for record in proxy.events("provider.attempt")] == [
        "first",
        "first",
        "renewed",
    ]
    assert ask(proxy).status_code == 200
    assert len(tokens.received) == 2
    assert_silent(proxy)


def test_a_login_brings_the_project_that_the_configuration_lacks(
    machine: FakeMachine, upstream: Start, running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    tokens, cloud = upstream(*give_tokens()), upstream(scripted.reply("well"))
    write_login(machine, f"{tokens.url}/token")
    account = 'auth = "google"\nformat = "vertex"'
    assert ask(running(config(cloud.url, account, cloud.url))).status_code == 200
    (request,) = cloud.received
    assert "/projects/my-project/locations/global/" in request.target


def test_a_login_that_is_refused_although_it_is_new_costs_one_more_attempt(
    machine: FakeMachine, upstream: Start, running: Run
) -> None:
    refused = scripted.error(403, "permission_error", "no access to the model")
    tokens, cloud = upstream(*give_tokens()), upstream(refused)
    other = upstream(scripted.reply("well"))
    write_login(machine, f"{tokens.url}/token")
    proxy = running(config(cloud.url, 'auth = "google"', other.url))
    answer = ask(proxy)
    assert answer.headers.get("x-ccfallback-provider") == "other", answer.text
    assert len(cloud.received) == len(tokens.received) == 2
    assert_silent(proxy)


def test_a_refusal_because_of_a_wrong_clock_says_so(
    machine: FakeMachine, upstream: Start, running: Run
) -> None:
    late = {"date": "Sat, 01 Jan 2000 00:00:00 GMT"}
    refused = scripted.error(403, "permission_error", "Signature expired", headers=late)
    tokens, cloud, other = upstream(*give_tokens()), upstream(refused), upstream(refused)
    write_login(machine, f"{tokens.url}/token")
    proxy = running(config(cloud.url, 'auth = "google"', other.url))
    assert "min ahead of the provider's" in ask(proxy).text
    reasons = {
        each["data"]["provider"]: each["data"]["reason"]
        for each in proxy.events("provider.failure")
    }
    assert "this machine's clock is" in reasons["cloud"]
    # No key and no login: the clock has nothing to do with it.
    assert reasons["other"] == "403 permission_error"


def test_an_expired_login_is_named_in_the_error_and_in_the_log(
    machine: FakeMachine, upstream: Start, running: Run
) -> None:
    tokens = upstream(
        scripted.answer(400, msgspec.json.encode({"error": "invalid_grant", "why": CANARY}))
    )
    down = scripted.error(500, "api_error")
    cloud, other = upstream(down), upstream(down)
    write_login(machine, f"{tokens.url}/token")
    proxy = running(config(cloud.url, 'auth = "google"', other.url))
    error = ask(proxy).json()["error"]
    assert error["type"] == "fallback_exhausted"
    assert f"run `{LOGIN}`" in error["message"]
    assert LOGIN in proxy.wait_for("provider.failure")["message"]
    assert cloud.received == []
    assert_silent(proxy)


def test_an_expired_aws_login_names_its_profile(
    machine: FakeMachine, upstream: Start, running: Run
) -> None:
    machine.install("aws", fails(f"Error loading SSO Token: Token for {CANARY} does not exist"))
    down = scripted.error(500, "api_error")
    account = 'auth = "aws"\naws = { profile = "work", region = "eu-central-1" }'
    proxy = running(config(upstream(down).url, account, upstream(down).url))
    assert "run `aws sso login --profile work`" in ask(proxy).json()["error"]["message"]
    assert_silent(proxy)


def test_a_bedrock_key_is_made_for_a_native_endpoint(
    machine: FakeMachine, upstream: Start, running: Run
) -> None:
    machine.write(
        ".aws/credentials",
        f"[work]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = {CANARY}\n",
    )
    cloud = upstream(scripted.reply("well"))
    account = 'auth = "aws"\naws = { profile = "work", region = "eu-central-1" }'
    proxy = running(config(cloud.url, account, cloud.url))
    assert ask(proxy).status_code == ask(proxy).status_code == 200
    first, second = (shown_key(request) for request in cloud.received)
    assert first.startswith("bedrock-api-key-")
    assert first == second
    assert_silent(proxy)


def test_a_key_command_that_hangs_costs_its_provider_only(
    machine: FakeMachine, upstream: Start, running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccfallback.server.credentials.LONGEST_WAIT", 0.2)
    code = f"import time; print('{CANARY}', flush=True); time.sleep(3)"
    account = f"api_key_command = {msgspec.json.encode([sys.executable, '-c', code]).decode()}"
    cloud, other = upstream(scripted.reply("no")), upstream(scripted.reply("well"))
    proxy = running(config(cloud.url, account, other.url))
    answer = ask(proxy)
    assert answer.headers.get("x-ccfallback-provider") == "other", answer.text
    assert cloud.received == []
    assert_silent(proxy)


def assert_silent(proxy: RunningProxy) -> None:
    """Neither log nor state has a secret."""
    assert CANARY not in str(proxy.records)
    for path in (proxy.paths.log, proxy.paths.state):
        assert not path.exists() or CANARY not in path.read_text()


def test_a_renewal_that_fails_before_the_end_is_logged(
    machine: FakeMachine, upstream: Start, running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The login is due for renewal at once.
    monkeypatch.setattr("ccfallback.server.credentials.RENEW_BEFORE", 3600)
    monkeypatch.setattr("ccfallback.server.credentials.SHORTEST_USE", 0.0)
    first, _ = give_tokens()[:2]
    tokens = upstream(first, scripted.answer(400, CANARY.encode()))
    cloud = upstream(scripted.reply("well"))
    write_login(machine, f"{tokens.url}/token")
    proxy = running(config(cloud.url, 'auth = "google"', cloud.url))
    assert ask(proxy).status_code == ask(proxy).status_code == 200
    record = proxy.wait_for("credential.failure")
    assert (record["level"], record["data"]["provider"]) == ("warn", "cloud")
    assert LOGIN in record["message"]
    assert ask(proxy).headers.get("x-ccfallback-provider") == "cloud"
    assert_silent(proxy)
