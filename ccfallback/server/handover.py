"""The listening socket that one server leaves to the next, so that no connection is refused.

Every process that has it accepts from the same queue, so a connection that waits there outlives a
server that did not accept it. A socket comes from a running server that is asked for it by a signal
and a file with the path of a Unix socket (unix(7), SCM_RIGHTS), or from systemd, which keeps it
between a stop and a start (sd_notify(3), FDSTORE) or has opened it itself (systemd.socket(5)).
"""

import os
import signal
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ccfallback import files

SIGNAL: Final = getattr(signal, "SIGUSR2", None)
"""Asks a server for its socket; `None` on systems without it."""

VARIABLE: Final = "CCFALLBACK_LISTEN_FD"
"""The environment variable with the number of the open socket that a new server takes."""

SECONDS: Final = 5.0
"""How long the other process may take."""

_STORED: Final = "ccfallback"
"""The name under which systemd keeps the socket."""
_FIRST: Final = 3
"""The number of the first socket from systemd (SD_LISTEN_FDS_START)."""


def request_path(state: Path) -> Path:
    """Where the path is written at which a server's socket is awaited."""
    return state.with_name("handover")


class Handover:
    """The listening socket of a server that another replaces."""

    def __init__(self, listener: socket.socket, way: socket.socket) -> None:
        """`way` is a connection to the old server, which closes it when it accepts no more."""
        self.listener = listener
        self._way = way

    def __enter__(self) -> "Handover":
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        self._way.close()

    def wait(self) -> None:
        """Wait until only the new server accepts connections."""
        self.listener.close()
        with suppress(OSError):
            self._way.recv(1)


def send(listener: socket.socket, state: Path) -> socket.socket:
    """Send a socket to the process that has asked for it; returns the connection to that.

    Raises `OSError` or `ValueError`.
    """
    request = request_path(state)
    if not files.is_private(request):
        raise PermissionError(f"other users can write {request}")
    way = socket.socket(socket.AF_UNIX)
    try:
        way.settimeout(SECONDS)
        way.connect(files.read_regular(request).decode())
        socket.send_fds(way, [b"."], [listener.fileno()])
    except BaseException:
        way.close()
        raise
    return way


def fetch(pid: int, state: Path) -> Handover | None:
    """The socket of a running server that is ready to give it; `None` if it does not come."""
    assert SIGNAL is not None, "asked of a server that has said that it hands over"
    request = request_path(state)
    with TemporaryDirectory(prefix="ccf-") as folder, socket.socket(socket.AF_UNIX) as inbox:
        try:
            inbox.bind(str(Path(folder) / "s"))
            inbox.listen(1)
            inbox.settimeout(SECONDS)
            files.replace_atomically(request, os.fsencode(inbox.getsockname()), durable=False)
            os.kill(pid, SIGNAL)
            way, _ = inbox.accept()
            way.settimeout(SECONDS)
            _, numbers, _, _ = socket.recv_fds(way, 1, 1)
            if numbers:
                return Handover(socket.socket(fileno=numbers[0]), way)
            way.close()
            return None
        except OSError:
            # Such as a folder whose path is too long for the name of a Unix socket.
            return None
        finally:
            with suppress(OSError):
                request.unlink()


def take(environ: MutableMapping[str, str] = os.environ) -> tuple[socket.socket, bool] | None:
    """The open socket that this process was started with, and whether systemd has opened it.

    Then its address counts, and not that of the configuration.
    """
    number, is_unit = environ.pop(VARIABLE, ""), False
    if not number and environ.get("LISTEN_PID") == str(os.getpid()):
        number = str(_FIRST)
        is_unit = environ.get("LISTEN_FDNAMES", "").split(":")[0] != _STORED
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            environ.pop(name, None)
    if not number.isdecimal():
        return None
    try:
        found = socket.socket(fileno=int(number))
    except OSError:
        return None
    # Not every system can say whether a socket listens.
    with suppress(OSError):
        if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.close()
            return None
    found.set_inheritable(False)
    found.setblocking(False)
    return found, is_unit


def keep(listener: socket.socket) -> None:
    """Have systemd, if it runs this server, keep the socket for the next one."""
    _notify(f"FDSTORE=1\nFDNAME={_STORED}", [listener.fileno()])


def forget() -> None:
    """Have systemd close a socket that it keeps, whose address is no longer the configured one."""
    _notify(f"FDSTOREREMOVE=1\nFDNAME={_STORED}", [])


def _notify(message: str, numbers: list[int]) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path or not hasattr(socket, "send_fds"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
        way.connect(f"\0{path[1:]}" if path.startswith("@") else path)
        socket.send_fds(way, [message.encode()], numbers)
