"""Read the file of another program: JSON, with comments or not, YAML, SQLite, or an SQL dump.

Everything raises `ConfigError` for a file that cannot be read.
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
"""A string, which stays as it is, or what JSON5 has and YAML lacks: a comment, or a tab."""


def read(program: str, data: bytes, path: Path | None) -> object:
    """The content of a program's file; `path` is its place, `None` for standard input."""
    if data.startswith(_DATABASE):
        if path is None:
            raise ConfigError("a database can't be read from standard input", "give its path")
        return _read_database(program, f"{path.resolve().as_uri()}?mode=ro")
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise _refusal(program, "is not UTF-8 text") from None
    if text.lstrip().startswith(_DUMP):
        return _read_database(program, ":memory:", dump=text)
    return _read_text(program, text)


def _read_text(program: str, text: str) -> object:
    import yaml

    try:
        # First as JSON, because YAML does not allow its tabs.
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        if text.lstrip().startswith(("{", "//", "/*")):
            text = _COMMENT.sub(_blank, text)
    try:
        found: object = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" (line {mark.line + 1})"
        raise _refusal(program, f"is neither JSON nor YAML{line}") from None
    return found


def _blank(found: re.Match[str]) -> str:
    """A string as it is; a comment as its line breaks, so that line numbers stay right."""
    return found[1] if found[1] is not None else " " + "\n" * found[0].count("\n")


def _read_database(program: str, address: str, dump: str = "") -> object:
    """The content of a database, or of the one that a dump creates."""
    import sqlite3

    if program not in _READERS:
        raise _refusal(program, "is a database")
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            if dump:
                connection.set_authorizer(_authorize)
                connection.executescript(dump)
                connection.set_authorizer(None)
            connection.row_factory = sqlite3.Row
            return _READERS[program](connection)
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise _refusal(program, f"can't be read: {error}") from None


def _authorize(action: int, argument: str | None, *_: str | None) -> int:
    """Confine a dump, which may contain any statement, to the database that it creates."""
    import sqlite3

    reaches_out = action in (
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_CREATE_VTABLE,
        sqlite3.SQLITE_DROP_VTABLE,
    )
    strange = action == sqlite3.SQLITE_PRAGMA and (argument or "").lower() not in _PRAGMAS
    return sqlite3.SQLITE_DENY if reaches_out or strange else sqlite3.SQLITE_OK


def _read_cc_switch(connection: "Connection") -> object:
    """The rows of cc-switch in the form of its `config.json`."""
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


def _read_claude_code_router(connection: "Connection") -> object:
    """The configuration of claude-code-router, which is one value."""
    row = connection.execute("SELECT value_json FROM app_config WHERE key = 'default'").fetchone()
    return None if row is None else msgspec.json.decode(row[0])


_READERS: Final[Mapping[str, Callable[["Connection"], object]]] = {
    "cc-switch": _read_cc_switch,
    "claude-code-router": _read_claude_code_router,
}


def _refusal(program: str, why: str) -> ConfigError:
    return ConfigError(f"the file {why}", f"check that it is {program}'s own file")
