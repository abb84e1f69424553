"""A request, and the bytes in which it is sent. No I/O.

Nothing in a header may end its line, and the body never has another length than the head says:
what the peer takes for another header or for the next request must not be an outsider's choice.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from ccfallback.http1.errors import LocalProtocolError

Headers = list[tuple[bytes, bytes]]

PORTS: Final = {"http": 80, "https": 443}
"""The schemes, and their default ports."""

HIGH_WATER: Final = 256 * 1024
"""Bytes of a body that wait for their reader before reading pauses, on either side."""

ONE_WRITE: Final = 64 * 1024
"""A piece of a body up to this length is copied behind the bytes before it, so that all leave in
one write."""

_TOKEN: Final = rb"[!#-'*+\-.0-9A-Z^-z|~]++"
_HEAD: Final = re.compile(
    rb"(?:%b [^\x00-\x20\x7f]++ HTTP/1\.1|HTTP/1\.1 \d{3} [\x20-\x7e]*+)\r\n"
    rb"(?:%b:[^\x00\r\n]*+\r\n)*+\r\n" % (_TOKEN, _TOKEN)
)

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests say their length even where that is zero (RFC 9110, 8.6)."""

_SPECIAL_LENGTHS: Final = frozenset(
    {len(b"host"), len(b"content-length"), len(b"transfer-encoding")}
)
"""Lengths of the names that need a closer look; few other names have one of these lengths."""


class Origin(NamedTuple):
    """A server: scheme, host without brackets, and port."""

    scheme: str
    host: str
    port: int


@dataclass(slots=True)
class Request:
    """A request to an origin. Its `repr` shows nothing that may be secret."""

    origin: Origin
    method: str
    target: bytes = field(repr=False)
    headers: Headers = field(repr=False)
    """The `host` header is added where it is missing, and so is the body's framing."""
    content: bytes | AsyncIterable[bytes] = field(default=b"", repr=False)
    """The body: whole, or in pieces."""


class RequestEncoder:
    """A request in bytes: the `head`, and the whole `body` or its `pieces`.

    Raises `LocalProtocolError` where the request can be read in two ways.
    """

    __slots__ = ("_chunked", "_length", "_stream", "body", "head", "is_head", "is_started")

    def __init__(self, request: Request) -> None:
        content = request.content
        self.body = content if isinstance(content, bytes) else None
        """The whole body, as it is sent; `None` where it comes in pieces."""
        self.is_head = request.method == "HEAD"
        self.is_started = False
        """Whether any piece of the body has been taken: then it cannot be sent again."""
        self._stream = None if isinstance(content, bytes) else content
        self._length: int | None = None
        self._chunked = False
        lines = self._read_headers(request)
        self._frame_body(request.method, lines)
        try:
            self.head = encode_head(lines)
        except ValueError as error:
            raise LocalProtocolError(str(error)) from None

    def _read_headers(self, request: Request) -> list[bytes]:
        host = b""
        lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.target), host]
        for header in request.headers:
            name, value = header
            if b":" in name:
                raise LocalProtocolError("illegal character in the name of a header")
            if len(name) in _SPECIAL_LENGTHS:
                match name.lower():
                    case b"host":
                        if host:
                            raise LocalProtocolError("two host headers")
                        host = b": ".join(header)
                        continue
                    case b"content-length":
                        if self._length is not None or not value.isdigit():
                            raise LocalProtocolError("illegal content-length")
                        self._length = int(value)
                    case b"transfer-encoding":
                        if self._chunked or value.lower() != b"chunked":
                            raise LocalProtocolError("unknown transfer-encoding")
                        self._chunked = True
            lines.append(b": ".join(header))
        lines[1] = host or _host_header(request.origin)
        return lines

    def _frame_body(self, method: str, lines: list[bytes]) -> None:
        """Check the body against what the headers say of it, and add what they leave open."""
        if self._chunked and self._length is not None:
            raise LocalProtocolError("content-length next to transfer-encoding")
        is_framed = self._chunked or self._length is not None
        body = self.body
        if body is None:
            if not is_framed:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked")
        elif self._chunked:
            self.body = _encode_chunk(body) + _encode_chunk(b"") if body else _encode_chunk(b"")
        elif self._length is not None and self._length != len(body):
            raise LocalProtocolError("the body is not as long as its content-length")
        elif not is_framed and (body or method in _WITH_BODY):
            lines.append(b"content-length: %d" % len(body))

    async def pieces(self) -> AsyncIterator[bytes]:
        """The pieces of a streamed body, as they are sent."""
        assert self._stream is not None
        self.is_started = True
        sent = 0
        async for piece in self._stream:
            sent += len(piece)
            if self._length is not None and sent > self._length:
                raise LocalProtocolError("the body is longer than its content-length")
            if piece:
                yield _encode_chunk(piece) if self._chunked else piece
        if self._chunked:
            yield _encode_chunk(b"")
        elif sent != self._length:
            raise LocalProtocolError("the body is shorter than its content-length")


def encode_head(lines: Sequence[bytes]) -> bytes:
    """Join the lines of a head, of a request or a response. Raises `ValueError`."""
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    # A line break inside a header would still look like a head: one with another line.
    breaks = len(lines) + 1
    if _HEAD.fullmatch(head) is None or head.count(b"\r") != breaks or head.count(b"\n") != breaks:
        raise ValueError("illegal character in a head")
    return head


@lru_cache(maxsize=512)
def _host_header(origin: Origin) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    port = "" if origin.port == PORTS.get(origin.scheme) else f":{origin.port}"
    return f"host: {host}{port}".encode()


def _encode_chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)
