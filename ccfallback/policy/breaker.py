"""The circuit breaker: what failures do to a provider, and when it may be tried again.

    closed ──failures, a timeout, a torn answer, a reset hint──▶ open (cooldown)
      ▲                                                            │ time
      └──────────success────────── half-open ◀─────────────────────┘
                                       │ failure: counted, and perhaps open again

States are immutable; every function returns the next one. All times are Unix seconds, passed in.
A provider has one breaker for itself and one for each model, so its state nests one level deep.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Final

from ccfallback.config.model import Config
from ccfallback.policy.learned import LearnedRejection
from ccfallback.policy.outcome import BLAME, Blame, Fault, Outcome

TIERS: Final = ((10, 300.0), (5, 60.0), (3, 30.0))
"""(at least so many failures in a row, seconds of cooldown), longest cooldown first."""

AT_ONCE: Final[Mapping[Fault, float]] = {
    Fault.CONNECT_TIMEOUT: 30.0,
    Fault.TIMEOUT: 30.0,
    Fault.TORN: 10.0,
}
"""Failures too expensive to wait for the third: seconds of cooldown from the first one on."""

MOST_MODELS: Final = 64
"""Models kept for each provider; the client chooses their names, so there is a limit."""


class Phase(Enum):
    """Which requests may try: all, none, or one probe at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Limits:
    """The part of the configuration that a breaker needs; seconds."""

    max_cooldown: float = 300.0
    max_reset: float = 21600.0
    honor_reset: bool = True
    cooldowns: bool = True
    """False if no other provider is left to try: then failures are counted without a cooldown."""

    @classmethod
    def from_config(cls, config: Config) -> "Limits":
        """The limits that a configuration sets."""
        rules = config.breaker
        return cls(
            max_cooldown=rules.max_cooldown,
            max_reset=rules.max_reset,
            honor_reset=rules.honor_reset,
            cooldowns=config.cooldowns,
        )

    @property
    def horizon(self) -> float:
        """The longest possible cooldown; a time further ahead comes from a wrong clock."""
        return max(self.max_cooldown, self.max_reset)


@dataclass(frozen=True, slots=True)
class BreakerState:
    """The breaker of a provider, or of one model there."""

    failures: int = 0
    last_failure: float | None = None
    last_success: float | None = None
    cooldown_until: float | None = None
    cooldown_began: float | None = None
    reason: str | None = None
    models: Mapping[str, "BreakerState"] = field(default_factory=lambda: MappingProxyType({}))
    learned: tuple[LearnedRejection, ...] = ()
    """What the provider refuses. Not a failure, so nothing here changes it."""


CLOSED: Final = BreakerState()


def phase(state: BreakerState, now: float, limits: Limits) -> Phase:
    """The phase of a breaker at a moment."""
    until = state.cooldown_until
    if until is None or until - now > limits.horizon:
        return Phase.CLOSED
    return Phase.OPEN if until > now else Phase.HALF_OPEN


def count_failure(
    state: BreakerState, outcome: Outcome, *, model: str, began: float, now: float, limits: Limits
) -> BreakerState:
    """The state after an attempt that began at `began` failed.

    Outcomes that are not the provider's fault change nothing.
    """
    match BLAME[outcome.fault]:
        case Blame.NONE:
            return state
        case Blame.PROVIDER:
            return _count_failure(state, outcome, began, now, limits)
        case Blame.MODEL:
            of_model = state.models.get(model, CLOSED)
            of_model = _count_failure(of_model, outcome, began, now, limits)
            return with_model(state, model, of_model)


def _count_failure(
    state: BreakerState, outcome: Outcome, began: float, now: float, limits: Limits
) -> BreakerState:
    failures = state.failures + 1
    state = replace(state, failures=failures, last_failure=now, reason=outcome.reason or None)
    in_flight = state.cooldown_began is not None and began <= state.cooldown_began
    if in_flight or not limits.cooldowns:
        return state
    until = now + cooldown(failures, outcome.fault, limits)
    if limits.honor_reset and outcome.until is not None:
        until = max(until, min(outcome.until, now + limits.max_reset))
    if until <= now:
        return state
    if phase(state, now, limits) is Phase.OPEN and state.cooldown_until is not None:
        until = max(until, state.cooldown_until)
    return replace(state, cooldown_until=until, cooldown_began=now)


def cooldown(failures: int, fault: Fault, limits: Limits) -> float:
    """The seconds of cooldown after so many failures in a row, the last of this kind."""
    tier = next((length for least, length in TIERS if failures >= least), 0.0)
    return min(limits.max_cooldown, max(tier, AT_ONCE.get(fault, 0.0)))


def count_success(state: BreakerState, *, model: str, began: float, now: float) -> BreakerState:
    """The state after an answer: closed, for the provider and for the model.

    An answer whose attempt began before the cooldown does not close the breaker, and neither does
    an answer that is older than the last failure, which another server counted: they do not show
    how the provider is now.
    """
    models = state.models
    if model in models:
        of_model = models[model]
        models = {**models, model: _close(of_model, of_model.models, began, now)}
    return _close(state, models, began, now)


def _close(
    state: BreakerState, models: Mapping[str, BreakerState], began: float, now: float
) -> BreakerState:
    in_flight = state.cooldown_began is not None and began <= state.cooldown_began
    if in_flight or (state.last_failure is not None and now < state.last_failure):
        return replace(state, models=models, last_success=max(now, state.last_success or now))
    return BreakerState(
        last_failure=state.last_failure,
        last_success=now,
        reason=state.reason,
        models=models,
        learned=state.learned,
    )


def open_by_hand(state: BreakerState, *, until: float, now: float, reason: str) -> BreakerState:
    """The state after a person opened the breaker."""
    return replace(state, cooldown_until=until, cooldown_began=now, reason=reason)


def with_model(state: BreakerState, model: str, of_model: BreakerState) -> BreakerState:
    """The state with another breaker for one model; of too many, the oldest failure is dropped."""
    models = {name: old for name, old in state.models.items() if name != model}
    if len(models) >= MOST_MODELS:
        del models[min(models, key=lambda name: models[name].last_failure or 0.0)]
    models[model] = of_model
    return replace(state, models=models)


def without_impossible_times(state: BreakerState, now: float, limits: Limits) -> BreakerState:
    """The state without times so far ahead that only a wrong clock can have written them."""

    def possible(when: float | None) -> float | None:
        return None if when is not None and when - now > limits.horizon else when

    return replace(
        state,
        last_failure=possible(state.last_failure),
        last_success=possible(state.last_success),
        cooldown_until=possible(state.cooldown_until),
        cooldown_began=possible(state.cooldown_began),
        models={
            name: without_impossible_times(of_model, now, limits)
            for name, of_model in state.models.items()
        },
    )
