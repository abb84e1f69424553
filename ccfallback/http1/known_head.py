"""The head of a connection's last request, which need not be parsed again when it comes again.

A client repeats its head with every request, apart from the length of the body. What the parser and
the checks made of a head follows from its bytes alone, and digits of a `content-length` change no
more than that length: so a head that is equal to the last one in all other bytes is known. No I/O.
"""

import re
from typing import Any, Final

from ccfallback.http1.request import Headers

MAX_KNOWN: Final = 8 * 1024
"""The longest head that is remembered."""

MAX_DIGITS: Final = 18
"""Digits of a `content-length`."""

_BLANK_LINE: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?=\r\n)", re.IGNORECASE)


class KnownHead:
    """A head that was read and checked, with its ASGI scope."""

    __slots__ = ("_after", "_before", "_headers", "_length", "_place", "_scope")

    def __init__(self, before: bytes, length: bytes, after: bytes, scope: dict[str, Any]) -> None:
        """`before` and `after` are all bytes of the head but for those of the length."""
        self._before = before
        self._length = length
        self._after = after
        self._scope = scope
        self._headers: Headers = scope["headers"]
        self._place = self._headers.index((b"content-length", length))

    def match(self, data: bytes) -> tuple[dict[str, Any], bytes, int] | None:
        """Scope, body and the number of missing bytes of a request, if its head is this and nothing
        follows it.

        The list of headers is the same as that of the request before if the length is the same too.
        """
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        begin = len(before)
        end = data.find(b"\r", begin, begin + MAX_DIGITS + 1)
        length = data[begin:end]
        if end < 0 or not length.isdigit() or not data.startswith(after, end):
            return None
        begin = end + len(after)
        missing = int(length) - (len(data) - begin)
        if missing < 0:
            return None
        if length != self._length:
            self._length = length
            self._headers = self._headers.copy()
            self._headers[self._place] = (b"content-length", length)
        return {**self._scope, "headers": self._headers}, data[begin:], missing


def learn_head(data: bytes, scope: dict[str, Any], body_size: int) -> KnownHead | None:
    """The head at the start of `data`; `None` if it is not safe or not worth while to know it.

    The parser has found one head and so many bytes of its body in `data` and nothing else, and made
    `scope` of it.
    """
    end = data.find(_BLANK_LINE, 0, MAX_KNOWN) + len(_BLANK_LINE)
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    places = list(_LENGTH.finditer(data, 0, end))
    if len(lengths) != 1 or len(places) != 1:
        return None
    (length,), (place,) = lengths, places
    # If the parser had seen the head end elsewhere, or another length, the sum would be wrong.
    if place[1] != length or end + body_size != len(data) or body_size > int(length):
        return None
    return KnownHead(data[: place.start(1)], length, data[place.end(1) : end], scope)
