"""`config export|import|reset`: the configuration as a whole, out, in, and away."""

from pathlib import Path
from typing import Annotated

import typer

from ccfallback.cli.options import Json
from ccfallback.cli.phrases import TAKE_BACK
from ccfallback.cli.session import session_of
from ccfallback.errors import ConfigError

STREAM = "-"

Yes = Annotated[bool, typer.Option("--yes", help="Accepted and ignored.")]


def export(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - is stdout.")] = STREAM,
    as_json: Json = False,
) -> None:
    """Write the whole configuration as JSON, keys in clear."""
    from ccfallback.store.config_exchange import exported
    from ccfallback.store.files import replace_atomically

    session = session_of(ctx)
    session.config()
    data = exported(session.config_file.table())
    if file == STREAM:
        session.console.write_bytes(data)
        return
    replace_atomically(Path(file), data)
    session.console.answer({"path": file})
    session.console.say(f"{file} written, with keys in clear, for you alone to read")


def import_(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON or TOML; - is stdin.")],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put an export in place of the configuration.

    TOML will do as well; a plain JSON array of providers replaces the providers alone.
    """
    from ccfallback.store.config_exchange import imported

    session = session_of(ctx)
    try:
        text = session.console.read_input() if file == STREAM else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"{file} can't be read: {why}", "see to its path") from None
    try:
        current = session.config_file.table()
    except ConfigError:
        if text.lstrip().startswith("["):
            raise  # What stays beside the providers can't be known.
        current = {}
    changed = session.config_file.replace(imported(text, current))
    names = [provider.name for provider in session.config().providers]
    session.console.answer({"changed": changed, "providers": names})
    count = f"{len(names)} provider{'' if len(names) == 1 else 's'}"
    session.console.say(f"{count} imported; {TAKE_BACK}" if changed else "nothing changed")


def reset(ctx: typer.Context, yes: Yes = False, as_json: Json = False) -> None:
    """Empty the configuration: all is as by default."""
    session = session_of(ctx)
    changed = session.config_file.path.exists() and session.config_file.replace("")
    session.console.answer({"changed": changed})
    session.console.say(f"all is as by default; {TAKE_BACK}" if changed else "nothing changed")
