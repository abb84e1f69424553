"""An upstream's answer while its connection is open: decoded bytes, each read with a deadline."""

import zlib
from collections.abc import Iterable
from typing import Final

from ccfallback.http1.deadline import Deadline
from ccfallback.server.transport import Response

MAX_WHOLE: Final = 64 * 1024 * 1024
"""The longest answer that is kept in memory, decoded."""

MAX_PIECE: Final = 1024 * 1024
"""How much one read decodes: a kilobyte of gzip may be a megabyte."""

_WINDOW: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


_LENGTHS: Final = frozenset({len(b"content-type"), len(b"content-encoding")})


class Broken(Exception):
    """The answer can't be read; says so in a few words."""


class UpstreamResponse:
    """Status, headers and body of an upstream's response."""

    def __init__(self, response: Response, watch: Deadline) -> None:
        self.status = response.status
        self.headers = response.headers
        media_type, encoding = _about(response.headers)
        self.media_type = media_type.partition(";")[0].strip().lower()
        self._response = response
        self._watch = watch
        encoding = encoding.strip().lower() or "identity"
        self.decoded = encoding != "identity"
        self._inflate: zlib._Decompress | None = None
        if self.decoded:
            if encoding not in _WINDOW:
                raise Broken(f"unknown content-encoding {encoding[:20]}")
            self._inflate = zlib.decompressobj(_WINDOW[encoding])

    async def read(self) -> bytes:
        """The next bytes, as many as have come; empty at the end. Raises `Broken` or httpx's."""
        if self._inflate is None:
            return await self._response.read()
        while self._inflate is not None:
            packed = self._inflate.unconsumed_tail or await self._response.read()
            if not packed:
                return self._end()
            if chunk := self._inflated(packed):
                return chunk
        return b""

    async def read_within(self, timeout: str, seconds: float) -> bytes:
        """The next bytes, or `DeadlineExceeded`."""
        if self._inflate is not None:
            return await self._watch.wait(self.read(), timeout, seconds)
        if self._response.ready:
            return await self._response.read()
        return await self._watch.wait(self._response.read(), timeout, seconds)

    async def read_all(self, timeout: str, seconds: float) -> bytes:
        """The whole body; no read may take longer than `seconds`."""
        parts: list[bytes] = []
        size = 0
        while chunk := await self.read_within(timeout, seconds):
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_WHOLE:
                raise Broken("an answer without an end")
        return b"".join(parts)

    async def aclose(self) -> None:
        """Give the connection back, or close it when the answer was not read to its end."""
        await self._response.aclose()

    def _inflated(self, chunk: bytes) -> bytes:
        assert self._inflate is not None
        try:
            return self._inflate.decompress(chunk, MAX_PIECE)
        except zlib.error:
            raise Broken("broken content-encoding") from None

    def _end(self) -> bytes:
        if self._inflate is None:
            return b""
        inflate, self._inflate = self._inflate, None
        try:
            rest = inflate.flush()
        except zlib.error:
            raise Broken("broken content-encoding") from None
        if not inflate.eof:
            raise Broken("content-encoding cut short")
        return rest


def _about(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    """The first content-type and content-encoding; an upstream writes their names as it likes."""
    found: dict[bytes, str] = {}
    for key, value in headers:
        # By their length: few are as long, and only those are looked at.
        if len(key) in _LENGTHS and (name := key.lower()) not in found:
            found[name] = value.decode("latin-1")
    return found.get(b"content-type", ""), found.get(b"content-encoding", "")
