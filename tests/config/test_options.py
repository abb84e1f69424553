"""Option rows: every row is sound, and one more row is all that a new option needs."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ccfallback.config import checks
from ccfallback.config.model import SECTIONS, Provider, Token
from ccfallback.config.options import Option, Reader, options
from ccfallback.config.quirks import Quirks
from ccfallback.errors import ConfigFault

ROWS = options(*SECTIONS.values(), Token, deep=True)
QUIRKS = {row.key: row for row in options(Quirks)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_a_row_has_a_description_and_a_default_that_passes_its_check(row: Option) -> None:
    assert row.help
    assert row.help == row.help.strip()
    assert "\n" not in row.help
    if row.default is not None:
        assert row.accepts(row.default)
    assert not row.accepts({"no option": object()}) or row.key == "extra_body"


def test_flags_are_unique() -> None:
    flags = [row.flag for row in options(Provider, deep=True) if row.flag]
    assert len(flags) == len(set(flags)) > 8


@pytest.mark.parametrize("row", options(Provider), ids=lambda row: row.key)
def test_what_may_hold_a_secret_is_masked(row: Option) -> None:
    secrets = {"api_key", "api_keys", "api_key_command", "base_url", "headers"}
    assert (row.mask is not None) == (row.key in secrets)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_output_tokens", 0),
        ("stop_limit", -1),
        ("reasoning", "always"),
        ("schema", ""),
        ("images", 1),
        ("extra_body", "x"),
    ],
)
def test_a_quirk_out_of_bounds_is_refused(name: str, value: Any) -> None:
    assert not QUIRKS[name].accepts(value)


def test_an_unknown_provider_gets_nothing_that_some_providers_refuse() -> None:
    quirks = Quirks()
    assert quirks.reasoning == "none"
    assert quirks.reasoning_content == "drop"
    assert quirks.max_tokens_field == "max_tokens"
    assert not quirks.cache_control
    assert not quirks.system_inline
    assert not quirks.extra_body


ONE_MORE_ROW = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from ccfallback.config import checks, model
from ccfallback.config.options import option

class Provider(model.Provider, frozen=True, kw_only=True, dict=True):
    colour: str = option(
        checks.choice(("red", "blue")), "red", "Made up.", flag="--colour COLOUR"
    )

model.Provider = model.SECTIONS["primary"] = Provider
from ccfallback.cli import main

for line in sys.__stdin__:
    words, given = json.loads(line)
    sys.stdin = io.StringIO(given)
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with suppress(SystemExit), redirect_stdout(shown), redirect_stderr(shown):
        main(words)
    print(json.dumps(shown.buffer.getvalue().decode()), flush=True)
"""
"""Runs the commands that it reads, each as JSON on a line: the words, and the standard input."""


@pytest.fixture
def with_one_more_row(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs a command of a program with one more option, and returns what it prints."""
    with subprocess.Popen(
        [sys.executable, "-c", ONE_MORE_ROW],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def run(*arguments: str, given: str = "") -> str:
            words = ("--config", str(tmp_path / "config.toml"), *arguments)
            stdin.write(msgspec.json.encode((words, given)) + b"\n")
            stdin.flush()
            return msgspec.json.decode(stdout.readline(), type=str)

        yield run


def test_a_new_option_is_one_row(tmp_path: Path, with_one_more_row: Callable[..., str]) -> None:
    config, ccf = tmp_path / "config.toml", with_one_more_row

    def colour(*arguments: str) -> Any:
        return msgspec.json.decode(ccf(*arguments).partition("\n")[0])["provider"]["colour"]

    for command in ("add", "set"):
        assert "--colour COLOUR" in ccf("providers", command, "--help")
    url = ("--base-url", "https://a.example")
    assert colour("providers", "add", "a", *url, "--colour", "blue", "--json") == "blue"
    assert 'colour = "blue"' in config.read_text()
    assert colour("providers", "set", "a", "--colour", "red", "--json") == "red"
    assert "expected one of" in ccf("providers", "set", "a", "--colour", "green")
    assert "colour" in ccf("providers", "show", "a")
    assert '"colour": "red"' in ccf("config", "export")
    plain = '[{"name": "b", "baseUrl": "https://b.example", "colour": "blue"}]'
    assert "1 provider imported" in ccf("config", "import", "-", given=plain)
    assert colour("providers", "show", "b", "--json") == "blue"
    assert ccf("config", "set", "providers.b.colour", "red").startswith("providers.b.colour set")
    assert ccf("config", "get", "providers.b.colour") == "red\n"
    assert ccf("config", "get", "primary.colour") == "red\n"
    assert "did you mean colour?" in ccf("config", "set", "providers.b.color", "red")


def test_a_reader_collects_all_faults() -> None:
    faults: list[ConfigFault] = []
    reader = Reader({"a": "x", "b": 5, "prot": 1, "sub": 7}, "root", faults)
    assert reader.get("a", checks.boolean, False) is False
    assert reader.get("b", checks.integer(0, 9), 1) == 5
    assert reader.get("port", checks.integer(0, 9), 3) == 3
    reader.below("sub").finish()
    reader.finish()
    assert [str(fault) for fault in faults] == [
        'root.a: found "x", expected true or false',
        "root.sub: found 7, expected a table",
        "root.prot: unknown key; did you mean port?",
    ]


def test_an_unknown_key_without_a_similar_one_lists_all_keys() -> None:
    faults: list[ConfigFault] = []
    reader = Reader({"zzzzzz": 1}, "", faults)
    reader.get("b", checks.boolean, False)
    reader.get("a", checks.boolean, False)
    reader.finish()
    assert faults == [ConfigFault("zzzzzz", "unknown key; expected one of a, b", ("zzzzzz",))]


def test_an_error_does_not_show_a_text_in_place_of_a_table() -> None:
    faults: list[ConfigFault] = []
    Reader("a-bare-token", "tokens.1", faults)
    assert faults == [ConfigFault("tokens.1", "found a text, expected a table")]
