"""No command shows a key, a token or a password unless it was requested."""

from collections.abc import Callable

import httpx
import pytest

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from tests.cli.conftest import Run
from tests.conftest import RunningProxy

HIDDEN = "hidden0hidden0hidden0hidden"
LEAKY = scripted.error(401, "authentication_error", f"no such key: {HIDDEN}")
READING = (
    "status",
    "stats",
    "stats --since 1h",
    "providers list",
    "providers show anthropic-primary",
    "providers show anthropic",
    "providers test",
    "providers discover",
    "breaker status",
    "explain",
    "logs tail -n 500",
    "logs tail -n 500 --format json",
    "tokens list",
    "config show",
    "config validate",
    "config path",
    "config history",
    "doctor",
    "statusline",
)
CHANGING = (
    f"providers set anthropic --api-key {HIDDEN}",
    f"providers set openai --header X-Auth={HIDDEN}",
    f"providers set openai --base-url https://me:{HIDDEN}@b.test",
    f"providers set openai --api-key {HIDDEN}\n",
    f"providers set openai --header {HIDDEN}",
    f"config set network.proxy http://me:{HIDDEN}@p.test:99999",
    f"config set network.proxy ftp://me:{HIDDEN}@p.test",
    f"config set primary.base_url https://me:{HIDDEN}@b.test",
    f"config set providers.anthropic.api_key {HIDDEN}",
    f"config set primary.api_key_command {HIDDEN}",
    f"config set primary.base_url {HIDDEN}",
    f"config set log.level {HIDDEN}",
    f"config set primary.{HIDDEN} x",
    f"config set primary.api_key Bearer {HIDDEN}",
    f"providers set openai --auth {HIDDEN}",
    f"providers set openai --retry {HIDDEN}",
    f"providers set openai --quirk {HIDDEN}=1",
    f"providers add new --base-url {HIDDEN}",
    f"providers add new --api-key a {HIDDEN}",
    f"providers add new/{HIDDEN} --base-url https://b.test",
    "providers disable anthropic",
    "breaker reset --all",
    "breaker trip anthropic --for 10m",
    "config rollback --yes",
)


@pytest.fixture
def lived(
    upstream: Callable[..., ScriptedUpstream],
    running: Callable[[str], RunningProxy],
    monkeypatch: pytest.MonkeyPatch,
) -> RunningProxy:
    """A server with a secret in every place that can hold one, and failed requests."""
    url = upstream(LEAKY).url
    proxy = running(
        f'[network]\nproxy = "http://me:{HIDDEN}@127.0.0.1:9"\n'
        f'[primary]\nbase_url = "{url}/v1?key={HIDDEN}"\napi_key = "{HIDDEN}"\n'
        f'[[tokens]]\ntoken = "{HIDDEN}"\nnote = "laptop"\n'
        f'[[providers]]\nname = "anthropic"\nbase_url = "{url}/v1?key={HIDDEN}"\n'
        f'api_key_command = ["echo", "{HIDDEN}"]\nheaders = {{ X-Auth = "{HIDDEN}" }}\n'
        f'[[providers]]\nname = "openai"\nformat = "openai"\nbase_url = "{url}/v1?key={HIDDEN}"\n'
        f'auth_header = "X-Odd"\napi_keys = ["{HIDDEN}", "{HIDDEN}-2"]\n'
    )
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": HIDDEN}]}
    for _ in range(3):
        httpx.post(f"{proxy.url}/v1/messages", json=body, headers={"x-ccf-api-key": HIDDEN})
    proxy.wait_for("request.error", 3)
    monkeypatch.setenv("ALL_PROXY", f"http://me:{HIDDEN}@127.0.0.1:9")
    monkeypatch.setenv("ANTHROPIC_API_KEY", HIDDEN)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", HIDDEN)
    return proxy


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("command", READING)
def test_no_reading_command_shows_a_secret(
    lived: RunningProxy, ccf: Run, command: str, as_json: bool
) -> None:
    if as_json and "--format" not in command and command != "statusline":
        command += " --json"
    ran = ccf(*command.split())
    assert ran.out + ran.err
    assert HIDDEN not in ran.out
    assert HIDDEN not in ran.err


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("command", CHANGING, ids=range(len(CHANGING)))
def test_no_changing_command_shows_a_secret(lived: RunningProxy, ccf: Run, command: str) -> None:
    for ran in (
        ccf(*command.split(" ")),
        ccf(*command.split(" "), "--json"),
        ccf("config", "show"),
    ):
        assert ran.out + ran.err
        assert HIDDEN not in ran.out
        assert HIDDEN not in ran.err


@pytest.mark.parametrize(
    "key",
    [
        "sk-ant-api03-Ab_9-xyzXYZ",
        "gsk_madeupmadeupmadeup",
        "hf_madeupmadeupmadeup",
        "AIza-made-up-made-up-made-up",
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        *("config get KEY", "config set KEY x", "config set providers.KEY.retry 1", "help KEY"),
        *("providers show KEY", "providers set KEY --retry 1", "providers add a --preset KEY"),
        *("providers remove KEY --yes", "providers test KEY"),
        *("breaker reset KEY", "providers presets KEY", "KEY", "providers KEY"),
    ],
)
def test_no_error_repeats_a_key_that_was_typed_for_a_name(ccf: Run, command: str, key: str) -> None:
    for more in ((), ("--json",)):
        ran = ccf(*command.replace("KEY", key).split(), *more)
        assert ran.code in (1, 2), ran.out
        assert key[:6] not in ran.out + ran.err


AWS_LIKE = "Made0Up/Made1Up+Made2Up/Made3Up+Made4Up0"


@pytest.mark.parametrize("key", [HIDDEN, AWS_LIKE])
@pytest.mark.parametrize(
    "command", ["config get KEY", "providers add a --preset KEY", "providers presets KEY"]
)
def test_no_error_repeats_a_key_of_an_unknown_kind_that_is_no_name(
    ccf: Run, command: str, key: str
) -> None:
    ran = ccf(*command.replace("KEY", key).split())
    assert ran.code in (1, 2), ran.out
    assert key[:7] not in ran.out + ran.err


@pytest.mark.parametrize(
    "command",
    [
        *("providers show KEY", "providers remove KEY --yes", "providers set KEY --retry 1"),
        *("providers test KEY", "breaker reset KEY", "config get providers.KEY.retry"),
    ],
)
def test_no_error_repeats_a_key_of_an_unknown_kind_as_the_name_of_a_provider(
    ccf: Run, configure: Callable[[str], None], command: str
) -> None:
    configure('[[providers]]\nname = "key-vault-proxy"\nbase_url = "https://b.test"\n')
    for key in (HIDDEN, AWS_LIKE):
        ran = ccf(*command.replace("KEY", key).split())
        assert ran.code in (1, 2), ran.out
        assert key[:7] not in ran.out + ran.err
    ran = ccf(*command.replace("KEY", "key-vault-prox").split())
    assert "no provider is named key-vault-prox; did you mean key-vault-proxy?" in ran.err


def test_a_syntax_error_repeats_no_key(ccf: Run, configure: Callable[[str], None]) -> None:
    configure(f"[server]\n{HIDDEN}.a = 1\n[server.{HIDDEN}]\n")
    ran = ccf("config", "validate")
    assert "config.toml:3: not valid TOML: Cannot declare" in ran.err
    assert HIDDEN not in ran.err


def test_a_secret_that_was_requested_is_shown(lived: RunningProxy, ccf: Run) -> None:
    listed = ("providers list", "config show", "config get primary.api_key")
    for command in ("config export", "env", *(f"{command} --show-keys" for command in listed)):
        assert HIDDEN in ccf(*command.split()).out
