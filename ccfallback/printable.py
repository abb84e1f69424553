"""Keep characters that a terminal obeys, or that a reader can't see, from the screen and files.

These are controls (C0, DEL, C1), line and paragraph separators, marks of direction, zero-width
characters, tag letters, and the fillers and selectors that are invisible as well.
"""

from typing import Final

from ccfallback.messages.patterns import lazy_re

_DELETE: Final = 0x7F

_INVISIBLE: Final = lazy_re(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    r"\U000e0000-\U000e0fff]"
)
"""Characters that show nothing although `str.isprintable` accepts them."""


def is_printable(text: str) -> bool:
    """Whether every character of the text shows as itself."""
    # Nearly every text is ASCII, and asking is much faster than searching.
    return text.isprintable() and (text.isascii() or _INVISIBLE.search(text) is None)


def printable(text: str, mark: str = " ") -> str:
    """The text with one `mark` for each run of characters that may not be shown."""
    if is_printable(text):
        return text.strip()
    shown: list[str] = []
    for letter in text:
        if is_printable(letter):
            shown.append(letter)
        elif not shown or shown[-1] != mark:
            shown.append(mark)
    return "".join(shown).strip()


def escape_json(encoded: bytes) -> bytes:
    """JSON in which those characters are escaped; what it means stays the same.

    They can only stand in its strings: an encoder has escaped the controls below U+0020, and a
    layout has no other than line breaks.
    """
    # As a number: to look for `b"\x7f"` takes ten times as long.
    if encoded.isascii() and _DELETE not in encoded:
        return encoded
    text = encoded.decode("utf-8", "replace")
    if is_printable(text):
        return encoded
    return "".join(_escape(letter) for letter in text).encode()


def _escape(letter: str) -> str:
    if letter < "\x20" or is_printable(letter):
        return letter
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
