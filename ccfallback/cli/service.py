"""`ccfallback service`: run the server as a user service of systemd or launchd.

The unit names every file by its absolute path, because a service has neither the working directory
nor the variables of the shell that installed it.
"""

import os
import plistlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ccfallback.cli.background import server_argv
from ccfallback.cli.console import ExitCode, Table
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.phrases import join_names
from ccfallback.cli.session import Session, session_of
from ccfallback.errors import CcfallbackError
from ccfallback.paths import CERTIFICATE_VARIABLES

if TYPE_CHECKING:
    from ccfallback.config.model import Config

UNIT: Final = "ccfallback.service"
"""The name of the systemd unit."""

LABEL: Final = "ccfallback.serve"
"""The name of the launchd agent."""

STOP_SECONDS: Final = 100
"""How long a stop may take: `server.drain_delay` is 60 s at most, and then answers have 30 s."""

PATIENCE: Final = STOP_SECONDS + 10.0
"""Seconds that a command of the manager may take; stopping waits for streams."""

RESTART_SECONDS: Final = 5

PRIVATE_UMASK: Final = 0o077

_PLAIN: Final = re.compile(r"[\w@/.,:=+-]+", re.ASCII)
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "%": "%%", "\n": "\\n", "\t": "\\t", "\r": "\\r"}

app = make_app(
    name="service",
    help="Run the server as a user service (systemd or launchd).",
    epilog="Example: ccfallback service install",
)


@app.command("install", epilog="Example: ccfallback service install --print")
def install(
    ctx: typer.Context,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the unit file, and install nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Install and start the server as a user service."""
    from ccfallback import files

    session = session_of(ctx)
    console, manager = session.console, _manager(session)
    session.warn_of_missing_config()
    config = session.config(may_be_missing=True)
    text = manager.render(_service(session, config))
    value = {"manager": manager.name, "path": str(manager.path), "content": text}
    if only_print:
        console.emit(value, lambda: text.rstrip("\n"))
        console.say(f"this would be {manager.path}")
    else:
        changed = not manager.path.exists() or manager.path.read_text("utf-8") != text
        if changed:
            files.replace_atomically(manager.path, text.encode())
        started = manager.is_reachable()
        if started and (changed or not manager.is_active()):
            if manager.is_active():
                # launchd does not load the file of a service that it has already loaded.
                manager.run_each(manager.stop_commands)
            manager.run_each(manager.start_commands)
        console.emit_result({**value, "changed": changed, "started": started})
        if started:
            console.say(f"{manager.path} {'installed' if changed else 'unchanged'}; it is running")
            console.say(
                'check it with `ccfallback service status`, use it with `eval "$(ccfallback env)"`'
            )
        else:
            commands = "; ".join(map(shlex.join, manager.start_commands))
            console.say(f"{manager.path} installed; {manager.name} can't be reached from here")
            console.say(f"start it from your own session: {commands}")
    for warning in _warnings(session, config):
        console.say(warning)


@app.command("uninstall", epilog="Example: ccfallback service uninstall")
def uninstall(ctx: typer.Context, as_json: Json = False) -> None:
    """Stop the service, and remove everything that `install` created."""
    session = session_of(ctx)
    console, manager = session.console, _manager(session)
    existed = manager.path.exists()
    reachable = manager.is_reachable()
    if reachable and (existed or manager.is_active()):
        manager.run_each(manager.stop_commands)
    manager.path.unlink(missing_ok=True)
    if existed and manager.name == "systemd":
        _clean_up_systemd(manager, Path.home())
    console.emit_result({"manager": manager.name, "path": str(manager.path), "removed": existed})
    if not existed:
        console.say(f"nothing to uninstall: {manager.path} does not exist")
        return
    console.say(f"{manager.path} removed; configuration, state and log stay")
    if not reachable:
        console.say(f"{manager.name} can't be reached from here: a running server keeps running")


@app.command("status", epilog="Example: ccfallback service status")
def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Show whether the service is installed and runs."""
    from ccfallback.cli.running_server import find_registered_url

    session = session_of(ctx)
    manager = _manager(session)
    installed = manager.path.exists()
    active = manager.is_active() if manager.is_reachable() else None
    text = manager.render(_service(session, session.say_config_in_use(needs_server=False)))
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
    words = {True: "running", False: "not running", None: f"{manager.name} can't be reached"}
    rows = [
        ("manager", manager.name),
        ("file", f"{manager.path}{'' if installed else ' (not installed)'}"),
        ("service", words[active]),
        ("server", url or "no server answers"),
    ]
    session.console.emit(value, lambda: Table(rows))
    if not installed:
        session.console.say("install it: `ccfallback service install`")
    elif not current:
        session.console.say("the installed file is outdated: `ccfallback service install`")
    if not (installed and active):
        raise typer.Exit(ExitCode.FAILED)


@app.command("start", epilog="Example: ccfallback service start")
def start(ctx: typer.Context, as_json: Json = False) -> None:
    """Start the installed service."""
    session, manager = _installed(ctx)
    was_active = manager.is_active()
    if not was_active:
        manager.run_each(manager.resume_commands)
    session.console.emit_result(
        {"manager": manager.name, "active": True, "changed": not was_active}
    )
    session.console.say("it runs already" if was_active else "the service is running")


@app.command("stop", epilog="Example: ccfallback service stop")
def stop(ctx: typer.Context, as_json: Json = False) -> None:
    """Stop the service, until `start` or the next login."""
    session, manager = _installed(ctx)
    was_active = manager.is_active()
    if was_active:
        manager.run_each(manager.halt_commands)
    session.console.emit_result({"manager": manager.name, "active": False, "changed": was_active})
    session.console.say("the service has stopped" if was_active else "it does not run")


@app.command("restart", epilog="Example: ccfallback service restart")
def restart(ctx: typer.Context, as_json: Json = False) -> None:
    """Restart the service; answers may finish first."""
    session, manager = _installed(ctx)
    # launchd can only restart what it has loaded.
    commands = manager.restart_commands if manager.is_active() else manager.resume_commands
    manager.run_each(commands)
    session.console.emit_result({"manager": manager.name, "active": True, "changed": True})
    session.console.say("the service has been restarted")


@app.command("logs", epilog="Example: ccfallback service logs -f")
def logs(
    ctx: typer.Context,
    count: Annotated[
        int, typer.Option("-n", "--lines", min=0, metavar="N", help="How many lines.")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Keep printing new lines.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the last lines of the service's log.

    They are those of `ccfallback logs tail`, which has filters.
    """
    from ccfallback.cli.logs import Format, tail

    session, manager = _installed(ctx)
    tail(ctx, count, follow, None, None, None, None, None, Format.PRETTY, as_json)
    if manager.name == "systemd" and not manager.is_active():
        session.console.say(f"it does not run; why: `journalctl --user -u {UNIT} -n 20`")


def _installed(ctx: typer.Context) -> "tuple[Session, Manager]":
    """The session, and the manager; raises `CcfallbackError` if nothing is installed."""
    session = session_of(ctx)
    manager = _manager(session)
    if not manager.path.exists():
        raise CcfallbackError("the service is not installed", "`ccfallback service install`")
    return session, manager


def manager_of_server(session: Session) -> "Manager | None":
    """The manager that runs the server with these files, if one does."""
    with suppress(CcfallbackError, OSError):
        manager = _manager(session)
        text = manager.path.read_text("utf-8")
        if str(session.paths.state.absolute()) in text and manager.is_active():
            return manager
    return None


def _manager(session: Session) -> "Manager":
    """The service manager of this system."""
    if sys.platform == "darwin":
        return launchd(session.environ, Path.home())
    if sys.platform.startswith("linux"):
        return systemd(session.environ, Path.home())
    raise CcfallbackError(
        f"no service manager is supported on {sys.platform}",
        "let your system start `ccfallback serve` when you log in",
    )


def _service(session: Session, config: "Config") -> "Service":
    """The server of this command line, independent of working directory and shell."""
    argv = server_argv(session, ())
    runs_programs = any(each.key.command or each.auth != "key" for each in config.active)
    variables = {}
    if runs_programs and (path := session.environ.get("PATH", "")):
        # Without it, a service finds programs in the system's folders only.
        variables["PATH"] = path
    # The service needs the trusted authorities of the shell; their files are not secret.
    for name in CERTIFICATE_VARIABLES:
        if places := session.environ.get(name, "").strip():
            variables[name] = os.pathsep.join(
                str(Path(place).absolute()) for place in places.split(os.pathsep)
            )
    return Service(argv, variables)


def _warnings(session: Session, config: "Config") -> Iterator[str]:
    """What works in this shell and will not work in a service."""
    from ccfallback.credentials import LOGIN_VARIABLES

    accounts = [account for each in config.active for account in each.accounts]
    variables = {each.key.env: each.name for each in accounts if isinstance(each.key.env, str)}
    if variables:
        names = join_names(list(variables))
        users = list(dict.fromkeys(variables.values()))
        yield (
            f"a service does not see the variables of your shell: no key from {names} for "
            f"{join_names(users)}; `ccfallback providers set {users[0]} --api-key-stdin`, or use "
            "api_key_command"
        )
    logins = [each.name for each in config.active if each.auth != "key" and not each.key]
    named = [name for name in LOGIN_VARIABLES if session.environ.get(name)]
    if logins and named:
        yield (
            f"a service does not see {join_names(named)}, which {join_names(logins)} may use here; "
            "a profile (`--aws-profile`), the files of the login and --google-project work "
            "everywhere"
        )
    proxies = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    proxy = next((name for name in proxies if session.environ.get(name)), None)
    if proxy is not None and config.network.proxy is None:
        yield (
            f"a service does not see {proxy}: "
            "`ccfallback config set network.proxy URL` works everywhere"
        )
    if config.server.port == 0:
        yield "server.port is 0: the address changes with every start"


def run_command(command: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Run a command; returns its error message, `None` if it succeeded."""
    program = shutil.which(command[0], path=environ.get("PATH"))
    if program is None:
        return f"{command[0]} is not installed"
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=dict(environ),
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {PATIENCE:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    if done.returncode == 0:
        return None
    return " ".join(done.stderr.split()) or f"exit status {done.returncode}"


# -- The service managers


@dataclass(frozen=True, slots=True)
class Service:
    """A command to run, and variables to add to the environment that the manager provides."""

    argv: Sequence[str]
    environ: Mapping[str, str]


@dataclass(frozen=True)
class Manager:
    """A service manager: the file that it reads, and the commands that it takes."""

    name: str
    environ: Mapping[str, str]
    path: Path
    render: Callable[[Service], str]
    """Makes the content of the file."""
    start_commands: Sequence[Sequence[str]]
    """They load the file and start the service."""
    stop_commands: Sequence[Sequence[str]]
    """They stop the service for good, while the file still exists."""
    resume_commands: Sequence[Sequence[str]]
    """They start the installed service."""
    halt_commands: Sequence[Sequence[str]]
    """They stop it until it is started, or the user logs in again."""
    restart_commands: Sequence[Sequence[str]]
    reach_command: Sequence[str]
    """Succeeds if the manager takes commands from this session."""
    active_command: Sequence[str]
    """Succeeds if the service is running."""

    def run_each(self, commands: Sequence[Sequence[str]]) -> None:
        """Run commands; raises `CcfallbackError` if one fails."""
        for command in commands:
            complaint = run_command(command, self.environ)
            if complaint is not None:
                raise CcfallbackError(
                    f"`{shlex.join(command)}` failed: {complaint}",
                    "run it yourself to see more; `ccfallback doctor` checks the rest",
                )

    def is_reachable(self) -> bool:
        """Whether the manager takes commands from this session."""
        return run_command(self.reach_command, self.environ) is None

    def is_active(self) -> bool:
        """Whether the service is running."""
        return run_command(self.active_command, self.environ) is None


def systemd(environ: Mapping[str, str], home: Path) -> Manager:
    """The systemd of the user."""
    control = ("systemctl", "--user")
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return Manager(
        name="systemd",
        environ=environ,
        path=config / "systemd" / "user" / UNIT,
        render=systemd_unit,
        # Restarted rather than started, so that a changed unit takes effect.
        start_commands=(
            (*control, "daemon-reload"),
            (*control, "enable", UNIT),
            (*control, "restart", UNIT),
        ),
        stop_commands=((*control, "disable", "--now", UNIT),),
        resume_commands=((*control, "start", UNIT),),
        halt_commands=((*control, "stop", UNIT),),
        restart_commands=((*control, "restart", UNIT),),
        reach_command=(*control, "show", "--property=Version"),
        active_command=(*control, "is-active", "--quiet", UNIT),
    )


def launchd(environ: Mapping[str, str], home: Path) -> Manager:
    """The launchd of a logged-in user."""
    domain = f"gui/{os.getuid()}" if hasattr(os, "getuid") else "gui"
    path = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    return Manager(
        name="launchd",
        environ=environ,
        path=path,
        render=launchd_agent,
        start_commands=(("launchctl", "bootstrap", domain, str(path)),),
        stop_commands=(("launchctl", "bootout", f"{domain}/{LABEL}"),),
        resume_commands=(("launchctl", "bootstrap", domain, str(path)),),
        halt_commands=(("launchctl", "bootout", f"{domain}/{LABEL}"),),
        restart_commands=(("launchctl", "kickstart", "-k", f"{domain}/{LABEL}"),),
        reach_command=("launchctl", "print", domain),
        active_command=("launchctl", "print", f"{domain}/{LABEL}"),
    )


def _clean_up_systemd(manager: Manager, home: Path) -> None:
    """Remove the link that `enable` created, and folders that are empty now."""
    folder = manager.path.parent
    wants = folder / "default.target.wants"
    (wants / UNIT).unlink(missing_ok=True)
    run_command(("systemctl", "--user", "daemon-reload"), manager.environ)
    run_command(("systemctl", "--user", "reset-failed", UNIT), manager.environ)
    with suppress(OSError):
        wants.rmdir()
    with suppress(OSError):
        for each in (folder, folder.parent, home / ".config"):
            each.rmdir()


# -- Their files. A program that prints a key may be any program, even a setgid one, so the unit
#    takes no privileges or folders away; it protects files and memory only.


def systemd_unit(service: Service) -> str:
    """The text of a systemd user unit."""
    # The colon turns off the expansion of dollar signs.
    command = " ".join(quote(word) for word in service.argv)
    variables = "".join(
        f"Environment={quote(f'{name}={value}')}\n" for name, value in service.environ.items()
    )
    return (
        "# Written by `ccfallback service install`; `ccfallback service uninstall` removes it.\n"
        "[Unit]\n"
        "Description=ccfallback, a failover proxy for Claude Code\n"
        "\n"
        "[Service]\n"
        "Type=exec\n"
        f"ExecStart=:{command}\n"
        f"{variables}"
        "Restart=on-failure\n"
        f"RestartSec={RESTART_SECONDS}\n"
        "# Status 2 is wrong usage, which a restart does not change.\n"
        "RestartPreventExitStatus=2\n"
        f"TimeoutStopSec={STOP_SECONDS}\n"
        "# Between two servers systemd keeps the socket, so that no connection is refused.\n"
        "NotifyAccess=main\n"
        "FileDescriptorStoreMax=1\n"
        f"UMask={PRIVATE_UMASK:04o}\n"
        "# No core dumps: the memory contains keys.\n"
        "LimitCORE=0\n"
        "\n"
        "[Install]\n"
        "WantedBy=default.target\n"
    )


def quote(word: str) -> str:
    """A word as systemd reads it back, without separators, specifiers or escapes in it."""
    if _PLAIN.fullmatch(word):
        return word
    return '"' + "".join(_ESCAPES.get(letter, letter) for letter in word) + '"'


def launchd_agent(service: Service) -> str:
    """The text of a launchd agent's property list."""
    agent = {
        "Label": LABEL,
        "ProgramArguments": list(service.argv),
        "EnvironmentVariables": dict(service.environ),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_SECONDS,
        "ExitTimeOut": STOP_SECONDS,
        "Umask": PRIVATE_UMASK,
        "HardResourceLimits": {"Core": 0},
        # The log has everything, and files here would grow without limit.
        "StandardOutPath": "/dev/null",
        "StandardErrorPath": "/dev/null",
    }
    return plistlib.dumps(agent, sort_keys=False).decode()
