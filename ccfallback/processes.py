"""Programs in a session of their own, so that they end together with all that they have started."""

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import subprocess

NEW_SESSION: Final = sys.platform != "win32"
"""`start_new_session` for such a program; Windows has no sessions."""


def kill_session(program: "subprocess.Popen[Any]") -> None:
    """Kill a program and all that it has started."""
    with suppress(OSError):
        if sys.platform == "win32":
            program.kill()
        else:
            os.killpg(program.pid, signal.SIGKILL)
