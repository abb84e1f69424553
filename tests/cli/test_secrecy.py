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


def test_a_secret_that_was_requested_is_shown(lived: RunningProxy, ccf: Run) -> None:
    listed = ("providers list", "config show", "config get primary.api_key")
    for command in ("config export", "env", *(f"{command} --show-keys" for command in listed)):
        assert HIDDEN in ccf(*command.split()).out
