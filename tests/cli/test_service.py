"""`service`: what is installed, whom it is told, and what is left of it afterwards."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ccfallback.cli.service.managers import Launchd, Systemd, call
from ccfallback.cli.service.units import Service
from ccfallback.paths import Paths
from tests.cli.conftest import Run

Configure = Callable[[str], None]

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the manager here is systemd"
)

CONTROL = """\
#!/bin/sh
echo "$*" >> {folder}/told
case "$2" in
  is-active) test -e {folder}/active ;;
  restart) : > {folder}/active ;;
  disable) rm -f {folder}/active {wants}/ccfallback.service ;;
  enable) mkdir -p {wants} && ln -sf ../ccfallback.service {wants}/ccfallback.service ;;
  {broken}) echo "it is $2 that fails" >&2; exit 3 ;;
esac
"""


@pytest.fixture
def unit(home: Path) -> Path:
    """Where the unit belongs."""
    return home / "systemd" / "user" / "ccfallback.service"


class Control:
    """A `systemctl` that does as the true one, and keeps a list."""

    def __init__(self, folder: Path, unit: Path) -> None:
        self._folder = folder
        self._wants = unit.parent / "default.target.wants"
        folder.mkdir()
        self.breaks("nothing")

    def breaks(self, verb: str) -> None:
        """Fail at a verb from now on."""
        program = self._folder / "systemctl"
        script = CONTROL.format(folder=self._folder, wants=self._wants, broken=verb)
        if verb == "restart":
            script = script.replace("  restart) :", "  never) :")
        program.write_text(script)
        program.chmod(0o755)

    def told(self) -> list[str]:
        """The changes it was told to make since it was last asked."""
        told = self._folder / "told"
        lines = told.read_text().splitlines() if told.exists() else []
        told.unlink(missing_ok=True)
        verbs = [line.removeprefix("--user ") for line in lines]
        return [verb for verb in verbs if not verb.startswith(("show", "is-active"))]


@pytest.fixture
def control(tmp_path: Path, unit: Path, monkeypatch: pytest.MonkeyPatch) -> Control:
    """Every command finds it first."""
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
    assert control.told() == []
    assert not list(home.iterdir())


def test_options_are_in_force_by_their_whole_paths(
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
    assert control.told() == STARTED
    assert unit.stat().st_mode & 0o777 == 0o600
    status = ccf("service", "status", "--json")
    assert status.code == 0
    assert status.json["installed"] is status.json["active"] is status.json["current"] is True


def test_installing_twice_changes_nothing(ccf: Run, control: Control, unit: Path) -> None:
    ccf("service", "install")
    control.told()
    ran = ccf("service", "install", "--json")
    assert (ran.code, ran.json["changed"], ran.json["started"]) == (0, False, True)
    assert control.told() == []


def test_a_changed_unit_is_what_runs_then(ccf: Run, control: Control, unit: Path) -> None:
    ccf("service", "install")
    unit.write_text("[Service]\n")
    assert ccf("service", "status", "--json").json["current"] is False
    control.told()
    assert ccf("service", "install", "--json").json["changed"] is True
    assert control.told()[-3:] == STARTED


def test_uninstall_leaves_nothing_behind(
    ccf: Run, control: Control, unit: Path, home: Path
) -> None:
    ccf("service", "install")
    assert (unit.parent / "default.target.wants" / unit.name).is_symlink()
    control.told()
    ran = ccf("service", "uninstall")
    assert ran.code == 0
    assert control.told()[0] == "disable --now ccfallback.service"
    assert not list(home.iterdir())


def test_uninstall_leaves_what_is_somebody_elses(ccf: Run, control: Control, unit: Path) -> None:
    ccf("service", "install")
    other = unit.with_name("other.service")
    other.touch()
    ccf("service", "uninstall")
    assert other.exists()


def test_uninstalling_twice_is_no_failure(ccf: Run, control: Control) -> None:
    ran = ccf("service", "uninstall", "--json")
    assert (ran.code, ran.json["removed"]) == (0, False)
    assert "nothing to uninstall" in ran.err
    assert control.told() == []


@pytest.mark.usefixtures("unreachable")
def test_without_a_manager_the_unit_is_there_and_the_commands_are_told(
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


def test_a_manager_that_refuses_is_a_failure_with_its_words(ccf: Run, control: Control) -> None:
    control.breaks("restart")
    ran = ccf("service", "install")
    assert ran.code == 1
    assert "restart ccfallback.service` failed: it is restart that fails" in ran.err


def test_keys_in_variables_are_not_there_for_a_service(
    ccf: Run, control: Control, two_providers: None
) -> None:
    ran = ccf("service", "install")
    assert "TWO_KEY" in ran.err
    assert "`ccfallback providers set two --api-key-stdin`" in ran.err


def test_an_outgoing_proxy_in_a_variable_is_not_there_either(
    ccf: Run, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert "network.proxy" in ccf("service", "install", "--print").err


def test_programs_that_print_keys_are_found_where_the_shell_finds_them(
    ccf: Run, control: Control, configure: Configure
) -> None:
    assert "PATH=" not in ccf("service", "install", "--print").out
    configure(
        '[[providers]]\nname = "spare"\nbase_url = "http://x.lan"\napi_key_command = ["pass", "x"]'
    )
    assert f"PATH={os.environ['PATH']}" in ccf("service", "install", "--print").out


def test_a_broken_configuration_is_not_made_a_service(
    ccf: Run, configure: Configure, unit: Path
) -> None:
    configure("[server]\nport = 'x'\n")
    assert ccf("service", "install").code == 1
    assert not unit.exists()


def test_the_unit_lies_where_systemd_looks(tmp_path: Path) -> None:
    name = Path("systemd/user/ccfallback.service")
    assert Systemd({}, tmp_path).path == tmp_path / ".config" / name
    assert Systemd({"XDG_CONFIG_HOME": "/x"}, tmp_path).path == Path("/x") / name


def test_the_agent_lies_where_launchd_looks(tmp_path: Path) -> None:
    agent = Launchd({}, tmp_path)
    assert agent.path == tmp_path / "Library" / "LaunchAgents" / "ccfallback.serve.plist"
    assert [command[:2] for command in agent.starting] == [("launchctl", "bootstrap")]
    assert agent.starting[0][-1] == str(agent.path)
    (stopping,) = agent.stopping
    assert stopping[-1].endswith("/ccfallback.serve")
    assert agent.text(Service(["x"], {})).startswith("<?xml")


@pytest.mark.usefixtures("unreachable")
def test_no_manager_of_either_kind_is_there(tmp_path: Path) -> None:
    for manager in (Systemd(os.environ, tmp_path), Launchd(os.environ, tmp_path)):
        assert not manager.is_reachable()
        assert not manager.is_active()


def test_what_a_command_complains_of_is_one_line(tmp_path: Path) -> None:
    environ = dict(os.environ)
    assert call(("true",), environ) is None
    assert call(("false",), environ) == "exit status 1"
    assert call(("sh", "-c", "echo a >&2; echo b >&2; exit 1"), environ) == "a b"
    assert call(("no-such-program",), environ) == "no-such-program is not there"
