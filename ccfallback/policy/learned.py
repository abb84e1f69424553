"""What providers refuse, remembered: a repair that worked is made before the next refusal.

A lesson is the refusal in words that trigger its rectifier again, so the rectifier itself is all
that is needed to apply it. It is forgotten after a day, because providers learn too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

LIFE: Final = 86400.0
"""Seconds for which a lesson holds after it was last of use."""

MOST: Final = 128
"""Lessons kept per provider."""


@dataclass(frozen=True, slots=True)
class LearnedRejection:
    """One thing that a provider refuses for one model."""

    rectifier: str
    model: str
    """The model that the client asked for."""
    text: str
    """A refusal by which the rectifier makes the same repair; names and numbers, no content."""
    until: float
    """Unix seconds."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same lesson again."""
        return (self.rectifier, self.model, self.text)


def valid(lessons: Sequence[LearnedRejection], now: float) -> tuple[LearnedRejection, ...]:
    """Those that still hold; one that is further ahead than any can be was written by a wrong
    clock, and does not."""
    return tuple(lesson for lesson in lessons if now < lesson.until <= now + 2 * LIFE)


def learned(
    lessons: Sequence[LearnedRejection], rectifier: str, model: str, text: str, now: float
) -> tuple[LearnedRejection, ...]:
    """The lessons with one more, or with that one renewed; the oldest make room."""
    new = LearnedRejection(rectifier, model, text, now + LIFE)
    kept = [lesson for lesson in valid(lessons, now) if lesson.key != new.key]
    return (*kept, new)[-MOST:]


def renewed(
    lessons: Sequence[LearnedRejection], used: Sequence[LearnedRejection], now: float
) -> tuple[LearnedRejection, ...]:
    """The lessons, with new life for the used ones."""
    keys = {lesson.key for lesson in used}
    return tuple(
        replace(lesson, until=now + LIFE) if lesson.key in keys else lesson for lesson in lessons
    )


def wearing_out(lesson: LearnedRejection, now: float) -> bool:
    """Whether a lesson is worth renewing: not at every request, that would be a write each."""
    return lesson.until - now < LIFE / 2
