"""The configuration as it is now: reloaded when the file changes, and the last valid one kept."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

from msgspec.structs import replace

from ccfallback.config.file import ConfigFile
from ccfallback.config.model import Config
from ccfallback.credentials.aws import region_here
from ccfallback.errors import CcfallbackError, ConfigError
from ccfallback.events import records as events
from ccfallback.events.journal import NoticePause
from ccfallback.rectify import SWITCHES
from ccfallback.server.record import Recorder
from ccfallback.server.refresher import Refresher
from ccfallback.server.serial_executor import SerialExecutor
from ccfallback.threads import call_within
from ccfallback.wire import FORMATS


def config_file(path: Path) -> ConfigFile:
    """The configuration file, with the names that this program knows."""
    return ConfigFile(path, FORMATS, lambda: SWITCHES, region_here)


class ConfigStore(Protocol):
    """The configuration file, as the server uses it."""

    path: Path

    def is_still(self, version: object) -> bool:
        """Whether the file is surely this version; returns at once."""

    def stamp(self) -> object:
        """The version of the file now; may block."""

    def load(self, *, must_exist: bool = False) -> Config:
        """What the file holds; may block. Raises `ConfigError`.

        With `must_exist`, a missing or empty file is an error.
        """


class FixedConfig:
    """A `ConfigStore` without a file: its configuration never changes."""

    path = Path()

    def __init__(self, config: Config) -> None:
        self._config = config

    def is_still(self, _version: object) -> bool:
        """There is only one version."""
        return True

    def stamp(self) -> object:
        """There is only one version."""
        return None

    def load(self, *, must_exist: bool = False) -> Config:
        """The configuration."""
        return self._config


START_PATIENCE: Final = 15.0
"""Seconds that a start waits for the disk; a folder on the network may need some."""


def _read_at_start(store: ConfigStore) -> tuple[object, Config]:
    """The version and the content of the file, read in a thread: a disk may hang for ever.

    Raises `ConfigError`.
    """
    try:
        return call_within(START_PATIENCE, lambda: (store.stamp(), store.load()), "config")
    except TimeoutError:
        raise ConfigError(
            f"{store.path} can't be read: no answer from the disk for {START_PATIENCE:g} s",
            "check the disk or the network folder, or name another file with --config",
        ) from None


RETRY_PAUSE: Final = 1.0
"""Seconds until a file that could not be used is read again, though it seems to be the same: its
owner, its mode or a fault of the disk may be what has changed."""


class LiveConfig:
    """One immutable `Config` at a time."""

    def __init__(self, store: ConfigStore, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder
        self._version, self.current = _read_at_start(store)
        self.on_change: list[Callable[[Config], None]] = []
        self.needs_tokens = False
        """Whether other machines reach the server: then it is never without access tokens."""
        self.is_broken = False
        """Whether the file can't be used, so that the last good configuration is in force."""
        self._failure = ""
        self._failed = -RETRY_PAUSE
        self._notice_pause = NoticePause()
        self._executor = SerialExecutor("config")
        self._refresher = Refresher(
            self._executor,
            is_current=self._is_current,
            load=self._load,
            take=self._take,
            on_late=self._report_late,
        )
        self.is_stale = self._refresher.is_stale
        """Whether a request has to `refresh` first."""

    async def refresh(self, arrived: float) -> Config:
        """The configuration for a request that arrived at that time (monotonic clock)."""
        await self._refresher.refresh(arrived)
        return self.current

    def close(self) -> None:
        """End the thread."""
        self._executor.close()

    def _is_current(self) -> bool:
        return not (self.is_broken and self._is_retry_due()) and self._store.is_still(self._version)

    def _is_retry_due(self) -> bool:
        """Whether a file that could not be used is read again."""
        return monotonic() - self._failed >= RETRY_PAUSE

    def _load(self) -> tuple[object, Config | Exception] | None:
        """The version of the file and its content, or why it cannot be used; `None` if it is the
        version that was read last. Runs in the thread."""
        version = self._store.stamp()
        if version == self._version and not (self.is_broken and self._is_retry_due()):
            return None
        # An editor may empty the file before it writes it anew, and a disk may be unmounted. A
        # configuration that sets nothing has nothing to lose.
        must_exist = self.current != Config()
        try:
            return version, self._store.load(must_exist=must_exist)
        except Exception as error:
            # Whatever it is, it must not cost a request: the last good configuration stays.
            return version, error

    def _take(self, loaded: tuple[object, Config | Exception] | None) -> bool:
        if loaded is None:
            return True
        before = self._version
        self._version, config = loaded
        self.is_broken = not isinstance(config, Config)
        if isinstance(config, Config):
            self._failure = ""
            self._replace(config)
            return True
        self._failed = monotonic()
        known = isinstance(config, CcfallbackError | OSError)
        why = str(config) if known else f"{type(config).__name__} while it was read"
        if (before, self._failure) != (self._version, why):
            self._failure = why
            self._log_error(f"the configuration can't be used, the last good one stays: {why}")
        return True

    def _replace(self, config: Config) -> None:
        before = self.current
        if self.needs_tokens and not config.tokens:
            config = replace(config, tokens=before.tokens)
            self._log_error(
                "the new configuration has no access token, but other machines reach this server: "
                "the last tokens stay in force until it is restarted"
            )
        self.current = config
        path = str(self._store.path)
        names = [provider.name for provider in config.active]
        self._recorder.log(
            events.ConfigLoad(path=path, providers=names),
            f"configuration read again: {', '.join(names) or 'no provider enabled'}",
        )
        if _needs_restart(config) != _needs_restart(before):
            self._recorder.log(
                events.ConfigLoad(path=path),
                "the new host, port or state.url takes effect at the next start",
                level="warn",
            )
        for changed in self.on_change:
            changed(config)

    def _report_late(self) -> None:
        if self._notice_pause.is_over():
            self._log_error(
                "the configuration can't be read, the last good one stays: no answer from the disk"
            )

    def _log_error(self, message: str) -> None:
        self._recorder.log(events.ConfigRejected(path=str(self._store.path)), message)


def _needs_restart(config: Config) -> tuple[object, ...]:
    """What takes effect at the next start."""
    return config.server.host, config.server.port, config.state
