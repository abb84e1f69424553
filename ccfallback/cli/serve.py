"""`ccfallback serve`: the proxy in the foreground, with a readable log of its requests."""

import typer

from ccfallback.cli import serving
from ccfallback.cli.log_lines import Level
from ccfallback.cli.options import make_app
from ccfallback.cli.session import session_of

app = make_app()


@app.command("serve", epilog="Example: ccfallback serve --port 8787")
def serve(
    ctx: typer.Context,
    host: str | None = typer.Option(
        None, metavar="HOST", help="Where to listen; beyond loopback only with access tokens."
    ),
    port: int | None = typer.Option(
        None, min=0, max=65535, metavar="PORT", help="The port; 0 picks a free one."
    ),
    log_level: Level | None = typer.Option(None, metavar="LEVEL", help="How much is logged."),
    background: bool = typer.Option(
        False, "-d", "--background", help="Return when it runs; `ccfallback stop` stops it."
    ),
) -> None:
    """Run the proxy in the foreground until Ctrl-C."""
    level = None if log_level is None else log_level.value
    if background:
        from ccfallback.cli.background import start

        start(session_of(ctx), serving.to_words(host, port, level))
        return
    serving.serve(session_of(ctx), host, port, level)
