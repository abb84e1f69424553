"""A request as bytes: its head, and a body that is as long as the head says. No I/O.

Nothing in a header may end its line, and the body never says another length than the head: what
an upstream takes for the next request must not be somebody else's choice.
"""

from collections.abc import AsyncIterator
from typing import Final

import httpx

from ccfallback.http1.head import whole_head

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class RequestEncoder:
    """A request as it is sent."""

    __slots__ = ("_chunked", "_length", "_stream", "begun", "body", "head", "head_only")

    def __init__(self, request: httpx.Request) -> None:
        self.begun = False
        """Whether any of a body that comes in pieces was taken: then it can't be sent again."""
        self.body: bytes | None = None
        """The whole body, unless it comes in pieces."""
        self.head_only = request.method == "HEAD"
        self._chunked = False
        self._length: int | None = None
        lines = self._lines(request)
        self._stream: object = request.stream
        if isinstance(self._stream, httpx.ByteStream):
            self.body = request.read()
        self._frame(lines)
        self.head = _checked(lines)

    @classmethod
    def post(
        cls, target: bytes, host: bytes, headers: list[tuple[bytes, bytes]], content: bytes
    ) -> "RequestEncoder":
        """A request whose body is all there. Raises `LocalProtocolError`."""
        made = cls.__new__(cls)
        made.begun = made.head_only = made._chunked = False
        made._length = len(content)
        made._stream = None
        made.body = content
        lines = [b"POST %b HTTP/1.1" % target, b"host: %b" % host]
        for pair in headers:
            name = pair[0]
            if name == b"host":
                lines[1] = b"host: %b" % pair[1]
            elif name in _FRAMING or b":" in name:
                raise httpx.LocalProtocolError("a header that is not for the sender to choose")
            else:
                lines.append(b": ".join(pair))
        lines.append(b"content-length: %d" % len(content))
        made.head = _checked(lines)
        return made

    def _lines(self, request: httpx.Request) -> list[bytes]:
        url = request.url
        target = request.extensions.get("target")
        target = url.raw_path if target is None else target
        lines = [b"%b %b HTTP/1.1" % (request.method.encode(), target), b""]
        for name, value in request.headers.raw:
            if b":" in name:
                raise httpx.LocalProtocolError("illegal character in a header's name")
            match name.lower():
                case b"host":
                    if lines[1]:
                        raise httpx.LocalProtocolError("two host headers")
                    lines[1] = b"%b: %b" % (name, value)
                    continue
                case b"content-length":
                    if self._length is not None or not value.isdigit():
                        raise httpx.LocalProtocolError("illegal content-length")
                    self._length = int(value)
                case b"transfer-encoding":
                    if self._chunked or value.lower() != b"chunked":
                        raise httpx.LocalProtocolError("unknown transfer-encoding")
                    self._chunked = True
            lines.append(b"%b: %b" % (name, value))
        lines[1] = lines[1] or b"host: %b" % url.netloc
        return lines

    def _frame(self, lines: list[bytes]) -> None:
        """Hold the body to what the headers say of it."""
        if self._chunked and self._length is not None:
            raise httpx.LocalProtocolError("content-length beside transfer-encoding")
        framed = self._chunked or self._length is not None
        if self.body is None:
            if not framed:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked")
        elif self._chunked:
            self.body = _chunk(self.body) + _chunk(b"") if self.body else _chunk(b"")
        elif self._length is not None and self._length != len(self.body):
            raise httpx.LocalProtocolError("the body is not as long as its content-length")
        elif self.body and not framed:
            lines.append(b"content-length: %d" % len(self.body))

    async def pieces(self) -> AsyncIterator[bytes]:
        """A body that comes in pieces, as it is sent."""
        self.begun = True
        assert isinstance(self._stream, httpx.AsyncByteStream)
        sent = 0
        async for piece in self._stream:
            sent += len(piece)
            if self._length is not None and sent > self._length:
                raise httpx.LocalProtocolError("the body is longer than its content-length")
            if piece:
                yield _chunk(piece) if self._chunked else piece
        if self._chunked:
            yield _chunk(b"")
        elif sent != self._length:
            raise httpx.LocalProtocolError("the body is shorter than its content-length")


def _checked(lines: list[bytes]) -> bytes:
    """The head that these lines make, if it is one."""
    try:
        return whole_head(lines)
    except ValueError:
        raise httpx.LocalProtocolError("illegal character in the request's head") from None


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)
