"""Keys at once, nothing but keys, and a terminal that is as it was before."""

import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("there is no terminal of this kind", allow_module_level=True)

import termios

from ccfallback.cli import keys
from tests.cli.terminal import PATIENCE, Terminal, terminal


@pytest.fixture
def tty() -> Iterator[Terminal]:
    with terminal() as made:
        yield made


@pytest.fixture
def stdin(tty: Terminal) -> Iterator[io.TextIOWrapper]:
    with os.fdopen(os.dup(tty.follower)) as stream:
        yield stream


def test_a_key_comes_without_a_line(tty: Terminal, stdin: io.TextIOWrapper) -> None:
    with keys.read_keys(stdin) as pressed:
        assert pressed.available
        tty.press("q")
        assert pressed.wait(PATIENCE) == "q"
    assert "q" not in tty.shown


def test_time_passes_without_one(stdin: io.TextIOWrapper) -> None:
    with keys.read_keys(stdin) as pressed:
        assert pressed.wait(0) == ""
        assert pressed.wait(-1) == ""


@pytest.mark.parametrize("sequence", ["\x1b[A", "\x1bOq", "\x1b[<0;3;4M", "\x1b"])
def test_what_an_arrow_or_a_mouse_sends_is_no_key(
    tty: Terminal, stdin: io.TextIOWrapper, sequence: str
) -> None:
    with keys.read_keys(stdin) as pressed:
        tty.press(sequence)
        assert pressed.wait(PATIENCE) == ""


def test_suspending_is_a_key_and_ctrl_d_the_end(tty: Terminal, stdin: io.TextIOWrapper) -> None:
    with keys.read_keys(stdin) as pressed:
        tty.press("\x1a")
        assert pressed.wait(PATIENCE) == keys.SUSPEND
        tty.press("\x04")
        assert pressed.wait(PATIENCE) == keys.END


def test_a_new_size_ends_the_wait(stdin: io.TextIOWrapper) -> None:
    with keys.read_keys(stdin) as pressed:
        # As the system would for a window that a person draws larger.
        os.kill(os.getpid(), signal.SIGWINCH)
        assert pressed.wait(PATIENCE) == ""


def test_a_terminal_that_is_gone_is_the_end(stdin: io.TextIOWrapper, tty: Terminal) -> None:
    with keys.read_keys(stdin) as pressed:
        tty.close()
        assert pressed.wait(PATIENCE) == keys.END


SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH)


def as_it_is(tty: Terminal) -> tuple[object, ...]:
    return tty.mode, [signal.getsignal(number) for number in SIGNALS]


def test_all_is_as_it_was(tty: Terminal, stdin: io.TextIOWrapper) -> None:
    before = as_it_is(tty)
    with keys.read_keys(stdin):
        assert not tty.mode[3] & (termios.ICANON | termios.ECHO)
        assert as_it_is(tty) != before
    assert as_it_is(tty) == before


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_all_is_as_it_was_after_a_failure(
    tty: Terminal, stdin: io.TextIOWrapper, failure: type[BaseException]
) -> None:
    before = as_it_is(tty)
    with pytest.raises(failure), keys.read_keys(stdin):
        raise failure
    assert as_it_is(tty) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_us_gives_the_terminal_back(
    tty: Terminal, stdin: io.TextIOWrapper, number: int
) -> None:
    before = as_it_is(tty)
    with pytest.raises(SystemExit) as left, keys.read_keys(stdin):
        signal.raise_signal(number)
    assert left.value.code == 128 + number
    assert as_it_is(tty) == before


def test_without_a_terminal_only_time_passes() -> None:
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        for stdin in (io.StringIO("q"), nothing):
            with keys.read_keys(stdin) as pressed:
                assert not pressed.available
                assert pressed.wait(0) == ""


def test_without_a_terminal_sizes_and_signals_are_heard_all_the_same() -> None:
    with keys.read_keys(io.StringIO()) as pressed:
        signal.raise_signal(signal.SIGWINCH)
        assert pressed.wait(PATIENCE) == ""
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)


def test_where_no_way_to_have_keys_is_known_only_time_passes() -> None:
    assert keys.NoKeys().wait(-1) == ""
