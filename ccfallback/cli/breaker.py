"""`ccfallback breaker`: what the breakers know, and how to make them forget it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from ccfallback.cli.console import Grid
from ccfallback.cli.options import AnyNames, Json, group
from ccfallback.cli.phrases import listed
from ccfallback.cli.session import require, session_of

if TYPE_CHECKING:
    from ccfallback.core.breaker import BreakerState

app = group(name="breaker", help="See and reset the circuit breakers.")


@app.command("status", epilog="Example: ccfallback breaker status openrouter --json")
def status(ctx: typer.Context, names: AnyNames = None, as_json: Json = False) -> None:
    """Show failures, cooldowns and the last failure and success of each provider."""
    from ccfallback.cli.health import condition, health, known, standing
    from ccfallback.core.breaker import limits_of

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

    def table() -> Grid:
        rows = []
        for provider, state in shown:
            rows.append((provider.name, standing(provider, state, now, limits), *_past(state, now)))
            for model, each in state.models.items():
                rows.append((f"  {model}", condition(each, now, limits), *_past(each, now)))
        return Grid(rows, ("provider", "state", "failures", "last failure", "last success"))

    session.console.emit(value, table)


def _past(state: "BreakerState", now: float) -> tuple[str, str, str]:
    from ccfallback.cli.health import moment

    failure = moment(state.last_failure, now)
    if state.reason:
        failure = f"{failure}: {state.reason}"
    return str(state.failures), failure, moment(state.last_success, now)


@app.command("reset", epilog="Example: ccfallback breaker reset openrouter")
def reset(
    ctx: typer.Context,
    names: AnyNames = None,
    everything: bool = typer.Option(False, "--all", help="Reset every provider."),
    as_json: Json = False,
) -> None:
    """Make providers as if they had never failed."""
    from ccfallback.core.breaker import CLOSED

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


def _is_fresh(state: "BreakerState") -> bool:
    """Whether there is nothing held against a provider."""
    return (
        not state.failures
        and state.last_failure is None
        and state.cooldown_until is None
        and not state.models
    )
