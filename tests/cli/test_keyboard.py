"""Keys are read one by one, and the terminal is restored afterwards."""

import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("there is no terminal of this kind", allow_module_level=True)

import termios

from ccfallback.cli import keyboard
from tests.cli.terminal import PATIENCE, Terminal, terminal


@pytest.fixture
def tty() -> Iterator[Terminal]:
    with terminal() as made:
        yield made


@pytest.fixture
def stdin(tty: Terminal) -> Iterator[io.TextIOWrapper]:
    with os.fdopen(os.dup(tty.follower)) as stream:
        yield stream


def test_a_key_is_read_before_the_end_of_the_line(tty: Terminal, stdin: io.TextIOWrapper) -> None:
    with keyboard.read_keys(stdin) as pressed:
        assert pressed.available
        tty.press("q")
        assert pressed.wait(PATIENCE) == ["q"]
    assert "q" not in tty.shown


def test_without_a_key_the_wait_ends_in_time(stdin: io.TextIOWrapper) -> None:
    with keyboard.read_keys(stdin) as pressed:
        assert pressed.wait(0) == ""
        assert pressed.wait(-1) == ""


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("\x1b[A\x1bOB", ["up", "down"]),
        ("\x1b[5~\x1b[6~\x1b[Hx", ["pgup", "pgdn", "home", "x"]),
        ("\r", ["enter"]),
        ("\x1b", ["esc"]),
        ("ü\x7f", ["ü", "\x7f"]),
        # What has no name is dropped whole: the mouse, a function key, a shifted arrow.
        ("\x1b[<0;3;4Ma\x1bOq\x1b[1;2Ab", ["a", "b"]),
    ],
)
def test_keys_have_names(
    tty: Terminal, stdin: io.TextIOWrapper, typed: str, keys: list[str]
) -> None:
    with keyboard.read_keys(stdin) as pressed:
        tty.press(typed)
        assert pressed.wait(PATIENCE) == keys


class Console:
    """What `msvcrt` gives of a console of Windows."""

    def __init__(self, letters: str) -> None:
        self.letters = list(letters)

    def kbhit(self) -> bool:
        return bool(self.letters)

    def getwch(self) -> str:
        return self.letters.pop(0)


def test_the_console_of_windows_has_the_same_keys() -> None:
    pressed = keyboard.ConsoleKeys(Console("a\xe0H\x00P\r\x1b\xe0?\x1aq"))
    assert pressed.available
    assert pressed.wait(0) == ["a", "up", "down", "enter", "esc", keyboard.SUSPEND, "q"]
    assert pressed.wait(0.01) == ""


def test_ctrl_z_is_a_key_and_ctrl_d_the_end(tty: Terminal, stdin: io.TextIOWrapper) -> None:
    with keyboard.read_keys(stdin) as pressed:
        tty.press("\x1a")
        assert pressed.wait(PATIENCE) == [keyboard.SUSPEND]
        tty.press("\x04")
        assert list(pressed.wait(PATIENCE)) == [keyboard.END]


def test_a_resize_ends_the_wait(stdin: io.TextIOWrapper) -> None:
    with keyboard.read_keys(stdin) as pressed:
        # As the system would for a window that a person draws larger.
        os.kill(os.getpid(), signal.SIGWINCH)
        assert pressed.wait(PATIENCE) == ""


def test_a_terminal_that_is_gone_is_the_end(stdin: io.TextIOWrapper, tty: Terminal) -> None:
    with keyboard.read_keys(stdin) as pressed:
        tty.close()
        assert list(pressed.wait(PATIENCE)) == [keyboard.END]


def test_a_resize_shows_although_its_handler_has_not_run_yet(stdin: io.TextIOWrapper) -> None:
    """As for a signal that comes when the wait has begun for Python, but not for the system."""
    woken = signal.set_wakeup_fd(-1)
    with keyboard.read_keys(stdin) as pressed:
        signal.signal(signal.SIGWINCH, lambda *_: None)
        signal.raise_signal(signal.SIGWINCH)
        assert isinstance(pressed, keyboard._TerminalKeys)
        assert select.select([pressed._resizes], [], [], 0)[0]
        assert pressed.wait(PATIENCE) == ""
    assert signal.set_wakeup_fd(woken) == -1


SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH)


def as_it_is(tty: Terminal) -> tuple[object, ...]:
    return tty.mode, [signal.getsignal(number) for number in SIGNALS]


def test_the_terminal_is_restored(tty: Terminal, stdin: io.TextIOWrapper) -> None:
    before = as_it_is(tty)
    with keyboard.read_keys(stdin):
        assert not tty.mode[3] & (termios.ICANON | termios.ECHO)
        assert as_it_is(tty) != before
    assert as_it_is(tty) == before


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_the_terminal_is_restored_after_a_failure(
    tty: Terminal, stdin: io.TextIOWrapper, failure: type[BaseException]
) -> None:
    before = as_it_is(tty)
    with pytest.raises(failure), keyboard.read_keys(stdin):
        raise failure
    assert as_it_is(tty) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_process_restores_the_terminal(
    tty: Terminal, stdin: io.TextIOWrapper, number: int
) -> None:
    before = as_it_is(tty)
    with pytest.raises(SystemExit) as left, keyboard.read_keys(stdin):
        signal.raise_signal(number)
    assert left.value.code == 128 + number
    assert as_it_is(tty) == before


def test_without_a_terminal_only_time_passes() -> None:
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        for stdin in (io.StringIO("q"), nothing):
            with keyboard.read_keys(stdin) as pressed:
                assert not pressed.available
                assert pressed.wait(0) == ""


def test_without_a_terminal_resizes_and_signals_are_noticed() -> None:
    with keyboard.read_keys(io.StringIO()) as pressed:
        signal.raise_signal(signal.SIGWINCH)
        assert pressed.wait(PATIENCE) == ""
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)


def test_where_keys_cannot_be_read_only_time_passes() -> None:
    assert keyboard.NoKeys().wait(-1) == ""
