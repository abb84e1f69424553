"""Further sections of the state beside `providers`: named entries, such as quotas by credential.

A store knows nothing of an entry but its name. Entries are kept in the order in which they were
written, the last write wins, and a section that is too long loses its oldest entries. A section may
say which entries are over. Sections and entries that this version cannot read stay as they are.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")


class Section(NamedTuple, Generic[T]):
    """A section of the state, and what its entries are.

    No dataclass: to import those would be a seventh of what the status line takes.
    """

    name: str
    """Its key in the state file."""
    parse: Callable[[Any], T]
    """Makes an entry of JSON; raises `ValueError` if it is not one."""
    encode: Callable[[T], Any]
    """Makes JSON of an entry; any thread may call it."""
    most: int
    """How many entries are kept."""
    is_over: Callable[[T, T], bool] | None = None
    """Whether an entry means nothing any more once a later one is written; then it is removed."""

    def find(self, sections: "Sections", key: str) -> T | None:
        """The entry of that name; `None` if there is none that can be read."""
        raw = sections.get(self.name, _EMPTY).get(key)
        try:
            return None if raw is None else self.parse(raw)
        except (TypeError, ValueError, OverflowError):
            return None

    def read(self, sections: "Sections") -> dict[str, T]:
        """All entries that can be read, the oldest first."""
        found = ((key, self.find(sections, key)) for key in sections.get(self.name, ()))
        return {key: entry for key, entry in found if entry is not None}

    def prune(self, table: dict[str, Any], latest: T) -> None:
        """Remove the entries that are over once the latest is written, then those too many."""
        if self.is_over is not None:
            for key, entry in self.read({self.name: table}).items():
                if self.is_over(entry, latest):
                    del table[key]
        while len(table) > self.most:
            del table[next(iter(table))]


def section_of(
    kind: type[T], name: str, most: int, is_over: Callable[[T, T], bool] | None = None
) -> Section[T]:
    """A section whose entries are structs that are written as they are."""
    return Section(name, partial(msgspec.convert, type=kind), msgspec.to_builtins, most, is_over)


Sections = Mapping[str, Mapping[str, Any]]
"""The further sections as JSON: the entries of each by name."""

_EMPTY: Final[Mapping[str, Any]] = {}


class Entry(NamedTuple):
    """An entry to write."""

    section: Section[Any]
    key: str
    value: Any


def read_sections(document: Mapping[str, Any]) -> Sections:
    """All tables of a state document besides `providers`."""
    return {
        name: table
        for name, table in document.items()
        if name != "providers" and isinstance(table, dict)
    }


def merge(sections: Sections, entries: Iterable[Entry]) -> Sections:
    """The sections that differ from `sections` once the entries are written."""
    changed: dict[str, dict[str, Any]] = {}
    latest: dict[str, Entry] = {}
    for entry in entries:
        section, key, value = entry
        table = changed.setdefault(section.name, dict(sections.get(section.name, _EMPTY)))
        table.pop(key, None)
        table[key] = section.encode(value)
        latest[section.name] = entry
    for name, (section, _, value) in latest.items():
        section.prune(changed[name], value)
    return {name: table for name, table in changed.items() if table != sections.get(name, _EMPTY)}
