"""`service`: what it installs, which commands it runs, and what it leaves behind."""

import os
import plistlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.cli.service import (
    Service,
    launchd,
    launchd_agent,
    quote,
    run_command,
    systemd,
    systemd_unit,
)
from ccfallback.paths import Paths
from tests.cli import logbook
from tests.cli.conftest import NOW, Run

Configure = Callable[[str], None]

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the manager here is systemd"
)

CONTROL = """\
#!/bin/sh
echo "$*" >> {folder}/record
case "$2" in
  is-active) test -e {folder}/active ;;
  restart) : > {folder}/active ;;
  start) : > {folder}/active ;;
  stop) rm -f {folder}/active ;;
  disable) rm -f {folder}/active {wants}/ccfallback.service ;;
  enable) mkdir -p {wants} && ln -sf ../ccfallback.service {wants}/ccfallback.service ;;
  {broken}) echo "it is $2 that fails" >&2; exit 3 ;;
esac
"""


@pytest.fixture
def unit(home: Path) -> Path:
    """The path of the unit."""
    return home / "systemd" / "user" / "ccfallback.service"


class Control:
    """A `systemctl` that acts like the real one, and records its arguments."""

    def __init__(self, folder: Path, unit: Path) -> None:
        self._folder = folder
        self._wants = unit.parent / "default.target.wants"
        folder.mkdir()
        self.breaks("nothing")

    def breaks(self, verb: str) -> None:
        """Make a verb fail from now on."""
        program = self._folder / "systemctl"
        script = CONTROL.format(folder=self._folder, wants=self._wants, broken=verb)
        if verb == "restart":
            script = script.replace("  restart) :", "  never) :")
        program.write_text(script)
        program.chmod(0o755)

    def commands(self) -> list[str]:
        """The commands for changes since the last call."""
        record = self._folder / "record"
        lines = record.read_text().splitlines() if record.exists() else []
        record.unlink(missing_ok=True)
        verbs = [line.removeprefix("--user ") for line in lines]
        return [verb for verb in verbs if not verb.startswith(("show", "is-active"))]


@pytest.fixture
def control(tmp_path: Path, unit: Path, monkeypatch: pytest.MonkeyPatch) -> Control:
    """A `systemctl` that is first in PATH."""
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return Control(folder, unit)


@pytest.fixture
def unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without any service manager."""
    monkeypatch.setenv("PATH", str(tmp_path))


STARTED = ["daemon-reload", "enable ccfallback.service", "restart ccfallback.service"]


def test_print_shows_the_unit_and_installs_nothing(
    ccf: Run, control: Control, unit: Path, paths: Paths, home: Path
) -> None:
    ran = ccf("service", "install", "--print")
    assert ran.code == 0
    line = next(line for line in ran.out.splitlines() if line.startswith("ExecStart="))
    command = f"{sys.executable} -m ccfallback --config {paths.config} --state {paths.state}"
    assert line == f"ExecStart=:{command} --log-file {paths.log} serve"
    assert control.commands() == []
    assert not list(home.iterdir())


def test_options_are_kept_as_absolute_paths(
    ccf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = ccf("--config", "my file.toml", "service", "install", "--print", "--json")
    assert f'--config "{tmp_path}/my file.toml"' in ran.json["content"]
    assert set(ran.json) == {"manager", "path", "content"}


def test_it_is_installed_enabled_and_started(ccf: Run, control: Control, unit: Path) -> None:
    ran = ccf("service", "install")
    assert (ran.code, ran.out) == (0, "")
    assert str(unit) in ran.err
    assert control.commands() == STARTED
    assert unit.stat().st_mode & 0o777 == 0o600
    status = ccf("service", "status", "--json")
    assert status.code == 0
    assert status.json["installed"] is status.json["active"] is status.json["current"] is True


def test_installing_twice_changes_nothing(ccf: Run, control: Control, unit: Path) -> None:
    ccf("service", "install")
    control.commands()
    ran = ccf("service", "install", "--json")
    assert (ran.code, ran.json["changed"], ran.json["started"]) == (0, False, True)
    assert control.commands() == []


def test_a_changed_unit_is_restarted(ccf: Run, control: Control, unit: Path) -> None:
    ccf("service", "install")
    unit.write_text("[Service]\n")
    assert ccf("service", "status", "--json").json["current"] is False
    control.commands()
    assert ccf("service", "install", "--json").json["changed"] is True
    assert control.commands()[-3:] == STARTED


def test_uninstall_leaves_nothing_behind(
    ccf: Run, control: Control, unit: Path, home: Path
) -> None:
    ccf("service", "install")
    assert (unit.parent / "default.target.wants" / unit.name).is_symlink()
    control.commands()
    ran = ccf("service", "uninstall")
    assert ran.code == 0
    assert control.commands()[0] == "disable --now ccfallback.service"
    assert not list(home.iterdir())


def test_uninstall_keeps_the_files_of_others(ccf: Run, control: Control, unit: Path) -> None:
    ccf("service", "install")
    other = unit.with_name("other.service")
    other.touch()
    ccf("service", "uninstall")
    assert other.exists()


def test_uninstalling_twice_is_not_a_failure(ccf: Run, control: Control) -> None:
    ran = ccf("service", "uninstall", "--json")
    assert (ran.code, ran.json["removed"]) == (0, False)
    assert "nothing to uninstall" in ran.err
    assert control.commands() == []


@pytest.mark.usefixtures("unreachable")
def test_without_a_manager_the_unit_is_installed_and_the_commands_are_shown(
    ccf: Run, unit: Path, home: Path
) -> None:
    ran = ccf("service", "install")
    assert ran.code == 0
    assert unit.exists()
    assert "systemctl --user enable ccfallback.service" in ran.err
    status = ccf("service", "status", "--json")
    assert (status.code, status.json["installed"], status.json["active"]) == (1, True, None)
    assert ccf("service", "uninstall").code == 0
    assert not list(home.iterdir())


def test_an_error_of_the_manager_is_shown(ccf: Run, control: Control) -> None:
    control.breaks("restart")
    ran = ccf("service", "install")
    assert ran.code == 1
    assert "restart ccfallback.service` failed: it is restart that fails" in ran.err


def test_keys_in_variables_get_a_warning(ccf: Run, control: Control, two_providers: None) -> None:
    ran = ccf("service", "install")
    assert "TWO_KEY" in ran.err
    assert "`ccfallback providers set two --api-key-stdin`" in ran.err


def test_an_outgoing_proxy_in_a_variable_gets_a_warning(
    ccf: Run, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert "network.proxy" in ccf("service", "install", "--print").err


def test_a_service_that_runs_programs_gets_the_path_of_the_shell(
    ccf: Run, control: Control, configure: Configure
) -> None:
    assert "PATH=" not in ccf("service", "install", "--print").out
    configure(
        '[[providers]]\nname = "spare"\nbase_url = "http://x.lan"\napi_key_command = ["pass", "x"]'
    )
    assert f"PATH={os.environ['PATH']}" in ccf("service", "install", "--print").out
    configure('[[providers]]\nname = "spare"\nbase_url = "http://x.lan"\nauth = "aws"')
    assert f"PATH={os.environ['PATH']}" in ccf("service", "install", "--print").out


def test_a_login_in_variables_gets_a_warning(
    ccf: Run, control: Control, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    configure('[[providers]]\nname = "cloud"\nbase_url = "http://x.lan"\nauth = "aws"')
    assert (
        "does not see AWS_PROFILE, which cloud may use" in ccf("service", "install", "--print").err
    )
    configure('[[providers]]\nname = "plain"\nbase_url = "http://x.lan"')
    assert "AWS_PROFILE" not in ccf("service", "install", "--print").err


def test_a_broken_configuration_is_not_installed(
    ccf: Run, configure: Configure, unit: Path
) -> None:
    configure("[server]\nport = 'x'\n")
    assert ccf("service", "install").code == 1
    assert not unit.exists()


def test_the_path_of_the_unit(tmp_path: Path) -> None:
    name = Path("systemd/user/ccfallback.service")
    assert systemd({}, tmp_path).path == tmp_path / ".config" / name
    assert systemd({"XDG_CONFIG_HOME": "/x"}, tmp_path).path == Path("/x") / name


def test_the_path_of_the_agent(tmp_path: Path) -> None:
    agent = launchd({}, tmp_path)
    assert agent.path == tmp_path / "Library" / "LaunchAgents" / "ccfallback.serve.plist"
    assert [command[:2] for command in agent.start_commands] == [("launchctl", "bootstrap")]
    assert agent.start_commands[0][-1] == str(agent.path)
    (stopping,) = agent.stop_commands
    assert stopping[-1].endswith("/ccfallback.serve")
    assert agent.render(Service(["x"], {})).startswith("<?xml")


@pytest.mark.usefixtures("unreachable")
def test_a_missing_manager_is_not_reachable(tmp_path: Path) -> None:
    for manager in (systemd(os.environ, tmp_path), launchd(os.environ, tmp_path)):
        assert not manager.is_reachable()
        assert not manager.is_active()


def test_an_error_message_is_one_line(tmp_path: Path) -> None:
    environ = dict(os.environ)
    assert run_command(("true",), environ) is None
    assert run_command(("false",), environ) == "exit status 1"
    assert run_command(("sh", "-c", "echo a >&2; echo b >&2; exit 1"), environ) == "a b"
    assert run_command(("no-such-program",), environ) == "no-such-program is not installed"


# -- The files of the managers

AWKWARD = '/tmp/a b%h/$HOME/"q"\\n/c.toml'
SERVICE = Service(
    [sys.executable, "-m", "ccfallback", "--config", AWKWARD, "serve"],
    {"PATH": "/usr/bin:/opt/my tools/100%/bin"},
)

SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"'}


def read_back(word: str) -> str:
    """A word as systemd reads it (systemd.syntax(7), systemd.unit(5))."""
    if word.startswith('"'):
        assert word.endswith('"')
        word = re.sub(r"\\(.)", lambda match: SIMPLE[match[1]], word[1:-1])
    assert not re.search(r"(?<!%)(?:%%)*%(?!%)", word), "a specifier"
    return word.replace("%%", "%")


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1) | st.just("a\tb\nc"))
def test_systemd_reads_every_word_back(word: str) -> None:
    line = quote(word)
    assert "\n" not in line
    assert read_back(line) == word


def test_plain_words_are_not_quoted() -> None:
    assert quote("/usr/bin/python3.11") == "/usr/bin/python3.11"
    assert quote("") == '""'


def test_the_unit_restarts_after_a_failure_and_keeps_files_private() -> None:
    unit = systemd_unit(SERVICE)
    assert "\nRestart=on-failure\n" in unit
    assert "\nUMask=0077\n" in unit
    assert "\nWantedBy=default.target\n" in unit
    assert 'Environment="PATH=/usr/bin:/opt/my tools/100%%/bin"\n' in unit


@pytest.mark.parametrize("option", ["NoNewPrivileges", "PrivateTmp", "ProtectHome", "Restrict"])
def test_the_unit_forbids_nothing_that_a_key_command_may_need(option: str) -> None:
    assert not re.search(rf"^{option}", systemd_unit(SERVICE).replace("RestartP", ""), re.M)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "ccfallback.service"
    unit.write_text(systemd_unit(SERVICE))
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}

    def verify() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["systemd-analyze", "--user", "verify", str(unit)],
            capture_output=True,
            text=True,
            env=environ,
            check=False,
        )

    done = verify()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # A counterexample: it reports an unknown key.
    unit.write_text(systemd_unit(SERVICE).replace("Restart=", "Restrat="))
    assert "Restrat" in verify().stderr


def test_the_agent_is_a_property_list() -> None:
    agent = plistlib.loads(launchd_agent(SERVICE).encode())
    assert agent["ProgramArguments"] == SERVICE.argv
    assert agent["EnvironmentVariables"] == SERVICE.environ
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["RunAtLoad"] is True
    assert agent["Umask"] == 0o077


def test_the_variables_of_trusted_certificates_are_passed_on(
    ccf: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", "company.pem")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/own.pem")
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    unit = ccf("service", "install", "--print").out
    assert f"Environment=NODE_EXTRA_CA_CERTS={tmp_path}/company.pem\n" in unit
    assert "Environment=SSL_CERT_FILE=/etc/own.pem\n" in unit
    assert "SSL_CERT_DIR" not in unit


def test_the_unit_needs_no_tls() -> None:
    code = (
        "import sys; from ccfallback.cli import main\n"
        "try: main(['service', 'install', '--print'])\nfinally: print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert "ccfallback.cli.service" in ran.stdout
    assert "ssl" not in ran.stdout.split()


def test_start_stop_and_restart_of_the_installed_service(
    ccf: Run, control: Control, unit: Path
) -> None:
    for verb in ("start", "stop", "restart", "logs"):
        ran = ccf("service", verb)
        assert (ran.code, "not installed" in ran.err) == (1, True)
    ccf("service", "install")
    control.commands()
    assert ccf("service", "start", "--json").json["changed"] is False
    assert control.commands() == []
    assert ccf("service", "restart").code == 0
    assert control.commands() == ["restart ccfallback.service"]
    assert ccf("service", "stop", "--json").json["changed"] is True
    assert control.commands() == ["stop ccfallback.service"]
    assert ccf("service", "stop", "--json").json["changed"] is False
    assert ccf("service", "start", "--json").json["changed"] is True
    assert control.commands() == ["start ccfallback.service"]
    control.breaks("restart")
    ran = ccf("service", "restart")
    assert (ran.code, "restart" in ran.err) == (1, True)


def test_logs_are_those_of_the_log(ccf: Run, control: Control, unit: Path, paths: Paths) -> None:
    ccf("service", "install")
    logbook.write(paths.log, logbook.answered(NOW, "one", 1000.0))
    assert ccf("service", "logs", "-n", "1").out.count("\n") == 2
    ccf("service", "stop")
    assert "journalctl" in ccf("service", "logs").err
