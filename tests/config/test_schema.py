"""The configuration's keys: each with its default, and a fault for whatever is wrong."""

import tomllib
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.config.model import Config, KeySource, Provider, Timeouts, Token
from ccfallback.config.schema import defaults, dotted_keys, look_up, mask_table, parse
from ccfallback.errors import ConfigError
from ccfallback.redact import Secret
from ccfallback.wire import FORMATS

BASE = {"name": "b", "base_url": "https://b.test"}


def read(table: dict[str, Any]) -> Config:
    return parse(table, formats=FORMATS)


def faults(table: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(table)
    return [str(fault) for fault in refused.value.faults]


def with_provider(**members: Any) -> dict[str, Any]:
    return {"providers": [{**BASE, **members}]}


def test_nothing_at_all_is_the_default() -> None:
    assert read({}) == Config()


EVERY_KEY = """
[server]
host = "127.0.0.1"
port = 8787
max_body_bytes = 33554432
allowed_hosts = []
allowed_origins = []
[primary]
base_url = "https://api.anthropic.com"
disabled = false
retry = 0
headers = {}
model_mapping = {}
auth_header = "x-api-key"
timeouts = { connect = 10, first_byte = 30, non_streaming = 600, idle = 90 }
[failover]
on = ["401", "402", "403", "404", "408", "429", "5xx"]
[breaker]
max_cooldown = 300
honor_reset = true
max_reset = 21600
network_wait = 5
[network]
[failback]
mode = "auto"
cache_ttl = 300
[routes]
[timeouts]
connect = 10
first_byte = 30
non_streaming = 600
idle = 90
[rectifier]
enabled = true
thinking_signature = true
[privacy]
billing_header = "strip"
[log]
level = "info"
max_bytes = 10485760
backups = 5
"""


def test_every_key_with_its_default_changes_nothing() -> None:
    assert read(tomllib.loads(EVERY_KEY)) == Config()


def test_a_provider_with_every_key() -> None:
    table = with_provider(
        format="openai",
        api_key="not-a-key",
        auth_header="X-Key",
        retry=2,
        disabled=True,
        headers={"X-Title": "Claude Code"},
        model_mapping={"claude-*": "other"},
        timeouts={"first_byte": 20},
    )
    assert read(table).providers == (
        Provider(
            name="b",
            base_url="https://b.test",
            format="openai",
            key=KeySource(literal=Secret("not-a-key")),
            auth_header="X-Key",
            retry=2,
            disabled=True,
            headers={"X-Title": "Claude Code"},
            model_mapping={"claude-*": "other"},
            timeouts=Timeouts(first_byte=20, idle=180),
        ),
    )


def test_the_defaults_of_a_provider() -> None:
    assert read(with_provider()).providers == (Provider(name="b", base_url="https://b.test"),)
    assert read(with_provider(format="openai")).providers[0].auth_header == "Authorization"


@pytest.mark.parametrize(
    ("shared", "own", "wire_format", "idle"),
    [
        ({}, {}, "anthropic", 90),
        ({}, {}, "openai", 180),
        ({"idle": 70}, {}, "anthropic", 70),
        ({"idle": 70}, {}, "openai", 70),
        ({}, {"idle": 60}, "openai", 60),
        ({"idle": 70}, {"idle": 60}, "openai", 60),
        ({"connect": 5}, {}, "openai", 180),
    ],
)
def test_a_reasoning_model_may_think_in_silence(
    shared: dict[str, Any], own: dict[str, Any], wire_format: str, idle: float
) -> None:
    config = read({"timeouts": shared, **with_provider(format=wire_format, timeouts=own)})
    assert config.providers[0].timeouts.idle == idle
    assert config.primary.timeouts.idle == shared.get("idle", 90)
    assert config.providers[0].timeouts.connect == shared.get("connect", 10)


def test_the_sources_of_a_key() -> None:
    assert read(with_provider(api_key_env="NAME")).providers[0].key == KeySource(env="NAME")
    variables = read(with_provider(api_key_env=["A", "B"])).providers[0].key
    assert variables == KeySource(env=("A", "B"))
    several = read(with_provider(api_keys=["x", "y"])).providers[0].key
    assert several == KeySource(literals=(Secret("x"), Secret("y")))
    command = read(with_provider(api_key_command=["pass", "x"])).providers[0].key
    assert command == KeySource(command=("pass", "x"))


def test_tokens_and_the_rest() -> None:
    config = read(
        {
            "tokens": [{"token": "t-one", "note": "laptop"}, {"token": "t-two"}],
            "network": {"proxy": "socks5://h:1"},
            "rectifier": {"enabled": False, "thinking_budget": False},
            "privacy": {"billing_header": "keep"},
            "primary": {"api_key": "not-a-key"},
            "failover": {"on": ["5xx"]},
        }
    )
    assert config.tokens == (
        Token(token=Secret("t-one"), note="laptop"),
        Token(token=Secret("t-two")),
    )
    assert config.network.proxy == "socks5://h:1"
    assert config.rectifiers.off == {"thinking_budget"}
    assert not config.rectifiers.enabled
    assert not config.privacy.strip_billing_header
    assert config.primary.key.literal == Secret("not-a-key")
    assert config.failover.statuses == frozenset(range(500, 600))


SECTIONS: list[tuple[str, str, Any]] = [
    ("server", "host", ""),
    ("server", "port", 70000),
    ("server", "port", "8787"),
    ("server", "max_body_bytes", 0),
    ("server", "allowed_hosts", "h"),
    ("server", "allowed_origins", [5]),
    ("primary", "base_url", "api.anthropic.com"),
    ("primary", "disabled", "no"),
    ("primary", "retry", -1),
    ("primary", "headers", {"a b": "c"}),
    ("primary", "model_mapping", {"a": 5}),
    ("primary", "auth_header", "a b"),
    ("primary", "timeouts", 30),
    ("primary", "api_key", 5),
    ("primary", "api_key_env", "not a name"),
    ("primary", "api_key_command", "pass"),
    ("failover", "on", ["200"]),
    ("failover", "on", "5xx"),
    ("breaker", "max_cooldown", -1),
    ("breaker", "honor_reset", 1),
    ("breaker", "max_reset", "6h"),
    ("breaker", "network_wait", float("nan")),
    ("network", "proxy", "h:1"),
    ("timeouts", "connect", 0),
    ("timeouts", "first_byte", "30s"),
    ("timeouts", "non_streaming", True),
    ("timeouts", "idle", -1),
    ("rectifier", "enabled", "yes"),
    ("rectifier", "thinking_signature", 1),
    ("privacy", "billing_header", "drop"),
    ("log", "level", "loud"),
    ("log", "max_bytes", 1),
    ("log", "backups", -1),
]


@pytest.mark.parametrize(("section", "key", "value"), SECTIONS)
def test_a_wrong_value_is_refused_by_its_key(section: str, key: str, value: Any) -> None:
    (fault,) = faults({section: {key: value}})
    assert fault.startswith(f"{section}.{key}: found ")
    assert ", expected " in fault


PROVIDER: list[tuple[str, Any]] = [
    ("name", "a b"),
    ("name", "x" * 65),
    ("name", "anthropic-primary"),
    ("name", 5),
    ("base_url", "b.test"),
    ("base_url", "https://a:b@b.test"),
    ("format", "gemini"),
    ("api_key", ""),
    ("api_keys", []),
    ("api_keys", ["x", ""]),
    ("api_keys", ["x", "x"]),
    ("api_keys", [f"key-{number}" for number in range(33)]),
    ("api_key_env", []),
    ("api_key_env", ["A", "A"]),
    ("auth_header", ""),
    ("retry", 1.5),
    ("disabled", "yes"),
    ("headers", {"a": "b\nc"}),
    ("model_mapping", []),
]


@pytest.mark.parametrize(("key", "value"), PROVIDER)
def test_a_wrong_value_of_a_provider_names_the_provider(key: str, value: Any) -> None:
    (fault,) = faults(with_provider(**{key: value}))
    label = value if key == "name" and isinstance(value, str) else "1" if key == "name" else "b"
    assert fault.startswith(f"providers.{label}.{key}: found ")


def test_what_a_provider_and_a_token_must_have() -> None:
    assert faults({"providers": [{}]}) == [
        "providers.1.name: found nothing, expected a name",
        "providers.1.base_url: found nothing, expected the URL of the provider",
    ]
    assert faults({"tokens": [{}]}) == ["tokens.1.token: found nothing, expected an access token"]


def test_a_name_twice() -> None:
    (fault,) = faults({"providers": [BASE, BASE]})
    assert fault.startswith('providers.b.name: found "b" twice')


def test_a_wrong_name_twice_stays_one_line() -> None:
    wrong = BASE | {"name": "a\nb"}
    with pytest.raises(ConfigError, match=r'found "a\ufffdb" twice') as raised:
        parse({"providers": [wrong, wrong]}, formats=FORMATS)
    assert "\n" not in str(raised.value)


def test_one_source_for_a_key() -> None:
    (fault,) = faults(with_provider(api_key="not-a-key", api_key_env="NAME"))
    assert fault == (
        "providers.b.api_key_env: found both api_key and api_key_env, "
        "expected one source for the key"
    )


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"servr": {}}, "servr: unknown key; did you mean server?"),
        ({"server": {"prot": 1}}, "server.prot: unknown key; did you mean port?"),
        ({"primary": {"timeouts": {"conect": 1}}},
         "primary.timeouts.conect: unknown key; did you mean connect?"),
        ({"providers": [{"name": "b", "url": "http://b.test"}]},
         "providers.b.url: unknown key; did you mean base_url?"),
        (with_provider(apikey="x"), "providers.b.apikey: unknown key; did you mean api_key?"),
        (with_provider(models={}),
         "providers.b.models: unknown key; expected one of"),
        ({"primary": {"format": "openai"}}, "primary.format: unknown key"),
        ({"tokens": [{"token": "t", "nota": ""}]},
         "tokens.1.nota: unknown key; did you mean note?"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_refused_with_the_nearest(table: dict[str, Any], fault: str) -> None:
    *_, found = faults(table)
    assert found.startswith(fault)


@pytest.mark.parametrize("section", ["server", "primary", "breaker", "timeouts", "rectifier"])
@pytest.mark.parametrize("value", [5, "x", [], None])
def test_a_section_that_is_not_a_table_is_a_fault(section: str, value: Any) -> None:
    (fault,) = faults({section: value})
    assert fault.startswith(f"{section}: found ")
    assert fault.endswith("expected a table")


@pytest.mark.parametrize("key", ["providers", "tokens"])
@pytest.mark.parametrize("value", [5, "x", {}, [5], ["x"], [[]]])
def test_a_value_that_is_not_a_list_of_tables_is_a_fault(key: str, value: Any) -> None:
    assert all(fault.startswith(key) for fault in faults({key: value}))


def test_a_route_names_providers() -> None:
    table = {**with_provider(), "routes": {"auxiliary": ["b", "anthropic-primary"]}}
    routes = read(table).routes
    assert routes.get("auxiliary") == ("b", "anthropic-primary")
    assert routes.get("main") is None
    assert routes.get("") is None


@pytest.mark.parametrize(
    ("routes", "fault"),
    [
        ({"main": ["bb"]}, 'main: found "bb", expected one of anthropic-primary, b'),
        ({"main": ["anthropic-primry"]}, "did you mean anthropic-primary?"),
        ({"main": ["b", "b"]}, "a list of different names"),
        ({"main": []}, "a list of different names"),
        ({"main": "b"}, "a list of different names"),
        ({"subagents": ["b"]}, "subagents: unknown key; did you mean subagent?"),
    ],
)
def test_a_wrong_route_is_refused(routes: dict[str, Any], fault: str) -> None:
    (found,) = faults({**with_provider(), "routes": routes})
    assert found.startswith("routes.")
    assert fault in found


def test_all_faults_at_once_and_where_they_are() -> None:
    table = {"server": {"port": -1, "x": 1}, "log": {"level": 5}, "providers": [{**BASE, "y": 1}]}
    with pytest.raises(ConfigError) as refused:
        parse(table, formats=FORMATS, source="config.toml")
    assert [fault.key for fault in refused.value.faults] == [
        "server.port",
        "server.x",
        "log.level",
        "providers.b.y",
    ]
    start = "config.toml has 4 faults: config.toml: server.port: found -1, "
    assert refused.value.message.startswith(start)
    assert [line.split(": ")[1] for line in refused.value.lines[1:]] == [
        fault.key for fault in refused.value.faults
    ]
    assert refused.value.hint


def test_one_fault_is_one_fault() -> None:
    with pytest.raises(ConfigError, match=r"^the configuration: server\.port: found -1, "):
        read({"server": {"port": -1}})


BAD = "\n"
"""Makes a value impossible wherever a text goes on a wire."""

PLACES: list[Any] = [
    lambda s: with_provider(api_key=s + BAD),
    lambda s: with_provider(api_key=[s]),
    lambda s: with_provider(api_key={"value": s}),
    lambda s: with_provider(api_keys=s),
    lambda s: with_provider(api_keys=[s, s]),
    lambda s: with_provider(api_keys=[s, 5]),
    lambda s: with_provider(api_key=s, api_keys=[s]),
    lambda s: with_provider(api_key_env=["NAME", f"{s}-"]),
    lambda s: with_provider(api_key=s, api_key_env="NAME"),
    lambda s: with_provider(api_key_env=f"{s}-"),
    lambda s: with_provider(api_key_command=f"echo {s}"),
    lambda s: with_provider(api_key_command=[s, 5]),
    lambda s: with_provider(auth_header=f"Bearer {s}"),
    lambda s: with_provider(headers={"X-Key": s + BAD + "x"}),
    lambda s: with_provider(headers={"X-Key": [s]}),
    lambda s: with_provider(headers={f"X Key: {s}": "x"}),
    lambda s: with_provider(headers=f"X-Key: {s}"),
    lambda s: with_provider(headers=[f"X-Key: {s}"]),
    lambda s: with_provider(base_url=f"https://name:{s}@b.test"),
    lambda s: with_provider(base_url=f"https://{s}@b.test"),
    lambda s: with_provider(base_url=f"https://name:{s}@b test"),
    lambda s: with_provider(base_url=f"https://name:{s}@[b"),
    lambda s: with_provider(base_url=f"https://name:{s}@b.test:port"),
    lambda s: with_provider(base_url=f"ftp://name:{s}@b.test"),
    lambda s: with_provider(base_url=f"name:{s}@b.test"),
    lambda s: with_provider(base_url=f"https://b.test/?key={s}#x"),
    lambda s: {"primary": {"api_key": [s]}},
    lambda s: {"network": {"proxy": f"ftp://name:{s}@h:1"}},
    lambda s: {"network": {"proxy": f"http://name:{s}@h:port"}},
    lambda s: {"network": {"proxy": f"{s}@h"}},
    lambda s: {"network": {"proxy": [s]}},
    lambda s: {"network": f"http://name:{s}@h"},
    lambda s: {"tokens": [{"token": s + BAD + "x"}]},
    lambda s: {"tokens": [{"token": [s]}]},
    lambda s: {"tokens": [s]},
    lambda s: {"tokens": s},
    lambda s: {"tokens": [{"tokn": s, "token": "t"}]},
    lambda s: {"providers": [s]},
    lambda s: {"primary": s},
]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
@settings(max_examples=8)
@given(secret=st.from_regex(r"[A-Z][A-Za-z0-9]{11,30}", fullmatch=True))
def test_no_secret_shows_in_an_error(place: Any, secret: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(place(secret))
    error = refused.value
    for shown in (str(error), error.message, error.hint, repr(error.faults)):
        assert secret not in shown


WRONG_PLACES: list[Any] = [
    lambda s: with_provider(base_url=s),
    lambda s: with_provider(base_url=f"htps://b.test/{s}"),
    lambda s: with_provider(name=f"{s} x"),
    lambda s: with_provider(format=s),
    lambda s: with_provider(auth=s),
    lambda s: with_provider(auth=f"https://me:{s}@b.test/?key={s}"),
    lambda s: with_provider(retry=s),
    lambda s: with_provider(disabled=s),
    lambda s: with_provider(model_mapping=s),
    lambda s: with_provider(model_mapping=f"{'x ' * 27}{s}"),
    lambda s: with_provider(timeouts={"idle": s}),
    lambda s: with_provider(aws={"region": f"{s}/"}),
    lambda s: with_provider(cap={"day": s}),
    lambda s: with_provider(platform=s),
    lambda s: with_provider(headers={s: 5}),
    lambda s: with_provider(**{s: True}),
    lambda s: {s: True},
    lambda s: {"routes": {"auxiliary": [s]}},
    lambda s: {"server": {"host": f"{s}/"}},
    lambda s: {"log": {"level": s}},
    lambda s: {"network": {"ca_file": s}},
    lambda s: {"rectifier": {s: 5}},
]


@pytest.mark.parametrize("place", WRONG_PLACES, ids=range(len(WRONG_PLACES)))
@pytest.mark.parametrize(
    "key",
    [
        "sk-SECRETVALUE12",
        "sk-ant-api03-Ab_9-xyzXYZ",
        "0123456789abcdef0123",
        "gsk_AbCdEfGh1JkLmNoPqRs",
    ],
)
def test_no_key_in_a_wrong_place_shows_in_an_error(place: Any, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(place(key))
    error = refused.value
    for shown in (str(error), error.message, error.hint, *map(str, error.faults), *error.lines):
        assert key not in shown
        assert key[:12] not in shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [("gateway-of-the-team-2", "gateway-of-the-team-2"), ("sk-ant-api03-Ab_9-xyzXYZ", "***")],
)
def test_a_fault_shows_the_name_of_its_provider_unless_it_looks_like_a_key(
    name: str, shown: str
) -> None:
    assert faults(with_provider(name=name, retry=-1))[0].startswith(f"providers.{shown}.retry:")


KEYS = st.sampled_from(
    [
        *("server", "primary", "providers", "tokens", "timeouts", "failover", "on", "headers"),
        *("name", "base_url", "api_key", "port", "log", "level", "rectifier", "network", "proxy"),
    ]
) | st.text(max_size=4)
TOML = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(table=st.dictionaries(KEYS, TOML, max_size=5))
def test_any_table_is_a_configuration_or_a_list_of_faults_on_one_line(
    table: dict[str, Any],
) -> None:
    message = ""
    try:
        read(table)
    except ConfigError as error:
        message = error.message
    assert message.isprintable()


@pytest.mark.parametrize("token", ["", "  ", "a\nb", "a\x00b", 5])
def test_a_token_is_one_line_of_text(token: object) -> None:
    (fault,) = faults({"tokens": [{"token": token}]})
    found = "a value" if token else "an empty text"
    assert fault.startswith(f"tokens.1.token: found {found}, expected")


MASKED = ["***", "sk-te…1234", ' "sk-te…1234" ', "Bearer ***", "Beare…1234"]


@pytest.mark.parametrize("key", MASKED)
def test_a_masked_key_is_not_taken_for_a_key(key: str) -> None:
    (fault,) = faults(with_provider(api_key=key))
    assert fault == "providers.b.api_key: found a masked key, expected the whole key"


@pytest.mark.parametrize("key", MASKED)
@pytest.mark.parametrize("name", ["x-api-key", "Authorization"])
def test_a_masked_key_is_not_the_value_of_a_header(key: str, name: str) -> None:
    (fault,) = faults(with_provider(headers={"X-Title": "***", name: key}))
    assert fault == f"providers.b.headers: found a masked key, expected the whole value of {name}"


@pytest.mark.parametrize(
    ("section", "table", "found"),
    [
        ("failover", {"on": ["429", "abc"]}, 'failover.on: found "abc" in it, expected'),
        ("quota", {"spare_classes": ["x"]}, 'quota.spare_classes: found "x" in it, expected'),
        ("server", {"allowed_hosts": ["x", 1]}, "server.allowed_hosts: found 1 in it, expected"),
        ("primary", {"model_mapping": {"a": ""}}, 'primary.model_mapping: found "" for "a", exp'),
        ("breaker", {"max_reset": -1}, "breaker.max_reset: found -1, expected a number of seconds "
         "from 0 to 2678400"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_value_is_named(section: str, table: Any, found: str) -> None:
    (fault,) = faults({section: table})
    assert fault.startswith(found)


def test_no_token_stands_there_twice() -> None:
    (fault,) = faults({"tokens": [{"token": "t-one"}, {"token": "t-one"}, {"token": "t-two"}]})
    assert fault.startswith("tokens.2.token: found the same token twice")
    assert "t-one" not in fault


def test_the_defaults_are_a_configuration_that_changes_nothing() -> None:
    def without_none(table: dict[str, Any]) -> dict[str, Any]:
        return {
            key: without_none(value) if isinstance(value, dict) else value
            for key, value in table.items()
            if value is not None and not isinstance(value, list)
        }

    found = without_none(defaults(Config()))
    assert found["primary"]["timeouts"]
    assert read({**found, "failover": defaults(Config())["failover"]}) == Config()


def test_a_key_in_the_file_beats_the_default() -> None:
    config = read(with_provider(format="openai"))
    assert look_up("server.port", {"server": {"port": 1}}, defaults(config)) == 1
    assert look_up("server.port", {}, defaults(config)) == 8787
    assert look_up("providers.b.timeouts.idle", {}, defaults(config)) == 180
    assert look_up("providers.b.auth_header", {}, defaults(config)) == "Authorization"
    for key in ("network.proxy", "providers.b.api_key"):
        with pytest.raises(ConfigError, match="is not set"):
            look_up(key, {}, defaults(config))
    with pytest.raises(ConfigError, match="there is no key"):
        look_up("server.nothing", {}, defaults(config))


def test_keys_name_providers_by_name() -> None:
    assert list(dotted_keys({"providers": [{"name": "a", "retry": 1}]})) == [
        "providers",
        "providers.a",
        "providers.a.name",
        "providers.a.retry",
    ]


def test_a_masked_table_shows_no_secret_wherever_it_is() -> None:
    secret = "sk-0123456789abcdefghij"
    table = {
        "network": {"proxy": f"http://me:{secret}@h:1"},
        "tokens": [{"token": secret, "note": "laptop"}],
        "primary": {"base_url": f"https://h/v1?key={secret}", "headers": {"X-Key": secret}},
        "providers": [
            {"api_key": secret, "extra_body": {"token": 5, "headers": [1], "a": [secret]}},
            {"api_key_command": ["pass", f"--token={secret}"]},
        ],
    }
    shown = mask_table(table)
    assert secret not in str(shown)
    assert shown["tokens"][0]["note"] == "laptop"
    assert shown["providers"][0]["extra_body"]["token"] == 5
    assert shown["providers"][0]["extra_body"]["headers"] == [1]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/v1/chat/completions", "openai"),
        ("https://h/v1/chat/completions/?key=x", "openai"),
        (" https://h/V1/Chat/Completions ", "openai"),
        ("https://h/v1/messages", "anthropic"),
        ("https://h/v1", "anthropic"),
        ("https://h/chat/completions/v2", "anthropic"),
        ("https://h/v1?to=/chat/completions", "anthropic"),
    ],
)
def test_an_endpoint_means_its_format_unless_one_is_given(url: str, expected: str) -> None:
    provider = read({"providers": [{"name": "a", "base_url": url}]}).providers[0]
    assert provider.format == expected
    assert provider.auth_header == FORMATS[expected].auth_header
    for named in FORMATS:
        table = {"name": "a", "base_url": url, "format": named}
        assert read({"providers": [table]}).providers[0].format == named


@pytest.mark.usefixtures("untraced")
def test_many_providers_and_tokens_take_linear_time() -> None:
    def seconds(count: int) -> float:
        table = {
            "providers": [{"name": f"p{n}", "base_url": "https://h.test"} for n in range(count)],
            "tokens": [{"token": f"token-{n}"} for n in range(count)],
        }
        began = process_time()
        read(table)
        return process_time() - began

    # Quadratic time would be 64 times as long.
    assert min(seconds(2000) for _ in range(2)) < 30 * min(seconds(250) for _ in range(3))


def test_a_name_or_token_twice_is_named_wherever_it_is() -> None:
    names = [{"name": name, "base_url": "https://h.test"} for name in ("a", "b", "a")]
    with pytest.raises(ConfigError, match='"a" twice'):
        read({"providers": names})
    with pytest.raises(ConfigError, match="the same token twice"):
        read({"tokens": [{"token": token} for token in ("x-1", "y-1", "x-1")]})


@pytest.mark.parametrize(
    ("shared", "own", "is_patient"),
    [
        ({}, {}, True),
        ({"idle": 9}, {}, True),
        ({"first_byte": 30}, {}, False),
        ({}, {"first_byte": 30}, False),
        ({"first_byte": 9}, {"idle": 9}, False),
    ],
)
def test_a_first_byte_timeout_that_is_set_holds_everywhere(
    shared: dict[str, Any], own: dict[str, Any], is_patient: bool
) -> None:
    config = read({"timeouts": shared, "primary": {"timeouts": own}, **with_provider(timeouts=own)})
    assert config.providers[0].timeouts.is_patient == is_patient
    assert config.primary.timeouts.is_patient == is_patient
