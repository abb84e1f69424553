"""Another program's file: JSON, with comments or not, YAML, an SQLite database, or its SQL dump.

What it means, `core.foreign` says. Everything raises `ConfigError` where it can't be read.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ccfallback.errors import ConfigError

if TYPE_CHECKING:
    from sqlite3 import Connection

_DATABASE: Final = b"SQLite format 3\x00"
_DUMP: Final = "-- CC Switch"
_PRAGMAS: Final = frozenset({"foreign_keys", "user_version"})

_COMMENT: Final = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|//[^\n]*|/\*.*?\*/|\t""", re.DOTALL
)
"""A text, to be left alone, or what JSON5 has and YAML does not: a comment, and tabs between."""


def read(program: str, data: bytes, path: Path | None) -> object:
    """What is in a file of a program; `path` is where it is, `None` for standard input."""
    if data.startswith(_DATABASE):
        if path is None:
            raise ConfigError("a database can't be read from standard input", "give its path")
        return _of_database(program, f"{path.resolve().as_uri()}?mode=ro", "")
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise _not_its_own(program, "is not UTF-8 text") from None
    if text.lstrip().startswith(_DUMP):
        return _of_database(program, ":memory:", text)
    return _of_text(program, text)


def _of_text(program: str, text: str) -> object:
    import yaml

    try:
        # JSON with tabs in it is no YAML.
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        if text.lstrip().startswith(("{", "//", "/*")):
            text = _COMMENT.sub(_blank, text)
    try:
        found: object = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" (line {mark.line + 1})"
        raise _not_its_own(program, f"is neither JSON nor YAML{where}") from None
    return found


def _blank(found: re.Match[str]) -> str:
    """A text as it is; instead of anything else only the ends of its lines, which are counted."""
    return found[1] if found[1] is not None else " " + "\n" * found[0].count("\n")


def _of_database(program: str, address: str, dump: str) -> object:
    """What is in a database, or in the one that a dump makes."""
    import sqlite3

    if program not in _READERS:
        raise _not_its_own(program, "is a database")
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            if dump:
                connection.set_authorizer(_within)
                connection.executescript(dump)
                connection.set_authorizer(None)
            connection.row_factory = sqlite3.Row
            return _READERS[program](connection)
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise _not_its_own(program, f"can't be read: {error}") from None


def _within(action: int, argument: str | None, *_: str | None) -> int:
    """Keep a dump, which may say anything, within the database that it makes."""
    import sqlite3

    outside = (
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_CREATE_VTABLE,
        sqlite3.SQLITE_DROP_VTABLE,
    )
    strange = action == sqlite3.SQLITE_PRAGMA and (argument or "").lower() not in _PRAGMAS
    return sqlite3.SQLITE_DENY if action in outside or strange else sqlite3.SQLITE_OK


def _cc_switch(connection: "Connection") -> object:
    """Its rows in the form that its `config.json` had."""
    apps: dict[str, dict[str, Any]] = {}
    for found in connection.execute("SELECT * FROM providers"):
        row = dict(found)
        app = apps.setdefault(str(row.get("app_type")), {"current": "", "providers": {}})
        if row.get("is_current"):
            app["current"] = row.get("id")
        app["providers"][row.get("id")] = {
            "name": row.get("name"),
            "settingsConfig": msgspec.json.decode(row.get("settings_config") or "{}"),
            "meta": msgspec.json.decode(row.get("meta") or "{}"),
            "sortIndex": row.get("sort_index"),
            "inFailoverQueue": bool(row.get("in_failover_queue")),
        }
    return {"claude": {}, **apps}


def _claude_code_router(connection: "Connection") -> object:
    """Its configuration, which is one value."""
    row = connection.execute("SELECT value_json FROM app_config WHERE key = 'default'").fetchone()
    return None if row is None else msgspec.json.decode(row[0])


_READERS: Final[Mapping[str, Callable[["Connection"], object]]] = {
    "cc-switch": _cc_switch,
    "claude-code-router": _claude_code_router,
}


def _not_its_own(program: str, why: str) -> ConfigError:
    return ConfigError(f"what is to be imported {why}", f"see whether it is {program}'s own file")
