"""`ccfallback serve`: the proxy in the foreground."""

from enum import StrEnum

import typer

from ccfallback.cli.options import group
from ccfallback.cli.session import session_of

app = group()


class Level(StrEnum):
    """Log levels, as an option takes them."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@app.command("serve", epilog="Example: ccfallback serve --port 8787")
def serve(
    ctx: typer.Context,
    host: str | None = typer.Option(
        None, metavar="HOST", help="Where to listen; beyond loopback only with access tokens."
    ),
    port: int | None = typer.Option(
        None, min=0, max=65535, metavar="PORT", help="The port; 0 picks a free one."
    ),
    log_level: Level | None = typer.Option(None, help="How much is logged."),
) -> None:
    """Run the proxy in the foreground until Ctrl-C."""
    from ccfallback.proxy.serve import main

    session = session_of(ctx)
    level = None if log_level is None else log_level.value
    main(session.paths, host, port, level, session.console)
