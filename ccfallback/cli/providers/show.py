"""`providers list` and `providers show`: the providers of the chain, and their health."""

from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from ccfallback.cli import chain
from ccfallback.cli.chain import describe, key_source
from ccfallback.cli.console import Cell, Table
from ccfallback.cli.options import Json, Name, ShowKeys
from ccfallback.cli.session import require, session_of
from ccfallback.config.model import Aws, Cap, Google, Prices
from ccfallback.config.options import to_table
from ccfallback.errors import CcfallbackError
from ccfallback.redact import scrub_misplaced


def list_chain(ctx: typer.Context, as_json: Json = False, show_keys: ShowKeys = False) -> None:
    """List the chain in the order in which providers are tried."""
    chain.print_chain(session_of(ctx), in_clear=show_keys)


def show_one(
    ctx: typer.Context, name: Name, as_json: Json = False, show_keys: ShowKeys = False
) -> None:
    """Show everything about one provider."""
    from ccfallback.cli.health import (
        format_condition,
        format_history,
        format_standing,
        health_json,
        states_of_keys,
    )
    from ccfallback.policy.breaker import CLOSED, as_next
    from ccfallback.policy.learned import find_valid

    session = session_of(ctx)
    config = session.say_config_in_use()
    require([name], config.names)
    provider = next(provider for provider in config.chain if provider.name == name)
    now = session.now()
    whole = session.states(config).get(name, CLOSED)
    state = as_next(whole, provider, session.environ, now)
    facts = describe(provider, in_clear=show_keys)
    learned = [
        {
            "rectifier": lesson.rectifier,
            "model": lesson.model,
            "message": lesson.text,
            "until": round(lesson.until * 1000),
        }
        for lesson in find_valid(state.learned, provider, now)
    ]
    value = {
        **facts,
        "state": health_json(provider, whole, now),
        "learned": learned,
    }

    def table() -> Table:
        unset: tuple[Any, ...] = (None, {}, [], *map(to_table, (Aws(), Google(), Cap(), Prices())))
        rows: list[tuple[Cell, Cell]] = [
            (label, _format_value(fact, _UNITS.get(label, "{:g} s")))
            for label, fact in facts.items()
            if fact not in unset
        ]
        if not provider.key:
            rows.append(("key", key_source(provider, session.environ)))
        rows.append(("state", format_standing(provider, whole, now)))
        rows.extend(
            (f"key {number}", format_condition(each, now))
            for number, each in enumerate(states_of_keys(provider, whole), 1)
        )
        labels = ("failures in a row", "last failure", "last success")
        rows.extend(zip(labels, format_history(state, now), strict=True))
        rows.extend(("refuses", f"{each['message']} ({each['model']})") for each in learned)
        rows.extend(
            (f"model {model}", format_condition(each, now)) for model, each in state.models.items()
        )
        return Table(rows)

    session.console.emit({"provider": value}, table)


def list_presets(
    ctx: typer.Context,
    word: Annotated[str, typer.Argument(metavar="[WORD]", help="Only those that contain it.")] = "",
    as_json: Json = False,
) -> None:
    """List the providers that need only a key."""
    from ccfallback.config.presets import presets

    console = session_of(ctx).console
    wanted = [
        preset
        for preset in presets().values()
        if any(word.lower() in text.lower() for text in (preset.name, preset.title, preset.format))
    ]
    if not wanted:
        raise CcfallbackError(
            f"no preset contains {scrub_misplaced(word)}",
            "`ccfallback providers presets` lists all of them",
        )
    rows = [(p.name, p.format, p.base_url, p.key_url or "none") for p in wanted]
    shown = [asdict(preset) for preset in wanted]
    for each in shown:
        each["model_mapping"] = each.pop("models")
    header = ("name", "format", "endpoint", "get a key at")

    def table() -> Table:
        from ccfallback.cli.health import is_narrow

        if not is_narrow(console.width):
            return Table(rows, header)
        # A split URL can't be copied; `--json` has the endpoints too.
        return Table([(*row[:2], row[3]) for row in rows], (*header[:2], header[3]))

    console.emit({"presets": shown}, table)


_UNITS: Final = {"cap": "${:.2f}", "prices": "${:g}"}
"""How the numbers of an option are written, if they are not seconds."""


def _format_value(fact: Any, number: str) -> str:
    """A value of the configuration on one line; `number` is the form of its numbers."""
    match fact:
        case bool():
            return "yes" if fact else "no"
        case float():
            return number.format(fact)
        case dict():
            given = (item for item in fact.items() if item[1] is not None)
            return ", ".join(f"{name} = {_format_value(item, number)}" for name, item in given)
        case list():
            return " ".join(map(str, fact))
        case _:
            return str(fact)
