"""`ccfallback completion`: the script by which a shell completes our commands."""

from enum import StrEnum

import typer

from ccfallback.cli.completions import render_script
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import session_of

app = make_app()


class Shell(StrEnum):
    """The shells that have a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


@app.command(
    "completion",
    epilog="Example: ccfallback completion bash",
)
def completion(
    ctx: typer.Context,
    shell: Shell = typer.Argument(..., help="bash, zsh, fish or powershell."),
    as_json: Json = False,
) -> None:
    """Print the completion script of a shell.

    pipx installs the scripts of bash and fish; `ccfallback help files` says where others belong.
    """
    script = render_script(shell)
    session_of(ctx).console.emit({"shell": shell, "script": script}, lambda: script.rstrip("\n"))
