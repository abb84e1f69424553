"""The errors that a user reads.

    CcfallbackError
    ├── ConfigError         the configuration can't be read, or says something impossible
    ├── StateError          the state file can't be written
    ├── ProviderNotFound    no provider has that name
    └── ServeError          the server can't start
        └── PortTaken       another program listens there

Each says what is wrong in `message` and what to do in `hint`. Upstream failures are not here: they
are data (`policy.outcome.Outcome`), because the chain decides by them.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class CcfallbackError(Exception):
    """Something that a user can fix. Only the command line prints it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """One thing wrong with a configuration."""

    key: str
    """The dotted path of the key, with a provider's name, or its position where it has no name."""
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.key}: found {self.found}, expected {self.expected}"


class ConfigError(CcfallbackError):
    """The configuration can't be used; `faults` lists everything that is wrong with it."""

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        faults: Sequence[ConfigFault] = (),
    ) -> None:
        super().__init__(message, hint)
        self.faults = tuple(faults)


class StateError(CcfallbackError):
    """The state file can't be written."""


class ProviderNotFound(CcfallbackError):
    """No provider has that name."""


class ServeError(CcfallbackError):
    """The server can't start."""


class PortTaken(ServeError):
    """Another program listens at the server's address."""
