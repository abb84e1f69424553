"""`doctor`: each problem is caused on purpose, found, and reported with its remedy."""

import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import msgspec
import pytest

from ccfallback import __version__
from ccfallback.cli.doctor import context
from ccfallback.cli.doctor.context import sources
from ccfallback.paths import Paths
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Script, ScriptedUpstream
from ccfallback.simulator.scripted_openai import OPENAI
from ccfallback.state import server_file
from tests.cli.conftest import Ran, Run
from tests.cli.test_env import listening
from tests.conftest import RunningProxy

Configure = Callable[[str], None]
Start = Callable[..., ScriptedUpstream]

KEY = 'api_key = "sk-abcdefghijklmnop"\n'
TOKEN = "a-token-that-is-long-enough"

posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes mean nothing there")


@pytest.fixture
def port() -> int:
    """A free port, which the configuration names."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        found: int = trial.getsockname()[1]
    return found


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one, so that no project of ours is read."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def configured(configure: Configure, paths: Paths, port: int) -> Callable[..., None]:
    """Writes a configuration without problems, or with those of `more`."""

    def write(
        more: str = f'[[providers]]\nname = "spare"\nbase_url = "http://x.lan"\n{KEY}',
    ) -> None:
        configure(f"[server]\nport = {port}\n{more}")
        paths.config.chmod(0o600)

    return write


@pytest.fixture
def sick(ccf: Run) -> Callable[..., dict[str, Any]]:
    """Runs `doctor`; returns its only finding of that id."""

    def run(name: str, *arguments: str, severity: str = "error") -> dict[str, Any]:
        ran = ccf("doctor", "--json", *arguments)
        found: list[dict[str, Any]] = ran.json["checks"]
        assert ran.json["ok"] is (ran.code == 0)
        assert ran.code == any(each["severity"] == "error" for each in found)
        (finding,) = [each for each in found if each["id"] == name and not each["ok"]]
        assert finding["severity"] == severity
        assert finding["message"]
        assert finding["remedy"]
        return finding

    return run


Sick = Callable[..., dict[str, Any]]


def ids(ran: Ran, *, ok: bool) -> set[str]:
    return {each["id"] for each in ran.json["checks"] if each["ok"] is ok}


def test_a_good_installation_has_no_findings(
    ccf: Run, running: Callable[[str], RunningProxy], monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    proxy = running(
        f'[server]\nport = {port}\n[[providers]]\nname = "spare"\nbase_url = "http://x.lan"\n{KEY}'
    )
    proxy.paths.config.chmod(0o600)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", proxy.url)
    ran = ccf("doctor", "--json")
    assert (ran.code, ran.json["ok"], ids(ran, ok=False)) == (0, True, set())
    assert set(ran.json["checks"][0]) == {"id", "ok", "severity", "message", "remedy"}
    assert "nothing is wrong" in ran.err


def test_a_fresh_installation_gets_warnings_and_does_not_fail(ccf: Run, configured: Any) -> None:
    configured("")
    ran = ccf("doctor", "--json")
    assert (ran.code, ids(ran, ok=False)) == (0, {"fallbacks", "client"})


def test_the_table_has_sign_message_and_remedy(ccf: Run, configured: Any) -> None:
    configured("")
    ran = ccf("doctor")
    assert "!  fallbacks" in ran.out
    assert "→ `ccfallback providers presets`" in ran.out
    assert ran.err == "2 warnings; --online also tries the providers\n"


def test_doctor_changes_nothing(ccf: Run, configured: Any, paths: Paths, home: Path) -> None:
    configured()
    paths.state.write_text("{")
    before = {path: path.stat().st_mtime_ns for path in paths.config.parent.iterdir()}
    ccf("doctor")
    assert {path: path.stat().st_mtime_ns for path in paths.config.parent.iterdir()} == before
    assert not list(home.iterdir())


def test_no_fallback(sick: Sick, configured: Any) -> None:
    configured("")
    assert "providers add" in sick("fallbacks", severity="warning")["remedy"]


def test_every_fallback_disabled(sick: Sick, configured: Any) -> None:
    configured('[[providers]]\nname = "off"\nbase_url = "http://x.lan"\ndisabled = true\n')
    assert "providers enable off" in sick("fallbacks", severity="warning")["remedy"]


def test_no_provider_enabled(sick: Sick, configured: Any) -> None:
    configured("[primary]\ndisabled = true\n")
    assert "providers enable anthropic-primary" in sick("fallbacks")["remedy"]


@pytest.mark.parametrize(
    ("source", "said", "remedy"),
    [
        ("", "needs one", "--api-key-stdin"),
        ('api_key_env = "SPARE_KEY"', "SPARE_KEY is empty", "export SPARE_KEY"),
        ('api_key_env = "NO_SUCH"', "NO_SUCH is not set", "export NO_SUCH"),
        ('api_key_command = ["false"]', "false failed with exit status 1", "run false yourself"),
        ('api_key_command = ["no-such-program"]', "does not exist", "no-such-program"),
    ],
)
def test_a_provider_without_a_key(
    sick: Sick,
    configured: Any,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    said: str,
    remedy: str,
) -> None:
    monkeypatch.setenv("SPARE_KEY", "")
    configured(f'[[providers]]\nname = "spare"\nbase_url = "https://api.example.com"\n{source}\n')
    finding = sick("keys")
    assert "spare has no key" in finding["message"]
    assert said in finding["message"]
    assert remedy in finding["remedy"]


@pytest.mark.parametrize(
    "table",
    [
        'base_url = "http://127.0.0.1:11434"',
        'base_url = "http://192.168.1.7:8000"',
        'base_url = "http://gpu:8000"',
        'base_url = "https://api.example.com?key=abc"',
        'base_url = "https://api.example.com"\nheaders = { "X-Auth-Token" = "abc" }',
        'base_url = "https://api.example.com"\ndisabled = true',
    ],
)
def test_a_provider_on_a_private_network_may_lack_a_key(
    ccf: Run, configured: Any, table: str
) -> None:
    configured(f'[[providers]]\nname = "spare"\n{table}\n')
    assert "keys" not in ids(ccf("doctor", "--json"), ok=False)


ONE_TOKEN = b'{"data": [{"id": "vendor/claude-sonnet-5.5"}]}'


@pytest.mark.parametrize(
    ("scripts", "said", "remedy"),
    [
        ([scripted.answer(404, b"not found", "text/plain")], "404", "--base-url"),
        ([OPENAI.reply("Hi")], "failed", "--format openai"),
        ([scripted.error(401, "authentication_error")], "401", "--api-key-stdin"),
        (
            [
                scripted.error(404, "not_found_error", "model: claude-sonnet-5-5"),
                scripted.answer(200, ONE_TOKEN),
            ],
            "not_found_error",
            "--map 'claude-sonnet-5-5=vendor/claude-sonnet-5.5'",
        ),
        (
            [scripted.answer(301, b"", headers={"location": "https://new.example/v1"})],
            "redirect",
            "--base-url https://new.example/v1",
        ),
    ],
)
def test_a_provider_that_does_not_answer(
    sick: Sick, configured: Any, upstream: Start, scripts: list[Script], said: str, remedy: str
) -> None:
    url = upstream(*scripts).url
    configured(f'[[providers]]\nname = "spare"\nbase_url = "{url}"\n{KEY}')
    finding = sick("providers", "--online")
    assert "spare" in finding["message"]
    assert said in finding["message"]
    assert remedy in finding["remedy"]


def test_an_endpoint_where_nothing_listens(sick: Sick, configured: Any) -> None:
    configured(f'[[providers]]\nname = "spare"\nbase_url = "http://127.0.0.1:1"\n{KEY}')
    finding = sick("providers", "--online")
    assert "connection refused" in finding["message"]
    assert "127.0.0.1:1" in finding["remedy"]


def test_a_provider_that_is_only_busy_is_not_broken(
    sick: Sick, configured: Any, upstream: Start
) -> None:
    url = upstream(scripted.error(529, "overloaded_error")).url
    configured(f'[[providers]]\nname = "spare"\nbase_url = "{url}"\n{KEY}')
    sick("providers", "--online", severity="warning")


def test_without_online_no_provider_gets_a_request(
    ccf: Run, configured: Any, upstream: Start
) -> None:
    server = upstream(scripted.reply("Hi"))
    configured(f'[[providers]]\nname = "spare"\nbase_url = "{server.url}"\n{KEY}')
    ccf("doctor")
    assert not server.received
    assert "providers" in ids(ccf("doctor", "--online", "--json"), ok=True)
    assert len(server.received) == 1


def state(paths: Paths, **seconds: float) -> None:
    """Writes cooldowns that end in so many seconds."""
    now = time.time()
    providers = {
        name.replace("_", "-"): {
            "consecutiveFailures": 3,
            "cooldownUntil": round((now + left) * 1000),
            "reason": "529 overloaded_error",
        }
        for name, left in seconds.items()
    }
    paths.state.write_bytes(msgspec.json.encode({"version": 1, "providers": providers}))
    paths.state.chmod(0o600)


def test_all_in_cooldown(sick: Sick, configured: Any, paths: Paths) -> None:
    configured()
    state(paths, anthropic_primary=200, spare=100)
    finding = sick("cooldowns")
    assert "spare is back in 2 min" in finding["message"]
    assert "529 overloaded_error" in finding["message"]
    assert "breaker reset --all" in finding["remedy"]


def test_one_provider_in_cooldown_is_not_a_problem(ccf: Run, configured: Any, paths: Paths) -> None:
    configured()
    state(paths, anthropic_primary=200)
    assert "cooldowns" in ids(ccf("doctor", "--json"), ok=True)


def test_a_cooldown_far_in_the_future(sick: Sick, configured: Any, paths: Paths) -> None:
    configured()
    state(paths, spare=10 * 365 * 86400)
    finding = sick("clock", severity="warning")
    assert "spare" in finding["message"]
    assert "breaker reset spare" in finding["remedy"]


@pytest.mark.parametrize("model", ["", "claude-x"])
@pytest.mark.parametrize("time_of", ["lastFailure", "lastSuccess", "cooldownUntil"])
def test_a_time_that_lies_in_the_future(
    sick: Sick, configured: Any, paths: Paths, time_of: str, model: str
) -> None:
    configured()
    ahead = {time_of: round((time.time() + 30 * 86400) * 1000)}
    facts = {"models": {model: ahead}} if model else ahead
    paths.state.write_bytes(msgspec.json.encode({"version": 1, "providers": {"spare": facts}}))
    paths.state.chmod(0o600)
    finding = sick("clock", severity="warning")
    assert "in 30 d" in finding["message"]
    assert finding["remedy"].startswith("check the clock")


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_corrupt_state(sick: Sick, configured: Any, paths: Paths, text: str) -> None:
    configured()
    paths.state.write_text(text)
    paths.state.chmod(0o600)
    assert str(paths.state) in sick("state")["message"]
    assert paths.state.read_text() == text


def test_a_state_that_was_set_aside(sick: Sick, configured: Any, paths: Paths) -> None:
    configured()
    aside = paths.state.with_name("state.json.corrupt-20260101T000000.000000Z")
    aside.touch(mode=0o600)
    assert str(aside) in sick("state", severity="warning")["remedy"]


def test_a_broken_configuration_with_a_version_to_restore(
    sick: Sick, ccf: Run, configured: Any, paths: Paths
) -> None:
    configured()
    assert ccf("providers", "disable", "spare").code == 0
    assert ccf("providers", "enable", "spare").code == 0
    paths.config.write_text("[server]\nport = 'x'\n")
    finding = sick("config")
    assert "server.port" in finding["message"]
    assert "config rollback 3" in finding["remedy"]
    assert ccf("config", "rollback", "2").code == 0
    assert "config" in ids(ccf("doctor", "--json"), ok=True)


def test_a_broken_configuration_without_history(
    sick: Sick, configure: Configure, paths: Paths
) -> None:
    configure("not toml")
    paths.config.chmod(0o600)
    assert "config reset" in sick("config")["remedy"]


def test_a_named_configuration_that_does_not_exist(
    sick: Sick, ccf: Run, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "CCFALLBACK_CONFIG" in sick("config", severity="warning")["remedy"]
    monkeypatch.delenv("CCFALLBACK_CONFIG")
    assert "config" in ids(ccf("doctor", "--json"), ok=True)
    ran = ccf("--config", str(paths.config), "doctor", "--json")
    assert "config" in ids(ran, ok=False)


def test_no_command_is_split_on_a_terminal(configured: Any, ccf_screen: Callable[..., str]) -> None:
    configured('[[providers]]\nname = "spare"\nbase_url = "https://x.example"\n')
    screen = ccf_screen("doctor", columns=80)
    assert max(map(len, screen.splitlines())) <= 80
    for command in ("providers set spare --api-key-stdin", "run"):
        assert f"`ccfallback {command}`" in screen
    assert '`eval "$(ccfallback env)"`' in screen


def pointed(monkeypatch: pytest.MonkeyPatch, port: int, **variables: str) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{port}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


TOKENS = f'[[tokens]]\ntoken = "{TOKEN}"\n'


def test_a_token_that_the_client_does_not_send(
    sick: Sick, configured: Any, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    configured(TOKENS)
    sick("tokens", severity="warning")
    pointed(monkeypatch, port, ANTHROPIC_AUTH_TOKEN="another")
    finding = sick("tokens")
    assert "ANTHROPIC_CUSTOM_HEADERS" in finding["message"]
    assert "ccfallback env" in finding["remedy"]
    assert TOKEN not in str(finding)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANTHROPIC_CUSTOM_HEADERS", f"x-team: red\nx-ccf-api-key: {TOKEN}"),
        ("ANTHROPIC_AUTH_TOKEN", TOKEN),
        ("ANTHROPIC_API_KEY", TOKEN),
    ],
)
def test_a_token_that_the_client_sends(
    ccf: Run, configured: Any, monkeypatch: pytest.MonkeyPatch, port: int, name: str, value: str
) -> None:
    configured(TOKENS)
    pointed(monkeypatch, port, **{name: value})
    assert "tokens" in ids(ccf("doctor", "--json"), ok=True)


def test_a_short_token(sick: Sick, configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configured('[[tokens]]\ntoken = "short"\nnote = "laptop"\n')
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "short")
    finding = sick("tokens", severity="warning")
    assert "laptop" in finding["message"]
    assert "tokens add" in finding["remedy"]


def test_a_port_that_another_program_has(sick: Sick, configured: Any, port: int) -> None:
    configured()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        finding = sick("port")
    assert f"port {port}" in finding["message"]
    assert "another program" in finding["message"]
    assert "server.port" in finding["remedy"]


def test_a_port_that_another_instance_has(
    sick: Sick, configure: Configure, running: Callable[[str], RunningProxy], paths: Paths
) -> None:
    proxy = running("")
    # As if it had other files: it is not registered here.
    paths.server.unlink()
    configure(f"[server]\nport = {proxy.url.rpartition(':')[2]}\n")
    paths.config.chmod(0o600)
    finding = sick("port")
    assert f"another ccfallback (pid {os.getpid()}, {proxy.url})" in finding["message"]


def test_a_server_that_is_not_yet_where_the_configuration_says(
    ccf: Run, configured: Any, paths: Paths, port: int
) -> None:
    configured()
    with listening() as url:
        server_file.write(paths.server, url, 42, __version__, 0.0)
        (first, *_) = [c for c in ccf("doctor", "--json").json["checks"] if c["id"] == "port"]
    assert f"a server answers at {url} (pid 42)" in first["message"]
    assert f"http://127.0.0.1:{port} after a restart" in first["message"]


def test_a_server_that_others_reach_without_a_token(
    sick: Sick, configure: Configure, paths: Paths, port: int
) -> None:
    configure(f'[server]\nhost = "0.0.0.0"\nport = {port}\n')
    paths.config.chmod(0o600)
    assert "tokens add" in sick("port")["remedy"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "my-box.lan"])
def test_a_server_without_a_fixed_port_that_others_reach_without_a_token(
    sick: Sick, configure: Configure, paths: Paths, host: str
) -> None:
    configure(f'[server]\nhost = "{host}"\nport = 0\n')
    paths.config.chmod(0o600)
    assert f"server.host is {host}" in sick("port")["message"]


def test_a_running_server_whose_last_token_was_removed(
    sick: Sick, configure: Configure, paths: Paths
) -> None:
    with listening() as url:
        server_file.write(paths.server, url, 42, __version__, 0.0)
        configure(f'[server]\nhost = "0.0.0.0"\nport = {url.rpartition(":")[2]}\n')
        paths.config.chmod(0o600)
        assert "refuse to start again" in sick("port")["message"]


def test_a_server_that_others_reach_with_a_token(ccf: Run, configure: Configure, port: int) -> None:
    token = f'[[tokens]]\ntoken = "{TOKEN}"\n'
    configure(f'[server]\nhost = "0.0.0.0"\nport = {port}\n{token}')
    found = [each for each in ccf("doctor", "--json").json["checks"] if each["id"] == "port"]
    assert all(each["ok"] for each in found)


def test_the_places_of_authorities_are_listed(
    ccf: Run, configured: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = tmp_path / "company.pem"
    shutil.copy(certifi.where(), company)
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(company))
    configured()
    (found,) = [each for each in ccf("doctor", "--json").json["checks"] if each["id"] == "roots"]
    assert found["ok"]
    # It adds none: the bundled ones are the same.
    assert f"NODE_EXTRA_CA_CERTS ({company}): 0" in found["message"]
    assert "bundled with httpx: " in found["message"]


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such file"), ("no PEM", "no certificates in PEM format")]
)
def test_authorities_that_cannot_be_read(
    sick: Sick,
    configured: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    said: str,
) -> None:
    named = tmp_path / "roots.pem"
    if content is not None:
        named.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(named))
    configured()
    found = sick("roots", severity="warning")
    assert f"SSL_CERT_FILE ({named})" in found["message"]
    assert said in found["message"]
    assert "unset it" in found["remedy"]
    monkeypatch.delenv("SSL_CERT_FILE")
    configured(f'[network]\nca_file = "{named}"\n')
    assert said in sick("roots")["message"]


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_an_outgoing_proxy_that_is_no_url(
    sick: Sick, configured: Any, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "htp://user:secret@proxy")
    configured()
    found = sick("outgoing")
    assert variable.lower() in found["message"].lower()
    assert "secret" not in str(found)
    assert "config set network.proxy URL" in found["remedy"]


def test_a_good_outgoing_proxy_is_no_finding(
    ccf: Run, configured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    configured()
    assert "outgoing" not in {each["id"] for each in ccf("doctor", "--json").json["checks"]}


def test_a_proxy_variable_that_captures_loopback(
    sick: Sick, ccf: Run, configured: Any, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    configured()
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    sick("proxies", severity="warning")
    pointed(monkeypatch, port)
    finding = sick("proxies")
    assert "HTTPS_PROXY" in finding["message"]
    assert "NO_PROXY=127.0.0.1" in finding["remedy"]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "proxies" in ids(ccf("doctor", "--json"), ok=True)


@posix
def test_secrets_that_others_can_read(ccf: Run, sick: Sick, configured: Any, paths: Paths) -> None:
    configured()
    assert ccf("providers", "disable", "spare").code == 0
    assert ccf("providers", "enable", "spare").code == 0
    (version, *_) = sorted(paths.config.with_name("config.toml.history").glob("*.toml"))
    for path in (paths.config, version):
        path.chmod(0o644)
        finding = sick("permissions")
        assert str(path) in finding["message"]
        assert f"chmod 600 {path}" in finding["remedy"]
        path.chmod(0o600)
    for path in (paths.state, paths.log, paths.log.with_name("log.jsonl.1")):
        path.write_text("{}\n")
        path.chmod(0o640)
        assert str(path) in sick("permissions", severity="warning")["message"]
        ran = ccf("doctor", "--fix", "--json")
        assert "permissions" in ids(ran, ok=True)
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_client_that_is_not_sent_here(
    sick: Sick, configured: Any, home: Path, elsewhere: Path
) -> None:
    configured()
    finding = sick("client", severity="warning")
    for place in ("the environment", home / ".claude", elsewhere / ".claude"):
        assert str(place) in finding["message"]
    assert "ccfallback run" in finding["remedy"]


def test_a_client_that_is_sent_elsewhere_by_its_settings(
    sick: Sick, configured: Any, monkeypatch: pytest.MonkeyPatch, port: int, elsewhere: Path
) -> None:
    configured()
    pointed(monkeypatch, port)
    settings = elsewhere / ".claude" / "settings.local.json"
    settings.parent.mkdir()
    settings.write_text('{"env": {"ANTHROPIC_BASE_URL": "https://user:pw@other.example?k=1"}}')
    finding = sick("client", severity="warning")
    assert "https://other.example" in finding["message"]
    assert str(settings) in finding["remedy"]
    assert "pw" not in finding["message"]


def test_a_client_that_its_organization_sends_elsewhere(
    sick: Sick, configured: Any, monkeypatch: pytest.MonkeyPatch, port: int, tmp_path: Path
) -> None:
    configured()
    pointed(monkeypatch, port)
    managed = tmp_path / "managed-settings.json"
    managed.write_text('{"env": {"ANTHROPIC_BASE_URL": "https://gateway.example"}}')
    monkeypatch.setattr(context, "MANAGED", {"linux": managed, sys.platform: managed})
    finding = sick("client", severity="warning")
    assert f"{managed} sends Claude Code to https://gateway.example" in finding["message"]


def test_a_client_that_its_own_settings_send_here(
    ccf: Run, configured: Any, paths: Paths, home: Path
) -> None:
    configured()
    settings = home / ".claude" / "settings.json"
    settings.parent.mkdir()
    with listening() as url:
        server_file.write(paths.server, url, 1, __version__, 0.0)
        settings.write_text(f'{{"env": {{"ANTHROPIC_BASE_URL": "{url}/"}}}}')
        assert "client" in ids(ccf("doctor", "--json"), ok=True)


def test_settings_that_are_no_json(
    sick: Sick, configured: Any, home: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured()
    settings = home / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text("{,")
    with listening() as url:
        server_file.write(paths.server, url, 1, __version__, 0.0)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        assert str(settings) in sick("client", severity="warning")["message"]


def test_a_client_that_is_sent_where_no_server_answers(
    sick: Sick, configured: Any, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    configured()
    pointed(monkeypatch, port)
    assert "ccfallback serve" in sick("client")["remedy"]


def test_a_client_whose_address_has_a_path(
    sick: Sick, configured: Any, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    configured()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{port}/v1/")
    assert "/v1/v1/messages" in sick("client")["message"]


@pytest.mark.parametrize(
    "cloud",
    ["BEDROCK", "VERTEX", "FOUNDRY", "MANTLE", "ANTHROPIC_AWS", "ANTHROPIC_GOOGLE_CLOUD"],
)
def test_a_client_that_goes_to_a_cloud_instead(
    ccf: Run, configured: Any, monkeypatch: pytest.MonkeyPatch, port: int, cloud: str
) -> None:
    configured()
    pointed(monkeypatch, port, **{f"CLAUDE_CODE_USE_{cloud}": "1"})
    found = [each for each in ccf("doctor", "--json").json["checks"] if each["id"] == "client"]
    assert found[0]["remedy"] == f"unset CLAUDE_CODE_USE_{cloud}"


@pytest.mark.parametrize("name", ["state", "log"])
def test_a_file_that_can_not_be_written(
    sick: Sick, configured: Any, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured()
    blocked = tmp_path / "file"
    blocked.touch()
    variable = {"state": "CCFALLBACK_STATE", "log": "CCFALLBACK_LOG_FILE"}[name]
    monkeypatch.setenv(variable, str(blocked / "below"))
    finding = sick(name)
    assert "is not a folder" in finding["message"] or "can't be read" in finding["message"]


def test_a_log_that_is_a_folder(
    sick: Sick, configured: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured()
    monkeypatch.setenv("CCFALLBACK_LOG_FILE", str(tmp_path))
    assert "--log-file" in sick("log")["remedy"]


def test_a_disk_that_the_log_may_fill(sick: Sick, configured: Any) -> None:
    configured(f"[log]\nmax_bytes = {1 << 40}\nbackups = 50\n")
    finding = sick("disk", severity="warning")
    assert "log.max_bytes" in finding["remedy"]


def test_a_disk_that_is_nearly_full(
    sick: Sick, configured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured()
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5_000_000))
    finding = sick("disk")
    assert "5 MB free" in finding["message"]
    assert "free some space" in finding["remedy"]


def test_a_server_of_another_version(sick: Sick, configured: Any, paths: Paths) -> None:
    configured()
    with listening() as url:
        server_file.write(paths.server, url, 42, "0.0.1", 0.0)
        finding = sick("version", severity="warning")
    assert "pid 42" in finding["message"]
    assert "0.0.1" in finding["message"]


def test_the_versions_are_shown(ccf: Run, configured: Any) -> None:
    configured()
    (version,) = [c for c in ccf("doctor", "--json").json["checks"] if c["id"] == "version"]
    assert __version__ in version["message"]
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]}" in version["message"]


OFF = '[[providers]]\nname = "off"\nbase_url = "http://x.lan"\ndisabled = true\n'


def cause(name: str, configure: Configure, configured: Any, paths: Paths) -> None:
    """Causes the problem that the check of that name finds."""
    configured()
    match name:
        case "fallbacks":
            configured(OFF)
        case "cooldowns":
            state(paths, anthropic_primary=200, spare=100)
        case "clock":
            state(paths, spare=10 * 365 * 86400)
        case "state":
            paths.state.write_text("{")
            paths.state.chmod(0o600)
        case "port":
            configure('[server]\nhost = "0.0.0.0"\n')
        case "config":
            configure("[server]\nport = 'x'\n")


@pytest.mark.parametrize("name", ["fallbacks", "cooldowns", "clock", "state", "port", "config"])
def test_the_remedy_works(
    ccf: Run, configure: Configure, configured: Any, paths: Paths, name: str
) -> None:
    def findings() -> list[str]:
        checks = ccf("doctor", "--json").json["checks"]
        return [each["message"] for each in checks if each["id"] == name and not each["ok"]]

    cause(name, configure, configured, paths)
    (message,) = findings()
    checks = ccf("doctor", "--json").json["checks"]
    (remedy,) = [each["remedy"] for each in checks if each["message"] == message]
    commands = re.findall("`ccfallback ([^`]*)`", remedy)
    # The first remedy for a configuration is an editor.
    command = commands[-1 if name == "config" else 0]
    assert ccf(*command.split()).code == 0
    assert message not in findings()


def test_the_commands_of_a_remedy_name_the_same_files(
    ccf: Run, configured: Any, paths: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configured(OFF)
    other = tmp_path / "an other.toml"
    paths.config.rename(other)
    monkeypatch.delenv("CCFALLBACK_CONFIG")
    checks = ccf("--config", str(other), "doctor", "--json").json["checks"]
    (finding,) = [each for each in checks if each["id"] == "fallbacks"]
    assert finding["remedy"] == f"`ccfallback --config '{other}' providers enable off`"
    (client,) = [each for each in checks if each["id"] == "client"]
    assert f"""`eval "$(ccfallback --config '{other}' env)"`""" in client["remedy"]
    ran = ccf("--config", str(other), "config", "get", "zzz", "--json")
    assert ran.json["error"]["hint"].startswith(f"`ccfallback --config '{other}' config show`")
    assert f"`ccfallback --config '{other}' config show`" in ran.err


# -- Claude Code's settings


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_settings_are_read_in_the_order_in_which_they_override_each_other(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "project"
    user = written(home / ".claude" / "settings.json", '{"env": {"A": "1", "N": 1}}')
    project = written(folder / ".claude" / "settings.json", '{"model": "x"}')
    local = written(folder / ".claude" / "settings.local.json", '{"env": {"A": "2"}}')
    found = sources({"A": "0"}, home, folder)
    assert [each.name for each in found] == ["the environment", str(user), str(project), str(local)]
    assert [dict(each.variables) for each in found] == [{"A": "0"}, {"A": "1"}, {}, {"A": "2"}]
    assert not any(each.unreadable for each in found)


def test_the_users_settings_may_be_in_another_folder(tmp_path: Path) -> None:
    found = sources({"CLAUDE_CONFIG_DIR": str(tmp_path)}, Path("/home/other"), tmp_path / "x")
    assert found[1].name == str(tmp_path / "settings.json")


def test_the_home_folder_counts_only_once(tmp_path: Path) -> None:
    assert len(sources({}, tmp_path, tmp_path)) == 3


def test_the_settings_of_the_organization_override_all_others(tmp_path: Path) -> None:
    managed = tmp_path / "managed-settings.json"
    assert len(sources({}, tmp_path, tmp_path, managed)) == 3
    written(managed, '{"env": {"A": "3"}}')
    last = sources({"A": "0"}, tmp_path, tmp_path, managed)[-1]
    assert (last.name, dict(last.variables)) == (str(managed), {"A": "3"})


@pytest.mark.parametrize("text", ["{,", "[]", "\x00", "[" * 100_000])
def test_settings_that_are_not_json_are_unreadable(tmp_path: Path, text: str) -> None:
    written(tmp_path / ".claude" / "settings.json", text)
    assert sources({}, tmp_path, tmp_path / "x")[1].unreadable


@pytest.mark.parametrize("text", ["{}", '{"env": []}', '{"env": null}'])
def test_settings_without_variables_are_readable(tmp_path: Path, text: str) -> None:
    written(tmp_path / ".claude" / "settings.json", text)
    found = sources({}, tmp_path, tmp_path / "x")[1]
    assert (dict(found.variables), found.unreadable) == ({}, False)
