"""`stats`: its screens and its JSON."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from ccfallback.paths import Paths
from tests.cli import logbook
from tests.cli.conftest import NOW, Run


@pytest.mark.parametrize("columns", [80, 140])
def test_the_screen(
    columns: int, paths: Paths, ccf_screen: Callable[..., str], golden: Callable[[str, str], None]
) -> None:
    logbook.write(paths.log, logbook.day(NOW))
    screen = ccf_screen("stats", columns=columns)
    assert max(map(len, screen.splitlines())) <= columns
    golden(f"stats-{columns}.txt", screen)


def test_long_names_leave_room_for_the_bars(paths: Paths, ccf_screen: Callable[..., str]) -> None:
    name = "a-provider-whose-name-has-as-many-letters-as-a-name-may-ever-have"[:64]
    day = (line.replace(b'"one"', f'"{name}"'.encode()) for line in logbook.day(NOW))
    logbook.write(paths.log, list(day))
    screen = ccf_screen("stats", columns=80).splitlines()
    assert max(map(len, screen)) <= 80
    bars = [line for line in screen if line.endswith("▁") or "█" in line]
    assert len(bars) == 7
    assert min(len(line.split("  ")[-1]) for line in bars if line.endswith("▁")) >= 12
    assert name[:19] in "\n".join(screen)


def test_the_document(ccf: Run, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccfallback.cli.session.Session.now", lambda self: NOW)
    logbook.write(paths.log, logbook.day(NOW))
    ran = ccf("stats", "--json")
    assert (ran.code, ran.json["requests"], ran.json["failed"]) == (0, 242 + 1, 2)
    assert [provider["name"] for provider in ran.json["providers"]] == ["anthropic-primary", "one"]
    assert ran.json["fallbackRate"] == 0.05
    last_hour = ccf("stats", "--json", "--since", "1h").json
    assert last_hour["requests"] == 10


def test_requests_are_counted_by_class(
    ccf: Run, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccfallback.cli.session.Session.now", lambda self: NOW)
    ends = [("main", "complete", 200), ("main", "error", 502), ("subagent", "complete", 200)]
    ends += [("main", "error", 499), ("", "complete", 200)]
    lines = []
    for name, how, status in ends:
        data: dict[str, Any] = {"class": name, "status": status}
        lines.append(logbook.line(f"request.{how}", NOW - 60, **data))
    logbook.write(paths.log, lines)
    counts = {"requests": 3, "answered": 1, "failed": 1, "clientLeft": 1}
    assert ccf("stats", "--json").json["classes"] == [
        {"name": "main", **counts},
        {"name": "subagent", "requests": 1, "answered": 1, "failed": 0, "clientLeft": 0},
    ]
    assert "requests by class" in ccf("stats").out


def test_requests_that_reached_no_provider_need_no_table_of_providers(
    ccf: Run, paths: Paths
) -> None:
    refused = logbook.line("request.error", time.time() - 5, status=400)
    logbook.write(paths.log, [refused])
    out = ccf("stats").out
    assert out.startswith("last 24h: 1 request, 0 % answered\n\nover time")
    assert "ttft" not in out
    assert "attempts" not in out


def test_an_empty_log_is_reported(ccf: Run) -> None:
    ran = ccf("stats")
    assert (ran.code, ran.out) == (0, "last 24h: no request ended\n")
    assert "log" in ran.err
    assert ccf("stats", "--json").json["successRate"] is None


def test_a_bad_duration_is_wrong_usage(ccf: Run) -> None:
    assert ccf("stats", "--since", "yesterday").code == 2


def test_only_a_pipe_gets_no_width(ccf: Run, paths: Paths) -> None:
    logbook.write(paths.log, logbook.answered(NOW, "a-provider", 1000.0))
    ran = ccf("stats", "--since", "900w")
    assert "a-provider" in ran.out
    assert "\x1b" not in ran.out


@pytest.mark.parametrize("odd", [10**400, -7, 2**53])
def test_old_lines_with_odd_numbers_break_no_screen(ccf: Run, paths: Paths, odd: int) -> None:
    end: dict[str, Any] = {
        "provider": "one",
        "status": 200,
        "latency": odd,
        "inputTokens": odd,
        "ttft": odd,
    }
    logbook.write(paths.log, [logbook.line("request.complete", time.time() - 5, **end)])
    for command in ("stats", "top", "status", "explain"):
        assert "bug" not in ccf(command).err
        assert "bug" not in ccf(command, "--json").err
    tokens = ccf("stats", "--json").json["tokens"]
    assert all(0 <= count < 2**53 for count in tokens.values())


@pytest.mark.parametrize("command", ["stats", "spend", "requests", "logs tail", "top"])
def test_a_duration_without_a_unit_is_explained(ccf: Run, command: str) -> None:
    ran = ccf(*command.split(), "--since", "30")
    assert ran.err.startswith("--since 30 is 30 seconds; 30m is minutes, 30d days\n")
    assert "last 30:" not in ran.out
    assert "seconds;" not in ccf(*command.split(), "--since", "30s").err


@pytest.mark.parametrize(
    ("since", "columns", "times"),
    [
        ("24h", 80, ["14:00", "20:00", "02:00", "08:00"]),
        ("24h", 60, ["14:00", "02:00"]),
        ("7d", 80, ["Nov 17", "Nov 19", "Nov 21", "Nov 22"]),
    ],
)
def test_all_bars_have_one_axis(
    paths: Paths, ccf_screen: Callable[..., str], since: str, columns: int, times: list[str]
) -> None:
    logbook.write(paths.log, logbook.day(NOW))
    lines = ccf_screen("stats", "--since", since, columns=columns).splitlines()
    head = next(line for line in lines if line.endswith("a bar"))
    axis = lines[lines.index("", lines.index(head)) - 1]
    start = axis.index(times[0])
    assert head[start - 2 : start] == "  "
    assert head[start:].endswith("a bar")
    assert [axis[at : at + 12].strip() for at in range(start, len(axis), 12)] == times
