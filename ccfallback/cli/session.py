"""What a command knows about its invocation: console, environment and files.

A file is read when the command needs it, so that `--help` reads none.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from time import time
from typing import TYPE_CHECKING, TypeVar

import msgspec
import typer

from ccfallback import paths as places
from ccfallback.cli.console import Console
from ccfallback.errors import ConfigError, ProviderNotFound
from ccfallback.paths import Paths
from ccfallback.suggest import closest

if TYPE_CHECKING:
    from ccfallback.config.edit import Document
    from ccfallback.config.file import ConfigFile
    from ccfallback.config.model import Config
    from ccfallback.events.records import Event
    from ccfallback.policy.breaker import BreakerState
    from ccfallback.state.store import StateStore

T = TypeVar("T")


@dataclass(slots=True)
class Session:
    """One invocation of the program."""

    console: Console
    environ: Mapping[str, str]
    located: Paths | None = None

    def locate(self, config: Path | None, state: Path | None, log: Path | None) -> None:
        """Decide where the files are."""
        self.located = places.resolve(config, state, log, self.environ)
        given = (("--config", config), ("--state", state), ("--log-file", log))
        self.console.files = " ".join(
            f"{option} {quote(str(path))}" for option, path in given if path is not None
        )

    @property
    def paths(self) -> Paths:
        """Where the files are."""
        if self.located is None:
            self.locate(None, None, None)
        assert self.located is not None
        return self.located

    @property
    def config_file(self) -> "ConfigFile":
        """The configuration file."""
        from ccfallback.config.file import ConfigFile
        from ccfallback.wire import FORMATS

        return ConfigFile(self.paths.config, FORMATS, rectifier_names)

    def config(self) -> "Config":
        """The current configuration."""
        return self.config_file.load()

    def edit(self, change: "Callable[[Document], T]") -> T:
        """Change the configuration. Nothing is written if the result would not load."""
        self.config()
        try:
            return self.config_file.edit(change)
        except ConfigError as error:
            if not error.faults:
                raise
            faults = "; ".join(map(str, error.faults))
            raise ConfigError(
                f"{self.paths.config} was not changed: {faults}",
                "repeat the command with what is expected",
                faults=error.faults,
            ) from error

    @property
    def store(self) -> "StateStore":
        """The store of the breaker state."""
        from ccfallback.state import open_store

        return open_store(self.paths)

    def states(self) -> "Mapping[str, BreakerState]":
        """The current breaker state."""
        snapshot = self.store.load()
        if snapshot.set_aside is not None:
            self.console.say(f"the state file could not be read; it is now {snapshot.set_aside}")
        return snapshot.states

    def record(self, config: "Config", event: "Event", message: str) -> None:
        """Write an event to the log: something that the user did."""
        from ccfallback.events.journal import Journal
        from ccfallback.server.record import Record, Recorder

        journal = Journal(self.paths.log, config.log.max_bytes, config.log.backups)

        class Sink:
            def put(self, record: Record) -> None:
                journal.write(msgspec.json.encode(record) + b"\n")

        try:
            Recorder(Sink(), config.log.level).log(event, message, level="info")
        except OSError as error:
            # The command itself has succeeded, so this is not an error.
            self.console.say(f"{self.paths.log} can't be written: {error.strerror}")
        finally:
            journal.close()

    def now(self) -> float:
        """The time, in Unix seconds."""
        return time()


def rectifier_names() -> list[str]:
    """The names that `[rectifier]` may switch."""
    from ccfallback.rectify import NAMES

    return list(NAMES)


def session_of(ctx: typer.Context) -> Session:
    """The session that a command runs in."""
    session = ctx.find_root().obj
    assert isinstance(session, Session)
    return session


def require(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ProviderNotFound` for unknown names, with the most similar known one."""
    known = list(known)
    missing = [name for name in names if name not in known]
    if not missing:
        return
    raise ProviderNotFound(
        f"no provider is named {' or '.join(missing)}",
        nearest(missing[0], known) or "`ccfallback providers list` shows all names",
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint with the most similar known word; empty if none is similar."""
    close = closest(word, known)
    return f"did you mean {close}?" if close else ""
