"""`providers list` and `providers show`: the providers of the chain, and their health."""

from typing import Any

import typer

from ccfallback.cli.console import Cell, Table
from ccfallback.cli.options import Json, Name, ShowKeys
from ccfallback.cli.phrases import format_last
from ccfallback.cli.session import require, session_of


def everyone(ctx: typer.Context, as_json: Json = False, show_keys: ShowKeys = False) -> None:
    """List the chain in the order in which providers are tried."""
    from ccfallback.cli.providers.view import describe, host, key_source

    session = session_of(ctx)
    config = session.config()
    value = {"providers": [describe(each, in_clear=show_keys) for each in config.chain]}

    def table() -> Table:
        from ccfallback.cli.breaker import current_state, format_standing
        from ccfallback.policy.breaker import Limits

        states, now, limits = session.states(), session.now(), Limits.from_config(config)
        rows: list[tuple[Cell, ...]] = []
        for position, provider in enumerate(config.chain):
            key = provider.key.literal
            shown = key.reveal() if show_keys and key is not None else key_source(provider)
            state = format_standing(
                provider, current_state(config, states, provider.name, now), now, limits
            )
            place = str(position) if position else ""
            rows.append((place, provider.name, provider.format, host(provider), shown, state))
        return Table(rows, ("", "name", "format", "where", "key", "state"))

    session.console.emit(value, table)


def one(ctx: typer.Context, name: Name, as_json: Json = False, show_keys: ShowKeys = False) -> None:
    """Show everything about one provider."""
    from ccfallback.cli.breaker import (
        current_state,
        format_condition,
        format_standing,
        health_json,
    )
    from ccfallback.cli.providers.view import describe, key_source
    from ccfallback.policy.breaker import Limits
    from ccfallback.policy.learned import still_valid

    session = session_of(ctx)
    config = session.config()
    require([name], [provider.name for provider in config.chain])
    provider = next(provider for provider in config.chain if provider.name == name)
    now, limits = session.now(), Limits.from_config(config)
    state = current_state(config, session.states(), name, now)
    facts = describe(provider, in_clear=show_keys)
    learned = [
        {
            "rectifier": lesson.rectifier,
            "model": lesson.model,
            "message": lesson.text,
            "until": round(lesson.until * 1000),
        }
        for lesson in still_valid(state.learned, now)
    ]
    value = {
        **facts,
        "state": health_json(name, state, now, limits, disabled=provider.disabled),
        "learned": learned,
    }

    def table() -> Table:
        rows: list[tuple[Cell, Cell]] = [
            (label, _worded(fact)) for label, fact in facts.items() if fact not in (None, {})
        ]
        if not provider.key:
            rows.append(("key", key_source(provider)))
        rows.append(("state", format_standing(provider, state, now, limits)))
        rows.append(("failures", str(state.failures)))
        failure = format_last(state.last_failure, now)
        rows.append(("last failure", f"{failure}: {state.reason}" if state.reason else failure))
        rows.append(("last success", format_last(state.last_success, now)))
        rows.extend(("refuses", f"{each['message']} ({each['model']})") for each in learned)
        rows.extend(
            (f"model {model}", format_condition(each, now, limits))
            for model, each in state.models.items()
        )
        return Table(rows)

    session.console.emit({"provider": value}, table)


def _worded(fact: Any) -> str:
    """A value of the configuration, as a line has it."""
    match fact:
        case bool():
            return "yes" if fact else "no"
        case float():
            return f"{fact:g} s"
        case dict():
            return ", ".join(f"{name} = {_worded(item)}" for name, item in fact.items())
        case list():
            return " ".join(map(str, fact))
        case _:
            return str(fact)
