"""Keys as they are pressed: a terminal that hands them over at once, and is given back as it was.

One wait for everything that may happen, without a thread: a key, a new size of the window, the
end of the time. A signal that would end the process becomes an exit, so that whoever has the
screen gives it back too.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any, Final, Protocol, TextIO

SUSPEND: Final = "\x1a"
"""Ctrl-Z, which comes as a key: the screen is to be given back before we stop."""

END: Final = "\x04"
"""Ctrl-D, and what a terminal that is gone gives."""

_ESCAPE: Final = "\x1b"


class Keys(Protocol):
    """Where keys come from."""

    known: bool
    """Whether any will ever come."""

    def wait(self, seconds: float) -> str:
        """The next keys; none if the time is over or the window has a new size."""


class NoKeys:
    """Where it is not known how to have one: only time passes, and Ctrl-C ends it."""

    known = False

    def wait(self, seconds: float) -> str:
        """Nothing, after that time."""
        time.sleep(max(0.0, seconds))
        return ""


def keys(stdin: TextIO) -> AbstractContextManager[Keys]:
    """The keys of a terminal while it lasts; none where it is no terminal."""
    return nullcontext(NoKeys()) if sys.platform == "win32" else _pressed(stdin)


def suspend() -> None:
    """Stop until the shell goes on with us."""
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
    def _pressed(stdin: TextIO) -> Iterator[Keys]:
        descriptor = stdin.fileno() if _is_terminal(stdin) else None
        with ExitStack() as stack:
            bell = stack.enter_context(_bell())
            for number in _ENDING:
                before = signal.signal(number, _leave)
                stack.callback(signal.signal, number, before)
            if descriptor is not None:
                was = termios.tcgetattr(descriptor)
                stack.callback(_set, descriptor, was)
                _set(descriptor, _at_once(descriptor, was))
            yield _Pressed(descriptor, bell)

    class _Pressed:
        """The keys of a terminal, if there is one."""

        def __init__(self, descriptor: int | None, bell: int) -> None:
            self.known = descriptor is not None
            self._descriptor = descriptor
            self._bell = bell

        def wait(self, seconds: float) -> str:
            """The next keys; none if the time is over or the window has a new size."""
            given = [each for each in (self._descriptor, self._bell) if each is not None]
            ready, _, _ = select.select(given, [], [], max(0.0, seconds))
            if self._bell in ready:
                os.read(self._bell, 4096)
            if self._descriptor is None or self._descriptor not in ready:
                return ""
            try:
                pressed = os.read(self._descriptor, 4096).decode(errors="replace")
            except OSError:
                return END
            # An arrow or a mouse sends several letters, none of which was pressed.
            return "" if pressed.startswith(_ESCAPE) else pressed or END

    @contextmanager
    def _bell() -> Iterator[int]:
        """A pipe that has something to read once the window has a new size."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)

        def ring(_number: int, _frame: FrameType | None) -> None:
            with suppress(BlockingIOError):
                os.write(writing, b"!")

        before = signal.signal(signal.SIGWINCH, ring)
        try:
            yield reading
        finally:
            signal.signal(signal.SIGWINCH, before)
            os.close(reading)
            os.close(writing)

    def _at_once(descriptor: int, was: list[Any]) -> list[Any]:
        """The terminal's mode in which keys are neither shown nor held until the line ends."""
        control = list(was[6])
        control[termios.VMIN], control[termios.VTIME] = 1, 0
        control[termios.VSUSP] = bytes([os.fpathconf(descriptor, "PC_VDISABLE")])
        return [*was[:3], was[3] & ~(termios.ECHO | termios.ICANON), *was[4:6], control]

    def _set(descriptor: int, mode: list[Any]) -> None:
        # At once, not when all is shown: a terminal that is held would hold us as well. One that
        # has gone needs nothing more.
        with suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSANOW, mode)

    def _leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)
