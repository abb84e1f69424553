"""`ccfallback env`: the lines that point Claude Code at the server.

Its stdout is made to be evaluated by a shell, so everything else goes to stderr.
"""

import os
import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import PurePath
from typing import Final

import typer

from ccfallback.cli.options import Json, group
from ccfallback.cli.session import session_of

app = group()


class Shell(StrEnum):
    """Languages in which a variable can be set."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"
    JSON = "json"


POWERSHELL_QUOTES: Final = "'\u2018\u2019\u201a\u201b"
"""PowerShell takes typographic quotes for quotes as well."""

PERMANENT: Final[Mapping[Shell, tuple[str, str]]] = {
    Shell.BASH: ('eval "$(ccfallback env)"', "~/.bashrc"),
    Shell.ZSH: ('eval "$(ccfallback env)"', "~/.zshrc"),
    Shell.FISH: ("ccfallback env --shell fish | source", "~/.config/fish/config.fish"),
    Shell.POWERSHELL: (
        "ccfallback env --shell powershell | Out-String | Invoke-Expression",
        "the file that $PROFILE names",
    ),
    Shell.JSON: ("these variables", '"env" in ~/.claude/settings.json'),
}
"""What sets the variables for now, and where it has to stand to set them for good."""


@app.command("env", epilog='Example: eval "$(ccfallback env)"')
def env(
    ctx: typer.Context,
    shell: Shell | None = typer.Option(None, help="The language; by default that of $SHELL."),
    as_json: Json = False,
) -> None:
    """Print the lines that point Claude Code at the server."""
    from ccfallback.cli.client_environment import pointing
    from ccfallback.cli.running import configured_url, running_url

    session = session_of(ctx)
    console = session.console
    config = session.config()
    url = running_url(session.paths, config)
    # The one place that shows a token: a client without it gets nothing but 401.
    token = config.tokens[0].token.reveal() if config.tokens else None
    variables = pointing(session.environ, url or configured_url(config), token)
    language = shell or _default_shell(session.environ)
    if as_json or language is Shell.JSON:
        console.as_json, language = True, Shell.JSON
    console.emit(variables, lambda: "\n".join(lines(language, variables)))
    if url is None:
        console.say("no server answers yet; start it with `ccfallback serve`")
    if console.has_reader:
        command, place = PERMANENT[language]
        console.say(f"for good: put {command} into {place}")


def lines(shell: Shell, variables: Mapping[str, str]) -> list[str]:
    """The lines that set the variables."""
    return [_line(shell, name, value) for name, value in variables.items()]


def _line(shell: Shell, name: str, value: str) -> str:
    match shell:
        case Shell.FISH:
            escaped = value.replace("\\", "\\\\").replace("'", "\\'")
            return f"set -gx {name} '{escaped}'"
        case Shell.POWERSHELL:
            escaped = "".join(mark * 2 if mark in POWERSHELL_QUOTES else mark for mark in value)
            return f"$Env:{name} = '{escaped}'"
        case _:
            return f"export {name}={shlex.quote(value)}"


def _default_shell(environ: Mapping[str, str]) -> Shell:
    """The language of the person's shell, as far as one can know."""
    name = PurePath(environ.get("SHELL", "")).stem
    if (not name and os.name == "nt") or name == "pwsh":
        return Shell.POWERSHELL
    return Shell(name) if name in ("zsh", "fish") else Shell.BASH
