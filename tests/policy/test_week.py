"""A developer's week in each mode of `[failback]`: see `tests.week`."""

from itertools import pairwise

import pytest

from ccfallback.policy.affinity import RETURN_PAUSE
from tests.week import run


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_the_modes_cost_and_how_they_move(seed: int) -> None:
    eager, cache, auto = (run(mode, seed) for mode in ("eager", "cache", "auto"))
    key, plan = eager["key"], eager["plan"]
    # With an API key, staying is cheaper, and moves and fails less.
    assert cache["key"].dollars < key.dollars
    assert cache["key"].writes < key.writes
    assert cache["key"].reads > key.reads
    assert cache["key"].moves < key.moves
    assert cache["key"].failed < key.failed
    # With the login of a plan, going back at once is: there the primary costs nothing.
    assert plan.dollars < cache["plan"].dollars
    # The default is the cheaper of the two for each.
    assert auto["key"] == cache["key"]
    assert auto["plan"] == plan
    for figures in cache.values():
        for returns in figures.warm_returns.values():
            assert all(later - earlier >= RETURN_PAUSE for earlier, later in pairwise(returns))
