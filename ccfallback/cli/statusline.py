"""`ccfallback statusline`: the command with its help and its options; see `statusline_view`."""

import typer

from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import session_of

app = make_app()


@app.command("statusline", epilog="Example: ccfallback statusline")
def statusline(ctx: typer.Context, as_json: Json = False) -> None:
    """Print one line for Claude Code's status line.

    It shows the provider that is tried first, cooldowns and their ends, and whether the proxy is
    down. It reads what Claude Code pipes to it and always exits with 0.

    To show it in Claude Code, add this to ~/.claude/settings.json by hand:

    {"statusLine": {"type": "command", "command": "ccfallback statusline"}}
    """
    from ccfallback.cli.statusline_view import read_input, status_line

    session = session_of(ctx)
    line = status_line(session.paths, session.environ, read_input())
    session.console.emit(line, lambda: line.text)
