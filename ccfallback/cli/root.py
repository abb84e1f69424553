"""The root command: its own options, and the commands below it, each imported when it runs."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import typer

from ccfallback import __version__
from ccfallback.cli import COMMANDS, SUMMARY, format_help
from ccfallback.cli.console import ExitCode
from ccfallback.cli.exits import run_safely
from ccfallback.cli.file_options import Files
from ccfallback.cli.options import Group, keep_lines, make_app
from ccfallback.cli.session import Session, session_of


class LazyCommands(Group):
    """The commands of `COMMANDS`; each is the `app` of the module of its name."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # typer looks here for the nearest name to a mistyped one, and needs no more than the names.
        self.commands = cast(Any, dict.fromkeys(COMMANDS))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the module of a command; `None` if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        found: typer.Typer = import_module(f"ccfallback.cli.{cmd_name}").app
        build = typer.main.get_group if found.info.name else typer.main.get_command
        return build(found)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write one screen, without importing a command."""
        formatter.write(format_help(ctx.command_path))


def _path(text: str) -> Path:
    # An empty text, as of a variable that is not set, would be this folder.
    if not text:
        raise typer.BadParameter("the path is empty")
    return Path(text)


app = make_app(
    cls=LazyCommands,
    help=SUMMARY,
    no_args_is_help=False,
)


@app.callback(
    epilog=keep_lines(
        "Example: ccfallback run\nccfallback help config\nccfallback providers add --help"
    ),
    invoke_without_command=True,
)
def root(
    ctx: typer.Context,
    config: Path | None = typer.Option(
        None,
        "--config",
        metavar="PATH",
        parser=_path,
        help="The config file. [env: CCFALLBACK_CONFIG]",
    ),
    state: Path | None = typer.Option(
        None,
        "--state",
        metavar="PATH",
        parser=_path,
        help="The breaker state. [env: CCFALLBACK_STATE]",
    ),
    log_file: Path | None = typer.Option(
        None,
        "--log-file",
        metavar="PATH",
        parser=_path,
        help="The log. [env: CCFALLBACK_LOG_FILE]",
    ),
    version: bool = typer.Option(False, "-V", "--version", help="Print the version and exit."),
) -> None:
    """Keep Claude Code working whatever happens to its API."""
    session = session_of(ctx)
    if session.located is None:
        session.locate(config, state, log_file)
    if version:
        session.console.emit({"version": __version__}, lambda: f"ccfallback {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        session.console.say(ctx.get_help())
        raise typer.Exit(ExitCode.USAGE)


def run(arguments: Sequence[str], session: Session, files: Files) -> int:
    """Run a command; returns its exit code, and turns each kind of error into one.

    `files` are those that are no longer among the arguments.
    """

    def call() -> object:
        if any(files):
            session.locate(*files)
        return typer.main.get_command(app).main(
            list(arguments), prog_name="ccfallback", standalone_mode=False, obj=session
        )

    return run_safely(call, session, interrupts=(KeyboardInterrupt, typer.Abort))
