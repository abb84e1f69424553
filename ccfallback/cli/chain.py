"""The chain as a list, and a provider as commands show it.

`providers list` is printed from here, without the library that parses the command line: half of
its time.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ccfallback.addresses import host_and_port, is_local
from ccfallback.cli.console import Cell, Table
from ccfallback.cli.session import Session
from ccfallback.config.model import KeySource, Provider
from ccfallback.config.options import options, to_table
from ccfallback.config.quirks import Quirks
from ccfallback.redact import is_secret_header


def print_chain(session: Session, *, in_clear: bool = False) -> None:
    """Print the providers in the order in which they are tried."""
    config = session.say_config_in_use()
    value = {"providers": [describe(each, in_clear=in_clear) for each in config.chain]}

    def table() -> Table:
        from ccfallback.cli.health import format_standing, is_narrow
        from ccfallback.policy.breaker import CLOSED

        states, now = session.states(config), session.now()
        short = is_narrow(session.console.width)
        rows: list[tuple[Cell, ...]] = []
        for position, provider in enumerate(config.chain):
            shown = key_source(provider, session.environ, in_clear=in_clear)
            own = states.get(provider.name, CLOSED)
            state = format_standing(provider, own, now, short=short)
            place = str(position) if position else "-"
            wire = () if short else (provider.format,)
            where = host_and_port(provider.base_url)
            rows.append((place, provider.name, *wire, where, shown, state))
        header = ("", "name", *(() if short else ("format",)), "where", "key", "state")
        return Table(rows, header, whole=frozenset({len(header) - 1}))

    session.console.emit(value, table)


def describe(provider: Provider, *, in_clear: bool = False) -> dict[str, Any]:
    """A provider with the key names of the configuration, and the quirks that are set."""
    table = to_table(provider, masked=not in_clear)
    rows = options(Quirks)
    quirks = {row.key: table.pop(row.key) for row in rows}
    changed = {row.key: quirks[row.key] for row in rows if quirks[row.key] != row.default}
    return {"name": table.pop("name"), "primary": provider.primary, **table, "quirks": changed}


def key_source(provider: Provider, environ: Mapping[str, str], *, in_clear: bool = False) -> str:
    """Where the credentials come from, in a few words."""
    if provider.key:
        return ", ".join(_key_source(each, in_clear=in_clear) for each in provider.key.each)
    if provider.auth != "key":
        from ccfallback.credentials import describe_login

        return describe_login(provider, environ)
    return "the client's own" if provider.primary else "none"


def _key_source(key: KeySource, *, in_clear: bool) -> str:
    if key.literal is not None:
        return key.literal.reveal() if in_clear else key.literal.masked()
    return f"from {key.command[0]}" if key.command is not None else f"${key.env}"


def describe_missing_key(provider: Provider) -> str:
    """Which key a provider lacks; empty if it has one, or is likely to need none.

    A server on a private network is likely to need none.
    """
    if provider.primary or provider.has_credential:
        return ""
    parts = urlsplit(provider.base_url)
    host = parts.hostname or ""
    is_near = "." not in host or host.endswith((".local", ".lan", ".internal"))
    has_secret = parts.query or any(is_secret_header(name) for name in provider.headers)
    if is_near or is_local(provider.base_url) or has_secret:
        return ""
    return f"{provider.name} has no key, and {host} needs one"
