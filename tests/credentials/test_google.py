"""Application Default Credentials of Google, and logins to Azure."""

import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from msgspec.structs import replace

from ccfallback.config.model import Google, KeySource, Provider
from ccfallback.credentials import KeyUnavailable, Machine
from ccfallback.credentials.fetch import Fetcher, FetchFailed, Reply
from ccfallback.credentials.google import find_project
from ccfallback.redact import Secret
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from ccfallback.wire.credential import Credential
from tests.credentials.machine import NOW, FakeMachine, fails, json_reply, prints

GOOGLE = Provider(
    name="g", base_url="https://g.test", auth="google", google=Google(project="my-project")
)
AZURE = Provider(name="az", base_url="https://az.test", auth="azure")
USER = {
    "type": "authorized_user",
    "client_id": "the-client",
    "client_secret": "canary-secret",
    "refresh_token": "canary-refresh",
}
LOGIN = "gcloud auth application-default login"


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    home = tmp_path / "user"
    home.mkdir()
    return FakeMachine(home)


def write_file(machine: FakeMachine, **more: Any) -> Path:
    text = msgspec.json.encode({**USER, **more}).decode()
    return machine.write(".config/gcloud/application_default_credentials.json", text)


def give_token(_method: str, _url: str, _headers: Mapping[str, str], _body: bytes) -> Reply:
    return json_reply({"access_token": "new-token", "expires_in": 3599, "token_type": "Bearer"})


def test_a_users_login_is_refreshed_by_http(machine: FakeMachine) -> None:
    asked: list[tuple[str, str, bytes]] = []

    def answer(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        asked.append((method, url, body))
        assert headers["Content-Type"] == "application/x-www-form-urlencoded"
        return give_token(method, url, headers, body)

    machine.answer = answer
    write_file(machine, quota_project_id="billed")
    found = machine.resolve(GOOGLE)
    assert found.credential == Credential(
        "new-token", is_token=True, headers={"x-goog-user-project": "billed"}
    )
    assert found.expires_at == NOW + 3599
    ((method, url, body),) = asked
    assert (method, url) == ("POST", "https://oauth2.googleapis.com/token")
    assert parse_qs(body.decode()) == {
        "grant_type": ["refresh_token"],
        "client_id": ["the-client"],
        "client_secret": ["canary-secret"],
        "refresh_token": ["canary-refresh"],
    }


def test_the_named_file_has_priority(machine: FakeMachine) -> None:
    write_file(machine)
    path = machine.write("a.json", msgspec.json.encode({**USER, "token_uri": "https://t"}).decode())
    machine.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(path)
    machine.answer = give_token
    machine.resolve(GOOGLE)
    assert machine.requests == [("POST", "https://t")]
    path.unlink()
    with pytest.raises(KeyUnavailable, match="does not exist"):
        machine.resolve(GOOGLE)


@pytest.mark.parametrize(
    ("reply", "said", "command"),
    [
        (Reply(400, b'{"error": "invalid_grant", "x": "canary"}'), f"run `{LOGIN}`", LOGIN),
        (Reply(401, b""), f"run `{LOGIN}`", LOGIN),
        (Reply(503, b"canary"), "answered 503", ""),
        (Reply(200, b"canary"), "something else than a JSON object", ""),
        (Reply(200, b"{}"), "neither a token", ""),
    ],
)
def test_what_the_token_endpoint_says_is_named_and_not_quoted(
    machine: FakeMachine, reply: Reply, said: str, command: str
) -> None:
    write_file(machine)
    machine.answer = lambda *_: reply
    with pytest.raises(KeyUnavailable, match=said) as caught:
        machine.resolve(GOOGLE)
    assert caught.value.command == command
    assert "canary" not in str(caught.value)


def test_a_token_endpoint_out_of_reach_is_no_expired_login(machine: FakeMachine) -> None:
    write_file(machine)
    with pytest.raises(KeyUnavailable, match="gave no token: no network") as caught:
        machine.resolve(GOOGLE)
    assert caught.value.command == ""


@pytest.mark.parametrize("text", ["", "{", "[]", "canary"])
def test_a_malformed_file_is_named_and_not_quoted(machine: FakeMachine, text: str) -> None:
    machine.write(".config/gcloud/application_default_credentials.json", text)
    with pytest.raises(KeyUnavailable, match=r"application_default_credentials\.json") as caught:
        machine.resolve(GOOGLE)
    assert "canary" not in str(caught.value)


def test_every_other_file_is_left_to_gcloud(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if google-auth were not installed.
    monkeypatch.setitem(sys.modules, "google.auth", None)
    write_file(machine, type="service_account")
    with pytest.raises(KeyUnavailable, match="'service_account' need gcloud"):
        machine.resolve(GOOGLE)
    machine.install("gcloud", "print('token-of-gcloud')")
    found = machine.resolve(GOOGLE)
    assert (found.credential.key, found.expires_at) == ("token-of-gcloud", NOW + 1800)
    assert machine.calls("gcloud") == ["auth application-default print-access-token --quiet"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (fails("Reauthentication failed. Please run: $ gcloud auth login canary"), f"`{LOGIN}`"),
        (fails("canary", 2), "exit status 2"),
        ("print('two words canary')", "something else than a token"),
        ("print('')", "something else than a token"),
        ("sys.stdout.buffer.write(b'\\xff\\x00')", "something else than a token"),
    ],
)
def test_failures_of_gcloud(machine: FakeMachine, code: str, said: str) -> None:
    machine.install("gcloud", code)
    with pytest.raises(KeyUnavailable, match=said) as caught:
        machine.resolve(GOOGLE)
    assert "canary" not in str(caught.value)


def serve_metadata(_method: str, url: str, headers: Mapping[str, str], _body: bytes) -> Reply:
    assert headers["Metadata-Flavor"] == "Google"
    match url:
        case "http://127.0.0.1:9/computeMetadata/v1/instance/service-accounts/default/token":
            return json_reply({"access_token": "token-of-machine", "expires_in": 1000})
        case "http://127.0.0.1:9/computeMetadata/v1/project/project-id":
            return Reply(200, b"project-of-machine")
    return Reply(404, b"")


def test_the_metadata_server(machine: FakeMachine) -> None:
    with pytest.raises(KeyUnavailable, match=f"run `{LOGIN}`"):
        machine.resolve(GOOGLE)
    machine.environ["GCE_METADATA_HOST"] = "127.0.0.1:9"
    machine.answer = serve_metadata
    found = machine.resolve(GOOGLE)
    assert (found.credential.key, found.expires_at) == ("token-of-machine", NOW + 1000)


def test_the_project(machine: FakeMachine) -> None:
    def project() -> str | None:
        return find_project(Machine(machine.environ, machine.fetch, lambda: NOW), on_google=True)

    assert project() is None
    machine.environ["GCE_METADATA_HOST"] = "127.0.0.1:9"
    machine.answer = serve_metadata
    assert project() == "project-of-machine"
    machine.install("gcloud", "print('project-of-gcloud')")
    assert project() == "project-of-gcloud"
    write_file(machine, quota_project_id="project-of-file")
    assert project() == "project-of-file"
    machine.environ["GOOGLE_CLOUD_PROJECT"] = "project-of-variable"
    assert project() == "project-of-variable"
    machine.environ["GOOGLE_CLOUD_PROJECT"] = "../no/project"
    assert project() == "project-of-file"


@pytest.mark.parametrize(
    ("configured", "base_url", "found"),
    [
        (None, "https://g.test", "p-1"),
        ("mine", "https://g.test", ""),
        (None, "https://g.test/v1/projects/p/locations/global", ""),
    ],
)
def test_the_project_is_looked_up_only_if_the_configuration_has_none(
    machine: FakeMachine, configured: str | None, base_url: str, found: str
) -> None:
    machine.environ["GOOGLE_CLOUD_PROJECT"] = "p-1"
    write_file(machine)
    machine.answer = give_token
    google = replace(GOOGLE.google, project=configured)
    asked = replace(GOOGLE, google=google, base_url=base_url)
    assert machine.resolve(asked).credential.project == found


def test_a_login_to_azure(machine: FakeMachine) -> None:
    machine.install("az", prints({"accessToken": "token-of-az", "expires_on": NOW + 4000}))
    found = machine.resolve(AZURE)
    assert found.credential == Credential("token-of-az", is_token=True)
    assert found.expires_at == NOW + 4000
    (call,) = machine.calls("az")
    assert call == (
        "account get-access-token --scope https://cognitiveservices.azure.com/.default -o json"
    )


def test_a_key_has_priority_over_a_login(machine: FakeMachine) -> None:
    asked = Provider(
        name="az", base_url="https://a.test", auth="azure", key=KeySource(literal=Secret("k-1"))
    )
    assert machine.resolve(asked).credential == Credential("k-1")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (fails("Please run 'az login' to setup account. canary"), "run `az login`"),
        (fails("AADSTS70043: The refresh token has expired canary"), "run `az login`"),
        (fails("canary", 4), "exit status 4"),
        ("print('canary')", "something else than a JSON object"),
    ],
)
def test_failures_of_az(machine: FakeMachine, code: str, said: str) -> None:
    machine.install("az", code)
    with pytest.raises(KeyUnavailable, match=said) as caught:
        machine.resolve(AZURE)
    assert "canary" not in str(caught.value)


def test_azure_without_its_program(machine: FakeMachine) -> None:
    with pytest.raises(KeyUnavailable, match="az is not installed") as caught:
        machine.resolve(AZURE)
    assert caught.value.command == "az login"


def test_a_fetch_says_nothing_of_its_target() -> None:
    assert "canary" not in repr(Reply(200, b"canary"))
    assert str(FetchFailed("no answer")) == "no answer"


@pytest.mark.parametrize(
    "script",
    [
        scripted.hang,
        scripted.raw(b"HTTP/1.1 200 OK\r\nx: ", b"y", pause=0.02, forever=True),
        scripted.raw(
            b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n", b"y", pause=0.02, forever=True
        ),
    ],
    ids=["nothing", "slow headers", "slow body"],
)
def test_a_server_that_never_answers_is_given_up(script: scripted.Script) -> None:
    fetch = Fetcher(ssl.create_default_context, lambda _url: None)
    with ScriptedUpstream([script]) as server, pytest.raises(FetchFailed, match=r"within|too slow"):
        fetch("GET", f"{server.url}/token", {}, seconds=0.3)
