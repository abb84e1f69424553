"""What providers refuse: once a repair has worked, later requests are repaired in advance.

A learned rejection holds a refusal in words that trigger its rectifier again, so the rectifier
alone is enough to apply it. It expires a day after its last use, because providers change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

LIFE: Final = 86400.0
"""Seconds for which a learned rejection is valid after its last use."""

MOST: Final = 128
"""Learned rejections kept for each provider."""


@dataclass(frozen=True, slots=True)
class LearnedRejection:
    """One thing that a provider refuses for one model."""

    rectifier: str
    model: str
    """The model that the client requested."""
    text: str
    """A refusal for which the rectifier makes the same repair; names and numbers, no content."""
    until: float
    """Unix seconds."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Equal for two rejections that teach the same repair."""
        return (self.rectifier, self.model, self.text)

    def needs_renewal(self, now: float) -> bool:
        """Whether a use should renew it: not every use, because each renewal is a write."""
        return self.until - now < LIFE / 2


def still_valid(rejections: Sequence[LearnedRejection], now: float) -> tuple[LearnedRejection, ...]:
    """The rejections that have not expired, and whose time is not from a wrong clock."""
    return tuple(each for each in rejections if now < each.until <= now + 2 * LIFE)


def remember(
    rejections: Sequence[LearnedRejection], rectifier: str, model: str, text: str, now: float
) -> tuple[LearnedRejection, ...]:
    """The rejections with a new or renewed one; of too many, the oldest are dropped."""
    new = LearnedRejection(rectifier, model, text, now + LIFE)
    others = [each for each in still_valid(rejections, now) if each.key != new.key]
    return (*others, new)[-MOST:]


def renew(
    rejections: Sequence[LearnedRejection], used: Sequence[LearnedRejection], now: float
) -> tuple[LearnedRejection, ...]:
    """The rejections, with a new expiry for the used ones."""
    keys = {each.key for each in used}
    return tuple(
        replace(each, until=now + LIFE) if each.key in keys else each for each in rejections
    )
