"""What a check of `doctor` gets, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccfallback.cli.session import Session
from ccfallback.errors import ConfigError

if TYPE_CHECKING:
    from ccfallback.cli.doctor.claude_settings import Source
    from ccfallback.config.model import Config
    from ccfallback.policy.breaker import BreakerState
    from ccfallback.state.server_file import ServerInfo


class Severity(StrEnum):
    """How grave a finding is; only an error makes `doctor` fail."""

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
        """Whether there is nothing to do about it."""
        return self.severity is Severity.INFO


def good(name: str, message: str) -> Finding:
    """All is well, or at least as it was wanted."""
    return Finding(name, Severity.INFO, message)


def doubtful(name: str, message: str, remedy: str) -> Finding:
    """It works, but perhaps not as it was meant."""
    return Finding(name, Severity.WARNING, message, remedy)


def broken(name: str, message: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(name, Severity.ERROR, message, remedy)


def judged(name: str, message: str, remedy: str, *, grave: bool) -> Finding:
    """An error or a warning, as the circumstances make it."""
    return (broken if grave else doubtful)(name, message, remedy)


@dataclass
class DoctorContext:
    """One installation, looked at once; nothing here changes it."""

    session: Session
    fix: bool = False
    """Whether loose permissions are mended."""
    online: bool = False
    """Whether providers are asked."""
    folder: Path = field(default_factory=Path.cwd)
    """Where Claude Code would be started."""

    @cached_property
    def _loaded(self) -> "Config | ConfigError":
        try:
            return self.session.config()
        except ConfigError as error:
            return error

    @property
    def config(self) -> "Config | None":
        """The configuration; `None` where it is broken."""
        return None if isinstance(self._loaded, ConfigError) else self._loaded

    @property
    def config_error(self) -> ConfigError | None:
        """What is wrong with the configuration."""
        return self._loaded if isinstance(self._loaded, ConfigError) else None

    @cached_property
    def now(self) -> float:
        """When this is, in Unix seconds."""
        return self.session.now()

    @cached_property
    def states(self) -> "Mapping[str, BreakerState]":
        """What the state file says, as it says it."""
        return self.session.store.peek().states

    @cached_property
    def server(self) -> "ServerInfo | None":
        """The server that said it runs, if it answers."""
        from ccfallback.cli.running_server import fetch_health
        from ccfallback.state import server_file

        noted = server_file.read(self.session.paths.server)
        return None if noted is None or fetch_health(noted.url) is None else noted

    @cached_property
    def configured_url(self) -> str | None:
        """Where a server with this configuration is; `None` where that is not known."""
        from ccfallback.cli.running_server import configured_url

        if self.config is None or not self.config.server.port:
            return None
        return configured_url(self.config)

    @cached_property
    def health(self) -> dict[str, Any] | None:
        """What whoever has the configured address says of its health, if it is one of ours."""
        from ccfallback.cli.running_server import fetch_health

        return None if self.configured_url is None else fetch_health(self.configured_url)

    @property
    def own_urls(self) -> list[str]:
        """Addresses at which Claude Code reaches us."""
        noted = None if self.server is None else self.server.url
        return [url for url in (noted, self.configured_url) if url is not None]

    @cached_property
    def sources(self) -> "list[Source]":
        """What has a say in Claude Code's environment."""
        from ccfallback.cli.doctor.claude_settings import sources

        return sources(self.session.environ, Path.home(), self.folder)

    @property
    def client(self) -> Mapping[str, str]:
        """The environment that Claude Code has when it is started from here."""
        merged: dict[str, str] = {}
        for source in self.sources:
            merged.update(source.variables)
        return merged

    @property
    def is_pointed_here(self) -> bool:
        """Whether Claude Code would come to us."""
        from ccfallback.cli.env import BASE_URL, leads_to

        url = self.client.get(BASE_URL, "")
        return any(leads_to(url, own) for own in self.own_urls)
