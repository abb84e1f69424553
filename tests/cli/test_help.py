"""The help of every command: it fits the screen, and its examples work."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from ccfallback.cli.help import commands
from ccfallback.cli.root import app
from tests.cli.conftest import Run

ROOT: Any = typer.main.get_command(app)


def below(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, one in commands.below(command).items():
        yield from below(one, *path, name)


EVERY = dict(below(ROOT))

every_command = pytest.mark.parametrize("path", EVERY, ids=lambda path: " ".join(path) or "root")


@every_command
def test_help_starts_with_a_sentence_that_fits_a_line(path: tuple[str, ...]) -> None:
    summary = commands.summary(EVERY[path])
    assert summary[0].isupper()
    assert len(summary) <= 67, summary


@every_command
def test_every_argument_and_option_has_a_description(path: tuple[str, ...]) -> None:
    command = EVERY[path]
    for entry in (*commands.arguments(command), *commands.options(command)):
        assert entry.text.rstrip("]").endswith(".") or "[" in entry.text, entry


@every_command
def test_help_fits_80_columns_except_for_examples(
    ccf: Run, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = ccf(*path, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: {' '.join(('ccfallback', *path))} ")
    assert [line for line in ran.out.splitlines() if len(line) > 80] == []
    assert "Example: " in ran.out


def parse(words: list[str]) -> None:
    """Parse a command line without running it."""
    command, name = ROOT, "ccfallback"
    while children := commands.below(command):
        name = words.pop(0)
        command = children[name]
    if "--help" not in words:
        command.make_context(name, words).close()


@every_command
def test_examples_parse(path: tuple[str, ...]) -> None:
    examples = commands.examples(EVERY[path])
    assert examples
    for example in examples:
        line = example.removeprefix('eval "$(').removesuffix(')"').split("|")[-1]
        words = shlex.split(line)
        while "=" in words[0]:
            words.pop(0)
        assert words.pop(0) == "ccfallback"
        assert tuple(words[: len(path)]) == path or not path
        parse(words)


def test_the_man_page_shows_choices_defaults_and_what_is_required() -> None:
    def terms(*path: str) -> dict[str, str]:
        return dict(commands.options(EVERY[path]))

    assert terms("logs", "tail")["-n, --lines N"].endswith("[default: 20]")
    assert "pretty or json. [default: pretty]" in terms("logs", "tail")["--format FORMAT"]
    assert terms("breaker", "trip")["--for DURATION"].endswith("[required]")
    assert "--disabled / --enabled" in terms("providers", "set")
    assert list(terms("logs", "tail"))[-1] == "--json"


def test_the_synopsis_shows_what_is_required() -> None:
    assert commands.usage(ROOT) == ["[OPTIONS]", "COMMAND ..."]
    assert commands.usage(EVERY["breaker", "trip"]) == ["[OPTIONS]", "NAME..."]
    assert commands.usage(EVERY["breaker", "status"]) == ["[OPTIONS]", "[NAME...]"]
    assert commands.usage(EVERY["config", "set"]) == ["[OPTIONS]", "KEY", "VALUE"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(("servr",), "serve"), (("providers", "shwo"), "show"), (("logs", "tial"), "tail")],
)
def test_the_nearest_command_is_named(ccf: Run, typed: tuple[str, ...], meant: str) -> None:
    ran = ccf(*typed)
    assert (ran.code, ran.out) == (2, "")
    assert f"Did you mean '{meant}'" in ran.err


@pytest.mark.parametrize("name", ["add", "set"])
def test_the_help_of_many_options_fits_a_screen_and_lacks_none(ccf: Run, name: str) -> None:
    lines = ccf("providers", name, "--help").out.splitlines()
    assert len(lines) <= 23
    shown = set(re.findall(r"--[a-z-]+", "\n".join(lines)))
    every = "\n".join(entry.term for entry in commands.options(EVERY["providers", name]))
    assert shown - {"--help"} == set(re.findall(r"--[a-z-]+", every))
    full = ccf("help", "providers", name).out
    assert "The AWS region." in full
    assert "The AWS region." not in "".join(lines)


@every_command
def test_help_fits_a_screen_of_24_lines(
    ccf: Run, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    # The prompt takes the last one.
    assert len(ccf(*path, "--help").out.splitlines()) <= 23
