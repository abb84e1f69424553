"""The root command: its options, and the commands below it, each loaded when it is asked for.

A command is `app` in the module of its name; nothing else has to be said of it but its place in
`COMMANDS`.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

import typer

from ccfallback import __version__
from ccfallback.cli import COMMANDS, completions
from ccfallback.cli.console import ClosedPipe, ExitCode
from ccfallback.cli.options import QuickGroup, make_app
from ccfallback.cli.session import Session, session_of
from ccfallback.errors import CcfallbackError

USAGE_ERROR: Final = cast(type[Exception], typer.BadParameter.__mro__[1])
"""What wrong usage raises; typer keeps the class where only its subclass can be imported."""


class Commands(QuickGroup):
    """All commands, of which an invocation loads the one that it runs."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Of use for its names alone: the nearest one is what a wrong one was meant to be.
        self.commands = cast(Any, dict.fromkeys(COMMANDS))

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of help."""
        return list(COMMANDS)

    def summaries(self) -> Mapping[str, str]:
        """What each of them does."""
        return COMMANDS

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; `None` where there is none."""
        if cmd_name not in COMMANDS:
            return None
        found: typer.Typer = import_module(f"ccfallback.cli.{cmd_name}").app
        build = typer.main.get_group if found.info.name else typer.main.get_command
        return build(found)


app = make_app(
    cls=Commands,
    help="Keep Claude Code working whatever happens to its API.",
    no_args_is_help=False,
)


@app.callback(
    epilog="Example: ccfallback serve\nccfallback providers add --help", invoke_without_command=True
)
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


def run(arguments: Sequence[str], session: Session) -> int:
    """Run a command; every way to fail is known by its exit code."""
    console = session.console
    try:
        completions.prepare(session.environ)
        code = typer.main.get_command(app).main(
            list(arguments), prog_name="ccfallback", standalone_mode=False, obj=session
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
        return console.fail_usage(error)
    except Exception as error:
        if session.environ.get("CCFALLBACK_DEBUG"):
            raise
        return console.fail_unexpectedly(error)
    return code if isinstance(code, int) else ExitCode.DONE
