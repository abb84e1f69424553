"""The way of an upstream's stream of events to the client.

`EventStream` reads and checks the stream: first up to the commit point, then on to the client.
`AttemptTimeouts` says how long each read of an answer may take.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from ccfallback.config.model import Timeouts
from ccfallback.http1 import DeadlineExceeded, HTTPError, Send
from ccfallback.messages.errors import KNOWN_KINDS, STOP_FAILURE, UpstreamError
from ccfallback.policy.latency import Learned
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.quotes import QUOTE
from ccfallback.redact import scrub
from ccfallback.server.client import KeepAlive
from ccfallback.server.response import MAX_WHOLE, READ_ERRORS, BrokenResponse, UpstreamResponse
from ccfallback.server.upstream import describe_error
from ccfallback.wire.format import StreamTranslator

EVENT_STREAM: Final = "text/event-stream"

BYTES_A_SECOND: Final = 25_000
"""A long body may take longer until its first event: one second for so many bytes."""

DRAIN_SECONDS: Final = 0.25
"""How long to wait for the upstream's end after its last event, to keep the connection."""

END_SECONDS: Final = 5.0
"""How long to wait for the rest of an answer after its stop reason."""

MISSED_PINGS: Final = 4
"""A stream has stalled after so many times its longest gap between pings."""

SHORTEST_STALL: Final = 20.0
"""However often a stream sends pings, it may be silent for so many seconds."""

PING_SECONDS: Final = 10.0
"""The longest silence towards the client; Claude Code gives up after 300 seconds."""

EMPTY: Final = "empty answer"
"""The failure of a stream that ends before its first event."""

_PINGS: Final = (b":", b"event: ping", b"event:ping")
"""How a read begins that brings a sign of life: other events may follow in the same read."""


class AttemptTimeouts:
    """The timeouts of one attempt: a provider's own, and more for a long body.

    The attempt begins now, or began when the monotonic clock said `began`. What the provider's
    earlier answers allow replaces the time until the first event if that is less.
    """

    __slots__ = (
        "_end",
        "_is_stream",
        "_last_ping",
        "_longest",
        "_rhythm",
        "began",
        "first_byte",
        "first_byte_why",
        "first_content",
        "gap",
        "has_begun",
        "idle",
        "non_streaming",
        "stopped",
    )

    def __init__(
        self,
        timeouts: Timeouts,
        body_bytes: int,
        *,
        is_stream: bool = True,
        is_total: bool = False,
        learned: Learned | None = None,
        began: float | None = None,
    ) -> None:
        self.began = monotonic() if began is None else began
        self.first_byte = timeouts.first_byte + body_bytes / BYTES_A_SECOND
        self.first_byte_why = ""
        """What `first_byte` follows from, if not from the configuration."""
        if learned is not None:
            longer = max(0.0, body_bytes - learned.body_bytes)
            if (seconds := learned.first_byte + longer / BYTES_A_SECOND) < self.first_byte:
                self.first_byte, self.first_byte_why = seconds, learned.why
        self.first_content = self.first_byte + timeouts.silence
        self._longest = self.idle = timeouts.idle
        self.non_streaming = timeouts.non_streaming
        self.has_begun = False
        """Whether any byte of the body has come."""
        self._is_stream = is_stream
        self._end = self.began + self.non_streaming if is_total else None
        """When the whole answer must be there, by the monotonic clock."""
        self.stopped: float | None = None
        """When nothing but the end of an answer began to be missing."""
        self._last_ping: float | None = None
        self.gap: float | None = None
        """The longest gap between two pings."""
        self._rhythm = None if learned is None else learned.gap

    def next_read(self, translator: StreamTranslator | None = None) -> tuple[str, float]:
        """The timeout that holds for the next read of the body, by its name.

        `translator` is that of a stream; before the first byte it is not known what the body is.
        """
        if translator is not None and translator.stopped:
            if self.stopped is None:
                self.stopped = monotonic()
            return "end", self.stopped + END_SECONDS - monotonic()
        if self._is_stream:
            if not self.has_begun:
                return "first_byte", self.began + self.first_byte - monotonic()
            if translator is None or not translator.started:
                left = self.began + self.first_content - monotonic()
                if left < self.idle:
                    return "first_content", left
        elif self._end is not None:
            left = self._end - monotonic()
            if left < self.idle:
                return "non_streaming", left
        return "idle", self.idle

    def note(self, chunk: bytes) -> None:
        """Take notice of what a read has brought."""
        self.has_begun = True
        if chunk.startswith(_PINGS):
            now = monotonic()
            if self._last_ping is not None:
                self.gap = max(self.gap or 0.0, now - self._last_ping)
            if self.gap is not None or self._rhythm is not None:
                gap = max(self.gap or 0.0, self._rhythm or 0.0)
                self.idle = min(self._longest, max(SHORTEST_STALL, MISSED_PINGS * gap))
            self._last_ping = now

    @property
    def idle_why(self) -> str:
        """What `idle` follows from, if not from the configuration."""
        gap = max(self.gap or 0.0, self._rhythm or 0.0)
        if self.idle == self._longest:
            return ""
        whose = "its" if gap == self.gap else "its usual"
        return f"{whose} longest gap between pings is {gap:.1f} s"


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
        "late",
        "raw",
        "signatures",
        "usage",
    )

    def __init__(
        self,
        response: UpstreamResponse,
        translator: StreamTranslator,
        timeouts: AttemptTimeouts,
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
        self.late: DeadlineExceeded | None = None
        """The timeout that ended the stream after the commit point."""
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

    @property
    def gap(self) -> float | None:
        """The longest gap between two pings; `None` if there were fewer."""
        return self._timeouts.gap

    @property
    def late_why(self) -> str:
        """What the timeout that ended the stream follows from, if not from the configuration."""
        return self._timeouts.idle_why if self.late and self.late.timeout == "idle" else ""

    @property
    def written(self) -> int:
        """About how many bytes of content have come."""
        return self._translator.written

    async def begin(self, start: bytes | None = None) -> bytes:
        """Read up to the commit point and return the events. Raises one of `READ_ERRORS`.

        `start` is what was read before. If `failure` is set afterwards there is no answer.
        """
        translator = self._translator
        events: list[bytes] = []
        raw: list[bytes] = []
        size = 0
        chunk = start
        while not self.ended:
            if chunk is None:
                chunk = await self._read()
            raw.append(chunk)
            size += len(chunk)
            if size > MAX_WHOLE:
                raise BrokenResponse("an answer without an end")
            events.append(self._translate(chunk))
            chunk = None
            if not self._whole and (translator.started or translator.complete):
                break
        if self.failure:
            self.raw = b"".join(raw)
        return b"".join(events)

    async def relay(self, send: Send) -> Outcome:
        """Send all that follows the commit point to the client, and return the final outcome.

        The events of one read are sent in one piece. The caller sends the last, empty piece, which
        tells the client that the answer is whole.
        """
        if self.ended:
            return self._outcome()
        translator, timeouts = self._translator, self._timeouts
        read, next_read = self._response.read_within, timeouts.next_read
        keep_alive = KeepAlive(send, PING_SECONDS)
        try:
            while not self.ended:
                limit = next_read(translator) if translator.stopped else ("idle", timeouts.idle)
                try:
                    chunk = await read(*limit)
                    timeouts.note(chunk)
                except READ_ERRORS as error:
                    if not translator.stopped:
                        return self._interruption(error)
                    chunk = b""
                try:
                    events = self._translate(chunk)
                except Exception as error:
                    # A part of the answer is lost, whatever went wrong.
                    self.crash = error
                    reason = f"internal error: {type(error).__name__}"
                    return Outcome(Fault.TORN, reason, usage=self.usage)
                if events:
                    await send({"type": "http.response.body", "body": events, "more_body": True})
                    keep_alive.restart()
        finally:
            keep_alive.close()
        return self._outcome()

    async def _read(self) -> bytes:
        """The next bytes; none at the end. Raises one of `READ_ERRORS`."""
        timeouts, translator = self._timeouts, self._translator
        try:
            chunk = await self._response.read_within(*timeouts.next_read(translator))
        except READ_ERRORS:
            if not translator.stopped:
                raise
            # The answer is whole, whatever follows its stop reason.
            return b""
        timeouts.note(chunk)
        return chunk

    def _outcome(self) -> Outcome:
        if self.failure:
            is_models = self.error is not None and self.error.type == STOP_FAILURE
            fault = Fault.MODEL_TORN if is_models else Fault.TORN
            return Outcome(fault, self.failure, usage=self.usage)
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
        if events:
            self._timeouts.stopped = None
        if translator.error is not None:
            self.ended = True
            if translator.complete:
                # The client has all of the answer.
                return events
            self.error = translator.error
            kind = translator.error.kind
            if kind and kind not in KNOWN_KINDS:
                # It may be a word of the conversation, which is not kept for as long as a stream.
                kind = scrub(kind, self._secrets()) if len(kind) < QUOTE else "of an unknown type"
            kind = kind or "unreadable event"
            self.failure = f"error in the stream: {kind}"
        elif not chunk or translator.finished:
            self.ended = True
            if not translator.complete:
                heard = translator.heard
                self.failure = "stream ended without a stop reason" if heard else EMPTY
        return events

    def _interruption(self, error: Exception) -> Outcome:
        match error:
            case DeadlineExceeded():
                self.late = error
                fault, reason = Fault.TIMEOUT, "stream stalled"
            case BrokenResponse():
                fault, reason = Fault.TORN, f"stream broken: {error}"
            case _:
                fault, reason = Fault.TORN, f"stream cut: {describe_error(error)[1]}"
        return Outcome(fault, reason, usage=self.usage)
