"""`ccfallback run`: Claude Code with the proxy, for as long as it runs.

The child's environment is all that is changed: no file of the user's, and no login. The child
comes first: where there can be no proxy, it runs without one.
"""

import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer

from ccfallback.cli.options import make_app
from ccfallback.cli.session import Session, session_of
from ccfallback.errors import CcfallbackError

app = make_app()

DEFAULT: Final = "claude"

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
"""Exit codes, as shells have them."""

THE_CHILDS_OWN: Final = ("SIGINT", "SIGQUIT")
"""What the terminal sends to the child as well as to us."""

PASSED_ON: Final = ("SIGTERM", "SIGHUP")


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
        typer.Argument(metavar="CMD", help="The command; `claude` where none is given."),
    ] = None,
) -> None:
    """Run Claude Code through the proxy.

    Through the running server, or one that is started for as long as the command runs.
    """
    session = session_of(ctx)
    # From here on every word is the command's own, `--json` too.
    session.console.as_json = False
    argv = _whole(command or ())
    program = _found(session, argv[0])
    with ExitStack() as stack:
        environ = {**session.environ, **_pointing(session, stack)}
        code = supervise([program, *argv[1:]], environ)
    raise typer.Exit(code)


def _whole(command: Sequence[str]) -> list[str]:
    """The command line to run: options alone are for Claude Code."""
    if not command or command[0].startswith("-"):
        return [DEFAULT, *command]
    return list(command)


def _found(session: Session, name: str) -> str:
    """The program of that name; exits as a shell does where there is none."""
    program = shutil.which(name, path=session.environ.get("PATH"))
    if program is not None:
        return program
    if Path(name).parent != Path() and Path(name).exists():
        session.console.fail(f"{name} can't be run", "see to its permissions")
        raise typer.Exit(NOT_EXECUTABLE)
    hint = (
        "install Claude Code, or name the command: `ccfallback run -- CMD`"
        if name == DEFAULT
        else "is it installed, and in PATH?"
    )
    session.console.fail(f"{name}: command not found", hint)
    raise typer.Exit(NOT_FOUND)


def _pointing(session: Session, stack: ExitStack) -> Mapping[str, str]:
    """The variables that send the child to a proxy; none where there is no proxy to be had."""
    from ccfallback.cli.env import loopback_exemptions, variables_for
    from ccfallback.cli.running_server import find_registered_url, find_server_url

    token = None
    try:
        config = session.config()
        token = config.tokens[0].token.reveal() if config.tokens else None
        url = find_server_url(session.paths, config) or stack.enter_context(_proxy(session))
    except (CcfallbackError, OSError) as error:
        # A server goes on with the last good configuration, so it may run all the same.
        running = find_registered_url(session.paths)
        if running is None:
            _say_why(session, error)
            return {}
        url = running
    return {**loopback_exemptions(session.environ), **variables_for(session.environ, url, token)}


def _say_why(session: Session, error: Exception) -> None:
    why = error.message if isinstance(error, CcfallbackError) else str(error)
    line = " ".join(f"running without the proxy: {why}; `ccfallback doctor` says more".split())
    session.console.say(f"ccfallback: {line}")


@contextmanager
def _proxy(session: Session) -> Iterator[str]:
    """A proxy for this run, which writes to the log and nowhere else."""
    from ccfallback.server.background import BackgroundProxy

    proxy = BackgroundProxy(session.paths, private=True)
    proxy.__enter__()
    try:
        yield proxy.url
    finally:
        try:
            proxy.stop()
        except CcfallbackError as error:
            session.console.say(f"ccfallback: {error.message}; {error.hint}")


def supervise(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command to its end; its exit code, 128 and the number where a signal ended it."""
    waiting: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if children:
            children[0].send_signal(number)
        else:
            waiting.append(number)

    with (
        _handling(THE_CHILDS_OWN, lambda *_: None),
        _handling(PASSED_ON, pass_on),
        subprocess.Popen(argv, env=dict(environ)) as child,
    ):
        children.append(child)
        for number in waiting:
            child.send_signal(number)
        code = child.wait()
    return 128 - code if code < 0 else code


@contextmanager
def _handling(names: Sequence[str], handler: "signal._HANDLER") -> Iterator[None]:
    """Take signals, those aside that the process was told to ignore: so will the child."""
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in taken}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
