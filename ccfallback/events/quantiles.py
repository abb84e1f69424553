"""Quantiles of any number of values in bounded memory.

Values are counted in buckets that grow by a constant ratio, so a quantile is within `ERROR` of the
true value wherever it lies. Nothing is random and no order matters: the same values give the same
answer, and two sketches can be added.
"""

from collections import Counter
from math import ceil, exp, floor, log
from typing import Final

ERROR: Final = 0.01
"""The largest relative error of a quantile between `SMALLEST` and `LARGEST`."""

SMALLEST: Final = 0.01
LARGEST: Final = 1e9
"""What lies beyond counts as this much: about 1,270 buckets are all there can be."""

_GROWTH: Final = (1 + ERROR) / (1 - ERROR)
_LOG_GROWTH: Final = log(_GROWTH)


class QuantileSketch:
    """Counts of values that are 0 or more."""

    __slots__ = ("_buckets", "count", "largest", "smallest", "total")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0
        self.smallest = LARGEST
        self.largest = 0.0

    def add(self, value: float) -> None:
        """Count a value; one that is no number is passed over."""
        if not 0 <= value < float("inf"):
            return
        bounded = min(max(value, SMALLEST), LARGEST)
        self._buckets[floor(log(bounded) / _LOG_GROWTH)] += 1
        self.count += 1
        self.total += value
        self.smallest = min(self.smallest, value)
        self.largest = max(self.largest, value)

    def merge(self, other: "QuantileSketch") -> None:
        """Count all that another one has counted."""
        self._buckets.update(other._buckets)
        self.count += other.count
        self.total += other.total
        self.smallest = min(self.smallest, other.smallest)
        self.largest = max(self.largest, other.largest)

    def quantile(self, share: float) -> float | None:
        """The value that `share` of all do not exceed; `None` while there is none."""
        if not self.count:
            return None
        rank, seen = max(1, ceil(share * self.count)), 0
        bucket = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                break
        # The point of a bucket that is equally far, in proportion, from both of its ends.
        middle = exp(bucket * _LOG_GROWTH) * 2 * _GROWTH / (1 + _GROWTH)
        return min(max(middle, self.smallest), self.largest)

    @property
    def mean(self) -> float | None:
        """The average; `None` while there is none."""
        return self.total / self.count if self.count else None
