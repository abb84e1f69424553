import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ccfallback.paths import Paths
from tests.cli.conftest import Run


def record(level: str, event: str, minutes: int = 0, **more: Any) -> bytes:
    when = datetime.now(UTC) - timedelta(minutes=minutes)
    fields: dict[str, Any] = {
        "timestamp": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level,
        "event": event,
        "message": f"{event} happened",
        "requestId": None,
        "data": {},
    }
    # Spaces after the colons: what is printed must be the line, not a copy of it.
    return msgspec.json.format(msgspec.json.encode({**fields, **more}), indent=0)


# Made once, and read minutes later on a busy machine.
LINES = [
    record("debug", "provider.attempt", 600, requestId="ccr-1_aaaaaaa"),
    record("warn", "provider.failure", 200, requestId="ccr-1_aaaaaaa", data={"provider": "one"}),
    record("info", "provider.success", 150, requestId="ccr-2_bbbbbbb", data={"provider": "two"}),
    record("info", "request.complete", 3, requestId="ccr-2_bbbbbbb", data={"provider": "two"}),
    record("error", "request.error", 1, requestId="ccr-3_ccccccc"),
]


@pytest.fixture(autouse=True)
def log(paths: Paths) -> None:
    paths.log.parent.mkdir(parents=True, exist_ok=True)
    paths.log.write_bytes(b"".join(line + b"\n" for line in LINES))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ((), [0, 1, 2, 3, 4]),
        (("-n", "2"), [3, 4]),
        (("-n", "0"), []),
        (("--status", "error"), [1, 4]),
        (("--status", "success"), [2, 3]),
        (("--since", "1h"), [3, 4]),
        (("--since", "5h"), [1, 2, 3, 4]),
        (("--level", "info"), [1, 2, 3, 4]),
        (("--level", "error"), [4]),
        (("--provider", "two"), [2, 3]),
        (("--request", "ccr-1_aaaaaaa"), [0, 1]),
        (("--request", "ccr-2"), [2, 3]),
        (("--status", "success", "-n", "1"), [3]),
        (("--status", "error", "--since", "1h"), [4]),
    ],
)
def test_filters(ccf: Run, options: tuple[str, ...], kept: list[int]) -> None:
    expected = "".join(LINES[index].decode() + "\n" for index in kept)
    assert ccf("logs", "tail", "--format", "json", *options).out == expected
    records = ccf("logs", "tail", "--json", *options).json["records"]
    assert records == [msgspec.json.decode(line) for line in expected.splitlines()]


def test_the_story_is_one_line_a_record_in_a_pipe(ccf: Run) -> None:
    lines = ccf("logs", "tail", "-n", "2").out.splitlines()
    assert lines[-1].endswith(" ✗ ccccccc  request.error happened")
    assert lines[-2].endswith(" ✓ bbbbbbb  request.complete happened")


@pytest.mark.parametrize("options", [("--since", "soon"), ("--status", "odd"), ("--level", "x")])
def test_a_bad_filter_is_wrong_usage(ccf: Run, options: tuple[str, ...]) -> None:
    assert ccf("logs", "tail", *options).code == 2


def test_a_bad_duration_is_answered_with_examples(ccf: Run) -> None:
    assert "5m" in ccf("logs", "tail", "--since", "soon").err


def test_no_log_is_no_failure(ccf: Run, paths: Paths) -> None:
    paths.log.unlink()
    ran = ccf("logs", "tail")
    assert (ran.code, ran.out) == (0, "")
    assert str(paths.log) in ran.err


def test_rotated_lines_are_lines(ccf: Run, paths: Paths) -> None:
    paths.log.rename(paths.log.with_name(paths.log.name + ".1"))
    paths.log.write_bytes(LINES[4] + b"\n")
    assert ccf("logs", "tail", "-n", "6", "--format", "json").out.count("\n") == 6


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C can't be sent to one process there")
def test_following_goes_on_over_a_rotation_and_ends_well(paths: Paths) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ccfallback", "logs", "tail", "-f", "-n", "1", "--json"],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == LINES[4] + b"\n"
        with paths.log.open("ab") as file:
            file.write(LINES[0] + b"\n")
        assert process.stdout.readline() == LINES[0] + b"\n"
        paths.log.rename(paths.log.with_name(paths.log.name + ".1"))
        paths.log.write_bytes(LINES[1] + b"\n")
        assert process.stdout.readline() == LINES[1] + b"\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
