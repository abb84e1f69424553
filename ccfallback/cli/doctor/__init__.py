"""`ccfallback doctor`: find what is wrong with this installation, and what to do about it.

No check changes anything, and none uses the network without `--online`. A broken configuration is
a finding, so this command works when others refuse to.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

import typer

from ccfallback.cli.console import Cell, ExitCode, Styled, Table
from ccfallback.cli.doctor.context import DoctorContext, Finding, Severity
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.phrases import join_names
from ccfallback.cli.session import session_of
from ccfallback.words import pluralize

app = make_app()

SIGNS: Final[Mapping[Severity, Styled]] = {
    Severity.INFO: Styled("✓", "green"),
    Severity.WARNING: Styled("!", "yellow"),
    Severity.ERROR: Styled("✗", "red"),
}


@app.command("doctor", epilog="Example: ccfallback doctor --online")
def doctor(
    ctx: typer.Context,
    online: Annotated[
        bool, typer.Option("--online", help="Also send a one-token request to each provider.")
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Make the files private to you (chmod 600).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find what is wrong, and show what to do about it.

    Exit 1 if something is broken; warnings do not count. Changes nothing without --fix, and sends
    nothing without --online.
    """
    from ccfallback.cli.doctor.checks import CHECKS

    session = session_of(ctx)
    context = DoctorContext(session, fix=fix, online=online)
    complete = session.console.add_file_options
    found = [
        replace(finding, remedy=complete(finding.remedy))
        for check in CHECKS
        for finding in check(context)
    ]
    ok = all(each.severity is not Severity.ERROR for each in found)
    value = {"ok": ok, "checks": [_finding_json(each) for each in found]}
    session.console.emit(value, lambda: _table(found))
    session.console.say(_summary(found, online=online))
    if not ok:
        raise typer.Exit(ExitCode.FAILED)


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "ok": finding.ok,
        "severity": finding.severity.value,
        "message": finding.message,
        "remedy": finding.remedy,
    }


def _table(found: list[Finding]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for each in found:
        rows.append((SIGNS[each.severity], each.id, each.message))
        if each.remedy:
            rows.append(("", "", Styled(f"→ {each.remedy}", "bold")))
    return Table(rows)


def _summary(found: list[Finding], *, online: bool) -> str:
    counts = [
        pluralize(count, severity.value)
        for severity in (Severity.ERROR, Severity.WARNING)
        if (count := sum(each.severity is severity for each in found))
    ]
    more = "" if online else "; --online also tries the providers"
    return f"{join_names(counts) or 'nothing is wrong'}{more}"
