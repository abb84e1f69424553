"""Dotted keys: what a text means, what holds, which keys there are."""

from typing import Any

import pytest
import tomlkit

from ccfallback.config.schema import parse
from ccfallback.config.values import DEFAULTS, keys, look_up, put, value_of
from ccfallback.errors import ConfigError
from ccfallback.wire import FORMATS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("true", True),
        ('"5"', "5"),
        ("plain words", "plain words"),
        ("[1, 2]", [1, 2]),
        ('{ a = "b" }', {"a": "b"}),
        ("1\nother = 2", "1\nother = 2"),
        ("", ""),
    ],
)
def test_a_text_is_a_toml_value_where_it_is_one(text: str, value: Any) -> None:
    assert value_of(text) == value


def test_the_defaults_are_those_of_the_schema() -> None:
    assert parse(DEFAULTS, formats=FORMATS) == parse({}, formats=FORMATS)


def test_a_key_in_the_file_beats_the_default() -> None:
    assert look_up({"server": {"port": 1}}, "server.port") == 1
    assert look_up({}, "server.port") == 8787
    with pytest.raises(ConfigError):
        look_up({}, "server.nothing")


def test_keys_name_providers_by_name() -> None:
    assert list(keys({"providers": [{"name": "a", "retry": 1}]})) == [
        "providers",
        "providers.a",
        "providers.a.name",
        "providers.a.retry",
    ]


def test_a_new_key_stays_above_the_next_tables_comment() -> None:
    document = tomlkit.parse("[server]\nport = 1\n\n# log\n[log]\n")
    put(document, "server.host", "::1")
    assert document.as_string() == '[server]\nport = 1\nhost = "::1"\n\n# log\n[log]\n'
