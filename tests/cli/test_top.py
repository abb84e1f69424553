"""The live view on a real terminal, and the one look that a script gets."""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccfallback.paths import Paths
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
def test_the_document(ccf: Run) -> None:
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
    assert "anthropic-primary is left out until" in ran.out
    assert "claude-opus-5-5" in ran.out
    assert "\x1b" not in ran.out


def test_a_server_is_found(ccf: Run, paths: Paths, running: Callable[[str], RunningProxy]) -> None:
    proxy = running("")
    found = ccf("top", "--json").json
    assert (found["running"], found["url"]) == (True, proxy.url)
    assert [each["state"] for each in found["providers"]] == ["serving"]


def test_nothing_is_there_yet(ccf: Run, paths: Paths) -> None:
    ran = ccf("top")
    assert ran.code == 0
    assert f"no log yet at {paths.log}" in ran.out
    assert "no fallback" in ran.out
    assert not paths.log.exists()


def test_a_log_of_warnings_is_said_to_be_one(ccf: Run, configure: Callable[[str], None]) -> None:
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
    "options",
    [("--since", "0"), ("--since", "soon"), ("--interval", "0"), ("--interval", "1ms")],
)
def test_wrong_usage(ccf: Run, options: tuple[str, str]) -> None:
    assert ccf("top", *options).code == 2


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
        ("keys", "code"), [("q", 0), ("\x03", 0), ("\x04", 0), ("\x1b[Axyq", None), ("pq", 0)]
    )
    def test_a_key_leaves(tty: Terminal, keys: str, code: int | None) -> None:
        before = tty.mode
        with started(tty, "top") as process:
            tty.wait_for(lambda shown: "q leaves" in shown)
            assert tty.mode != before
            tty.press(keys)
            if code is None:
                # An arrow and what was typed with it is none.
                tty.wait_for(lambda shown: shown.count("q leaves") > 2)
                tty.press("q")
            assert process.wait(PATIENCE) == (code or 0)
        is_given_back(tty)
        assert tty.mode == before

    @pytest.mark.usefixtures("chain")
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    def test_a_signal_leaves(tty: Terminal, number: signal.Signals) -> None:
        before = tty.mode
        with started(tty, "top") as process:
            tty.wait_for(lambda shown: "q leaves" in shown)
            process.send_signal(number)
            expected = 0 if number == signal.SIGINT else 128 + number
            assert process.wait(PATIENCE) == expected
        is_given_back(tty)
        assert tty.mode == before

    @pytest.mark.usefixtures("chain")
    def test_it_keeps_up(tty: Terminal, paths: Paths) -> None:
        with started(tty, "top", "--interval", "100ms") as process:
            tty.wait_for(lambda shown: "q leaves" in shown)
            with paths.log.open("ab") as log:
                log.write(logbook.unanswered(NOW, 577))
            tty.wait_for(lambda shown: "! 577" in shown)
            paths.log.rename(f"{paths.log}.1")
            logbook.write(paths.log, [logbook.unanswered(NOW, 578)])
            tty.wait_for(lambda shown: "! 578" in shown)
            tty.resize(60, 20)
            tty.wait_for(lambda shown: "anthropic-primary" in shown)
            paths.config.write_text("[primary]\nbase_url = 5\n")
            tty.wait_for(lambda shown: "does not load any more" in shown)
            assert process.poll() is None
            tty.press("q")
            assert process.wait(PATIENCE) == 0

    @pytest.mark.usefixtures("chain")
    def test_it_pauses(tty: Terminal) -> None:
        with started(tty, "top") as process:
            tty.wait_for(lambda shown: "q leaves" in shown)
            tty.press("p")
            tty.wait_for(lambda shown: "paused" in shown)
            tty.press("q")
            assert process.wait(PATIENCE) == 0

    @pytest.mark.usefixtures("chain")
    def test_it_follows_the_size(tty: Terminal) -> None:
        with started(tty, "top", "--interval", "1h") as process:
            tty.wait_for(lambda shown: "q leaves" in shown)
            tty.resize(140, 30)
            # The format is shown only where there is room for it.
            tty.wait_for(lambda shown: "format" in shown)
            tty.press("q")
            assert process.wait(PATIENCE) == 0

    @pytest.mark.usefixtures("chain")
    def test_it_gives_the_screen_back_to_be_stopped(tty: Terminal) -> None:
        with started(tty, "top") as process:
            tty.wait_for(lambda shown: "q leaves" in shown)
            # Without a shell that could go on with it, nothing stops it: it is back at once.
            tty.press("\x1a")
            shown = tty.wait_for(lambda shown: shown.count(SCREEN) == 2)
            assert shown.index(SCREEN) < shown.index(BACK) < shown.rindex(SCREEN)
            tty.press("q")
            assert process.wait(PATIENCE) == 0

    @pytest.mark.usefixtures("chain")
    def test_a_failure_gives_the_terminal_back(
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
    def test_a_terminal_that_can_not_be_drawn_on_gets_one_look(tty: Terminal) -> None:
        with started(tty, "top", TERM="dumb") as process:
            assert process.wait(PATIENCE) == 0
        assert "anthropic-primary" in tty.wait_for(lambda shown: "took" in shown)
        assert SCREEN not in tty.shown
