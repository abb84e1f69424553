"""`config show|get|set`: what the configuration says, as a whole and key by key."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import typer

from ccfallback.cli.options import Json, ShowKeys, config_for_completion
from ccfallback.cli.phrases import UNDO
from ccfallback.cli.session import session_of


def key_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys that begin as typed."""
    from ccfallback.config.values import DEFAULTS, keys

    config = config_for_completion(ctx)
    if config is None:
        return []
    known = {*keys(DEFAULTS), *keys(ctx.find_root().obj.config_file.table())}
    return sorted(key for key in known if key.startswith(incomplete))


Key = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="Such as server.port or providers.NAME.retry.", autocompletion=key_names
    ),
]


def show(ctx: typer.Context, as_json: Json = False, show_keys: ShowKeys = False) -> None:
    """Print what the configuration file says; secrets are masked."""
    session = session_of(ctx)
    session.config()
    table = session.config_file.table()
    shown = table if show_keys else masked(table)

    def text() -> str:
        from ccfallback.cli.config_exchange import as_toml

        return as_toml(shown).rstrip() or "nothing is set: all is as by default"

    session.console.emit(shown, text)


def get(ctx: typer.Context, key: Key, as_json: Json = False, show_keys: ShowKeys = False) -> None:
    """Print what holds for one key: what the file says, or the default."""
    from ccfallback.config.values import look_up

    session = session_of(ctx)
    session.config()
    table = session.config_file.table()
    found = look_up(table if show_keys else masked(table), key)
    encoded = msgspec.json.encode(found).decode()
    plain = found if isinstance(found, str) else encoded
    session.console.emit({"key": key, "value": found}, lambda: plain)


def set_(
    ctx: typer.Context,
    key: Key,
    value: Annotated[
        str, typer.Argument(help="A TOML value, or a text as it is; - reads it from stdin.")
    ],
    as_json: Json = False,
) -> None:
    """Set one key.

    What would not load is not written, and comments stay.
    """
    from ccfallback.config.values import put, value_of

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
            session.console.say(f"the running server stays at {url} until it is started anew")


def masked(table: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without anything that must not be seen."""
    return {name: _masked(name, value) for name, value in table.items()}


def _masked(name: str, value: Any) -> Any:
    from ccfallback.cli.providers.view import masked_headers, masked_url
    from ccfallback.redact import mask, masked_arguments, scrub

    match value:
        case str() if name in ("api_key", "token", "proxy"):
            return mask(value)
        case str() if name == "base_url":
            return masked_url(value)
        case str():
            return scrub(value)
        case Mapping() if name == "headers":
            return masked_headers(value)
        case Mapping():
            return masked(value)
        case list() if name == "api_key_command" and all(isinstance(item, str) for item in value):
            return masked_arguments(value)
        case list():
            return [_masked(name, item) for item in value]
        case _:
            return value
