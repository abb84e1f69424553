"""The typer apps that all commands are made of, and the options that several commands share.

`autocompletion` of a parameter lists its values for `candidates.json`; it does not run for a Tab.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from ccfallback.cli.candidates import NOTES, PROVIDERS
from ccfallback.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])

EXAMPLE = "Example: "
"""The start of each epilog; every line of an epilog is one example."""


class _LazyConversion:
    """Skips typer's conversion of the parameters that the command line does not have.

    Typer converts with pydantic, which takes longer to import than most commands take to run.
    """

    def get_params(self, ctx: Any) -> Any:
        """The command's parameters, prepared."""
        parameters = super().get_params(ctx)  # type: ignore[misc]  # of the class it is mixed into
        for parameter in parameters:
            if not parameter.required and "process_value" not in vars(parameter):
                parameter.process_value = partial(_convert, parameter, parameter.process_value)
        return parameters


def _convert(parameter: Any, process_value: Any, ctx: Any, value: Any) -> Any:
    if value is not None:
        return process_value(ctx, value)
    absent = () if parameter.multiple or parameter.nargs == -1 else None
    return parameter.callback(ctx, parameter, absent) if parameter.callback else absent


class Command(_LazyConversion, TyperCommand):
    """A command that starts quickly, and whose help has the words of its manual page."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words after the command's name."""
        from ccfallback.cli.help import commands

        return commands.usage(self)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options."""
        from ccfallback.cli.help import commands

        for title, entries in (
            ("Arguments", commands.arguments(self)),
            ("Options", [*commands.options(self), commands.HELP_OPTION]),
        ):
            if entries:
                with formatter.section(title):
                    formatter.write_dl([(entry.term, entry.text) for entry in entries])


class BriefCommand(Command):
    """A command with so many options that its `--help` shows them in groups, on one screen.

    `help COMMAND` and the manual page have every option on its own.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write one screen."""
        from ccfallback.cli.help import commands

        formatter.write(commands.brief(self, ctx.command_path))

    def format_all(self, ctx: Any, formatter: Any) -> None:
        """Write the help with every option."""
        super().format_help(ctx, formatter)


class Group(_LazyConversion, TyperGroup):
    """A group of commands that start quickly."""


class App(typer.Typer):
    """A typer app whose commands start quickly, with examples at the end of their help."""

    def command(
        self,
        name: str | None = None,
        *,
        epilog: str | None = None,
        brief: bool = False,
        **settings: Any,
    ) -> Callable[[F], F]:
        """Register a command, as typer does; `brief` for one with many options."""
        cls = BriefCommand if brief else Command
        return super().command(name, cls=cls, epilog=keep_lines(epilog), **settings)


def make_app(
    *,
    no_args_is_help: bool = True,
    cls: type[TyperGroup] = Group,
    epilog: str | None = None,
    **settings: Any,
) -> App:
    """A typer app with the settings of all ours: plain help, no traceback, no own completion."""
    return App(
        cls=cls,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        no_args_is_help=no_args_is_help,
        epilog=keep_lines(epilog),
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        **settings,
    )


def keep_lines(epilog: str | None) -> str | None:
    """The epilog with its lines aligned, and with the mark that keeps typer from joining them."""
    return epilog and "\b\n" + epilog.replace("\n", "\n" + " " * len(EXAMPLE))


def parse_duration(text: str, option: str) -> float:
    """The seconds that an option's value means; a usage error if it is not one."""
    from ccfallback.messages.reset_hints import duration

    seconds = duration(text)
    if seconds is None:
        raise typer.BadParameter(
            f"{text!r} is not a duration; try 90s, 5m, 2h or 1d", param_hint=f"'{option}'"
        )
    return seconds


def parse_since(session: Session, text: str) -> tuple[float, str]:
    """The seconds that `--since` means, and how to say them. A number without a unit is seconds."""
    seconds = parse_duration(text, "--since")
    if not text.strip().isdecimal():
        return seconds, text
    session.console.say(f"--since {text} is {text} seconds; {text}m is minutes, {text}d days")
    return seconds, f"{text}s"


def provider_names() -> list[str]:
    """For `autocompletion`: the names of providers."""
    return [PROVIDERS]


def token_names() -> list[str]:
    """For `autocompletion`: the notes of access tokens."""
    return [NOTES]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

Yes = Annotated[bool, typer.Option("--yes", help="Accepted and ignored.")]
"""For scripts that expect a confirmation. Nothing asks for one: every change can be undone."""

ShowKeys = Annotated[
    bool, typer.Option("--show-keys", help="Show keys and secret headers unmasked.")
]


def _providers(words: str) -> Any:
    return typer.Argument(metavar="NAME", help=words, autocompletion=provider_names)


Name = Annotated[str, _providers("A provider of the chain.")]

Names = Annotated[list[str], _providers("Providers of the chain.")]

NamesOrAll = Annotated[list[str] | None, _providers("Providers of the chain; or give --all.")]

AnyNames = Annotated[
    list[str] | None, _providers("Providers of the chain; all of them if none is named.")
]
