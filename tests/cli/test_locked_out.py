"""What commands say about files of another user, such as those of a server started with `sudo`."""

import os
from collections.abc import Callable
from errno import EACCES
from pathlib import Path
from typing import Any

import pytest

from ccfallback.events.journal_reader import numbered
from ccfallback.paths import Paths
from tests.cli.conftest import Run

Locked = Callable[..., Any]


@pytest.fixture
def locked(ccf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Locked:
    """Run a command whose state and log are in a folder that belongs to another user."""
    folder = tmp_path / "locked"
    (folder / "log").mkdir(parents=True)
    state, log = folder / "state.json", folder / "log" / "log.jsonl"
    state.write_text('{"version":1,"providers":{}}')
    log.write_text("{}\n")

    def forbid(name: str) -> None:
        original = getattr(os, name)

        def call(path: Any, *args: Any, **options: Any) -> Any:
            # The tests may run as root, whom no permission stops.
            if str(path).startswith(str(folder)) and path != folder:
                raise PermissionError(EACCES, os.strerror(EACCES), str(path))
            return original(path, *args, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("stat", "open", "listdir", "scandir"):
        forbid(name)
    original = os.access

    def access(path: Path, mode: int) -> bool:
        if path == folder:
            return mode == os.F_OK
        return folder not in Path(path).parents and original(path, mode)

    monkeypatch.setattr(os, "access", access)
    return lambda *command: ccf("--state", str(state), "--log-file", str(log), *command)


def test_doctor_reports_files_of_another_user(locked: Locked) -> None:
    ran = locked("doctor", "--json")
    assert ran.code == 1
    findings = {each["id"]: each for each in ran.json["checks"] if not each["ok"]}
    assert "Permission denied" in findings["state"]["message"]
    assert findings["state"]["remedy"].startswith("check its permissions")
    assert "can't be written" in findings["log"]["message"]


@pytest.mark.parametrize("command", [("logs", "tail"), ("stats",), ("requests",), ("explain",)])
def test_a_log_of_another_user_is_not_an_empty_one(
    locked: Locked, command: tuple[str, ...]
) -> None:
    ran = locked(*command)
    assert (ran.code, ran.out) == (1, "")
    assert "log.jsonl can't be read: Permission denied; run this as the user" in ran.err


@pytest.mark.parametrize("command", [("logs", "tail"), ("stats",), ("requests",), ("explain",)])
@pytest.mark.parametrize("is_current", [True, False])
def test_a_rotated_log_of_another_user_is_not_left_out(
    ccf: Run,
    paths: Paths,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    is_current: bool,
) -> None:
    paths.log.parent.mkdir(parents=True, exist_ok=True)
    rotated = numbered(paths.log, 12)
    rotated.write_text("{}\n")
    if is_current:
        paths.log.write_text("{}\n")
    original = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != rotated and original(path, mode))
    ran = ccf(*command)
    assert (ran.code, ran.out) == (1, "")
    assert "log.jsonl.12 can't be read: Permission denied; run this as the user" in ran.err


def test_status_says_what_it_may_not_read(locked: Locked) -> None:
    ran = locked("status")
    assert "the state file can't be used: Permission denied" in ran.err
    assert "log.jsonl can't be read: Permission denied" in ran.out
    troubles = locked("status", "--json").json["troubles"]
    assert ["state" in troubles[0], "log.jsonl" in troubles[1]] == [True, True]


def test_spend_needs_to_see_the_ledger(ccf: Run, paths: Any, monkeypatch: Any) -> None:
    def refuse(path: Path) -> list[str]:
        raise PermissionError(EACCES, os.strerror(EACCES), str(path))

    monkeypatch.setattr("ccfallback.state.ledger.os.listdir", refuse)
    ran = ccf("spend")
    assert (ran.code, "the ledger can't be read: Permission denied" in ran.err) == (1, True)
