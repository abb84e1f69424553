"""Find what a text quotes of a conversation or of secrets, however it spells the quote.

Only letters and digits are compared, folded to lower case and without accents; escapes (of JSON,
of Python's `repr`, of URLs and of HTML) are decoded first. So neither white space, nor capitals,
nor an encoding hides a quote. A quote is a run of letters; shorter runs are common words.

The work is linear in the conversation and bounded. If there is too much of it, every text counts as
a quote from its first to its last letter.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from ccfallback.messages.body import UNREADABLE, Body
from ccfallback.messages.patterns import lazy_re

QUOTE: Final = 12
"""The length from which a run of equal letters counts as a quote of the conversation."""

SECRET_QUOTE: Final = 8
"""The same for a secret."""

LEFT_OUT: Final = "[…]"
"""Stands for a quote."""

MOST_BYTES: Final = 16 * 1024 * 1024
"""Bytes of a body that are searched."""

CHEAP_BYTES: Final = 32 * 1024
"""Bytes of a body that are searched in less than a millisecond."""

MOST_STEPS: Final = 500_000
"""Letters that are compared one by one."""

PIECE: Final = 64 * 1024
"""Letters that are folded at once: other threads wait for as long."""

_OTHER: Final = bytes(byte for byte in range(128) if not chr(byte).isalnum())
_LOWER: Final = bytes(range(256)).lower()
_NO_LETTERS: Final = (rb"\\", rb"\n", rb"\t", rb"\r", rb"\b", rb"\f")
"""The escapes of JSON that look like a letter or may stand before one. That of the backslash is the
first, so that none of the others is half of it."""
_NOT_LETTERS: Final = lazy_re(r"[\W_]+")
_MEMBER_NAME: Final = lazy_re(r"[a-z]+(?:_[a-z0-9]+)+")

_ESCAPE: Final = lazy_re(
    r"(?P<bytes>(?:\\+x[0-9a-fA-F]{2})+)|(?P<url>(?:%(?:25)*[0-9a-fA-F]{2})+)"
    r"|\\+u\{?(?P<unicode>[0-9a-fA-F]{4,6})\}?|\\+[abfnrtv0]"
    r"|&(?:amp;)*(?:#(?P<decimal>\d{1,7})|#[xX](?P<hex>[0-9a-fA-F]{1,6})|[a-zA-Z]{2,8});"
)

_NOT_CONTENT: Final = frozenset(
    {"model", "service_tier", "speed", "inference_geo", "betas", "anthropic_beta"}
)
"""Members of a body that refusals have to name, and that hold no conversation."""

_VOCABULARY: Final = frozenset({"type", "role", "media_type"})
"""Members whose values are words of the API."""


class TooMuch(Exception):
    """The search is longer than its bounds allow."""


class Quotes:
    """Finds what texts quote of one request's body. Not for two threads at once."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._content: bytes | None = None
        self._names: set[str] = set()

    @property
    def is_cheap(self) -> bool:
        """Whether a search may run on an event loop; a longer one belongs into a thread."""
        return len(self._body.raw) <= CHEAP_BYTES

    def remove(self, text: str) -> str:
        """The text with a mark for each quote."""
        if self._shares_nothing(text):
            return text
        try:
            found = find(text, self._read(), QUOTE)
        except TooMuch:
            return LEFT_OUT if fold(text) else text
        # The name of a JSON member is not conversation, and most refusals are about one.
        names = [word.span() for word in _MEMBER_NAME.finditer(text) if word[0] in self._names]
        spans = [
            (start, end)
            for start, end in found
            if not any(low <= start and end <= high for low, high in names)
        ]
        return replace(text, spans, LEFT_OUT)

    def _shares_nothing(self, text: str) -> bool:
        """Whether the text surely quotes nothing, by a look at the letters of the whole body.

        Most refusals quote nothing, and the body need not be read as JSON to find that. Bodies and
        texts with escapes that stand for letters are left to the thorough search.
        """
        raw = self._body.raw
        if self._content is not None or len(raw) > MOST_BYTES or not text.isascii():
            return False
        if b"\\" in raw:
            for escape in _NO_LETTERS:
                raw = raw.replace(escape, b"")
        if not raw.isascii() or b"\\u" in raw or _has_escape(text):
            return False
        try:
            return not any(_runs(fold(text), raw.translate(_LOWER, _OTHER), QUOTE))
        except TooMuch:
            return False

    def _read(self) -> bytes:
        if self._content is None:
            if len(self._body.raw) > MOST_BYTES:
                raise TooMuch
            parts: list[bytes] = []
            for name in self._body.names:
                if name not in _NOT_CONTENT:
                    self._names.add(name)
                    for value in _values(self._body.member(name)):
                        parts += self._strings(value)
            self._content = b"\0".join(parts)
        return self._content

    def _strings(self, value: Any) -> Iterator[bytes]:
        """All strings in a value, folded."""
        waiting = [value]
        while waiting:
            found = waiting.pop()
            if isinstance(found, str):
                yield _fold_in_pieces(found)
            elif isinstance(found, list):
                waiting += found
            elif isinstance(found, dict):
                if found.get("type") == "base64" and "data" in found:
                    self._names.update(found.keys() - {"type", "data"})
                    continue
                self._names.update(found)
                for key, each in found.items():
                    if key == "input" and isinstance(each, dict):
                        # The model has made up the names of these as well.
                        waiting += each
                    if key not in _VOCABULARY or not isinstance(each, str):
                        waiting.append(each)


def _values(raw: bytes) -> Iterator[Any]:
    """The value of a member; the items of a list one by one, so that no step takes long."""
    try:
        items: list[msgspec.Raw] = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except UNREADABLE:
        items = [msgspec.Raw(raw)]
    for item in items:
        try:
            yield msgspec.json.decode(item)
        except UNREADABLE:
            raise TooMuch from None


def _fold_in_pieces(text: str) -> bytes:
    if len(text) <= PIECE:
        return fold(text)
    return b"".join(fold(text[at : at + PIECE]) for at in range(0, len(text), PIECE))


def fold(text: str) -> bytes:
    """The letters and digits of a text, folded so that spellings of the same compare equal."""
    if text.isascii():
        return text.encode().translate(_LOWER, _OTHER)
    # Its tables take 0.5 MiB, and few servers ever need them.
    from unicodedata import normalize

    plain = normalize("NFKD", text.casefold())
    return _NOT_LETTERS.sub("", plain).encode("utf-8", "replace")


def find(text: str, content: bytes, run: int) -> list[tuple[int, int]]:
    """The parts of a text with at least `run` folded bytes that stand in `content`, too.

    `content` is folded, with NUL bytes between its parts. Raises `TooMuch`.
    """
    spans: list[tuple[int, int]] = []
    # Hardly any text quotes anything, so at first only its letters are looked at.
    if not text.isascii() or any(_runs(fold(text), content, run)):
        letters, places = _fold_parts((letter, at, at + 1) for at, letter in enumerate(text))
        spans += ((places[low][0], places[high][1]) for low, high in _runs(letters, content, run))
    if _has_escape(text):
        letters, places = _fold_parts(_decode(text))
        spans += ((places[low][0], places[high][1]) for low, high in _runs(letters, content, run))
    return spans


def _runs(letters: bytes, content: bytes, run: int) -> Iterator[tuple[int, int]]:
    """The first and the last index of each run of letters that stands in the content.

    Raises `TooMuch`.
    """
    steps = 0
    # Any run of this length has a whole block in it, if the letters are cut into blocks.
    size = (run + 1) // 2
    for place in range(0, len(letters) - size + 1, size):
        block = letters[place : place + size]
        at = content.find(block)
        while at >= 0:
            low, high = 0, size
            while place > low < at and letters[place - low - 1] == content[at - low - 1]:
                low += 1
            while (
                place + high < len(letters)
                and at + high < len(content)
                and letters[place + high] == content[at + high]
            ):
                high += 1
            if low + high >= run:
                yield place - low, place + high - 1
            steps += low + high
            if steps > MOST_STEPS:
                raise TooMuch
            at = content.find(block, at + 1)


def replace(text: str, spans: Iterable[tuple[int, int]], mark: str) -> str:
    """The text with one mark for each span, or for spans that overlap."""
    kept, end = [], 0
    for start, stop in sorted(spans):
        if start >= end:
            kept += [text[end:start], mark]
        end = max(end, stop)
    return "".join(kept) + text[end:]


Form = tuple[bytes, list[tuple[int, int]]]
"""The letters of a text, and for each of its bytes the part of the text that it comes from."""


def _fold_parts(parts: Iterable[tuple[str, int, int]]) -> Form:
    letters, places = bytearray(), []
    for part, start, end in parts:
        folded = fold(part)
        letters += folded
        places += [(start, end)] * len(folded)
    return bytes(letters), places


def _has_escape(text: str) -> bool:
    # The expression tries each letter of a text; most texts have none with which an escape begins.
    return ("\\" in text or "%" in text or "&" in text) and _ESCAPE.search(text) is not None


def _decode(text: str) -> Iterator[tuple[str, int, int]]:
    end = 0
    for found in _ESCAPE.finditer(text):
        yield from ((text[at], at, at + 1) for at in range(end, found.start()))
        end = found.end()
        yield _unescape(found.groupdict()), found.start(), end
    yield from ((text[at], at, at + 1) for at in range(end, len(text)))


def _unescape(found: Mapping[str, str | None]) -> str:
    if (escaped := found["bytes"]) is not None:
        return _text(bytes.fromhex(re.sub(r"\\+x", "", escaped)))
    if (escaped := found["url"]) is not None:
        return _text(unquote_to_bytes(re.sub(r"%(?:25)+(?=[0-9a-fA-F]{2})", "%", escaped)))
    number = (
        int(found["unicode"] or found["hex"] or "0", 16)
        if found["decimal"] is None
        else int(found["decimal"])
    )
    return chr(number) if 0 < number < 0x110000 else ""


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
