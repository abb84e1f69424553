"""Tells the user when a session moves to a fallback and when it is back, if `[notify]` asks for it.

A command gets the facts as JSON on its standard input and as variables; none of them is a secret.
Bell and command run in a thread, because a terminal or a program may hang.
"""

import asyncio
import os
import subprocess
import sys
from collections import OrderedDict
from contextlib import suppress
from typing import Final

import msgspec

from ccfallback.config.model import Config, Notify
from ccfallback.events import records as events
from ccfallback.processes import NEW_SESSION, kill_session
from ccfallback.server.record import Recorder
from ccfallback.server.serial_executor import SerialExecutor

PAUSE: Final = 60.0
"""Seconds between two notices."""

COMMAND_SECONDS: Final = 10.0
"""How long the command may take."""

MOST_SESSIONS: Final = 1000
"""Sessions with a fallback that are remembered."""


class Notice(msgspec.Struct, frozen=True, rename="camel"):
    """Something that a user may want to know at once."""

    event: str
    """`failover` or `recovery`."""
    message: str
    """It in a sentence."""
    provider: str
    """The provider that answers now."""
    instead_of: str
    """The one that answered before, or should have."""
    reason: str
    session: str
    """A hash."""
    request_id: str

    @property
    def variables(self) -> dict[str, str]:
        """The facts as variables of the environment."""
        return {
            "CCFALLBACK_EVENT": self.event,
            "CCFALLBACK_MESSAGE": self.message,
            "CCFALLBACK_PROVIDER": self.provider,
            "CCFALLBACK_INSTEAD_OF": self.instead_of,
            "CCFALLBACK_REASON": self.reason,
            "CCFALLBACK_SESSION": self.session,
            "CCFALLBACK_REQUEST": self.request_id,
        }


class Away:
    """Which sessions a fallback serves. Pure."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, str] = OrderedDict()

    def see(
        self, session: str, request_id: str, provider: str, first: str, reason: str
    ) -> Notice | None:
        """The notice that an answer is worth; `first` is the provider that is tried first."""
        if provider != first:
            is_new = session not in self._sessions
            self._sessions[session] = provider
            if len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
            why = f": {reason}" if reason else ""
            message = f"{provider} answers instead of {first}{why}"
            facts = (message, provider, first, reason, session, request_id)
            return Notice("failover", *facts) if is_new else None
        before = self._sessions.pop(session, None)
        if before is None:
            return None
        message = f"{first} answers again, after {before}"
        return Notice("recovery", message, first, before, "", session, request_id)


class Notices:
    """Sends notices, at most one in `PAUSE`; of those in between, the last is sent at its end."""

    def __init__(self, recorder: Recorder, pause: float = PAUSE) -> None:
        self._recorder = recorder
        self._pause = pause
        self._away = Away()
        self._executor = SerialExecutor("notices")
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: tuple[Notice, Config] | None = None
        self._sent: Notice | None = None

    def see(
        self, config: Config, session: str, request_id: str, provider: str, first: str, reason: str
    ) -> None:
        """Take note of an answer."""
        notice = self._away.see(session, request_id, provider, first, reason)
        if notice is None:
            return
        self._waiting = (notice, config)
        if self._timer is None:
            self._send()

    def close(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._executor.close()

    def _send(self) -> None:
        self._timer = None
        if self._waiting is None:
            return
        (notice, config), self._waiting = self._waiting, None
        last = self._sent
        if last is not None and (last.session, last.event) == (notice.session, notice.event):
            # In between it was the other way round, and no notice was sent of that.
            return
        self._sent = notice
        self._timer = asyncio.get_running_loop().call_later(self._pause, self._send)
        done = self._executor.run(deliver, config.notify, notice, find_secrets(config))
        done.add_done_callback(self._log_failure)

    def _log_failure(self, done: "asyncio.Future[str]") -> None:
        if done.cancelled():
            return
        error = done.exception()
        problem = done.result() if error is None else str(error)
        if problem:
            self._recorder.log(events.NotifyError(), f"[notify] {problem}")


def find_secrets(config: Config) -> frozenset[str]:
    """The variables that hold keys of providers, which the command does not get."""
    found = set[str]()
    for provider in config.chain:
        for key in provider.key.each:
            if isinstance(key.env, str):
                found.add(key.env)
    return frozenset(found)


def deliver(notify: Notify, notice: Notice, secrets: frozenset[str]) -> str:
    """Ring the bell and run the command; returns what went wrong, in words. Blocks."""
    if notify.bell:
        _ring()
    return _run(notify.command, notice, secrets) if notify.command else ""


def _ring() -> None:
    """Ring the bell of the terminal that the process belongs to; without one, nothing happens."""
    place = "CONOUT$" if sys.platform == "win32" else "/dev/tty"
    with suppress(OSError):
        descriptor = os.open(place, os.O_WRONLY | getattr(os, "O_NOCTTY", 0))
        try:
            os.write(descriptor, b"\a")
        finally:
            os.close(descriptor)


def _run(command: tuple[str, ...], notice: Notice, secrets: frozenset[str]) -> str:
    environ = {name: value for name, value in os.environ.items() if name not in secrets}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**environ, **notice.variables},
            start_new_session=NEW_SESSION,
        )
    except OSError as error:
        return f"{command[0]} can't be run: {error.strerror or error}"
    try:
        process.communicate(msgspec.json.encode(notice) + b"\n", COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        kill_session(process)
        process.wait()
        return f"{command[0]} took longer than {COMMAND_SECONDS:g} s and was stopped"
    return f"{command[0]} exited with {process.returncode}" if process.returncode else ""
