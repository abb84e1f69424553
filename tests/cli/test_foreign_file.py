"""Another program's file: every form that it may have, and none that reaches beyond itself."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ccfallback.cli.foreign import read
from ccfallback.errors import ConfigError

ROW = {
    "name": "It's mine",
    "settingsConfig": {"env": {"ANTHROPIC_BASE_URL": "https://a.example"}},
    "meta": {"apiFormat": "anthropic"},
    "sortIndex": 2,
    "inFailoverQueue": True,
}
CLAUDE = {"current": "1", "providers": {"1": ROW}}
TABLE = """CREATE TABLE providers (
    id TEXT, app_type TEXT, name TEXT, settings_config TEXT, sort_index INTEGER,
    meta TEXT, is_current BOOLEAN, in_failover_queue BOOLEAN
);
INSERT INTO "providers" VALUES
    ('1', 'claude', 'It''s mine', '{"env": {"ANTHROPIC_BASE_URL": "https://a.example"}}', 2,
     '{"apiFormat": "anthropic"}', 1, 1),
    ('1', 'codex', 'Other', '{}', NULL, '{}', 0, 0);
"""
DUMP = f"""-- CC Switch SQLite, exported
PRAGMA foreign_keys=OFF;
PRAGMA user_version=6;
BEGIN TRANSACTION;
{TABLE}COMMIT;
PRAGMA foreign_keys=ON;
"""


def database(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff{\t"a": ["http://b"]}',
        "a:\n  - http://b\n",
        "// first\n{\n\ta: [ /* two\nlines */ 'http://b', ], // last\n}",
        '/* "quoted" */ {"a": ["http://b",],}',
    ],
)
def test_json_with_or_without_comments_and_yaml(text: str) -> None:
    assert read("claude-code-router", text.encode(), None) == {"a": ["http://b"]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a:\n\t- b", r"nor YAML \(line 2\)"),
        (b"{\n// a\n/* b\n */ [}", r"nor YAML \(line 4\)"),
        (b"\xff\xfe{", "not UTF-8"),
    ],
)
def test_a_text_that_is_neither_is_reported_with_its_line(data: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read("claude-code-router", data, None)


def test_cc_switch_s_database_and_its_dump_say_the_same(tmp_path: Path) -> None:
    path = database(tmp_path / "cc-switch.db", TABLE)
    from_database: Any = read("cc-switch", path.read_bytes(), path)
    assert from_database["claude"] == CLAUDE
    assert list(from_database) == ["claude", "codex"]
    assert read("cc-switch", DUMP.encode(), None) == from_database


def test_claude_code_router_s_database(tmp_path: Path) -> None:
    script = """CREATE TABLE app_config (key TEXT PRIMARY KEY, value_json TEXT);
        INSERT INTO app_config VALUES ('default', '{"Providers": []}'), ('other', '5');"""
    path = database(tmp_path / "odd # name?.sqlite", script)
    assert read("claude-code-router", path.read_bytes(), path) == {"Providers": []}


def test_a_dump_does_nothing_beyond_the_database_that_it_makes(tmp_path: Path) -> None:
    target = tmp_path / "written.db"
    for statement in (
        f"ATTACH DATABASE '{target}' AS other;",
        f"VACUUM INTO '{target}';",
        f"PRAGMA temp_store_directory = '{tmp_path}';",
    ):
        with pytest.raises(ConfigError, match="can't be read"):
            read("cc-switch", f"-- CC Switch\n{statement}\n{TABLE}".encode(), None)
    assert not target.exists()


@pytest.mark.parametrize("program", ["cc-switch", "claude-code-router", "litellm"])
def test_any_other_database_is_refused_and_left_as_it_is(program: str, tmp_path: Path) -> None:
    path = database(tmp_path / "x.db", "CREATE TABLE other (a);")
    before = path.read_bytes()
    with pytest.raises(ConfigError):
        read(program, before, path)
    with pytest.raises(ConfigError):
        read(program, before, None)
    assert path.read_bytes() == before
    assert list(tmp_path.glob("x.db*")) == [path]


def test_broken_settings_in_a_database_are_no_crash(tmp_path: Path) -> None:
    path = database(tmp_path / "x.db", TABLE.replace('{"env"', '{"env', 1))
    with pytest.raises(ConfigError, match="can't be read"):
        read("cc-switch", path.read_bytes(), path)
