"""Options and arguments that several commands share: one name, one meaning, one help text.

Completion callbacks run while a person types: they never raise and never print.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ccfallback.cli import help as helping
from ccfallback.cli.session import Session

if TYPE_CHECKING:
    from ccfallback.config.model import Config


class Sparing:
    """A command that leaves alone what was not given.

    Newer typers read every value with pydantic, an absent one too, and importing that takes longer
    than most commands do.
    """

    def get_params(self, ctx: Any) -> Any:
        """The command's parameters."""
        parameters = super().get_params(ctx)  # type: ignore[misc]  # of the class it is mixed into
        for parameter in parameters:
            if not parameter.required and "process_value" not in vars(parameter):
                parameter.process_value = _unless_absent(parameter)
        return parameters


def _unless_absent(parameter: Any) -> Callable[[Any, Any], Any]:
    process = parameter.process_value
    absent = () if parameter.multiple or parameter.nargs == -1 else None

    def value_of(ctx: Any, value: Any) -> Any:
        if value is not None:
            return process(ctx, value)
        callback = parameter.callback
        return absent if callback is None else callback(ctx, parameter, absent)

    return value_of


class Helpful:
    """A command that tells of itself in our words; see `help`."""

    epilog: str | None

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows its name."""
        return helping.usage(self)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Its arguments, options and commands."""
        for title, entries in (
            ("Arguments", helping.arguments(self)),
            ("Options", helping.options(self)),
            ("Commands", list(self.summaries().items())),
        ):
            if entries:
                with formatter.section(title):
                    formatter.write_dl(entries)

    def summaries(self) -> Mapping[str, str]:
        """What each command below it does."""
        return {name: helping.summary(one) for name, one in helping.commands(self).items()}

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Its examples, never wrapped: they are there to be copied."""
        if self.epilog:
            formatter.write("\n")
            for number, example in enumerate(helping.examples(self)):
                lead = " " * len(helping.EXAMPLE) if number else helping.EXAMPLE
                formatter.write(f"  {lead}{example}\n")


class QuickCommand(Helpful, Sparing, TyperCommand):
    """A command that starts without delay."""


class QuickGroup(Helpful, Sparing, TyperGroup):
    """A group of commands that start without delay."""


class Group(typer.Typer):
    """A typer app whose commands start without delay."""

    def command(self, name: str | None = None, **settings: Any) -> Any:
        """Declare a command, as typer does."""
        return super().command(name, **{"cls": QuickCommand, **settings})


def make_app(
    *, no_args_is_help: bool = True, cls: type[TyperGroup] = QuickGroup, **settings: Any
) -> typer.Typer:
    """A typer app as all of ours are: plain help, quick to start, errors left to `main`."""
    return Group(
        cls=cls,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        no_args_is_help=no_args_is_help,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        **settings,
    )


def parse_duration(text: str, option: str) -> float:
    """The seconds that an option gives; wrong usage if it gives none."""
    from ccfallback.messages.reset_hints import duration

    seconds = duration(text)
    if seconds is None:
        raise typer.BadParameter(
            f"{text!r} is no duration such as 90s, 5m, 2h or 1d", param_hint=f"'{option}'"
        )
    return seconds


def config_at_tab(ctx: typer.Context) -> "Config | None":
    """The configuration, while a person types; `None` where it does not load."""
    try:
        root = ctx.find_root().params
        session = ctx.find_root().obj
        if not isinstance(session, Session):
            return None
        # Older typers leave a path a text until the command itself is called.
        given = [root.get(name) for name in ("config", "state", "log_file")]
        session.locate(*(None if path is None else Path(path) for path in given))
        return session.config()
    except Exception:  # A broken config is for commands to report, not for a Tab key.
        return None


def provider_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the chain that begin as typed, the ones already given left out."""
    config = config_at_tab(ctx)
    if config is None:
        return []
    named = ctx.params.get("names") or ()
    names = [provider.name for provider in config.chain]
    return [name for name in names if name.startswith(incomplete) and name not in named]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

ShowKeys = Annotated[
    bool, typer.Option("--show-keys", help="Show keys and secret headers in clear.")
]

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A provider of the chain.", autocompletion=provider_names),
]

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME", help="Providers of the chain.", autocompletion=provider_names),
]

AnyNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Providers of the chain; all where none is named.",
        autocompletion=provider_names,
    ),
]
