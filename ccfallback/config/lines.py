"""The lines of a TOML text that set its keys: the parsers say what a text holds, not where."""

import tomllib
from collections.abc import Mapping
from typing import Any

Place = tuple[str | int, ...]
"""The way from the root of a document to a value: names of tables, and positions in lists."""


def index_lines(text: str) -> dict[Place, int]:
    """The number of the line, from 1, at which each key of a valid TOML text is set.

    Each statement is parsed on its own: a line, or the few that a value spans.
    """
    lines: dict[Place, int] = {}
    lengths: dict[Place, int] = {}
    table: Place = ()
    statement, start = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        start = start if statement else number
        statement += f"{line}\n"
        try:
            content = tomllib.loads(statement)
        except ValueError:
            continue  # The value goes on in the next line.
        if statement.lstrip().startswith("["):
            table = _enter(content, lengths)
            for length in range(1, len(table) + 1):
                lines.setdefault(table[:length], start)
        else:
            _note(content, table, start, lines)
        statement = ""
    return lines


def find_line(lines: Mapping[Place, int], place: Place) -> int | None:
    """The line that sets a key; of a key that is not set, the line of the table around it."""
    ways = (place[:length] for length in range(len(place), 0, -1))
    return next((lines[way] for way in ways if way in lines), None)


def _enter(header: Mapping[str, Any], lengths: dict[Place, int]) -> Place:
    """The table that a header opens; `lengths` counts the tables of each list."""
    place: Place = ()
    found: Any = header
    while found:
        ((name, found),) = found.items()
        place = (*place, name)
        if isinstance(found, list):
            lengths[place] = lengths.get(place, 0) + 1
            (found,) = found
        if place in lengths:
            place = (*place, lengths[place] - 1)
    return place


def _note(content: Any, place: Place, line: int, lines: dict[Place, int]) -> None:
    """Note a value, and everything in it."""
    members: Any = ()
    if isinstance(content, Mapping):
        members = content.items()
    elif isinstance(content, list):
        members = enumerate(content)
    for name, value in members:
        lines.setdefault((*place, name), line)
        _note(value, (*place, name), line, lines)
