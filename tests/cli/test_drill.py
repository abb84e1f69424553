"""`drill`: its table, its JSON, its exit code."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ccfallback.paths import Paths
from ccfallback.simulator import drill
from tests.cli.conftest import Run
from tests.simulator import BY_ID

FEW = ("500", "429", "refused", "cut-in-text")
"""The tests of the simulator take the chain through all faults."""
KEYS = {"id", "lost", "provider", "attempts", "seconds", "client_sees"}


@pytest.fixture(autouse=True)
def few_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves a few faults for the commands that run in this process."""
    monkeypatch.setattr(drill, "FAULTS", [BY_ID[each] for each in FEW])


def test_the_configured_chain_is_tested_and_no_file_changes(
    ccf: Run, configure: Callable[[str], None], paths: Paths
) -> None:
    configure(
        '[[providers]]\nname = "spare"\nbase_url = "https://spare.invalid"\n'
        'api_key_command = ["this-program-is-never-run"]\n'
        '[[providers]]\nname = "off"\nbase_url = "https://off.invalid"\ndisabled = true\n'
    )
    ran = ccf("drill", "--json")
    assert ran.code == 0
    result = ran.json
    assert result["ok"] is True
    assert [each["name"] for each in result["chain"]] == ["anthropic-primary", "spare"]
    assert all(each.keys() >= KEYS for each in result["faults"])
    ids = {each["id"] for each in result["faults"]}
    assert ids >= {*FEW, *(f"spare/{each}" for each in (*FEW, "alone"))}
    assert not paths.state.exists()
    assert not paths.log.exists()


def test_a_lost_turn_fails_and_says_what_to_change(
    ccf: Run, configure: Callable[[str], None]
) -> None:
    configure(
        '[failover]\non = ["429"]\n[[providers]]\nname = "spare"\nbase_url = "http://a.invalid"\n'
    )
    ran = ccf("drill")
    assert ran.code == 1
    assert "LOST: 500" in ran.out
    assert "failover.on" in ran.err
    assert "cut-in-text" in ran.out


def test_without_an_enabled_provider_it_fails(ccf: Run, configure: Callable[[str], None]) -> None:
    configure("[primary]\ndisabled = true\n")
    ran = ccf("drill")
    assert ran.code == 1
    assert "no provider is enabled" in ran.err


@pytest.mark.usefixtures("traced_processes")
@pytest.mark.skipif(sys.platform == "win32", reason="the signal is POSIX's")
def test_an_interrupted_drill_says_how_far_it_came_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ccfallback", "drill"]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as ran:
        while ran.poll() is None and not list(tmp_path.glob("ccfallback-drill-*/*/log.jsonl")):
            time.sleep(0.01)
        ran.send_signal(signal.SIGINT)
        out, err = ran.communicate(timeout=30)
    assert (ran.returncode, out) == (130, "")
    assert re.fullmatch(r"stopped after \d+ of \d+\n", err)
    assert list(tmp_path.glob("ccfallback-drill-*")) == []


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("columns", [50, 80, 140])
@pytest.mark.parametrize("lost", [False, True])
def test_the_screen(
    configure: Callable[[str], None],
    ccf_screen: Callable[..., str],
    golden: Callable[[str, str], None],
    columns: int,
    lost: bool,
) -> None:
    rule = '[failover]\non = ["429"]\n' if lost else ""
    configure(f'{rule}[[providers]]\nname = "spare"\nbase_url = "http://a.invalid"\n')
    # The last column holds measured times.
    screen = re.sub(r"\d+\.\d s$", "0.0 s", ccf_screen("drill", columns=columns), flags=re.M)
    assert max(map(len, screen.splitlines())) <= columns
    golden(f"drill{'-lost' if lost else ''}-{columns}.txt", screen)
