"""The markup of help pages: a small part of Markdown, read into blocks.

Known are headings (`##`, `###`), paragraphs, lists (`- `), fenced code, and definitions: a line
with a term, and the text below it after `: `. A line `{{name argument}}` stands for a table of the
program; HTML comments are ignored.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

_TABLE: Final = re.compile(r"\{\{([a-z_]+) ?([a-z-]*)\}\}")
_COMMENT: Final = re.compile(r"^<!--.*-->\n| *<!--.*-->", re.MULTILINE)
_CODE: Final = re.compile(r"`[^`]+`")
_FENCE: Final = "```"
_MEANING: Final = ": "


class Heading(NamedTuple):
    """The title of a section, or with level 3 of a part of one."""

    text: str
    level: int = 2


class Paragraph(NamedTuple):
    """Running text; what is between backticks is code."""

    text: str


class Items(NamedTuple):
    """The texts of a list."""

    texts: Sequence[str]


class Code(NamedTuple):
    """Lines that stay as they are."""

    lines: Sequence[str]


class Entry(NamedTuple):
    """A term, such as an option, and its meaning."""

    term: str
    text: str


class Entries(NamedTuple):
    """Terms and their meanings."""

    entries: Sequence[Entry]


Block = Heading | Paragraph | Items | Code | Entries

Tables = Callable[[str, str], Iterable[Block]]
"""The blocks of the program's table of that name, for an argument that may be empty."""


def parse(text: str, tables: Tables) -> list[Block]:
    """The blocks of a page."""
    blocks: list[Block] = []
    for piece in _pieces(_COMMENT.sub("", text)):
        first = piece[0]
        if first.startswith(_FENCE):
            blocks.append(Code(piece[1:]))
        elif first.startswith("#"):
            marks, _, title = first.partition(" ")
            blocks.append(Heading(title, len(marks)))
        elif found := _TABLE.fullmatch(first):
            blocks += tables(found[1], found[2])
        elif first.startswith("- "):
            blocks.append(Items([" ".join(item) for item in _items(piece)]))
        elif len(piece) > 1 and piece[1].startswith(_MEANING):
            blocks.append(Entries(list(_definitions(piece))))
        else:
            blocks.append(Paragraph(" ".join(piece)))
    return list(_join_entries(blocks))


def _pieces(text: str) -> Iterator[list[str]]:
    """The lines between empty lines; a code block is one piece, without its last fence."""
    piece: list[str] = []
    for line in text.splitlines():
        in_code = bool(piece) and piece[0].startswith(_FENCE)
        if line == _FENCE if in_code else not line:
            if piece:
                yield piece
            piece = []
        else:
            piece.append(line)
    if piece:
        yield piece


def _items(lines: Iterable[str]) -> Iterator[list[str]]:
    item: list[str] = []
    for line in lines:
        if line.startswith("- ") and item:
            yield item
            item = []
        item.append(line.removeprefix("- ").strip())
    yield item


def _definitions(lines: Sequence[str]) -> Iterator[Entry]:
    starts = [at - 1 for at, line in enumerate(lines) if line.startswith(_MEANING)]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        text = " ".join(line.strip() for line in lines[start + 1 : end])
        yield Entry(lines[start], sentence(text.removeprefix(": ")))


def _join_entries(blocks: Iterable[Block]) -> Iterator[Block]:
    """The blocks, definitions that follow each other as one list."""
    for kind, found in groupby(blocks, type):
        if kind is Entries:
            yield Entries([entry for each in found for entry in each.entries])  # type: ignore[union-attr]  # all are Entries
        else:
            yield from found


_KEY: Final = re.compile(r"[a-z_]+\.[a-z_]")


def sentence(text: str) -> str:
    """A text with a capital letter at the start and a full stop at the end; a key stays a key."""
    key = _KEY.match(text) is not None
    ends = text.endswith((".", "…")) or _CODE.fullmatch(text) is not None
    return (text[:1] if key else text[:1].upper()) + text[1:] + ("" if ends else ".")


def plain(text: str) -> str:
    """A text without the marks of code."""
    return text.replace("`", "")
