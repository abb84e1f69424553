"""An upstream's answer while its connection is open: decoded bytes, each read with a deadline."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx

MAX_WHOLE: Final = 64 * 1024 * 1024
"""The longest answer that is kept in memory, decoded."""

MAX_PIECE: Final = 1024 * 1024
"""How much one read decodes: a kilobyte of gzip may be a megabyte."""

_WINDOW: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Broken(Exception):
    """The answer can't be read; says so in a few words."""


class Late(Exception):
    """A deadline has passed: which one, and how long it was."""

    def __init__(self, timeout: str, seconds: float) -> None:
        super().__init__(timeout)
        self.timeout = timeout
        self.seconds = seconds


class Answer:
    """Status, headers and body of an upstream's response."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers.raw
        self.media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._response = response
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._chunks: AsyncIterator[bytes] = response.stream.__aiter__()
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        self.decoded = encoding != "identity"
        self._inflate: zlib._Decompress | None = None
        if self.decoded:
            if encoding not in _WINDOW:
                raise Broken(f"unknown content-encoding {encoding[:20]}")
            self._inflate = zlib.decompressobj(_WINDOW[encoding])

    async def read(self) -> bytes:
        """The next bytes, as many as have come; empty at the end. Raises `Broken` or httpx's."""
        while True:
            if self._inflate is not None and self._inflate.unconsumed_tail:
                chunk = self._inflated(self._inflate.unconsumed_tail)
                if chunk:
                    return chunk
            try:
                chunk = await anext(self._chunks)
            except StopAsyncIteration:
                return self._end()
            if self._inflate is not None:
                chunk = self._inflated(chunk)
            if chunk:
                return chunk

    async def read_within(self, timeout: str, seconds: float) -> bytes:
        """The next bytes, or `Late`."""
        try:
            # Not `deadline`: a stream comes here once for each read.
            async with asyncio.timeout(max(seconds, 0.0)):
                return await self.read()
        except TimeoutError:
            raise Late(timeout, seconds) from None

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


@asynccontextmanager
async def deadline(timeout: str, seconds: float) -> AsyncIterator[None]:
    """Raise `Late` when what is inside takes longer."""
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            yield
    except TimeoutError:
        raise Late(timeout, seconds) from None
