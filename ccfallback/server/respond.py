"""Answers of our own, and whole ones of others."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ccfallback.messages import errors as envelope
from ccfallback.server.context import Context
from ccfallback.server.request import Send

JSON = (b"content-type", b"application/json")
TEXT = (b"content-type", b"text/plain; charset=utf-8")


async def whole(
    send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> None:
    """Send an answer that is all there. The server leaves the body out for HEAD."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def error(
    send: Send,
    context: Context,
    status: int,
    kind: str,
    message: str,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Send an error in Anthropic's envelope."""
    body = envelope.encode(kind, message, context.id)
    await whole(send, status, [JSON, *headers], body)


async def wrong_method(send: Send, context: Context, allowed: str) -> None:
    """Send a 405 that says what would be right."""
    headers = [(b"allow", allowed.encode())]
    await error(send, context, 405, "invalid_request_error", f"Use {allowed} here", headers)


async def document(send: Send, value: Any, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Send a value as JSON."""
    await whole(send, 200, [JSON, *headers], msgspec.json.encode(value))
