"""Which steps of the plain form a provider and model need.

After the plain form was accepted, each of a few requests leaves half of the doubtful steps out. If
such a request is refused, the provider gets the plain form again, so no turn is lost.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from ccfallback.rectify.plain_form import NAMES

MOST_TRIALS: Final = 6
"""Requests that leave steps out."""

_NEEDED: Final = "plain form needed"
_UNSURE: Final = "unsure"
_SUSPECTS: Final = "one of"
_TRIALS: Final = "trials"


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What is known of the steps that a provider and model need."""

    needed: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()
    """Some of the unsure steps, one of which is needed unless several steps are."""
    trials: int = 0
    """Requests so far that have left steps out."""

    @property
    def steps(self) -> frozenset[str]:
        """The steps with which the provider has accepted a request."""
        return frozenset((*self.needed, *self.unsure))

    @property
    def text(self) -> str:
        """The message of the learned rejection; `parse` reads it."""
        lists = ((_NEEDED, self.needed), (_UNSURE, self.unsure), (_SUSPECTS, self.suspects))
        parts = [f"{head}: {', '.join(names)}" for head, names in lists if names]
        return "; ".join((*parts, f"{_TRIALS}: {self.trials}"))

    @classmethod
    def parse(cls, text: str) -> "Narrowing":
        """The narrowing in the message of a learned rejection, without unknown steps."""
        parts = dict(part.partition(": ")[::2] for part in text.split("; "))
        needed, unsure, suspects = (
            _in_order(re.split(", ", parts.get(head, ""))) for head in (_NEEDED, _UNSURE, _SUSPECTS)
        )
        trials = parts.get(_TRIALS, "")
        done = int(trials) if trials.isdecimal() and len(trials) < 3 else MOST_TRIALS
        return cls(needed, unsure, suspects, done)

    @classmethod
    def begin(cls, changed: Collection[str], before: "Narrowing | None" = None) -> "Narrowing":
        """After the plain form was accepted: each step that changed the request may be needed."""
        needed = before.needed if before is not None else ()
        return cls(needed, _in_order(set(changed) - set(needed)))

    def to_leave_out(self, changed: Collection[str]) -> frozenset[str]:
        """The steps that the next request is sent without; none if there is nothing to find out.

        Only steps that would change that request tell something.
        """
        if self.trials >= MOST_TRIALS:
            return frozenset()
        unsure = [name for name in self.unsure if name in changed]
        suspects = [name for name in self.suspects if name in unsure]
        if suspects:
            # If one of them is needed, most likely no other step is.
            others = [name for name in unsure if name not in suspects]
            return frozenset((*_half(suspects), *others))
        is_found = self.trials > 0 and bool(self.needed)
        return frozenset(unsure if is_found else _half(unsure))

    def after(self, left_out: Collection[str], *, accepted: bool) -> "Narrowing":
        """After a request without these steps was accepted or refused."""
        needed, unsure = self.needed, self.unsure
        if accepted:
            unsure = tuple(name for name in unsure if name not in left_out)
            suspects = tuple(name for name in self.suspects if name not in left_out)
        else:
            suspects = _in_order(set(self.suspects) & set(left_out) or left_out)
        if len(suspects) == 1:
            needed = _in_order((*needed, *suspects))
            unsure = tuple(name for name in unsure if name not in suspects)
            suspects = ()
        return Narrowing(needed, unsure, suspects, self.trials + 1)


def _half(names: Sequence[str]) -> Sequence[str]:
    return names[: (len(names) + 1) // 2]


def _in_order(names: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in NAMES if name in names)
