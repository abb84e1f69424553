"""`ccfallback env`: print the variables that point Claude Code at the server.

A shell evaluates stdout, so everything else goes to stderr. The rest of the module knows which
variables send Claude Code here, and which ones get in the way.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

import typer

from ccfallback.addresses import address
from ccfallback.cli.completions import find_shell
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import session_of
from ccfallback.errors import CcfallbackError

BASE_URL: Final = "ANTHROPIC_BASE_URL"
HINT_HEADERS: Final = "CLAUDE_CODE_GATEWAY_HINT_HEADERS"
"""With `1`, Claude Code says in headers what class a request has; never sent to a fallback."""
CUSTOM_HEADERS: Final = "ANTHROPIC_CUSTOM_HEADERS"
TOKEN_HEADER: Final = "x-ccf-api-key"

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

_PROXIES: Final = ("https_proxy", "http_proxy", "all_proxy")
_NO_PROXY: Final = ("NO_PROXY", "no_proxy")
_CREDENTIALS: Final = ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY")

POWERSHELL_QUOTES: Final = "'\u2018\u2019\u201a\u201b"
"""PowerShell treats typographic quotes as quotes, too."""

app = make_app()


class Shell(StrEnum):
    """The languages that `env` can print."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"
    JSON = "json"


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
"""What sets the variables in every new session, and the file to put it into."""


@app.command("env", epilog='Example: eval "$(ccfallback env)"')
def env(
    ctx: typer.Context,
    shell: Shell | None = typer.Option(None, help="The shell; by default that of $SHELL."),
    as_json: Json = False,
) -> None:
    """Print the lines that point Claude Code at the server."""
    from ccfallback.cli.running_server import configured_url, find_server_url

    session = session_of(ctx)
    console = session.console
    config = session.say_config_in_use()
    url = find_server_url(session.paths, config)
    target = url or configured_url(config)
    if target is None:
        raise CcfallbackError(
            "no server runs, and with server.port 0 each start picks a free port",
            "start it with `ccfallback serve`, or set a port: `ccfallback config set server.port "
            "8787`",
        )
    # The only command that prints a token: without it, every request gets a 401.
    token = config.tokens[0].token.reveal() if config.tokens else None
    variables = variables_for(session.environ, target, token)
    language = shell or _default_shell(session.environ)
    if as_json or language is Shell.JSON:
        console.as_json, language = True, Shell.JSON
    console.emit(
        variables, lambda: "\n".join(_assign(language, *each) for each in variables.items())
    )
    if url is None:
        console.say("no server is running yet; start it with `ccfallback serve`")
    if console.is_terminal:
        command, place = PERMANENT[language]
        # The console completes a command between backticks.
        line = console.add_file_options(f"`{command}`").strip("`")
        console.say(f"to set this in every new session, put {line} into {place}")


def _assign(shell: Shell, name: str, value: str) -> str:
    """The line that sets a variable."""
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
    """The user's shell, as far as the environment tells."""
    name = find_shell(environ)
    return Shell(name) if name in (Shell.ZSH, Shell.FISH, Shell.POWERSHELL) else Shell.BASH


# -- The environment of Claude Code


def variables_for(environ: Mapping[str, str], url: str, token: str | None) -> dict[str, str]:
    """The variables that send a client with this environment to `url`, with an access token.

    They hold no credential for Anthropic: the client keeps its own login. The user's own custom
    headers stay, one per line, as Claude Code reads them.
    """
    variables = {BASE_URL: url, HINT_HEADERS: environ.get(HINT_HEADERS) or "1"}
    if token is not None:
        others = [line for line in _header_lines(environ) if _header(line)[0] != TOKEN_HEADER]
        variables[CUSTOM_HEADERS] = "\n".join([*others, f"{TOKEN_HEADER}: {token}"])
    return variables


def find_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """What a client with this environment sends where an access token may be, by variable."""
    found = {name: environ[name].strip() for name in _CREDENTIALS if environ.get(name)}
    for line in _header_lines(environ):
        name, value = _header(line)
        if name == TOKEN_HEADER:
            found[CUSTOM_HEADERS] = value
    return found


def find_capturing_proxy(environ: Mapping[str, str], host: str = "127.0.0.1") -> str | None:
    """The variable that sends requests for `host` through an outgoing proxy.

    `None` if there is no such variable, or `NO_PROXY` exempts the host.
    """
    proxy = next((name for name in environ if name.lower() in _PROXIES and environ[name]), None)
    if proxy is None or all(_is_exempt(host, value) for value in _exemptions(environ)):
        return None
    return proxy


def loopback_exemptions(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that exempt this machine from an outgoing proxy; empty if none is needed."""
    if all(find_capturing_proxy(environ, host) is None for host in LOOPBACK[:2]):
        return {}
    given = next((environ[name] for name in _NO_PROXY if environ.get(name)), "")
    variables = {}
    for name in _NO_PROXY:
        value = environ.get(name) or given
        missing = [host for host in LOOPBACK if not _is_exempt(host, value)]
        variables[name] = ",".join([*filter(None, [value.strip().rstrip(",")]), *missing])
    return variables


def _exemptions(environ: Mapping[str, str]) -> Iterable[str]:
    """The values of both spellings of `NO_PROXY`: a program may read either."""
    return [environ[name] for name in _NO_PROXY if name in environ] or [""]


def _is_exempt(host: str, no_proxy: str) -> bool:
    for entry in re.split(r"[,\s]+", no_proxy.lower()):
        if entry == "*" or entry.strip("[].") == host:
            return True
    return False


def _header_lines(environ: Mapping[str, str]) -> list[str]:
    return [line for line in environ.get(CUSTOM_HEADERS, "").splitlines() if line.strip()]


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


def leads_to(url: str, own: str) -> bool:
    """Whether a base URL leads to the server at `own`, whatever its path."""
    try:
        return urlsplit(url).scheme == urlsplit(own).scheme and address(url) == address(own)
    except (ValueError, KeyError):
        return False
