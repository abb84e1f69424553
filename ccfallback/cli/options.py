"""Options and arguments that several commands share: one name, one meaning, one help text.

Completion callbacks run while a person types: they never raise and never print.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from ccfallback.cli.session import Session


def group(*, no_args_is_help: bool = True, **settings: Any) -> typer.Typer:
    """A typer app as all of ours are: plain help, quick to start, errors left to `main`."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        no_args_is_help=no_args_is_help,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        **settings,
    )


def provider_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the chain that begin as typed, the ones already given left out."""
    try:
        root = ctx.find_root().params
        session = ctx.find_root().obj
        if not isinstance(session, Session):
            return []
        # Older typers leave a path a text until the command itself is called.
        given = [root.get(name) for name in ("config", "state", "log_file")]
        session.locate(*(None if path is None else Path(path) for path in given))
        named = ctx.params.get("names") or ()
        names = [provider.name for provider in session.config().chain]
    except Exception:  # A broken config is for commands to report, not for a Tab key.
        return []
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
