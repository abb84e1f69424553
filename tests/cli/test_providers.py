import os
import stat
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

import msgspec
import pytest

from ccfallback.config.file import ConfigFile
from ccfallback.credentials.aws import region_here
from ccfallback.paths import Paths
from ccfallback.policy.fingerprints import fingerprint
from ccfallback.wire import FORMATS
from tests.cli.conftest import Ran, Run

TIMEOUTS = {
    "connect": 10.0,
    "first_byte": 30.0,
    "non_streaming": 600.0,
    "idle": 90.0,
    "adaptive": True,
}
NO_ACCOUNT = {
    "auth": "key",
    "aws": {"profile": None, "region": None, "sign": "bearer"},
    "google": {"project": None, "location": "global"},
    "cap": {"day": None, "month": None},
    "prices": dict.fromkeys(("input", "output", "cache_read", "cache_write", "cache_write_1h")),
}
KEY = "sk-abcdefghijklmnopqrstuvwxyz"

pytestmark = pytest.mark.usefixtures("two_providers")


def listed(ran: Ran) -> list[str]:
    return [provider["name"] for provider in ran.json["providers"]]


def test_a_cooldown_by_hand_is_not_a_failure_of_the_provider(ccf: Run) -> None:
    assert ccf("breaker", "trip", "two", "--for", "10m").code == 0
    rows = [line.split(maxsplit=2) for line in ccf("providers", "show", "two").out.splitlines()]
    assert ["last", "failure", "put in cooldown by hand"] in rows
    assert all(len(row) > 1 for row in rows), "a key without a value"


def test_the_list_has_the_promised_shape(ccf: Run) -> None:
    ran = ccf("providers", "list", "--json")
    assert ran.json == {
        "providers": [
            {
                "name": "anthropic-primary",
                "primary": True,
                "format": "anthropic",
                "base_url": "https://api.anthropic.com",
                "auth_header": "x-api-key",
                "api_key": None,
                "api_keys": None,
                "api_key_env": None,
                "api_key_command": None,
                **NO_ACCOUNT,
                "retry": 0,
                "disabled": False,
                "headers": {},
                "model_mapping": {},
                "platform": None,
                "context_window": None,
                "inference_geo": [],
                "timeouts": TIMEOUTS,
                "quirks": {},
            },
            {
                "name": "one",
                "primary": False,
                "format": "anthropic",
                "base_url": "https://one.example/v1?key=***",
                "auth_header": "x-api-key",
                "api_key": "sk-ab…wxyz",
                "api_keys": None,
                "api_key_env": None,
                "api_key_command": None,
                **NO_ACCOUNT,
                "retry": 0,
                "disabled": False,
                "headers": {"X-Title": "cc", "X-Api-Token": "heade…alue"},
                "model_mapping": {},
                "platform": None,
                "context_window": None,
                "inference_geo": [],
                "timeouts": TIMEOUTS,
                "quirks": {},
            },
            {
                "name": "two",
                "primary": False,
                "format": "anthropic",
                "base_url": "https://two.example",
                "auth_header": "x-api-key",
                "api_key": None,
                "api_keys": None,
                "api_key_env": "TWO_KEY",
                "api_key_command": None,
                **NO_ACCOUNT,
                "retry": 0,
                "disabled": False,
                "headers": {},
                "model_mapping": {"*": "m"},
                "platform": None,
                "context_window": None,
                "inference_geo": [],
                "timeouts": TIMEOUTS,
                "quirks": {},
            },
        ]
    }


@pytest.mark.parametrize("command", [("list",), ("show", "one")])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_keys_show_only_when_asked_for(
    ccf: Run, command: tuple[str, ...], form: tuple[str, ...]
) -> None:
    masked = ccf("providers", *command, *form).out
    for secret in (KEY, "in-the-query", "header-secret-value"):
        assert secret not in masked
    assert KEY in ccf("providers", *command, "--show-keys", *form).out


def test_one_provider_comes_with_its_state(ccf: Run) -> None:
    shown = ccf("providers", "show", "two", "--json").json["provider"]
    assert shown["base_url"] == "https://two.example"
    assert shown["learned"] == []
    assert shown["state"]["name"] == "two"
    assert shown["state"]["available"] is True
    primary = ccf("providers", "show", "anthropic-primary", "--json").json["provider"]
    assert primary["primary"] is True


def test_an_unknown_name_gets_the_most_similar_one_as_a_hint(ccf: Run) -> None:
    ran = ccf("providers", "show", "tow")
    assert ran.code == 1
    assert "did you mean two?" in ran.err


def test_a_provider_is_added(ccf: Run, paths: Paths) -> None:
    ran = ccf(
        *("providers", "add", "new", "--base-url", "https://new.example/v1", "--retry", "2"),
        *("--api-key", "key-of-the-new-one", "--auth-header", "Authorization", "--disabled"),
        *("--header", "X-A=b=c", "--header", "X-B: d", "--map", "claude-*=m", "--position", "1"),
    )
    assert (ran.code, ran.out) == (0, "")
    assert "new added as fallback 1 of 3" in ran.err
    assert "config rollback" in ran.err
    assert "key-of-the-new-one" not in ran.err
    found = ccf("providers", "show", "new", "--json", "--show-keys").json["provider"]
    assert found["api_key"] == "key-of-the-new-one"
    assert found["auth_header"] == "Authorization"
    assert found["retry"] == 2
    assert found["disabled"] is True
    assert found["headers"] == {"X-A": "b=c", "X-B": "d"}
    assert found["model_mapping"] == {"claude-*": "m"}
    assert listed(ccf("providers", "list", "--json"))[1:] == ["new", "one", "two"]
    assert paths.config.read_text().count("# mine\n") == 1
    if os.name != "nt":
        assert stat.S_IMODE(paths.config.stat().st_mode) == 0o600


def test_adding_speaks_json(ccf: Run) -> None:
    ran = ccf("providers", "add", "new", "--base-url", "https://new.example", "--json")
    assert ran.json["provider"]["name"] == "new"


def test_a_key_comes_through_a_pipe(ccf_process: Run) -> None:
    add = ("providers", "add", "new", "--base-url", "https://new.example")
    ran = ccf_process(*add, "--api-key-stdin", given="piped-key-1234567\n")
    assert ran.code == 0
    assert "piped-key" not in ran.out + ran.err
    shown = ccf_process("providers", "show", "new", "--json", "--show-keys").json
    assert shown["provider"]["api_key"] == "piped-key-1234567"


def test_an_empty_pipe_holds_no_key(ccf: Run) -> None:
    ran = ccf("providers", "add", "new", "--base-url", "http://x.example", "--api-key-stdin")
    assert ran.code == 1
    assert "standard input" in ran.err


def test_no_key_is_prompted_for_in_a_pipe(ccf: Run) -> None:
    ran = ccf("providers", "add", "new", "--base-url", "https://new.example", given="x\n")
    assert ran.code == 0
    shown = ccf("providers", "show", "new", "--json").json["provider"]
    assert shown["api_key"] is None


@pytest.mark.parametrize(
    "options",
    [
        ("--api-key", "a", "--api-key-env", "B"),
        ("--api-key", "a", "--api-key-stdin"),
        ("--header", "no-sign"),
        ("--map", "=x"),
        ("--map", "x="),
        ("--retry", "many"),
        ("--position", "0"),
    ],
)
def test_wrong_usage_changes_nothing(ccf: Run, paths: Paths, options: tuple[str, ...]) -> None:
    before = paths.config.read_text()
    assert ccf("providers", "add", "new", "--base-url", "http://x", *options).code == 2
    assert paths.config.read_text() == before


def test_bad_values_are_named_together_and_change_nothing(ccf: Run, paths: Paths) -> None:
    before = paths.config.read_text()
    ran = ccf("providers", "add", "new", "--base-url", "ftp://x", "--retry", "99")
    assert ran.code == 1
    for part in ("was not changed", "config.toml", "new.base_url", "http://", "new.retry", "10"):
        assert part in ran.err
    assert paths.config.read_text() == before


@pytest.mark.parametrize("name", ["one", "anthropic-primary"])
def test_an_existing_name_is_refused_with_the_way_on(ccf: Run, name: str) -> None:
    ran = ccf("providers", "add", name, "--base-url", "http://x.example")
    assert ran.code == 1
    assert f"ccfallback providers set {name}" in ran.err


def test_several_are_removed_at_once(ccf: Run) -> None:
    ran = ccf("providers", "remove", "one", "two", "--yes", "--json")
    assert ran.json == {"removed": ["one", "two"]}
    assert "config rollback" in ran.err
    assert listed(ccf("providers", "list", "--json")) == ["anthropic-primary"]


def test_none_is_removed_where_one_is_unknown(ccf: Run, paths: Paths) -> None:
    before = paths.config.read_text()
    ran = ccf("providers", "remove", "one", "towo")
    assert ran.code == 1
    assert "did you mean two?" in ran.err
    assert paths.config.read_text() == before


def test_the_primary_stays(ccf: Run) -> None:
    ran = ccf("providers", "remove", "anthropic-primary")
    assert ran.code == 1
    assert "providers disable anthropic-primary" in ran.err


@pytest.mark.parametrize("name", ["one", "anthropic-primary"])
def test_switching_twice_is_not_a_failure(ccf: Run, name: str) -> None:
    def disabled() -> Any:
        return ccf("providers", "show", name, "--json").json["provider"]["disabled"]

    for verb, expected in (("disable", True), ("enable", False)):
        first = ccf("providers", verb, name)
        assert (first.code, disabled()) == (0, expected)
        assert "config rollback" in first.err
        second = ccf("providers", verb, name)
        assert (second.code, disabled()) == (0, expected)
        assert "nothing to change" in second.err


def test_an_unknown_name_is_not_switched(ccf: Run) -> None:
    assert ccf("providers", "disable", "one", "nobody").code == 1
    assert not ccf("providers", "show", "one", "--json").json["provider"]["disabled"]


def test_without_a_file_the_chain_is_the_primary(
    ccf: Run, paths: Paths, configure: Callable[[str], None]
) -> None:
    paths.config.unlink()
    assert listed(ccf("providers", "list", "--json")) == ["anthropic-primary"]
    assert not paths.config.exists()


def test_a_preset_fills_in_only_what_the_user_did_not_give(ccf: Run) -> None:
    ran = ccf("providers", "add", "deep", "--preset", "deepseek", "--api-key-env", "K", "--json")
    provider = ran.json["provider"]
    assert provider["base_url"] == "https://api.deepseek.com/anthropic"
    assert provider["format"] == "anthropic"
    assert provider["api_key_env"] == "K"
    own = ("--base-url", "https://mine.example", "--map", "*=mine")
    provider = ccf("providers", "add", "own", "--preset", "deepseek", *own, "--json").json[
        "provider"
    ]
    assert provider["base_url"] == "https://mine.example"
    assert provider["model_mapping"]["*"] == "mine"


def test_a_preset_that_needs_an_address_or_is_unknown_says_so(ccf: Run) -> None:
    ran = ccf("providers", "add", "az", "--preset", "azure-claude")
    assert ran.code == 1
    assert "--base-url https://my-resource.services" in ran.err
    ran = ccf("providers", "add", "x", "--preset", "deepsek")
    assert "did you mean deepseek?" in ran.err
    assert ccf("providers", "add", "x").code == 2


@pytest.mark.parametrize(
    ("preset", "missing", "given", "expected"),
    [
        (
            "bedrock-mantle",
            "--aws-region REGION",
            ("--aws-region", "eu-west-1"),
            {
                "base_url": "https://bedrock-mantle.eu-west-1.api.aws/anthropic",
                "auth": "aws",
                "auth_header": "Authorization",
            },
        ),
        (
            "bedrock-mantle",
            "--aws-region REGION",
            ("--aws-region", "eu-west-1", "--api-key-env", "AWS_BEARER_TOKEN_BEDROCK"),
            {"auth": "key", "auth_header": "Authorization"},
        ),
        (
            "claude-platform-aws",
            "--aws-region REGION and --fill workspace=…",
            ("--aws-region", "us-east-1", "--fill", "workspace=wrkspc_1"),
            {
                "base_url": "https://aws-external-anthropic.us-east-1.api.aws",
                "headers": {"anthropic-workspace-id": "wrkspc_1"},
                "auth_header": "x-api-key",
            },
        ),
        (
            "claude-platform-aws",
            "--fill workspace=…",
            ("--auth", "aws", "--aws-region", "us-east-1", "--header", "anthropic-workspace-id=w"),
            {
                "aws": {"profile": None, "region": "us-east-1", "sign": "sigv4"},
                "headers": {"anthropic-workspace-id": "w"},
                "auth_header": "Authorization",
            },
        ),
        (
            "vertex",
            "--google-project PROJECT",
            ("--google-project", "p"),
            {
                "base_url": "https://aiplatform.googleapis.com",
                "format": "vertex",
                "google": {"project": "p", "location": "global"},
                "auth": "google",
            },
        ),
        (
            "vertex",
            "--google-project PROJECT",
            ("--google-project", "p", "--google-location", "europe-west1"),
            {"base_url": "https://europe-west1-aiplatform.googleapis.com"},
        ),
        (
            "claude-google-cloud",
            "--google-project PROJECT and --fill workspace=…",
            ("--google-project", "p", "--fill", "workspace=w"),
            {
                "base_url": "https://claude.googleapis.com/v1/projects/p/locations/global"
                "/workspaces/w/invoke",
                "auth": "google",
            },
        ),
        (
            "foundry",
            "--fill resource=…, or the whole URL",
            ("--fill", "resource=mine"),
            {"base_url": "https://mine.services.ai.azure.com/anthropic", "auth": "key"},
        ),
        (
            "foundry",
            "--fill resource=…",
            ("--base-url", "https://own.services.ai.azure.com/anthropic", "--auth", "azure"),
            {"auth": "azure", "auth_header": "Authorization"},
        ),
    ],
)
def test_a_preset_says_what_it_needs(
    ccf: Run, preset: str, missing: str, given: tuple[str, ...], expected: dict[str, Any]
) -> None:
    ran = ccf("providers", "add", "new", "--preset", preset)
    assert ran.code == 1
    assert missing in ran.err
    added = ccf("providers", "add", "new", "--preset", preset, *given, "--json")
    assert added.code == 0, added.err
    provider = added.json["provider"]
    assert {key: provider[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("given", "key", "cure"),
    [
        (("--format", "vertex"), "google.project", ("--google-project", "p")),
        (
            ("--base-url", "https://aws-external-anthropic.us-east-1.api.aws"),
            "headers.anthropic-workspace-id",
            ("--header", "anthropic-workspace-id=w"),
        ),
    ],
)
def test_what_a_provider_needs_before_it_can_be_used_is_said(
    ccf: Run, given: tuple[str, ...], key: str, cure: tuple[str, ...]
) -> None:
    ran = ccf("providers", "add", "new", *given)
    assert ran.code == 0
    assert f"set providers.new.{key}" in ran.err
    assert "can't be used yet" not in ccf("providers", "set", "new", *cure).err


def test_the_presets_are_listed(ccf: Run) -> None:
    presets = ccf("providers", "presets", "--json").json["presets"]
    known = next(preset for preset in presets if preset["name"] == "openrouter")
    assert set(known) >= {"title", "base_url", "format", "key_url", "key_env", "quirks"}
    assert "deepseek" in ccf("providers", "presets").out


def test_no_url_of_a_preset_is_split(ccf: Run, ccf_screen: Callable[..., str]) -> None:
    presets = ccf("providers", "presets", "--json").json["presets"]
    shown = ccf_screen("providers", "presets", columns=80).split()
    assert {preset["key_url"] or "none" for preset in presets} <= set(shown)


def test_only_the_given_options_of_a_provider_change(ccf: Run) -> None:
    given = ("--retry", "3", "--header", "X-A=1", "--quirk", "max_output_tokens=8192")
    changed = ccf("providers", "set", "two", *given, "--position", "1", "--json").json["provider"]
    assert (changed["retry"], changed["headers"]) == (3, {"X-A": "1"})
    assert changed["quirks"] == {"max_output_tokens": 8192}
    assert changed["base_url"] == "https://two.example"
    names = [p["name"] for p in ccf("providers", "list", "--json").json["providers"]]
    assert names == ["anthropic-primary", "two", "one"]
    taken_out = ("--quirk", "max_output_tokens=", "--enabled", "--json")
    assert ccf("providers", "set", "two", *taken_out).json["provider"]["quirks"] == {}
    assert ccf("providers", "set", "anthropic-primary", "--retry", "1").code == 0
    assert "nothing changed" in ccf("providers", "set", "two", "--retry", "3").err
    ran = ccf("providers", "set", "two", "--quirk", "max_output_tokens=many")
    assert ran.code == 1
    assert "max_output_tokens" in ran.err


def test_an_empty_value_removes_a_header_and_a_model(ccf: Run) -> None:
    emptied = ccf("providers", "set", "one", "--header", "x-title=", "--json").json["provider"]
    assert list(emptied["headers"]) == ["X-Api-Token"]
    emptied = ccf("providers", "set", "two", "--map", "*=", "--json").json["provider"]
    assert emptied["model_mapping"] == {}


def test_a_provider_is_moved(ccf: Run) -> None:
    assert ccf("providers", "move", "two", "--to", "1", "--json").json == {
        "providers": ["two", "one"]
    }
    assert "already" in ccf("providers", "move", "two", "--to", "1").err
    assert ccf("providers", "move", "anthropic-primary", "--to", "1").code == 1


def test_what_was_learned_is_shown_and_forgotten_and_outlives_a_reset(
    ccf: Run, paths: Paths
) -> None:
    until = round(time() * 1000) + 3_600_000
    lesson = {"rectifier": "extra_fields", "model": "m", "message": "x: refused", "until": until}
    provider = ConfigFile(paths.config, FORMATS, lambda: (), region_here).load().provider("two")
    assert provider is not None
    kept = {**lesson, "fingerprint": fingerprint(provider)}
    gone = {**kept, "message": "y: refused", "fingerprint": "of another server"}
    state = {"consecutiveFailures": 3, "learned": [kept, gone]}
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    paths.state.write_bytes(msgspec.json.encode({"version": 1, "providers": {"two": state}}))
    assert ccf("breaker", "reset", "two").code == 0
    shown = ccf("providers", "show", "two", "--json").json["provider"]
    assert shown["learned"] == [lesson]
    assert shown["state"]["consecutiveFailures"] == 0
    assert "x: refused" in ccf("providers", "show", "two").out
    assert ccf("providers", "forget", "two", "--json").json == {"forgotten": {"two": 2}}
    assert ccf("providers", "show", "two", "--json").json["provider"]["learned"] == []
    assert "nothing to forget" in ccf("providers", "forget", "two").err


def test_what_is_pasted_is_cleaned(ccf: Run, paths: Paths) -> None:
    ccf("providers", "add", "a", "--base-url", " https://a.example/v1 ", "--api-key", '"sk-1"')
    given = "export OPENAI_API_KEY=sk-2\n"
    ccf("providers", "add", "b", "--base-url", "https://b.example", "--api-key-stdin", given=given)
    text = paths.config.read_text()
    for line in ('base_url = "https://a.example/v1"', 'api_key = "sk-1"', 'api_key = "sk-2"'):
        assert line in text


def test_a_format_that_the_url_implies_is_printed(ccf: Run) -> None:
    said = "taken as the OpenAI format (from the URL)"
    url = "https://oa.example/v1/chat/completions"
    ran = ccf("providers", "add", "oa", "--base-url", url, "--json")
    assert said in ran.err
    assert ran.json["provider"]["format"] == "openai"
    assert ran.json["provider"]["auth_header"] == "Authorization"
    assert said not in ccf("providers", "set", "oa", "--format", "openai").err
    assert said not in ccf("providers", "add", "an", "--base-url", "https://a.test/v1/messages").err
    assert said in ccf("providers", "set", "an", "--base-url", url).err


def test_the_account_of_a_provider_is_set_by_flags(ccf: Run) -> None:
    flags = ("--auth", "aws", "--aws-profile", "work", "--aws-region", "eu-central-1")
    ran = ccf("providers", "add", "aws", "--base-url", "https://a.test", *flags, "--json")
    assert ran.json["provider"]["aws"] == {
        "profile": "work",
        "region": "eu-central-1",
        "sign": "bearer",
    }
    shown = ccf("providers", "show", "aws").out
    assert "profile = work, region = eu-central-1, sign = bearer" in shown
    assert "google" not in shown
    ran = ccf("providers", "set", "aws", "--aws-profile", "", "--aws-sign", "sigv4", "--json")
    assert ran.json["provider"]["aws"]["profile"] is None
    assert ran.json["provider"]["aws"]["sign"] == "sigv4"
    ran = ccf("providers", "set", "aws", "--context-window", "200000", "--json")
    assert ran.json["provider"]["context_window"] == 200000
    ran = ccf("providers", "set", "aws", "--auth", "amazon")
    assert ran.code == 1
    assert 'expected one of "key", "aws", "google", "azure"' in ran.err
    assert ccf("config", "get", "providers.aws.aws.region").out == "eu-central-1\n"


def test_the_name_of_a_preset_is_enough_where_the_machine_knows_the_rest(
    ccf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--aws-region REGION" in ccf("providers", "add", "bedrock").err
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "mine")
    added = ccf("providers", "add", "bedrock", "--json").json["provider"]
    assert added["base_url"] == "https://bedrock-runtime.ap-south-1.amazonaws.com"
    assert added["auth"] == "aws"
    # An option has priority, and any other name than a preset's is only a name.
    given = ("--preset", "vertex", "--google-project", "other")
    assert ccf("providers", "add", "g", *given, "--json").json["provider"]["google"]["project"] == (
        "other"
    )
    ran = ccf("providers", "add", "vertex")
    assert "its settings are those of the preset vertex" in ran.err
    shown = ccf("providers", "show", "vertex", "--json").json["provider"]
    assert shown["google"]["project"] == "mine"
    assert ccf("providers", "add", "no-preset").code == 2


def test_the_region_of_the_profile_is_enough_for_a_preset(ccf: Run, home: Path) -> None:
    folder = home / ".aws"
    folder.mkdir(parents=True)
    (folder / "config").write_text("[profile work]\nregion = eu-north-1\n")
    ran = ccf("providers", "add", "bedrock-mantle", "--aws-profile", "work", "--json")
    expected = "https://bedrock-mantle.eu-north-1.api.aws/anthropic"
    assert ran.json["provider"]["base_url"] == expected


@pytest.mark.parametrize(
    ("preset", "given", "platform"),
    [
        ("bedrock-mantle", ("--aws-region", "us-east-1"), "mantle"),
        ("foundry", (), "foundry"),
        ("claude-google-cloud", ("--google-project", "p"), "claude-google-cloud"),
        ("bedrock", ("--aws-region", "us-east-1"), None),
        ("deepseek", (), None),
    ],
)
def test_a_preset_behind_a_gateway_keeps_its_platform(
    ccf: Run, preset: str, given: tuple[str, ...], platform: str | None
) -> None:
    address = ("--base-url", "https://gateway.example.com/anthropic")
    added = ccf("providers", "add", "new", "--preset", preset, *address, *given, "--json")
    assert added.code == 0, added.err
    assert added.json["provider"].get("platform") == platform


def test_a_login_replaces_the_key(ccf: Run) -> None:
    ccf("providers", "add", "az", "--base-url", "http://127.0.0.1:9", "--api-key-env", "K")
    ccf("providers", "set", "az", "--auth", "azure")
    assert "Azure login" in ccf("providers", "list").out
    ccf("providers", "set", "az", "--auth", "aws", "--api-key-env", "K")
    assert "$K" in ccf("providers", "list").out


def test_caps_and_prices_are_shown_in_dollars(ccf: Run) -> None:
    assert ccf("providers", "set", "two", "--cap-day", "5", "--cap-month", "60.5").code == 0
    assert ccf("config", "set", "providers.two.prices.input", "0.25").code == 0
    shown = ccf("providers", "show", "two").out
    assert "day = $5.00, month = $60.50" in shown
    assert "input = $0.25" in shown
    found = msgspec.json.decode(ccf("providers", "show", "two", "--json").out)["provider"]
    assert found["cap"] == {"day": 5.0, "month": 60.5}
    assert ccf("config", "set", "providers.two.cap.day", "much").code == 1


def test_a_name_that_differs_only_in_case_is_taken(ccf: Run) -> None:
    assert ccf("providers", "add", "Spare", "--base-url", "http://a.test").code == 0
    ran = ccf("providers", "add", "sPARE", "--base-url", "http://b.test")
    assert (ran.code, "already a provider named Spare" in ran.err) == (1, True)
    assert ccf("providers", "add", "Anthropic-Primary", "--base-url", "http://b.test").code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a", "--preset", "deepseek"), "a has no key, and api.deepseek.com needs one"),
        (("a", "--preset", "deepseek", "--api-key-env", "K"), ""),
        (("a", "--base-url", "http://localhost:1"), ""),
        (("a", "--base-url", "https://a.example/?key=k"), ""),
    ],
)
def test_a_provider_that_lacks_a_key_says_so(
    ccf: Run, arguments: tuple[str, ...], said: str
) -> None:
    ran = ccf("providers", "add", *arguments)
    assert ran.code == 0
    assert ("has no key" in ran.err) == bool(said)
    assert said in ran.err
    if said:
        assert "`ccfallback" in ran.err.partition(said)[2]
        assert "providers set a --api-key-stdin`" in ran.err
