"""A configuration as JSON, and JSON or TOML as a configuration again."""

import tomllib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import tomlkit

from ccfallback.cli.foreign.programs import Foreign, translate
from ccfallback.errors import ConfigError

PLAIN_KEYS: Final[Mapping[str, str]] = {
    "name": "name",
    "baseUrl": "base_url",
    "apiKey": "api_key",
    "authHeader": "auth_header",
    "headers": "headers",
    "modelMapping": "model_mapping",
    "format": "format",
    "disabled": "disabled",
    "retry": "retry",
}
"""The keys of a plain array, and ours."""

EMPTY: Final[tuple[object, ...]] = (None, "", {})


def exported(table: Mapping[str, Any]) -> bytes:
    """The whole configuration as one JSON object, keys in clear."""
    return msgspec.json.format(msgspec.json.encode(table), indent=2) + b"\n"


def imported(text: str, current: Mapping[str, Any]) -> str:
    """The file that a text makes: JSON of an export, a plain array of providers, or TOML.

    A plain array takes the place of the providers in `current`. Raises `ConfigError`.
    """
    text = text.removeprefix("\ufeff")
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        try:
            tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            raise ConfigError(
                "what is to be imported is neither JSON nor TOML",
                "`ccfallback config export` shows the form",
            ) from None
        return text
    if isinstance(found, list):
        found = {**current, "providers": [_provider(entry) for entry in found]}
    if not isinstance(found, dict):
        raise ConfigError(
            "what is to be imported is neither an object nor an array of providers",
            "`ccfallback config export` shows the form",
        )
    return as_toml(found)


def imported_from(program: str, found: object, current: Mapping[str, Any]) -> tuple[str, Foreign]:
    """The file that another program's makes, its providers in place of those in `current`.

    Beside it, what was found in it. Raises `ConfigError`.
    """
    foreign = translate(program, found)
    return as_toml({**current, "providers": foreign.providers}), foreign


def as_toml(table: Mapping[str, Any]) -> str:
    """A table as TOML."""
    return tomlkit.dumps(_without_nothing(table))


def _provider(entry: Any) -> Any:
    """A provider of a plain array with our key names; what is wrong with it, the schema says."""
    if not isinstance(entry, Mapping):
        return entry
    return {PLAIN_KEYS.get(key, key): value for key, value in entry.items() if value not in EMPTY}


def _without_nothing(value: Any) -> Any:
    """A value without null, which TOML has no word for."""
    if isinstance(value, Mapping):
        return {key: _without_nothing(item) for key, item in value.items() if item is not None}
    return [_without_nothing(item) for item in value] if isinstance(value, list) else value
