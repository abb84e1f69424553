"""`top`: its JSON, its view at several sizes, and on a real terminal."""

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from rich.console import Console as Screen

from ccfallback.cli import top_view as view
from ccfallback.cli.console import Styled, align_table
from ccfallback.cli.running_server import RunningServer
from ccfallback.config.model import Config, Provider
from ccfallback.events.live import LiveStats
from ccfallback.events.records import decode
from ccfallback.paths import Paths
from ccfallback.policy.breaker import BreakerState
from tests.cli import logbook
from tests.cli.conftest import NOW, Run
from tests.cli.test_status import CHAIN, state
from tests.conftest import RunningProxy

SCREEN, CURSOR_GONE = "\x1b[?1049h", "\x1b[?25l"
BACK, CURSOR = "\x1b[?1049l", "\x1b[?25h"


@pytest.fixture
def chain(paths: Paths, configure: Callable[[str], None]) -> None:
    configure(CHAIN.format(port=1))
    state(paths, NOW)
    logbook.write(paths.log, logbook.day(NOW))


@pytest.fixture
def at_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccfallback.cli.session.Session.now", lambda self: NOW)


@pytest.mark.usefixtures("chain", "at_now")
def test_the_json(ccf: Run) -> None:
    ran = ccf("top", "--json", "--since", "1d")
    assert (ran.code, ran.err) == (0, "")
    found = ran.json
    assert (found["running"], found["url"], found["troubles"]) == (False, None, [])
    window = found["window"]
    assert window["requests"] == window["answered"] + window["failed"] + window["clientLeft"]
    assert 235 <= window["answered"] <= 240
    assert window["failed"] == 2
    assert window["until"] == NOW * 1000
    primary, one, two = found["providers"]
    assert [each["state"] for each in found["providers"]] == ["open", "closed", "disabled"]
    assert primary["cooldownUntil"] == NOW * 1000 + 240_000
    assert (one["format"], one["attempts"], one["failures"]) == ("anthropic", 13, 1)
    assert one["latency"]["p50"] > 0
    assert (two["attempts"], two["latency"]["p50"]) == (0, None)
    assert len(found["requests"]) == 100
    assert found["requests"][3]["asked"] == [
        {"provider": "anthropic-primary", "standing": "answered", "attempts": 1, "results": []}
    ]


@pytest.mark.usefixtures("chain", "at_now")
def test_a_pipe_gets_one_look(ccf: Run) -> None:
    ran = ccf("top")
    assert (ran.code, ran.err) == (0, "")
    assert "✗ down" in ran.out
    assert "anthropic-primary is cooling down until" in ran.out
    assert "claude-opus-5-5" in ran.out
    assert "\x1b" not in ran.out


def test_a_server_is_found(ccf: Run, paths: Paths, running: Callable[[str], RunningProxy]) -> None:
    proxy = running("")
    found = ccf("top", "--json").json
    assert (found["running"], found["url"]) == (True, proxy.url)
    assert [each["state"] for each in found["providers"]] == ["serving"]


def test_without_files_it_shows_an_idle_proxy(ccf: Run, paths: Paths) -> None:
    ran = ccf("top")
    assert ran.code == 0
    assert f"no log yet at {paths.log}" in ran.out
    assert "no fallback" in ran.out
    assert not paths.log.exists()


def test_a_log_of_warnings_is_a_problem(ccf: Run, configure: Callable[[str], None]) -> None:
    configure('[log]\nlevel = "warn"\n')
    assert ccf("top", "--json").json["troubles"] != []


def test_a_viewer_changes_nothing(ccf: Run, paths: Paths) -> None:
    paths.state.parent.mkdir(parents=True)
    paths.state.write_text("{{")
    before = sorted(paths.state.parent.iterdir())
    assert "state file" in ccf("top", "--json").json["troubles"][0]
    assert sorted(paths.state.parent.iterdir()) == before


def test_a_configuration_that_does_not_load_is_an_error(
    ccf: Run, configure: Callable[[str], None]
) -> None:
    configure("[primary]\nbase_url = 5\n")
    ran = ccf("top")
    assert (ran.code, ran.out) == (1, "")
    assert "primary.base_url" in ran.err


@pytest.mark.parametrize(
    "options", [("--since", "0"), ("--since", "soon"), ("--interval", "0"), ("--interval", "1ms")]
)
def test_wrong_usage(ccf: Run, options: tuple[str, str]) -> None:
    assert ccf("top", *options).code == 2


# -- The view

LOOK = view.Look(colour=False, footer="q quits")

ONE = Provider(name="one", base_url="https://one.example")
TWO = Provider(name="two", base_url="https://two.example", format="openai", disabled=True)
UP = RunningServer("http://127.0.0.1:8787", {"version": "1.2.3", "uptime": 1080, "pid": 7})
OPEN = BreakerState(failures=3, cooldown_until=NOW + 240, reason="429 rate_limit_error")
TRIED = structs.replace(OPEN, cooldown_until=NOW - 1)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def facts(found: RunningServer | None = UP, chain: Any = (ONE, TWO), **states: BreakerState) -> Any:
    named = {name.replace("_", "-"): state for name, state in states.items()}
    servers = [] if found is None else [found]
    return view.Facts(Config(providers=tuple(chain)), named, servers, NOW)


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
        record = decode(line)
        assert record is not None
        watch.add(record, NOW)
    return watch.picture(NOW)


def drawn(facts: Any, picture: Any, columns: int, lines: int) -> str:
    out = io.StringIO()
    screen = Screen(file=out, width=columns, height=lines, no_color=True, highlight=False)
    screen.print(view.frame(facts, picture, LOOK, (columns, lines)))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


@pytest.mark.parametrize(("columns", "lines"), [(50, 20), (80, 24), (140, 40)])
def test_the_view(columns: int, lines: int, golden: Callable[[str, str], None]) -> None:
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
        assert screen.endswith("q quits"[:columns].strip() + "\n") or columns < 8


def test_many_providers_leave_room_for_requests() -> None:
    many = [Provider(name=f"provider-{n}", base_url="https://one.example") for n in range(40)]
    screen = drawn(facts(chain=many), picture(), 80, 24)
    assert "more providers" in screen
    assert sum(line.startswith("13:") for line in screen.splitlines()) >= view.FEWEST_REQUESTS


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
    assert [place.word for place in view.places(facts(found, **states))] == words
    assert set(words) <= set(view.STATES)


def note_texts(facts: Any) -> list[str]:
    picture = LiveStats(60).picture(NOW)
    return [note.text for note in view.notes(facts, picture)]


def test_why_providers_cool_down() -> None:
    state = BreakerState(models={"m": OPEN})
    assert note_texts(facts(anthropic_primary=OPEN, one=state)) == [
        "✗ anthropic-primary is cooling down until 14:04, in 4 min: 429 rate_limit_error",
        "! one is cooling down for m until 14:04, in 4 min: 429 rate_limit_error",
    ]
    assert note_texts(facts(anthropic_primary=TRIED)) == [
        "? anthropic-primary: the next request probes it, after 429 rate_limit_error"
    ]


def test_a_chain_without_a_fallback_is_noted() -> None:
    assert "no fallback" in note_texts(facts(chain=()))[0]
    nobody = Config(primary=structs.replace(Config().primary, disabled=True))
    assert "no provider is enabled" in note_texts(view.Facts(nobody, {}, [UP], NOW))[0]


def test_a_server_that_is_down_and_what_could_not_be_read() -> None:
    down = replace(facts(None), problems=["no log yet at /log"])
    lines = [cell.text for cell in view.headline(down, picture([]))]
    assert "✗ down: no ccfallback answers at http://127.0.0.1:8787" in lines[0]
    assert "ccfallback serve" in lines[1]
    assert lines[-1] == "! no log yet at /log"
    assert "no request yet" in drawn(down, picture([]), 80, 24)


def test_every_server_has_a_line_and_its_requests() -> None:
    for_run = UP._replace(url="http://127.0.0.1:4000", page={**UP.page, "pid": 8}, is_private=True)
    both = replace(facts(), servers=[UP, for_run])
    lines = [cell.text for cell in view.headline(both, picture())]
    assert "✓ up at http://127.0.0.1:8787, pid 7" in lines[0]
    assert "✓ up for `run` at http://127.0.0.1:4000, pid 8" in lines[1]
    younger = UP._replace(page={**UP.page, "uptime": 1})
    assert len(view.in_progress(replace(facts(), servers=[younger, for_run]), picture())) == 1


def test_requests_of_a_killed_server_are_not_in_progress() -> None:
    found = picture()
    assert len(view.in_progress(facts(), found)) == 1
    assert view.in_progress(facts(None), found) == []
    restarted = RunningServer(UP.url, {**UP.page, "uptime": 1})
    assert view.in_progress(facts(restarted), found) == []


def test_a_page_for_a_pipe_is_whole() -> None:
    text = "\n".join(
        part if isinstance(part, str) else align_table(part)
        for part in view.page(facts(anthropic_primary=OPEN), picture())
    )
    assert "cooling down until 14:04, in 4 min" in text
    assert "after anthropic-primary (429 rate_limit_error)" in text
    assert text.count("claude-opus-5-5") == 61
    assert "…" not in text.replace("13:59:57  running  …", "")


def test_the_view_has_no_control_characters() -> None:
    bad = "evil\x1b[2J\x07"
    line = logbook.line("request.start", NOW, request=f"ccr{bad}", model=bad)
    asked = logbook.line("provider.attempt", NOW, request=f"ccr{bad}", provider=bad)
    config = structs.replace(ONE, name=bad)
    screen = drawn(facts(chain=[config]), picture([line, asked]), 140, 24)
    assert "evil" in screen
    assert not set(screen) & {"\x1b", "\x07"}


def test_colours_only_where_there_is_colour() -> None:
    out = io.StringIO()
    screen = Screen(file=out, width=80, height=24, force_terminal=True, _environ={"TERM": "xterm"})
    screen.print(view.frame(facts(anthropic_primary=OPEN), picture(), LOOK, (80, 24)))
    assert "\x1b[" not in out.getvalue()
    screen.print(view.frame(facts(), picture(), replace(LOOK, colour=True), (80, 24)))
    assert "\x1b[32m" in out.getvalue()


def test_a_state_is_shown_without_colour() -> None:
    table = view.providers_table(facts(anthropic_primary=OPEN, one=TRIED), picture(), 80)
    cells = [row[2] for row in table.rows]
    assert [cell.text for cell in cells if isinstance(cell, Styled)] == [
        "✗ cooling down",
        "? probing",
        "· disabled",
    ]


# -- On a real terminal

if sys.platform != "win32":
    from tests.cli.terminal import PATIENCE, Terminal, started, terminal

    @pytest.fixture
    def tty() -> Iterator[Terminal]:
        with terminal(80, 24) as made:
            yield made

    def is_given_back(tty: Terminal) -> str:
        shown = tty.wait_for(lambda shown: BACK in shown and shown.count(CURSOR) > 0)
        assert shown.index(SCREEN) < shown.rindex(BACK)
        assert shown.rindex(CURSOR_GONE) < shown.rindex(CURSOR)
        return shown

    @pytest.mark.usefixtures("chain")
    @pytest.mark.parametrize(
        ("keys", "code"), [("q", 0), ("\x03", 0), ("\x04", 0), ("\x1b[Axyq", 0), ("pq", 0)]
    )
    def test_a_key_leaves(tty: Terminal, keys: str, code: int) -> None:
        before = tty.mode
        with started(tty, "top") as process:
            tty.wait_for(lambda shown: "q quits" in shown)
            assert tty.mode != before
            tty.press(keys)
            assert process.wait(PATIENCE) == code
        is_given_back(tty)
        assert tty.mode == before

    @pytest.mark.usefixtures("chain", "traced_processes")
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    def test_a_signal_leaves(tty: Terminal, number: signal.Signals) -> None:
        before = tty.mode
        with started(tty, "top") as process:
            tty.wait_for(lambda shown: "q quits" in shown)
            process.send_signal(number)
            expected = 0 if number == signal.SIGINT else 128 + number
            assert process.wait(PATIENCE) == expected
        is_given_back(tty)
        assert tty.mode == before

    @pytest.mark.usefixtures("chain", "traced_processes")
    def test_it_keeps_up(tty: Terminal, paths: Paths) -> None:
        with started(tty, "top", "--interval", "100ms") as process:
            tty.wait_for(lambda shown: "q quits" in shown)
            with paths.log.open("ab") as log:
                log.write(logbook.unanswered(NOW, 577))
            tty.wait_for(lambda shown: "! 577" in shown)
            paths.log.rename(f"{paths.log}.1")
            logbook.write(paths.log, [logbook.unanswered(NOW, 578)])
            tty.wait_for(lambda shown: "! 578" in shown)
            tty.resize(60, 20)
            tty.wait_for(lambda shown: "anthropic-primary" in shown)
            paths.config.write_text("[primary]\nbase_url = 55\n")
            tty.wait_for(lambda shown: "the configuration is broken" in shown)
            # It can be read again, though no time, size or inode says so, as after `chmod`.
            before = paths.config.stat()
            with paths.config.open("r+b") as file:
                file.write(b"[server]\nport = 7\n#####\n")
            os.utime(paths.config, ns=(before.st_atime_ns, before.st_mtime_ns))
            tty.wait_for(lambda shown: "no fallback: " in shown)
            assert process.poll() is None
            tty.press("q")
            assert process.wait(PATIENCE) == 0

    @pytest.mark.usefixtures("chain", "traced_processes")
    def test_it_pauses(tty: Terminal) -> None:
        with started(tty, "top") as process:
            tty.wait_for(lambda shown: "q quits" in shown)
            tty.press("p")
            tty.wait_for(lambda shown: "paused" in shown)
            tty.press("q")
            assert process.wait(PATIENCE) == 0

    @pytest.mark.usefixtures("chain", "traced_processes")
    def test_it_follows_the_size(tty: Terminal) -> None:
        with started(tty, "top", "--interval", "1h") as process:
            tty.wait_for(lambda shown: "q quits" in shown)
            tty.resize(140, 30)
            # The format is shown only where there is room for it.
            tty.wait_for(lambda shown: "format" in shown)
            tty.press("q")
            assert process.wait(PATIENCE) == 0

    @pytest.mark.usefixtures("chain", "traced_processes")
    def test_it_restores_the_screen_before_it_is_suspended(tty: Terminal) -> None:
        with started(tty, "top") as process:
            tty.wait_for(lambda shown: "q quits" in shown)
            # Without a shell that could go on with it, nothing stops it: it is back at once.
            tty.press("\x1a")
            shown = tty.wait_for(lambda shown: shown.count(SCREEN) == 2)
            assert shown.index(SCREEN) < shown.index(BACK) < shown.rindex(SCREEN)
            tty.press("q")
            assert process.wait(PATIENCE) == 0

    @pytest.mark.usefixtures("chain")
    def test_a_failure_restores_the_terminal(
        tty: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = "from ccfallback.cli import top_view\ndel top_view.notes\n"
        (tmp_path / "sitecustomize.py").write_text(broken)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        before = tty.mode
        with started(tty, "top") as process:
            assert process.wait(PATIENCE) == 1
        shown = is_given_back(tty)
        assert "NameError" in shown[shown.rindex(BACK) :]
        assert tty.mode == before

    @pytest.mark.usefixtures("chain")
    def test_a_dumb_terminal_gets_one_look(tty: Terminal) -> None:
        with started(tty, "top", TERM="dumb") as process:
            assert process.wait(PATIENCE) == 0
        assert "anthropic-primary" in tty.wait_for(lambda shown: "took" in shown)
        assert SCREEN not in tty.shown
