"""Requests that are too long for a provider: they are not sent there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ccfallback.config.model import Provider

SLACK: Final = 1.1
"""How many times its context window an estimate may have: the estimate errs on the high side."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """A request's length, and the providers whose context it does not fit."""

    tokens: int = 0
    """The estimate."""
    windows: Mapping[str, int] = field(default_factory=dict)
    """The context window of each such provider, by its name."""

    @property
    def message(self) -> str:
        """The refusal in Anthropic's words, by which Claude Code compacts the conversation."""
        return f"prompt is too long: {self.tokens} tokens > {max(self.windows.values())} maximum"


def longest_that_fits(providers: Iterable[Provider]) -> float | None:
    """The bytes of a body that fits every context for sure; `None` if all contexts are unknown.

    A token of text has a byte at least.
    """
    windows = [each.context_window for each in providers if each.context_window is not None]
    return SLACK * min(windows) if windows else None


def find_too_long(providers: Iterable[Provider], tokens: int) -> TooLong:
    """The providers whose context a request of so many tokens does not fit."""
    windows = {
        each.name: each.context_window
        for each in providers
        if each.context_window is not None and tokens > SLACK * each.context_window
    }
    return TooLong(tokens, windows)
