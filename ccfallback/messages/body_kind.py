"""What the body of an answer is, by how it begins: a label such as a content type may be wrong."""

from collections.abc import Iterable
from enum import Enum
from typing import Final

BLANK: Final = b" \t\r\n\xef\xbb\xbf"
"""White space before the body's first byte of meaning, and the bytes of a byte order mark."""

_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")


class BodyKind(Enum):
    """What a body is."""

    JSON = "json"
    EVENTS = "events"
    PAGE = "page"
    UNKNOWN = "unknown"
    """Its type has to say."""


_BY_FIRST_BYTE: Final = {
    b"{": BodyKind.JSON,
    b"[": BodyKind.JSON,
    b"<": BodyKind.PAGE,
    b":": BodyKind.EVENTS,
}


class BodyStart:
    """The beginning of a body, read until it is certain what the body is."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._text = b""
        """The first bytes behind the white space."""
        self.size = 0
        self.kind: BodyKind | None = None
        """What the body is; `None` as long as more bytes are needed."""

    @property
    def raw(self) -> bytes:
        """All bytes so far."""
        return b"".join(self._parts)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; none at the end of the body."""
        self._parts.append(chunk)
        self.size += len(chunk)
        if not chunk:
            self.kind = BodyKind.UNKNOWN
        elif self._text:
            self._text += chunk
        else:
            self._text = chunk.lstrip(BLANK)
        if self._text:
            self.kind = self.kind or _guess_kind(self._text)


def kind_of_start(chunk: bytes) -> BodyKind | None:
    """What a body is if its first bytes show it at once; otherwise it takes a `BodyStart`."""
    if chunk.startswith(_FIELDS):
        return BodyKind.EVENTS
    return _BY_FIRST_BYTE.get(chunk[:1])


def _guess_kind(text: bytes) -> BodyKind | None:
    found = kind_of_start(text)
    if found is not None:
        return found
    return None if _may_become(text, _FIELDS) else BodyKind.UNKNOWN


def _may_become(text: bytes, fields: Iterable[bytes]) -> bool:
    return any(field.startswith(text) for field in fields)


def last_json(raw: bytes) -> bytes:
    """The JSON that follows the last event of a stream, where only its end may follow; or nothing.

    Some gateways write an error as JSON behind the events of an answer that failed.
    """
    text = raw.replace(b"\r\n", b"\n").strip(BLANK)
    tail = text.rpartition(b"\n\n")[2].lstrip(BLANK)
    return tail if tail[:1] in (b"{", b"[") else b""
