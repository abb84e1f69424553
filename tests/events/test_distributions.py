"""Distributions: quantiles within the promised error, and histograms by bounds."""

from math import ceil, inf, nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.events.distributions import ERROR, LARGEST, SMALLEST, Histogram, QuantileSketch

SHARES = (0.0, 0.01, 0.5, 0.95, 0.99, 1.0)


def sketch_of(values: list[float]) -> QuantileSketch:
    sketch = QuantileSketch()
    for value in values:
        sketch.add(value)
    return sketch


def true_quantile(values: list[float], share: float) -> float:
    return sorted(values)[max(1, ceil(share * len(values))) - 1]


@given(st.lists(st.floats(SMALLEST, LARGEST), min_size=1))
def test_the_error_of_a_quantile_is_bounded(values: list[float]) -> None:
    sketch = sketch_of(values)
    for share in SHARES:
        assert sketch.quantile(share) == pytest.approx(
            true_quantile(values, share), rel=ERROR * 1.001
        )


@given(st.lists(st.floats(SMALLEST, LARGEST), min_size=1), st.integers())
def test_order_and_merging_change_nothing(values: list[float], seed: int) -> None:
    shuffled = list(values)
    Random(seed).shuffle(shuffled)
    whole, parts = sketch_of(values), sketch_of(shuffled[: len(values) // 2])
    parts.merge(sketch_of(shuffled[len(values) // 2 :]))
    assert [whole.quantile(s) for s in SHARES] == [parts.quantile(s) for s in SHARES]
    assert (whole.count, whole.largest) == (parts.count, parts.largest)


def test_memory_is_bounded_for_any_values() -> None:
    chance = Random(1)
    sketch = sketch_of([10 ** chance.uniform(-20, 20) for _ in range(20_000)])
    assert len(sketch._buckets) < 1300


def test_the_quantile_of_one_value_is_that_value() -> None:
    assert sketch_of([41.7]).quantile(0.99) == 41.7
    assert sketch_of([0.0]).quantile(0.5) == 0.0


def test_negative_and_infinite_values_are_ignored() -> None:
    sketch = sketch_of([nan, inf, -1.0])
    assert (sketch.count, sketch.quantile(0.5), sketch.mean) == (0, None, None)


def test_the_average_is_exact() -> None:
    assert sketch_of([1.0, 2.0, 6.0]).mean == 3.0


def histogram_of(values: list[float]) -> Histogram:
    histogram = Histogram((1.0, 10.0))
    for value in values:
        histogram.add(value)
    return histogram


@given(st.lists(st.integers(0, 20_000)))
def test_a_histogram_counts_the_values_that_are_not_above_a_bound(values: list[int]) -> None:
    assert list(histogram_of([*values]).cumulative()) == [
        ("1.0", sum(value <= 1000 for value in values)),
        ("10.0", sum(value <= 10_000 for value in values)),
        ("+Inf", len(values)),
    ]


def test_histograms_can_be_added() -> None:
    one = histogram_of([500.0, 20_000.0])
    one.merge(histogram_of([5000.0]))
    assert (one.counts, one.total) == ([1, 1, 1], 25_500.0)
