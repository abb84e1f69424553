"""`providers test`: one small request to each provider, through the server's own code."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ccfallback.cli.console import Cell, ExitCode, Styled, Table
from ccfallback.cli.options import AnyNames, Json
from ccfallback.cli.phrases import format_latency
from ccfallback.cli.session import Session, require, session_of

if TYPE_CHECKING:
    from ccfallback.cli.doctor.probe import Probe
    from ccfallback.config.model import Config, Provider


def run(
    ctx: typer.Context,
    names: AnyNames = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="M",
            help="A model that Claude Code would request; by default one for each model that the "
            "provider's mapping leads to.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Request one token from each provider, with each of its keys.

    Each failure is shown with what to do about it. Exits with 1 if any provider failed.
    """
    session = session_of(ctx)
    config = session.say_config_in_use()
    require(names or (), config.names)
    # A disabled provider is only tested by name.
    chosen = [
        provider
        for provider in config.chain
        if (provider.name in names if names else not provider.disabled)
    ]
    results = probe_providers(session, config, chosen, model or ())
    ok = all(result.ok for result in results)
    session.console.emit({"ok": ok, "results": [_facts(each) for each in results]}, _table(results))
    for label, hint in dict.fromkeys((each.label, each.hint) for each in results):
        if hint:
            session.console.say(f"{label}: {hint}")
    if not ok:
        raise typer.Exit(ExitCode.FAILED)


def probe_providers(
    session: Session,
    config: "Config",
    providers: "list[Provider]",
    models: "tuple[str, ...] | list[str]",
) -> "list[Probe]":
    """Send a small request for each model of each provider, and show the progress."""
    from ccfallback.cli.doctor.diagnosis import ASKED_FOR, models_for
    from ccfallback.cli.doctor.probe import probe

    usual = [name for name in (session.environ.get("ANTHROPIC_MODEL"), *ASKED_FOR) if name]
    questions = [
        (account, name)
        for provider in providers
        for account in provider.accounts
        for name in models_for(provider, models, usual)
    ]
    waiting = [f"{account.label} ({name})" for account, name in questions]

    def show_result(result: "Probe") -> None:
        waiting.remove(f"{result.label} ({result.model})")
        show()

    def show() -> None:
        done = len(questions) - len(waiting)
        text = f"{done} of {len(questions)} answered; waiting for {', '.join(waiting)}"
        session.console.progress(text if waiting else "")

    show()
    try:
        return probe(
            config,
            questions,
            environ=session.environ,
            listener=find_listener(session, config),
            on_result=show_result,
        )
    finally:
        session.console.progress("")


def find_listener(session: Session, config: "Config") -> Any:
    """The address of our own server, to which no provider may lead."""
    from ccfallback.addresses import address
    from ccfallback.cli.running_server import configured_url, find_server_url

    url = find_server_url(session.paths, config) or configured_url(config)
    return None if url is None else address(url)


def _facts(result: "Probe") -> dict[str, Any]:
    return {
        "provider": result.provider,
        **({"key": result.key} if result.key else {}),
        "model": result.model,
        "mapped_to": result.mapped_to,
        "ok": result.ok,
        "tested": result.tested,
        "status": result.status,
        "seconds": result.seconds,
        "message": result.message,
        "hint": result.hint,
        "trouble": result.trouble.value or None,
    }


def _table(results: "list[Probe]") -> Callable[[], Table]:
    def table() -> Table:
        rows: list[tuple[Cell, ...]] = []
        for each in results:
            mapped = "" if each.mapped_to == each.model else f" → {each.mapped_to}"
            time = "" if each.seconds is None else format_latency(each.seconds)
            rows.append((each.label, f"{each.model}{mapped}", _verdict(each), time))
        return Table(rows, ("provider", "model", "result", "time"))

    return table


def _verdict(result: "Probe") -> Cell:
    if not result.tested:
        return Styled(f"- {result.message}", "dim")
    if result.ok:
        return Styled(f"✓ {result.status} answers", "green")
    return Styled(f"✗ {result.message}", "red")
