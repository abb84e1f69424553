"""`ccfallback doctor`: what is wrong with this installation, and what to do about it.

A check is a function that takes a `DoctorContext` and yields its findings; each check is one row
of `CHECKS`. No check changes anything, and none uses the network unless `--online` is given. A
broken configuration is a finding here, so this command works where others refuse.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

import typer

from ccfallback.cli.console import Cell, ExitCode, Styled, Table
from ccfallback.cli.doctor import chain, client, files, machine, online
from ccfallback.cli.doctor.case import DoctorContext, Finding, Severity
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import session_of

app = make_app()

CHECKS: Final[tuple[Callable[[DoctorContext], Iterable[Finding]], ...]] = (
    machine.version,
    files.config,
    files.permissions,
    files.state,
    files.log,
    files.disk,
    chain.fallbacks,
    chain.keys,
    chain.cooldowns,
    chain.clock,
    machine.port,
    client.client,
    client.tokens,
    client.proxies,
    online.providers,
)
"""All checks, in the order in which their findings are shown."""

SIGNS: Final[Mapping[Severity, Styled]] = {
    Severity.INFO: Styled("✓", "green"),
    Severity.WARNING: Styled("!", "yellow"),
    Severity.ERROR: Styled("✗", "red"),
}


@app.command("doctor", epilog="Example: ccfallback doctor --online")
def doctor(
    ctx: typer.Context,
    ask_providers: Annotated[
        bool, typer.Option("--online", help="Ask each provider for one token, too.")
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Take the permissions of files away from others.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find what is wrong, and say what to do about it.

    Exit 1 where something is broken; what is only doubtful does not count. Nothing is changed but
    by --fix, and no provider is asked but by --online.
    """
    session = session_of(ctx)
    case = DoctorContext(session, fix=fix, online=ask_providers)
    advised = session.console.add_file_options
    found = [
        replace(finding, remedy=advised(finding.remedy))
        for check in CHECKS
        for finding in check(case)
    ]
    ok = all(each.severity is not Severity.ERROR for each in found)
    session.console.emit(
        {"ok": ok, "checks": [_facts(each) for each in found]}, lambda: _table(found)
    )
    session.console.say(_summary(found, online=ask_providers))
    if not ok:
        raise typer.Exit(ExitCode.FAILED)


def _facts(finding: Finding) -> dict[str, Any]:
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
        sign = SIGNS[each.severity]
        rows.append((sign, each.id, each.message))
        if each.remedy:
            rows.append(("", "", Styled(f"→ {each.remedy}", "bold")))
    return Table(rows)


def _summary(found: list[Finding], *, online: bool) -> str:
    errors = sum(each.severity is Severity.ERROR for each in found)
    warnings = sum(each.severity is Severity.WARNING for each in found)
    counts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((errors, "error"), (warnings, "warning"))
        if count
    ]
    more = "" if online else "; --online asks the providers, too"
    return f"{' and '.join(counts) or 'nothing is wrong'}{more}"
