"""The breaker: every tier and boundary, and what holds for any history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback.policy.breaker import (
    BY_HAND,
    CLOSED,
    MOST_MODELS,
    BreakerState,
    Limits,
    Phase,
    cooldown,
    count_failure,
    count_success,
    open_by_hand,
    phase,
    with_model,
    with_possible_times,
)
from ccfallback.policy.outcome import BLAME, Blame, Fault, Outcome

NOW = 1_000_000.0
LIMITS = Limits()
E500 = Outcome(Fault.UPSTREAM, "500 api_error", 500)
E529 = Outcome(Fault.OVERLOADED, "529 overloaded_error", 529)


def fail(
    state: BreakerState,
    outcome: Outcome = E500,
    *,
    now: float = NOW,
    began: float | None = None,
    limits: Limits = LIMITS,
    model: str = "m",
) -> BreakerState:
    return count_failure(
        state, outcome, model=model, began=now if began is None else began, now=now, limits=limits
    )


def failures(count: int) -> BreakerState:
    state = CLOSED
    for number in range(count):
        # Each after the cooldown of the one before.
        now = NOW + 1000.0 * number
        state = fail(state, now=now)
    return state


def length(state: BreakerState) -> float | None:
    if state.cooldown_until is None or state.last_failure is None:
        return None
    return state.cooldown_until - state.last_failure


@pytest.mark.parametrize(
    ("count", "seconds"),
    [(1, None), (2, None), (3, 30), (4, 30), (5, 60), (9, 60), (10, 300), (11, 300), (500, 300)],
)
def test_cooldown_by_failures_in_a_row(count: int, seconds: float | None) -> None:
    state = failures(count)
    assert state.failures == count
    assert length(state) == seconds


@pytest.mark.parametrize(
    ("count", "ceiling", "seconds"),
    [(3, 20, 20), (4, 30, 30), (5, 45, 45), (9, 30, 30), (10, 200, 200), (10, 3600, 300)],
)
def test_the_ceiling_caps_every_tier(count: int, ceiling: float, seconds: float) -> None:
    assert cooldown(count, Fault.UPSTREAM, Limits(max_cooldown=ceiling)) == seconds


@pytest.mark.parametrize(
    ("fault", "count", "ceiling", "seconds"),
    [
        (Fault.TIMEOUT, 1, 300, 30),
        (Fault.CONNECT_TIMEOUT, 1, 300, 30),
        (Fault.TORN, 1, 300, 10),
        (Fault.TIMEOUT, 1, 5, 5),
        (Fault.TORN, 1, 5, 5),
        (Fault.TORN, 3, 300, 30),
        (Fault.TIMEOUT, 5, 300, 60),
        (Fault.UPSTREAM, 1, 300, 0),
        (Fault.TRANSPORT, 2, 300, 0),
    ],
)
def test_an_expensive_failure_opens_the_breaker_at_once(
    fault: Fault, count: int, ceiling: float, seconds: float
) -> None:
    assert cooldown(count, fault, Limits(max_cooldown=ceiling)) == seconds


def test_a_maximum_of_zero_means_no_cooldown() -> None:
    state = CLOSED
    for _ in range(20):
        state = fail(state, Outcome(Fault.TIMEOUT), limits=Limits(max_cooldown=0))
    assert state.cooldown_until is None


def hinted(seconds: float, fault: Fault = Fault.THROTTLED) -> Outcome:
    return Outcome(fault, status=429, until=NOW + seconds)


def test_a_reset_hint_opens_the_breaker_at_the_first_failure() -> None:
    assert fail(CLOSED, hinted(1234)).cooldown_until == NOW + 1234


def test_a_reset_hint_may_exceed_max_cooldown_but_not_max_reset() -> None:
    limits = Limits(max_cooldown=10, max_reset=600)
    assert fail(CLOSED, hinted(599), limits=limits).cooldown_until == NOW + 599
    assert fail(CLOSED, hinted(601), limits=limits).cooldown_until == NOW + 600


def test_a_reset_hint_never_shortens_the_cooldown_of_a_tier() -> None:
    assert fail(replace(CLOSED, failures=9), hinted(5)).cooldown_until == NOW + 300


def test_a_reset_hint_never_shortens_a_longer_cooldown() -> None:
    cooling = fail(CLOSED, hinted(5000))
    later = count_failure(
        cooling,
        Outcome(Fault.THROTTLED, until=NOW + 60),
        model="m",
        began=NOW + 1,
        now=NOW + 2,
        limits=LIMITS,
    )
    assert later.cooldown_until == NOW + 5000


@pytest.mark.parametrize("seconds", [0.0, -5.0, -1e9])
def test_a_reset_hint_in_the_past_is_ignored(seconds: float) -> None:
    assert fail(CLOSED, hinted(seconds)).cooldown_until is None


def test_reset_hints_are_ignored_where_the_configuration_says_so() -> None:
    state = fail(CLOSED, hinted(1234), limits=Limits(honor_reset=False))
    assert state.cooldown_until is None
    assert state.failures == 1


def test_failures_in_flight_count_but_do_not_extend_the_cooldown() -> None:
    cooling = failures(3)
    began = cooling.cooldown_began
    assert began is not None
    later = fail(cooling, hinted(9999), now=began + 5, began=began - 1)
    assert later.failures == 4
    assert later.cooldown_until == cooling.cooldown_until
    assert later.cooldown_began == began
    assert later.last_failure == began + 5


def test_an_answer_that_breaks_off_after_the_cooldown_opens_the_breaker_again() -> None:
    cooling = failures(3)
    until = cooling.cooldown_until
    assert until is not None
    torn = fail(cooling, Outcome(Fault.TORN), now=until + 5, began=NOW - 60)
    assert torn.cooldown_until == until + 5 + 30
    assert fail(torn, Outcome(Fault.TORN), now=until + 6, began=NOW - 60).cooldown_until == (
        torn.cooldown_until
    )
    # A refusal is as old as its request.
    assert fail(cooling, now=until + 5, began=NOW - 60).cooldown_until == until


@pytest.mark.parametrize(("left", "opens"), [(0.4, True), (2.0, True), (2.1, False), (9.0, False)])
def test_an_answer_that_breaks_off_shortly_before_a_cooldown_ends_begins_another(
    left: float, opens: bool
) -> None:
    # Found by the simulation with seed 7883: the client's next try went to the same provider.
    cooling = failures(3)
    until = cooling.cooldown_until
    assert until is not None
    torn = fail(cooling, Outcome(Fault.TORN), now=until - left, began=NOW - 60)
    assert torn.failures == 4
    assert torn.cooldown_until == (until - left + 30 if opens else until)


def test_many_failures_at_once_open_the_breaker_once() -> None:
    state = CLOSED
    for number in range(26):
        state = fail(state, now=NOW + number / 10, began=NOW - 1)
    assert state.failures == 26
    assert state.cooldown_until == NOW + 0.2 + 30


def test_a_failed_probe_is_one_more_failure() -> None:
    state = failures(4)
    assert state.cooldown_until is not None
    now = state.cooldown_until + 1
    assert phase(state, now) is Phase.HALF_OPEN
    state = fail(state, now=now)
    assert state.failures == 5
    assert state.cooldown_until == now + 60


def test_a_failure_of_the_safety_valve_keeps_the_longer_cooldown() -> None:
    cooling = fail(CLOSED, hinted(5000))
    assert fail(cooling, now=NOW + 10).cooldown_until == NOW + 5000


def test_a_success_closes_the_breaker_and_resets_the_count() -> None:
    state = failures(7)
    now = NOW + 1e5
    closed = count_success(state, model="m", began=now - 1, now=now)
    assert closed.failures == 0
    assert closed.cooldown_until is None
    assert closed.last_success == now
    assert phase(closed, now) is Phase.CLOSED


def test_a_success_keeps_the_time_and_reason_of_the_last_failure() -> None:
    state = failures(1)
    closed = count_success(state, model="m", began=NOW + 1, now=NOW + 2)
    assert closed.last_failure == NOW
    assert closed.reason == "500 api_error"


def test_a_success_in_flight_does_not_end_the_cooldown() -> None:
    cooling = failures(3)
    began = cooling.cooldown_began
    assert began is not None
    after = count_success(cooling, model="m", began=began - 1, now=began + 1)
    assert after.cooldown_until == cooling.cooldown_until
    assert after.failures == cooling.failures
    assert after.last_success == began + 1


def test_the_phases_of_a_cooldown() -> None:
    state = replace(CLOSED, cooldown_until=NOW)
    assert phase(CLOSED, NOW) is Phase.CLOSED
    assert phase(state, NOW - 0.001) is Phase.OPEN
    assert phase(state, NOW) is Phase.HALF_OPEN
    assert phase(state, NOW + 1e6) is Phase.HALF_OPEN


def test_without_another_provider_there_is_no_cooldown() -> None:
    alone = Limits(cooldowns=False)
    state = CLOSED
    for _ in range(20):
        state = fail(state, hinted(600), limits=alone)
        state = fail(state, Outcome(Fault.TIMEOUT), limits=alone)
    assert state.failures == 40
    assert state.cooldown_until is None


@pytest.mark.parametrize("fault", [fault for fault in Fault if BLAME[fault] is Blame.NONE])
def test_an_outcome_without_blame_changes_nothing(fault: Fault) -> None:
    state = failures(2)
    assert fail(state, Outcome(fault)) is state


@pytest.mark.parametrize("fault", [fault for fault in Fault if BLAME[fault] is Blame.MODEL])
def test_a_failure_of_one_model_does_not_affect_others(fault: Fault) -> None:
    state = CLOSED
    for number in range(3):
        state = fail(state, Outcome(fault), now=NOW + number, model="opus")
    assert state.failures == 0
    assert state.cooldown_until is None
    assert phase(state.models["opus"], NOW + 3) is Phase.OPEN
    assert "haiku" not in state.models


def test_every_fault_has_a_row_in_the_blame_table() -> None:
    assert set(BLAME) == set(Fault)


def test_a_models_success_closes_that_model_and_the_provider() -> None:
    state = failures(3)
    for number in range(3):
        state = fail(state, E529, now=NOW + number, model="opus")
        state = fail(state, E529, now=NOW + number, model="haiku")
    state = count_success(state, model="opus", began=NOW + 1e5, now=NOW + 1e5)
    assert state.failures == 0
    assert state.models["opus"].failures == 0
    assert state.models["opus"].cooldown_until is None
    assert state.models["haiku"].failures == 3


def test_a_success_of_an_unknown_model_adds_no_model() -> None:
    assert not count_success(CLOSED, model="opus", began=NOW, now=NOW).models


def test_of_too_many_models_the_oldest_is_dropped() -> None:
    state = CLOSED
    for number in range(MOST_MODELS + 10):
        state = fail(state, E529, now=NOW + number, model=f"model-{number}")
    assert len(state.models) == MOST_MODELS
    assert "model-9" not in state.models
    assert f"model-{MOST_MODELS + 9}" in state.models


def test_a_known_model_drops_no_other() -> None:
    state = CLOSED
    for number in range(MOST_MODELS):
        state = with_model(state, f"model-{number}", CLOSED)
    assert len(with_model(state, "model-3", CLOSED).models) == MOST_MODELS


def test_a_time_beyond_every_cooldown_is_ignored() -> None:
    skewed = BreakerState(
        failures=3,
        last_failure=NOW + 1e6,
        last_success=NOW + 1e6,
        cooldown_until=NOW + LIMITS.horizon + 1,
        cooldown_began=NOW + 1e6,
        models={"m": BreakerState(cooldown_until=NOW + 1e6)},
    )
    corrected = with_possible_times(skewed, NOW, LIMITS)
    assert phase(corrected, NOW) is Phase.CLOSED
    assert corrected.failures == 3
    times = (
        corrected.last_failure,
        corrected.last_success,
        corrected.cooldown_until,
        corrected.cooldown_began,
    )
    assert times == (None, None, None, None)
    assert corrected.models["m"].cooldown_until is None


def test_a_time_within_the_longest_cooldown_is_kept() -> None:
    state = BreakerState(cooldown_until=NOW + LIMITS.horizon, cooldown_began=NOW)
    assert with_possible_times(state, NOW, LIMITS) == state
    assert phase(state, NOW) is Phase.OPEN


def test_a_clock_that_is_set_back_lengthens_no_cooldown() -> None:
    cooling = failures(3)
    assert cooling.cooldown_began is not None
    earlier = cooling.cooldown_began - 7200
    corrected = with_possible_times(cooling, earlier, LIMITS)
    assert corrected.cooldown_until == earlier + 30
    closed = count_success(corrected, model="m", began=earlier + 31, now=earlier + 32)
    assert (closed.failures, phase(closed, earlier + 32)) == (0, Phase.CLOSED)


def test_a_failure_after_a_wrong_clock_opens_the_breaker() -> None:
    ahead = NOW + 1e9
    skewed = BreakerState(2, last_failure=ahead, cooldown_until=ahead + 30, cooldown_began=ahead)
    assert fail(with_possible_times(skewed, NOW, LIMITS), now=NOW + 1).cooldown_until == NOW + 31


def test_a_cooldown_longer_than_the_configuration_allows_is_shortened() -> None:
    state = BreakerState(cooldown_began=NOW - 500, cooldown_until=NOW + 1000)
    limits = Limits(max_cooldown=600, max_reset=60)
    assert with_possible_times(state, NOW, limits).cooldown_until is None
    limits = Limits(max_cooldown=1200, max_reset=60)
    assert with_possible_times(state, NOW, limits).cooldown_until == NOW + 700


@given(
    times=st.lists(st.none() | st.floats(NOW - 1e6, NOW + 1e6), min_size=5, max_size=5),
    limits=st.builds(Limits, max_cooldown=st.floats(1, 1e4), max_reset=st.floats(1, 1e5)),
)
def test_only_the_end_of_a_cooldown_may_lie_in_the_future(
    times: list[float | None], limits: Limits
) -> None:
    failure, success, until, began, probed = times
    state = BreakerState(1, failure, success, until, began, probed=probed)
    found = with_possible_times(state, NOW, limits)
    past = (found.last_failure, found.last_success, found.cooldown_began, found.probed)
    assert all(when is None or when <= NOW for when in past)
    if found.cooldown_until is not None:
        assert found.cooldown_until <= NOW + limits.horizon
        assert until is not None
        assert found.cooldown_until <= until
    assert with_possible_times(found, NOW, limits) == found


def test_a_breaker_can_be_opened_by_hand() -> None:
    state = open_by_hand(failures(1), until=NOW + 600, now=NOW)
    assert phase(state, NOW + 599) is Phase.OPEN
    assert phase(state, NOW + 600) is Phase.HALF_OPEN
    assert state.failures == 1
    assert state.reason == BY_HAND
    assert count_success(state, model="m", began=NOW + 601, now=NOW + 602).cooldown_until is None


def test_a_success_older_than_the_last_failure_does_not_close_the_breaker() -> None:
    state = failures(2)
    late = count_success(state, model="m", began=NOW + 900, now=NOW + 950)
    assert (late.failures, late.last_failure) == (2, NOW + 1000)
    assert late.last_success == NOW + 950


def test_what_began_together_with_the_cooldown_was_in_flight() -> None:
    state = fail(failures(2), Outcome(Fault.UPSTREAM, until=NOW + 5000), now=NOW + 4000)
    again = fail(state, Outcome(Fault.UPSTREAM, until=NOW + 9000), now=NOW + 4005, began=NOW + 4000)
    assert again.cooldown_until == state.cooldown_until
    answered = count_success(state, model="m", began=NOW + 4000, now=NOW + 4005)
    assert answered.cooldown_until == state.cooldown_until


def test_an_old_answer_leaves_the_time_of_the_last_success() -> None:
    state = BreakerState(failures=1, last_failure=NOW, last_success=NOW - 1)
    assert count_success(state, model="m", began=NOW - 9, now=NOW - 5).last_success == NOW - 1


@pytest.mark.parametrize(
    ("ahead", "seconds"), [(100.0, 0.0), (LIMITS.horizon, 0.0), (LIMITS.horizon + 1, None)]
)
def test_a_past_event_in_the_future_was_now_at_the_latest(
    ahead: float, seconds: float | None
) -> None:
    state = BreakerState(last_failure=NOW + ahead, last_success=NOW + ahead, probed=NOW + ahead)
    found = with_possible_times(state, NOW, LIMITS)
    when = None if seconds is None else NOW + seconds
    assert (found.last_failure, found.last_success, found.probed) == (when, when, when)


def test_a_cooldown_that_ends_before_it_begins_is_over() -> None:
    state = BreakerState(cooldown_began=NOW + 100, cooldown_until=NOW + 50)
    found = with_possible_times(state, NOW, LIMITS)
    assert found.cooldown_until == NOW
