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
    from ccfallback.cli.breaker import health_json, health_table
    from ccfallback.cli.requests_view import latest_requests, request_json, requests_table
    from ccfallback.cli.running_server import configured_url, find_servers, servers_json
    from ccfallback.policy.breaker import CLOSED

    session = session_of(ctx)
    config = session.config()
    states, now = session.states(config), session.now()
    servers = find_servers(session.paths, config)
    shown = [(each, states.get(each.name, CLOSED)) for each in config.chain]
    requests = latest_requests(session.paths.log, SHOWN)
    value = {
        **servers_json(servers),
        "providers": [
            health_json(each.name, state, now, disabled=each.disabled) for each, state in shown
        ],
        "requests": [request_json(record) for record in requests],
    }

    def page() -> "list[Table | str]":
        down = f"✗ down: no ccfallback answers at {configured_url(config)}"
        heads = [session.console.paint(each.describe(now), "green") for each in servers]
        head = "\n".join(heads) or session.console.paint(down, "red")
        parts: list[Table | str] = [head, health_table(shown, now)]
        return [*parts, requests_table(requests, session.console.width)] if requests else parts

    session.console.emit(value, page)
    if not servers:
        session.console.say("`ccfallback serve` starts it")
        raise typer.Exit(ExitCode.FAILED)
