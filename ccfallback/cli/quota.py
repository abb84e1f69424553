"""`ccfallback quota`: the windows of the primary's plan; and how all commands show them.

`quota`, `status` and `top` print windows in the same form.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import typer

from ccfallback.cli.console import Cell, Styled, Table
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.phrases import (
    format_ago,
    format_ahead,
    format_clock,
    join_names,
    wrap_text,
)
from ccfallback.cli.session import session_of
from ccfallback.policy.quota_report import QuotaReport, WindowReport, make_reports

if TYPE_CHECKING:
    from ccfallback.config.model import Config, Quota
    from ccfallback.state.store import Snapshot

app = make_app()

BAR: Final = 10
"""Characters of a bar."""

NOTHING: Final = "no answer of the primary has said anything about plan windows yet"


@app.command("quota", epilog="Example: ccfallback quota --json")
def quota(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the windows of the primary's plan: used, resets, forecast.

    They are as the last answers of the primary told them, for each login. It sends no request.
    """
    session = session_of(ctx)
    config, problem = session.config_in_use(needs_server=False)
    snapshot, now = session.store.peek(), session.now()
    reports = read_reports(snapshot, config, now)
    troubles = [each for each in (problem, session.state_trouble(snapshot)) if each]
    value = {
        "provider": config.primary.name,
        "switchAt": config.quota.switch_at,
        "spareFrom": config.quota.spare_from,
        "spareClasses": list(config.quota.spare_classes),
        "windows": reports[0].windows if reports else [],
        "logins": reports,
        "troubles": troubles,
    }

    def page() -> list[Table | str]:
        width = session.console.width
        parts: list[Table | str] = [
            session.console.paint(f"! {each}", "yellow") for each in troubles
        ]
        if not reports:
            return [*parts, wrap_text(f"{NOTHING}; API keys have none", width)]
        for report in reports:
            parts += [
                describe_login(report, now),
                windows_table(report, now),
                wrap_text("\n".join(describe_policy(report, config.quota, now)), width),
            ]
        return parts

    session.console.emit(value, page)


def read_reports(snapshot: "Snapshot", config: "Config", now: float) -> list[QuotaReport]:
    """The reports on all logins of the configured primary, the one that was read last first."""
    from ccfallback.policy.fingerprints import fingerprint
    from ccfallback.state.quotas import QUOTAS, readings_for

    readings = readings_for(QUOTAS.read(snapshot.sections), fingerprint(config.primary))
    return make_reports(readings, config.quota, now)


def reports_json(reports: Sequence[QuotaReport]) -> list[dict[str, Any]]:
    """The windows of each login, without what only `quota` shows."""
    return [
        {"login": each.login, "readAt": each.read_at, "action": each.action,
         "windows": each.windows}
        for each in reports
    ]  # fmt: skip


def describe_login(report: QuotaReport, now: float) -> str:
    """Whose windows these are, and how old."""
    login = f"login {report.login[:6]}" if report.login else "the configured key"
    status = f": {report.status.replace('_', ' ')}" if report.status else ""
    return f"{login}, read {format_ago(report.read_at / 1000, now)}{status}"


def windows_table(report: QuotaReport, now: float) -> Table:
    """The windows of a login."""
    rows: list[Sequence[Cell]] = [
        (each.title, _draw_used(each), *_describe_times(each, now)) for each in report.windows
    ]
    return Table(rows, ("window", "used", "resets", "forecast"))


def window_lines(reports: Sequence[QuotaReport], now: float) -> Iterator[Styled]:
    """A short line for each window, for a page that shows more than windows."""
    for report in reports:
        whose = f"login {report.login[:6]} " if len(reports) > 1 and report.login else ""
        for each in report.windows:
            used = _draw_used(each)
            words = [f"{whose}{each.window} {used.text}"]
            if each.resets_at is not None:
                words.append(f"resets {format_clock(each.resets_at / 1000, now)}")
            _, ahead = _describe_times(each, now)
            words += [ahead] if ahead != "-" else []
            yield Styled(", ".join(words), "" if used.style == "green" else used.style)
        if report.why:
            kind = "all requests" if report.action == "skip" else ", ".join(report.spared)
            yield Styled(f"{whose}fallbacks first{_until(report, now)}: {kind}", "yellow")


def describe_policy(report: QuotaReport, rules: "Quota", now: float) -> Iterator[str]:
    """What happens to requests of a login."""
    if report.refused_until is not None:
        when = format_ahead(report.refused_until / 1000, now)
        yield f"the primary has refused it; the plan serves again {when}"
    elif report.paid:
        yield "the plan is used up: requests are served from paid usage"
    if report.why:
        yield _describe_action(report, now)
    elif rules.switch_at < 1.0:
        share = f"{rules.switch_at * 100:.0f} %"
        yield f"the primary is tried first; from {share} on the fallbacks are"
    elif report.refused_until is None:
        yield "the primary is tried first, until it refuses"
    if not report.why and rules.spare_from < 1.0:
        share, classes = f"{rules.spare_from * 100:.0f} %", join_names(rules.spare_classes)
        yield f"from {share} on {classes} requests go to the fallbacks first"
    if report.overage.disabled_reason:
        yield f"paid usage is off: {report.overage.disabled_reason}"
    if report.slow.offer or report.slow.status:
        yield f"a slower mode is offered: {report.slow.offer or report.slow.status}"
    if report.fallback:
        yield f"a smaller model: {report.fallback}"


def _describe_action(report: QuotaReport, now: float) -> str:
    kind = "all" if report.action == "skip" else join_names(report.spared)
    return f"{kind} requests go to the fallbacks first{_until(report, now)}: {report.why}"


def _until(report: QuotaReport, now: float) -> str:
    return "" if report.until is None else f" until {format_clock(report.until / 1000, now)}"


def _draw_used(window: WindowReport) -> Styled:
    used = window.utilization
    if used is None:
        return Styled(window.status or "not told", "red" if window.status == "rejected" else "dim")
    filled = min(BAR, max(round(used * BAR), 1 if used > 0 else 0))
    style = "red" if used >= 0.9 or window.status == "rejected" else "green"
    if style == "green" and (used >= 0.75 or window.status == "allowed_warning"):
        style = "yellow"
    return Styled(f"{'█' * filled}{'░' * (BAR - filled)} {used * 100:3.0f} %", style)


def _describe_times(window: WindowReport, now: float) -> tuple[str, str]:
    """When it resets, and when it will be full; `-` for what is not known."""
    reset = None if window.resets_at is None else window.resets_at / 1000
    resets = "-" if reset is None else format_ahead(reset, now)
    if window.full_at is None:
        return resets, "-"
    full = window.full_at / 1000
    if reset is not None and full >= reset:
        at_reset = (window.utilization_at_reset or 0.0) * 100
        return resets, f"{at_reset:.0f} % at the reset"
    return resets, f"full at {format_clock(full, now)}"
