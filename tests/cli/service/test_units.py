import os
import plistlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.cli.service.units import Service, launchd_agent, quoted, systemd_unit

AWKWARD = '/tmp/a b%h/$HOME/"q"\\n/c.toml'
SERVICE = Service(
    [sys.executable, "-m", "ccfallback", "--config", AWKWARD, "serve"],
    {"PATH": "/usr/bin:/opt/my tools/100%/bin"},
)

SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"'}


def read_back(word: str) -> str:
    """A word as systemd takes it out of a line (systemd.syntax(7), systemd.unit(5))."""
    if word.startswith('"'):
        assert word.endswith('"')
        word = re.sub(r"\\(.)", lambda match: SIMPLE[match[1]], word[1:-1])
    assert not re.search(r"(?<!%)(?:%%)*%(?!%)", word), "a specifier"
    return word.replace("%%", "%")


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1) | st.just("a\tb\nc"))
def test_every_word_comes_back_as_it_was(word: str) -> None:
    line = quoted(word)
    assert "\n" not in line
    assert read_back(line) == word


def test_nothing_is_quoted_that_need_not_be() -> None:
    assert quoted("/usr/bin/python3.11") == "/usr/bin/python3.11"
    assert quoted("") == '""'


def test_the_unit_restarts_what_fails_and_keeps_files_private() -> None:
    unit = systemd_unit(SERVICE)
    assert "\nRestart=on-failure\n" in unit
    assert "\nUMask=0077\n" in unit
    assert "\nWantedBy=default.target\n" in unit
    assert 'Environment="PATH=/usr/bin:/opt/my tools/100%%/bin"\n' in unit


@pytest.mark.parametrize("option", ["NoNewPrivileges", "PrivateTmp", "ProtectHome", "Restrict"])
def test_the_unit_takes_nothing_away_that_a_key_command_may_need(option: str) -> None:
    assert not re.search(rf"^{option}", systemd_unit(SERVICE).replace("RestartP", ""), re.M)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
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
    # It does look: what it does not know, it says.
    unit.write_text(systemd_unit(SERVICE).replace("Restart=", "Restrat="))
    assert "Restrat" in verify().stderr


def test_the_agent_is_a_property_list() -> None:
    agent = plistlib.loads(launchd_agent(SERVICE).encode())
    assert agent["ProgramArguments"] == SERVICE.argv
    assert agent["EnvironmentVariables"] == SERVICE.environ
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["RunAtLoad"] is True
    assert agent["Umask"] == 0o077
