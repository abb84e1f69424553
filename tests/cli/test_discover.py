"""`providers discover`, and what `providers add` takes from the machine."""

import hashlib
import os
import shlex
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.cli.providers import facts as facts_module
from ccfallback.cli.providers import local_servers
from ccfallback.cli.providers.logins import read_short_term_key
from ccfallback.config.file import ConfigFile
from ccfallback.config.presets import presets
from ccfallback.credentials.aws import region_here
from ccfallback.paths import Paths
from ccfallback.wire import FORMATS
from tests.cli.conftest import NOW, Run
from tests.cli.model_servers import LLAMA, OLLAMA, VLLM, Answers, serve

CANARY = "canary7canary7canary7"
"""It is part of every secret of the machine."""

ADC = {
    "type": "authorized_user",
    "client_id": "id",
    "client_secret": CANARY,
    "refresh_token": CANARY,
    "quota_project_id": "quota-project",
}
SSO = (
    "[profile work]\nsso_session = corp\nregion = eu-central-1\n"
    "[sso-session corp]\nsso_start_url = https://corp.example/start\n"
)
KEYS = f"[work]\naws_access_key_id = AKIA{CANARY}\naws_secret_access_key = {CANARY}\n"


class Machine:
    """A home with files, an environment, and model servers."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        self.home = home
        self._monkeypatch = monkeypatch
        self._stack = stack
        (home / "bin").mkdir()
        self.set(PATH=str(home / "bin"))

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def write(self, name: str, content: Any) -> None:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else msgspec.json.encode(content).decode()
        path.write_text(text, encoding="utf-8")

    def install(self, name: str) -> None:
        """A program that must not be run."""
        self.write(f"bin/{name}", f"#!/bin/sh\ntouch {self.home}/ran\n")
        (self.home / "bin" / name).chmod(0o755)

    def claude(self, **settings: Any) -> None:
        self.write(".claude/settings.json", settings)

    def log_in(self, expires_at: str, **more: str) -> None:
        """Write AWS's cache of the SSO session `corp`."""
        name = hashlib.sha1(b"corp").hexdigest()
        token = {"accessToken": CANARY, "expiresAt": expires_at, **more}
        self.write(f".aws/sso/cache/{name}.json", token)

    def serve(self, *answers: Answers) -> list[int]:
        ports = [self._stack.enter_context(serve(each))[0] for each in answers]
        self._monkeypatch.setattr(local_servers, "PORTS", tuple(ports))
        return ports


@pytest.fixture
def machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine that has nothing yet."""
    for preset in presets().values():
        monkeypatch.delenv(preset.key_env or "-", raising=False)
    managed = dict.fromkeys(("linux", "darwin", "win32"), home / "managed.json")
    monkeypatch.setattr(facts_module, "MANAGED", managed)
    monkeypatch.setattr("ccfallback.cli.session.Session.now", lambda self: NOW)
    monkeypatch.setattr("ccfallback.cli.providers.facts._LIBRARIES", {})
    with ExitStack() as stack:
        yield Machine(home, monkeypatch, stack)


@pytest.fixture
def found(ccf: Run) -> Callable[..., dict[str, Any]]:
    """Runs `discover --json`; what was found, by name."""

    def run(*arguments: str) -> dict[str, Any]:
        document = ccf("providers", "discover", "--json", *arguments).json
        return {each["name"]: each for each in document["providers"]}

    return run


@pytest.fixture
def chain(paths: Paths) -> Callable[[], list[Any]]:
    """Loads the fallbacks of the configuration."""
    return lambda: list(ConfigFile(paths.config, FORMATS, tuple, region_here).load().providers)


def fill(machine: Machine) -> list[int]:
    """Give the machine something of every kind."""
    machine.write(".aws/config", SSO)
    machine.write(".aws/credentials", f"[old]\naws_access_key_id = {CANARY}\n")
    machine.log_in("2025-11-24T15:00:00Z")
    machine.install("aws")
    machine.write(".config/gcloud/application_default_credentials.json", ADC)
    machine.write(".azure/azureProfile.json", "\ufeff" + '{"subscriptions": [{"id": "x"}]}')
    machine.set(
        CLOUDSDK_CONFIG=str(machine.home / ".config/gcloud"),
        DEEPSEEK_API_KEY=CANARY,
        MOONSHOT_API_KEY=CANARY,
        SILICONFLOW_API_KEY=CANARY,
    )
    machine.claude(
        env={
            "ANTHROPIC_AWS_API_KEY": CANARY,
            "ANTHROPIC_AWS_WORKSPACE_ID": "wrkspc_01",
            "ANTHROPIC_BASE_URL": "https://api.z.ai/api/anthropic",
            "ANTHROPIC_AUTH_TOKEN": CANARY,
        }
    )
    return machine.serve(OLLAMA, LLAMA)


def test_nothing_is_found_on_an_empty_machine(ccf: Run, machine: Machine) -> None:
    ran = ccf("providers", "discover", "--json")
    assert (ran.code, ran.json) == (0, {"providers": [], "added": [], "notes": []})
    assert ccf("providers", "discover").out.startswith("Nothing found")
    assert ccf("providers", "discover", "--add-all").err == "nothing to add\n"


def test_the_same_claude_comes_first_and_local_servers_last(
    machine: Machine, found: Callable[..., dict[str, Any]]
) -> None:
    fill(machine)
    rows = found()
    assert [(name, row["kind"], row["ready"]) for name, row in rows.items()] == [
        ("bedrock", "cloud", True),
        ("vertex", "cloud", True),
        ("claude-platform-aws", "cloud", True),
        ("foundry", "cloud", False),
        ("deepseek", "vendor", True),
        ("moonshot", "vendor", True),
        ("zai", "vendor", True),
        ("siliconflow", "vendor", False),
        ("ollama", "local", True),
        ("llamacpp", "local", True),
    ]
    assert rows["bedrock"]["found"] == ["AWS profile work (SSO)", "region eu-central-1"]
    assert rows["vertex"]["found"] == ["Google login", "project quota-project"]
    assert rows["foundry"]["missing"] == ["--fill resource=RESOURCE"]
    assert rows["siliconflow"]["missing"] == ["--map '*=MODEL'"]
    assert rows["moonshot"]["note"] == "if the key is for moonshot-cn, add that preset instead"
    assert rows["ollama"]["found"][1:] == ["gemma4:latest", "65,536 tokens"]


@pytest.mark.parametrize("form", [(), ("--json",), ("--add-all",), ("--add-all", "--json")])
def test_no_secret_is_printed_and_no_program_is_run(
    ccf: Run, machine: Machine, form: tuple[str, ...]
) -> None:
    fill(machine)
    machine.claude(env={"AWS_BEARER_TOKEN_BEDROCK": CANARY}, awsAuthRefresh=f"x --token {CANARY}")
    ran = ccf("providers", "discover", *form)
    assert ran.code == 0
    assert CANARY not in ran.out + ran.err
    assert not (machine.home / "ran").exists()


def test_each_command_adds_what_add_all_adds(
    ccf: Run,
    machine: Machine,
    found: Callable[..., dict[str, Any]],
    chain: Callable[[], list[Any]],
    paths: Paths,
) -> None:
    fill(machine)
    commands = [row["command"] for row in found().values() if row["command"]]
    assert len(commands) == 8
    printed = ccf("providers", "discover").out
    for command in commands:
        assert command in printed.splitlines()
        program, *arguments = shlex.split(command)
        assert (program, ccf(*arguments).code) == ("ccfallback", 0)
    one_by_one = chain()
    paths.config.unlink()
    ran = ccf("providers", "discover", "--add-all")
    assert ran.code == 0
    assert "undo: `ccfallback config rollback`" in ran.err
    assert chain() == one_by_one
    assert ccf("config", "validate").code == 0
    assert CANARY in paths.config.read_text()
    assert paths.config.stat().st_mode & 0o077 == 0


def test_a_second_time_nothing_is_added(ccf: Run, machine: Machine, paths: Paths) -> None:
    fill(machine)
    assert len(ccf("providers", "discover", "--add-all", "--json").json["added"]) == 8
    before = paths.config.read_bytes()
    again = ccf("providers", "discover", "--add-all", "--json").json
    assert again["added"] == []
    assert {each["in_chain"] for each in again["providers"] if not each["missing"]} == {
        each["name"] for each in again["providers"] if not each["missing"]
    }
    assert paths.config.read_bytes() == before
    assert "nothing to add" in ccf("providers", "discover", "--add", "bedrock").err
    assert "config rollback" in ccf("config", "rollback").err or not ccf("config", "show").code


def test_added_names_are_one_write(
    ccf: Run, machine: Machine, chain: Callable[[], list[Any]]
) -> None:
    fill(machine)
    assert ccf("providers", "discover", "--add", "deepseek", "--add", "bedrock").code == 0
    assert [each.name for each in chain()] == ["bedrock", "deepseek"]
    assert ccf("providers", "discover", "--add", "vertex", "ollama").code == 0
    assert [each.name for each in chain()] == ["bedrock", "vertex", "deepseek", "ollama"]
    assert ccf("config", "rollback").code == 0
    assert [each.name for each in chain()] == ["bedrock", "deepseek"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--add", "bedrok"], 1, "did you mean bedrock?"),
        (["--add", "deepseek", "--add", "foundry"], 1, "--fill resource=RESOURCE"),
        (["bedrock"], 2, "--add"),
    ],
)
def test_what_cannot_be_added_is_an_error(
    ccf: Run, machine: Machine, paths: Paths, arguments: list[str], code: int, message: str
) -> None:
    fill(machine)
    ran = ccf("providers", "discover", *arguments)
    assert ran.code == code
    assert message in ran.err
    assert not paths.config.exists()


def test_the_same_claude_is_put_before_other_models(
    ccf: Run,
    machine: Machine,
    configure: Callable[[str], None],
    found: Callable[..., dict[str, Any]],
    chain: Callable[[], list[Any]],
) -> None:
    configure(
        '[[providers]]\nname = "aws"\nformat = "bedrock"\naws.region = "us-east-1"\n'
        '[[providers]]\nname = "deepseek"\nbase_url = "https://mine.example"\n'
        '[[providers]]\nname = "studio"\nbase_url = "http://localhost:1"\n'
    )
    fill(machine)
    rows = found()
    assert "bedrock" in rows  # In another region than the one in the chain.
    assert rows["vertex"]["command"].endswith("--position 3")
    assert ccf("providers", "discover", "--add-all").code == 0
    assert [each.name for each in chain()] == [
        "aws", "bedrock", "vertex", "claude-platform-aws", "deepseek", "deepseek-2", "moonshot",
        "zai", "studio", "ollama", "llamacpp",
    ]  # fmt: skip


# -- AWS


@pytest.mark.parametrize(
    ("token", "problem", "remedy"),
    [
        (None, "there is no login", "aws sso login --profile work"),
        ("2025-11-24T13:59:59Z", "the login has expired", "aws sso login --profile work"),
        ("2025-11-24T13:59:59UTC", "the login has expired", "aws sso login --profile work"),
        ("2025-11-24T14:30:00UTC", None, None),
        ("2025-11-24T14:30:00Z", None, None),
    ],
)
def test_an_expired_login_names_the_command_that_renews_it(
    machine: Machine,
    found: Callable[..., dict[str, Any]],
    token: str | None,
    problem: str | None,
    remedy: str | None,
) -> None:
    machine.install("aws")
    machine.write(".aws/config", SSO)
    if token is not None:
        machine.log_in(token)
    row = found()["bedrock"]
    assert (row["problem"], row["remedy"]) == (problem, remedy)


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("aws sso login --profile work", "aws sso login --profile work"),
        (f"renew --token {CANARY} --now", "renew --token canar…ary7 --now"),
        ("renew 'open", None),
        (["renew"], None),
    ],
)
def test_claude_codes_own_command_renews_keys_that_have_expired(
    machine: Machine, found: Callable[..., dict[str, Any]], setting: Any, remedy: str | None
) -> None:
    expired = f"{KEYS}expiration = 2025-11-24T13:00:00Z\nregion = us-east-1\n"
    machine.write(".aws/credentials", expired)
    machine.claude(awsAuthRefresh=setting)
    row = found()["bedrock"]
    assert (row["problem"], row["remedy"]) == ("its keys have expired", remedy)


def test_control_characters_reach_no_terminal(ccf: Run, machine: Machine) -> None:
    machine.write(".aws/credentials", KEYS.replace("work", "w\x1b[31m") + "region = us-east-1\n")
    machine.set(AWS_PROFILE="w\x1b[31m")
    machine.claude(env={"CLAUDE_CODE_USE_BEDROCK": "1", "AWS_REGION": "\x1b[31m"})
    ran = ccf("providers", "discover")
    assert ran.code == 0
    assert "\x1b" not in ran.out + ran.err


def test_a_login_that_renews_itself_has_not_expired(
    machine: Machine, found: Callable[..., dict[str, Any]]
) -> None:
    machine.install("aws")
    machine.write(".aws/config", SSO)
    machine.log_in("2025-11-24T13:00:00Z", refreshToken="r", registrationExpiresAt="2026-01-01")
    assert found()["bedrock"]["ready"]
    machine.log_in("2025-11-24T13:00:00Z", refreshToken="r", registrationExpiresAt="2025-01-01")
    assert found()["bedrock"]["problem"] == "the login has expired"


@pytest.mark.parametrize(
    ("config", "ready", "what"),
    [
        (KEYS, True, "AWS profile work"),
        (f"{KEYS}x_security_token_expires = 2025-11-24T13:00:00Z\n", False, "AWS profile work"),
        (f"{KEYS}aws_expiration = 2025-11-24T15:00:00Z\n", True, "AWS profile work"),
        ("[work]\ncredential_process = /x\n", True, "AWS profile work"),
        ("[work]\nlogin_session = arn\n", False, "AWS profile work (login)"),
        ("[work]\nrole_arn = a\ncredential_source = x\n", True, "AWS profile work (role)"),
        ("[work]\nrole_arn = a\nsource_profile = none\n", False, "AWS profile work (role)"),
        ("[work]\nrole_arn = a\nsource_profile = work\n", True, "AWS profile work (role)"),
        ("[work]\nrole_arn = a\nsource_profile = b\n[b]\nrole_arn = b\nsource_profile = work\n",
         True, "AWS profile work (role)"),
        ("[work]\nweb_identity_token_file = /x\n", True, "AWS profile work (web identity)"),
    ],
)  # fmt: skip
def test_every_kind_of_profile_is_known(
    machine: Machine,
    found: Callable[..., dict[str, Any]],
    config: str,
    ready: bool,
    what: str,
) -> None:
    machine.install("aws")
    machine.set(AWS_PROFILE="work", AWS_REGION="eu-west-1")
    machine.write(".aws/credentials", config)
    row = found()["bedrock"]
    assert (row["ready"], row["found"][0]) == (ready, what)


def test_a_login_without_the_program_for_it_says_so(
    machine: Machine, found: Callable[..., dict[str, Any]]
) -> None:
    machine.write(".aws/config", SSO)
    machine.log_in("2025-11-24T15:00:00Z")
    assert "pip install 'ccfallback[aws]'" in found()["bedrock"]["problem"]


def test_a_profile_that_is_only_a_region_is_no_login(
    machine: Machine, found: Callable[..., dict[str, Any]]
) -> None:
    machine.write(".aws/config", "[default]\nregion = us-east-1\n")
    assert found() == {}
    machine.claude(env={"CLAUDE_CODE_USE_BEDROCK": "1"})
    row = found()["bedrock"]
    assert (row["problem"], row["remedy"]) == ("no credential was found", "aws configure sso")
    machine.set(AWS_PROFILE="a b")
    assert found()["bedrock"]["remedy"] == "aws configure sso --profile 'a b'"


def short_term_key(date: str) -> str:
    query = (
        f"bedrock.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Credential={CANARY}%2F"
        f"{date[:8]}%2Fap-south-1%2Fbedrock%2Faws4_request&X-Amz-Date={date}&X-Amz-Expires=43200"
    )
    return "bedrock-api-key-" + b64encode(query.encode()).decode()


@pytest.mark.parametrize(
    ("key", "region", "problem"),
    [
        (short_term_key("20251124T130000Z"), "ap-south-1", None),
        (short_term_key("20251124T010000Z"), "ap-south-1", "the Bedrock key has expired"),
        ("ABSK" + CANARY, "eu-west-1", None),
        ("bedrock-api-key-" + CANARY, "eu-west-1", None),
        ("bedrock-api-key-" + b64encode(b"x?X-Amz-Date=1").decode(), "eu-west-1", None),
    ],
)
def test_a_short_term_bedrock_key_tells_region_and_end(
    machine: Machine,
    found: Callable[..., dict[str, Any]],
    key: str,
    region: str,
    problem: str | None,
) -> None:
    machine.set(AWS_BEARER_TOKEN_BEDROCK=key, AWS_REGION="eu-west-1")
    row = found()["bedrock"]
    assert row["found"] == ["$AWS_BEARER_TOKEN_BEDROCK", f"region {region}"]
    assert row["problem"] == problem


@given(st.text(), st.dictionaries(st.sampled_from(["Date", "Credential", "Expires"]), st.text()))
def test_no_bedrock_key_is_too_strange(text: str, query: dict[str, str]) -> None:
    names = {f"X-Amz-{name}": value.encode("utf-8", "replace") for name, value in query.items()}
    encoded = b64encode(f"host/?{urlencode(names)}".encode()).decode()
    for key in (text, "bedrock-api-key-" + text, "bedrock-api-key-" + encoded):
        found = read_short_term_key(key)
        assert found is None or isinstance(found[1], float)


def test_a_key_that_the_configuration_does_not_take_ends_nothing(
    ccf: Run, machine: Machine, found: Callable[..., dict[str, Any]]
) -> None:
    machine.set(DEEPSEEK_API_KEY=CANARY)
    machine.claude(env={"ZAI_API_KEY": "ключ"})
    assert found()["zai"]["problem"] == "what was found can't be a setting of a provider"
    ran = ccf("providers", "discover", "--add-all", "--json")
    assert (ran.code, ran.json["added"]) == (0, ["deepseek"])
    assert ccf("providers", "discover", "--add", "zai").code == 1


def test_claude_codes_own_program_for_credentials_is_taken(
    ccf: Run,
    machine: Machine,
    chain: Callable[[], list[Any]],
    found: Callable[..., dict[str, Any]],
) -> None:
    machine.claude(
        env={"CLAUDE_CODE_USE_BEDROCK": "1", "AWS_REGION": "us-west-2"},
        awsCredentialExport="/opt/creds --json",
    )
    assert found()["bedrock"]["command"] == "ccfallback providers discover --add bedrock"
    ran = ccf("providers", "discover", "--add", "bedrock")
    assert "Claude Code goes to bedrock by itself" in ran.err
    (provider,) = chain()
    assert provider.key.command == ("sh", "-c", "/opt/creds --json")
    assert (provider.auth, provider.region) == ("aws", "us-west-2")


# -- Google and Azure


@pytest.mark.parametrize(
    ("credentials", "problem"),
    [
        (ADC, None),
        ({**ADC, "refresh_token": ""}, None),
        ({"type": "authorized_user"}, "the login is incomplete"),
        ({"type": "service_account", "project_id": "p"}, "it needs gcloud"),
        ({"type": ["x"]}, "it needs gcloud"),
    ],
)
def test_every_file_of_google_is_known(
    machine: Machine,
    found: Callable[..., dict[str, Any]],
    credentials: dict[str, Any],
    problem: str | None,
) -> None:
    machine.write("adc.json", credentials)
    machine.set(GOOGLE_APPLICATION_CREDENTIALS="~/adc.json", GOOGLE_CLOUD_PROJECT="mine")
    row = found()["vertex"]
    assert row["command"] == "ccfallback providers add vertex --google-project mine"
    assert (row["problem"] or "").startswith(problem or "")
    assert (problem is None) is row["ready"]


def test_a_file_of_google_that_does_not_exist_is_named(
    machine: Machine, found: Callable[..., dict[str, Any]]
) -> None:
    machine.set(GOOGLE_APPLICATION_CREDENTIALS="/nowhere/adc.json")
    assert "(/nowhere/adc.json) does not exist" in found()["vertex"]["problem"]


def test_the_project_comes_from_the_configuration_of_gcloud(
    machine: Machine, found: Callable[..., dict[str, Any]]
) -> None:
    folder = "gcloud"
    machine.set(CLOUDSDK_CONFIG=str(machine.home / folder))
    machine.write(f"{folder}/active_config", "work\n")
    machine.write(
        f"{folder}/configurations/config_work", "[core]\naccount = me@x.test\nproject = from-gcloud"
    )
    row = found()["vertex"]
    assert row["problem"] == "gcloud has a login, but not for other programs"
    assert row["remedy"] == "gcloud auth application-default login"
    assert "project from-gcloud" in row["found"]


def test_a_value_that_cannot_be_one_is_named_and_not_used(
    machine: Machine, found: Callable[..., dict[str, Any]]
) -> None:
    machine.set(AWS_BEARER_TOKEN_BEDROCK=CANARY, AWS_REGION="x; rm -rf ~")
    row = found()["bedrock"]
    assert row["problem"] == "the value of $AWS_REGION can't be a region"
    assert (row["missing"], row["command"]) == (["--aws-region REGION"], None)


def test_foundry_takes_its_address_from_claude_codes_variable(
    machine: Machine, found: Callable[..., dict[str, Any]]
) -> None:
    machine.install("az")
    machine.write(".azure/azureProfile.json", '{"subscriptions": [{}]}')
    machine.set(ANTHROPIC_FOUNDRY_BASE_URL="https://r.services.ai.azure.com/anthropic")
    assert found()["foundry"]["command"] == (
        "ccfallback providers add foundry --preset foundry --auth azure "
        "--base-url https://r.services.ai.azure.com/anthropic"
    )
    machine.set(
        ANTHROPIC_FOUNDRY_BASE_URL="http://127.0.0.1:8787", ANTHROPIC_FOUNDRY_RESOURCE="mine"
    )
    assert found()["foundry"]["command"].endswith("--auth azure --fill resource=mine")


def test_the_key_in_a_url_is_not_printed(
    ccf: Run, machine: Machine, chain: Callable[[], list[Any]]
) -> None:
    url = f"https://gateway.example/bedrock?key={CANARY}"
    machine.set(AWS_BEARER_TOKEN_BEDROCK=CANARY, AWS_REGION="us-east-1")
    machine.set(ANTHROPIC_BEDROCK_BASE_URL=url)
    ran = ccf("providers", "discover")
    assert "ccfallback providers discover --add bedrock" in ran.out
    added = ccf("providers", "discover", "--add", "bedrock")
    assert CANARY not in ran.out + ran.err + added.out + added.err
    assert [each.base_url for each in chain()] == [url]


# -- Local servers


def test_a_context_that_is_too_small_is_said(
    machine: Machine, found: Callable[..., dict[str, Any]]
) -> None:
    small = {**OLLAMA, "/api/ps": (200, {"models": [{"name": "gemma4:latest",
             "context_length": 4096}]})}  # fmt: skip
    machine.serve(small, {"/": OLLAMA["/"]})
    ollama, second = found().values()
    assert ollama["problem"] == (
        "a context of 4,096 tokens is too small for Claude Code: set OLLAMA_CONTEXT_LENGTH=65536 "
        "for its server"
    )
    assert (second["name"], second["problem"]) == ("ollama-2", "it has no model")
    assert second["remedy"] == "ollama pull qwen3-coder"


def test_an_old_server_is_added_in_the_openai_format(
    ccf: Run, machine: Machine, chain: Callable[[], list[Any]]
) -> None:
    (port,) = machine.serve({path: VLLM[path] for path in VLLM if path != "/v1/messages"})
    assert ccf("providers", "discover", "--add-all").code == 0
    (provider,) = chain()
    assert (provider.name, provider.format) == ("vllm", "openai")
    assert provider.base_url == f"http://localhost:{port}/v1"
    assert (provider.model_mapping, provider.context_window) == ({"*": "Qwen/Qwen3"}, 131072)


# -- Broken files

BROKEN = (
    ".aws/config",
    ".aws/credentials",
    ".claude/settings.json",
    ".azure/azureProfile.json",
    "gcloud/application_default_credentials.json",
    "gcloud/active_config",
    "gcloud/configurations/config_default",
)


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize(
    "content",
    [
        b"\x00\xff\xfe garbage",
        b"[unclosed\nx",
        b"a = 1\n[x]\n[x]\n",
        b"[profile 'open]\nrole_arn = x\n",
        b"[[[[[" * 40_000,
        b"null",
        b'{"env": 7, "subscriptions": {}, "type": {}}',
        b'{"env": {"AWS_REGION": null, "CLAUDE_CODE_USE_BEDROCK": true}}',
        b"x" * 5_000_000,
        b"",
    ],
)
def test_a_broken_file_never_ends_the_search(
    ccf: Run, machine: Machine, name: str, content: bytes
) -> None:
    machine.set(DEEPSEEK_API_KEY=CANARY, CLOUDSDK_CONFIG=str(machine.home / "gcloud"))
    path = machine.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    ran = ccf("providers", "discover", "--json")
    assert ran.code == 0
    assert "deepseek" in [each["name"] for each in ran.json["providers"]]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("name", BROKEN)
def test_a_pipe_or_a_folder_in_place_of_a_file_does_not_block(
    ccf: Run, machine: Machine, name: str
) -> None:
    machine.set(CLOUDSDK_CONFIG=str(machine.home / "gcloud"))
    path = machine.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    assert ccf("providers", "discover", "--json").code == 0
    path.unlink()
    path.mkdir()
    assert ccf("providers", "discover", "--json").code == 0


def test_a_file_that_cannot_be_read_is_named(ccf: Run, machine: Machine) -> None:
    machine.write(".aws/config", f"[broken\n{CANARY}")
    ran = ccf("providers", "discover")
    assert f"! the file of AWS ({machine.home}/.aws/config) can't be read" in ran.err
    assert CANARY not in ran.err


# -- The screen


@pytest.mark.parametrize("columns", [80, 140])
def test_the_screen(
    machine: Machine,
    ccf_screen: Callable[..., str],
    golden: Callable[[str, str], None],
    columns: int,
) -> None:
    ports = fill(machine)
    environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    screen = ccf_screen("providers", "discover", columns=columns, **environ)
    for number, port in enumerate(ports, 1):
        screen = screen.replace(str(port), f"1000{number}"[: len(str(port))])
    golden(f"discover-{columns}.txt", screen)


# -- providers add


def test_the_name_of_a_preset_is_enough(
    ccf: Run, machine: Machine, chain: Callable[[], list[Any]]
) -> None:
    machine.install("aws")
    machine.write(".aws/config", SSO)
    ran = ccf("providers", "add", "bedrock")
    assert ran.code == 0
    assert "region: eu-central-1, from AWS profile work" in ran.err
    assert "run `aws sso login --profile work`" in ran.err
    (provider,) = chain()
    assert (provider.format, provider.auth) == ("bedrock", "aws")
    assert (provider.aws.profile, provider.aws.region) == ("work", "eu-central-1")


def test_what_the_user_gives_has_priority(
    ccf: Run, machine: Machine, chain: Callable[[], list[Any]]
) -> None:
    machine.write(
        ".aws/credentials", f"{KEYS}[other]\nregion = us-east-2\n{KEYS.partition(']')[2]}"
    )
    machine.set(MINE=CANARY)
    for name, *options in (
        ["a", "--aws-profile", "other"],
        ["b", "--aws-profile", "other", "--aws-region", "us-west-1"],
        ["c", "--aws-region", "us-west-1", "--api-key-env", "MINE"],
    ):
        assert ccf("providers", "add", name, "--preset", "bedrock-mantle", *options).code == 0
    a, b, c = chain()
    assert [each.region for each in (a, b, c)] == ["us-east-2", "us-west-1", "us-west-1"]
    assert [each.aws.profile for each in (a, b, c)] == ["other", "other", None]
    assert (c.auth, c.key.env) == ("key", "MINE")


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("bedrock", "--aws-region REGION"),
        ("bedrock-mantle", "--aws-region REGION"),
        ("vertex", "--google-project PROJECT"),
        ("claude-google-cloud", "--fill workspace=…"),
        ("claude-platform-aws", "--fill workspace=…"),
        ("foundry", "--fill resource=…"),
    ],
)
def test_a_missing_option_is_named(
    ccf: Run, machine: Machine, paths: Paths, name: str, option: str
) -> None:
    ran = ccf("providers", "add", name)
    assert ran.code == 1
    assert option in ran.err
    assert not paths.config.exists()


def test_the_key_of_a_vendor_comes_from_its_usual_variable(
    ccf: Run, machine: Machine, chain: Callable[[], list[Any]]
) -> None:
    machine.set(DEEPSEEK_API_KEY=CANARY, ANTHROPIC_AWS_API_KEY=CANARY, AWS_REGION="us-east-1")
    assert "credential: $DEEPSEEK_API_KEY" in ccf("providers", "add", "deepseek").err
    ran = ccf("providers", "add", "claude-platform-aws", "--fill", "workspace=wrkspc_1")
    assert ran.code == 0
    vendor, platform = chain()
    assert vendor.key.env == "DEEPSEEK_API_KEY"
    assert platform.key.env == "ANTHROPIC_AWS_API_KEY"
    assert platform.headers == {"anthropic-workspace-id": "wrkspc_1"}


def test_another_preset_beats_the_name(ccf: Run, machine: Machine, chain: Any) -> None:
    assert ccf("providers", "add", "deepseek", "--base-url", "http://localhost:1").code == 0
    assert ccf("providers", "add", "zai", "--preset", "ollama").code == 0
    assert [each.base_url for each in chain()] == ["http://localhost:1", "http://localhost:11434"]
