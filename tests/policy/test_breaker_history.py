"""What holds of the breaker whatever happens to it."""

from hypothesis import given
from hypothesis import strategies as st

from ccfallback.policy.breaker import (
    CLOSED,
    BreakerState,
    Limits,
    Phase,
    cooldown,
    count_failure,
    count_success,
    phase,
)
from ccfallback.policy.outcome import Fault, Outcome

NOW = 1_000_000.0

LIMIT_SETS = st.builds(
    Limits,
    max_cooldown=st.floats(0, 1e5),
    max_reset=st.floats(0, 1e6),
    honor_reset=st.booleans(),
    cooldowns=st.booleans(),
)
OUTCOMES = st.builds(
    Outcome,
    fault=st.sampled_from(Fault),
    until=st.none() | st.floats(NOW - 1e6, NOW + 1e7) | st.sampled_from([1e18, -1e18]),
)
EVENTS = st.lists(
    st.tuples(OUTCOMES | st.none(), st.floats(0, 1e4), st.floats(0, 1e4), st.sampled_from("mn")),
    max_size=25,
)
SLACK = 0.01
"""Seconds that floats may be off at these sizes."""


def states_of(state: BreakerState) -> list[BreakerState]:
    return [state, *state.models.values()]


@given(limits=LIMIT_SETS, events=EVENTS)
def test_any_history_keeps_the_rules(
    limits: Limits, events: list[tuple[Outcome | None, float, float, str]]
) -> None:
    state, now = CLOSED, NOW
    for outcome, passed, ago, model in events:
        now += passed
        before = state
        if outcome is None:
            state = count_success(state, model=model, began=now - ago, now=now)
            began = before.cooldown_began
            if began is None or now - ago > began:
                assert phase(state, now) is Phase.CLOSED
                assert state.failures == 0
        else:
            state = count_failure(
                state, outcome, model=model, began=now - ago, now=now, limits=limits
            )
            if phase(before, now) is Phase.OPEN:
                assert before.cooldown_until is not None
                assert state.cooldown_until is not None
                assert state.cooldown_until >= before.cooldown_until
            assert state.failures >= before.failures
        ceiling = max(limits.max_cooldown, limits.max_reset)
        for each in states_of(state):
            assert each.failures >= 0
            assert each.cooldown_until is None or each.cooldown_until <= now + ceiling + SLACK
            assert limits.cooldowns or each.cooldown_until is None


@given(
    count=st.integers(0, 50),
    more=st.integers(0, 50),
    fault=st.sampled_from(Fault),
    limits=LIMIT_SETS,
)
def test_more_failures_never_mean_a_shorter_cooldown(
    count: int, more: int, fault: Fault, limits: Limits
) -> None:
    assert cooldown(count, fault, limits) <= cooldown(count + more, fault, limits)
    assert 0 <= cooldown(count, fault, limits) <= limits.max_cooldown
