"""A provider as scripts and people read it; keys are masked unless they are requested."""

from typing import Any
from urllib.parse import urlsplit

from ccfallback.cli.console import Cell
from ccfallback.config.model import Provider
from ccfallback.config.options import options, to_table
from ccfallback.config.quirks import Quirks


def describe(provider: Provider, *, in_clear: bool = False) -> dict[str, Any]:
    """A provider with the key names of the configuration, and the quirks that are set."""
    table = to_table(provider, masked=not in_clear)
    rows = options(Quirks)
    quirks = {row.key: table.pop(row.key) for row in rows}
    changed = {row.key: quirks[row.key] for row in rows if quirks[row.key] != row.default}
    return {
        "name": table.pop("name"),
        "primary": provider.primary,
        **table,
        "quirks": changed,
    }


def key_source(provider: Provider) -> Cell:
    """Where the key comes from, in a few words."""
    key = provider.key
    if key.literal is not None:
        return key.literal.masked()
    if key.env is not None:
        return f"${key.env}"
    if key.command is not None:
        return f"from {key.command[0]}"
    return "the client's own" if provider.primary else "none"


def host(provider: Provider) -> str:
    """The host and port of a provider, for a table."""
    return urlsplit(provider.base_url).netloc
