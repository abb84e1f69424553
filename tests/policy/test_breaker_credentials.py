"""Breakers of single credentials, early probes, and states about something else than today."""

import pytest
from msgspec.structs import replace

from ccfallback.config.model import Config, KeySource, Provider
from ccfallback.policy.breaker import (
    CLOSED,
    EARLY,
    MOST_CREDENTIALS,
    BreakerState,
    Limits,
    Phase,
    as_available,
    as_last_seen,
    as_seen,
    count_failure,
    count_success,
    may_probe_early,
    note_probe,
    open_by_hand,
    phase,
    valid_states,
    with_fingerprints,
)
from ccfallback.policy.learned import LearnedRejection
from ccfallback.policy.outcome import BLAME, OF_ACCOUNT, Blame, Fault, Outcome
from ccfallback.redact import Secret

NOW = 1_000_000.0
LIMITS = Limits()
LESSONS = (LearnedRejection("media", "m", "no images", NOW + 60),)


def fail(
    state: BreakerState,
    fault: Fault = Fault.THROTTLED,
    credential: str = "home",
    *,
    now: float = NOW,
    until: float | None = None,
    began: float | None = None,
    model: str = "m",
) -> BreakerState:
    return count_failure(
        state,
        Outcome(fault, str(fault), until=until),
        model=model,
        credential=credential,
        began=now if began is None else began,
        now=now,
        limits=LIMITS,
    )


def succeed(
    state: BreakerState,
    credential: str,
    now: float,
    *,
    model: str = "m",
    began: float | None = None,
) -> BreakerState:
    began = now if began is None else began
    return count_success(state, model=model, credential=credential, began=began, now=now)


def phases(state: BreakerState, credential: str, now: float = NOW) -> set[Phase]:
    seen = as_seen(state, credential)
    return {phase(each, now) for each in (seen, seen.models.get("m", CLOSED))}


@pytest.mark.parametrize("fault", sorted(OF_ACCOUNT))
def test_a_fault_of_one_account_affects_no_other_credential(fault: Fault) -> None:
    state = fail(CLOSED, fault, until=NOW + 18000)
    assert Phase.OPEN in phases(state, "home")
    assert phases(state, "work") == {Phase.CLOSED}


@pytest.mark.parametrize(
    "fault", sorted(f for f in Fault if f not in OF_ACCOUNT and BLAME[f] is not Blame.NONE)
)
def test_a_fault_of_the_provider_affects_every_credential(fault: Fault) -> None:
    state = CLOSED
    for _ in range(3):
        state = fail(state, fault)
    assert not state.credentials
    assert Phase.OPEN in phases(state, "home")
    assert Phase.OPEN in phases(state, "work")


@pytest.mark.parametrize("fault", sorted(OF_ACCOUNT))
def test_without_a_credential_every_fault_concerns_the_provider(fault: Fault) -> None:
    state = fail(CLOSED, fault, "", until=NOW + 18000)
    assert not state.credentials
    assert Phase.OPEN in phases(state, "work")


MIXED = (Fault.UPSTREAM, Fault.ACCOUNT, Fault.UPSTREAM)


@pytest.mark.parametrize("first", range(3))
def test_one_credential_sees_one_count_of_failures(first: int) -> None:
    state = CLOSED
    for fault in MIXED[first:] + MIXED[:first]:
        state = fail(state, fault)
    seen = as_seen(state, "home")
    assert seen.failures == 3
    assert seen.cooldown_until == NOW + 30
    assert seen == as_last_seen(state)
    assert phases(state, "work") == {Phase.CLOSED}


def test_an_answer_closes_the_breaker_of_its_own_credential_only() -> None:
    state = fail(fail(CLOSED, until=NOW + 18000), credential="work", until=NOW + 18000)
    state = succeed(state, "work", NOW + 10)
    assert Phase.OPEN in phases(state, "home", NOW + 10)
    assert phases(state, "work", NOW + 10) == {Phase.CLOSED}
    assert list(state.credentials) == ["home"]


def test_the_last_failure_of_a_credential_outlives_its_recovery() -> None:
    state = succeed(fail(CLOSED, Fault.MODEL_THROTTLED), "home", NOW + 10)
    assert not state.credentials
    assert state.models["m"].last_failure == NOW
    assert state.models["m"].failures == 0


def test_a_success_in_flight_does_not_close_the_breaker_of_a_credential() -> None:
    state = fail(CLOSED, until=NOW + 18000)
    late = succeed(state, "home", NOW + 1, began=NOW - 5)
    assert Phase.OPEN in phases(late, "home", NOW + 1)
    assert phases(late, "work", NOW + 1) == {Phase.CLOSED}


def test_an_old_answer_leaves_a_failure_with_its_credential() -> None:
    state = fail(CLOSED, Fault.ACCOUNT)
    state = succeed(state, "home", NOW - 1)
    assert as_seen(state, "home").failures == 1
    assert as_seen(state, "work").failures == 0


def test_a_failure_in_flight_does_not_lengthen_the_cooldown_of_a_credential() -> None:
    state = fail(CLOSED, until=NOW + 100)
    state = fail(state, now=NOW + 1, began=NOW - 1, until=NOW + 18000)
    assert as_seen(state, "home").cooldown_until == NOW + 100
    assert as_seen(state, "home").failures == 2


def test_an_answer_of_one_model_leaves_the_cooldown_of_another_with_the_credential() -> None:
    state = fail(CLOSED, Fault.MODEL_THROTTLED, model="other", until=NOW + 18000)
    state = succeed(fail(state, Fault.ACCOUNT), "home", NOW + 5)
    assert as_seen(state, "home").failures == 0
    assert phase(as_seen(state, "home").models["other"], NOW + 5) is Phase.OPEN
    assert "other" not in as_seen(state, "work").models


def test_a_recovered_credential_leaves_what_was_learned() -> None:
    state = replace(fail(CLOSED), learned=LESSONS)
    assert as_seen(state, "home").learned == LESSONS
    assert succeed(state, "home", NOW + 1).learned == LESSONS


@pytest.mark.parametrize("faults", [MIXED[:2], MIXED[1:]])
def test_a_credential_sees_the_reason_of_the_last_failure(faults: tuple[Fault, ...]) -> None:
    state = CLOSED
    for number, fault in enumerate(faults):
        state = fail(state, fault, now=NOW + number)
    seen = as_seen(state, "home")
    assert seen.reason == str(faults[-1])
    assert seen.last_failure == NOW + len(faults) - 1


def test_a_credential_sees_the_last_success_of_any() -> None:
    state = succeed(fail(CLOSED, until=NOW + 18000), "home", NOW + 5, began=NOW - 1)
    assert as_seen(state, "home").last_success == NOW + 5
    state = succeed(state, "work", NOW + 9)
    assert as_seen(state, "home").last_success == NOW + 9


def test_the_shown_state_is_that_of_the_credential_used_last() -> None:
    state = fail(CLOSED, until=NOW + 18000)
    assert as_last_seen(state).cooldown_until == NOW + 18000
    assert as_last_seen(succeed(state, "work", NOW + 9)).cooldown_until is None
    assert as_last_seen(fail(state, credential="work", now=NOW + 9)).cooldown_until is None


def test_the_shown_state_without_credentials_is_that_of_the_provider() -> None:
    state = fail(CLOSED, Fault.UPSTREAM)
    assert as_last_seen(state) == state


def test_a_failure_of_a_model_counts_as_use_of_a_credential() -> None:
    state = fail(fail(CLOSED, until=NOW + 3600), Fault.MODEL_THROTTLED, "work", now=NOW + 5)
    assert as_last_seen(state).models["m"].failures == 1
    assert as_last_seen(state).cooldown_until is None


def test_an_answer_of_the_same_credential_leaves_its_cooldown_in_view() -> None:
    state = fail(CLOSED, Fault.MODEL_THROTTLED, until=NOW + 18000)
    state = succeed(state, "home", NOW + 9, model="other")
    assert as_last_seen(state).models["m"].cooldown_until == NOW + 18000


def test_of_too_many_credentials_the_longest_unused_is_dropped() -> None:
    state = CLOSED
    for number in range(MOST_CREDENTIALS + 5):
        state = fail(state, credential=f"key-{number}", now=NOW + number)
    assert len(state.credentials) == MOST_CREDENTIALS
    assert "key-4" not in state.credentials
    assert f"key-{MOST_CREDENTIALS + 4}" in state.credentials


# -- Early probes


def test_a_long_cooldown_is_probed_every_quarter_of_an_hour() -> None:
    state = fail(CLOSED, until=NOW + 18000).credentials["home"]
    assert not may_probe_early(state, NOW + EARLY - 1)
    assert may_probe_early(state, NOW + EARLY)
    whole = note_probe(fail(CLOSED, until=NOW + 18000), model="m", credential="home", now=NOW + 1e3)
    probed = whole.credentials["home"]
    assert probed.probed == NOW + 1e3
    assert not may_probe_early(probed, NOW + 1e3 + EARLY - 1)
    assert may_probe_early(probed, NOW + 1e3 + EARLY)
    assert not may_probe_early(probed, NOW + 18000)


def test_an_early_probe_of_a_model_puts_off_the_next_one_of_that_model() -> None:
    state = CLOSED
    for model in ("m", "other"):
        state = fail(state, Fault.MODEL_THROTTLED, model=model, until=NOW + 18000)
    probed = note_probe(state, model="m", credential="home", now=NOW + EARLY).credentials["home"]
    assert not may_probe_early(probed.models["m"], NOW + 2 * EARLY - 1)
    assert may_probe_early(probed.models["m"], NOW + 2 * EARLY)
    assert may_probe_early(probed.models["other"], NOW + EARLY)


def test_a_cooldown_without_a_beginning_is_probed_after_its_last_failure() -> None:
    state = BreakerState(last_failure=NOW, cooldown_until=NOW + 18000)
    assert not may_probe_early(state, NOW + EARLY - 1)
    assert may_probe_early(state, NOW + EARLY)
    later = replace(state, cooldown_began=NOW - 800, last_failure=NOW)
    assert not may_probe_early(later, NOW + EARLY - 1)


def test_a_failed_early_probe_puts_off_the_next_one() -> None:
    state = fail(CLOSED, until=NOW + 18000)
    state = fail(state, now=NOW + EARLY, until=NOW + 18000)
    assert state.credentials["home"].cooldown_until == NOW + 18000
    assert not may_probe_early(state.credentials["home"], NOW + 2 * EARLY - 1)
    assert may_probe_early(state.credentials["home"], NOW + 2 * EARLY)


@pytest.mark.parametrize(
    "state",
    [
        CLOSED,
        BreakerState(cooldown_began=NOW, cooldown_until=NOW + EARLY),
        BreakerState(cooldown_until=NOW + 9 * EARLY),
        open_by_hand(CLOSED, now=NOW, until=NOW + 9 * EARLY),
    ],
)
def test_other_cooldowns_are_not_probed_early(state: BreakerState) -> None:
    assert not may_probe_early(state, NOW + EARLY)
    assert note_probe(state, model="m", credential="home", now=NOW + EARLY) == state


# -- What a state is about


def config(**more: object) -> Config:
    fields = {"name": "a", "base_url": "https://a.test", **more}
    return Config(providers=(Provider(**fields),))  # type: ignore[arg-type]  # the rows are few


OPEN = fail(fail(CLOSED, Fault.OVERLOADED), Fault.THROTTLED, until=NOW + 18000)
LEARNED = replace(OPEN, learned=LESSONS)


def marked(before: Config) -> dict[str, BreakerState]:
    return {"a": with_fingerprints(LEARNED, before.providers[0])}


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": "https://b.test"},
        {"format": "openai"},
        {"key": KeySource(literal=Secret("another"))},
        {"key": KeySource(env="ANOTHER")},
    ],
)
def test_a_provider_that_was_changed_is_closed(change: dict[str, object]) -> None:
    found = valid_states(marked(config()), config(**change), NOW)["a"]
    assert replace(found, learned=()) == CLOSED
    found = with_fingerprints(fail(found, Fault.UPSTREAM), config(**change).providers[0])
    assert valid_states({"a": found}, config(**change), NOW)["a"].failures == 1


def test_another_mapping_closes_the_breakers_of_that_model_only() -> None:
    mapped = config(model_mapping={"m": "other"})
    found = valid_states(marked(config()), mapped, NOW)["a"]
    assert not found.models
    assert found.credentials == OPEN.credentials


def test_another_mapping_closes_the_breaker_of_that_model_for_each_credential() -> None:
    state = with_fingerprints(fail(CLOSED, Fault.MODEL_THROTTLED), config().providers[0])
    found = valid_states({"a": state}, config(model_mapping={"m": "other"}), NOW)["a"]
    assert not found.credentials["home"].models


def test_each_model_gets_a_fingerprint() -> None:
    provider = config().providers[0]
    state = with_fingerprints(fail(CLOSED, Fault.OVERLOADED), provider)
    state = with_fingerprints(fail(state, Fault.OVERLOADED, model="other"), provider)
    assert all(of_model.about is not None for of_model in state.models.values())
    assert with_fingerprints(OPEN, None) == OPEN


@pytest.mark.parametrize("change", [{}, {"retry": 3}, {"model_mapping": {"x": "y"}}])
def test_other_settings_do_not_change_the_breaker(change: dict[str, object]) -> None:
    states = marked(config())
    assert valid_states(states, config(**change), NOW) == states


def test_a_state_without_a_fingerprint_counts() -> None:
    assert valid_states({"a": OPEN, "gone": OPEN}, config(), NOW) == {"a": OPEN, "gone": OPEN}


ALONE = Limits(cooldowns=False)


@pytest.mark.parametrize("fault", list(Fault))
def test_at_the_only_provider_a_key_cools_down_for_the_others(fault: Fault) -> None:
    state = CLOSED
    for number in range(10):
        state = count_failure(
            state,
            Outcome(fault, until=NOW + 3600),
            model="m",
            credential="home",
            began=NOW + number,
            now=NOW + number,
            limits=ALONE,
            has_others=True,
        )
    is_open = Phase.OPEN in phases(state, "home", NOW + 10)
    assert is_open == (fault in OF_ACCOUNT)
    assert phases(state, "work", NOW + 10) == {Phase.CLOSED}


def test_a_provider_looks_as_its_first_available_key_does() -> None:
    state = fail(fail(CLOSED, until=NOW + 3600), credential="work", until=NOW + 60, now=NOW + 1)
    assert as_available(state, ("home", "work", "other"), NOW + 2).cooldown_until is None
    both = as_available(state, ("home", "work"), NOW + 2)
    assert both.cooldown_until == NOW + 60
    assert phase(as_available(state, ("home", "work"), NOW + 61), NOW + 61) is Phase.HALF_OPEN
    assert as_available(state, (), NOW + 2) == as_last_seen(state)
