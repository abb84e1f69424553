from math import ceil, inf, nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.events.quantiles import ERROR, LARGEST, SMALLEST, QuantileSketch

SHARES = (0.0, 0.01, 0.5, 0.95, 0.99, 1.0)


def sketch_of(values: list[float]) -> QuantileSketch:
    sketch = QuantileSketch()
    for value in values:
        sketch.add(value)
    return sketch


def true_quantile(values: list[float], share: float) -> float:
    return sorted(values)[max(1, ceil(share * len(values))) - 1]


@given(st.lists(st.floats(SMALLEST, LARGEST), min_size=1))
def test_a_quantile_is_never_further_off_than_promised(values: list[float]) -> None:
    sketch = sketch_of(values)
    for share in SHARES:
        assert sketch.quantile(share) == pytest.approx(
            true_quantile(values, share), rel=ERROR * 1.001
        )


@given(st.lists(st.floats(SMALLEST, LARGEST), min_size=1), st.integers())
def test_neither_order_nor_parts_matter(values: list[float], seed: int) -> None:
    shuffled = list(values)
    Random(seed).shuffle(shuffled)
    whole, parts = sketch_of(values), sketch_of(shuffled[: len(values) // 2])
    parts.merge(sketch_of(shuffled[len(values) // 2 :]))
    assert [whole.quantile(s) for s in SHARES] == [parts.quantile(s) for s in SHARES]
    assert (whole.count, whole.largest) == (parts.count, parts.largest)


def test_memory_is_bounded_whatever_comes() -> None:
    chance = Random(1)
    sketch = sketch_of([10 ** chance.uniform(-20, 20) for _ in range(20_000)])
    assert len(sketch._buckets) < 1300


def test_one_value_is_given_back_as_it_is() -> None:
    assert sketch_of([41.7]).quantile(0.99) == 41.7
    assert sketch_of([0.0]).quantile(0.5) == 0.0


def test_what_is_no_amount_does_not_count() -> None:
    sketch = sketch_of([nan, inf, -1.0])
    assert (sketch.count, sketch.quantile(0.5), sketch.mean) == (0, None, None)


def test_the_average_is_exact() -> None:
    assert sketch_of([1.0, 2.0, 6.0]).mean == 3.0
