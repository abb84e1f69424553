"""Which steps of the plain form a provider and model need.

After the plain form was accepted, each of a few requests leaves some of the doubtful steps out. If
such a request is refused, the provider gets the plain form again, so no turn is lost.

Six answers of yes or no can't tell all sets of steps apart, but most providers need one to three.
So the sets that fit the answers so far are weighed, and the next request lacks those steps after
which the fewest remain two requests later, on average.
"""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Final

import msgspec

from ccfallback.rectify.plain_form import NAMES

MOST_TRIALS: Final = 6
"""Requests that leave steps out."""

_NEEDED: Final = "plain form needed"
_UNSURE: Final = "unsure"
_GROUPS: Final = "one of"
_TRIALS: Final = "trials"

_LIKELY: Final = (
    *("structure", "parameters", "tool_results", "block_types", "cache_marks", "dialect", "media"),
    *("tools", "schemas", "system_messages", "thinking", "betas"),
)
"""The steps by how likely a provider needs them, the likeliest last: the newer a part of the API
is, the more providers lack it. A step that is not here counts as the least likely."""

_WEIGHTS: Final = (2750, 1150, 125, 25, 5, 1)
"""How likely one certain set of so many needed steps is. Larger sets count as the largest."""

_MOST_MORE: Final = 3
"""How many more needed steps than the certain ones are considered."""

_LOOK_AHEAD: Final = 2
"""Requests that are considered for the choice of the next one."""


class Narrowing(msgspec.Struct, frozen=True):
    """What is known of the steps that a provider and model need."""

    needed: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    """Unsure steps of which at least one in each group is needed."""
    trials: int = 0
    """Requests so far that have left steps out."""

    @property
    def steps(self) -> frozenset[str]:
        """The steps with which the provider has accepted a request."""
        return frozenset((*self.needed, *self.unsure))

    @property
    def text(self) -> str:
        """The message of the learned rejection; `parse` reads it."""
        lists = (
            (_NEEDED, ", ".join(self.needed)),
            (_UNSURE, ", ".join(self.unsure)),
            (_GROUPS, " or ".join(map(", ".join, self.groups))),
        )
        parts = [f"{head}: {names}" for head, names in lists if names]
        return "; ".join((*parts, f"{_TRIALS}: {self.trials}"))

    @classmethod
    def parse(cls, text: str) -> "Narrowing":
        """The narrowing in the message of a learned rejection, without unknown steps."""
        parts = dict(part.partition(": ")[::2] for part in text.split("; "))
        needed, unsure = (
            _in_order(re.split(", ", parts.get(head, ""))) for head in (_NEEDED, _UNSURE)
        )
        groups = (_in_order(each.split(", ")) for each in parts.get(_GROUPS, "").split(" or "))
        trials = parts.get(_TRIALS, "")
        done = int(trials) if trials.isdecimal() and len(trials) < 3 else MOST_TRIALS
        return cls(needed, unsure, tuple(filter(None, groups)), done)

    @classmethod
    def begin(cls, changed: Collection[str], before: "Narrowing | None" = None) -> "Narrowing":
        """After the plain form was accepted: each step that changed the request may be needed."""
        needed = before.needed if before is not None else ()
        return cls(needed, _in_order(set(changed) - set(needed)))

    def to_leave_out(self, changed: Collection[str]) -> frozenset[str]:
        """The steps that the next request is sent without; none if there is nothing to find out.

        Only steps that would change that request tell something.
        """
        left = MOST_TRIALS - self.trials
        candidates = [name for name in self.unsure if name in changed]
        if left <= 0 or not candidates:
            return frozenset()
        sets = _PossibleSets(self.unsure, len(self.needed))
        possible = sets.which_fit(self.groups)
        if not possible:
            # More steps are needed than were considered.
            names = [name for name in min(self.groups, key=len) if name in candidates]
            return frozenset(_half(names or candidates))
        _, best = sets.choose(possible, candidates, min(left, _LOOK_AHEAD))
        return frozenset(best)

    def after(self, left_out: Collection[str], *, accepted: bool) -> "Narrowing":
        """After a request without these steps was accepted or refused."""
        needed, unsure = set(self.needed), set(self.unsure)
        groups = {frozenset(group) for group in self.groups}
        if accepted:
            unsure -= set(left_out)
            groups = {group - set(left_out) for group in groups}
        else:
            groups.add(frozenset(left_out))
        needed.update(*(group for group in groups if len(group) == 1))
        unsure -= needed
        # A group with a needed step, or with all of a smaller group, says nothing more.
        groups = {group for group in groups if group and not group & needed}
        groups = {group for group in groups if not any(other < group for other in groups)}
        rest = tuple(sorted(map(_in_order, groups)))
        return Narrowing(_in_order(needed), _in_order(unsure), rest, self.trials + 1)


class _PossibleSets:
    """The sets of steps that may be needed, and a choice of steps to try without.

    Some of the sets are a number with one bit for each: so they are weighed quickly.
    """

    def __init__(self, names: Sequence[str], certain: int) -> None:
        self._having, sizes = _all_sets(len(names))
        self._index = {name: index for index, name in enumerate(names)}
        last = len(_WEIGHTS) - 1
        self._sizes = [
            (_WEIGHTS[min(certain + size, last)], sets) for size, sets in enumerate(sizes)
        ]

    def which_fit(self, groups: Collection[Collection[str]]) -> int:
        """The sets that have a step of each group."""
        fitting = sum(sets for _, sets in self._sizes)
        for group in groups:
            fitting &= self._any_of(group)
        return fitting

    def choose(
        self, possible: int, names: Sequence[str], trials: int
    ) -> tuple[float, Sequence[str]]:
        """The steps that the next request lacks, and how many are expected to be unnecessary.

        The least likely ones come first; what has to be chosen is how many.
        """
        total = self._weigh(possible)
        order = sorted(
            names, key=lambda name: (self._weigh(possible & self._any_of((name,))), _rank(name))
        )
        best: tuple[float, Sequence[str]] = (-1.0, ())
        refused = 0
        for count, name in enumerate(order, 1):
            refused |= possible & self._any_of((name,))
            accepted = possible & ~refused
            chance = self._weigh(accepted) / total
            value = chance * count
            if trials > 1:
                if accepted and order[count:]:
                    value += chance * self.choose(accepted, order[count:], trials - 1)[0]
                if refused and (rest := self._doubtful(refused, order)):
                    value += (1 - chance) * self.choose(refused, rest, trials - 1)[0]
            if value > best[0]:
                best = value, order[:count]
        return best

    def _doubtful(self, possible: int, names: Sequence[str]) -> list[str]:
        """The steps that at least one of the sets lacks."""
        return [name for name in names if possible & ~self._any_of((name,))]

    def _any_of(self, names: Collection[str]) -> int:
        sets = 0
        for name in names:
            sets |= self._having[self._index[name]] if name in self._index else 0
        return sets

    def _weigh(self, some: int) -> int:
        return sum(weight * (some & sets).bit_count() for weight, sets in self._sizes)


@lru_cache(maxsize=len(NAMES) + 1)
def _all_sets(count: int) -> tuple[list[int], list[int]]:
    """The small sets of so many steps: those that have each step, and those of each size."""
    having, sizes = [0] * count, [0] * (_MOST_MORE + 1)
    bit = 1
    for size in range(_MOST_MORE + 1):
        for members in combinations(range(count), size):
            sizes[size] |= bit
            for member in members:
                having[member] |= bit
            bit <<= 1
    return having, sizes


def _rank(name: str) -> int:
    return _LIKELY.index(name) if name in _LIKELY else -1


def _half(names: Sequence[str]) -> Sequence[str]:
    return names[: (len(names) + 1) // 2]


def _in_order(names: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in NAMES if name in names)
