"""`config export|import|reset`: out and in again is the same; a bad import changes nothing."""

import sqlite3
import stat
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ccfallback.cli.import_export import from_text, to_json
from ccfallback.config.file import CLEARED
from ccfallback.errors import ConfigError
from ccfallback.paths import Paths
from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("two_providers")


def exported(ccf: Run) -> Any:
    return ccf("config", "export").json


def test_an_export_comes_back_as_it_was(ccf: Run, paths: Paths, tmp_path: Path) -> None:
    backup = tmp_path / "backup.json"
    ccf("tokens", "add", "--note", "laptop")
    ccf("config", "set", "server.port", "9000")
    before = exported(ccf)
    assert before["providers"][0]["api_key"] == "sk-abcdefghijklmnopqrstuvwxyz"
    assert ccf("config", "export", str(backup)).code == 0
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert ccf("config", "reset", "--yes").code == 0
    assert exported(ccf) == {}
    ran = ccf("config", "import", str(backup), "--yes", "--json")
    assert ran.json == {"changed": True, "providers": ["one", "two"], "removed": []}
    assert exported(ccf) == before
    assert stat.S_IMODE(paths.config.stat().st_mode) == 0o600
    assert ccf("config", "rollback").code == 0
    assert exported(ccf) == {}


def test_stdin_and_stdout(ccf_process: Run, ccf: Run) -> None:
    before = ccf_process("config", "export", "-").out
    ccf("config", "reset")
    assert ccf_process("config", "import", "-", given=before).code == 0
    assert exported(ccf) == msgspec.json.decode(before)


def test_a_plain_array_replaces_the_providers_only(ccf: Run) -> None:
    ccf("config", "set", "server.port", "9000")
    plain = [
        {
            "name": "three",
            "baseUrl": "https://three.example/v1/chat/completions",
            "apiKey": "k3",
            "authHeader": "Authorization",
            "headers": {"X-Title": "cc"},
            "modelMapping": {"*": "m"},
            "format": "openai",
            "disabled": False,
            "retry": 2,
        },
        {"name": "four", "baseUrl": "https://four.example", "apiKey": None, "headers": {}},
    ]
    given = msgspec.json.encode(plain).decode()
    assert ccf("config", "import", "-", given=given).code == 0
    assert exported(ccf) == {
        "server": {"port": 9000},
        "providers": [
            {
                "name": "three",
                "base_url": "https://three.example/v1/chat/completions",
                "api_key": "k3",
                "auth_header": "Authorization",
                "headers": {"X-Title": "cc"},
                "model_mapping": {"*": "m"},
                "format": "openai",
                "disabled": False,
                "retry": 2,
            },
            {"name": "four", "base_url": "https://four.example"},
        ],
    }


def test_toml_comes_in_with_its_comments(ccf: Run, paths: Paths) -> None:
    given = "# theirs\n[server]\nport = 9001\n"
    assert ccf("config", "import", "-", given=given).code == 0
    assert paths.config.read_text() == given


@pytest.mark.parametrize(
    "given",
    [
        "",
        " \n\n",
        "\ufeff",
        "\x00\x00",
        "# only\n",
        "null",
        "5",
        "nonsense",
        '{"server": {"prot": 1}}',
        "[5]",
        '[{"name": "x"}]',
        "[[[",
    ],
)
def test_a_bad_import_changes_nothing(ccf: Run, paths: Paths, given: str) -> None:
    before = paths.config.read_bytes()
    ran = ccf("config", "import", "-", given=given)
    assert ran.code == 1
    assert "bug" not in ran.err
    assert paths.config.read_bytes() == before


def test_a_missing_file_is_reported(ccf: Run) -> None:
    ran = ccf("config", "import", "/nowhere/at-all.json")
    assert ran.code == 1
    assert "can't be read" in ran.err


def test_import_and_reset_mend_a_broken_file(ccf: Run, paths: Paths) -> None:
    paths.config.write_text("[server")
    assert ccf("config", "import", "-", given='{"server": {"port": 1}}').code == 0
    paths.config.write_text("[server")
    assert ccf("config", "reset").code == 0
    assert paths.config.read_text() == CLEARED
    assert "nothing changed" in ccf("config", "reset").err


LITELLM = """
model_list:
  - model_name: sonnet
    litellm_params:
      model: openai/large
      api_base: https://three.example/v1
      api_key: os.environ/THREE_KEY
router_settings: {num_retries: 2}
"""


def test_another_program_s_file_replaces_the_providers_only(ccf: Run) -> None:
    ccf("config", "set", "server.port", "9000")
    before = exported(ccf)
    ran = ccf("config", "import", "--from", "litellm", "-", "--json", given=LITELLM)
    assert ran.code == 0
    assert ran.json["providers"] == ["openai"]
    assert "router_settings" in ran.json["left_out"][0]
    assert "not imported: router_settings" in ran.err
    assert "rollback" in ran.err
    after = exported(ccf)
    assert after["server"] == {"port": 9000}
    assert after["providers"][0]["api_key_env"] == "THREE_KEY"
    ccf("config", "rollback")
    assert exported(ccf) == before


@pytest.mark.parametrize("given", ["a: [", "{}", '{"model_list": []}', LITELLM.replace("s:", "x")])
def test_another_program_s_bad_file_changes_nothing(ccf: Run, paths: Paths, given: str) -> None:
    before = paths.config.read_bytes()
    ran = ccf("config", "import", "--from", "litellm", "-", given=given)
    assert ran.code == 1
    assert "bug" not in ran.err
    assert paths.config.read_bytes() == before


def test_an_unknown_program_is_wrong_usage(ccf: Run) -> None:
    ran = ccf("config", "import", "--from", "litelm", "x.yaml")
    assert ran.code == 2
    assert "did you mean litellm?" in ran.err


def test_another_program_s_database_is_read_where_it_is(ccf: Run, tmp_path: Path) -> None:
    database = tmp_path / "cc-switch.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE providers (id, app_type, name, settings_config)")
        env = '{"env": {"ANTHROPIC_BASE_URL": "https://relay.example", "ANTHROPIC_API_KEY": "k"}}'
        connection.execute("INSERT INTO providers VALUES ('1', 'claude', 'Relay', ?)", [env])
    ran = ccf("config", "import", "--from", "cc-switch", str(database), "--json")
    assert ran.json == {
        "changed": True,
        "providers": ["Relay"],
        "removed": ["one", "two"],
        "left_out": [],
    }
    ran = ccf("config", "import", "--from", "litellm", str(database))
    assert ran.code == 1
    assert "the file is a database" in ran.err
    ran = ccf("config", "import", str(database))
    assert ran.code == 1
    assert "`--from`" in ran.err


TABLE = {"server": {"port": 1}, "providers": [{"name": "a", "headers": {"X-A": "é"}}]}


@pytest.mark.parametrize("name", Paths._fields)
def test_an_export_never_overwrites_our_own_files(ccf: Run, paths: Paths, name: str) -> None:
    ccf("config", "set", "server.port", "1")
    own: Path = getattr(paths, name)
    before = own.read_bytes() if own.exists() else None
    ran = ccf("config", "export", str(own))
    assert (ran.code, "file of ccfallback itself" in ran.err) == (1, True)
    assert (own.read_bytes() if own.exists() else None) == before


def test_an_export_that_cannot_be_written_names_its_file(ccf: Run, tmp_path: Path) -> None:
    ran = ccf("config", "export", str(tmp_path))
    assert ran.code == 1
    assert ran.err.startswith(f"ccfallback: {tmp_path} can't be written: ")


def test_an_export_knows_our_own_file_however_it_is_written(
    ccf: Run, paths: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ccf("config", "set", "server.port", "1")
    before = paths.config.read_bytes()
    linked = tmp_path / "linked"
    linked.symlink_to(paths.config.parent)
    monkeypatch.chdir(paths.config.parent)
    name, folder = paths.config.name, paths.config.parent.name
    spellings = (
        name,
        f"./{name}",
        f"../{folder}/{name}",
        f"{paths.config.parent}/../{folder}/{name}",
    )
    for spelling in (*spellings, str(linked / name)):
        ran = ccf("config", "export", spelling)
        assert (ran.code, "file of ccfallback itself" in ran.err) == (1, True), spelling
    assert paths.config.read_bytes() == before


def test_an_export_is_imported_as_it_was() -> None:
    assert tomllib.loads(from_text(to_json(TABLE).decode(), {}, "backup")) == TABLE


def test_an_array_replaces_the_providers_of_what_there_is() -> None:
    text = from_text('[{"name": "b", "baseUrl": "u", "apiKey": ""}]', TABLE)
    assert tomllib.loads(text) == {
        "server": {"port": 1},
        "providers": [{"name": "b", "base_url": "u"}],
    }


def test_null_is_not_set() -> None:
    given = msgspec.json.encode({"server": {"port": None, "host": "x"}}).decode()
    assert tomllib.loads(from_text(given, {}, "backup")) == {"server": {"host": "x"}}


@pytest.mark.parametrize("text", ["5", "null", "what", '"text"', "[null]", "[[]]", '["a", {}]'])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        from_text(text, {}, "backup")


@pytest.mark.parametrize("given", ["", " \n\t\n", "\ufeff", "\x00" * 512])
@pytest.mark.parametrize("program", [(), ("--from", "litellm")])
def test_an_empty_import_is_refused_and_says_what_clears(
    ccf: Run, paths: Paths, given: str, program: tuple[str, ...]
) -> None:
    before = paths.config.read_bytes()
    ran = ccf("config", "import", *program, "-", given=given)
    assert ran.code == 1
    assert "nothing to import: the input is empty" in ran.err
    assert "config reset" in ran.err
    assert paths.config.read_bytes() == before


@pytest.mark.parametrize("given", ["{}", '{"providers": []}', '{"server": null}', "# only this"])
def test_an_import_that_sets_nothing_changes_nothing(ccf: Run, paths: Paths, given: str) -> None:
    before = paths.config.read_bytes()
    ran = ccf("config", "import", "-", given=given)
    assert ran.code == 1
    assert "nothing to import: the input sets nothing" in ran.err
    assert paths.config.read_bytes() == before
    # The export of an empty configuration comes back as it was.
    paths.config.write_text("")
    assert ccf("config", "import", "-", given="{}").code == 0


def test_an_import_says_what_it_removes(ccf: Run) -> None:
    ccf("tokens", "add")
    ran = ccf("config", "import", "-", given="[]")
    assert ran.code == 0
    assert "0 providers imported, 2 removed: one, two; " in ran.err
    ccf("config", "rollback")
    ran = ccf("config", "import", "-", given='{"server": {"port": 1}}')
    assert "2 removed: one, two, 1 access token removed; " in ran.err
    ccf("config", "rollback")
    ran = ccf("config", "reset")
    assert "2 removed: one, two, 1 access token removed; " in ran.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('[{"name": "a"}]', "providers.a.base_url"),
        ("[[providers]]\nname = 'a'\n", "providers.a.base_url"),
        ('{\n"a": 1,\n"b" 2}', "line 3 column 5"),
        ("[server]\nport 3\n", "line 2, column 6"),
    ],
)
def test_a_faulty_import_blames_the_imported_file(
    ccf: Run, paths: Paths, tmp_path: Path, given: str, said: str
) -> None:
    backup = tmp_path / "backup"
    backup.write_text(given)
    before = paths.config.read_bytes()
    ran = ccf("config", "import", str(backup))
    assert ran.code == 1
    assert str(backup) in ran.err
    assert said in ran.err
    assert str(paths.config) not in ran.err
    assert paths.config.read_bytes() == before


def test_an_open_server_without_tokens_is_reported(ccf: Run) -> None:
    ccf("tokens", "add")
    ccf("config", "set", "server.host", "0.0.0.0")
    for command in (("reset",), ("import", "-"), ("set", "tokens", "[]")):
        ran = ccf("config", *command, given='{"server": {"host": "0.0.0.0"}}')
        assert ran.code == 0
        assert "keeps requiring the last tokens" in ran.err
        assert ("`serve` will not start" in ran.err) is (command != ("reset",))
        assert "keeps requiring" not in ccf("config", "rollback").err
    ccf("tokens", "remove", "1")
    assert "keeps requiring" not in ccf("config", "set", "server.port", "1").err


def test_an_old_backup_without_formats_is_understood(ccf: Run) -> None:
    url = "https://openrouter.ai/api/v1/chat/completions"
    given = f'[{{"name": "openrouter", "baseUrl": "{url}", "apiKey": "sk-or-0123456789"}}]'
    ran = ccf("config", "import", "-", given=given)
    assert "openrouter: taken as the OpenAI format (from the URL)" in ran.err
    assert ccf("providers", "show", "openrouter", "--json").json["provider"]["format"] == "openai"
