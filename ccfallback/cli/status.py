"""`ccfallback status`: is the proxy up, where, how are its providers, what came last."""

from typing import TYPE_CHECKING, Final

import typer

from ccfallback.cli.console import ExitCode
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import session_of

if TYPE_CHECKING:
    from ccfallback.cli.console import Table

app = make_app()

SHOWN: Final = 5
"""How many requests are shown."""


@app.command("status", epilog="Example: ccfallback status --json")
def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Show whether the proxy is up, provider health and recent requests.

    Exits with 0 if it is up, else with 1.
    """
    from ccfallback.cli.caps import describe_reached, find_limits, limit_json
    from ccfallback.cli.chain_check import chain_summary, describe_check, summary_json
    from ccfallback.cli.health import health_json, health_table
    from ccfallback.cli.quota import read_reports, reports_json, window_lines
    from ccfallback.cli.requests_view import (
        count_uncounted,
        describe_uncounted,
        latest_requests,
        request_json,
        requests_table,
    )
    from ccfallback.cli.running_server import describe_absence, find_servers, servers_json
    from ccfallback.policy.breaker import CLOSED

    session = session_of(ctx)
    config, problem = session.config_in_use(needs_server=False)
    states, now = session.states(config), session.now()
    snapshot = session.store.peek()
    quotas = read_reports(snapshot, config, now)
    unreadable = session.log_trouble
    troubles = [problem, session.state_trouble(snapshot), unreadable]
    servers = find_servers(session.paths, config)
    limits = find_limits(session, config, now)
    check = chain_summary(snapshot.sections, config)
    shown = [(each, states.get(each.name, CLOSED)) for each in config.chain]
    requests = latest_requests(session.paths.log, SHOWN)
    value = {
        **servers_json(servers),
        "providers": [health_json(each, state, now) for each, state in shown],
        "quotas": reports_json(quotas),
        "requests": [request_json(record) for record in requests],
        "check": summary_json(check),
        "caps": [limit_json(limit) for limit in limits],
        "troubles": [each for each in troubles if each],
    }

    def page() -> "list[Table | str]":
        paint = session.console.paint
        # `session.states` reports what is wrong with the state.
        heads = [paint(f"! {each}", "yellow") for each in (problem, unreadable) if each]
        heads += [paint(each.describe(now), "green") for each in servers]
        if not servers:
            heads.append(paint(describe_absence(config), "red"))
        head = "\n".join(heads)
        parts: list[Table | str] = [head, health_table(shown, now, session.console.width)]
        lines = window_lines(quotas, now)
        if windows := "\n".join(paint(*each) for each in lines):
            parts.append(windows)
        if reached := describe_reached(limits, now):
            parts.append("\n".join(paint(f"✗ {each}", "red") for each in reached))
        if check is not None:
            style = "yellow" if check.failed else "green"
            failed = f"; not ready: {', '.join(check.failed)}" if check.failed else ""
            parts.append(paint(describe_check(check, now) + failed, style))
        if requests:
            parts.append(requests_table(requests, session.console.width))
        if note := describe_uncounted(count_uncounted(requests)):
            parts.append(note)
        return parts

    session.console.emit(value, page)
    if not servers:
        session.console.say("`ccfallback serve` starts it")
        raise typer.Exit(ExitCode.FAILED)
