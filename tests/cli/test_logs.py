"""The log as a person reads it, and as its own lines."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.cli.console import Console
from ccfallback.cli.log_lines import LogPrinter
from ccfallback.events.records import record_from
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


def test_in_a_pipe_a_record_is_one_line(ccf: Run) -> None:
    lines = ccf("logs", "tail", "-n", "2").out.splitlines()
    assert lines[-1].endswith(" ✗ ccccccc  request.error happened")
    assert lines[-2].endswith(" ✓ bbbbbbb  request.complete happened")


@pytest.mark.parametrize("options", [("--since", "soon"), ("--status", "odd"), ("--level", "x")])
def test_a_bad_filter_is_wrong_usage(ccf: Run, options: tuple[str, ...]) -> None:
    assert ccf("logs", "tail", *options).code == 2


def test_a_bad_duration_is_answered_with_examples(ccf: Run) -> None:
    assert "5m" in ccf("logs", "tail", "--since", "soon").err


def test_a_filter_that_no_line_matches_says_so(ccf: Run) -> None:
    ran = ccf("logs", "tail", "--since", "1s", "--status", "success")
    assert (ran.code, ran.out, ran.err) == (0, "", "no line of the log matches\n")
    assert ccf("logs", "tail", "-n", "0").err == ""


def test_an_empty_log_is_called_empty(ccf: Run, paths: Paths) -> None:
    paths.log.write_bytes(b"")
    ran = ccf("logs", "tail")
    assert (ran.code, ran.out, ran.err) == (0, "", "the log has no events yet\n")
    assert ccf("logs", "tail", "--level", "info").err == "no line of the log matches\n"


def test_a_missing_log_is_not_a_failure(ccf: Run, paths: Paths) -> None:
    paths.log.unlink()
    ran = ccf("logs", "tail")
    assert (ran.code, ran.out) == (0, "")
    assert str(paths.log) in ran.err


def test_rotated_lines_are_lines(ccf: Run, paths: Paths) -> None:
    paths.log.rename(paths.log.with_name(paths.log.name + ".1"))
    paths.log.write_bytes(LINES[4] + b"\n")
    assert ccf("logs", "tail", "-n", "6", "--format", "json").out.count("\n") == 6


@pytest.mark.usefixtures("traced_processes")
@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C can't be sent to one process there")
def test_following_survives_a_rotation_and_ends_with_ctrl_c(paths: Paths) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ccfallback", "logs", "tail", "-f", "-n", "1", "--json"],
        stdout=subprocess.PIPE,
        # A shell starts its background jobs with SIGINT ignored, and the tests may be one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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


# -- A record as a line

RECORD = {
    "timestamp": "2025-05-11T23:20:03.123Z",
    "level": "warn",
    "event": "provider.failure",
    "message": "anthropic-primary answered 529 overloaded_error after 0.2 s",
    "requestId": "ccr-1715432100000_k3f9x2a",
    "data": {"provider": "anthropic-primary"},
}


def formatted(record: Mapping[str, Any], timezone: tzinfo = UTC) -> list[str]:
    """The lines of one record in a pipe: its day, if known, and itself."""
    console = Console(io.StringIO(), io.StringIO(), io.StringIO(), {})
    return LogPrinter(console, timezone).format(record_from(record)).splitlines()


def test_a_record_becomes_a_line_under_its_day() -> None:
    assert formatted(RECORD) == ["2025-05-11", f"23:20:03 ! k3f9x2a  {RECORD['message']}"]


def test_the_time_is_the_reader_s_own() -> None:
    day, line = formatted(RECORD, timezone(timedelta(hours=2)))
    assert (day, line[:8]) == ("2025-05-12", "01:20:03")


@pytest.mark.parametrize("event", ["request.complete", "provider.success"])
def test_good_news_looks_good(event: str) -> None:
    assert " ✓ " in formatted({**RECORD, "level": "info", "event": event})[1]


def test_an_empty_record_is_a_line_too() -> None:
    assert formatted({}) == ["--:--:--            (no message)"]


def test_a_terminal_gets_no_control_characters() -> None:
    assert formatted({"message": "a\x1b[31m\nb\x9b\u202ec"})[-1].endswith("  a [31m b c")


ANY = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(RECORD, ANY)))
def test_no_record_raises(record: dict[str, Any]) -> None:
    assert formatted(record)[-1][8] == " "


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "2025-05-11"])
def test_no_time_raises(when: str) -> None:
    assert formatted({"timestamp": when}, timezone(timedelta(hours=-12)))[-1][8] == " "
