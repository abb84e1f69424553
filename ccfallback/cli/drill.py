"""`ccfallback drill`: would a turn be lost, whatever the providers of this chain did?"""

from typing import TYPE_CHECKING, Any

import typer

from ccfallback.cli.console import Cell, ExitCode, Styled, Table
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.phrases import format_duration
from ccfallback.cli.session import session_of
from ccfallback.errors import CcfallbackError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ccfallback.config.model import Config
    from ccfallback.simulator.drill_server import Report

app = make_app()


@app.command("drill", epilog="Example: ccfallback drill")
def drill(ctx: typer.Context, as_json: Json = False) -> None:
    """Walk the configured chain through every fault there is.

    Exit 1 if a turn is lost. The upstreams are embedded ones: no key is read, nothing leaves this
    machine, and state and log stay as they are. Names, formats, order, timeouts and rules are
    those of the configuration.
    """
    from dataclasses import asdict

    from ccfallback.simulator.drill import drill as run

    session = session_of(ctx)
    console, config = session.console, session.config()
    if not config.active:
        raise CcfallbackError("no provider is enabled", "enable one: `ccfallback providers enable`")
    count = 0

    def heard(_: "Report", total: int) -> None:
        nonlocal count
        count += 1
        console.progress(f"{count} of {total} tasks" if count < total else "")

    reports = run(config, heard)
    lost = [report for report in reports if report.lost]
    value: dict[str, Any] = {
        "ok": not lost,
        "chain": [{"name": each.name, "format": each.format} for each in config.active],
        "faults": [asdict(report) for report in reports],
    }
    console.emit(value, lambda: _table(config, reports))
    console.say(_summary(config, reports))
    if lost:
        raise typer.Exit(ExitCode.FAILED)


def _table(config: "Config", reports: "Sequence[Report]") -> Table:
    """The faults of the first provider, and of the others what is not well."""
    first = config.active[0].name
    shown = [each for each in reports if _is_the_firsts(each, first) or each.lost]
    rows = [(each.id, _sees(each), each.provider or "-", _took(each)) for each in shown]
    return Table(rows, ("fault", "Claude Code sees", "answered by", "took"))


def _is_the_firsts(report: "Report", first: str) -> bool:
    return report.at == first and "/" not in report.id


def _sees(report: "Report") -> Cell:
    if report.lost:
        return Styled(f"LOST: {report.client_sees}", "red")
    if not report.answered:
        return Styled(f"handed on: {report.client_sees}", "yellow")
    return report.client_sees


def _took(report: "Report") -> str:
    seconds = report.configured_seconds
    return f"{seconds:.1f} s" if seconds < 10 else format_duration(seconds)


def _summary(config: "Config", reports: "Sequence[Report]") -> str:
    lost = [report for report in reports if report.lost]
    told = [report for report in reports if not report.answered and not report.lost]
    names = ", ".join(provider.name for provider in config.active)
    parts = [f"{len(reports)} tasks through {names}: {len(lost) or 'no'} turn{_s(lost)} lost"]
    if told:
        parts.append(
            f"{len(told)} refusal{_s(told)} handed on, because a person has to act and nobody else "
            "was left to ask"
        )
    if len(config.active) == 1:
        parts.append(
            "with one provider a fault lasts for one request, and Claude Code's next try gets "
            "through; `ccfallback providers add` adds another"
        )
    if lost and any(_is_excluded(config, report) for report in lost):
        parts.append("failover.on keeps some statuses from moving on: `ccfallback config edit`")
    return "; ".join(parts)


def _is_excluded(config: "Config", report: "Report") -> bool:
    """Whether the status of a fault is one that the configuration hands on."""
    status = report.id.rpartition("/")[2][:3]
    return status.isdigit() and int(status) not in config.failover.statuses


def _s(some: "Sequence[object]") -> str:
    return "" if len(some) == 1 else "s"
