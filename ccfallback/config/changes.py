"""What differs between two configurations, in lines that a person reads. Secrets are masked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ccfallback.config.model import SECTIONS, Provider
from ccfallback.config.options import options, whole_numbers
from ccfallback.config.schema import index_by_name, mask_table
from ccfallback.redact import mask

_LISTS: Final = ("providers", "tokens")

_LONGEST: Final = 60


@dataclass(frozen=True, slots=True)
class Changes:
    """The steps from one configuration to another."""

    lines: tuple[str, ...]
    """`+ b`, `- token laptop`, `~ server.port 8787 → 9000`; empty if they mean the same."""
    removed: tuple[str, ...]
    """The names of the providers that are gone."""
    tokens_removed: int


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """The differences between two tables, both as TOML gave them and valid."""
    lines: list[str] = []
    old, new = (index_by_name(_list(table, "providers")) for table in (before, after))
    removed = tuple(name for name in old if name not in new)
    lines += [f"- {name}" for name in removed]
    lines += [f"+ {name}" for name in new if name not in old]
    rows = {row.path: row.default for row in options(Provider, deep=True)}
    for name, table in new.items():
        if name in old:
            lines += _differences(f"{name}.", old[name], table, rows)
    shared = [name for name in old if name in new]
    order = [name for name in new if name in old]
    if shared != order:
        lines.append(f"~ order {', '.join(shared)} → {', '.join(order)}")
    tokens, kept = (_tokens(table) for table in (before, after))
    gone = [name for token, name in tokens.items() if token not in kept]
    lines += [f"- token {name}" for name in gone]
    lines += [f"+ token {name}" for token, name in kept.items() if token not in tokens]
    for section in dict.fromkeys([*before, *after]):
        if section not in _LISTS:
            kind = SECTIONS.get(section)
            rows = {} if kind is None else {row.key: row.default for row in options(kind)}
            pair = (before.get(section, {}), after.get(section, {}))
            lines += _differences(f"{section}.", *pair, rows)
    return Changes(tuple(lines), removed, len(gone))


def _differences(lead: str, before: Any, after: Any, defaults: Mapping[str, Any]) -> Iterator[str]:
    old, new = dict(_leaves("", before)), dict(_leaves("", after))
    shown = [dict(_leaves("", mask_table(table))) for table in (before, after)]
    for key in dict.fromkeys([*old, *new]):
        default = defaults.get(key)
        values = (old.get(key, default), new.get(key, default))
        if values[0] != values[1]:
            first, second = (_format(table.get(key, default)) for table in shown)
            what = "changed" if first == second else f"{first} → {second}"
            yield f"~ {lead}{key} {what}"


def _leaves(lead: str, table: Any) -> Iterator[tuple[str, Any]]:
    """Each value of a table with its dotted key."""
    if not isinstance(table, Mapping):
        return
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(f"{lead}{name}.", value)
        else:
            yield f"{lead}{name}", value


def _list(table: Mapping[str, Any], name: str) -> list[Any]:
    found = table.get(name)
    return found if isinstance(found, list) else []


def _tokens(table: Mapping[str, Any]) -> dict[str, str]:
    """The name of each token, by the token."""
    return {
        str(entry.get("token")): str(entry.get("note") or mask(str(entry.get("token"))))
        for entry in _list(table, "tokens")
        if isinstance(entry, Mapping)
    }


def _format(value: Any) -> str:
    value = whole_numbers(value)
    match value:
        case None:
            return "unset"
        case bool():
            return str(value).lower()
        case str():
            text = value or '""'
        case list():
            text = "[" + ", ".join(map(str, value)) + "]"
        case _:
            text = str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
