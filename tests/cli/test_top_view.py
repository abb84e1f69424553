"""The board at the sizes that terminals have, and what it says of each provider."""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from rich.console import Console as Screen

from ccfallback.cli import top_view as board
from ccfallback.cli.console import Styled, align_table
from ccfallback.cli.phrases import draw_sparkline
from ccfallback.cli.running_server import RunningServer
from ccfallback.config.model import Config, Provider
from ccfallback.events.live_stats import LiveStats
from ccfallback.policy.breaker import BreakerState
from tests.cli import logbook
from tests.cli.conftest import NOW

LOOK = board.Look(draw_sparkline, colour=False, remark="q leaves")

ONE = Provider(name="one", base_url="https://one.example")
TWO = Provider(name="two", base_url="https://two.example", format="openai", disabled=True)
UP = RunningServer("http://127.0.0.1:8787", {"version": "1.2.3", "uptime": 1080, "pid": 7})
OPEN = BreakerState(failures=3, cooldown_until=NOW + 240, reason="429 rate_limit_error")
TRIED = replace(OPEN, cooldown_until=NOW - 1)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def facts(found: RunningServer | None = UP, chain: Any = (ONE, TWO), **states: BreakerState) -> Any:
    named = {name.replace("_", "-"): state for name, state in states.items()}
    return board.Facts(Config(providers=tuple(chain)), named, found, NOW)


def happened() -> Iterator[bytes]:
    """A quarter of an hour with trouble at its end."""
    for n in range(60):
        at, request = NOW - 900 + 14 * n, f"ccr-1_{n:07}"
        if n > 50:
            about: dict[str, Any] = {"provider": "anthropic-primary", "attempt": 1}
            failed: dict[str, Any] = {**about, "status": 429, "reason": "429 rate_limit_error"}
            after: dict[str, Any] = {"provider": "one", "attempt": 2, "reason": "failover"}
            yield logbook.line("request.start", at, request=request, model="claude-opus-5-5")
            yield logbook.line("provider.attempt", at, request=request, **about)
            yield logbook.line("provider.failure", at, "warn", request, **failed)
            yield logbook.line("provider.attempt", at, request=request, **after)
            yield logbook.line("provider.success", at, request=request, **after)
            yield from logbook.answered(at, "one", 900.0 + 10 * n, request=request)[3:]
        else:
            yield from logbook.answered(at, "anthropic-primary", 1500.0 + 30 * n, request=request)
    yield logbook.unanswered(NOW - 30, request="ccr-1_lost000")
    yield logbook.line("request.start", NOW - 3, request="ccr-1_running", model="claude-haiku-4-5")
    yield logbook.line("provider.attempt", NOW - 3, request="ccr-1_running", provider="one")


def picture(lines: Any = None) -> Any:
    watch = LiveStats(900)
    for line in happened() if lines is None else lines:
        watch.add(msgspec.json.decode(line), NOW)
    return watch.picture(NOW)


def drawn(facts: Any, picture: Any, columns: int, lines: int) -> str:
    out = io.StringIO()
    screen = Screen(file=out, width=columns, height=lines, no_color=True, highlight=False)
    screen.print(board.frame(facts, picture, LOOK, (columns, lines)))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (140, 40)])
def test_the_screen(columns: int, lines: int, golden: Callable[[str, str], None]) -> None:
    screen = drawn(facts(anthropic_primary=OPEN), picture(), columns, lines)
    assert max(map(len, screen.splitlines())) <= columns
    assert len(screen.splitlines()) == lines
    golden(f"top-{columns}.txt", screen)


@pytest.mark.parametrize("columns", [1, 20, 60, 80, 109, 110, 200])
@pytest.mark.parametrize("lines", [1, 8, 12, 24])
def test_no_size_is_too_small_or_too_large(columns: int, lines: int) -> None:
    many = [Provider(name=f"provider-{n}", base_url="https://one.example") for n in range(40)]
    screen = drawn(facts(chain=many, anthropic_primary=OPEN), picture(), columns, lines)
    assert max(map(len, screen.splitlines())) <= columns
    if lines >= 12:
        assert len(screen.splitlines()) == lines
        assert screen.endswith("q leaves"[:columns].strip() + "\n") or columns < 8


def test_many_providers_leave_room_for_requests() -> None:
    many = [Provider(name=f"provider-{n}", base_url="https://one.example") for n in range(40)]
    screen = drawn(facts(chain=many), picture(), 80, 24)
    assert "more providers" in screen
    assert sum(line.startswith("13:") for line in screen.splitlines()) >= board.FEWEST


@pytest.mark.parametrize(
    ("states", "found", "words"),
    [
        ({}, UP, ["serving", "closed", "disabled"]),
        ({}, None, ["closed", "closed", "disabled"]),
        ({"anthropic_primary": OPEN}, UP, ["open", "serving", "disabled"]),
        ({"anthropic_primary": TRIED}, UP, ["half-open", "serving", "disabled"]),
        ({"anthropic_primary": BreakerState(models={"m": OPEN})}, UP,
         ["partly open", "serving", "disabled"]),
        ({"anthropic_primary": OPEN, "one": OPEN}, UP, ["open", "open", "disabled"]),
    ],
)  # fmt: skip
def test_each_provider_has_a_word(
    states: dict[str, BreakerState], found: RunningServer | None, words: list[str]
) -> None:
    assert [place.word for place in board.places(facts(found, **states))] == words
    assert set(words) <= set(board.LOOKS)


def noted(facts: Any) -> list[str]:
    return [note.text for note in board.notes(facts)]


def test_who_is_left_out_and_why() -> None:
    state = BreakerState(models={"m": OPEN})
    assert noted(facts(anthropic_primary=OPEN, one=state)) == [
        "✗ anthropic-primary is left out until 14:04, in 4 min: 429 rate_limit_error",
        "! one is left out for m until 14:04, in 4 min: 429 rate_limit_error",
    ]
    assert noted(facts(anthropic_primary=TRIED)) == [
        "? anthropic-primary: the next request tries it, after 429 rate_limit_error"
    ]


def test_a_chain_with_nobody_to_fall_back_on_is_noted() -> None:
    assert "no fallback" in noted(facts(chain=()))[0]
    nobody = Config(primary=replace(Config().primary, disabled=True))
    assert "no provider is enabled" in noted(board.Facts(nobody, {}, UP, NOW))[0]


def test_a_server_that_is_down_and_what_could_not_be_read() -> None:
    down = replace(facts(None), troubles=["no log yet at /log"])
    lines = [cell.text for cell in board.head(down, picture([]))]
    assert "✗ down: nothing of ours answers at http://127.0.0.1:8787" in lines[0]
    assert "ccfallback serve" in lines[1]
    assert lines[-1] == "! no log yet at /log"
    assert "no request yet" in drawn(down, picture([]), 80, 24)


def test_what_a_killed_server_left_is_not_under_way() -> None:
    found = picture()
    assert len(board.under_way(facts(), found)) == 1
    assert board.under_way(facts(None), found) == []
    restarted = RunningServer(UP.url, {**UP.page, "uptime": 1})
    assert board.under_way(facts(restarted), found) == []


def test_a_page_for_a_pipe_is_whole() -> None:
    text = "\n".join(
        part if isinstance(part, str) else align_table(part)
        for part in board.page(facts(anthropic_primary=OPEN), picture(), draw_sparkline)
    )
    assert "open until 14:04, in 4 min" in text
    assert "after anthropic-primary (429 rate_limit_error)" in text
    assert text.count("claude-opus-5-5") == 61
    assert "…" not in text.replace("13:59:57  running  …", "")


def test_nothing_reaches_the_terminal_that_it_would_obey() -> None:
    bad = "evil\x1b[2J\x07"
    line = logbook.line("request.start", NOW, request=f"ccr{bad}", model=bad)
    asked = logbook.line("provider.attempt", NOW, request=f"ccr{bad}", provider=bad)
    config = replace(ONE, name=bad)
    screen = drawn(facts(chain=[config]), picture([line, asked]), 140, 24)
    assert "evil" in screen
    assert not set(screen) & {"\x1b", "\x07"}


def test_colours_only_where_there_is_colour() -> None:
    out = io.StringIO()
    screen = Screen(file=out, width=80, height=24, force_terminal=True, _environ={"TERM": "xterm"})
    screen.print(board.frame(facts(anthropic_primary=OPEN), picture(), LOOK, (80, 24)))
    assert "\x1b[" not in out.getvalue()
    screen.print(board.frame(facts(), picture(), replace(LOOK, colour=True), (80, 24)))
    assert "\x1b[32m" in out.getvalue()


def test_a_state_is_told_without_colour() -> None:
    grid = board.chain(facts(anthropic_primary=OPEN, one=TRIED), picture(), 80, draw_sparkline)
    cells = [row[2] for row in grid.rows]
    assert [cell.text for cell in cells if isinstance(cell, Styled)] == [
        "✗ open",
        "? half-open",
        "· disabled",
    ]
