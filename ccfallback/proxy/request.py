"""Read a client's request: bounded, decoded, and noticing when the client leaves."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final

from ccfallback.core.headers import RawHeaders, find

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_WINDOW: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class ClientGone(Exception):
    """The client has left."""


class TooLarge(Exception):
    """The body is over the limit."""


class BadEncoding(Exception):
    """The body's content-encoding is unknown or broken."""


async def read_body(receive: Receive, headers: RawHeaders, limit: int) -> bytes:
    """The request's body, decoded. Raises `TooLarge`, `BadEncoding` or `ClientGone`."""
    length = find(headers, b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise TooLarge
    encoding = (find(headers, b"content-encoding") or "identity").strip().lower()
    if encoding not in (*_WINDOW, "identity"):
        raise BadEncoding(encoding[:20])
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLarge
        parts.append(part)
        if not message.get("more_body", False):
            break
    raw = parts[0] if len(parts) == 1 else b"".join(parts)
    return raw if encoding == "identity" else _inflated(raw, encoding, limit)


def _inflated(raw: bytes, encoding: str, limit: int) -> bytes:
    inflate = zlib.decompressobj(_WINDOW[encoding])
    try:
        decoded = inflate.decompress(raw, limit + 1)
    except zlib.error:
        raise BadEncoding(encoding) from None
    if len(decoded) > limit:
        raise TooLarge
    if not inflate.eof:
        raise BadEncoding(encoding)
    return decoded


@asynccontextmanager
async def while_connected(receive: Receive) -> Any:
    """Cancel what is inside when the client leaves, and raise `ClientGone` instead."""
    work = asyncio.current_task()
    assert work is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        work.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        work.uncancel()
        raise ClientGone from None
    finally:
        watcher.cancel()
