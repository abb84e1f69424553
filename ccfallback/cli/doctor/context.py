"""What the checks of `doctor` look at, and what they report."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ccfallback.cli.session import Session
from ccfallback.errors import ConfigError, StateError
from ccfallback.files import read_regular

if TYPE_CHECKING:
    from ccfallback.cli.running_server import RunningServer
    from ccfallback.config.model import Config
    from ccfallback.policy.breaker import BreakerState
    from ccfallback.state.server_file import ServerInfo


class Severity(StrEnum):
    """How serious a finding is; only an error makes `doctor` fail."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    id: str
    severity: Severity
    message: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is nothing to do."""
        return self.severity is Severity.INFO


def good(name: str, message: str) -> Finding:
    """A finding that needs no action."""
    return Finding(name, Severity.INFO, message)


def warning(name: str, message: str, remedy: str) -> Finding:
    """Something that works, but perhaps not as the user intended."""
    return Finding(name, Severity.WARNING, message, remedy)


def error(name: str, message: str, remedy: str) -> Finding:
    """Something that does not work."""
    return Finding(name, Severity.ERROR, message, remedy)


def problem(name: str, message: str, remedy: str, *, serious: bool) -> Finding:
    """An error if it is serious, else a warning."""
    return (error if serious else warning)(name, message, remedy)


@dataclass
class DoctorContext:
    """The installation that the checks look at. Each part is read once; nothing is changed."""

    session: Session
    fix: bool = False
    """Whether to correct file permissions."""
    online: bool = False
    """Whether to send a request to each provider."""
    folder: Path = field(default_factory=Path.cwd)
    """Where Claude Code would be started."""
    state_error: StateError | None = field(default=None, init=False)
    """Why the shared state can't be used at all: then the state file is looked at."""

    def __post_init__(self) -> None:
        try:
            self.session.store.close()
        except StateError as error:
            self.state_error = error
            self.session.use_state_file()

    @cached_property
    def _loaded(self) -> "Config | ConfigError":
        try:
            # A diagnosis writes nothing, not even a version.
            return self.session.config_file.load(keep=False)
        except ConfigError as error:
            return error

    @property
    def config(self) -> "Config | None":
        """The configuration; `None` if it does not load."""
        return None if isinstance(self._loaded, ConfigError) else self._loaded

    @property
    def config_error(self) -> ConfigError | None:
        """Why the configuration does not load."""
        return self._loaded if isinstance(self._loaded, ConfigError) else None

    @cached_property
    def now(self) -> float:
        """The time, in Unix seconds."""
        return self.session.now()

    @cached_property
    def states(self) -> "Mapping[str, BreakerState]":
        """The content of the state file, wrong times included."""
        return self.session.store.peek().states

    @cached_property
    def server(self) -> "ServerInfo | None":
        """The registered server that started last, of those that answer."""
        from ccfallback.cli.running_server import fetch_health
        from ccfallback.state import server_file

        registered = server_file.read_all(self.session.paths.server)
        return next((each for each in registered if fetch_health(each.url)), None)

    @cached_property
    def private_servers(self) -> "list[RunningServer]":
        """The proxies of each `run` that answer."""
        from ccfallback.cli.running_server import find_private_servers

        return find_private_servers(self.session.paths)

    @cached_property
    def configured_url(self) -> str | None:
        """The URL of a server with this configuration; `None` if it has no fixed port."""
        from ccfallback.cli.running_server import configured_url

        return None if self.config is None else configured_url(self.config)

    @cached_property
    def health(self) -> dict[str, Any] | None:
        """The `/health` page at the configured URL, if a ccfallback answers there."""
        from ccfallback.cli.running_server import fetch_health

        return None if self.configured_url is None else fetch_health(self.configured_url)

    @property
    def own_urls(self) -> list[str]:
        """The URLs at which Claude Code reaches our servers, running or not."""
        running = None if self.server is None else self.server.url
        private = (server.url for server in self.private_servers)
        return [url for url in (running, self.configured_url, *private) if url is not None]

    @cached_property
    def sources(self) -> "list[Source]":
        """The places that define Claude Code's environment."""
        return sources(self.session.environ, Path.home(), self.folder)

    @property
    def client(self) -> Mapping[str, str]:
        """The environment of a Claude Code that is started from here."""
        merged: dict[str, str] = {}
        for source in self.sources:
            merged.update(source.variables)
        return merged

    @property
    def is_client_pointed_here(self) -> bool:
        """Whether Claude Code would send its requests to us."""
        from ccfallback.cli.env import BASE_URL, leads_to

        url = self.client.get(BASE_URL, "")
        return any(leads_to(url, own) for own in self.own_urls)


# -- Claude Code's settings, which we read and never write

MANAGED: Final[Mapping[str, Path]] = MappingProxyType(
    {
        "linux": Path("/etc/claude-code/managed-settings.json"),
        "darwin": Path("/Library/Application Support/ClaudeCode/managed-settings.json"),
        "win32": Path(r"C:\Program Files\ClaudeCode\managed-settings.json"),
    }
)
"""The settings of the user's organization, by platform. They override all others."""


@dataclass(frozen=True, slots=True)
class Source:
    """A place that defines variables of Claude Code's environment."""

    name: str
    """How messages call it: a path, or `the environment`."""
    variables: Mapping[str, str]
    unreadable: bool = False


def sources(
    environ: Mapping[str, str], home: Path, folder: Path, managed: Path | None = None
) -> list[Source]:
    """All places, for a Claude Code that is started in `folder`; later ones override earlier ones.

    `managed` is the file of the user's organization, which counts if it exists.
    """
    managed = MANAGED.get(sys.platform, MANAGED["linux"]) if managed is None else managed
    own = Path(environ.get("CLAUDE_CONFIG_DIR") or home / ".claude")
    paths = (
        own / "settings.json",
        folder / ".claude" / "settings.json",
        folder / ".claude" / "settings.local.json",
    )
    return [
        Source("the environment", environ),
        *(_read(path) for path in dict.fromkeys(paths)),
        *([_read(managed)] if managed.exists() else []),
    ]


def _read(path: Path) -> Source:
    try:
        document: Any = msgspec.json.decode(read_regular(path))
    except FileNotFoundError:
        return Source(str(path), {})
    except (OSError, ValueError, RecursionError):
        return Source(str(path), {}, unreadable=True)
    table = document.get("env") if isinstance(document, dict) else None
    if not isinstance(table, dict):
        return Source(str(path), {}, unreadable=not isinstance(document, dict))
    return Source(str(path), {k: v for k, v in table.items() if isinstance(v, str)})
