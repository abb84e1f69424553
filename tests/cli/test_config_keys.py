"""`config show|get|set`: secrets masked, comments kept, nothing written that would not load."""

import tomllib
from collections.abc import Callable

import pytest

from ccfallback.paths import Paths
from tests.cli.conftest import Run
from tests.conftest import RunningProxy

pytestmark = pytest.mark.usefixtures("two_providers")


def test_show_masks_every_secret(ccf: Run) -> None:
    for arguments in ((), ("--json",)):
        out = ccf("config", "show", *arguments).out
        assert "https://one.example" in out
        for secret in ("abcdefgh", "in-the-query", "header-secret-value"):
            assert secret not in out
    assert "abcdefgh" in ccf("config", "show", "--show-keys").out


def test_show_of_nothing(ccf: Run, paths: Paths) -> None:
    paths.config.unlink()
    assert "nothing is set" in ccf("config", "show").out
    assert ccf("config", "show", "--json").json == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("server.port", "8787"),
        ("timeouts.first_byte", "30"),
        (
            "timeouts",
            '{"connect":10,"first_byte":30,"non_streaming":600,"idle":90,"adaptive":true}',
        ),
        ("breaker.max_reset", "21600"),
        ("quota.switch_at", "1"),
        ("providers.two.base_url", "https://two.example"),
        ("providers.two.retry", "0"),
        ("providers.two.model_mapping", '{"*":"m"}'),
        ("providers.one.headers.X-Title", "cc"),
        ("anthropic-primary.disabled", None),
        ("providers.anthropic-primary.disabled", "false"),
        ("tokens", "[]"),
        ("rectifier.plain_form", "true"),
        ("rectifier.thinking_signature", "true"),
    ],
)
def test_get_says_what_holds(ccf: Run, key: str, value: str | None) -> None:
    ran = ccf("config", "get", key)
    assert (ran.code, ran.out) == ((1, "") if value is None else (0, f"{value}\n"))


def test_a_whole_number_is_shown_as_a_person_writes_it(ccf: Run, paths: Paths) -> None:
    ccf("config", "set", "breaker.max_reset", "900.0")
    assert ccf("config", "get", "breaker.max_reset").out == "900\n"
    assert '"value": 900.0' in ccf("config", "get", "breaker.max_reset", "--json").out
    assert "max_reset = 900.0" in paths.config.read_text()
    assert "~ breaker.max_reset 21600 → 900\n" in ccf("config", "diff").out
    ccf("config", "set", "breaker.max_reset", "0.5")
    assert ccf("config", "get", "breaker.max_reset").out == "0.5\n"


def test_what_show_masks_is_not_taken_for_the_header_itself(ccf: Run, paths: Paths) -> None:
    assert ccf("config", "set", "providers.two.headers.x-api-key", "short").code == 0
    before, shown = paths.config.read_bytes(), ccf("config", "show").out
    assert "short" not in shown
    commands = [
        ("config", "import", "-"),
        ("config", "set", "providers.two.headers.x-api-key", "***"),
        ("config", "set", "providers.two.headers.Authorization", "Bearer ***"),
        ("providers", "set", "two", "--header", "x-api-key=***"),
    ]
    for command in commands:
        ran = ccf(*command, given=shown)
        assert (ran.code, "found a masked key" in ran.err) == (1, True)
    assert paths.config.read_bytes() == before


def test_get_masks_and_names_the_nearest_key(ccf: Run) -> None:
    assert "abcdefgh" not in ccf("config", "get", "providers.one.api_key").out
    assert "abcdefgh" in ccf("config", "get", "providers.one.api_key", "--show-keys").out
    ran = ccf("config", "get", "server.prot", "--json")
    assert ran.code == 1
    assert ran.json["error"]["hint"] == "did you mean server.port?"


@pytest.mark.parametrize(
    ("key", "given", "got"),
    [
        ("server.port", "9000", 9000),
        ("server.host", "::1", "::1"),
        ("log.level", "debug", "debug"),
        ("failover.on", '["429"]', ["429"]),
        ("providers.one.retry", "2", 2),
        ("providers.one.timeouts.first_byte", "45", 45),
        ("providers.two.model_mapping.claude-x-4.5", "y", "y"),
        ("rectifier.max_tokens", "false", False),
    ],
)
def test_set_changes_one_key_and_no_comment(
    ccf: Run, paths: Paths, key: str, given: str, got: object
) -> None:
    ran = ccf("config", "set", key, given, "--json")
    assert (ran.code, ran.json) == (0, {"key": key, "changed": True})
    assert "config rollback" in ran.err
    assert ccf("config", "get", key, "--json").json == {"key": key, "value": got}
    assert paths.config.read_text().startswith("# mine\n")
    assert ccf("config", "set", key, given, "--json").json["changed"] is False


@pytest.mark.parametrize(
    "key",
    [
        "providers.gpt-4.1.retry",
        'providers."gpt-4.1".retry',
        "providers.gpt-4.1.model_mapping.claude-3.5",
        "providers.'gpt-4.1'.model_mapping.\"claude-3.5\"",
        'providers."gpt-4.1".model_mapping.claude-3.5',
    ],
)
def test_a_name_with_dots_stands_as_it_is_or_in_quotes(ccf: Run, paths: Paths, key: str) -> None:
    paths.config.write_text(
        '[[providers]]\nname = "gpt-4"\nbase_url = "https://a.example"\n'
        '[[providers]]\nname = "gpt-4.1"\nbase_url = "https://b.example"\n'
    )
    value = "7" if key.endswith("retry") else "m"
    assert ccf("config", "set", key, value).code == 0
    assert ccf("config", "get", key).out == f"{value}\n"
    written = tomllib.loads(paths.config.read_text())["providers"][1]
    assert written.get("retry", 7) == 7
    assert written.get("model_mapping", {"claude-3.5": "m"}) == {"claude-3.5": "m"}
    assert ccf("config", "unset", key).code == 0
    assert ccf("config", "get", key).out != f"{value}\n"


@pytest.mark.parametrize(
    "key",
    [
        *('"', 'server."port', 'a."b" = 1\nc', 'server."".port', 'server."po\\u0072t"'),
        *("server.port = 'x' #", 'server.port = 5 # "', "providers.two.headers.x-foo = 1 #'"),
        *('"a"=' + "[" * 3000, "server." + "x." * 3000 + "x"),
    ],
)
def test_what_is_not_a_key_is_an_error(ccf: Run, paths: Paths, key: str) -> None:
    before = paths.config.read_bytes()
    for arguments in (("set", key, "1"), ("get", key), ("unset", key)):
        ran = ccf("config", *arguments)
        assert (ran.code, ran.out, "is not a key" in ran.err) == (1, "", True)
    assert paths.config.read_bytes() == before


def test_a_value_with_too_many_brackets_is_text(ccf: Run) -> None:
    ran = ccf("config", "set", "server.port", "[" * 3000)
    assert (ran.code, "expected a whole number" in ran.err) == (1, True)


@pytest.mark.parametrize(
    ("key", "table", "name"),
    [
        ('providers."gpt-4.1".model_mapping.claude-opus[1m]', "model_mapping", "claude-opus[1m]"),
        ("providers.'gpt-4.1'.headers.x-a.b", "headers", "x-a.b"),
        ("primary.model_mapping.claude-3.5", "model_mapping", "claude-3.5"),
    ],
)
def test_a_header_or_a_model_needs_no_quotes(
    ccf: Run, paths: Paths, key: str, table: str, name: str
) -> None:
    paths.config.write_text('[[providers]]\nname = "gpt-4.1"\nbase_url = "https://a.example"\n')
    assert ccf("config", "set", key, "y").code == 0
    assert ccf("config", "get", key).out == "y\n"
    written = tomllib.loads(paths.config.read_text())
    place = written["primary"] if key.startswith("primary.") else written["providers"][0]
    assert place[table] == {name: "y"}


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("providers.gpt-4.1.extra_body.reasoning.effort", "providers"),
        ("tokens.1.cap.day", "tokens"),
    ],
)
def test_a_key_leads_through_each_table(ccf: Run, paths: Paths, key: str, place: str) -> None:
    paths.config.write_text(
        '[[providers]]\nname = "gpt-4.1"\nbase_url = "https://a.example"\nformat = "openai"\n'
        '[[tokens]]\ntoken = "t"\n'
    )
    assert ccf("config", "set", key, "5").code == 0
    assert ccf("config", "get", key).out == "5\n"
    (written,) = tomllib.loads(paths.config.read_text())[place]
    first, second = key.split(".")[-2:]
    assert written.get(first, written.get("extra_body", {}).get(first)) == {second: 5}


TWO_NAMES = """
[[providers]]
name = "a"
base_url = "https://a.example"

[[providers]]
name = "a.retry"
base_url = "https://b.example"
"""


@pytest.mark.parametrize(
    ("key", "provider"),
    [
        ("providers.a.retry", "a"),
        ('providers."a".retry', "a"),
        ("providers.a.retry.retry", "a.retry"),
        ('providers."a.retry".retry', "a.retry"),
    ],
)
def test_an_option_comes_before_a_provider_of_that_name(
    ccf: Run, configure: Callable[[str], None], paths: Paths, key: str, provider: str
) -> None:
    configure(TWO_NAMES)
    assert ccf("config", "get", key).out == "0\n"
    assert ccf("config", "set", key, "2").code == 0
    written = tomllib.loads(paths.config.read_text())["providers"]
    assert [each["name"] for each in written if each.get("retry") == 2] == [provider]
    assert ccf("config", "unset", key).code == 0
    assert paths.config.read_text().strip() == TWO_NAMES.strip()


def test_a_provider_is_not_one_key(ccf: Run, configure: Callable[[str], None]) -> None:
    configure(TWO_NAMES.replace("a.retry", "a.1"))
    for key in ("providers.a", "providers.a.1", 'providers."a.1"'):
        assert ccf("config", "get", key, "--json").json["value"]["name"] == key[10:].strip('"')
        ran = ccf("config", "set", key, "2")
        assert (ran.code, f"{key} is more than one key; name one of its keys" in ran.err) == (
            1,
            True,
        )
    assert "no provider is named nosuch" in ccf("config", "set", "providers.nosuch", "2").err
    for command in ("get", "unset"):
        ran = ccf("config", command, 'providers."b".retry')
        assert "no provider is named b" in ran.err


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("server.port", "many"),
        ("server.prot", "1"),
        ("providers.three.retry", "1"),
        ("server.port.x", "1"),
        ("server.", "1"),
    ],
)
def test_what_would_not_load_is_not_written(ccf: Run, paths: Paths, key: str, given: str) -> None:
    before = paths.config.read_bytes()
    ran = ccf("config", "set", key, given)
    assert ran.code == 1
    assert "bug" not in ran.err
    assert paths.config.read_bytes() == before


def test_another_address_is_for_the_next_start_of_a_running_server(
    ccf: Run, running: Callable[[str], RunningProxy]
) -> None:
    assert "anew" not in ccf("config", "set", "server.port", "9001").err
    proxy = running("")
    assert f"stays at {proxy.url}" in ccf("config", "set", "server.port", "9002").err
    assert "anew" not in ccf("config", "set", "server.port", "9002").err
    assert "anew" not in ccf("config", "set", "timeouts.idle", "80").err


def test_a_secret_may_come_from_stdin(ccf: Run) -> None:
    ran = ccf("config", "set", "providers.one.api_key", "-", given="sk-new-key-0123456789\n")
    assert ran.code == 0
    got = ccf("config", "get", "providers.one.api_key", "--show-keys")
    assert got.out == "sk-new-key-0123456789\n"


def test_the_first_key_of_an_empty_file(
    ccf: Run, configure: Callable[[str], None], paths: Paths
) -> None:
    configure("")
    assert ccf("config", "set", "server.port", "9000").code == 0
    assert paths.config.read_text() == "[server]\nport = 9000\n"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("providers.nosuch.retry", "no provider is named nosuch"),
        ("providers.on", "did you mean one?"),
        ("providers.two.api_key", "providers.two.api_key is not set"),
        ("providers.two.retyr", "did you mean providers.two.retry?"),
        ("nosuch.key", "there is no key nosuch.key"),
    ],
)
def test_a_key_without_a_value_is_an_error(ccf: Run, key: str, said: str) -> None:
    ran = ccf("config", "get", key)
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err
