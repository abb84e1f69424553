"""What the structure of a PDF says: how many pages it has, and how much text.

Nothing is rendered. Streams are decompressed up to a limit, in the order of the file.
"""

import re
import zlib
from typing import Final, NamedTuple

from ccfallback.messages.patterns import lazy_re

MOST_READ: Final = 8 * 1024 * 1024
"""Bytes of streams that are read at most, decompressed and with their dictionaries."""

_PAGE: Final = lazy_re(rb"/Type\s*/Page(?![A-Za-z])")
_STREAM: Final = lazy_re(rb">>\s*stream\r?\n")
_SHOWS_TEXT: Final = lazy_re(rb"[)>\]]\s*(?:T[jJ]|'|\")")
_STRING: Final = lazy_re(rb"\(((?:[^()\\]|\\.)*)\)|<([0-9A-Fa-f\s]*)>", re.DOTALL)
_HEAD: Final = 2048
"""Bytes before a stream in which its dictionary begins."""


class Pdf(NamedTuple):
    """What a PDF contains."""

    pages: int
    """0 if they cannot be counted: it is encrypted, or no PDF."""
    letters: int | None
    """The letters that its pages show; `None` if its text cannot be read."""


def read_pdf(raw: bytes) -> Pdf:
    """Count the pages and letters of a PDF."""
    pages, letters, left = len(_PAGE.findall(raw)), 0, MOST_READ
    for found in _STREAM.finditer(raw):
        head = raw[max(0, found.start() - _HEAD) : found.start()]
        head = head[head.rfind(b"obj") + 3 :]
        if b"/Image" in head or b"/Length1" in head or b"/FontFile" in head:
            continue
        end = raw.find(b"endstream", found.end())
        if end < 0 or left <= 0:
            letters = 0
            break
        content = raw[found.end() : min(end, found.end() + left)]
        if b"/FlateDecode" in head:
            try:
                content = zlib.decompressobj().decompress(content, left)
            except zlib.error:
                continue
        left -= len(content) + _HEAD
        if b"/ObjStm" in head:
            pages += len(_PAGE.findall(content))
        elif _SHOWS_TEXT.search(content):
            letters += _letters(content)
    return Pdf(pages, letters or None)


def _letters(content: bytes) -> int:
    """The letters that a page's operators show. Fonts may have one or two bytes a letter; those in
    hexadecimal mostly have two."""
    shown = _STRING.findall(content)
    return sum(len(literal) + len(digits) // 4 for literal, digits in shown)
