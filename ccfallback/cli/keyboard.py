"""Reads keys as they are pressed, and restores the terminal afterwards.

One wait, without a thread, for everything that may happen: a key, a resized window, the end of the
time. A signal that would kill the process becomes an exit, so that the screen is restored too.
"""

import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any, Final, Protocol, TextIO

SUSPEND: Final = "\x1a"
"""Ctrl-Z. It comes as a key, because the screen has to be restored before we stop."""

END: Final = "\x04"
"""Ctrl-D; also what a terminal that is gone gives."""

NAMES: Final = {
    "\r": "enter", "\n": "enter", "\x1b": "esc",
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left",
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left",
    "\x1b[5~": "pgup", "\x1b[6~": "pgdn",
    "\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home", "\x1b[7~": "home",
    "\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end", "\x1b[8~": "end",
}  # fmt: skip
"""The names of keys that send more than a letter, or none that can be shown."""

CONSOLE_NAMES: Final = {
    "H": "up", "P": "down", "M": "right", "K": "left", "I": "pgup", "Q": "pgdn",
    "G": "home", "O": "end",
}  # fmt: skip
"""The same for the second of two letters that a console of Windows sends."""

_KEY: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO.|\x1b|[^\x1b]", re.DOTALL)
"""One key as a terminal sends it (ECMA-48, 5.4)."""

CONSOLE_LOOK: Final = 0.02
"""Seconds between two looks at the console of Windows, which sends no signal for a key."""


class Keys(Protocol):
    """A source of keys."""

    available: bool
    """Whether keys can be read at all."""

    def wait(self, seconds: float) -> Sequence[str]:
        """The next keys, by name or letter; none if the time is over or the window was resized."""


def split_keys(text: str) -> list[str]:
    """The keys that a terminal has sent; those without a name or a letter are dropped."""
    found = [NAMES.get(each[0], each[0]) for each in _KEY.finditer(text)]
    return [key for key in found if not key.startswith("\x1b")]


class NoKeys:
    """For systems where keys can't be read: only time passes, and Ctrl-C quits."""

    available = False

    def wait(self, seconds: float) -> Sequence[str]:
        """No keys, after that time."""
        time.sleep(max(0.0, seconds))
        return ""


class ConsoleKeys:
    """The keys of a console of Windows; `console` is the module `msvcrt`."""

    available = True

    def __init__(self, console: Any) -> None:
        self._console = console

    def wait(self, seconds: float) -> Sequence[str]:
        """The next keys; none if the time is over."""
        end = time.monotonic() + seconds
        while not self._console.kbhit():
            left = end - time.monotonic()
            if left <= 0:
                return ""
            time.sleep(min(CONSOLE_LOOK, left))
        keys = []
        while self._console.kbhit():
            letter = self._console.getwch()
            if letter in ("\x00", "\xe0"):
                keys.append(CONSOLE_NAMES.get(self._console.getwch(), ""))
            else:
                keys.append(NAMES.get(letter, letter))
        return [key for key in keys if key]


def read_keys(stdin: TextIO) -> AbstractContextManager[Keys]:
    """A context in which keys can be read at once; without keys if `stdin` is not a terminal."""
    if sys.platform == "win32":
        import msvcrt

        return nullcontext(ConsoleKeys(msvcrt) if _is_terminal(stdin) else NoKeys())
    return _terminal_keys(stdin)


def suspend() -> None:
    """Stop until the shell continues us (`fg`)."""
    if sys.platform != "win32":
        os.kill(0, signal.SIGTSTP)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return os.isatty(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False


if sys.platform != "win32":
    import termios

    _ENDING: Final = (signal.SIGTERM, signal.SIGHUP)

    @contextmanager
    def _terminal_keys(stdin: TextIO) -> Iterator[Keys]:
        descriptor = stdin.fileno() if _is_terminal(stdin) else None
        with ExitStack() as stack:
            resizes = stack.enter_context(_resizes())
            for number in _ENDING:
                before = signal.signal(number, _exit)
                stack.callback(signal.signal, number, before)
            if descriptor is not None:
                was = termios.tcgetattr(descriptor)
                stack.callback(_set, descriptor, was)
                _set(descriptor, _unbuffered_mode(descriptor, was))
            yield _TerminalKeys(descriptor, resizes)

    class _TerminalKeys:
        """The keys of a terminal, if there is one."""

        def __init__(self, descriptor: int | None, resizes: int) -> None:
            self.available = descriptor is not None
            self._descriptor = descriptor
            self._resizes = resizes

        def wait(self, seconds: float) -> Sequence[str]:
            """The next keys; none if the time is over or the window was resized."""
            given = [each for each in (self._descriptor, self._resizes) if each is not None]
            ready, _, _ = select.select(given, [], [], max(0.0, seconds))
            if self._resizes in ready:
                os.read(self._resizes, 4096)
            if self._descriptor is None or self._descriptor not in ready:
                return ""
            try:
                pressed = os.read(self._descriptor, 4096).decode(errors="replace")
            except OSError:
                return END
            return split_keys(pressed) if pressed else END

    @contextmanager
    def _resizes() -> Iterator[int]:
        """A pipe that becomes readable when the window is resized, or at another signal."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)

        def on_resize(_number: int, _frame: FrameType | None) -> None:
            """Without a handler there would be no signal."""

        # A handler in Python that wrote to the pipe would run too late for a signal that comes just
        # before the wait: after it.
        woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        before = signal.signal(signal.SIGWINCH, on_resize)
        try:
            yield reading
        finally:
            signal.signal(signal.SIGWINCH, before)
            signal.set_wakeup_fd(woken)
            os.close(reading)
            os.close(writing)

    def _unbuffered_mode(descriptor: int, was: list[Any]) -> list[Any]:
        """The terminal mode in which keys are neither echoed nor held until the end of the line."""
        control = list(was[6])
        control[termios.VMIN], control[termios.VTIME] = 1, 0
        control[termios.VSUSP] = bytes([os.fpathconf(descriptor, "PC_VDISABLE")])
        return [*was[:3], was[3] & ~(termios.ECHO | termios.ICANON), *was[4:6], control]

    def _set(descriptor: int, mode: list[Any]) -> None:
        # TCSANOW does not wait for output: a held terminal would hold us as well. One that is gone
        # needs nothing more.
        with suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSANOW, mode)

    def _exit(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)
