"""The man page, made from the same source as `--help`.

`python -m ccfallback.cli.manual FILE` writes it; so does `ccfallback.cli.completions`.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

import typer

from ccfallback import __version__
from ccfallback.cli import help as helping
from ccfallback.cli.console import ExitCode
from ccfallback.cli.help import Entry

FILE: Final = "ccfallback.1"

DESCRIPTION: Final = (
    "A proxy on your own machine between Claude Code, or any client of the Anthropic API, and its "
    "providers. Each request goes to Anthropic first, and on to your fallback providers when "
    "Anthropic refuses, fails, stalls or breaks.",
    "Data goes to stdout, talk to stderr. With --json, stdout is one JSON document, also when the "
    "command fails.",
)

FILES: Final = (
    Entry("~/.config/ccfallback/config.toml", "The configuration: TOML, mode 0600."),
    Entry("~/.local/state/ccfallback/state.json", "What the breakers know."),
    Entry("~/.local/state/ccfallback/log/ccfallback.jsonl", "The log: a JSON object a line."),
)

ENVIRONMENT: Final = (
    Entry("CCFALLBACK_CONFIG", "The config file; --config goes before it."),
    Entry("CCFALLBACK_STATE", "The breaker state; --state goes before it."),
    Entry("CCFALLBACK_LOG_FILE", "The log; --log-file goes before it."),
    Entry("CCFALLBACK_DEBUG", "Where set, an error that nobody foresaw shows its traceback."),
    Entry("NO_COLOR", "Where set, nothing is coloured."),
    Entry("HTTPS_PROXY, ALL_PROXY, NO_PROXY", "How providers are reached; see network.proxy."),
)
"""Variables that change what the program does; the rest is in the README."""

EXIT: Final = {
    ExitCode.DONE: "Done.",
    ExitCode.FAILED: "It failed; one line on stderr says what, why and what to do.",
    ExitCode.USAGE: "Wrong usage.",
    ExitCode.INTERRUPTED: "Interrupted.",
}


def render() -> str:
    """The page, as man reads it."""
    from ccfallback.cli.root import app

    root = typer.main.get_command(app)
    return "\n".join(_page(root)) + "\n"


def _page(root: Any) -> Iterator[str]:
    yield f'.TH CCFALLBACK 1 "" "ccfallback {__version__}" "User Commands"'
    yield from (".SH NAME", f"ccfallback \\- {_text(_lower(helping.summary(root)))}")
    yield from (".SH SYNOPSIS", ".B ccfallback", _text(" ".join(helping.usage(root))))
    yield from (".SH DESCRIPTION", *_paragraphs(DESCRIPTION))
    yield from (".SH OPTIONS", "They stand before the command and hold for all of them.")
    yield from _list(helping.options(root))
    yield ".SH COMMANDS"
    for name, command in helping.commands(root).items():
        yield from _command(f"ccfallback {name}", command)
    yield from (".SH FILES", *_list(FILES))
    yield from (".SH ENVIRONMENT", *_list(ENVIRONMENT))
    yield from (
        ".SH EXIT STATUS",
        *_list(Entry(str(int(code)), text) for code, text in EXIT.items()),
    )
    yield from (".SH EXAMPLES", *_examples(root))


def _command(name: str, command: Any) -> Iterator[str]:
    below = helping.commands(command)
    if not below:
        yield f".SS {_text(' '.join((name, *helping.usage(command))))}"
        yield from _paragraphs((command.help or "").split("\n\n"))
        own = [entry for entry in helping.options(command) if entry != helping.HELP]
        yield from _list([*helping.arguments(command), *own])
        yield from (".PP", "Example:", ".PP", *_examples(command))
    for verb, one in below.items():
        yield from _command(f"{name} {verb}", one)


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number:
            yield ".PP"
        yield from _lines(text)


def _list(entries: Iterable[Entry]) -> Iterator[str]:
    for term, text in entries:
        yield from (".TP", f".B {_text(term)}", *_lines(text))


def _examples(command: Any) -> Iterator[str]:
    yield from (".nf", ".RS 4", *map(_text, helping.examples(command)), ".RE", ".fi")


def _lines(text: str) -> Iterator[str]:
    """Running text, in lines that are not too long for a page's source."""
    words = " ".join(text.split())
    for line in wrap(words, 72, break_long_words=False, break_on_hyphens=False):
        yield _text(line)


def _text(text: str) -> str:
    """A line that roff takes for text."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else f"completions/{FILE}").write_text(
        render(), encoding="utf-8", newline="\n"
    )
