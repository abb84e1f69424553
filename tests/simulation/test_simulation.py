"""Simulated histories, in processes of their own: the clocks of such a process are replaced."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import ccfallback
from tests.simulation.broken import LINES

HERE: Final = Path(__file__).parent
SCRIPTS: Final = sorted((HERE / "regressions").glob("*.json"))


def simulate(*arguments: str, hash_seed: str = "0") -> str:
    """What the command prints. Fails with it where an invariant is violated."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=HERE.parent.parent,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-20000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.parametrize("first", [1, 71])
def test_nothing_is_violated_in_histories_of_two_hours(first: int) -> None:
    assert "70 histories" in simulate("--seeds", f"{first}-{first + 69}", "--hours", "2")


def test_nothing_is_violated_with_caps_windows_checks_and_side_endpoints() -> None:
    # With the 140 above, these are two hundred histories.
    assert "60 histories" in simulate("--seeds", "141-200", "--hours", "2", "--weather", "full")


def test_healthy_providers_with_changing_latencies_never_fail() -> None:
    simulate("--seeds", "1-10", "--hours", "4", "--weather", "drift")


def test_a_seed_has_the_same_trace_on_every_run() -> None:
    one, other = (
        simulate("--seeds", "7-9", "--hours", "3", "--digests", hash_seed=seed).splitlines()[:3]
        for seed in ("1", "2")
    )
    assert one == other
    # A history does not depend on the one before.
    alone = simulate("--seeds", "9", "--hours", "3", "--digests").splitlines()[0]
    assert alone == one[2]


def test_the_scripts_of_former_failures_pass() -> None:
    assert SCRIPTS
    simulate("--no-shrink", "--replay", *map(str, SCRIPTS))


@pytest.mark.parametrize("name", sorted(LINES))
def test_each_line_that_can_be_broken_is_in_the_product(name: str) -> None:
    path = Path(*LINES[name].module.split(".")).with_suffix(".py")
    assert (Path(ccfallback.__file__).parents[1] / path).read_text().count(LINES[name].line) == 1


def test_lines_that_are_broken_on_purpose_are_found() -> None:
    lines = ("drop-after-commit", "credential-stripping", "ledger-row-once", "reached-cap")
    assert simulate("--broken", *lines).count(" violates ") == len(lines)
