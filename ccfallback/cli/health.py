"""A breaker's state as scripts and people read it.

Every command that shows health (`breaker status`, `providers show`, `status`) shows this shape.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ccfallback.cli.console import Cell, Grid, Styled
from ccfallback.cli.phrases import ago, ahead
from ccfallback.config.model import Config, Provider
from ccfallback.policy.breaker import CLOSED, BreakerState, Limits, Phase, limits_of, phase, sane


def known(
    config: Config, states: Mapping[str, BreakerState], name: str, now: float
) -> BreakerState:
    """What is known of a provider, without times that a wrong clock wrote."""
    return sane(states.get(name, CLOSED), now, limits_of(config))


def health(
    name: str, state: BreakerState, now: float, limits: Limits, *, disabled: bool = False
) -> dict[str, Any]:
    """A provider's health, with what is wrong with single models."""
    facts = _facts(state, now, limits)
    return {
        "name": name,
        **facts,
        "available": facts["available"] and not disabled,
        "models": {model: _facts(each, now, limits) for model, each in state.models.items()},
    }


def _facts(state: BreakerState, now: float, limits: Limits) -> dict[str, Any]:
    return {
        "available": phase(state, now, limits) is not Phase.OPEN,
        "consecutiveFailures": state.failures,
        "lastFailure": _milliseconds(state.last_failure),
        "lastSuccess": _milliseconds(state.last_success),
        "cooldownUntil": _milliseconds(state.cooldown_until),
        "reason": state.reason,
    }


def _milliseconds(when: float | None) -> int | None:
    return None if when is None else round(when * 1000)


def standing(provider: Provider, state: BreakerState, now: float, limits: Limits) -> Cell:
    """In a few words whether a provider may be asked."""
    if provider.disabled:
        return Styled("disabled", "dim")
    return condition(state, now, limits)


def condition(state: BreakerState, now: float, limits: Limits) -> Cell:
    """In a few words whether the breaker lets anybody through."""
    match phase(state, now, limits):
        case Phase.OPEN:
            return Styled(f"back {ahead(state.cooldown_until or now, now)}", "red")
        case Phase.HALF_OPEN:
            return Styled("on trial", "yellow")
        case Phase.CLOSED if any(
            phase(each, now, limits) is Phase.OPEN for each in state.models.values()
        ):
            return Styled("partly available", "yellow")
        case _:
            return Styled("available", "green")


def chart(shown: Sequence[tuple[Provider, BreakerState]], now: float, limits: Limits) -> Grid:
    """Providers as a table, each with the models that have trouble there."""
    rows: list[Sequence[Cell]] = []
    for provider, state in shown:
        rows.append((provider.name, standing(provider, state, now, limits), *_past(state, now)))
        for model, each in state.models.items():
            rows.append((f"  {model}", condition(each, now, limits), *_past(each, now)))
    header = ("provider", "state", "failed", "last failure", "last success")
    return Grid(rows, header, right=frozenset({2}))


def _past(state: BreakerState, now: float) -> tuple[str, str, str]:
    failure = moment(state.last_failure, now)
    if state.reason:
        # Tripped by hand, a provider has a reason and no failure.
        never = state.last_failure is None
        failure = state.reason if never else f"{failure}: {state.reason}"
    return str(state.failures), failure, moment(state.last_success, now)


def moment(when: float | None, now: float) -> str:
    """When something was, for a table."""
    return "never" if when is None else ago(when, now)
