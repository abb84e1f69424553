"""Presets: providers that need only a key, because `presets.toml` knows the rest about them."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

FILE: Final = Path(__file__).with_name("presets.toml")

_PLACEHOLDER: Final = re.compile(r"\{([a-z]+)\}")

FILLED_BY: Final = {
    "region": "aws.region",
    "project": "google.project",
    "location": "google.location",
}
"""Placeholders that are options of a provider, and the dotted key of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What the `[[providers]]` table of a well-known provider holds."""

    name: str
    title: str
    base_url: str
    format: str
    auth_header: str = "Authorization"
    key_env: str = ""
    """The variable that conventionally holds the key; empty for a provider without keys."""
    key_url: str = ""
    """Where to get a key."""
    auth: str = "key"
    """Where the credential comes from, unless the user gives a key."""
    headers: Mapping[str, str] = field(default_factory=dict)
    aws: Mapping[str, str] = field(default_factory=dict)
    """The provider's `aws` table, if its credential comes from AWS."""
    google: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    """A `model_mapping` to start with."""
    context_window: int | None = None
    """Tokens; `None` where it depends on the model that the user chooses."""
    quirks: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The parts of the URL that the user must supply: `resource` for `{resource}`."""
        return placeholders(self.base_url)

    def url(self, **values: str) -> str:
        """The base URL with its placeholders filled in; a placeholder without a value stays."""
        return fill_in(self.base_url, values)


def placeholders(*texts: str) -> tuple[str, ...]:
    """The names of the placeholders in texts, each once."""
    return tuple(dict.fromkeys(name for text in texts for name in _PLACEHOLDER.findall(text)))


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """A text with its placeholders filled in; a placeholder without a value stays."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


@cache
def presets() -> Mapping[str, Preset]:
    """All presets by name."""
    tables = tomllib.loads(FILE.read_text("utf-8"))
    return MappingProxyType({name: Preset(name=name, **row) for name, row in tables.items()})
