"""A request, and the bytes in which it is sent. No I/O.

Nothing in a header may end its line, and the body never has another length than the head says:
what the peer takes for another header or for the next request must not be an outsider's choice.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from string import ascii_letters, digits
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


def in_writes(before: bytes, body: bytes, after: bytes = b"") -> list[bytes]:
    """What to write to a transport, one after the other: a large body is not copied.

    `writelines` would do the same, but asyncio's own never pauses the writer from Python 3.12.0 to
    3.12.8 and 3.13.1, and fails on a connection that is closing (CVE-2024-12254).
    """
    if len(body) > ONE_WRITE:
        return [piece for piece in (before, body, after) if piece]
    whole = b"%b%b%b" % (before, body, after)
    return [whole] if whole else []


_TOKEN: Final = b"!#$%&'*+-.^_`|~" + (digits + ascii_letters).encode()
"""The characters of a method and of a header's name (RFC 9110, 5.6.2)."""

_START: Final = re.compile(
    rb"[%b]+ [^\x00-\x20\x7f]+ HTTP/1\.1|HTTP/1\.1 \d{3} [\x20-\x7e]*" % re.escape(_TOKEN)
)

_START_LINE: Final = b"HTTP/1.1 200 OK"
_START_LENGTH: Final = len(_START_LINE) + len(b"\r\n")

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests say their length even where that is zero (RFC 9110, 8.6)."""

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_SPECIAL: Final = _FRAMING | {b"host"}

_NAME: Final = itemgetter(0)
_VALUE: Final = itemgetter(1)

# As numbers: to look for one of these in bytes is ten times as fast as for `b"\r"`.
_CR, _LF, _NUL = b"\r\n\0"


class Origin(NamedTuple):
    """A server: scheme, host without brackets, and port."""

    scheme: str
    host: str
    port: int


class FixedHeaders(list[tuple[bytes, bytes]]):
    """Headers that many requests carry: checked and encoded once. Never changed."""

    __slots__ = ("_begin", "_lines", "_where")

    def __init__(self, headers: Headers) -> None:
        super().__init__(headers)
        self._lines: bytes | None = None
        self._where: tuple[str, bytes, Origin] | None = None
        self._begin = b""

    @property
    def lines(self) -> bytes:
        """The lines of a head; none if one says where the request goes or where its body ends.

        Raises `ValueError`.
        """
        if self._lines is None:
            is_plain = _SPECIAL.isdisjoint(name.lower() for name, _ in self)
            self._lines = encode_head(_START_LINE, self)[_START_LENGTH:-2] if is_plain else b""
        return self._lines

    def begin(self, method: str, target: bytes, origin: Origin) -> bytes:
        """The head of a request up to the number of its `content-length`, the last line.

        Empty if the request can't be framed like this. Raises `ValueError`.
        """
        where = method, target, origin
        if where != self._where:
            lines = self.lines if method in _WITH_BODY else b""
            first = _begin_head(method, target, origin) if lines else b""
            self._begin = b"%b%bcontent-length: " % (first, lines) if lines else b""
            self._where = where
        return self._begin


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
        content, headers, method = request.content, request.headers, request.method
        self.body: bytes | None = None
        """The whole body, as it is sent; `None` where it comes in pieces."""
        self.is_head = method == "HEAD"
        self.is_started = False
        """Whether any piece of the body has been taken: then it cannot be sent again."""
        self._stream: AsyncIterable[bytes] | None = None
        self._length: int | None = None
        self._chunked = False
        try:
            if isinstance(content, bytes):
                self.body = content
                if isinstance(headers, FixedHeaders):
                    begin = headers.begin(method, request.target, request.origin)
                    if begin:
                        self.head = b"%b%d\r\n\r\n" % (begin, len(content))
                        return
            else:
                self._stream = content
            self.head = self._encode(request)
        except ValueError as error:
            raise LocalProtocolError(str(error)) from None

    def _encode(self, request: Request) -> bytes:
        headers = request.headers
        if _SPECIAL.isdisjoint(map(bytes.lower, map(_NAME, headers))):
            headers = [(b"host", _host(request.origin)), *headers]
        else:
            headers = self._with_host_first(headers, request.origin)
        self._frame_body(request.method, headers)
        return encode_head(_request_line(request.method, request.target), headers)

    def _with_host_first(self, headers: Headers, origin: Origin) -> Headers:
        """The same headers, with `host` before all others. Takes notice of the framing."""
        hosts: Headers = []
        others: Headers = []
        for header in headers:
            name = header[0].lower()
            (hosts if name == b"host" else others).append(header)
            if name in _FRAMING:
                self._check_framing(name, header[1])
        if len(hosts) > 1:
            raise LocalProtocolError("two host headers")
        return [*(hosts or [(b"host", _host(origin))]), *others]

    def _check_framing(self, name: bytes, value: bytes) -> None:
        """Take notice of a header that says where the body ends."""
        if name == b"content-length":
            if self._length is not None or not value.isdigit():
                raise LocalProtocolError("illegal content-length")
            self._length = int(value)
        elif name == b"transfer-encoding":
            if self._chunked or value.lower() != b"chunked":
                raise LocalProtocolError("unknown transfer-encoding")
            self._chunked = True

    def _frame_body(self, method: str, headers: Headers) -> None:
        """Check the body against what the headers say of it, and add what they leave open."""
        if self._chunked and self._length is not None:
            raise LocalProtocolError("content-length next to transfer-encoding")
        is_framed = self._chunked or self._length is not None
        body = self.body
        if body is None:
            if not is_framed:
                self._chunked = True
                headers.append((b"transfer-encoding", b"chunked"))
        elif self._chunked:
            self.body = _encode_chunk(body) + _encode_chunk(b"") if body else _encode_chunk(b"")
        elif self._length is not None and self._length != len(body):
            raise LocalProtocolError("the body is not as long as its content-length")
        elif not is_framed and (body or method in _WITH_BODY):
            headers.append((b"content-length", b"%d" % len(body)))

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


def encode_head(start: bytes, headers: Headers) -> bytes:
    """The head of a request or a response; `start` is its first line. Raises `ValueError`."""
    names, values = [*map(_NAME, headers)], b"".join(map(_VALUE, headers))
    if (
        b"".join(names).translate(None, _TOKEN)
        or b"" in names
        # What follows a line break would look like another header.
        or _CR in values
        or _LF in values
        or _NUL in values
        or not _is_start(start)
    ):
        raise ValueError("illegal character in a head")
    return b"\r\n".join([start, *map(b": ".join, headers), b"", b""])


@lru_cache(maxsize=256)
def _is_start(start: bytes) -> bool:
    """Whether the first line of a head is well-formed; the same few are sent again and again."""
    return _START.fullmatch(start) is not None


@lru_cache(maxsize=256)
def _request_line(method: str, target: bytes) -> bytes:
    return b"%b %b HTTP/1.1" % (method.encode(), target)


@lru_cache(maxsize=256)
def _begin_head(method: str, target: bytes, origin: Origin) -> bytes:
    """The first two lines of a head. Raises `ValueError`."""
    return encode_head(_request_line(method, target), [(b"host", _host(origin))])[:-2]


@lru_cache(maxsize=512)
def _host(origin: Origin) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    port = "" if origin.port == PORTS.get(origin.scheme) else f":{origin.port}"
    return f"{host}{port}".encode()


def _encode_chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)
