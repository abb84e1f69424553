"""An upstream's response, and the way of its events to the client.

`UpstreamResponse` decodes the body and gives each read its deadline. `EventStream` reads and checks
a stream of events: first up to the commit point, then on to the client.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Final

from ccfallback.config.model import Timeouts
from ccfallback.http1 import Deadline, DeadlineExceeded, HTTPError
from ccfallback.messages.errors import UpstreamError
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.redact import scrub
from ccfallback.server.client import Send
from ccfallback.server.upstream import Response, describe_error
from ccfallback.wire.format import StreamTranslator

EVENT_STREAM: Final = "text/event-stream"

MAX_WHOLE: Final = 64 * 1024 * 1024
"""The longest answer that is kept in memory, in decoded bytes."""

MAX_PIECE: Final = 1024 * 1024
"""The most that one read decodes: a kilobyte of gzip may be a megabyte."""

BYTES_A_SECOND: Final = 25_000
"""A long body may take longer until its first event: one second for so many bytes."""

DRAIN_SECONDS: Final = 0.25
"""How long to wait for the upstream's end after its last event, to keep the connection."""

EMPTY: Final = "empty answer"
"""The failure of a stream that ends before its first event."""

_WINDOW_BITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_LENGTHS: Final = frozenset({len(b"content-type"), len(b"content-encoding")})


class BrokenResponse(Exception):
    """The response can't be read; the message says why in a few words."""


READ_ERRORS: Final = (DeadlineExceeded, BrokenResponse, HTTPError)
"""What reading a response may raise."""


class UpstreamResponse:
    """Status, headers and decoded body of an upstream's response, while its connection is open."""

    def __init__(self, response: Response, watch: Deadline) -> None:
        self.status = response.status
        self.headers = response.headers
        media_type, encoding = _content_headers(response.headers)
        self.media_type = media_type.partition(";")[0].strip().lower()
        self._response = response
        self._watch = watch
        encoding = encoding.strip().lower() or "identity"
        self.decoded = encoding != "identity"
        self._inflate: zlib._Decompress | None = None
        if self.decoded:
            if encoding not in _WINDOW_BITS:
                raise BrokenResponse(f"unknown content-encoding {encoding[:20]}")
            self._inflate = zlib.decompressobj(_WINDOW_BITS[encoding])

    async def read(self) -> bytes:
        """Return all bytes that have come, empty at the end. Raises one of `READ_ERRORS`."""
        if self._inflate is None:
            return await self._response.read()
        while self._inflate is not None:
            packed = self._inflate.unconsumed_tail or await self._response.read()
            if not packed:
                return self._finish_decoding()
            if chunk := self._decode(packed):
                return chunk
        return b""

    def read_within(self, timeout: str, seconds: float) -> Awaitable[bytes]:
        """Return the next bytes. Raises `DeadlineExceeded` if they take too long.

        This is a plain function because another coroutine would make each read slower.
        """
        if self._inflate is not None:
            return self._watch.wait(self.read(), timeout, seconds)
        if self._response.is_ready:
            return self._response.read()
        return self._watch.wait(self._response.read(), timeout, seconds)

    async def read_all(self, timeout: str, seconds: float) -> bytes:
        """Return the whole body; no read may take longer than `seconds`."""
        parts: list[bytes] = []
        size = 0
        while chunk := await self.read_within(timeout, seconds):
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_WHOLE:
                raise BrokenResponse("an answer without an end")
        return b"".join(parts)

    async def aclose(self) -> None:
        """Give the connection back if the response was read to its end, else close it."""
        await self._response.aclose()

    def _decode(self, chunk: bytes) -> bytes:
        assert self._inflate is not None
        try:
            return self._inflate.decompress(chunk, MAX_PIECE)
        except zlib.error:
            raise BrokenResponse("broken content-encoding") from None

    def _finish_decoding(self) -> bytes:
        if self._inflate is None:
            return b""
        inflate, self._inflate = self._inflate, None
        try:
            rest = inflate.flush()
        except zlib.error:
            raise BrokenResponse("broken content-encoding") from None
        if not inflate.eof:
            raise BrokenResponse("content-encoding cut short")
        return rest


def _content_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    """Return the first content-type and content-encoding; an upstream may write names in any case.

    Few names have the length of one of these two, so only those are lowered and compared.
    """
    found: dict[bytes, str] = {}
    for key, value in headers:
        if len(key) in _LENGTHS and (name := key.lower()) not in found:
            found[name] = value.decode("latin-1")
    return found.get(b"content-type", ""), found.get(b"content-encoding", "")


class StreamTimeouts:
    """The timeouts of one attempt, which begins now: a provider's own, and more for a long body."""

    __slots__ = ("began", "first_byte", "first_content", "idle")

    def __init__(self, timeouts: Timeouts, body_bytes: int) -> None:
        self.began = monotonic()
        self.first_byte = timeouts.first_byte + body_bytes / BYTES_A_SECOND
        self.first_content = self.first_byte + timeouts.silence
        self.idle = timeouts.idle

    def next_read(self, translator: StreamTranslator) -> tuple[str, float]:
        """Return the timeout that holds for the next read before the commit point, by its name."""
        if not translator.heard:
            return "first_byte", self.began + self.first_byte - monotonic()
        if not translator.started:
            left = self.began + self.first_content - monotonic()
            if left < self.idle:
                return "first_content", left
        return "idle", self.idle


class EventStream:
    """An upstream's stream of events, translated and checked as it comes.

    The commit point lies between `begin` and `relay`. Before it, what goes wrong is a reason to try
    another provider. After it the client has a part of the answer, so what goes wrong drops its
    connection: the answer must never look as if it were whole, and Claude Code starts the turn
    again.
    """

    __slots__ = (
        "_response",
        "_secrets",
        "_timeouts",
        "_translator",
        "_whole",
        "crash",
        "ended",
        "error",
        "failure",
        "raw",
        "signatures",
        "usage",
    )

    def __init__(
        self,
        response: UpstreamResponse,
        translator: StreamTranslator,
        timeouts: StreamTimeouts,
        *,
        whole: bool,
        secrets: Callable[[], tuple[str, ...]],
    ) -> None:
        self._response = response
        self._translator = translator
        self._timeouts = timeouts
        self._whole = whole
        """Whether the client wants a whole message: the commit point is the end then."""
        self._secrets = secrets
        """Lists what must not be logged, if the stream quotes it."""
        self.ended = False
        self.crash: Exception | None = None
        """An exception that no code expected and that tore the answer."""
        self.failure = ""
        """Why the answer is incomplete, in a few words; empty as long as it may be complete."""
        self.error: UpstreamError | None = None
        """The error that the stream itself contains."""
        self.raw = b""
        """The upstream's own bytes, if `begin` has found no answer in them."""
        self.usage = translator.usage
        self.signatures = translator.signatures

    async def begin(self) -> bytes:
        """Read up to the commit point and return the events. Raises one of `READ_ERRORS`.

        If `failure` is set afterwards there is no answer.
        """
        translator, timeouts = self._translator, self._timeouts
        events, raw = bytearray(), bytearray()
        while not self.ended:
            chunk = await self._response.read_within(*timeouts.next_read(translator))
            raw += chunk
            if len(raw) > MAX_WHOLE:
                raise BrokenResponse("an answer without an end")
            events += self._translate(chunk)
            if not self._whole and (translator.started or translator.complete):
                break
        if self.failure:
            self.raw = bytes(raw)
        return bytes(events)

    async def relay(self, send: Send) -> Outcome:
        """Send all that follows the commit point to the client, and return the final outcome.

        The events of one read are sent in one piece. The caller sends the last, empty piece, which
        tells the client that the answer is whole.
        """
        read, idle = self._response.read_within, self._timeouts.idle
        while not self.ended:
            try:
                chunk = await read("idle", idle)
            except READ_ERRORS as error:
                if self._translator.complete:
                    # Only the last event is missing, and the client can do without it.
                    break
                return self._interrupted(error)
            try:
                events = self._translate(chunk)
            except Exception as error:
                # A part of the answer is lost, whatever went wrong.
                self.crash = error
                reason = f"internal error: {type(error).__name__}"
                return Outcome(Fault.TORN, reason, usage=self.usage)
            if events:
                await send({"type": "http.response.body", "body": events, "more_body": True})
        if self.failure:
            return Outcome(Fault.TORN, self.failure, usage=self.usage)
        return Outcome(Fault.NONE, status=self._response.status, usage=self.usage)

    async def drain(self) -> None:
        """Read what follows the last event, briefly, so that the connection can be used again."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while await self._response.read():
                    pass
        except (TimeoutError, BrokenResponse, HTTPError):
            # The connection is closed instead, which costs the next request a handshake.
            pass
        finally:
            await self._response.aclose()

    async def aclose(self) -> None:
        """Close the response."""
        await self._response.aclose()

    def _translate(self, chunk: bytes) -> bytes:
        """Translate the bytes of one read, and check whether the stream has ended or failed."""
        translator = self._translator
        events = translator.feed(chunk) if chunk else translator.finish()
        if translator.error is not None:
            self.ended = True
            self.error = translator.error
            kind = scrub(translator.error.kind, self._secrets()) or "unreadable event"
            self.failure = f"error in the stream: {kind}"
        elif not chunk or translator.finished:
            self.ended = True
            if not translator.complete:
                heard = translator.heard
                self.failure = "stream ended without a stop reason" if heard else EMPTY
        return events

    def _interrupted(self, error: Exception) -> Outcome:
        match error:
            case DeadlineExceeded():
                fault, reason = Fault.TIMEOUT, "stream stalled"
            case BrokenResponse():
                fault, reason = Fault.TORN, f"stream broken: {error}"
            case _:
                fault, reason = Fault.TORN, f"stream cut: {describe_error(error)[1]}"
        return Outcome(fault, reason, usage=self.usage)
