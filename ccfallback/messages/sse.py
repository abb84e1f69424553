"""Server-sent events, as far as the formats use them (WHATWG HTML, 9.2).

`EventSplitter` cuts a byte stream into whole events and keeps their bytes as they are, so that
an unchanged event can go on unchanged. `data_of` reads what an event carries.
"""

import re
from typing import Any, Final

import msgspec

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""An event longer than this is not one."""

CR: Final = 13
"""A carriage return, as a number: to look for `b"\\r"` in bytes takes ten times as long."""

BOM: Final = b"\xef\xbb\xbf"

_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\r\n\n|\n\r\n|\r\n\r(?!\n)|\n\r(?!\n)")
"""A line end followed by an empty line, whatever mixture of the three line ends."""


_DATA: Final = re.compile(rb"^data(?:: ?([^\n]*))?$", re.MULTILINE)
"""A line of data. An event may have a million lines: in Python, splitting them takes seconds."""

_NAMED_ERROR: Final = re.compile(rb"^event: ?error$", re.MULTILINE)

_NAME: Final = re.compile(rb"^event: ?([^\n]*)$", re.MULTILINE)


class EventTooLong(ValueError):
    """The stream holds no event end within `MAX_EVENT_BYTES`."""


class EventSplitter:
    """Cuts a stream into events. `feed` any bytes; `rest` is what no event end has followed."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = MAX_EVENT_BYTES if limit is None else limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that are whole now, each with the empty line that ends it.

        Raises `EventTooLong`.
        """
        if not chunk:
            return []
        plain = self.plain(chunk)
        if plain is not None:
            return [event + b"\n\n" for event in plain]
        return self._feed_slowly(chunk)

    def plain(self, chunk: bytes) -> list[bytes] | None:
        """The fast path: the events, without their ends, of a read that is nothing but whole
        events with plain line ends, as most are; `None` where it is not, and has to be fed.
        """
        if (
            not self._parts
            and chunk.endswith(b"\n\n")
            and not chunk.endswith(b"\n\n\n")
            and CR not in chunk
        ):
            return chunk[:-2].split(b"\n\n")
        return None

    def _feed_slowly(self, chunk: bytes) -> list[bytes]:
        # A long event arrives in many reads: joined only when one of them may hold its end.
        tail = self._parts[-1][-3:] if self._parts else b""
        self._parts.append(chunk)
        self._size += len(chunk)
        if _END.search(tail + chunk) is None:
            if self._size > self._limit:
                raise EventTooLong
            return []
        buffer = b"".join(self._parts)
        events: list[bytes] = []
        start = 0
        for match in _END.finditer(buffer):
            end = match.end()
            # A carriage return at the very end may be half of a line end still to come.
            if end == len(buffer) and buffer[end - 1 : end] == b"\r":
                break
            events.append(buffer[start:end])
            start = end
        rest = buffer[start:]
        if max(map(len, [*events, rest])) > self._limit:
            raise EventTooLong
        self._parts = [rest] if rest else []
        self._size = len(rest)
        return events

    @property
    def rest(self) -> bytes:
        """What has come since the last event end."""
        return b"".join(self._parts)


def data_of(event: bytes) -> bytes:
    """The data of an event, its lines joined; empty for comments and the like."""
    if event.startswith(BOM):
        event = event[len(BOM) :]
    return b"\n".join(_DATA.findall(_with_plain_ends(event)))


def is_named_error(event: bytes) -> bool:
    """Whether the event's own name is `error`."""
    return _NAMED_ERROR.search(_with_plain_ends(event)) is not None


def has_name(event: bytes, name: str) -> bool:
    """Whether the event's own name is `name`, without which clients skip it."""
    if event.startswith(BOM):
        event = event[len(BOM) :]
    names = _NAME.findall(_with_plain_ends(event))
    return bool(names) and bool(names[-1] == name.encode())


def _with_plain_ends(event: bytes) -> bytes:
    return event.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if CR in event else event


def event(name: str, data: bytes) -> bytes:
    """An event on the wire."""
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def json_event(value: dict[str, Any]) -> bytes:
    """An event whose name is the type of its data, as all of the Messages API have it."""
    return event(value["type"], msgspec.json.encode(value))


PING: Final = event("ping", b'{"type": "ping"}')
"""A sign of life, which may come between any two events."""
