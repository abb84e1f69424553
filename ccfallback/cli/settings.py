"""`config show|get|set`: the configuration as a whole, and key by key."""

from typing import Annotated

import msgspec
import typer

from ccfallback.cli.options import Json, ShowKeys, config_for_completion
from ccfallback.cli.phrases import UNDO
from ccfallback.cli.session import session_of


def key_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys that start as typed."""
    from ccfallback.config.schema import defaults, keys

    config = config_for_completion(ctx)
    if config is None:
        return []
    known = {*keys(defaults(config)), *keys(ctx.find_root().obj.config_file.table())}
    return sorted(key for key in known if key.startswith(incomplete))


Key = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="Such as server.port or providers.NAME.retry.", autocompletion=key_names
    ),
]


def show(ctx: typer.Context, as_json: Json = False, show_keys: ShowKeys = False) -> None:
    """Print what the configuration file says; secrets are masked."""
    from ccfallback.config.schema import masked

    session = session_of(ctx)
    session.config()
    table = session.config_file.table()
    shown = table if show_keys else masked(table)

    def text() -> str:
        from ccfallback.cli.config_exchange import as_toml

        return as_toml(shown).rstrip() or "nothing is set: all settings are at their defaults"

    session.console.emit(shown, text)


def get(ctx: typer.Context, key: Key, as_json: Json = False, show_keys: ShowKeys = False) -> None:
    """Print the value of one key: what the file says, or the default."""
    from ccfallback.config.schema import defaults, look_up, masked

    session = session_of(ctx)
    default = defaults(session.config())
    table = session.config_file.table()
    if not show_keys:
        table, default = masked(table), masked(default)
    found = look_up(key, table, default)
    encoded = msgspec.json.encode(found).decode()
    plain = found if isinstance(found, str) else encoded
    session.console.emit({"key": key, "value": found}, lambda: plain)


def set_(
    ctx: typer.Context,
    key: Key,
    value: Annotated[
        str, typer.Argument(help="A TOML value, or plain text; - reads it from stdin.")
    ],
    as_json: Json = False,
) -> None:
    """Set one key.

    A value that would not load is not written. Comments stay.
    """
    from ccfallback.config.edit import put, value_of

    session = session_of(ctx)
    text = session.console.read_input().strip() if value == "-" else value
    before = session.config_file.text()
    session.edit(lambda document: put(document, key, value_of(text)))
    changed = session.config_file.text() != before
    session.console.emit_result({"key": key, "changed": changed})
    session.console.say(f"{key} set; {UNDO}" if changed else "nothing changed")
    if changed and key.partition(".")[0] == "server" and key.endswith((".host", ".port")):
        from ccfallback.cli.running_server import find_registered_url

        if url := find_registered_url(session.paths):
            session.console.say(f"the running server stays at {url} until it is restarted")
