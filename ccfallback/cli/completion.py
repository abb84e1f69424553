"""`ccfallback completion`: the script by which a shell completes our commands."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import Final, NamedTuple

import typer

from ccfallback.cli.completions import find_shell, render_script
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import session_of
from ccfallback.errors import CcfallbackError

app = make_app()


class Shell(StrEnum):
    """The shells that have a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


class Place(NamedTuple):
    """Where a shell looks for the script of a program."""

    base: str
    """The variable with the user's folder of such files."""
    usual: str
    """That folder without the variable, below the home."""
    file: str
    needs: str = ""
    """What else has to be so, for the user; `{path}` and `{folder}` are the script's."""


PLACES: Final[Mapping[Shell, Place]] = {
    Shell.BASH: Place(
        "XDG_DATA_HOME",
        ".local/share",
        "bash-completion/completions/ccfallback",
        "this needs the package bash-completion; without it, put `source {path}` into ~/.bashrc",
    ),
    Shell.ZSH: Place(
        "XDG_DATA_HOME",
        ".local/share",
        "zsh/site-functions/_ccfallback",
        "this needs `fpath=({folder} $fpath)` in ~/.zshrc, before `compinit`",
    ),
    Shell.FISH: Place("XDG_CONFIG_HOME", ".config", "fish/completions/ccfallback.fish"),
    Shell.POWERSHELL: Place(
        "XDG_CONFIG_HOME",
        ".config",
        "powershell/ccfallback.ps1",
        "this needs `. {path}` in the file that $PROFILE names",
    ),
}


@app.command(
    "completion",
    epilog="Example: ccfallback completion --install\nccfallback completion bash",
)
def completion(
    ctx: typer.Context,
    shell: Shell | None = typer.Argument(
        None, metavar="SHELL", help="bash, zsh, fish or powershell; by default that of $SHELL."
    ),
    install: bool = typer.Option(
        False, "--install", help="Write it to where the shell looks for it."
    ),
    as_json: Json = False,
) -> None:
    """Print the completion script of a shell, or install it.

    pipx installs the scripts of bash and fish, uv does not. `ccfallback help files` says where each
    belongs.
    """
    session = session_of(ctx)
    shell = shell or _require_shell(find_shell(session.environ))
    script = render_script(shell)
    if not install:
        session.console.emit({"shell": shell, "script": script}, lambda: script.rstrip("\n"))
        return
    path = find_place(shell, session.environ)
    changed = _write(path, script)
    session.console.emit_result({"shell": shell, "path": str(path), "changed": changed})
    what = "was written to" if changed else "is already in"
    session.console.say(f"the completion of {shell} {what} {path}; undo: `rm {quote(str(path))}`")
    needs = PLACES[shell].needs.format(path=quote(str(path)), folder=quote(str(path.parent)))
    if needs:
        session.console.say(needs)
    session.console.say("it works in every new shell")


def _require_shell(name: str) -> Shell:
    if name not in [*Shell]:
        raise CcfallbackError(f"there is no script for {name}", f"name one of {', '.join(Shell)}")
    return Shell(name)


def find_place(shell: Shell, environ: Mapping[str, str]) -> Path:
    """The path of a shell's script."""
    place = PLACES[shell]
    base = environ.get(place.base, "")
    return (Path(base) if base.startswith("/") else Path.home() / place.usual) / place.file


def _write(path: Path, script: str) -> bool:
    """Write the script; whether that changed anything."""
    from ccfallback.files import read_regular, replace_atomically

    data = script.encode()
    try:
        if path.exists() and read_regular(path) == data:
            return False
        replace_atomically(path, data)
    except OSError as error:
        raise CcfallbackError(
            f"{path} can't be written: {error.strerror}",
            "`ccfallback completion SHELL` prints the script: put it where your shell looks",
        ) from None
    return True
