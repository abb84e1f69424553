"""`ccfallback breaker`: what the breakers know, and how to make them forget it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import typer

from ccfallback.cli.options import AnyNames, Json, Names, duration, group
from ccfallback.cli.phrases import ahead, listed, span
from ccfallback.cli.session import require, session_of
from ccfallback.errors import CcfallbackError

if TYPE_CHECKING:
    from ccfallback.policy.breaker import BreakerState

BY_HAND: Final = "put in cooldown by hand"

app = group(
    name="breaker",
    help="See, reset and trip the circuit breakers.",
    epilog="Example: ccfallback breaker status",
)


@app.command("status", epilog="Example: ccfallback breaker status openrouter --json")
def status(ctx: typer.Context, names: AnyNames = None, as_json: Json = False) -> None:
    """Show failures, cooldown, last failure and success of providers."""
    from ccfallback.cli.health import chart, health, known
    from ccfallback.policy.breaker import limits_of

    session = session_of(ctx)
    config = session.config()
    require(names or (), [provider.name for provider in config.chain])
    states, now, limits = session.states(), session.now(), limits_of(config)
    shown = [
        (provider, known(config, states, provider.name, now))
        for provider in config.chain
        if not names or provider.name in names
    ]
    value = {
        "providers": [
            health(each.name, state, now, limits, disabled=each.disabled) for each, state in shown
        ]
    }

    session.console.emit(value, lambda: chart(shown, now, limits))


@app.command("reset", epilog="Example: ccfallback breaker reset openrouter")
def reset(
    ctx: typer.Context,
    names: AnyNames = None,
    everything: bool = typer.Option(False, "--all", help="Reset every provider."),
    as_json: Json = False,
) -> None:
    """Make providers as if they had never failed."""
    from ccfallback.policy.breaker import CLOSED

    if bool(names) is everything:
        raise typer.BadParameter("name one or more providers, or give --all", ctx=ctx)
    session = session_of(ctx)
    config = session.config()
    chain = [provider.name for provider in config.chain]
    before = session.states()
    chosen = list(dict.fromkeys(names)) if names else list(dict.fromkeys([*chain, *before]))
    require(chosen, [*chain, *before])
    forgotten: list[str] = []

    def forget(states: "Mapping[str, BreakerState]") -> "dict[str, BreakerState]":
        # Found out under the lock, because the server may have written since.
        forgotten[:] = [name for name in chosen if not _is_fresh(states.get(name, CLOSED))]
        kept = {name: state for name, state in states.items() if name not in chosen}
        # What a provider refuses is no failure: `providers forget` is for that.
        lessons = {name: states[name].learned for name in chosen if name in states}
        return kept | {
            name: replace(CLOSED, learned=learned) for name, learned in lessons.items() if learned
        }

    session.state_file.update(forget)
    for name in forgotten:
        session.record(
            config, "circuit_breaker.reset", f"{name} was reset by hand", provider=name, by="cli"
        )
    unchanged = [name for name in chosen if name not in forgotten]
    session.console.answer({"reset": forgotten, "unchanged": unchanged})
    if forgotten:
        session.console.say(f"{listed(forgotten)} reset; the next request may go there again")
    else:
        session.console.say("nothing to reset: no failure is on record")


@app.command("trip", epilog="Example: ccfallback breaker trip openrouter --for 10m")
def trip(
    ctx: typer.Context,
    names: Names,
    length: str = typer.Option(..., "--for", metavar="DURATION", help="How long: 90s, 10m, 2h."),
    as_json: Json = False,
) -> None:
    """Put providers in cooldown by hand.

    A running server passes them by from the next request.
    """
    from ccfallback.policy.breaker import CLOSED, limits_of, tripped

    seconds = duration(length, "--for")
    if seconds <= 0:
        raise typer.BadParameter("a cooldown of no length is none", param_hint="'--for'")
    session = session_of(ctx)
    config = session.config()
    chosen = list(dict.fromkeys(names))
    require(chosen, [provider.name for provider in config.chain])
    limits = limits_of(config)
    if seconds > limits.horizon:
        # A time so far ahead would be taken for a wrong clock's, and count as not set.
        raise CcfallbackError(
            f"{span(seconds)} is more than a cooldown may last: {span(limits.horizon)}, "
            "the larger of breaker.max_cooldown and max_reset",
            f"`ccfallback providers disable {chosen[0]}` leaves it out until you enable it",
        )
    now = session.now()
    until = now + seconds

    def put(states: "Mapping[str, BreakerState]") -> "dict[str, BreakerState]":
        changed = {
            name: tripped(states.get(name, CLOSED), until=until, now=now, reason=BY_HAND)
            for name in chosen
        }
        return {**states, **changed}

    session.state_file.update(put)
    for name in chosen:
        session.record(
            config,
            "circuit_breaker.cooldown",
            f"{name} is left out for {span(seconds)}: {BY_HAND}",
            provider=name,
            by="cli",
            cooldownUntil=round(until * 1000),
            seconds=seconds,
            reason=BY_HAND,
        )
    session.console.answer({"tripped": chosen, "cooldownUntil": round(until * 1000)})
    session.console.say(
        f"{listed(chosen)} left out, back {ahead(until, now)}; "
        f"`ccfallback breaker reset {' '.join(chosen)}` ends that"
    )
    if not config.cooldowns:
        session.console.say("with only one provider enabled it is asked all the same")


def _is_fresh(state: "BreakerState") -> bool:
    """Whether there is nothing held against a provider."""
    return (
        not state.failures
        and state.last_failure is None
        and state.cooldown_until is None
        and not state.models
    )
