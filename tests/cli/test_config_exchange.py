"""JSON out, and JSON or TOML in."""

import tomllib

import msgspec
import pytest

from ccfallback.cli.config_exchange import exported, imported, imported_from
from ccfallback.errors import ConfigError

TABLE = {"server": {"port": 1}, "providers": [{"name": "a", "headers": {"X-A": "é"}}]}


def test_an_export_is_imported_as_it_was() -> None:
    assert tomllib.loads(imported(exported(TABLE).decode(), {})) == TABLE


def test_an_array_replaces_the_providers_of_what_there_is() -> None:
    text = imported('[{"name": "b", "baseUrl": "u", "apiKey": ""}]', TABLE)
    assert tomllib.loads(text) == {
        "server": {"port": 1},
        "providers": [{"name": "b", "base_url": "u"}],
    }


def test_null_is_not_set() -> None:
    given = msgspec.json.encode({"server": {"port": None, "host": "x"}}).decode()
    assert tomllib.loads(imported(given, {})) == {"server": {"host": "x"}}


@pytest.mark.parametrize("text", ["5", "null", "what", '"text"'])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        imported(text, {})


def test_another_program_s_providers_take_the_place_of_ours() -> None:
    text, foreign = imported_from(
        "claude-code-router",
        {"Providers": [{"name": "r", "api_base_url": "https://r.example/v1"}]},
        TABLE,
    )
    provider = {"name": "r", "base_url": "https://r.example/v1", "format": "openai"}
    assert tomllib.loads(text) == {**TABLE, "providers": [provider]}
    assert foreign.omitted == []
