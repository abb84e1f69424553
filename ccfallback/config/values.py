"""Single values of a configuration by their dotted keys: `server.port`, `providers.spare.retry`.

A provider is named by its name, a token by its number; the primary's name means `[primary]`.
"""

import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import asdict
from typing import Any, Final

import tomlkit
from tomlkit import TOMLDocument

from ccfallback.config.model import PRIMARY_NAME, PRIMARY_URL, Breaker, Log, Server, Timeouts
from ccfallback.config.toml_layout import arranged
from ccfallback.errors import ConfigError
from ccfallback.suggest import closest

_TIMEOUTS: Final = asdict(Timeouts())
del _TIMEOUTS["silence"]  # Not to be configured.

DEFAULTS: Final[Mapping[str, Any]] = {
    "server": {**asdict(Server()), "allowed_hosts": [], "allowed_origins": []},
    "primary": {"base_url": PRIMARY_URL, "disabled": False, "retry": 0},
    "failover": {"on": ["401", "402", "403", "404", "408", "429", "5xx"]},
    "breaker": asdict(Breaker()),
    "timeouts": _TIMEOUTS,
    "rectifier": {"enabled": True},
    "privacy": {"billing_header": "strip"},
    "log": asdict(Log()),
    "providers": [],
    "tokens": [],
}
"""What holds where the file says nothing."""

_OF_A_PROVIDER: Final = {"format": "anthropic", "retry": 0, "disabled": False}


def value_of(text: str) -> Any:
    """What a text means as a TOML value; the text itself where it is none."""
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if list(found) == ["value"] else text


def look_up(table: Mapping[str, Any], key: str) -> Any:
    """What holds for a key: what the file says, else the default. Raises `ConfigError`."""
    parts = _parts(key)
    defaults: Any = DEFAULTS
    if parts[0] == "providers" and len(parts) > 2:
        defaults = {"providers": {parts[1]: _OF_A_PROVIDER}}
    for source in (table, defaults):
        found: Any = source
        for part in parts:
            found = _below(found, part)
            if found is None:
                break
        if found is not None:
            return found
    known = sorted({*keys(table), *keys(DEFAULTS)})
    close = closest(key, known)
    raise ConfigError(
        f"{key} is not set",
        f"did you mean {close}?" if close else "`ccfallback config show` has what is set",
    )


def put(document: TOMLDocument, key: str, value: Any) -> None:
    """Set a key; tables that are not there yet are made."""
    *path, last = _parts(key)
    with arranged(document) as layout:
        place: Any = document
        for depth, part in enumerate(path):
            found = _below(place, part)
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
            raise ConfigError(f"{'.'.join(path)} is no table", "see `ccfallback config show`")
        place[last] = value


def keys(table: Mapping[str, Any], lead: str = "") -> Iterator[str]:
    """Every dotted key of a table."""
    for name, value in table.items():
        items = _named(value) if isinstance(value, list) else value
        yield f"{lead}{name}"
        if isinstance(items, Mapping):
            yield from keys(items, f"{lead}{name}.")


def _parts(key: str) -> list[str]:
    head, *rest = key.split(".")
    if head in ("providers", "headers", "tokens") and len(rest) > 2:
        # What is left is a header or a model, whose name may have dots.
        rest = [*rest[:2], ".".join(rest[2:])]
    if head == "providers" and rest[:1] == [PRIMARY_NAME]:
        return ["primary", *rest[1:]]
    if not all([head, *rest]):
        raise ConfigError(f'"{key}" is no key', "such as server.port or providers.NAME.retry")
    return [head, *rest]


def _below(place: Any, part: str) -> Any:
    if isinstance(place, list):
        return _named(place).get(part)
    return place.get(part) if isinstance(place, Mapping) else None


def _named(tables: list[Any]) -> dict[str, Any]:
    """Tables of an array by their names, by their numbers where they have none."""
    return {
        str(table.get("name", number)): table
        for number, table in enumerate(tables, 1)
        if isinstance(table, Mapping)
    }
