"""The errors that a user reads.

    CcfallbackError
    ├── ConfigError         the configuration can't be read, or says something impossible
    ├── StateError          the state can't be written, or its place can't be used
    ├── ProviderNotFound    no provider has that name
    └── ServeError          the server can't start
        └── PortTaken       another program listens there

Each says what is wrong in `message` and what to do in `hint`. Upstream failures are not here: they
are data (`policy.outcome.Outcome`), because the chain decides by them.
"""

from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple

from ccfallback.error_codes import ErrorCode
from ccfallback.redact import scrub, scrub_misplaced


class CcfallbackError(Exception):
    """Something that a user can fix. Only the command line prints it."""

    code: ErrorCode | None = None
    """The code that `ccfallback help` explains, if it needs more than a line."""

    def __init__(self, message: str, hint: str = "", *, code: ErrorCode | None = None) -> None:
        # A message may quote what the user typed, and that may be a key in the wrong place.
        self.message = scrub(message)
        self.hint = scrub(hint)
        super().__init__(self.message)
        self.code = code or self.code

    @property
    def lines(self) -> list[str]:
        """The lines to print: what is wrong and what to do."""
        return [self._with_hint(self.message)]

    def _with_hint(self, message: str) -> str:
        line = f"{message}; {self.hint}" if self.hint else message
        return line if self.code is None else self.code.mark(line)


class ConfigFault(NamedTuple):
    """One thing wrong with a configuration."""

    key: str
    """The dotted path of the key, with a provider's name, or its position where it has no name."""
    problem: str
    place: tuple[str | int, ...] = ()
    """The way to the key: names of tables, and positions in lists."""
    line: int | None = None
    """The number of its line in the text that was read; `None` if it was not a TOML text."""

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"

    def locate(self, source: str) -> str:
        """The fault with the name of the file, and with the line if it is known."""
        return f"{source}: {self}" if self.line is None else f"{source}:{self.line}: {self}"


class ConfigError(CcfallbackError):
    """The configuration can't be used; `faults` lists everything that is wrong with it.

    With faults, `heading` comes before them; one fault in a `source`, the name of a file, needs
    none. The message has all of it on one line.
    """

    def __init__(
        self,
        heading: str,
        hint: str = "",
        *,
        faults: Sequence[ConfigFault] = (),
        source: str = "",
        code: ErrorCode | None = None,
    ) -> None:
        self.heading = scrub(heading)
        self.faults = tuple(faults)
        name = PurePath(source).name
        self._listed = [fault.locate(name) if name else str(fault) for fault in faults]
        message = self.heading or faults[0].locate(source)
        if faults and heading:
            message = f"{self.heading}: {'; '.join(self._listed)}"
        super().__init__(message, hint, code=code)

    @property
    def lines(self) -> list[str]:
        """The lines to print; several faults have a line each."""
        if len(self.faults) < 2:
            return super().lines
        return [self._with_hint(self.heading), *self._listed]


class StateError(CcfallbackError):
    """The state file can't be written."""

    code = ErrorCode.UNWRITABLE_STATE


class ProviderNotFound(CcfallbackError):
    """No provider has that name."""

    def __init__(self, message: str, hint: str = "") -> None:
        # No provider has the name, so it may be a key. The hint has the names of real providers.
        super().__init__(scrub_misplaced(message), hint)


class ServeError(CcfallbackError):
    """The server can't start."""


class PortTaken(ServeError):
    """Another program listens at the server's address."""

    code = ErrorCode.PORT_TAKEN
