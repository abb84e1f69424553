"""`ccfallback service`: the server in the hands of the system's service manager.

The unit names every file by its whole path, because a service has neither the folder nor the
variables of the shell that installed it.
"""

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ccfallback.cli.console import ExitCode, Table
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.phrases import join_names
from ccfallback.cli.service.managers import Launchd, Manager, Systemd, call
from ccfallback.cli.service.units import Service
from ccfallback.cli.session import Session, session_of
from ccfallback.errors import CcfallbackError

if TYPE_CHECKING:
    from ccfallback.config.model import Config

app = make_app(
    name="service",
    help="Run the server as a service of this system.",
    epilog="Example: ccfallback service install",
)


@app.command("install", epilog="Example: ccfallback service install --print")
def install(
    ctx: typer.Context,
    only_print: Annotated[
        bool, typer.Option("--print", help="Show what would be installed, and install nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Install the server as a service of yours, and start it."""
    from ccfallback import files

    session = session_of(ctx)
    console, manager = session.console, _manager(session)
    config = session.config()
    text = manager.text(_service(session, config))
    value = {"manager": manager.name, "path": str(manager.path), "content": text}
    if only_print:
        console.emit(value, lambda: text.rstrip("\n"))
        console.say(f"this would be {manager.path}")
        _say_all(session, _warnings(session, config))
        return
    changed = not manager.path.exists() or manager.path.read_text("utf-8") != text
    if changed:
        files.replace_atomically(manager.path, text.encode())
    started = manager.is_reachable()
    if started and (changed or not manager.is_active()):
        if manager.is_active():
            # launchd takes no file for a service that it has already.
            _tell(session, manager.stopping)
        _tell(session, manager.starting)
    console.emit_result({**value, "changed": changed, "started": started})
    if not started:
        commands = "; ".join(map(shlex.join, manager.starting))
        console.say(f"{manager.path} is installed; {manager.name} can't be reached from here")
        console.say(f"start it from your own session: {commands}")
    else:
        console.say(f"{manager.path} is {'installed' if changed else 'unchanged'}, and it runs")
        console.say(
            '`ccfallback service status` looks after it; `eval "$(ccfallback env)"` uses it'
        )
    _say_all(session, _warnings(session, config))


@app.command("uninstall", epilog="Example: ccfallback service uninstall")
def uninstall(ctx: typer.Context, as_json: Json = False) -> None:
    """Stop the service, and take everything away that `install` made."""
    session = session_of(ctx)
    console, manager = session.console, _manager(session)
    there = manager.path.exists()
    reachable = manager.is_reachable()
    if reachable and (there or manager.is_active()):
        _tell(session, manager.stopping)
    manager.path.unlink(missing_ok=True)
    if there:
        manager.leave_nothing()
    console.emit_result({"manager": manager.name, "path": str(manager.path), "removed": there})
    if not there:
        console.say(f"nothing to uninstall: there is no {manager.path}")
        return
    console.say(f"{manager.path} is gone; configuration, state and log stay")
    if not reachable:
        console.say(f"{manager.name} can't be reached from here: a server that runs goes on")


@app.command("status", epilog="Example: ccfallback service status")
def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Show whether the service is installed and runs; exit 1 if not."""
    from ccfallback.cli.running_server import find_registered_url

    session = session_of(ctx)
    manager = _manager(session)
    installed = manager.path.exists()
    active = manager.is_active() if manager.is_reachable() else None
    text = manager.text(_service(session, session.config()))
    current = installed and manager.path.read_text("utf-8", "replace") == text
    url = find_registered_url(session.paths)
    value = {
        "manager": manager.name,
        "path": str(manager.path),
        "installed": installed,
        "current": current,
        "active": active,
        "url": url,
    }
    known = {True: "running", False: "not running", None: f"{manager.name} can't be reached"}
    rows = [
        ("manager", manager.name),
        ("file", f"{manager.path}{'' if installed else ' (not installed)'}"),
        ("service", known[active]),
        ("server", url or "no server answers"),
    ]
    session.console.emit(value, lambda: Table(rows))
    if not installed:
        session.console.say("`ccfallback service install` installs it")
    elif not current:
        session.console.say("it is not what would be installed now: `ccfallback service install`")
    if not (installed and active):
        raise typer.Exit(ExitCode.FAILED)


def _manager(session: Session) -> Manager:
    """The manager of this system."""
    if sys.platform == "darwin":
        return Launchd(session.environ, Path.home())
    if sys.platform.startswith("linux"):
        return Systemd(session.environ, Path.home())
    raise CcfallbackError(
        f"there is no service manager known here for {sys.platform}",
        "let your system start `ccfallback serve` when you log in",
    )


def _service(session: Session, config: "Config") -> Service:
    """The server as the command line has it now, independent of folder and shell."""
    paths = session.paths
    argv = [
        *(sys.executable, "-m", "ccfallback"),
        *("--config", str(paths.config.absolute())),
        *("--state", str(paths.state.absolute())),
        *("--log-file", str(paths.log.absolute())),
        "serve",
    ]
    uses_programs = any(provider.key.command is not None for provider in config.active)
    path = session.environ.get("PATH", "")
    # A service finds programs in the system's own folders only.
    return Service(argv, {"PATH": path} if uses_programs and path else {})


def _warnings(session: Session, config: "Config") -> Iterator[str]:
    """What works in this shell and will not in a service."""
    variables = {each.key.env: each.name for each in config.active if each.key.env is not None}
    if variables:
        names, users = (
            join_names(list(variables)),
            join_names(list(dict.fromkeys(variables.values()))),
        )
        first = next(iter(variables.values()))
        yield (
            f"a service does not see the variables of your shell: {users} will have no key from "
            f"{names}; `ccfallback providers set {first} --api-key-stdin`, or api_key_command"
        )
    proxy = next(
        (
            name
            for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
            if session.environ.get(name)
        ),
        None,
    )
    if proxy is not None and config.proxy is None:
        yield (
            f"a service does not see {proxy}: "
            "`ccfallback config set network.proxy URL` holds everywhere"
        )
    if config.server.port == 0:
        yield "server.port is 0: the address is another one after each start"


def _tell(session: Session, commands: Sequence[Sequence[str]]) -> None:
    """Carry out a manager's commands. Raises where one fails."""
    for command in commands:
        complaint = call(command, session.environ)
        if complaint is not None:
            raise CcfallbackError(
                f"`{shlex.join(command)}` failed: {complaint}",
                "run it yourself to see more; `ccfallback doctor` looks at the rest",
            )


def _say_all(session: Session, lines: Iterable[str]) -> None:
    for line in lines:
        session.console.say(line)
