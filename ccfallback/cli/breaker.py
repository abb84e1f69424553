"""`ccfallback breaker`: show, reset and trip the breakers; and how all commands show health.

`breaker status`, `providers show`, `status` and `top` print a provider's health in the same form.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import typer

from ccfallback.cli.console import WIDE, Cell, Styled, Table, drop_columns
from ccfallback.cli.options import AnyNames, Json, Names, make_app, parse_duration
from ccfallback.cli.phrases import (
    format_ahead,
    format_duration,
    format_last,
    format_until,
    join_names,
    shorten_model,
)
from ccfallback.cli.session import Session, require, session_of
from ccfallback.config.model import Config, Provider
from ccfallback.errors import CcfallbackError
from ccfallback.events.records import CircuitBreakerCooldown, CircuitBreakerReset, milliseconds
from ccfallback.policy.breaker import (
    BY_HAND,
    CLOSED,
    BreakerState,
    Limits,
    Phase,
    as_available,
    as_seen,
    is_clean,
    open_by_hand,
    phase,
    valid_states,
    with_fingerprints,
)
from ccfallback.policy.fingerprints import hash_keys
from ccfallback.words import pluralize

app = make_app(
    name="breaker",
    help="Show, reset and trip the circuit breakers.",
    epilog="Example: ccfallback breaker status",
)


@app.command("status", epilog="Example: ccfallback breaker status openrouter --json")
def status(ctx: typer.Context, names: AnyNames = None, as_json: Json = False) -> None:
    """Show failures, cooldown, last failure and success of providers."""
    session = session_of(ctx)
    config = session.say_config_in_use()
    require(names or (), config.names)
    states, now = session.states(config), session.now()
    shown = [
        (provider, states.get(provider.name, CLOSED))
        for provider in config.chain
        if not names or provider.name in names
    ]
    value = {"providers": [health_json(each, state, now) for each, state in shown]}
    session.console.emit(value, lambda: health_table(shown, now, session.console.width))


@app.command("reset", epilog="Example: ccfallback breaker reset openrouter")
def reset(
    ctx: typer.Context,
    names: AnyNames = None,
    everything: bool = typer.Option(False, "--all", help="Reset every provider."),
    as_json: Json = False,
) -> None:
    """Clear failures and cooldowns."""
    if names and everything:
        raise typer.BadParameter("give either names or --all, not both", ctx=ctx)
    if not names and not everything:
        raise typer.BadParameter("name one or more providers, or give --all", ctx=ctx)
    session = session_of(ctx)
    config = session.say_config_in_use(needs_server=False)
    chain = config.names
    before = session.states(config)
    chosen = list(dict.fromkeys(names)) if names else list(dict.fromkeys([*chain, *before]))
    require(chosen, [*chain, *before])
    cleared = clear_breakers(session, config, chosen)
    unchanged = [name for name in chosen if name not in cleared]
    session.console.emit_result({"reset": cleared, "unchanged": unchanged})
    if cleared:
        session.console.say(f"{join_names(cleared)} reset; the next request may be sent there")
    else:
        session.console.say("nothing to reset: there are no failures")


def clear_breakers(session: Session, config: Config, chosen: Sequence[str]) -> list[str]:
    """Clear failures and cooldowns; returns the names of the providers that had any."""
    cleared: list[str] = []

    def clear(states: Mapping[str, BreakerState]) -> dict[str, BreakerState]:
        # Decided under the lock, because the server may have written in the meantime.
        cleared[:] = [name for name in chosen if not _is_clear(states.get(name, CLOSED))]
        kept = {name: state for name, state in states.items() if name not in chosen}
        # A learned rejection is not a failure: `providers forget` removes those.
        learned = {name: states[name].learned for name in chosen if name in states}
        return kept | {
            name: replace(CLOSED, learned=rejections)
            for name, rejections in learned.items()
            if rejections
        }

    session.store.update(clear)
    for name in cleared:
        session.record(
            config, CircuitBreakerReset(provider=name, by="cli"), f"{name} was reset by hand"
        )
    return cleared


@app.command("trip", epilog="Example: ccfallback breaker trip openrouter --for 10m")
def trip(
    ctx: typer.Context,
    names: Names,
    length: str = typer.Option(..., "--for", metavar="DURATION", help="How long: 90s, 10m, 2h."),
    as_json: Json = False,
) -> None:
    """Put providers in cooldown by hand.

    A running server skips them from the next request on.
    """
    seconds = parse_duration(length, "--for")
    if seconds <= 0:
        raise typer.BadParameter("must be longer than zero", param_hint="'--for'")
    session = session_of(ctx)
    config = session.say_config_in_use()
    chosen = list(dict.fromkeys(names))
    require(chosen, config.names)
    until = trip_breakers(session, config, chosen, seconds)
    session.console.emit_result({"tripped": chosen, "cooldownUntil": round(until * 1000)})
    session.console.say(
        f"{join_names(chosen)}: cooling down, back {format_ahead(until, session.now())}; "
        f"`ccfallback breaker reset {' '.join(chosen)}` ends it"
    )
    if not config.cooldowns:
        session.console.say("it is used all the same: it is the only provider enabled")


def trip_breakers(session: Session, config: Config, chosen: Sequence[str], seconds: float) -> float:
    """Put providers in cooldown; returns its end. Raises `CcfallbackError` if it is too long."""
    limits = Limits.from_config(config)
    if seconds > limits.horizon:
        # A later time would be taken for the mistake of a wrong clock.
        raise CcfallbackError(
            f"{format_duration(seconds)} is longer than a cooldown may last "
            f"({format_duration(limits.horizon)}: the larger of breaker.max_cooldown and "
            "max_reset)",
            f"`ccfallback providers disable {chosen[0]}` stops using it until you enable it",
        )
    now = session.now()
    until = now + seconds

    def put(states: Mapping[str, BreakerState]) -> dict[str, BreakerState]:
        states = valid_states(states, config, now)
        for provider in config.chain:
            if provider.name in chosen:
                opened = open_by_hand(states.get(provider.name, CLOSED), until=until, now=now)
                states[provider.name] = with_fingerprints(opened, provider)
        return dict(states)

    session.store.update(put)
    for name in chosen:
        session.record(
            config,
            CircuitBreakerCooldown(
                provider=name,
                by="cli",
                cooldown_until=round(until * 1000),
                seconds=seconds,
                reason=BY_HAND,
            ),
            f"{name}: cooling down for {format_duration(seconds)}, {BY_HAND}",
        )
    return until


def _is_clear(state: BreakerState) -> bool:
    """Whether the state has no failure and no cooldown, for any model or credential."""
    return (
        is_clean(state)
        and state.last_failure is None
        and not state.models
        and not state.credentials
    )


# -- Health, as all commands show it


def state_of_next(provider: Provider, state: BreakerState, now: float) -> BreakerState:
    """The state of a provider as the next request meets it, with whichever of its keys."""
    return as_available(state, hash_keys(provider.key, os.environ), now)


def health_json(provider: Provider, state: BreakerState, now: float) -> dict[str, Any]:
    """The health of a provider, of its models and keys, and of the credentials that it refused.

    It is that of the first of its keys that is available, or else of the credential that was used
    last; with one login, of that one.
    """
    seen = state_of_next(provider, state, now)
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
    return format_condition(state_of_next(provider, state, now), now, short=short)


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
        seen = state_of_next(provider, state, now)
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
