"""`config export|import|reset`: the configuration as a whole, out, in, and away."""

from pathlib import Path
from typing import Annotated

import typer

from ccfallback.cli.foreign.programs import PROGRAMS
from ccfallback.cli.options import Json
from ccfallback.cli.phrases import UNDO
from ccfallback.cli.session import nearest, session_of
from ccfallback.errors import ConfigError

STREAM = "-"

Yes = Annotated[bool, typer.Option("--yes", help="Accepted and ignored.")]


def export(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - is stdout.")] = STREAM,
    as_json: Json = False,
) -> None:
    """Write the whole configuration as JSON, keys in clear."""
    from ccfallback.cli.config_exchange import exported
    from ccfallback.files import replace_atomically

    session = session_of(ctx)
    session.config()
    data = exported(session.config_file.table())
    if file == STREAM:
        session.console.write_bytes(data)
        return
    replace_atomically(Path(file), data)
    session.console.emit_result({"path": file})
    session.console.say(f"{file} written, with keys in clear, for you alone to read")


def import_(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON or TOML, or --from's file; - is stdin.")
    ],
    program: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PROGRAM",
            help=f"FILE is that of {', '.join([*PROGRAMS][:-1])} or {[*PROGRAMS][-1]}.",
            autocompletion=lambda: list(PROGRAMS),
        ),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put an export in place of the configuration.

    TOML will do as well. A plain JSON array of providers, or another program's file (its
    config.json, config.yaml or database), replaces the providers alone.
    """
    from ccfallback.cli.config_exchange import imported, imported_from
    from ccfallback.cli.foreign import file as foreign_file

    if program is not None and program not in PROGRAMS:
        meant = nearest(program, PROGRAMS) or f"known are {', '.join(PROGRAMS)}"
        raise typer.BadParameter(f"{program} is not known; {meant}", param_hint="--from")
    session = session_of(ctx)
    given = session.console.read_input().encode() if file == STREAM else _read(Path(file))
    text = "" if program is not None else _text(file, given)
    try:
        current = session.config_file.table()
    except ConfigError:
        if program is not None or text.lstrip().startswith("["):
            raise  # What stays beside the providers can't be known.
        current = {}
    left_out: list[str] = []
    if program is None:
        new = imported(text, current)
    else:
        found = foreign_file.read(program, given, None if file == STREAM else Path(file))
        new, foreign = imported_from(program, found, current)
        left_out = foreign.omitted
    changed = session.config_file.replace(new)
    names = [provider.name for provider in session.config().providers]
    told = {} if program is None else {"left_out": left_out}
    session.console.emit_result({"changed": changed, "providers": names, **told})
    for what in left_out:
        session.console.say(f"left out: {what}")
    count = f"{len(names)} provider{'' if len(names) == 1 else 's'}"
    session.console.say(f"{count} imported; {UNDO}" if changed else "nothing changed")
    if changed and program is not None:
        session.console.say("`ccfallback providers test` asks each of them for one token")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}", "see to its path") from None


def _text(file: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(
            f"{file} can't be read: it is not UTF-8 text",
            "the file of another program is read with `--from`",
        ) from None


def reset(ctx: typer.Context, yes: Yes = False, as_json: Json = False) -> None:
    """Empty the configuration: all is as by default."""
    session = session_of(ctx)
    changed = session.config_file.path.exists() and session.config_file.replace("")
    session.console.emit_result({"changed": changed})
    session.console.say(f"all is as by default; {UNDO}" if changed else "nothing changed")
