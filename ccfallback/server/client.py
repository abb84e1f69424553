"""The client's side of a request: read its body, notice when it leaves, send it a response."""

import asyncio
import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ccfallback.error_codes import ErrorCode
from ccfallback.http1 import CONNECTION_KEY, Receive, Scope, Send, ServerProtocol, Timer
from ccfallback.messages import errors as envelope
from ccfallback.messages.sse import PING
from ccfallback.server.response import WINDOW_BITS
from ccfallback.wire.headers import RawHeaders

JSON: Final = (b"content-type", b"application/json")
EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")
TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")


class ClientGone(Exception):
    """The client has closed its connection."""


class TooLarge(Exception):
    """The request's body is over the limit."""


class BadEncoding(Exception):
    """The request's content-encoding is unknown, or its body does not decode."""


async def read_body(
    receive: Receive, headers: Mapping[bytes, bytes], length: bytes | None, limit: int
) -> bytes:
    """Read and decode the request's body. Raises `TooLarge`, `BadEncoding` or `ClientGone`.

    `length` is what the client says of it, in digits.
    """
    if length is not None and int(length) > limit:
        raise TooLarge
    encoding = "identity"
    if (given := headers.get(b"content-encoding")) is not None:
        encoding = given.decode("latin-1").strip().lower()
        if encoding not in (*WINDOW_BITS, "identity"):
            raise BadEncoding(encoding[:20])
    message = await receive()
    if message.get("more_body"):
        raw = await _read_pieces(receive, message["body"], limit)
    elif message["type"] == "http.disconnect":
        raise ClientGone
    else:
        raw = message["body"]
    if len(raw) > limit:
        raise TooLarge
    return raw if encoding == "identity" else _decode(raw, encoding, limit)


async def _read_pieces(receive: Receive, first: bytes, limit: int) -> bytes:
    """Read a body that does not arrive in one piece."""
    parts = [first]
    size = len(first)
    has_more = True
    while has_more and size <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message["body"])
        size += len(message["body"])
        has_more = message["more_body"]
    return b"".join(parts)


def _decode(raw: bytes, encoding: str, limit: int) -> bytes:
    inflate = zlib.decompressobj(WINDOW_BITS[encoding])
    try:
        decoded = inflate.decompress(raw, limit + 1)
    except zlib.error:
        raise BadEncoding(encoding) from None
    if len(decoded) > limit:
        raise TooLarge
    if not inflate.eof or inflate.unused_data:
        raise BadEncoding(encoding)
    return decoded


class while_connected:
    """Cancel the block when the client leaves, and raise `ClientGone` instead.

    The server's own connection calls back, because a task that waits for ASGI's
    `http.disconnect` would cost each request half as much as reading its headers.
    """

    __slots__ = ("_client", "_gone", "_work")

    def __init__(self, scope: Scope) -> None:
        self._client: ServerProtocol = scope[CONNECTION_KEY]
        self._gone = False
        self._work: asyncio.Task[Any] | None = None

    def __enter__(self) -> None:
        if self._client.is_gone:
            raise ClientGone
        self._work = asyncio.current_task(self._client.loop)
        self._client.on_gone = self._leave

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._client.on_gone = None
        if self._gone and self._work is not None:
            # Another cancellation, such as a server that stops, must not get lost.
            only_ours = not self._work.uncancel()
            if only_ours and kind is asyncio.CancelledError:
                raise ClientGone from None

    def _leave(self) -> None:
        self._gone = True
        if self._work is not None:
            self._work.cancel()


class KeepAlive:
    """Sends a ping to the client whenever its stream has been silent for some seconds."""

    __slots__ = ("_pinging", "_seconds", "_send", "_timer")

    def __init__(self, send: Send, seconds: float) -> None:
        self._send = send
        self._seconds = seconds
        self._pinging: asyncio.Task[None] | None = None
        self._timer = Timer(self._ping)
        self._timer.set(seconds)

    def restart(self) -> None:
        """Begin to measure the silence anew, because something was sent."""
        self._timer.set(self._seconds)

    def close(self) -> None:
        """Send no more pings."""
        self._timer.close()
        if self._pinging is not None:
            self._pinging.cancel()

    def _ping(self) -> None:
        self._timer.set(self._seconds)
        # A client that does not read gets no second one.
        if self._pinging is None or self._pinging.done():
            message = {"type": "http.response.body", "body": PING, "more_body": True}
            self._pinging = asyncio.ensure_future(self._send(message))


async def send_whole(send: Send, status: int, headers: RawHeaders, body: bytes) -> None:
    """Send a complete response. The server leaves the body out for HEAD."""
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers, "body": body})


async def send_json(send: Send, value: Any, headers: RawHeaders = (), status: int = 200) -> None:
    """Send a value as JSON."""
    await send_whole(send, status, [JSON, *headers], msgspec.json.encode(value))


async def send_error(
    send: Send,
    request_id: str,
    status: int,
    kind: str,
    message: str,
    code: ErrorCode,
    headers: RawHeaders = (),
) -> None:
    """Send an error in Anthropic's envelope."""
    # Clients know the error of a missing token by its exact form.
    more = {} if code is ErrorCode.INVALID_TOKEN else {"code": code}
    body = envelope.encode(kind, code.mark(message), request_id, **more)
    await send_whole(send, status, [JSON, *headers], body)
