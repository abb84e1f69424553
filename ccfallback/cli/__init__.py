"""The command line: where a command begins, and where every error ends.

A command computes a value and hands it to the console; it never prints and never exits. What it
raises becomes one line and an exit code here, and nowhere else.
"""

import os
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final, NoReturn, cast

import typer

from ccfallback import __version__
from ccfallback.cli import breaker, completions, demo, env, logs, providers, serve
from ccfallback.cli import config as configuration
from ccfallback.cli.console import ClosedPipe, Console
from ccfallback.cli.exit import ExitCode
from ccfallback.cli.options import group
from ccfallback.cli.session import Session, session_of
from ccfallback.errors import CcfallbackError

COMMANDS: Final = (serve, demo, env, providers, breaker, logs, configuration)
"""Modules with an `app`, in the order in which help lists them."""

USAGE_ERROR: Final = cast(type[Exception], typer.BadParameter.__mro__[1])
"""What wrong usage raises; typer keeps the class where only its subclass can be imported."""

app = group(help="Keep Claude Code working whatever happens to its API.", no_args_is_help=False)
for command in COMMANDS:
    app.add_typer(command.app)


@app.callback(epilog="Example: ccfallback serve", invoke_without_command=True)
def root(
    ctx: typer.Context,
    config: Path | None = typer.Option(
        None, "--config", metavar="PATH", help="The config file. [env: CCFALLBACK_CONFIG]"
    ),
    state: Path | None = typer.Option(
        None, "--state", metavar="PATH", help="The breaker state. [env: CCFALLBACK_STATE]"
    ),
    log_file: Path | None = typer.Option(
        None, "--log-file", metavar="PATH", help="The log. [env: CCFALLBACK_LOG_FILE]"
    ),
    version: bool = typer.Option(False, "--version", help="Say the version and exit."),
) -> None:
    """Keep Claude Code working whatever happens to its API."""
    session = session_of(ctx)
    session.locate(config, state, log_file)
    if version:
        session.console.emit({"version": __version__}, lambda: f"ccfallback {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        session.console.say(ctx.get_help())
        raise typer.Exit(ExitCode.USAGE)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Known before anything can fail, because a failure is to be JSON as well.
    as_json = "--json" in takewhile(lambda argument: argument != "--", arguments)
    console = Console.of_process(as_json=as_json)
    sys.exit(_run(arguments, Session(console=console, environ=os.environ)))


def _run(arguments: list[str], session: Session) -> int:
    """Run a command; every way to fail is known by its exit code."""
    console = session.console
    try:
        completions.prepare(session.environ)
        code = typer.main.get_command(app).main(
            arguments, prog_name="ccfallback", standalone_mode=False, obj=session
        )
        console.flush()
    except ClosedPipe:
        return ExitCode.DONE
    except SystemExit as leaving:
        # typer makes a failure of a closed pipe.
        if isinstance(leaving.__context__, BrokenPipeError):
            console.abandon()
            return ExitCode.DONE
        raise
    except (KeyboardInterrupt, typer.Abort):
        if console.interactive:
            console.say("")  # The shell's prompt belongs below ours.
        return ExitCode.INTERRUPTED
    except CcfallbackError as error:
        return console.fail(error.message, error.hint)
    except USAGE_ERROR as error:
        return console.misused(error)
    except Exception as error:
        if session.environ.get("CCFALLBACK_DEBUG"):
            raise
        return console.fail_unexpectedly(error)
    return code if isinstance(code, int) else ExitCode.DONE
