"""What is found in another program's file, and how its values are read."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ccfallback.config.model import PRIMARY_NAME

Table = Mapping[str, Any]

_REFERENCE: Final = re.compile(r"os\.environ/(\w+)|\$(\w+)|\$\{(\w+)\}")
"""A value that is in the environment, in the three ways in which the others say so."""

_LONGEST: Final = 64
_BAD_LETTERS: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(slots=True)
class Foreign:
    """What another program's file holds."""

    providers: list[dict[str, Any]] = field(default_factory=list)
    """As `[[providers]]` tables."""
    left_out: list[str] = field(default_factory=list)
    """What has not been taken over, each in a few words."""

    def add(self, name: object, provider: dict[str, Any]) -> None:
        """Add a provider under a valid name that nobody else has.

        Not one whose address is in a variable: that would have to be guessed.
        """
        if variable := reference(provider.get("base_url")):
            self.leave(name, f"its address is in the variable {variable}, and has to be a URL here")
            return
        taken = {PRIMARY_NAME, *(each["name"] for each in self.providers)}
        plain = _BAD_LETTERS.sub("-", str(name)).strip("-")[:_LONGEST] or "provider"
        free, number = plain, 1
        while free in taken:
            number += 1
            free = f"{plain[: _LONGEST - 1 - len(str(number))]}-{number}"
        self.providers.append({"name": free, **provider})

    def leave(self, what: object, why: str) -> None:
        """Say that something is not taken over."""
        self.left_out.append(f"{what}: {why}")

    def leave_others(self, table: Table, known: Iterable[str]) -> None:
        """Say which members of a file were not looked at."""
        others = [str(key) for key in table if key not in known]
        if others:
            self.leave(", ".join(others), "settings of that program, not of a provider")


def provider_of(url: str, anthropic: bool, key: object, mapping: Mapping[str, str]) -> Any:
    """A `[[providers]]` table without its name."""
    provider: dict[str, Any] = {"base_url": url}
    if not anthropic:
        provider["format"] = "openai"
    if variable := reference(key):
        provider["api_key_env"] = variable
    elif isinstance(key, str) and key:
        provider["api_key"] = key
    if mapping:
        provider["model_mapping"] = dict(mapping)
    return provider


def reference(value: object) -> str:
    """The environment variable that a value stands for; empty where it is the value itself."""
    found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return "" if found is None else next(filter(None, found.groups()))


def table_of(value: object) -> Table:
    """A value if it is a table, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def list_of(value: object) -> list[Any]:
    """A value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def entries_of(value: object) -> list[Table]:
    """The tables in a list."""
    return [entry for entry in list_of(value) if isinstance(entry, Mapping)]


def headers_of(value: object) -> dict[str, str]:
    """The headers in a table, those whose values are texts."""
    return {str(name): text for name, text in table_of(value).items() if isinstance(text, str)}
