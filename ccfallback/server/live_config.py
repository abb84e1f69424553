"""The configuration as it is now: read again when the file changes, the last good one kept."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ccfallback.config.file import ConfigFile
from ccfallback.config.model import Config
from ccfallback.errors import CcfallbackError
from ccfallback.events import records as events
from ccfallback.rectify import RECTIFIERS
from ccfallback.server.file_watcher import FileWatcher, Stamp
from ccfallback.server.record import Recorder
from ccfallback.wire import FORMATS


def config_file(path: Path) -> ConfigFile:
    """The configuration file, with the names that this program knows."""
    return ConfigFile(path, FORMATS, lambda: [rectifier.name for rectifier in RECTIFIERS])


class ConfigStore(Protocol):
    """The file, as the server uses it; the methods may block."""

    path: Path

    def stamp(self) -> Stamp | None:
        """What changes when the file does."""

    def load(self) -> Config:
        """What the file says. Raises `ConfigError`."""


class LiveConfig:
    """One immutable `Config` at a time."""

    def __init__(self, store: ConfigStore, recorder: Recorder) -> None:
        self._store = store
        self._recorder = recorder
        self._freshness = FileWatcher(store.stamp)
        self._freshness.seen = store.stamp()
        self._reading = asyncio.Lock()
        self.current = store.load()
        self.is_stale = self._freshness.is_stale
        """Whether the file has changed since it was read."""
        self.on_change: list[Callable[[Config], None]] = []

    async def refresh(self) -> Config:
        """The configuration for a request that begins now."""
        async with self._reading:
            # Whoever comes while another request has it read waits for the same reading.
            stamp = self._store.stamp()
            if stamp != self._freshness.seen:
                await self._reload()
                self._freshness.seen = stamp
        return self.current

    async def _reload(self) -> None:
        before = self.current
        path = str(self._store.path)
        try:
            config = await asyncio.to_thread(self._store.load)
        except (CcfallbackError, OSError) as error:
            self._recorder.log(
                events.ConfigError(path=path),
                f"the configuration can't be used, the last good one stays: {error}",
            )
            return
        self.current = config
        names = [provider.name for provider in config.active]
        self._recorder.log(
            events.ConfigLoad(path=path, providers=names),
            f"configuration read again: {', '.join(names) or 'no provider enabled'}",
        )
        if (config.server.host, config.server.port) != (before.server.host, before.server.port):
            self._recorder.log(
                events.ConfigLoad(path=path),
                "the new host or port is used from the next start on",
                level="warn",
            )
        for changed in self.on_change:
            changed(config)
