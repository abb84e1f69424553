"""How Claude Code goes on after a request that came to nothing.

A small model of its retries, as they were measured: `drill` judges by it whether a turn would be
lost. It errs on the side of giving up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MOST_TRIES: Final = 11
PATIENCE: Final = 60.0
"""Seconds; a longer `retry-after` is not waited for."""

GAPS: Final = (0.6, 1.2, 2.2, 4.5, 9.0, 18.0, 36.0)
"""Seconds before the next try; the last one again and again."""

RETRIED: Final = frozenset({401, 408, 409, 429})


class Ending(StrEnum):
    """How one request ended."""

    ANSWERED = "answered"
    STATUS = "status"
    DROPPED = "dropped"
    """The connection broke, before or within the answer."""
    ENDED_EARLY = "ended early"
    """A stream came to an end in good order, but not to a stop reason."""
    ERROR_EVENT = "error event"
    MALFORMED = "malformed"
    """A 200 that is no answer."""


@dataclass(frozen=True, slots=True)
class ClientView:
    """What the client saw of one request."""

    ending: Ending
    stream: bool
    status: int | None = None
    message: str = ""
    retry_after: float = 0.0
    should_retry: str = ""
    overloaded: bool = False
    """Whether an error event spoke of an overload before any content."""
    kept: bool = False
    """Whether a block of it was over: the client keeps that, and asks for nothing else."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Ask again, after so many seconds."""

    stream: bool
    wait: float


def next_try(seen: Sequence[ClientView], *, login: bool) -> Retry | None:
    """What follows the requests of a turn that came to nothing; `None` shows the user an error."""
    last, tries = seen[-1], len(seen)
    if tries >= MOST_TRIES or last.ending is Ending.ANSWERED or last.kept:
        return None
    gap = GAPS[min(tries, len(GAPS)) - 1]
    match last.ending:
        case Ending.DROPPED:
            return Retry(last.stream, gap)
        case Ending.STATUS:
            return _after_status(seen, gap, login=login)
        case Ending.ERROR_EVENT if last.overloaded and sum(s.overloaded for s in seen) < 3:
            return Retry(last.stream, gap)
        case _:
            # A stream that makes no sense is asked for once more, as a whole answer.
            return Retry(stream=False, wait=0.0) if last.stream else None


def _after_status(seen: Sequence[ClientView], gap: float, *, login: bool) -> Retry | None:
    last = seen[-1]
    status = last.status or 0
    if last.should_retry == "false" or last.retry_after > PATIENCE:
        return None
    if status == 404:
        return Retry(stream=False, wait=0.0) if last.stream else None
    if status == 401 and login:
        # It renews its login, once.
        refusals = sum(sight.status == 401 for sight in seen)
        return Retry(last.stream, 0.0) if refusals == 1 else None
    if status in RETRIED or status >= 500 or last.should_retry == "true":
        return Retry(last.stream, max(gap, last.retry_after))
    # A redirect is followed, to where nothing waits for a message.
    return Retry(last.stream, gap) if 300 <= status < 400 else None
