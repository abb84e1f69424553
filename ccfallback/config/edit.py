"""Changes to a configuration document: add, change, remove and move providers.

One rule: whatever a person wrote beside a provider stays with it, and whatever stands beside
the others stays where it is. Pure: the document comes from `ConfigFile.edit`.
"""

import tomllib
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from typing import Any, Final

import tomlkit
from tomlkit import TOMLDocument

from ccfallback.config.model import PRIMARY_NAME, KeySource, Provider
from ccfallback.config.options import options
from ccfallback.config.schema import below, split_key
from ccfallback.config.toml_layout import PROVIDERS, Layout, Tables, arranged
from ccfallback.errors import ConfigError, ProviderNotFound
from ccfallback.suggest import closest

KEY_SOURCES: Final = tuple(row.key for row in options(KeySource))


_ROWS: Final = {row.key: row for row in options(Provider)}


class ProviderChanges(dict[str, Any]):
    """What to change of a provider, by key; None removes a key.

    The items of `headers` and `model_mapping` are merged into those of the file, and an empty one
    is removed.
    """

    def __repr__(self) -> str:
        # The key and the headers are secrets.
        return f"ProviderChanges({', '.join(self)})"


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
    for key, value in changes.items():
        row = _ROWS.get(key)
        if row is not None and row.separators:
            _merge(table, key, value)
        elif value is None or (value is False and row is not None and row.default is False):
            table.pop(key, None)
        else:
            if key in KEY_SOURCES:
                for other in KEY_SOURCES:
                    if other != key:
                        table.pop(other, None)
            table[key] = value


def _as_spelled(there: Any, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, spelled as in the file where it has them: case does not matter."""
    known = {name.lower(): name for name in there} if isinstance(there, Mapping) else {}
    return {known.get(name.lower(), name): value for name, value in headers.items()}


def _merge(table: MutableMapping[str, Any], key: str, items: Mapping[str, str]) -> None:
    there = table.get(key)
    if key == "headers":
        items = _as_spelled(there, items)
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


def provider_names(document: TOMLDocument) -> list[str]:
    """The names of the document's providers, without broken ones."""
    tables = document.unwrap().get("providers", [])
    return [str(table["name"]) for table in tables if isinstance(table, dict) and "name" in table]


def value_of(text: str) -> Any:
    """The value that a text means in TOML; the text itself if it is not a value."""
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if list(found) == ["value"] else text


def put(document: TOMLDocument, key: str, value: Any) -> None:
    """Set a key; tables that are not there yet are made."""
    *path, last = split_key(key)
    with arranged(document) as layout:
        place: Any = document
        for depth, part in enumerate(path):
            found = below(place, part)
            if found is None and (depth or part in ("providers", "tokens")):
                if not isinstance(place, MutableMapping) or part in ("providers", "tokens"):
                    raise ConfigError(
                        f"there is no {'.'.join(path)}", "see `ccfallback config show`"
                    )
                place[part] = tomlkit.inline_table()
                found = place[part]
            elif found is None:
                opens = not document.as_string().strip()
                table = tomlkit.table()
                document[part] = table
                table.trivia.indent = ""
                layout.set_above(table, "" if opens else "\n")
                found = table
            place = found
        if not isinstance(place, MutableMapping):
            raise ConfigError(f"{'.'.join(path)} is not a table", "see `ccfallback config show`")
        place[last] = value


def add_token(document: TOMLDocument, token: str, note: str) -> None:
    """Put a token after those there are."""
    with arranged(document) as layout:
        tokens = Tables(layout, "tokens")
        table = tokens.new()
        table["token"] = token
        if note:
            table["note"] = note
        tokens.insert(len(tokens), table)


def remove_tokens(document: TOMLDocument, places: Collection[int]) -> None:
    """Take out the tokens at these places, counted from 0."""
    with arranged(document) as layout:
        tokens = Tables(layout, "tokens")
        for place in sorted(places, reverse=True):
            tokens.remove(place)
