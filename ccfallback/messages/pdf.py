"""What the structure of a PDF says: how many pages it has, and how much text.

Nothing is rendered. Streams are decompressed up to a limit, in the order of the file. A PDF may be
made to take long, so no byte of it is read more than a few times, whatever it contains.
"""

import re
import zlib
from typing import Final, NamedTuple

from ccfallback.messages.patterns import lazy_re

MOST_READ: Final = 8 * 1024 * 1024
"""Bytes of streams that are read at most, decompressed and with their dictionaries."""
MOST_STREAMS: Final = 16 * 1024
"""Streams that are looked at in one PDF, those of images and fonts too."""

_PAGE: Final = lazy_re(rb"/Type\s*/Page(?![A-Za-z])")
_STREAM: Final = lazy_re(rb">>\s*stream\r?\n")
_SHOWS_TEXT: Final = lazy_re(rb"[)>\]]\s*(?:T[jJ]|'|\")")
_STRING: Final = lazy_re(rb"\(((?:[^()\\]++|\\.)*+)(\)?)|<([0-9A-Fa-f\s]*+)(>?)", re.DOTALL)
"""A string in parentheses or in hexadecimal, and its end. One without an end is matched as well:
else the search for the next one would begin inside it, and go over the same bytes again."""
_HEAD: Final = 2048
"""Bytes before a stream in which its dictionary begins."""
_PIECE: Final = 64 * 1024
"""Bytes that are decompressed at once."""


class Allowance:
    """How many bytes of streams may still be read; the PDFs of one request share it."""

    def __init__(self, left: int = MOST_READ) -> None:
        self.left = left


class Pdf(NamedTuple):
    """What a PDF contains."""

    pages: int
    """0 if they cannot be counted: it is encrypted, or no PDF."""
    letters: int | None
    """The letters that its pages show; `None` if its text cannot be read."""


def read_pdf(raw: bytes, allowance: Allowance | None = None) -> Pdf:
    """Count the pages and letters of a PDF."""
    allowance = allowance or Allowance()
    pages, letters, streams, before, view = _count_pages(raw), 0, 0, 0, memoryview(raw)
    while found := _STREAM.search(raw, before):
        # A dictionary does not begin before the stream that precedes it.
        head = raw[max(before, found.start() - _HEAD) : found.start()]
        head = head[head.rfind(b"obj") + 3 :]
        before, streams = found.end(), streams + 1
        if streams > MOST_STREAMS:
            letters = 0
            break
        if b"/Image" in head or b"/Length1" in head or b"/FontFile" in head:
            continue
        end = raw.find(b"endstream", before)
        if end < 0 or allowance.left <= 0:
            letters = 0
            break
        content: memoryview | bytes = view[before : min(end, before + allowance.left)]
        before = end
        allowance.left -= _HEAD
        if b"/FlateDecode" in head:
            try:
                content = _decompress(view[found.end() : end], allowance)
            except zlib.error:
                continue
        else:
            allowance.left -= len(content)
        if b"/ObjStm" in head:
            pages += _count_pages(content)
        elif _SHOWS_TEXT.search(content):
            letters += _letters(content)
    return Pdf(pages, letters or None)


def _decompress(packed: memoryview, allowance: Allowance) -> bytes:
    """Decompress a stream, as far as it is allowed.

    Raises `zlib.error`; what was decompressed before the fault counts as read all the same.
    """
    unpacker, pieces = zlib.decompressobj(), []
    for start in range(0, len(packed), _PIECE):
        waiting: memoryview | bytes = packed[start : start + _PIECE]
        while waiting and not unpacker.eof and allowance.left > 0:
            piece = unpacker.decompress(waiting, min(_PIECE, allowance.left))
            waiting = unpacker.unconsumed_tail
            allowance.left -= len(piece)
            pieces.append(piece)
        if unpacker.eof or allowance.left <= 0:
            break
    return b"".join(pieces)


def _count_pages(content: memoryview | bytes) -> int:
    return sum(1 for _ in _PAGE.finditer(content))


def _letters(content: memoryview | bytes) -> int:
    """The letters that a page's operators show. Fonts may have one or two bytes a letter; those in
    hexadecimal mostly have two."""
    letters = 0
    for found in _STRING.finditer(content):
        literal, closed, digits, ended = found.groups()
        if closed:
            letters += len(literal)
        elif ended:
            letters += len(digits) // 4
    return letters
