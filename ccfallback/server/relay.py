"""Carry a stream to the client.

Everything here happens after the commit point: a failure can no longer choose another provider,
so the client's connection is dropped, never ended as if the answer were whole, and Claude Code
starts the turn again. A stream is read on its way; an event that may not go on stops it.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import httpx

from ccfallback.http1.deadline import DeadlineExceeded
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.server.attempt import EVENT_STREAM, AttemptResult
from ccfallback.server.client import Send
from ccfallback.server.upstream import fault_of
from ccfallback.server.upstream_response import Broken

DRAIN: Final[float] = 0.25
"""Seconds to wait for the upstream's end after its last event, to keep the connection."""


async def relay(
    reply: AttemptResult, send: Send, headers: Sequence[tuple[bytes, bytes]], idle: float
) -> Outcome:
    """Send a stream's beginning and then all that follows; returns what it came to.

    The last, empty piece, which tells the client that the answer is whole, is left to the caller:
    it is sent only when the outcome is an answer. All that one read brought goes on as one piece.
    """
    answer, translator = reply.answer, reply.translator
    assert answer is not None
    assert translator is not None
    await send({"type": "http.response.start", "status": reply.status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": reply.body, "more_body": True})
    while not translator.finished:
        try:
            chunk = await answer.read_within("idle", idle)
        except (DeadlineExceeded, Broken, httpx.HTTPError) as error:
            if translator.complete:
                # All that matters has been said; the client does without the last event.
                break
            return _broken_off(error)
        events = translator.feed(chunk) if chunk else translator.finish()
        if events:
            await send({"type": "http.response.body", "body": events, "more_body": True})
        if translator.error is not None:
            error_type = translator.error.kind or "unreadable event"
            return Outcome(Fault.TORN, f"error in the stream: {error_type}")
        if not chunk:
            break
    if not translator.complete:
        return Outcome(Fault.TORN, "stream ended without a stop reason")
    return Outcome(Fault.NONE, status=reply.status)


def _broken_off(error: DeadlineExceeded | Broken | httpx.HTTPError) -> Outcome:
    """What it means that a stream can't be read any further."""
    match error:
        case DeadlineExceeded():
            return Outcome(Fault.TIMEOUT, "stream stalled")
        case Broken():
            return Outcome(Fault.TORN, f"stream broken: {error}")
        case _:
            return Outcome(Fault.TORN, f"stream cut: {fault_of(error)[1]}")


async def drain(reply: AttemptResult) -> None:
    """Read what is left after the last event, briefly, so that the connection can be used again."""
    answer = reply.answer
    if answer is None:
        return
    try:
        async with asyncio.timeout(DRAIN):
            while await answer.read():
                pass
    except (TimeoutError, Broken, httpx.HTTPError):
        # Then the connection is closed instead, which costs the next request a handshake.
        pass
    finally:
        await answer.aclose()


def is_stream(reply: AttemptResult) -> bool:
    """Whether a reply is an open stream."""
    return reply.answer is not None


def content_type(reply: AttemptResult) -> bytes | None:
    """The type to announce, where it is not the upstream's."""
    media_type = reply.media_type
    if media_type is None:
        return None
    return (
        b"text/event-stream; charset=utf-8" if media_type == EVENT_STREAM else media_type.encode()
    )
