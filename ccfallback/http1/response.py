"""A response out of the bytes that come. No I/O.

Where it ends is counted here and not left to the parser: that does not say how many bytes it
took, and a connection may carry another request only when not one byte came after the end.
"""

from typing import Final

import httptools
import httpx

MAX_HEAD: Final = 64 * 1024
"""The longest head, with interim responses before it; also, chunk sizes and trailers in a row."""

_BLANK: Final = b"\r\n\r\n"
_NO_BODY: Final = frozenset({204, 304})


class ResponseParser:
    """A response as it comes."""

    __slots__ = (
        "_chunked", "_complete", "_ended", "_head_only", "_head_size", "_keep_alive", "_left",
        "_length", "_parser", "_silent", "_tail", "broken", "done", "headers", "on_body",
        "pieces", "started", "status", "surplus",
    )  # fmt: skip

    def __init__(self, *, head_only: bool = False) -> None:
        self.status: int | None = None
        """Known as soon as the head is complete."""
        self.headers: list[tuple[bytes, bytes]] = []
        self.started = False
        """Whether a single byte has come."""
        self.done = False
        """Whether the response is whole."""
        self.surplus = False
        """Whether bytes came after its end."""
        self.broken: httpx.RemoteProtocolError | None = None
        """What was wrong with it."""
        self.pieces: list[bytes] = []
        self.on_body = self.pieces.append
        self._head_only = head_only
        self._head_size = 0
        self._complete = False
        self._keep_alive = False
        self._chunked = False
        self._ended = False
        self._length: int | None = None
        self._left = 0
        self._silent = 0
        self._tail = b""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request, as far as the upstream goes."""
        return self.done and self._keep_alive and not self.surplus

    def feed(self, data: bytes) -> bytes:
        """Take what came; returns what of it is body. Look at `broken` and `done` afterwards."""
        self.started = True
        while self.status is None and self.broken is None:
            if not data:
                return b""
            data = self._feed_head(data)
        if self.broken is not None or not data:
            return b""
        if self.done:
            self.surplus = True
            return b""
        if self._chunked:
            return self._feed_chunks(data)
        if self._length is None:
            return data
        if len(data) > self._left:
            self.surplus = True
            data = data[: self._left]
        self._left -= len(data)
        if not self._left:
            self._finish()
        return data

    def end(self) -> None:
        """Nothing more will come."""
        if self.done or self.broken is not None:
            return
        if not self.started:
            self._break("Server disconnected without sending a response.")
        elif self.status is None:
            self._break("the upstream closed the connection within the response's head")
        elif self._chunked:
            self._break("the upstream closed the connection without the last chunk")
        elif self._length is not None:
            got = self._length - self._left
            self._break(f"the upstream closed the connection after {got} of {self._length} bytes")
        else:
            self._keep_alive = False
            self._finish()

    def _feed_head(self, data: bytes) -> bytes:
        """Take as much as belongs to the head; returns the rest."""
        assert self._parser is not None
        known = self._tail + data
        end = known.find(_BLANK)
        if end < 0:
            head, rest = data, b""
            self._tail = known[-3:]
        else:
            end += len(_BLANK) - len(self._tail)
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
        if self._complete is not (end >= 0):
            self._break("illegal end of the response's head")
        elif self._complete:
            self._take_head()
        return rest

    def _take_head(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._complete = self._ended = False
            self.headers.clear()
            self._parser = httptools.HttpResponseParser(self)
            return
        lengths: list[bytes] = []
        codings: list[bytes] = []
        for name, value in self.headers:
            match name.lower():
                case b"content-length":
                    lengths.append(value.strip())
                case b"transfer-encoding":
                    codings.append(value.strip().lower())
        if len(lengths) + len(codings) > 1:
            self._break("more than one content-length or transfer-encoding")
        elif codings and codings != [b"chunked"]:
            self._break("unknown transfer-encoding")
        elif lengths and not lengths[0].isdigit():
            self._break("illegal content-length")
        else:
            self._frame(status, chunked=bool(codings), length=lengths[0] if lengths else None)

    def _frame(self, status: int, *, chunked: bool, length: bytes | None) -> None:
        """Settle where the body ends."""
        self.status = status
        if self._head_only or status in _NO_BODY:
            self._finish()
        elif chunked:
            self._chunked = True
        elif length is not None:
            self._length = self._left = int(length)
            if not self._left:
                self._finish()

    def _feed_chunks(self, data: bytes) -> bytes:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._ended:
                self.surplus = True
            else:
                self._break(str(error))
        self._tail = (self._tail + data[-5:])[-5:]
        if self._ended:
            # Line ends after the response: the parser skips them and says nothing.
            if self._tail[1:] != _BLANK or self._tail[:1] in b"\r\n":
                self.surplus = True
            self._finish()
        body = b"".join(self.pieces)
        self.pieces.clear()
        self._silent = 0 if body else self._silent + len(data)
        if self._silent > MAX_HEAD:
            self._break("trailers or chunk extensions are too long")
        return body

    def _finish(self) -> None:
        self.done = True
        self._parser = None

    def _break(self, what: str) -> None:
        self.broken = httpx.RemoteProtocolError(what)
        self._parser = None

    def on_message_begin(self) -> None:
        """The parser found a response; after the end of ours it is told to go no further."""
        if self._ended:
            raise httptools.HttpParserError("after the end")

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser found a header; a trailer is none."""
        if not self._complete:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The parser found the end of a head."""
        assert self._parser is not None
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """The parser found the end of a response."""
        self._ended = True
