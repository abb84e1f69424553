"""`ccfallback run`: run Claude Code with the proxy, which lives as long as the command.

Only the child's environment is changed, neither the user's files nor a login. The child comes
first: if no proxy can be started, it runs without one.
"""

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from time import sleep
from types import FrameType
from typing import Annotated, Final

import typer

from ccfallback.cli.console import ClosedPipe
from ccfallback.cli.options import make_app
from ccfallback.cli.session import Session, session_of
from ccfallback.errors import CcfallbackError

app = make_app()

DEFAULT: Final = "claude"

OWN_PLACES: Final = (".local/bin/claude", ".claude/local/claude")
"""Where Claude Code installs itself in a home; a shell finds it there by PATH or by an alias."""

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
"""Exit codes, the same as those of shells."""

FOR_THE_CHILD: Final = ("SIGINT", "SIGQUIT")
"""Signals that the terminal sends to the child itself, so we ignore them."""

LOOKS: Final = 5
"""How often the log is read for the ends of all requests."""

FORWARDED: Final = ("SIGTERM", "SIGHUP")


@app.command(
    "run",
    epilog="Example: ccfallback run\nccfallback run -- claude --continue",
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
def run(
    ctx: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="CMD", help="The command; `claude` if none is given."),
    ] = None,
) -> None:
    """Run Claude Code through the proxy.

    Uses the running server, or starts one that stops with the command; the last line says
    how the requests went. Put `--` before a command that starts with an option.
    """
    session = session_of(ctx)
    # All following words belong to the command, even `--json`.
    session.console.as_json = False
    argv = _with_default(command or ())
    program = _find_program(session, argv[0])
    summary: list[str] = []
    with ExitStack() as stack:
        environ = {**session.environ, **_proxy_variables(session, stack, summary.append)}
        code = supervise([program, *argv[1:]], environ)
    for line in filter(None, summary):
        # A closed terminal does not change the exit code of the command.
        with suppress(OSError, ClosedPipe):
            session.console.say(f"ccfallback: {line}")
    raise typer.Exit(code)


def _with_default(command: Sequence[str]) -> list[str]:
    """The command line to run; options alone are for Claude Code."""
    if not command or command[0].startswith("-"):
        return [DEFAULT, *command]
    return list(command)


def _find_program(session: Session, name: str) -> str:
    """The path of a program; exits like a shell if there is none."""
    program = shutil.which(name, path=session.environ.get("PATH"))
    places = OWN_PLACES if name == DEFAULT else ()
    own = (shutil.which(Path.home() / place) for place in places)
    program = program or next((str(found) for found in own if found), None)
    if program is not None:
        return program
    if Path(name).parent != Path() and Path(name).exists():
        is_folder = Path(name).is_dir()
        what = "it is a folder" if is_folder else "it is not a program, or you may not run it"
        session.console.fail(f"{name} can't be run: {what}", "name a program after `--`")
        raise typer.Exit(NOT_EXECUTABLE)
    hint = (
        "install Claude Code, or name the command: `ccfallback run -- CMD`"
        if name == DEFAULT
        else "is it installed and in PATH?"
    )
    session.console.fail(f"{name}: command not found", hint)
    raise typer.Exit(NOT_FOUND)


def _proxy_variables(
    session: Session, stack: ExitStack, report: Callable[[str], None]
) -> Mapping[str, str]:
    """The variables that send the child to a proxy; empty if there can be no proxy.

    When `stack` is closed, `report` gets a line about the child's requests.
    """
    from ccfallback.cli.env import loopback_exemptions, variables_for
    from ccfallback.cli.running_server import find_registered_url, find_server_url
    from ccfallback.config.model import Config

    token = None
    try:
        session.warn_of_missing_config()
        config = Config() if session.is_config_missing else session.config_in_use().config
        token = config.tokens[0].token.reveal() if config.tokens else None
        if not config.has_fallback and session.console.interactive:
            session.console.say(
                "ccfallback: no fallback yet, so nothing helps when Anthropic fails; "
                "`ccfallback init` finds one"
            )
        url = find_server_url(session.paths, config)
        if url is None:
            url = stack.enter_context(_own_proxy(session, report))
        else:
            stack.enter_context(_reading_log(session, report))
    except (CcfallbackError, OSError) as error:
        running = find_registered_url(session.paths)
        if running is None:
            _warn(session, error)
            return {}
        url = running
    return {**loopback_exemptions(session.environ), **variables_for(session.environ, url, token)}


def _warn(session: Session, error: Exception) -> None:
    why = error.message if isinstance(error, CcfallbackError) else str(error)
    line = " ".join(f"running without the proxy: {why}; `ccfallback doctor` shows more".split())
    session.console.say(f"ccfallback: {line}")


@contextmanager
def _reading_log(session: Session, report: Callable[[str], None]) -> Iterator[None]:
    """Reports on the requests that a running server logs meanwhile."""
    from ccfallback.events.journal_reader import Follower
    from ccfallback.events.records import decode
    from ccfallback.events.tally import Tally

    tally, log = Tally(), Follower(session.paths.log)
    with closing(log):
        yield
        with suppress(OSError):
            for _ in range(LOOKS):
                for line in log.look():
                    record = decode(line)
                    if record is not None and not record.is_side:
                        tally.count(record.data)
                if tally.requests >= tally.begun:
                    break
                # The server may not have written the end of the last one yet.
                sleep(0.1)
    report(tally.describe(shared=True))


@contextmanager
def _own_proxy(session: Session, report: Callable[[str], None]) -> Iterator[str]:
    """A proxy for this run, which writes to the log and prints nothing."""
    from ccfallback.events.tally import Tally
    from ccfallback.server.serve import BackgroundProxy

    tally = Tally()
    proxy = BackgroundProxy(session.paths, private=True, count=tally.count)
    proxy.__enter__()
    try:
        yield proxy.url
    finally:
        try:
            proxy.stop()
        except CcfallbackError as error:
            session.console.say(f"ccfallback: {error.message}; {error.hint}")
        report(tally.describe())


def supervise(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command to its end; returns its exit code, or 128 plus the signal that ended it."""
    pending: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        if children:
            children[0].send_signal(number)
        else:
            pending.append(number)

    with (
        _handling(FOR_THE_CHILD, lambda *_: None),
        _handling(FORWARDED, forward),
        subprocess.Popen(argv, env=dict(environ)) as child,
    ):
        children.append(child)
        for number in pending:
            child.send_signal(number)
        code = child.wait()
    return 128 - code if code < 0 else code


@contextmanager
def _handling(names: Sequence[str], handler: "signal._HANDLER") -> Iterator[None]:
    """Handle signals, except those that this process ignores: the child ignores them as well."""
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
