"""The health of a provider, as all commands show it."""

import os
from collections.abc import Sequence
from typing import Any

from ccfallback.cli.console import WIDE, Cell, Styled, Table, drop_columns
from ccfallback.cli.phrases import (
    format_duration,
    format_last,
    format_until,
    shorten_model,
)
from ccfallback.config.model import Provider
from ccfallback.events.records import milliseconds
from ccfallback.policy.breaker import (
    BreakerState,
    Phase,
    as_next,
    as_seen,
    phase,
)
from ccfallback.policy.fingerprints import hash_keys
from ccfallback.words import pluralize


def health_json(provider: Provider, state: BreakerState, now: float) -> dict[str, Any]:
    """The health of a provider, of its models and keys, and of the credentials that it refused.

    It is that of the first of its keys that is available, or else of the credential that was used
    last; with one login, of that one.
    """
    seen = as_next(state, provider, os.environ, now)
    facts = _state_json(seen, now)
    found = {
        "name": provider.name,
        **facts,
        "available": facts["available"] and not provider.disabled,
        "models": _models_json(seen, now),
    }
    if keys := states_of_keys(provider, state):
        found["keys"] = [
            {"key": number, **_state_json(own, now), "models": _models_json(own, now)}
            for number, own in enumerate(keys, 1)
        ]
    if state.credentials:
        found["credentials"] = {
            credential: {**_state_json(own, now), "models": _models_json(own, now)}
            for credential, own in state.credentials.items()
        }
    return found


def states_of_keys(provider: Provider, state: BreakerState) -> list[BreakerState]:
    """The state of each of several keys, in their order; none for an only key."""
    hashes = hash_keys(provider.key, os.environ)
    return [as_seen(state, credential) for credential in hashes]


def _models_json(state: BreakerState, now: float) -> dict[str, Any]:
    return {model: _state_json(each, now) for model, each in state.models.items()}


def _state_json(state: BreakerState, now: float) -> dict[str, Any]:
    return {
        "available": phase(state, now) is not Phase.OPEN,
        "consecutiveFailures": state.failures,
        "lastFailure": milliseconds(state.last_failure),
        "lastSuccess": milliseconds(state.last_success),
        "cooldownUntil": milliseconds(state.cooldown_until),
        "reason": state.reason,
    }


def is_narrow(width: int | None) -> bool:
    """Whether a terminal of that width, if it is one, has room for short words only."""
    return width is not None and width < WIDE


def format_standing(
    provider: Provider, state: BreakerState, now: float, *, short: bool = False
) -> Cell:
    """Whether requests may go to a provider, in a few words, or with `short` in even fewer."""
    if provider.disabled:
        return Styled("disabled", "dim")
    return format_condition(as_next(state, provider, os.environ, now), now, short=short)


def format_condition(state: BreakerState, now: float, *, short: bool = False) -> Styled:
    """Whether a breaker lets requests through, in a few words, or with `short` in even fewer."""
    match phase(state, now):
        case Phase.OPEN:
            until = state.cooldown_until or now
            left = f", {format_duration(until - now)}" if short else f" {format_until(until, now)}"
            return Styled(f"cooling down{left}", "red")
        case Phase.HALF_OPEN:
            return Styled("probing", "yellow")
    models = [model for model, each in state.models.items() if phase(each, now) is Phase.OPEN]
    if not models:
        return Styled("ready", "green")
    count = pluralize(len(models), "model")
    if short:
        return Styled(f"{count} cooling down", "yellow")
    which = models[0] if len(models) == 1 else count
    return Styled(f"cooling down for {which}", "yellow")


def health_table(
    shown: Sequence[tuple[Provider, BreakerState]], now: float, width: int | None
) -> Table:
    """Providers, each with its keys, the models that have failed and the logins it refused.

    `width` is the terminal's, `None` where there is none.
    """
    short = is_narrow(width)
    rows: list[Sequence[Cell]] = []
    for provider, state in shown:
        seen = as_next(state, provider, os.environ, now)
        standing = format_standing(provider, state, now, short=short)
        rows.append((provider.name, standing, *format_history(seen, now)))
        parts = [
            (shorten_model(name) if short else name, each) for name, each in seen.models.items()
        ]
        if keys := states_of_keys(provider, state):
            parts += [(f"key {number}", own) for number, own in enumerate(keys, 1)]
        elif len(state.credentials) > 1 or any(
            own.cooldown_until != seen.cooldown_until for own in state.credentials.values()
        ):
            # With one login, the provider's own row says it all.
            parts += [(f"login {name[:6]}", own) for name, own in state.credentials.items()]
        for name, each in parts:
            condition = format_condition(each, now, short=short)
            rows.append((f"  {name}", condition, *format_history(each, now)))
    success = "succeeded" if short else "last success"
    header = ("provider", "state", "in a row", "last failure", success)
    table = Table(rows, header, right=frozenset({2}), whole=frozenset({1}))
    return drop_columns(table, ("succeeded", "last failure", "in a row"), width, ("last failure",))


def format_history(state: BreakerState, now: float) -> tuple[str, str, str]:
    """The failures in a row, the last failure and the last success."""
    failure = format_last(state.last_failure, now)
    if state.reason:
        # A provider that was tripped by hand has a reason but no failure.
        never_failed = state.last_failure is None
        failure = state.reason if never_failed else f"{failure}: {state.reason}"
    return str(state.failures), failure, format_last(state.last_success, now)
