"""A parser of responses, fed with whatever has arrived. No I/O.

                    ┌── an interim response (1xx) ──┐
                    ▼                               │
    WAITING ─────► HEAD ──the head's end──► HEAD_COMPLETE
      first byte                                  │ its framing says where the body ends
                 ┌────────────────┬───────────────┼────────────────┐
                 ▼                ▼               ▼                │ no body
             BY_LENGTH         CHUNKED        UNTIL_CLOSE          │
                 │ last byte      │ last chunk    │ connection      │
                 ▼                ▼               ▼   closed        ▼
                DONE ◄────────────┴───────────────┴────────────────┘
                 │ another byte
                 ▼
              SURPLUS                 from every other state, on any violation: BROKEN

The end of the body is found here and not left to httptools, which does not say how many bytes it
took: a connection may be used again only when not one byte came after the end.
"""

from enum import Enum, auto
from operator import itemgetter
from typing import Final

import httptools

from ccfallback.http1.errors import RemoteDisconnected, RemoteProtocolError
from ccfallback.http1.request import Headers

MAX_HEAD: Final = 64 * 1024
"""The longest head, with all interim responses; also of chunk sizes and trailers in a row."""

_BLANK_LINE: Final = b"\r\n\r\n"
_WITHOUT_BODY: Final = frozenset({204, 304})
_NAME: Final = itemgetter(0)
_MAX_DIGITS: Final = 18
"""Digits of a `content-length`; `int` refuses some thousands."""


class ResponseState(Enum):
    """How far a response has been read; see the diagram above."""

    WAITING = auto()
    HEAD = auto()
    HEAD_COMPLETE = auto()
    BY_LENGTH = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()
    DONE = auto()
    SURPLUS = auto()
    BROKEN = auto()


# Looking up a member costs Python 3.11 as much as the rest of a test.
(WAITING, HEAD, HEAD_COMPLETE, BY_LENGTH, CHUNKED, UNTIL_CLOSE, DONE, SURPLUS, BROKEN) = (
    ResponseState
)


class ResponseParser:
    """Reads one response out of the bytes that it is fed with."""

    __slots__ = (
        "_head_size", "_is_head", "_keep_alive", "_left", "_length", "_parser", "_silent",
        "_tail", "error", "headers", "is_done", "on_body", "pieces", "state", "status",
    )  # fmt: skip

    def __init__(self, *, is_head: bool = False) -> None:
        self.state = WAITING
        self.is_done = False
        """Whether the response is complete."""
        self.error: RemoteProtocolError | None = None
        """Why the state is `BROKEN`."""
        # The head.
        self.status: int | None = None
        """The status, as soon as the head is complete."""
        self.headers: Headers = []
        """With lower-case names."""
        self._is_head = is_head
        """Whether the request was HEAD: then no body follows, whatever the head says."""
        self._head_size = 0
        self._keep_alive: bool
        # The body.
        self._length: int
        self._left: int
        """The bytes of a body with a `content-length`, and those that are missing."""
        self._silent: int
        """Bytes in a row of chunk sizes, extensions and trailers."""
        self._tail = b""
        """The last bytes of the read before, to find what the cut between two reads divides."""
        # httptools calls `on_body` for each piece of a chunk.
        self.pieces: list[bytes] = []
        self.on_body = self.pieces.append
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    @property
    def is_started(self) -> bool:
        """Whether a single byte has arrived."""
        return self._head_size > 0

    @property
    def is_reusable(self) -> bool:
        """Whether the upstream lets the connection carry another request."""
        return self.state is DONE and self._keep_alive

    @property
    def will_keep(self) -> bool:
        """Whether the head says that the connection stays open."""
        return self._keep_alive

    def feed(self, data: bytes) -> bytes:
        """Take what arrived, and return the part of it that is body."""
        state = self.state
        if state is WAITING or state is HEAD:
            self.state = HEAD
            while data and self.state is HEAD:
                data = self._feed_head(data)
            state = self.state
        if not data:
            return b""
        if state is CHUNKED:
            return self._feed_chunks(data)
        if state is BY_LENGTH:
            return self._feed_length(data)
        if state is UNTIL_CLOSE:
            return data
        if state is DONE:
            self.state = SURPLUS
        return b""

    def end(self) -> None:
        """The connection has closed: nothing more will come."""
        state = self.state
        if state is UNTIL_CLOSE:
            self._keep_alive = False
            self._finish()
        elif state is BY_LENGTH:
            self._disconnect(f"after {self._length - self._left} of {self._length} bytes")
        elif state is CHUNKED:
            self._disconnect("before the last chunk")
        elif state is HEAD:
            self._disconnect("within the response's head")
        elif state is WAITING:
            self._disconnect("without a response")

    def close(self) -> None:
        """Nothing will be fed any more: forget httptools' parser, which refers to this one."""
        self._parser = None

    def _feed_head(self, data: bytes) -> bytes:
        """Take as much as belongs to the head, and return the rest."""
        assert self._parser is not None
        known = self._tail + data
        end = known.find(_BLANK_LINE)
        if end < 0:
            head, rest = data, b""
            self._tail = known[-3:]
        else:
            end += len(_BLANK_LINE) - len(self._tail)
            head, rest = data[:end], data[end:]
            self._tail = b""
        self._head_size += len(head)
        if self._head_size > MAX_HEAD:
            self._break("the response's head is too long")
            return b""
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._break("the upstream switched protocols")
            return b""
        except httptools.HttpParserError as error:
            self._break(str(error))
            return b""
        is_complete = self.state is HEAD_COMPLETE
        if is_complete is not (end >= 0):
            self._break("illegal end of the response's head")
        elif is_complete:
            self._read_framing()
        return rest

    def _read_framing(self) -> None:
        """Decide from the complete head where the body ends."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.state = HEAD
            self.headers.clear()
            self._parser = httptools.HttpResponseParser(self)
            return
        values = dict(self.headers)
        length, coding = values.get(b"content-length"), values.get(b"transfer-encoding")
        if coding is not None or len(values) < len(self.headers):
            names = [*map(_NAME, self.headers)]
            if names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
                self._break("more than one content-length or transfer-encoding")
                return
            if coding is not None and coding.strip().lower() != b"chunked":
                self._break("unknown transfer-encoding")
                return
        if length is not None:
            length = length.strip()
            if not length.isdigit() or len(length) > _MAX_DIGITS:
                self._break("illegal content-length")
                return
        self.status = status
        if self._is_head or status in _WITHOUT_BODY:
            self._finish()
        elif coding is not None:
            self.state = CHUNKED
            self._silent = 0
        elif length is not None:
            self.state = BY_LENGTH
            self._length = self._left = int(length)
            if not self._left:
                self._finish()
        else:
            self.state = UNTIL_CLOSE

    def _feed_length(self, data: bytes) -> bytes:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data
        self._finish(surplus=left < 0)
        return data[: self._left]

    def _feed_chunks(self, data: bytes) -> bytes:
        assert self._parser is not None
        surplus = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self.state is DONE:
                surplus = True
            else:
                self._break(str(error))
        self._tail = data[-5:] if len(data) > 4 else (self._tail + data)[-5:]
        if self.state is DONE:
            # The parser skips line ends after the response without a word.
            surplus = surplus or self._tail[1:] != _BLANK_LINE or self._tail[:1] in b"\r\n"
            self._finish(surplus=surplus)
        body = b"".join(self.pieces)
        self.pieces.clear()
        self._silent = 0 if body else self._silent + len(data)
        if self._silent > MAX_HEAD:
            self._break("trailers or chunk extensions are too long")
        return body

    def _finish(self, *, surplus: bool = False) -> None:
        self.state = SURPLUS if surplus else DONE
        self.is_done = True
        self._parser = None

    def _break(self, message: str) -> None:
        self.state = BROKEN
        self.error = RemoteProtocolError(message)
        self._parser = None

    def _disconnect(self, when: str) -> None:
        self._break("")
        self.error = RemoteDisconnected(f"the upstream closed the connection {when}")

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        """Refuse a second response."""
        if self.state is DONE:
            raise httptools.HttpParserError("after the end")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a trailer is not a header."""
        if self.state is HEAD:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Note that the head is complete."""
        assert self._parser is not None
        self.state = HEAD_COMPLETE
        self._keep_alive = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """Note that the last chunk has come; other ends are found without the parser."""
        if self.state is CHUNKED:
            self.state = DONE
