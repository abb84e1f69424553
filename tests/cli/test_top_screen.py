"""What the keys of `top` do: to the screen, to providers, and back."""

import io
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from rich.console import Console as Screen

from ccfallback.cli.console import Console
from ccfallback.cli.session import Session
from ccfallback.cli.top_screen import KEYS, TopScreen
from ccfallback.cli.top_view import Facts
from ccfallback.config.model import Config
from ccfallback.paths import Paths
from tests.cli import logbook
from tests.cli.conftest import NOW, Run
from tests.cli.test_status import CHAIN, state
from tests.cli.test_top import UP, happened, picture


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(Session, "now", lambda self: NOW)
    yield
    monkeypatch.undo()
    time.tzset()


class Driver:
    """A screen of `top`, and what it shows."""

    def __init__(self, paths: Paths, columns: int = 80, lines: int = 24) -> None:
        streams = io.StringIO(), io.StringIO(), io.StringIO()
        self.session = Session(Console(*streams, {}), {}, paths)
        self.size = (columns, lines)
        self.screen = TopScreen(self.session, *self.look())

    def look(self) -> tuple[Facts, Any]:
        config: Config = self.session.config()
        return Facts(config, self.session.states(config), [UP], NOW), picture()

    def press(self, *keys: str) -> list[str]:
        """Press keys; the lines that are shown then."""
        for key in keys:
            if self.screen.press(key, self.size[0]):
                self.screen.show(*self.look())
        return self.shown()

    def shown(self) -> list[str]:
        out = io.StringIO()
        drawn = Screen(
            file=out, width=self.size[0], height=self.size[1], force_terminal=True,
            color_system=None, highlight=False,
        )  # fmt: skip
        drawn.print(self.screen.draw(False, "q quits")(self.size))
        return [line.rstrip() for line in out.getvalue().splitlines()]

    @property
    def selected(self) -> str:
        row = self.screen._selected
        return "" if row is None else row.id

    @property
    def message(self) -> str:
        return self.screen._message.text if self.screen._message else ""


@pytest.fixture
def top(paths: Paths, configure: Callable[[str], None]) -> Driver:
    configure(CHAIN.format(port=1))
    state(paths, NOW)
    logbook.write(paths.log, list(happened()))
    return Driver(paths)


def cooldowns(ccf: Run) -> dict[str, Any]:
    found = ccf("breaker", "status", "--json").json["providers"]
    return {each["name"]: each["cooldownUntil"] for each in found}


def test_arrows_select_providers_and_then_requests(top: Driver) -> None:
    assert top.selected == ""
    found = []
    for key in ("down", "down", "down", "down", "up", "up", "home", "up"):
        top.press(key)
        found.append(top.selected)
    assert found == [
        "anthropic-primary", "one", "two", "ccr-1_running", "two", "one",
        "anthropic-primary", "anthropic-primary",
    ]  # fmt: skip


def test_the_selected_row_is_always_on_the_screen(top: Driver) -> None:
    for _ in range(70):
        top.press("down")
    shown = "\n".join(top.shown())
    assert top.selected == "ccr-1_0000000"
    assert "13:45:00" in shown
    assert len(top.shown()) == 24
    top.press("pgup", "pgup")
    assert top.selected == "ccr-1_0000020"
    top.press("end")
    assert top.selected == "ccr-1_0000000"


def test_a_selected_row_that_is_gone_leaves_its_place(top: Driver) -> None:
    top.press("down", "down", "down", "down")
    assert top.selected == "ccr-1_running"
    facts, _ = top.look()
    top.screen.show(facts, picture(list(happened())[:-2]))
    top.press("down")
    assert top.selected == "ccr-1_lost000"


@pytest.mark.parametrize(
    ("key", "command", "changed"),
    [
        ("r", "ccfallback breaker reset anthropic-primary", {"anthropic-primary": None}),
        ("t", "ccfallback breaker trip anthropic-primary --for 10m",
         {"anthropic-primary": NOW * 1000 + 600_000}),
    ],
)  # fmt: skip
def test_a_breaker_is_reset_or_tripped_and_that_is_undone(
    top: Driver, ccf: Run, key: str, command: str, changed: dict[str, Any]
) -> None:
    before = ccf("breaker", "status", "--json").json
    top.press("down", key)
    assert f"`{command}`" in top.message
    assert "u undoes it" in top.message
    assert cooldowns(ccf) == {"one": None, "two": None, **changed}
    top.press("u")
    assert top.message.startswith("undone: the ")
    assert ccf("breaker", "status", "--json").json == before
    top.press("u")
    assert top.message == "nothing to undo"


def test_a_provider_is_disabled_and_enabled(top: Driver, ccf: Run, paths: Paths) -> None:
    text = paths.config.read_text()
    top.press("down", "down", "d")
    assert "`ccfallback providers disable one`" in top.message
    assert any(line.startswith("1  one") and "· disabled" in line for line in top.shown())
    top.press("down", "d")
    assert "`ccfallback providers enable two`" in top.message
    top.press("u")
    assert top.message == "undone: two is disabled again"
    top.press("u")
    assert top.message == "undone: one is enabled again"
    assert paths.config.read_text() == text


def test_what_is_the_same_as_the_commands_do(top: Driver, ccf: Run, paths: Paths) -> None:
    top.press("down", "down", "t")
    by_key = paths.state.read_bytes()
    top.press("u")
    ccf("breaker", "trip", "one", "--for", "10m")
    assert paths.state.read_bytes() == by_key


def test_an_action_needs_a_provider(top: Driver, paths: Paths) -> None:
    before = paths.state.read_bytes(), paths.config.read_bytes()
    for key in ("r", "d", "t"):
        top.press(key)
        assert "select a provider" in top.message
        top.press("end", key)
        assert "select a provider" in top.message
    top.press("home", "down", "r")
    assert (paths.state.read_bytes(), paths.config.read_bytes())[1] == before[1]
    top.press("enter", "r")
    assert top.message == ""


def test_what_fails_is_said(top: Driver, paths: Paths) -> None:
    paths.config.write_text("[[[")
    top.press("down", "d")
    assert "not valid TOML" in top.message
    assert "not valid TOML" in " ".join(top.shown())


def test_the_story_of_a_request(top: Driver) -> None:
    top.press("down", "down", "down", "down", "down", "down")
    assert top.selected == "ccr-1_0000059"
    story = top.press("enter")
    assert story[0] == "Request ccr-1_0000059"
    assert any("answered by     one" in line for line in story)
    assert "`ccfallback explain ccr-1_0000059`" in story
    assert "Enter or Esc leads back" in story[-1]
    top.size = (80, 8)
    assert "↓ more" in top.shown()[-1]
    assert top.press("down")[0] == story[1]
    assert top.press("end")[-2] == "`ccfallback explain ccr-1_0000059`"
    assert top.press("up", "home")[0] == story[0]
    assert top.press("esc")[-1] == "q quits"
    assert top.selected == "ccr-1_0000059"


def test_the_story_of_a_provider(top: Driver) -> None:
    story = "\n".join(top.press("down", "enter"))
    assert "Provider anthropic-primary" in story
    assert "failures in a row   3" in story
    assert "429 rate_limit_error" in story
    assert "9 failed" in story
    assert "`ccfallback providers show anthropic-primary`" in story


def test_a_story_that_has_left_the_log_is_said(top: Driver, paths: Paths) -> None:
    top.press("end")
    paths.log.write_bytes(b"")
    top.press("enter")
    assert "does not have this request" in top.message


def test_a_filter_leaves_the_rows_that_contain_it(top: Driver) -> None:
    shown = top.press("/", *"RUNNING")
    assert shown[-1].startswith("/RUNNING")
    shown = top.press("enter")
    assert shown[-1].startswith("only 'RUNNING': Esc shows all")
    assert sum(line.startswith("13:") for line in shown) == 1
    assert not any(line.startswith("0  anthropic-primary") for line in shown)
    top.press("down")
    assert top.selected == "ccr-1_running"
    shown = top.press("esc")
    assert any(line.startswith("0  anthropic-primary") for line in shown)
    assert "no request matches" in "\n".join(top.press("/", *"nosuch"))
    # Letters are text while a filter is typed.
    assert not top.screen.ends_with("q")
    assert top.press("\x7f", "\x7f", "\x7f")[-1].startswith("/nos▏")
    top.press("esc")
    assert top.screen.ends_with("q")


def test_every_key_is_listed(top: Driver) -> None:
    text = "\n".join(top.press("?"))
    for name, what in KEYS:
        assert f"{name:<24}{what}" in text
    assert top.press("?")[-1] == "q quits"


def test_a_pause_is_kept(top: Driver) -> None:
    top.press("p")
    assert top.screen.is_paused
    top.press("p")
    assert not top.screen.is_paused


if sys.platform != "win32":
    from tests.cli.terminal import PATIENCE, Terminal, started, terminal

    @pytest.mark.parametrize(("columns", "lines"), [(50, 20), (80, 24), (140, 40)])
    def test_on_a_real_terminal(
        paths: Paths, configure: Callable[[str], None], columns: int, lines: int
    ) -> None:
        configure(CHAIN.format(port=1))
        state(paths, time.time())
        logbook.write(paths.log, list(happened()))

        def has(text: str) -> Callable[[str], bool]:
            return lambda shown: text in shown

        tty: Terminal
        with terminal(columns, lines) as tty, started(tty, "top", "--interval", "1h") as process:
            tty.wait_for(has("q quits"))
            tty.press("\x1b[B\x1b[Bd")
            tty.wait_for(has("one disabled: "))
            assert "disabled = true" in paths.config.read_text().split('name = "two"')[0]
            tty.press("u")
            tty.wait_for(has("undone: one is enabled again"))
            tty.press("\r")
            tty.wait_for(has("Provider one"))
            tty.press("\x1bq")
            assert process.wait(PATIENCE) == 0
        document = msgspec.json.decode(paths.state.read_bytes())
        assert document["version"] == 1
