"""Requests that are too long for a provider: they are not sent there."""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import Final

import msgspec

from ccfallback.config.model import Provider
from ccfallback.messages.patterns import lazy_re
from ccfallback.messages.prompt_length import context_sizes
from ccfallback.policy.learned import LearnedRejection, remember
from ccfallback.policy.outcome import Outcome, is_prompt_too_long

SLACK: Final = 1.1
"""How many times its context window an estimate may have: the estimate errs on the high side."""


class TooLong(msgspec.Struct, frozen=True):
    """A request's length, and the providers whose context it does not fit."""

    tokens: int = 0
    """The estimate."""
    windows: Mapping[str, int] = {}
    """The context window of each such provider, by its name."""

    @property
    def message(self) -> str:
        """The refusal in Anthropic's words, by which Claude Code compacts the conversation."""
        most = max(self.windows.values())
        return f"prompt is too long: {max(self.tokens, most + 1)} tokens > {most} maximum"


class LearnedWindow(msgspec.Struct, frozen=True):
    """What a refusal has told of a context window, as long as a learned rejection is valid."""

    limit: int
    """Tokens, as the provider counts them."""
    refused: int
    """The estimate of the request that was refused: a longer one would be refused as well. Where
    that is not believable, more tokens than fit in any case."""

    @property
    def text(self) -> str:
        """The message of the learned rejection; `parse` reads it."""
        return f"maximum context length is {self.limit} tokens; refused: {self.refused}"

    @classmethod
    def parse(cls, text: str) -> "LearnedWindow | None":
        """The window in the message of a learned rejection; `None` if it has another form."""
        found = _LEARNED.fullmatch(text)
        return cls(int(found[1]), int(found[2])) if found else None

    @property
    def safe_bytes(self) -> float:
        """The bytes of a body that fits for sure."""
        return min(SLACK * self.limit, self.refused - 1)

    def is_too_small_for(self, tokens: int) -> bool:
        """Whether a request of so many tokens, by the estimate, would be refused."""
        return tokens > SLACK * self.limit or tokens >= self.refused


RULE: Final = "context_window"
"""The name of such rejections, in the place of a rectifier's."""

_LEARNED: Final = lazy_re(r"maximum context length is (\d{3,12}) tokens; refused: (\d{1,12})")
_TOLD: Final = lazy_re(
    r"\b(?:max(?:imum)?[ _](?:context|model|sequence|seq|prompt|input)[ _](?:length|len|size)"
    r"|context[ _](?:window|length|size|limit))\b\D{0,24}?(\d[\d,]{2,12})\b",
    re.IGNORECASE,
)
"""The window in a refusal that does not give the size of the prompt."""
_SMALLEST: Final = 256
"""Tokens; a smaller number in a refusal means something else."""
_LARGEST_ERROR: Final = 4
"""An estimate is never so many times too low: a shorter request was refused for another reason."""


def read_window(outcome: Outcome, tokens: int) -> LearnedWindow | None:
    """The window that a refusal of a request of so many tokens tells; `None` if it tells none."""
    if not is_prompt_too_long(outcome):
        return None
    sizes = context_sizes(outcome.message)
    limit = 0 if sizes is None else sizes.limit
    if sizes is None and (found := _TOLD.search(outcome.message)):
        limit = int(found[1].replace(",", ""))
    if limit < _SMALLEST:
        return None
    is_believable = tokens * _LARGEST_ERROR >= limit
    return LearnedWindow(limit, tokens if is_believable else ceil(SLACK * limit))


def learned_window(rejections: Iterable[LearnedRejection]) -> LearnedWindow | None:
    """The window in the rejections of one provider and model."""
    found = (LearnedWindow.parse(each.text) for each in rejections if each.rectifier == RULE)
    return next(filter(None, found), None)


def remember_window(
    rejections: Sequence[LearnedRejection], new: LearnedRejection, now: float
) -> tuple[LearnedRejection, ...]:
    """The rejections with a new window in the place of an older one of the same model."""
    subject = (RULE, new.model, new.fingerprint)
    others = [
        each for each in rejections if (each.rectifier, each.model, each.fingerprint) != subject
    ]
    return remember(others, new, now)


def longest_that_fits(providers: Iterable[Provider]) -> float | None:
    """The bytes of a body that fits every context for sure; `None` if all contexts are unknown.

    A token of text has a byte at least.
    """
    windows = [each.context_window for each in providers if each.context_window is not None]
    return SLACK * min(windows) if windows else None


def find_too_long(
    providers: Iterable[Provider],
    tokens: int,
    learned: Mapping[str, LearnedWindow] = MappingProxyType({}),
) -> TooLong:
    """The providers whose context a request of so many tokens does not fit.

    `learned` are the windows that providers have told, by their names.
    """
    providers = tuple(providers)
    windows = {
        each.name: each.context_window
        for each in providers
        if each.context_window is not None and tokens > SLACK * each.context_window
    }
    told = {
        each.name: learned[each.name].limit
        for each in providers
        if each.name in learned and learned[each.name].is_too_small_for(tokens)
    }
    return TooLong(tokens, {**windows, **told})
