"""A terminal of a test's own. It is read all the time, so that a writer never waits."""

import os
import pty
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from termios import TIOCSCTTY, TIOCSWINSZ, tcgetattr
from typing import Any

PATIENCE = 20.0
"""Seconds for what a test waits for; it is there in a fraction of one."""


class Terminal:
    """Both ends of a pseudo terminal, and what was shown on it so far."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.leader, self.follower = pty.openpty()
        self.resize(columns, lines)
        self._closed = False
        self._shown = bytearray()
        self._changed = threading.Condition()
        self._stop, self._stopped = os.pipe()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        # A terminal whose other end is closed reports that as an error.
        with suppress(OSError):
            while True:
                ready, _, _ = select.select([self.leader, self._stop], [], [])
                if self._stop in ready or not (piece := os.read(self.leader, 65536)):
                    return
                with self._changed:
                    self._shown += piece
                    self._changed.notify_all()

    def resize(self, columns: int, lines: int) -> None:
        """Give it another size, and signal that to its processes."""
        ioctl(self.leader, TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self.leader, keys.encode())

    @property
    def shown(self) -> str:
        """All that was shown so far."""
        with self._changed:
            return self._shown.decode(errors="replace")

    def wait_for(self, condition: Callable[[str], bool]) -> str:
        """What was shown, once it is like that."""
        with self._changed:
            met = self._changed.wait_for(
                lambda: condition(self._shown.decode(errors="replace")), PATIENCE
            )
            shown = self._shown.decode(errors="replace")
        assert met, shown
        return shown

    @property
    def mode(self) -> list[Any]:
        """How it handles what is typed."""
        return tcgetattr(self.follower)

    def close(self) -> None:
        """Let go of it, once."""
        if self._closed:
            return
        self._closed = True
        os.write(self._stopped, b"!")
        self._reader.join(PATIENCE)
        for descriptor in (self.leader, self.follower, self._stop, self._stopped):
            os.close(descriptor)


@contextmanager
def terminal(columns: int = 80, lines: int = 24) -> Iterator[Terminal]:
    """A terminal, for as long as it is wanted."""
    made = Terminal(columns, lines)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def started(on: Terminal, *arguments: str, **environ: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that runs in the foreground of a terminal."""

    def prepare() -> None:
        ioctl(0, TIOCSCTTY, 0)
        # A shell starts its background jobs with SIGINT ignored, and the tests may be one.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-m", "ccfallback", *arguments],
        stdin=on.follower,
        stdout=on.follower,
        stderr=on.follower,
        env={**os.environ, "TERM": "xterm-256color", **environ},
        start_new_session=True,
        preexec_fn=prepare,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)
