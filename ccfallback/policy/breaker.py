"""The circuit breaker: what failures do to a provider, and when it may be asked again.

    closed ──failures, a timeout, a torn answer, a reset hint──▶ open (cooldown)
      ▲                                                            │ time
      └──────────success────────── half-open ◀─────────────────────┘
                                       │ failure: one more, perhaps open again

A state is frozen; every function returns the next one. All times are Unix seconds, passed in.
The same rules hold for one model at a provider, so its states nest one level deep.
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
"""(at least this many failures in a row, seconds of cooldown), longest first."""

AT_ONCE: Final[Mapping[Fault, float]] = {
    Fault.CONNECT_TIMEOUT: 30.0,
    Fault.TIMEOUT: 30.0,
    Fault.TORN: 10.0,
}
"""Failures that cost too much to be had three times: seconds of cooldown from the first on."""

MOST_MODELS: Final = 64
"""Models kept per provider: the client names them, so their number needs a bound."""


class Phase(Enum):
    """Who may try."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration allows a breaker; seconds."""

    max_cooldown: float = 300.0
    max_reset: float = 21600.0
    honor_reset: bool = True
    cooldowns: bool = True
    """False while there is nobody else to ask: then failures are counted, and no more."""

    @property
    def horizon(self) -> float:
        """The longest cooldown there can be; a time further ahead is a wrong clock's."""
        return max(self.max_cooldown, self.max_reset)


def limits_of(config: Config) -> Limits:
    """What the configuration allows a breaker."""
    rules = config.breaker
    return Limits(
        max_cooldown=rules.max_cooldown,
        max_reset=rules.max_reset,
        honor_reset=rules.honor_reset,
        cooldowns=config.cooldowns,
    )


@dataclass(frozen=True, slots=True)
class BreakerState:
    """What is known of a provider, or of one model there."""

    failures: int = 0
    last_failure: float | None = None
    last_success: float | None = None
    cooldown_until: float | None = None
    cooldown_began: float | None = None
    reason: str | None = None
    models: Mapping[str, "BreakerState"] = field(default_factory=lambda: MappingProxyType({}))
    learned: tuple[LearnedRejection, ...] = ()
    """What the provider refuses; no failure, and untouched by all that happens here."""


CLOSED: Final = BreakerState()


def phase(state: BreakerState, now: float, limits: Limits) -> Phase:
    """Whether all, none or one may try."""
    until = state.cooldown_until
    if until is None or until - now > limits.horizon:
        return Phase.CLOSED
    return Phase.OPEN if until > now else Phase.HALF_OPEN


def failed(
    state: BreakerState, outcome: Outcome, *, model: str, began: float, now: float, limits: Limits
) -> BreakerState:
    """The state after a failure of a request that began at `began`.

    Outcomes that are nobody's fault change nothing.
    """
    match BLAME[outcome.fault]:
        case Blame.NOBODY:
            return state
        case Blame.PROVIDER:
            return _counted(state, outcome, began, now, limits)
        case Blame.MODEL:
            known = state.models.get(model, CLOSED)
            return with_model(state, model, _counted(known, outcome, began, now, limits))


def _counted(
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
    """Seconds of cooldown after so many failures in a row, the last of this kind."""
    tier = next((length for least, length in TIERS if failures >= least), 0.0)
    return min(limits.max_cooldown, max(tier, AT_ONCE.get(fault, 0.0)))


def succeeded(state: BreakerState, *, model: str, began: float, now: float) -> BreakerState:
    """The state after an answer: closed, for the provider and for the model.

    An answer that was under way when a cooldown began, or that is older than the last failure
    (another server's, which came into the file first), says nothing about the time since.
    """
    models = state.models
    if model in models:
        known = models[model]
        models = {**models, model: _closed(known, known.models, began, now)}
    return _closed(state, models, began, now)


def _closed(
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


def tripped(state: BreakerState, *, until: float, now: float, reason: str) -> BreakerState:
    """The state after a person put the provider in cooldown."""
    return replace(state, cooldown_until=until, cooldown_began=now, reason=reason)


def with_model(state: BreakerState, model: str, known: BreakerState) -> BreakerState:
    """The state with what is known of one model; the longest untouched one makes room."""
    models = {name: old for name, old in state.models.items() if name != model}
    if len(models) >= MOST_MODELS:
        del models[min(models, key=lambda name: models[name].last_failure or 0.0)]
    models[model] = known
    return replace(state, models=models)


def sane(state: BreakerState, now: float, limits: Limits) -> BreakerState:
    """The state without times that no clock of ours can have written."""

    def past(when: float | None) -> float | None:
        return None if when is not None and when - now > limits.horizon else when

    return replace(
        state,
        last_failure=past(state.last_failure),
        last_success=past(state.last_success),
        cooldown_until=past(state.cooldown_until),
        cooldown_began=past(state.cooldown_began),
        models={name: sane(known, now, limits) for name, known in state.models.items()},
    )
