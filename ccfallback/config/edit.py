"""Changes to a configuration document: add, change, remove and move providers.

One rule: whatever a person wrote beside a provider stays with it, and whatever stands beside
the others stays where it is. Pure: the document comes from `ConfigFile.edit`.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import tomlkit
from tomlkit import TOMLDocument

from ccfallback.config.model import PRIMARY_NAME
from ccfallback.config.toml_layout import PROVIDERS, Layout, Tables, arranged
from ccfallback.errors import ConfigError, ProviderNotFound
from ccfallback.suggest import closest

KEY_SOURCES: Final = ("api_key", "api_key_env", "api_key_command")


@dataclass(frozen=True, kw_only=True)
class ProviderChanges:
    """What to change of a provider; None leaves a thing as it is."""

    base_url: str | None = None
    format: str | None = None
    api_key: str | None = None
    api_key_env: str | None = None
    api_key_command: Sequence[str] | None = None
    auth_header: str | None = None
    retry: int | None = None
    disabled: bool | None = None
    headers: Mapping[str, str] | None = None
    """Merged into those there are; an empty value takes a header out."""
    model_mapping: Mapping[str, str] | None = None
    """Merged likewise."""
    quirks: Mapping[str, Any] | None = None
    """Switches by name; None takes one out."""

    def __repr__(self) -> str:
        # The key and the headers are secrets.
        given = [name for name in self.__dataclass_fields__ if getattr(self, name) is not None]
        return f"ProviderChanges({', '.join(given)})"


def add_provider(
    document: TOMLDocument, name: str, changes: ProviderChanges, position: int | None = None
) -> None:
    """Add a provider; `position` counts among the fallbacks from 1, the default is the end."""
    with arranged(document) as layout:
        providers = Tables(layout, PROVIDERS)
        if name == PRIMARY_NAME or name in _names(providers):
            raise ConfigError(
                f'there is a provider "{name}" already',
                f"change it with `ccfallback providers set {name}`, or choose another name",
            )
        table = providers.new()
        table["name"] = name
        _apply(table, changes)
        providers.insert(_index(position, len(providers) + 1), table)


def change_provider(document: TOMLDocument, name: str, changes: ProviderChanges) -> None:
    """Change a provider; the primary's name means the `[primary]` table."""
    with arranged(document) as layout:
        if name == PRIMARY_NAME:
            _change_primary(layout, changes)
        else:
            providers = Tables(layout, PROVIDERS)
            _apply(providers[_find(providers, name)], changes)


def remove_providers(document: TOMLDocument, names: Sequence[str]) -> list[str]:
    """Take providers out; says which of the names there were."""
    removed = []
    with arranged(document) as layout:
        providers = Tables(layout, PROVIDERS)
        for name in names:
            known = _names(providers)
            if name in known:
                providers.remove(known.index(name))
                removed.append(name)
    return removed


def move_provider(document: TOMLDocument, name: str, to: int) -> None:
    """Put a provider in another place among the fallbacks, counted from 1."""
    if name == PRIMARY_NAME:
        raise ConfigError(
            f"{PRIMARY_NAME} is always first in the chain",
            f"leave it out with `ccfallback providers disable {PRIMARY_NAME}`",
        )
    with arranged(document) as layout:
        providers = Tables(layout, PROVIDERS)
        providers.move(_find(providers, name), _index(to, len(providers)))


def _names(providers: Tables) -> list[str | None]:
    """The name of each provider, None where it has none."""
    return [
        str(table["name"]) if isinstance(table, Mapping) and "name" in table else None
        for table in providers
    ]


def _find(providers: Tables, name: str) -> int:
    names = _names(providers)
    if name in names:
        return names.index(name)
    known = [PRIMARY_NAME, *(known for known in names if known)]
    close = closest(name, known)
    hint = f'did you mean "{close}"?' if close else f"there are: {', '.join(known)}"
    raise ProviderNotFound(f'no provider is called "{name}"', hint)


def _index(position: int | None, count: int) -> int:
    """Where position 1 to `count` is in a list; beyond the end is the end."""
    if position is None:
        return count - 1
    if position < 1:
        raise ConfigError("positions count from 1", "1 is the first after the primary")
    return min(position, count) - 1


def _change_primary(layout: Layout, changes: ProviderChanges) -> None:
    document = layout.document
    table = document.get("primary")
    if isinstance(table, MutableMapping):
        _apply(table, changes)
        return
    table = tomlkit.table()
    _apply(table, changes)
    if table:
        opens = not document.as_string().strip()
        document["primary"] = table
        table.trivia.indent = ""
        layout.set_above(table, "" if opens else "\n")


def _apply(table: MutableMapping[str, Any], changes: ProviderChanges) -> None:
    plain = {
        "base_url": changes.base_url,
        "format": changes.format,
        "api_key": changes.api_key,
        "api_key_env": changes.api_key_env,
        "api_key_command": None if changes.api_key_command is None else [*changes.api_key_command],
        "auth_header": changes.auth_header,
        "retry": changes.retry,
    }
    for key, value in plain.items():
        if value is None:
            continue
        if key in KEY_SOURCES:
            for other in KEY_SOURCES:
                if other != key:
                    table.pop(other, None)
        table[key] = value
    if changes.disabled:
        table["disabled"] = True
    elif changes.disabled is False:
        table.pop("disabled", None)
    for key, value in (changes.quirks or {}).items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
    if changes.headers is not None:
        _merge(table, "headers", _as_spelled(table.get("headers"), changes.headers))
    if changes.model_mapping is not None:
        _merge(table, "model_mapping", changes.model_mapping)


def _as_spelled(there: Any, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, named as the file names them already: their case means nothing."""
    known = {name.lower(): name for name in there} if isinstance(there, Mapping) else {}
    return {known.get(name.lower(), name): value for name, value in headers.items()}


def _merge(table: MutableMapping[str, Any], key: str, items: Mapping[str, str]) -> None:
    there = table.get(key)
    if not isinstance(there, MutableMapping):
        kept = {name: value for name, value in items.items() if value}
        if kept:
            inline = tomlkit.inline_table()
            inline.update(kept)
            table[key] = inline
        return
    for name, value in items.items():
        if value:
            there[name] = value
        else:
            there.pop(name, None)
    if not there:
        del table[key]
