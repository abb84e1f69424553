"""`ccfallback statusline`: the command with its help and its options; see `statusline_view`."""

import sys
from pathlib import Path
from shlex import quote, split
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import session_of

if TYPE_CHECKING:
    from ccfallback.cli.session import Session

app = make_app()


@app.command("statusline", epilog="Example: ccfallback statusline --install")
def statusline(
    ctx: typer.Context,
    then: Annotated[
        str, typer.Option("--then", metavar="CMD", help="Put the output of CMD before it.")
    ] = "",
    install: Annotated[
        bool, typer.Option("--install", help="Print the setting of Claude Code that shows it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print one line for Claude Code's status line.

    At most 60 columns: the provider that is tried first, the next one that is back, what is left
    of the plan's windows, the cost of today, and whether the proxy is down. It reads what Claude
    Code pipes to it, and always exits with 0.
    """
    from ccfallback.cli.statusline_view import make, read_input, status_line

    session = session_of(ctx)
    console = session.console
    if install:
        _install(session, then)
    elif as_json:
        console.emit(status_line(session.paths, session.environ, read_input()), str)
    else:
        console.write(make(session.environ, then, session.paths) + "\n")


def _install(session: "Session", then: str) -> None:
    """Print the setting; a line that Claude Code shows already stays, before ours."""
    settings = Path(session.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")
    settings /= "settings.json"
    own = find_command(settings)
    is_ours = "ccfallback" in own and "statusline" in own
    then = then or ("" if is_ours else own)
    words = [*split(own_command()), *split(session.console.files), "statusline"]
    words += ["--then", then] if then else []
    setting = {"statusLine": {"type": "command", "command": " ".join(map(quote, words))}}
    text = msgspec.json.format(msgspec.json.encode(setting), indent=2).decode()
    session.console.write(f"{text}\n")
    kept = "; your own line stays before it" if then else ""
    session.console.say(f"put this into {settings}{kept}")


def find_command(settings: Path) -> str:
    """The command of the status line in Claude Code's settings; empty if there is none."""
    try:
        found = msgspec.json.decode(settings.read_bytes())["statusLine"]["command"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return found if isinstance(found, str) else ""


def own_command() -> str:
    """What starts this program from anywhere."""
    started = Path(sys.argv[0])
    if started.stem == "ccfallback":
        return quote(str(started.absolute()))
    return f"{quote(sys.executable)} -m ccfallback"
