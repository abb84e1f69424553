"""The service managers: where they look for a service, and how they are told of it."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ccfallback.cli.service.units import LABEL, Service, launchd_agent, systemd_unit

UNIT: Final = "ccfallback.service"

PATIENCE: Final = 60.0
"""Seconds that a manager may take; a stop waits for streams."""


class Manager(Protocol):
    """One service manager."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def path(self) -> Path:
        """The file that it reads."""

    @property
    def starting(self) -> Sequence[Sequence[str]]:
        """The commands that make it take the file over, and start the service."""

    @property
    def stopping(self) -> Sequence[Sequence[str]]:
        """The commands that stop the service, before the file goes."""

    def text(self, service: Service) -> str:
        """What the file has to hold."""

    def is_reachable(self) -> bool:
        """Whether it can be told anything from here."""

    def is_active(self) -> bool:
        """Whether the service runs."""

    def leave_nothing(self) -> None:
        """Take away what it may have made beside the file, once that is gone."""


@dataclass(frozen=True)
class Systemd:
    """The user's own systemd."""

    environ: Mapping[str, str]
    home: Path
    name: str = "systemd"

    @property
    def path(self) -> Path:
        """The unit."""
        return self._config / "systemd" / "user" / UNIT

    @property
    def _config(self) -> Path:
        return Path(self.environ.get("XDG_CONFIG_HOME") or self.home / ".config")

    @property
    def starting(self) -> Sequence[Sequence[str]]:
        """Enabled, and started anew, so that a changed unit is what runs."""
        control = ("systemctl", "--user")
        return (
            (*control, "daemon-reload"),
            (*control, "enable", UNIT),
            (*control, "restart", UNIT),
        )

    @property
    def stopping(self) -> Sequence[Sequence[str]]:
        """Stopped, and no longer enabled."""
        return (("systemctl", "--user", "disable", "--now", UNIT),)

    def text(self, service: Service) -> str:
        """The unit."""
        return systemd_unit(service)

    def is_reachable(self) -> bool:
        """There may be systemd and no session of the user's."""
        return call(("systemctl", "--user", "show", "--property=Version"), self.environ) is None

    def is_active(self) -> bool:
        """Whether the unit runs."""
        return call(("systemctl", "--user", "is-active", "--quiet", UNIT), self.environ) is None

    def leave_nothing(self) -> None:
        """The link that `enable` made, and folders that are empty now."""
        wants = self.path.parent / "default.target.wants"
        (wants / UNIT).unlink(missing_ok=True)
        for command in ("daemon-reload", "reset-failed"):
            unit = (UNIT,) if command == "reset-failed" else ()
            call(("systemctl", "--user", command, *unit), self.environ)
        with suppress(OSError):
            wants.rmdir()
        with suppress(OSError):
            for folder in (self.path.parent, self.path.parent.parent, self.home / ".config"):
                folder.rmdir()


@dataclass(frozen=True)
class Launchd:
    """The launchd of a logged-in user."""

    environ: Mapping[str, str]
    home: Path
    name: str = "launchd"

    @property
    def path(self) -> Path:
        """The agent."""
        return self.home / "Library" / "LaunchAgents" / f"{LABEL}.plist"

    @property
    def _domain(self) -> str:
        return f"gui/{os.getuid()}" if hasattr(os, "getuid") else "gui"

    @property
    def starting(self) -> Sequence[Sequence[str]]:
        """Loaded, which starts it."""
        return (("launchctl", "bootstrap", self._domain, str(self.path)),)

    @property
    def stopping(self) -> Sequence[Sequence[str]]:
        """Unloaded, which stops it."""
        return (("launchctl", "bootout", f"{self._domain}/{LABEL}"),)

    def text(self, service: Service) -> str:
        """The agent."""
        return launchd_agent(service)

    def is_reachable(self) -> bool:
        """Whether the user has a session that agents live in."""
        return call(("launchctl", "print", self._domain), self.environ) is None

    def is_active(self) -> bool:
        """Whether the agent is loaded."""
        return call(("launchctl", "print", f"{self._domain}/{LABEL}"), self.environ) is None

    def leave_nothing(self) -> None:
        """launchd keeps nothing of its own."""


def call(command: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Run a manager's command; what it complained of, `None` if it did not."""
    program = shutil.which(command[0], path=environ.get("PATH"))
    if program is None:
        return f"{command[0]} is not there"
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=dict(environ),
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {PATIENCE:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    if done.returncode == 0:
        return None
    return " ".join(done.stderr.split()) or f"exit status {done.returncode}"
