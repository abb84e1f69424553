"""`ccfallback drill`: would any fault of a provider of this chain lose a turn?

With `--live`, the providers themselves are asked; see `live_check`.
"""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ccfallback.cli.console import Cell, ExitCode, Styled, Table, drop_columns
from ccfallback.cli.options import AnyNames, Json, make_app
from ccfallback.cli.phrases import format_duration, wrap_text
from ccfallback.cli.session import session_of
from ccfallback.errors import CcfallbackError
from ccfallback.words import pluralize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ccfallback.config.model import Config
    from ccfallback.simulator.drill import Report

app = make_app()

PLAIN: Final = "the answer"
"""What Claude Code sees where it notices nothing."""


@app.command("drill", epilog="Example: ccfallback drill\nccfallback drill --live")
def drill(
    ctx: typer.Context,
    names: AnyNames = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Send one small real request to each (named) provider."),
    ] = False,
    primary: Annotated[
        bool,
        typer.Option("--primary", help="With --live: also ask providers with the login of a plan."),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="A line for every fault.")] = False,
    as_json: Json = False,
) -> None:
    """Test the configured chain against every known fault, offline.

    Exit 1 if a turn is lost. The upstreams are embedded: no key is read, nothing leaves this
    machine, and the state and the log are not touched.

    With --live, each provider gets one real request in the shape of Claude Code's, for about a cent
    in all. What it refuses is learned, and `status`, `statusline` and `doctor` show the result.
    Exit 1 if one is not ready.
    """
    if live:
        from ccfallback.cli.live_check import run as check

        check(session_of(ctx), names or (), primary=primary)
        return
    if names or primary:
        raise typer.BadParameter("NAME and --primary are for --live", ctx=ctx)
    from dataclasses import asdict

    from ccfallback.simulator.drill import drill as run
    from ccfallback.simulator.drill import drill_cases

    session = session_of(ctx)
    console, config = session.console, session.say_config_in_use()
    if not config.active:
        raise CcfallbackError("no provider is enabled", "enable one: `ccfallback providers enable`")
    count = 0

    def show_progress(_: "Report", total: int) -> None:
        nonlocal count
        count += 1
        console.progress(f"{count} of {total} tasks" if count < total else "")

    try:
        reports = run(config, show_progress)
    except KeyboardInterrupt:
        console.progress("")
        console.say(f"stopped after {count} of {sum(1 for _ in drill_cases(config))}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    lost = [report for report in reports if report.lost]
    value: dict[str, Any] = {
        "ok": not lost,
        "chain": [{"name": each.name, "format": each.format} for each in config.active],
        "faults": [asdict(report) for report in reports],
    }
    console.emit(value, lambda: _page(config, reports, console.width, everything=verbose))
    console.say(_summary(config, reports))
    if lost:
        raise typer.Exit(ExitCode.FAILED)


def _page(
    config: "Config", reports: "Sequence[Report]", width: int | None, *, everything: bool
) -> list[Table | str]:
    """The faults of the first provider, and the lost turns of the others.

    Those that Claude Code would not have noticed are only named, unless `everything` is wanted.
    """
    first = config.active[0].name
    shown = [each for each in reports if each.lost or (each.at == first and "/" not in each.id)]
    plain = [] if everything else [each.id for each in shown if _is_unnoticed(each)]
    rows = [
        (each.id, _client_sees(each), each.provider or "-", _took(each))
        for each in shown
        if each.id not in plain or each.lost
    ]
    page: list[Table | str] = []
    if plain:
        names = wrap_text(", ".join(plain), width)
        page.append(f"✓ Claude Code gets the answer after {len(plain)} faults:\n{names}")
    if rows:
        seen = "Claude Code sees"
        table = Table(rows, ("fault", seen, "answered by", "would take"))
        page.append(drop_columns(table, ("would take", "answered by"), width, wrapping=[seen]))
    return page


def _is_unnoticed(report: "Report") -> bool:
    """Whether Claude Code would have got the answer, with nothing to say about it."""
    return not report.lost and report.client_sees == PLAIN


def _client_sees(report: "Report") -> Cell:
    if report.lost:
        return Styled(f"LOST: {report.client_sees}", "red")
    if not report.answered:
        return Styled(f"error: {report.client_sees}", "yellow")
    return report.client_sees


def _took(report: "Report") -> str:
    seconds = report.configured_seconds
    return f"{seconds:.1f} s" if seconds < 10 else format_duration(seconds)


def _summary(config: "Config", reports: "Sequence[Report]") -> str:
    lost = [report for report in reports if report.lost]
    errors = [report for report in reports if not report.answered and not report.lost]
    names = ", ".join(provider.name for provider in config.active)
    turns = pluralize(len(lost), "turn") if lost else "no turns"
    parts = [f"{len(reports)} tasks through {names}: {turns} lost"]
    if errors:
        reached = pluralize(len(errors), "error")
        them = "it needs" if len(errors) == 1 else "they need"
        parts.append(f"{reached} reached Claude Code: {them} you, and every provider had refused")
    if len(config.active) == 1:
        parts.append(
            "with one provider, a fault fails one request, and Claude Code's next attempt gets "
            "through; `ccfallback providers add` adds a fallback"
        )
    if any(_is_excluded(config, report) for report in lost):
        parts.append("failover.on excludes some statuses: `ccfallback config edit`")
    return "; ".join(parts)


def _is_excluded(config: "Config", report: "Report") -> bool:
    """Whether the configuration does not fail over on the status of this fault."""
    status = report.id.rpartition("/")[2][:3]
    return status.isdigit() and int(status) not in config.failover.statuses
