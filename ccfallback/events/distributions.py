"""Two ways to count durations in bounded memory: for any quantile, and by fixed bounds.

Both can be added to others of their kind, and the order of the values changes nothing.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from math import ceil, exp, floor, log
from typing import Final, Protocol, Self

ERROR: Final = 0.01
"""The largest relative error of a quantile between `SMALLEST` and `LARGEST`."""

SMALLEST: Final = 0.01
LARGEST: Final = 1e9
"""Values beyond these are counted as these: there are at most about 1,270 buckets."""

QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
"""The quantiles that commands show."""

_GROWTH: Final = (1 + ERROR) / (1 - ERROR)
_LOG_GROWTH: Final = log(_GROWTH)


class Distribution(Protocol):
    """Counts milliseconds."""

    total: float

    def add(self, value: float) -> None:
        """Count a value."""

    def merge(self, other: Self) -> None:
        """Add all that another one has counted."""


class QuantileSketch:
    """Values of 0 and more, in buckets that grow by a constant ratio.

    A quantile is within `ERROR` of the true value, wherever that lies.
    """

    __slots__ = ("_buckets", "count", "largest", "smallest", "total")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0
        self.smallest = LARGEST
        self.largest = 0.0

    def add(self, value: float) -> None:
        """Count a value; a negative or infinite one is ignored."""
        if not 0 <= value < float("inf"):
            return
        bounded = min(max(value, SMALLEST), LARGEST)
        self._buckets[floor(log(bounded) / _LOG_GROWTH)] += 1
        self.count += 1
        self.total += value
        self.smallest = min(self.smallest, value)
        self.largest = max(self.largest, value)

    def merge(self, other: "QuantileSketch") -> None:
        """Add all that another one has counted."""
        self._buckets.update(other._buckets)
        self.count += other.count
        self.total += other.total
        self.smallest = min(self.smallest, other.smallest)
        self.largest = max(self.largest, other.largest)

    def quantile(self, share: float) -> float | None:
        """The value that `share` of all values do not exceed; `None` if there are none."""
        if not self.count:
            return None
        rank, seen = max(1, ceil(share * self.count)), 0
        bucket = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                break
        # The point of the bucket with the same ratio to both of its ends.
        middle = exp(bucket * _LOG_GROWTH) * 2 * _GROWTH / (1 + _GROWTH)
        return min(max(middle, self.smallest), self.largest)

    def quantiles(self) -> dict[str, float | None]:
        """All of `QUANTILES`, for `--json`."""
        found = {name: self.quantile(share) for name, share in QUANTILES.items()}
        return {name: None if value is None else round(value, 1) for name, value in found.items()}

    @property
    def mean(self) -> float | None:
        """The average; `None` if there are no values."""
        return self.total / self.count if self.count else None


class Histogram:
    """Milliseconds, counted by upper bounds in seconds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value / 1000)] += 1
        self.total += value

    def merge(self, other: "Histogram") -> None:
        """Add all that another one, of the same bounds, has counted."""
        self.counts = [sum(pair) for pair in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Each bound, as Prometheus writes it, and how many values are not above it."""
        return zip((*map(repr, self.bounds), "+Inf"), accumulate(self.counts), strict=True)
