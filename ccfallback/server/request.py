"""Read a client's request: bounded, decoded, and noticing when the client leaves."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, Protocol

from ccfallback.http1.deadline import Deadline

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLIENT_KEY: Final = "ccfallback.client"
"""Where a scope holds the client's connection."""

ARRIVED_KEY: Final = "ccfallback.arrived"
"""Where a scope holds when the head of the request had come, by the monotonic clock."""

_WINDOW: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class ClientGone(Exception):
    """The client has left."""


class TooLarge(Exception):
    """The body is over the limit."""


class BadEncoding(Exception):
    """The body's content-encoding is unknown or broken."""


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """The request's body, decoded. Raises `TooLarge`, `BadEncoding` or `ClientGone`."""
    length = headers.get(b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise TooLarge
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
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


class Client(Protocol):
    """The client's connection, as the server has it."""

    loop: asyncio.AbstractEventLoop
    """Which runs it; to ask for that costs a system call."""
    watch: Deadline
    """Has an eye on how long upstreams take, for one request after another."""
    gone: bool
    """Whether it is closed."""
    on_gone: Callable[[], None] | None
    """What to call when it is."""


class while_connected:
    """Cancel what is inside when the client leaves, and raise `ClientGone` instead.

    The server's own connection tells, because a task that waits for ASGI's `http.disconnect`
    would cost each request as much as half of its headers.
    """

    __slots__ = ("_client", "_gone", "_work")

    def __init__(self, scope: Scope) -> None:
        self._client: Client = scope[CLIENT_KEY]
        self._gone = False
        self._work: asyncio.Task[Any] | None = None

    def __enter__(self) -> None:
        if self._client.gone:
            raise ClientGone
        self._work = asyncio.current_task(self._client.loop)
        self._client.on_gone = self._leave

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._client.on_gone = None
        if self._gone and self._work is not None:
            # Whoever else cancels the work, such as a server that stops, is not to be overheard.
            alone = not self._work.uncancel()
            if alone and kind is asyncio.CancelledError:
                raise ClientGone from None

    def _leave(self) -> None:
        self._gone = True
        if self._work is not None:
            self._work.cancel()
