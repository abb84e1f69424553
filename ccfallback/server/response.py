"""An upstream's response: status, headers, and a body that is decoded while it arrives."""

import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final

from ccfallback.http1 import Deadline, DeadlineExceeded, HTTPError
from ccfallback.server.upstream import Response

MAX_WHOLE: Final = 16 * 1024 * 1024
"""The longest answer that is kept in memory, in decoded bytes. Real ones have less than 1 MB."""

MAX_PIECE: Final = 1024 * 1024
"""The most that one read decodes: a kilobyte of gzip may be a megabyte."""

MAX_EMPTY: Final = 1024 * 1024
"""The most encoded bytes in a row that decode to nothing."""

SLICE: Final = 8 * 1024
"""How many encoded bytes are decoded at once: zlib copies what is left of them."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_RAW_DEFLATE: Final = -15
WINDOW_BITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""The content-encodings that are decoded, and what zlib has to know of each."""

_PLAIN: Final = frozenset({"", "identity", "none", "utf-8", "aws-chunked"})
"""What servers say of a body that is not encoded; only the first two are right."""

_UNREADABLE_ENCODINGS: Final = frozenset({"br", "compress", "zstd"})
"""Encodings that we can name; any other name may be a word of the conversation."""


class BrokenResponse(Exception):
    """The response can't be read; the message says why in a few words."""


READ_ERRORS: Final = (DeadlineExceeded, BrokenResponse, HTTPError)
"""What reading a response may raise."""


class UpstreamResponse:
    """Status, headers and decoded body of an upstream's response, while its connection is open."""

    __slots__ = (
        "_inflate", "_response", "_watch", "decoded", "headers", "is_over", "media_type", "status",
    )  # fmt: skip

    def __init__(self, response: Response, watch: Deadline) -> None:
        """Raises `BrokenResponse` if the body of a success can't be decoded.

        An error says enough by its status, and the client may be able to decode its body.
        """
        self.status = response.status
        headers = self.headers = response.headers
        # The first of each name.
        first = dict(reversed(headers))
        self.media_type = _bare_type(first.get(b"content-type", b"")[:_LONGEST_TYPE])
        self._response = response
        self._watch = watch
        self.is_over = False
        """Whether the connection is given back already."""
        self._inflate: _Inflate | None = None
        if b"content-encoding" in first:
            self._inflate = _find_decoder(response, first[b"content-encoding"])
        self.decoded = self._inflate is not None

    @property
    def is_readable(self) -> bool:
        """Whether `read` returns the body itself, not an encoding of it that is unknown here."""
        if self.decoded:
            return True
        encoding = next((v for name, v in self.headers if name == b"content-encoding"), b"")
        return not _encoding(encoding)

    async def read(self) -> bytes:
        """Return all bytes that have come, empty at the end. Raises one of `READ_ERRORS`."""
        return await (self._response if self._inflate is None else self._inflate).read()

    def read_within(self, timeout: str, seconds: float) -> Awaitable[bytes]:
        """Return the next bytes. Raises `DeadlineExceeded` if they take too long.

        This is a plain function because another coroutine would make each read slower.
        """
        if self._inflate is not None:
            return self._watch.wait(self._inflate.read(), timeout, seconds)
        if self._response.is_ready:
            return self._response.read()
        return self._watch.wait(self._response.read(), timeout, seconds)

    def take_whole(self) -> bytes | None:
        """The whole rest of the body if it has arrived already and is short; `None` if not."""
        whole = None if self.decoded else self._response.take_whole()
        self.is_over = whole is not None
        return whole

    async def read_all(self, timeout: str, seconds: float) -> bytes:
        """Return the whole body; no read may take longer than `seconds`."""
        return await self.read_rest(lambda: (timeout, seconds))

    async def read_rest(self, limit: Callable[[], tuple[str, float]], start: bytes = b"") -> bytes:
        """Return the whole body, which begins with `start`; `limit` gives each read its timeout.

        Raises one of `READ_ERRORS`.
        """
        parts = [start]
        size = len(start)
        while chunk := await self.read_within(*limit()):
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_WHOLE:
                raise BrokenResponse("an answer without an end")
        return b"".join(parts)

    async def aclose(self) -> None:
        """Give the connection back if the response was read to its end, else close it."""
        await self._response.aclose()


def _find_decoder(response: Response, encoding: bytes) -> "_Inflate | None":
    """What decodes a body; `None` if nothing does. Raises `BrokenResponse` for a success."""
    name = _encoding(encoding)
    if name in WINDOW_BITS:
        return _Inflate(response, WINDOW_BITS[name])
    if name and 200 <= response.status < 300:
        known = f" {name}" if name in _UNREADABLE_ENCODINGS else ""
        raise BrokenResponse(f"unknown content-encoding{known}")
    return None


def _encoding(value: bytes) -> str:
    """What a header says a body is encoded with; empty if it is plain."""
    names = (name.strip() for name in value.decode("latin-1").lower().split(","))
    return ", ".join(name for name in names if name not in _PLAIN)


def _window_bits(named: int, start: bytes) -> int | None:
    """What zlib has to know of a body that starts like this; `None` if the body is plain.

    The start tells more than what the encoding is `named`. Some servers take deflate for what it
    is without the frame of zlib, and some name an encoding and send the body as it is.
    """
    if len(start) < len(_GZIP_MAGIC):
        return named
    if start.startswith(_GZIP_MAGIC):
        return WINDOW_BITS["gzip"]
    if start[0] & 0x8F == 8 and int.from_bytes(start[:2], "big") % 31 == 0:
        return WINDOW_BITS["deflate"]
    return _RAW_DEFLATE if named == WINDOW_BITS["deflate"] else None


class _Inflate:
    """Decodes a body of one or more compressed members, such as a gateway makes for each event."""

    def __init__(self, response: Response, window_bits: int) -> None:
        """`window_bits` are those of the encoding that the headers name."""
        self._response = response
        self._window_bits: int | None = window_bits
        self._is_begun = False
        self._inflate: zlib._Decompress | None = None
        self._slices: deque[bytes] = deque()
        self._empty = 0
        """Encoded bytes since the last decoded one."""

    async def read(self) -> bytes:
        if not self._is_begun:
            assert self._window_bits is not None
            self._window_bits = _window_bits(self._window_bits, await self._peek())
            self._is_begun = True
            if self._window_bits is not None:
                self._inflate = zlib.decompressobj(self._window_bits)
        if self._window_bits is None:
            return await self._next_slice()
        while (inflate := self._inflate) is not None:
            if inflate.eof:
                await self._begin_member(inflate.unused_data)
                continue
            packed = inflate.unconsumed_tail or await self._next_slice()
            if not packed:
                self._inflate = None
                raise BrokenResponse("content-encoding cut short")
            self._empty += len(packed)
            try:
                chunk = inflate.decompress(packed, MAX_PIECE)
            except zlib.error:
                raise BrokenResponse("broken content-encoding") from None
            if chunk:
                self._empty = 0
                return chunk
            if self._empty > MAX_EMPTY:
                raise BrokenResponse("a content-encoding without content")
        return b""

    async def _begin_member(self, packed: bytes) -> None:
        """Begin the next member of the body. Other bytes end the body."""
        if packed:
            self._slices.appendleft(packed)
        start = await self._peek()
        if self._window_bits == WINDOW_BITS["gzip"] and start.startswith(_GZIP_MAGIC):
            self._inflate = zlib.decompressobj(self._window_bits)
        else:
            self._inflate = None

    async def _peek(self) -> bytes:
        """The next bytes, at least two of them unless the body ends before. They stay unread."""
        start = await self._next_slice()
        while len(start) < len(_GZIP_MAGIC) and (more := await self._next_slice()):
            start += more
        if start:
            self._slices.appendleft(start)
        return start

    async def _next_slice(self) -> bytes:
        if not self._slices:
            chunk = await self._response.read()
            self._slices.extend(chunk[i : i + SLICE] for i in range(0, len(chunk), SLICE))
        return self._slices.popleft() if self._slices else b""


_LONGEST_TYPE: Final = 256
"""Bytes of a content type in which the media type is; a cache keeps what it is called with."""


@lru_cache(maxsize=64)
def _bare_type(value: bytes) -> str:
    """A media type without parameters, in lower case."""
    return value.decode("latin-1").partition(";")[0].strip().lower()
