"""What providers refuse: once a repair has worked, later requests are repaired in advance.

A learned rejection holds a refusal in words that trigger its rectifier again, so the rectifier
alone is enough to apply it. It is about one model at one server and account, and it ends a day
after it was learned, whether it was used or not: then one request finds out whether the provider
still refuses.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from ccfallback.config.model import Provider
from ccfallback.policy.fingerprints import fingerprint

LIFE: Final = 86400.0
"""Seconds for which a learned rejection is valid."""

_CLOCKS: Final = 300.0
"""Seconds by which the clocks of two servers may differ."""

PAUSE: Final = 3600.0
"""Seconds after which a provider that has refused the plain form may get it again."""

MOST: Final = 128
"""Learned rejections kept for each provider."""


class LearnedRejection(msgspec.Struct, frozen=True):
    """One thing that a provider refuses for one model."""

    rectifier: str
    model: str
    """The provider's own name of the model."""
    text: str
    """A refusal for which the rectifier makes the same repair; names and numbers, no content."""
    until: float
    """Unix seconds."""
    fingerprint: str = ""
    """The fingerprint of the provider that it was learned from."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Equal for two rejections that teach the same repair."""
        return (self.rectifier, self.model, self.text, self.fingerprint)


def learn(
    provider: Provider, rectifier: str, model: str, text: str, now: float
) -> LearnedRejection:
    """What an answer has shown that followed a repair; `model` is the client's name."""
    own_name = provider.model_for(model)
    return LearnedRejection(rectifier, own_name, text, now + LIFE, fingerprint(provider))


def find_valid(
    rejections: Sequence[LearnedRejection], provider: Provider, now: float, model: str | None = None
) -> tuple[LearnedRejection, ...]:
    """The rejections that still hold for a provider as it is configured now; only those for one
    model if the client's name of it is given."""
    if not rejections:
        return ()
    subject = fingerprint(provider)
    own_name = None if model is None else provider.model_for(model)
    return tuple(
        each
        for each in drop_expired(rejections, now)
        if each.fingerprint == subject and own_name in (None, each.model)
    )


def drop_expired(
    rejections: Sequence[LearnedRejection], now: float
) -> tuple[LearnedRejection, ...]:
    """The rejections that have not expired, and whose time is not from a wrong clock."""
    return tuple(each for each in rejections if now < each.until <= now + LIFE + _CLOCKS)


def remember(
    rejections: Sequence[LearnedRejection], new: LearnedRejection, now: float
) -> tuple[LearnedRejection, ...]:
    """The rejections with a new one; of too many, the oldest are dropped."""
    others = [each for each in drop_expired(rejections, now) if each.key != new.key]
    return (*others, new)[-MOST:]


def revise(
    rejections: Sequence[LearnedRejection], old: LearnedRejection, new: LearnedRejection | None
) -> tuple[LearnedRejection, ...]:
    """The rejections with a new one in the place of an old one, or without that.

    If the old one is no longer there, another request has revised it, and that stands.
    """
    made = (new if each == old else each for each in rejections)
    return tuple(each for each in made if each is not None)


class PlainFormRefusals:
    """The providers and models that have refused the plain form too, so that it is not sent with
    each request. Kept in memory only.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, provider: Provider, model: str, now: float) -> None:
        """Remember a refusal; of too many, the oldest are forgotten."""
        key = self._key(provider, model)
        self._until.pop(key, None)
        self._until[key] = now + PAUSE
        while len(self._until) > MOST:
            del self._until[next(iter(self._until))]

    def holds(self, provider: Provider, model: str, now: float) -> bool:
        """Whether the plain form would be refused, as far as is known."""
        until = self._until.get(self._key(provider, model), 0.0)
        return now < until <= now + PAUSE

    @staticmethod
    def _key(provider: Provider, model: str) -> str:
        return f"{provider.name} {fingerprint(provider, model)}"
