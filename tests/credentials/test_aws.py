"""Credentials of AWS: the order of the sources, and what is said if none has any."""

import base64
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest

from ccfallback.config.model import Aws, KeySource, Provider
from ccfallback.credentials import KeyUnavailable, describe_login
from ccfallback.credentials.aws import region_here
from ccfallback.credentials.fetch import FetchFailed, Reply
from ccfallback.wire.credential import AwsKeys
from tests.credentials.machine import NOW, FakeMachine, fails, json_reply, prints

SECRET = "canary-secret"
STATIC = f"aws_access_key_id = AKIDFILE\naws_secret_access_key = {SECRET}\n"
TEMPORARY = {
    "Version": 1,
    "AccessKeyId": "AKIDCLI",
    "SecretAccessKey": SECRET,
    "SessionToken": "canary-session",
    "Expiration": "2026-11-28T13:00:00Z",
}
END = NOW + 3600


def provider(**aws: Any) -> Provider:
    aws = {"sign": "sigv4", **aws}
    return Provider(name="aws", base_url="https://a.test", auth="aws", aws=Aws(**aws))


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    home = tmp_path / "user"
    home.mkdir()
    return FakeMachine(home)


def key_id(machine: FakeMachine, asked: Provider) -> str:
    keys = machine.resolve(asked).credential.aws
    assert keys is not None
    return keys.access_key_id


def test_the_order_of_the_sources(machine: FakeMachine) -> None:
    """Each source that is taken away lets the next one answer."""
    machine.environ |= {
        "AWS_BEARER_TOKEN_BEDROCK": "bedrock-key",
        "AWS_ACCESS_KEY_ID": "AKIDENV",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "eu-central-1",
    }
    machine.write(".aws/credentials", f"[work]\n{STATIC}")
    machine.install("process", prints({**TEMPORARY, "AccessKeyId": "AKIDPROCESS"}))
    machine.install("aws", prints(TEMPORARY))
    asked = provider(profile="work")
    bearer = machine.resolve(provider(profile="work", sign="bearer"))
    assert (bearer.credential.key, bearer.source) == ("bedrock-key", "$AWS_BEARER_TOKEN_BEDROCK")
    assert key_id(machine, asked) == "AKIDENV"
    del machine.environ["AWS_ACCESS_KEY_ID"]
    assert key_id(machine, asked) == "AKIDFILE"
    machine.write(".aws/credentials", "")
    machine.write(".aws/config", "[profile work]\ncredential_process = process --flag 'a b'\n")
    assert key_id(machine, asked) == "AKIDPROCESS"
    assert machine.calls("process") == ["--flag a b"]
    machine.write(".aws/config", "[profile work]\nsso_session = corp\n")
    found = machine.resolve(asked)
    assert found.credential.aws == AwsKeys(
        "AKIDCLI", SECRET, "canary-session", region="eu-central-1"
    )
    assert (found.expires_at, found.source) == (END, "AWS profile work, by the AWS CLI")
    assert machine.calls("aws") == ["configure export-credentials --profile work --format process"]


@pytest.mark.parametrize(
    ("environ", "configured", "name"),
    [
        ({}, None, "default"),
        ({"AWS_PROFILE": "home"}, None, "home"),
        ({"AWS_PROFILE": "home"}, "work", "work"),
    ],
)
def test_the_profile(
    machine: FakeMachine, environ: dict[str, str], configured: str | None, name: str
) -> None:
    machine.environ |= environ
    sections = (f"[{each}]\naws_access_key_id = {each}\naws_secret_access_key = s\n" for each in
                ("default", "home", "work"))  # fmt: skip
    machine.write(".aws/credentials", "".join(sections))
    assert key_id(machine, provider(profile=configured)) == name


def test_the_files_may_be_elsewhere(machine: FakeMachine) -> None:
    keys = machine.write("elsewhere/keys", f"[default]\n{STATIC}")
    settings = machine.write("elsewhere/config", "[default]\nregion = ap-south-1\n")
    machine.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(keys)
    machine.environ["AWS_CONFIG_FILE"] = str(settings)
    found = machine.resolve(provider()).credential.aws
    assert found is not None
    assert (found.access_key_id, found.region) == ("AKIDFILE", "ap-south-1")


def test_without_a_home_there_is_no_region_of_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("HOME", "USERPROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert region_here(None) == ""


@pytest.mark.parametrize(
    ("environ", "configured", "region"),
    [
        ({}, "us-west-2", "us-west-2"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "no"}, None, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, None, "eu-west-2"),
        ({"AWS_REGION": "x/../y", "AWS_DEFAULT_REGION": "eu-west-2"}, None, "eu-west-2"),
        ({"AWS_REGION": "not a region"}, None, "sa-east-1"),
        ({}, None, "sa-east-1"),
    ],
)
def test_the_region(
    machine: FakeMachine, environ: dict[str, str], configured: str | None, region: str
) -> None:
    machine.environ |= environ
    machine.write(".aws/credentials", f"[default]\n{STATIC}")
    machine.write(".aws/config", "[default]\nregion = sa-east-1\ns3 =\n  use_x = true\n")
    found = machine.resolve(provider(region=configured)).credential.aws
    assert found is not None
    assert found.region == region


def test_a_bedrock_key_needs_a_region(machine: FakeMachine) -> None:
    machine.write(".aws/credentials", f"[default]\n{STATIC}")
    with pytest.raises(KeyUnavailable, match="no AWS region is known"):
        machine.resolve(provider(sign="bearer"))


def query(key: str) -> dict[str, list[str]]:
    text = base64.b64decode(key.removeprefix("bedrock-api-key-")).decode()
    return parse_qs(text.partition("?")[2])


@pytest.mark.parametrize("seconds", [600, 3600, 100_000])
def test_a_bedrock_key_lives_no_longer_than_the_keys_that_made_it(
    machine: FakeMachine, seconds: int
) -> None:
    machine.install("aws", prints({**TEMPORARY, "Expiration": NOW + seconds}))
    found = machine.resolve(provider(sign="bearer", region="eu-central-1", profile="work"))
    lifetime = min(seconds, 43200)
    assert found.credential.is_token
    assert found.expires_at == NOW + lifetime
    shown = query(found.credential.key)
    assert shown["X-Amz-Expires"] == [str(lifetime)]
    assert shown["X-Amz-Credential"] == ["AKIDCLI/20261128/eu-central-1/bedrock/aws4_request"]
    assert shown["X-Amz-Security-Token"] == ["canary-session"]


def test_a_bedrock_key_of_static_keys_lives_twelve_hours(machine: FakeMachine) -> None:
    machine.write(".aws/credentials", f"[default]\n{STATIC}")
    found = machine.resolve(provider(sign="bearer", region="eu-central-1"))
    assert found.expires_at == NOW + 43200


def test_a_key_command_may_print_aws_keys(machine: FakeMachine) -> None:
    machine.install("export", prints({"Credentials": TEMPORARY}))
    key = KeySource(command=(str(machine.programs / "export"),))
    asked = Provider(name="b", base_url="https://bedrock-runtime.eu-west-1.amazonaws.com", key=key)
    found = machine.resolve(asked)
    assert query(found.credential.key)["X-Amz-Credential"][0].split("/")[2] == "eu-west-1"
    assert found.expires_at == END


@pytest.mark.parametrize(
    ("said", "command"),
    [
        ("Error when retrieving token from sso: Token has expired and refresh failed",
         "aws sso login --profile work"),
        ("The SSO session associated with this profile has expired or is otherwise invalid. To "
         "refresh this SSO session run aws sso login with the corresponding profile.",
         "aws sso login --profile work"),
        ("Error loading SSO Token: Token for corp does not exist", "aws sso login --profile work"),
        ("Your session has expired. Please reauthenticate using 'aws login'.",
         "aws login --profile work"),
    ],
)  # fmt: skip
def test_an_expired_login_names_the_command(machine: FakeMachine, said: str, command: str) -> None:
    machine.write(".aws/config", "[profile work]\nsso_session = corp\n")
    machine.install("aws", fails(f"{said} {SECRET}", 255))
    with pytest.raises(KeyUnavailable) as caught:
        machine.resolve(provider(profile="work"))
    assert caught.value.command == command
    assert f"run `{command}`" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_expired_login_of_a_credential_process_names_the_command(machine: FakeMachine) -> None:
    machine.install("process", fails("run aws sso login"))
    machine.write(".aws/config", "[profile work]\ncredential_process = process\n")
    with pytest.raises(KeyUnavailable, match="`aws sso login --profile work`"):
        machine.resolve(provider(profile="work"))


def test_a_login_without_the_cli_names_what_is_missing(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("botocore", "botocore.session", "botocore.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    machine.write(".aws/config", "[profile work]\nsso_session = corp\n")
    with pytest.raises(KeyUnavailable, match=r"needs the AWS CLI, or `pip install"):
        machine.resolve(provider(profile="work"))


def test_nothing_at_all_is_said_in_words(machine: FakeMachine) -> None:
    with pytest.raises(KeyUnavailable, match="no AWS credentials") as caught:
        machine.resolve(provider())
    assert "AWS_BEARER_TOKEN_BEDROCK" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('no json')", "something else than a JSON object"),
        ("print('[1]')", "something else than a JSON object"),
        (prints({"token": "x"}), "no AWS keys"),
        (prints({**TEMPORARY, "SecretAccessKey": 5}), "SecretAccessKey"),
        (prints({**TEMPORARY, "Expiration": "2020-01-01T00:00:00Z"}), "has expired"),
        ("print('x' * 100_000)", "printed more than a key"),
        ("sys.exit(3)", "exit status 3"),
    ],
)
def test_garbage_of_the_cli_is_named_and_not_shown(
    machine: FakeMachine, code: str, said: str
) -> None:
    machine.install("aws", code)
    with pytest.raises(KeyUnavailable, match=said) as caught:
        machine.resolve(provider(profile="work"))
    assert SECRET not in str(caught.value)


def test_a_cli_without_credentials_and_profile_is_no_reason(machine: FakeMachine) -> None:
    machine.install("aws", "sys.exit(253)")
    with pytest.raises(KeyUnavailable, match="no AWS credentials"):
        machine.resolve(provider())


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff[profile work]\r\nregion = eu-west-1\r\n",
        "[profile work]\nregion=eu-west-1\nunknown_key = [1, 2\ns3 =\n  max_queue_size = 10\n",
        "[profile bob's]\nregion = us-east-1\n[profile work]\nregion = eu-west-1\n",
        "[profile 'work']\nregion = eu-west-1\n# [\n; note\n",
        "[profile a]\nsource_profile = b\n[profile b]\nsource_profile = a\n"
        "[profile work]\nsource_profile = work\nregion = eu-west-1\nregion = eu-west-1\n",
    ],
)
def test_odd_files_are_read_as_aws_reads_them(machine: FakeMachine, text: str) -> None:
    machine.write(".aws/config", text)
    machine.write(".aws/credentials", STATIC.join(("[work]\n", "[bob's]\n")))
    found = machine.resolve(provider(profile="work")).credential.aws
    assert found is not None
    assert (found.access_key_id, found.region) == ("AKIDFILE", "eu-west-1")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes in the file system")
def test_a_pipe_in_the_place_of_a_file_is_named_and_not_waited_for(machine: FakeMachine) -> None:
    pipe = machine.home / "pipe"
    os.mkfifo(pipe)
    machine.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(pipe)
    with pytest.raises(KeyUnavailable, match=r"pipe.* is not a file"):
        machine.resolve(provider())
    machine.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    with pytest.raises(KeyUnavailable, match="no AWS credentials"):
        machine.resolve(provider())
    machine.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(pipe)
    with pytest.raises(KeyUnavailable, match=r"pipe.* is not a file"):
        machine.resolve(Provider(name="g", base_url="https://a.test", auth="google"))


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="needs a user other than root"
)
def test_a_home_that_cannot_be_read_is_named(machine: FakeMachine) -> None:
    machine.write(".aws/credentials", "[default]\n" + STATIC)
    (machine.home / ".aws").chmod(0)
    try:
        with pytest.raises(KeyUnavailable, match=r"\.aws.* can't be read"):
            machine.resolve(provider())
        machine.environ |= {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": SECRET}
        assert key_id(machine, provider(region="eu-west-1")) == "AKIDENV"
    finally:
        (machine.home / ".aws").chmod(0o700)


def test_a_malformed_file_is_named_and_not_quoted(machine: FakeMachine) -> None:
    machine.write(".aws/credentials", f"aws_secret_access_key = {SECRET}\n[default\n")
    with pytest.raises(KeyUnavailable, match=r"credentials.*malformed") as caught:
        machine.resolve(provider())
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"}, "http://169.254.170.2/v2/x"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/x"}, "http://127.0.0.1:9/x"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "https://c.test/x"}, "https://c.test/x"),
    ],
)
def test_the_keys_of_a_container(machine: FakeMachine, environ: dict[str, str], url: str) -> None:
    token = machine.write("token", "the-token\n")
    machine.environ |= {**environ, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token)}

    def answer(method: str, asked: str, headers: Mapping[str, str], body: bytes) -> Reply:
        assert (method, asked, headers["Authorization"]) == ("GET", url, "the-token")
        keys = {**TEMPORARY, "Token": "t"}
        del keys["SessionToken"]
        return json_reply(keys)

    machine.answer = answer
    keys = machine.resolve(provider()).credential.aws
    assert keys is not None
    assert keys.session_token == "t"


def test_the_token_of_a_container_goes_to_this_machine_only(machine: FakeMachine) -> None:
    machine.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://evil.test/x"
    with pytest.raises(KeyUnavailable, match="neither https nor an address of this machine"):
        machine.resolve(provider())
    assert machine.requests == []


def serve_metadata(method: str, url: str, headers: Mapping[str, str], _body: bytes) -> Reply:
    path = url.removeprefix("http://127.0.0.1:9/latest/")
    match (method, path):
        case ("PUT", "api/token"):
            assert headers["X-aws-ec2-metadata-token-ttl-seconds"]
            return Reply(200, b"session\n")
        case ("GET", _) if headers.get("X-aws-ec2-metadata-token") != "session":
            return Reply(401, b"")
        case ("GET", "meta-data/iam/security-credentials/"):
            return Reply(200, b"the-role\n")
        case ("GET", "meta-data/iam/security-credentials/the-role"):
            return json_reply({**TEMPORARY, "Code": "Success"})
    return Reply(404, b"")


def test_the_keys_of_a_virtual_machine(machine: FakeMachine) -> None:
    machine.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:9/"
    machine.answer = serve_metadata
    found = machine.resolve(provider())
    assert (found.source, found.expires_at) == ("the EC2 instance metadata", END)
    machine.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    machine.requests.clear()
    with pytest.raises(KeyUnavailable, match="no AWS credentials"):
        machine.resolve(provider())
    assert machine.requests == []


def test_a_cli_without_a_profile_leaves_the_place_to_the_machine(machine: FakeMachine) -> None:
    machine.install("aws", fails("The config profile (default) could not be found", 255))
    machine.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:9"
    machine.answer = serve_metadata
    assert machine.resolve(provider()).source == "the EC2 instance metadata"


def test_a_machine_without_a_role_has_no_keys(machine: FakeMachine) -> None:
    def answer(method: str, _url: str, _headers: Mapping[str, str], _body: bytes) -> Reply:
        if method == "PUT":
            return Reply(200, b"session")
        raise FetchFailed("no answer within 1 s")

    machine.answer = answer
    with pytest.raises(KeyUnavailable, match="no AWS credentials"):
        machine.resolve(provider())


@pytest.mark.parametrize(
    ("environ", "sign", "place"),
    [
        ({}, "bearer", "AWS profile default"),
        ({"AWS_PROFILE": "home"}, "bearer", "AWS profile home"),
        ({"AWS_BEARER_TOKEN_BEDROCK": "k"}, "bearer", "$AWS_BEARER_TOKEN_BEDROCK"),
        ({"AWS_BEARER_TOKEN_BEDROCK": "k"}, "sigv4", "AWS profile default"),
        ({"AWS_ACCESS_KEY_ID": "k"}, "sigv4", "$AWS_ACCESS_KEY_ID"),
    ],
)
def test_the_place_is_named_without_asking(environ: dict[str, str], sign: str, place: str) -> None:
    assert describe_login(provider(sign=sign), environ) == place


def install_botocore(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], object]
) -> list[str | None]:
    """Put a fake of botocore in the place of the optional extra; returns the profiles."""
    profiles: list[str | None] = []

    class Session:
        def __init__(self, profile: str | None) -> None:
            profiles.append(profile)

        def get_credentials(self) -> object:
            return answer()

    class BotoCoreError(Exception):
        pass

    exceptions = SimpleNamespace(BotoCoreError=BotoCoreError, ClientError=KeyError)
    monkeypatch.setitem(sys.modules, "botocore", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "botocore.session", SimpleNamespace(Session=Session))
    monkeypatch.setitem(sys.modules, "botocore.exceptions", exceptions)
    return profiles


def test_botocore_gives_the_keys_of_a_login_without_the_cli(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = SimpleNamespace(access_key="AKIDBOTO", secret_key=SECRET, token="t")
    end = datetime.fromtimestamp(END, UTC)
    credentials = SimpleNamespace(get_frozen_credentials=lambda: frozen, _expiry_time=end)
    profiles = install_botocore(monkeypatch, lambda: credentials)
    machine.write(".aws/config", "[profile work]\nsso_session = corp\n")
    found = machine.resolve(provider(profile="work"))
    assert found.credential.aws == AwsKeys("AKIDBOTO", SECRET, "t")
    assert found.expires_at == END
    assert profiles == ["work"]


def test_an_expired_login_of_botocore_names_the_command(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expired() -> object:
        base: type[Exception] = sys.modules["botocore.exceptions"].BotoCoreError
        raise type("UnauthorizedSSOTokenError", (base,), {})(SECRET)

    install_botocore(monkeypatch, expired)
    machine.write(".aws/config", "[profile work]\nsso_session = corp\n")
    with pytest.raises(KeyUnavailable, match="`aws sso login --profile work`") as caught:
        machine.resolve(provider(profile="work"))
    assert SECRET not in str(caught.value)
