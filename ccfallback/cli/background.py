"""The server without a terminal: start it, stop it, and let a new one take its place.

It is found by the file in which it registered itself, and only after it has answered with the
process id that is there: after a crash, the id may belong to any program.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from socket import socket
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any, Final

from ccfallback import files
from ccfallback.cli.running_server import (
    RunningServer,
    configured_url,
    fetch_health,
    find_server_at,
)
from ccfallback.cli.session import Session
from ccfallback.errors import ServeError
from ccfallback.processes import NEW_SESSION
from ccfallback.state import server_file
from ccfallback.state.server_file import ServerInfo

if TYPE_CHECKING:
    from ccfallback.server.handover import Handover

START_SECONDS: Final = 30.0
"""How long a start may take; it takes one second, on a machine that has nothing else to do."""

STOP_SECONDS: Final = 100.0
"""How long a stop may take: `server.drain_delay` is 60 s at most, and then answers have 30 s."""

NOW_SECONDS: Final = 1.0
"""How long `stop --now` waits for the port to close, which `server.drain_delay` keeps open."""

_ASKS: Final = 4
"""How often a server is asked who it is: until a replaced one has closed its socket, either of the
two may answer."""

LOOK: Final = 0.05
"""Seconds between two looks."""

_DETACHED: Final = 0x208 if sys.platform == "win32" else 0
"""`DETACHED_PROCESS` and `CREATE_NEW_PROCESS_GROUP` of Windows, without which it ends with its
console."""


def find_registered(session: Session) -> ServerInfo | None:
    """The registered server that started last, of those that run. Raises `ServeError` if that
    can't be decided."""
    for ask in range(_ASKS):
        sleep(LOOK if ask else 0)
        registered = server_file.read_all(session.paths.server)
        info = next((each for each in registered if not server_file.refuses(each.url)), None)
        if info is None:
            return None
        page = fetch_health(info.url)
        if page is None:
            break
        if page.get("pid") == info.pid:
            return info
    else:
        return None
    if server_file.refuses(info.url):
        return None
    raise ServeError(
        f"the server at {info.url} (pid {info.pid}) does not answer",
        f"if that process is a ccfallback, `kill {info.pid}` stops it",
    )


def server_argv(session: Session, options: Sequence[str]) -> list[str]:
    """The command line of a server with the files of this one."""
    paths = session.paths
    return [
        *(sys.executable, "-m", "ccfallback"),
        *("--config", str(paths.config.absolute())),
        *("--state", str(paths.state.absolute())),
        *("--log-file", str(paths.log.absolute())),
        *("serve", *options),
    ]


def start(session: Session, options: Sequence[str]) -> ServerInfo:
    """Start a server in the background, unless one runs, and say where it is."""
    running = find_registered(session)
    if running is None:
        running = launch(session, options)
        session.console.say(
            f"ccfallback {running.version} runs in the background at {running.url} "
            f"(pid {running.pid}); `ccfallback stop` stops it"
        )
    else:
        session.console.say(
            f"it runs already, at {running.url} (pid {running.pid}); `ccfallback restart` "
            "restarts it"
        )
    session.console.say("to send Claude Code here, in its shell:")
    session.console.write(f"export ANTHROPIC_BASE_URL={running.url}\n")
    return running


def take_over(session: Session, info: ServerInfo, host: str, port: int) -> "Handover | None":
    """The listening socket of a server that will be replaced, if it can give it to the next one.

    `host` and `port` are the address of the next one: at another, it can't use the socket.
    """
    if not info.hands_over:
        return None
    from ccfallback.server import handover
    from ccfallback.server.listening import find_listen_address

    found = handover.fetch(info.pid, session.paths.state)
    if found is None:
        return None
    address = find_listen_address(host, port, has_tokens=True)
    if address.is_address(found.listener.getsockname()):
        return found
    with found:
        return None


def launch(session: Session, options: Sequence[str], listener: socket | None = None) -> ServerInfo:
    """Start a server in its own session, and wait until it answers.

    It accepts at `listener`, the socket of another. Raises `ServeError` with its own words if it
    ends.
    """
    inherited: dict[str, Any] = {}
    if listener is not None:
        from ccfallback.server.handover import VARIABLE

        number = listener.fileno()
        inherited = {"pass_fds": (number,), "env": {**os.environ, VARIABLE: str(number)}}
    session.config(may_be_missing=True)
    session.warn_of_missing_config()
    before = server_file.read(session.paths.server)
    output = session.paths.state.with_name("serve.out")
    files.replace_atomically(output, b"", durable=False)
    began = time()
    with output.open("ab") as stream:
        process = subprocess.Popen(
            server_argv(session, options),
            stdin=subprocess.DEVNULL,
            # What it prints for each request is in the log as well.
            stdout=subprocess.DEVNULL,
            stderr=stream,
            cwd=Path.home(),
            # It outlives the terminal.
            start_new_session=NEW_SESSION,
            creationflags=_DETACHED,
            **inherited,
        )
    found: list[ServerInfo] = []

    def is_up() -> bool:
        info = server_file.read(session.paths.server)
        if info is None or info == before or info.started < began - 1:
            return False
        found.append(info)
        return (fetch_health(info.url) or {}).get("pid") == info.pid

    if _wait(lambda: process.poll() is not None or is_up(), START_SECONDS) and not process.poll():
        # Not waited for: it outlives us.
        process.returncode = 0
        return found[-1]
    if process.poll() is None:
        process.terminate()
    words = output.read_text("utf-8", "replace").strip().splitlines()
    why = words[-1].removeprefix("ccfallback: ") if words else "it printed nothing"
    raise ServeError(f"the server did not start: {why}", f"its output is in {output}")


def halt(session: Session, info: ServerInfo, *, now: bool = False, wait: bool = True) -> None:
    """Stop a server: answers may finish, unless it is `now`.

    Without `wait`, returns when its port is free.
    """
    ask_to_stop(info)
    if now:
        _wait(lambda: server_file.refuses(info.url), NOW_SECONDS)
        with suppress(ServeError):
            ask_to_stop(info)
    session.console.progress("waiting for answers to finish" if wait else "")
    try:
        is_gone = _has_left if wait else lambda _session, it: server_file.refuses(it.url)
        if not _wait(lambda: is_gone(session, info), STOP_SECONDS):
            raise ServeError(
                f"the server (pid {info.pid}) has not stopped in {STOP_SECONDS:.0f} s",
                "`ccfallback stop --now` drops the answers that it waits for",
            )
    finally:
        session.console.progress("")


def ask_to_stop(info: ServerInfo) -> None:
    """Ask a server to end when its answers have ended. Raises `ServeError` if there is none."""
    try:
        os.kill(info.pid, signal.SIGTERM)
    except ProcessLookupError:
        raise ServeError(f"no process {info.pid} runs on this machine") from None
    except PermissionError:
        raise ServeError(
            f"the server (pid {info.pid}) belongs to another user", "stop it as that user"
        ) from None


def _has_left(session: Session, info: ServerInfo) -> bool:
    """Whether the server has written everything and withdrawn its address, or is gone."""
    is_silent = server_file.refuses(info.url)
    if sys.platform == "win32":
        # There, a signal ends the process at once, and signal 0 would do so as well.
        return is_silent
    registered = server_file.read_all(session.paths.server)
    if is_silent and info.pid not in [each.pid for each in registered]:
        return True
    return not is_running(info.pid)


def is_running(pid: int) -> bool:
    """Whether a process runs. One that has ended, and that its parent has not waited for, does not:
    in a container, often nothing waits for it."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def find_unregistered(session: Session) -> RunningServer | None:
    """A server at the configured address that has other files than ours."""
    url = configured_url(session.config(may_be_missing=True))
    return None if url is None else find_server_at(url)


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    end = monotonic() + seconds
    while not (met := condition()) and monotonic() < end:
        sleep(LOOK)
    return met
