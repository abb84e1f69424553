"""The wait before a retry."""

from hypothesis import given
from hypothesis import strategies as st

from ccfallback.policy.backoff import BACKOFF_MAX, backoff


@given(attempt=st.integers(1, 50), chance=st.floats(0, 1))
def test_backoff_doubles_up_to_its_bound(attempt: int, chance: float) -> None:
    ceiling = min(BACKOFF_MAX, 0.5 * 2 ** (attempt - 1))
    assert ceiling / 2 <= backoff(attempt, lambda: chance) <= ceiling


def test_half_of_the_backoff_is_chance() -> None:
    assert backoff(1, lambda: 0.0) == 0.25
    assert backoff(1, lambda: 1.0) == 0.5
    assert backoff(3, lambda: 0.5) == 1.5
