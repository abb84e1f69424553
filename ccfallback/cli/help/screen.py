"""Help pages as text for a terminal of any width, or for a pipe."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ccfallback.cli.help.markup import Block, Code, Entries, Heading, Items, Paragraph, plain
from ccfallback.cli.phrases import wrap_text

WIDEST: Final = 100
"""Longer lines are hard to read."""

_INDENT: Final = "  "
_LONGEST_TERM: Final = 22
"""Longer terms have a line of their own."""

_CODE: Final = re.compile(r"`([^`]+)`")


def render(title: str, blocks: Sequence[Block], width: int, *, colour: bool = False) -> str:
    """A page as text, without an empty line at the end."""
    width = min(width, WIDEST)
    pieces = [
        _bold(title, colour=colour),
        *(_block(block, width, colour=colour) for block in blocks),
    ]
    return "\n\n".join(pieces)


def _block(block: Block, width: int, *, colour: bool) -> str:
    match block:
        case Heading(text, level):
            title = plain(text).upper() if level == 2 else _INDENT + plain(text)
            return _bold(title, colour=colour)
        case Paragraph(text):
            lines = list(_wrap(text, width, _INDENT, colour=colour))
        case Items(texts):
            lines = [
                line
                for text in texts
                for line in _wrap(text, width, _INDENT * 2, f"{_INDENT}- ", colour=colour)
            ]
        case Code(code):
            lines = [_INDENT * 2 + line if line else "" for line in code]
        case Entries(entries):
            terms = [plain(entry.term) for entry in entries]
            longest = max(map(len, terms))
            room = longest + 2 if longest <= _LONGEST_TERM else 4
            lines = []
            for term, (_, text) in zip(terms, entries, strict=True):
                below = first = _INDENT + " " * room
                if longest <= _LONGEST_TERM:
                    first = _INDENT + _bold(term, colour=colour) + " " * (room - len(term))
                else:
                    parts = wrap_text(term, width - len(_INDENT)).split("\n")
                    lines += [_INDENT + _bold(part, colour=colour) for part in parts]
                lines += _wrap(text, width, below, first, colour=colour)
    return "\n".join(lines)


def _wrap(text: str, width: int, indent: str, first: str = "", *, colour: bool) -> Iterator[str]:
    """The lines of a text; `first` stands before the first line, in place of the indent."""
    lines = wrap_text(text, width - len(indent)).split("\n") if text else [""]
    for number, line in enumerate(lines):
        shown = _CODE.sub("\x1b[36m\\1\x1b[0m", line) if colour else line
        yield ((first or indent) if number == 0 else indent) + shown


def _bold(text: str, *, colour: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour else text
