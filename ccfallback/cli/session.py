"""What a command knows about its invocation: console, environment and files.

A file is read when the command needs it, so that `--help` reads none.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from ccfallback import files
from ccfallback import paths as places
from ccfallback.addresses import is_loopback
from ccfallback.cli.console import Console
from ccfallback.errors import CcfallbackError, ConfigError, ProviderNotFound
from ccfallback.paths import Paths
from ccfallback.words import did_you_mean

if TYPE_CHECKING:
    import typer

    from ccfallback.config.changes import Changes
    from ccfallback.config.edit import Document
    from ccfallback.config.file import ConfigFile
    from ccfallback.config.model import Config
    from ccfallback.events.records import Event
    from ccfallback.policy.breaker import BreakerState
    from ccfallback.state.store import Snapshot, StateStore

T = TypeVar("T")

CORRECT: Final = "correct it, and repeat the command"


class Session(msgspec.Struct):
    """One invocation of the program."""

    console: Console
    environ: Mapping[str, str]
    located: Paths | None = None
    command: str = ""
    """The words of the command, without arguments and options: `providers add`."""
    _names_config: bool = False
    _in_use_is_partial: bool = False
    _store: "StateStore | None" = None

    def locate(self, config: Path | None, state: Path | None, log: Path | None) -> None:
        """Decide where the files are."""
        self.located = places.resolve(config, state, log, self.environ)
        given = (("--config", config), ("--state", state), ("--log-file", log))
        self.console.files = " ".join(
            f"{option} {quote(str(path))}" for option, path in given if path is not None
        )
        self._names_config = config is not None

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

        return ConfigFile(self.paths.config, FORMATS, rectifier_names, find_region, self.command)

    def config(self, *, may_be_missing: bool = False) -> "Config":
        """The current configuration. Without a file, the defaults.

        A file that --config names has to exist, unless the command may create it.
        """
        if not may_be_missing:
            self.require_config_file()
        return self.config_file.load()

    def require_config_file(self) -> None:
        """Raise `ConfigError` if the file that --config names does not exist: probably a typo."""
        if self.is_config_missing:
            raise ConfigError(
                f"{self.paths.config} does not exist",
                "check the path after --config; the first change would create the file",
            )

    @property
    def is_config_missing(self) -> bool:
        """Whether --config names a file that does not exist."""
        return self._names_config and not self.config_file.exists()

    def warn_of_missing_config(self) -> None:
        """Say that the file that --config names does not exist; for what works without one."""
        if self.is_config_missing:
            self.console.say(f"{self.paths.config} does not exist: the defaults apply")

    def config_in_use(self, *, needs_server: bool = True) -> "ConfigInUse":
        """The configuration, or while it is broken, the one that the running server uses.

        That is the last one that loaded. With `needs_server`, a broken configuration is an error
        if no server runs.
        """
        self.require_config_file()
        try:
            return ConfigInUse(self.config_file.load())
        except ConfigError as error:
            return self._last_config(error, needs_server=needs_server)

    def say_config_in_use(self, *, needs_server: bool = True) -> "Config":
        """As `config_in_use`; says first what is wrong with the configuration in the file."""
        config, problem = self.config_in_use(needs_server=needs_server)
        if problem:
            self.console.say(f"! {problem}")
        return config

    def _last_config(self, error: ConfigError, *, needs_server: bool) -> "ConfigInUse":
        from ccfallback.cli.running_server import find_servers, name_providers
        from ccfallback.config.model import Config

        file, problem = self.config_file, "the configuration is broken"
        version = file.last_good()
        config = Config() if version is None else file.check(version.text())
        servers = find_servers(self.paths, config)
        if needs_server and not servers:
            raise error
        if version is not None:
            problem += "; this is the last one that loaded"
        elif servers:
            self._in_use_is_partial = True
            config = name_providers(servers[0].page)
            problem += "; the server tells only the names of its providers"
        return ConfigInUse(config, f"{problem}; `ccfallback config validate` lists the faults")

    def edit(self, change: "Callable[[Document], T]", hint: str = CORRECT) -> T:
        """Change the configuration. Nothing is written if the result would not load."""
        from ccfallback.config.model import Config

        file = self.config_file
        before = file.load() if file.exists() else Config()
        try:
            result = file.edit(change)
        except ConfigError as error:
            if not error.faults:
                raise
            raise ConfigError(
                f"{self.paths.config} was not changed",
                hint,
                faults=error.faults,
            ) from error
        self.say_open_door(before)
        return result

    def say_open_door(self, before: "Config | None") -> None:
        """Say what happens where a server that other machines reach is left without a token.

        `before` is the configuration before a change; `None` if it did not load.
        """
        after = self.config_file.load()
        if after.tokens or after == before:
            return
        hosts = [each.server.host for each in (before, after) if each is not None]
        if all(map(is_loopback, hosts)):
            return
        if before is not None and before.tokens:
            self.console.say(
                "a running server that other machines can reach keeps requiring the last tokens"
            )
        if not is_loopback(after.server.host):
            self.console.say(
                f"server.host is {after.server.host} and there is no access token: `serve` will "
                "not start; `ccfallback tokens add` adds one"
            )

    def say_implied_formats(self, names: Iterable[str]) -> None:
        """Say which of these providers have their format from the URL alone."""
        from ccfallback.config.model import Provider
        from ccfallback.config.options import options
        from ccfallback.config.schema import implied_format, index_by_name
        from ccfallback.wire import FORMATS

        tables = index_by_name(self.config_file.table().get("providers", []))
        usual = next(row.default for row in options(Provider) if row.key == "format")
        for name in names:
            implied = implied_format(tables.get(name, {}), FORMATS)
            if implied not in (None, usual):
                title = FORMATS[implied].title
                self.console.say(f"{name}: taken as the {title} format (from the URL)")

    @property
    def store(self) -> "StateStore":
        """The store of the breaker state."""
        if self._store is None:
            from ccfallback.state import open_store

            self._store = open_store(self.paths, self._state_url)
        return self._store

    def use_state_file(self) -> None:
        """Go on with the state file, because the shared state can't be used."""
        from ccfallback.state import open_store

        self._store = open_store(self.paths)

    @property
    def _state_url(self) -> str:
        """Where the state is; of a broken configuration, where the last one that loaded says."""
        file = self.config_file
        try:
            return file.load(keep=False).state.url
        except ConfigError:
            version = file.last_good()
            return "" if version is None else file.check(version.text()).state.url

    def states(self, config: "Config") -> "Mapping[str, BreakerState]":
        """The current breaker state, as far as it is about this configuration."""
        from ccfallback.config.model import Config
        from ccfallback.policy.breaker import valid_states

        # Of a provider whose name is all that is known, nothing tells whether its state is old.
        config = Config() if self._in_use_is_partial else config
        snapshot = self.store.load()
        if snapshot.set_aside is not None:
            self.console.say(f"the state file could not be read; it is now {snapshot.set_aside}")
        elif trouble := self.state_trouble(snapshot):
            self.console.say(trouble)
        return valid_states(snapshot.states, config, self.now())

    def state_trouble(self, snapshot: "Snapshot") -> str:
        """What is wrong with the state that was read; empty if nothing is."""
        if snapshot.problem is None:
            return ""
        if self.store.places is None:
            return f"the state file can't be used: {snapshot.problem}"
        return f"{snapshot.problem}; this is what this machine's copy says"

    @property
    def log_trouble(self) -> str:
        """Why this user can't read a file of the log; empty if nothing forbids it."""
        from ccfallback.events.journal_reader import numbered, rotations

        for number in (0, *sorted(rotations(self.paths.log))):
            path = numbered(self.paths.log, number)
            if why := files.find_lock_out(path):
                return f"{path} can't be read: {why}"
        return ""

    def readable_log(self) -> Path:
        """The path of the log. Raises `CcfallbackError` if this user may not read it."""
        if trouble := self.log_trouble:
            raise CcfallbackError(trouble, "run this as the user that the server runs as")
        return self.paths.log

    def record(self, config: "Config", event: "Event", message: str) -> None:
        """Write an event to the log: something that the user did."""
        from ccfallback.events.journal import LOG_LINE, Journal, encode_lines
        from ccfallback.server.record import Recorder

        journal = Journal(self.paths.log, config.log.max_bytes, config.log.backups, LOG_LINE)
        recorder = Recorder(None, config.log.level)
        recorder.listeners.append(lambda record: journal.write(encode_lines([record])))
        try:
            recorder.log(event, message, level="info")
        except OSError as error:
            # The command itself has succeeded, so this is not an error.
            self.console.say(f"{self.paths.log} can't be written: {error.strerror}")
        finally:
            journal.close()

    def now(self) -> float:
        """The time, in Unix seconds."""
        return time()


class ConfigInUse(NamedTuple):
    """The configuration that the server uses, and what is wrong with the one in the file."""

    config: "Config"
    problem: str = ""


class ConfigBefore:
    """The configuration before a write, to say afterwards what has changed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._file = session.config_file
        self._text = ""
        self.config: Config | None = None
        """`None` if it did not load."""
        # A broken file can be replaced as well; then there is nothing to compare with.
        with suppress(ConfigError):
            self._text = self._file.text()
            self.config = self._file.check(self._text)

    def changes(self) -> "Changes | None":
        """What has changed since; `None` if the configuration before did not load."""
        import tomllib

        from ccfallback.config.changes import compare

        if self.config is None:
            return None
        return compare(tomllib.loads(self._text), self._file.table())

    def say_changes(self) -> None:
        """Print what has changed since, a line each."""
        changes = self.changes()
        if changes is None:
            names = ", ".join(provider.name for provider in self._file.load().active)
            self._session.console.say(f"the chain is now {names}")
        elif not changes.lines:
            self._session.console.say("only comments or the form of the file differ")
        else:
            for line in changes.lines:
                self._session.console.say(line)
        self._session.say_open_door(self.config)


def rectifier_names() -> list[str]:
    """The names that `[rectifier]` may switch."""
    from ccfallback.rectify import SWITCHES

    return list(SWITCHES)


def find_region(profile: str | None) -> str:
    """The AWS region that this machine names for a profile; empty if it names none."""
    # Imported here, because few configurations have a provider that depends on it.
    from ccfallback.credentials.aws import region_here

    return region_here(profile)


def session_of(ctx: "typer.Context") -> Session:
    """The session that a command runs in."""
    session = ctx.find_root().obj
    assert isinstance(session, Session)
    session.command = ctx.command_path.partition(" ")[2]
    return session


def require(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ProviderNotFound` for unknown names, with the most similar known one."""
    known = list(known)
    missing = [name for name in names if name not in known]
    if not missing:
        return
    raise ProviderNotFound(
        f"no provider is named {' or '.join(missing)}",
        did_you_mean(missing[0], known) or "`ccfallback providers list` shows all names",
    )


def require_logged(name: str, session: Session) -> None:
    """Raise `ProviderNotFound` for a name that is not in the chain; the log had nothing about it.

    Without a configuration that loads, every name may be right.
    """
    with suppress(ConfigError):
        require([name], session.config(may_be_missing=True).names)
