"""`ccfallback breaker`: show, reset and trip the breakers."""

from collections.abc import Mapping, Sequence

import typer

from ccfallback.cli.health import health_json, health_table
from ccfallback.cli.options import AnyNames, Json, Names, NamesOrAll, make_app, parse_duration
from ccfallback.cli.phrases import (
    format_ahead,
    format_duration,
    join_names,
)
from ccfallback.cli.session import Session, require, session_of
from ccfallback.config.model import Config
from ccfallback.errors import CcfallbackError
from ccfallback.events.records import CircuitBreakerCooldown, CircuitBreakerReset
from ccfallback.policy import breaker
from ccfallback.policy.breaker import (
    BY_HAND,
    CLOSED,
    BreakerState,
    Limits,
    is_clean,
    open_by_hand,
    valid_states,
    with_fingerprints,
)

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
    names: NamesOrAll = None,
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
        after = {**states, **{name: breaker.reset(states[name]) for name in cleared}}
        return {name: state for name, state in after.items() if state != CLOSED}

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
