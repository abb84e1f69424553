"""A developer's week in each mode of `[failback]`: see `tests.week`."""

from itertools import pairwise

import pytest

from ccfallback.config.model import PRIMARY_NAME
from ccfallback.policy.affinity import RETURN_PAUSE
from tests.week import BEDROCK, DAY, FULL, HOUR, requests, run, table


@pytest.mark.usefixtures("untraced")
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


@pytest.mark.parametrize("mode", ["eager", "cache", "auto"])
def test_a_window_that_fills_at_five_past_two_moves_its_own_login_only(mode: str) -> None:
    figures = run(mode)
    asked = {login: list(requests(login, seed)) for login, seed in (("key", 1), ("plan", 1001))}
    for login, each in figures.items():
        # No turn is lost.
        assert each.answers.total() == len(asked[login])
        full = [one for one in asked[login] if FULL[0] <= one.at % DAY < FULL[1]]
        assert each.while_full.total() == len(full) > 100
    assert figures["plan"].while_full[PRIMARY_NAME] == 0
    assert figures["key"].while_full[PRIMARY_NAME] > 0
    # The plan is usable again afterwards.
    assert figures["plan"].answers[PRIMARY_NAME] > figures["plan"].answers[BEDROCK.name]


def test_the_week_has_bursts_pauses_compactions_and_subagents() -> None:
    for login, seed in (("key", 1), ("plan", 1001)):
        week = list(requests(login, seed))
        gaps = [later.at - earlier.at for earlier, later in pairwise(week)]
        assert sum(gap < 20 for gap in gaps) > 100
        assert sum(300 < gap < HOUR for gap in gaps) > 20
        assert sum(each.is_compacted for each in week) >= 5
        assert len({each.session for each in week if "-agent-" in each.session}) > 20
        assert {int(each.at // DAY) for each in week} == set(range(5))


def test_the_table_has_a_line_for_each_mode_and_login() -> None:
    head, *lines = table()
    assert head.split() == ["mode", "login", "paid", "read", "written", "moves", "failed"]
    assert [line.split()[:2] for line in lines] == [
        [mode, login] for mode in ("eager", "cache", "auto") for login in ("key", "plan")
    ]
