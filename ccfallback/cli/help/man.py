"""The man pages, in roff: ccfallback(1) for the commands, and one for each topic of `help`."""

from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap
from typing import Any, Final

from ccfallback import __version__
from ccfallback.cli.help import commands, topics
from ccfallback.cli.help.markup import (
    Block,
    Code,
    Entries,
    Entry,
    Heading,
    Items,
    Paragraph,
    plain,
)
from ccfallback.cli.help.tables import root

PROGRAM: Final = "ccfallback"

_SECTIONS: Final = {1: "User Commands", 5: "File Formats", 7: "Miscellaneous"}

_DESCRIPTION: Final = (
    "A proxy on your own machine between Claude Code, or any client of the Anthropic API, and its "
    "providers. Each request goes to Anthropic first, and to your fallback providers if Anthropic "
    "refuses it, fails, stalls or breaks off.",
    "Data goes to stdout, messages to stderr. With `--json`, stdout is one JSON document, also if "
    "the command fails.",
)

_SHARED: Final = {"files": "Files", "env": "Environment", "exit-codes": "Exit status"}
"""Topics whose first definitions are sections of ccfallback(1)."""


def render_all() -> Mapping[str, str]:
    """Every page by the path of its file below a folder of the manual."""
    pages = {f"man1/{PROGRAM}.1": _join(_commands_page(root()))}
    for name, topic in topics.TOPICS.items():
        path = f"man{topic.section}/{PROGRAM}-{name}.{topic.section}"
        pages[path] = _join(_topic_page(name, topic))
    return pages


def _join(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _title(name: str, section: int, summary: str) -> Iterator[str]:
    about = f'"ccfallback {__version__}" "{_SECTIONS[section]}"'
    yield f'.TH {_text(name.upper())} {section} "" {about}'
    yield from (".SH NAME", f"{_text(name)} \\- {_text(plain(summary))}")


def _topic_page(name: str, topic: topics.Topic) -> Iterator[str]:
    yield from _title(f"{PROGRAM}-{name}", topic.section, topic.title)
    blocks = topics.read(name)
    if not isinstance(blocks[0], Heading):
        yield ".SH DESCRIPTION"
    yield from _blocks(blocks)
    yield from (".SH SEE ALSO", *_see_also(name))


def _see_also(name: str = "") -> Iterator[str]:
    pages = [f"{PROGRAM}\\-{each}({topic.section})" for each, topic in topics.TOPICS.items()]
    own = [] if not name else [f"{PROGRAM}(1)"]
    others = [page.replace("exit-", "exit\\-") for page in pages if f"-{name}(" not in page]
    yield ", ".join([*own, *others])


def _commands_page(top: Any) -> Iterator[str]:
    name = commands.summary(top).rstrip(".")
    yield from _title(PROGRAM, 1, name[:1].lower() + name[1:])
    yield from (".SH SYNOPSIS", f".B {PROGRAM}", _text(" ".join(commands.usage(top))))
    yield from (".SH DESCRIPTION", *_blocks(map(Paragraph, _DESCRIPTION)))
    yield from (".SH OPTIONS", "These options precede the command and apply to all commands.")
    yield from _list([*commands.options(top), Entry("-h, --help", "Show this message and exit.")])
    yield ".SH COMMANDS"
    for name, command in commands.below(top).items():
        yield from _command(f"{PROGRAM} {name}", command)
    for topic, title in _SHARED.items():
        found = next(block for block in topics.read(topic) if isinstance(block, Entries))
        yield from (f".SH {title.upper()}", *_list(found.entries))
    yield from (".SH EXAMPLES", *_code(commands.examples(top)))
    yield from (".SH SEE ALSO", *_see_also())


def _command(name: str, command: Any) -> Iterator[str]:
    below = commands.below(command)
    if not below:
        yield f".SS {_text(' '.join((name, *commands.usage(command))))}"
        yield from _blocks(map(Paragraph, (command.help or "").split("\n\n")))
        yield from _list([*commands.arguments(command), *commands.options(command)])
        yield from (".PP", "Example:", ".PP", *_code(commands.examples(command)))
    for verb, each in below.items():
        yield from _command(f"{name} {verb}", each)


def _blocks(blocks: Iterable[Block]) -> Iterator[str]:
    before: Block | None = None
    for block in blocks:
        match block:
            case Heading(text, level):
                yield (
                    f".SH {_text(plain(text).upper())}"
                    if level == 2
                    else f".SS {_text(plain(text))}"
                )
            case Paragraph(text):
                if before is not None and not isinstance(before, Heading):
                    yield ".PP"
                yield from _lines(text)
            case Items(texts):
                for text in texts:
                    yield from (".IP \\(bu 2", *_lines(text))
            case Code(lines):
                yield from (".PP", *_code(lines))
            case Entries(entries):
                yield from _list(entries)
        before = block


def _list(entries: Iterable[Entry]) -> Iterator[str]:
    for term, text in entries:
        yield from (".TP", f".B {_text(plain(term))}", *_lines(text))


def _code(lines: Iterable[str]) -> Iterator[str]:
    yield from (".nf", ".RS 4", *map(_text, lines), ".RE", ".fi")


def _lines(text: str) -> Iterator[str]:
    """Running text in lines of a readable length."""
    words = " ".join(text.split())
    for line in wrap(words, 72, break_long_words=False, break_on_hyphens=False):
        yield _text(line)


def _text(text: str) -> str:
    """The text with roff's special characters escaped."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    escaped = escaped.replace('"', "\\(dq")
    escaped = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
