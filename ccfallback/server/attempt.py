"""One try: send a request to one provider and say what it came to.

An attempt ends before anything has been sent to the client: with an answer whose first content
is in hand, or with a fault. So up to here another provider may still be asked.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic, time
from typing import Final

import httpx

from ccfallback.config.model import Provider, Timeouts
from ccfallback.http1.deadline import Deadline, DeadlineExceeded
from ccfallback.messages.assemble import NotAMessage, to_events, to_message
from ccfallback.messages.body import Body
from ccfallback.messages.errors import UpstreamError, plain_text
from ccfallback.policy.outcome import Fault, Outcome, classify
from ccfallback.server.transport import Transport, UpstreamRequest
from ccfallback.server.upstream import fault_of
from ccfallback.server.upstream_response import MAX_WHOLE, Broken, UpstreamResponse
from ccfallback.wire.filters import BlockStopHolder, EventFilter, ToolRenamer, rename_tools
from ccfallback.wire.format import StreamTranslator, Usage, WireFormat
from ccfallback.wire.headers import text_headers

BYTES_A_SECOND: Final = 25_000
"""A longer body may take longer until its first event: one second for so many bytes."""

ERROR_BODY_WAIT: Final = 5.0
"""Seconds for the body of an answer that is a failure anyway."""

MAX_REFUSAL: Final = 4 * 1024 * 1024
"""Bytes that are read of the body of such an answer, decoded."""

EVENT_STREAM: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request, ready to be sent. Its `repr` shows no key and no content."""

    provider: Provider
    wire: WireFormat
    asked: Body
    """The client's body in its own words: what the answer has to fit."""
    url: str = field(repr=False)
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    content: bytes = field(repr=False)
    names: Mapping[str, str] = field(default_factory=dict)
    """The client's name of each tool that the provider knows by another."""


@dataclass(slots=True)
class AttemptResult:
    """What an attempt came to, and its answer: whole, or a stream with its beginning in hand."""

    provider: Provider
    outcome: Outcome
    seconds: float
    status: int | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list, repr=False)
    body: bytes = field(default=b"", repr=False)
    decoded: bool = False
    """Whether `body` is other bytes than the upstream's: decoded or translated."""
    media_type: str | None = None
    """The type of `body`, where it was turned into another than the upstream's."""
    answer: UpstreamResponse | None = None
    """The open stream whose first events are in `body`."""
    translator: StreamTranslator | None = None
    timeout: str | None = None
    """Which timeout fired, and after how many seconds."""
    timeout_seconds: float | None = None
    sent: bool = True
    """Whether a request was made at all."""
    usage: Usage = field(default_factory=Usage)
    signatures: list[str] = field(default_factory=list)


async def attempt(
    prepared: Prepared,
    transport: Transport,
    *,
    timeouts: Timeouts,
    watch: Deadline,
    clock: Callable[[], float] = time,
) -> AttemptResult:
    """Make one try. Raises nothing but cancellation."""
    trial = _Attempt(prepared, timeouts, watch, monotonic(), clock)
    try:
        answer = await trial.head(transport)
    except DeadlineExceeded as late:
        return trial.late(late)
    except Broken as broken:
        return trial.failed(Fault.UPSTREAM, str(broken))
    except httpx.HTTPError as error:
        return trial.failed(*fault_of(error))
    keep = False
    try:
        reply = await trial.body(answer)
        keep = reply.answer is not None
        return reply
    finally:
        if not keep:
            await answer.aclose()


class _Attempt:
    """The steps of one attempt."""

    def __init__(
        self,
        prepared: Prepared,
        limits: Timeouts,
        watch: Deadline,
        began: float,
        clock: Callable[[], float],
    ) -> None:
        self._prepared = prepared
        self._limits = limits
        self._watch = watch
        self._began = began
        self._clock = clock
        self._streams = prepared.asked.stream
        self._first_byte = limits.first_byte + len(prepared.content) / BYTES_A_SECOND
        self._longest_wait = self._first_byte + limits.silence

    async def head(self, transport: Transport) -> UpstreamResponse:
        """Send the request and wait for the response's headers."""
        prepared, limits = self._prepared, self._limits
        post = UpstreamRequest(prepared.url, prepared.headers, prepared.content, limits.connect)
        name, seconds = (
            ("first_byte", self._first_byte)
            if self._streams
            else ("non_streaming", limits.non_streaming)
        )
        response = await self._watch.wait(transport.post(post), name, seconds)
        try:
            return UpstreamResponse(response, self._watch)
        except Broken:
            await response.aclose()
            raise

    async def body(self, answer: UpstreamResponse) -> AttemptResult:
        """Read as much of the answer as it takes to know what it is."""
        if not 200 <= answer.status < 600:
            return self.failed(Fault.UPSTREAM, f"status {answer.status}, which is none")
        if not 200 <= answer.status < 300:
            return await self._refusal(answer)
        try:
            if answer.media_type == EVENT_STREAM or (
                self._streams
                and "json" not in answer.media_type
                and "html" not in answer.media_type
            ):
                return await self._stream(answer)
            return await self._whole(answer)
        except DeadlineExceeded as late:
            return self.late(late)
        except Broken as broken:
            return self.failed(Fault.UPSTREAM, str(broken), answer)
        except NotAMessage:
            return self.failed(Fault.UPSTREAM, "the answer is not a message", answer)
        except httpx.HTTPError as error:
            return self.failed(*fault_of(error), answer=answer)

    async def _refusal(self, answer: UpstreamResponse) -> AttemptResult:
        """A status that is no success: with as much of its body as comes soon."""
        body = bytearray()

        async def read() -> None:
            nonlocal body
            while len(body) < MAX_REFUSAL and (chunk := await answer.read()):
                body += chunk

        # What has come is enough to know that this is no answer.
        with suppress(DeadlineExceeded, Broken, httpx.HTTPError):
            await self._watch.wait(read(), "error body", min(ERROR_BODY_WAIT, self._limits.idle))
        raw = bytes(body)
        headers, now = text_headers(answer.headers), self._clock()
        refusal = self._prepared.wire.refusal(answer.status, headers, raw, now)
        outcome = classify(refusal.status, headers, refusal.error, now=now)
        if refusal.status != answer.status:
            # The meaning is the format's to say, the status is the upstream's own.
            reason = f"{answer.status} {refusal.error.kind}".rstrip()
            outcome = replace(outcome, status=answer.status, reason=reason)
        if refusal.until is not None:
            outcome = replace(outcome, until=refusal.until, hint=refusal.hint)
        if answer.status < 400:
            outcome = Outcome(
                Fault.UPSTREAM, f"{answer.status} redirect, not followed", answer.status
            )
        return self._reply(outcome, answer, raw)

    async def _whole(self, answer: UpstreamResponse) -> AttemptResult:
        """A whole answer, whatever was asked for."""
        raw = await answer.read_all("idle", self._limits.idle)
        prepared = self._prepared
        whole = prepared.wire.whole(raw, prepared.asked, prepared.provider)
        if whole.error is not None:
            return self._no_answer(answer, whole.error, raw)
        body, media_type = whole.body, None
        if prepared.names:
            body = rename_tools(body, prepared.names)
        if self._streams:
            body, media_type = to_events(body), EVENT_STREAM
        reply = self._reply(Outcome(Fault.NONE, status=answer.status), answer, body)
        reply.media_type = media_type
        reply.usage = whole.usage
        reply.signatures = whole.signatures
        return reply

    async def _stream(self, answer: UpstreamResponse) -> AttemptResult:
        """A stream, up to its first content; all of it where a whole answer was asked for."""
        prepared = self._prepared
        filters: list[EventFilter] = []
        if prepared.names:
            filters.append(ToolRenamer(prepared.names))
        if self._streams:
            filters.append(BlockStopHolder())
        translator = prepared.wire.stream(prepared.asked, prepared.provider, filters)
        held = bytearray()
        raw = bytearray()
        until_content = self._began + self._longest_wait
        while True:
            name, seconds = "idle", self._limits.idle
            if not translator.heard:
                name, seconds = "first_byte", self._began + self._first_byte - monotonic()
            elif not translator.started and until_content - monotonic() < seconds:
                name, seconds = "first_content", until_content - monotonic()
            chunk = await answer.read_within(name, seconds)
            raw += chunk
            if len(raw) > MAX_WHOLE:
                raise Broken("an answer without an end")
            held += translator.feed(chunk) if chunk else translator.finish()
            if translator.error is not None:
                return self._no_answer(answer, translator.error, bytes(raw), translator)
            ended = not chunk or translator.finished
            if ended and not translator.complete:
                what = "stream ended without a stop reason" if translator.heard else "empty answer"
                error = UpstreamError(message=what if translator.heard else plain_text(bytes(raw)))
                return self._no_answer(answer, error, bytes(raw), translator, what)
            if ended and not self._streams:
                return self._folded(answer, translator, bytes(held))
            if self._streams and (translator.started or translator.complete):
                return self._open(answer, translator, bytes(held))

    def _folded(
        self, answer: UpstreamResponse, translator: StreamTranslator, events: bytes
    ) -> AttemptResult:
        reply = self._reply(Outcome(Fault.NONE, status=answer.status), answer, to_message(events))
        reply.media_type = "application/json"
        reply.usage = translator.usage
        reply.signatures = translator.signatures
        return reply

    def _open(
        self, answer: UpstreamResponse, translator: StreamTranslator, events: bytes
    ) -> AttemptResult:
        outcome = Outcome(Fault.NONE, status=answer.status, complete=False)
        reply = self._reply(outcome, answer, events)
        reply.answer, reply.translator = answer, translator
        reply.media_type = None if answer.media_type == EVENT_STREAM else EVENT_STREAM
        reply.usage = translator.usage
        reply.signatures = translator.signatures
        return reply

    def _no_answer(
        self,
        answer: UpstreamResponse,
        error: UpstreamError,
        raw: bytes,
        translator: StreamTranslator | None = None,
        what: str = "",
    ) -> AttemptResult:
        """A 2xx that is none: classed by the error it carries, if it carries one."""
        outcome = classify(answer.status, text_headers(answer.headers), error, now=self._clock())
        if not error.type:
            # What the upstream says is kept apart: it may quote a key, or the conversation.
            reason = f"{answer.status} but {what or 'the answer is not a message'}"
            until = None if outcome.fault is Fault.UPSTREAM else outcome.until
            outcome = replace(outcome, reason=reason, until=until)
        reply = self._reply(outcome, answer, raw)
        if translator is not None:
            reply.usage = translator.usage
        return reply

    def _reply(self, outcome: Outcome, answer: UpstreamResponse, body: bytes) -> AttemptResult:
        return AttemptResult(
            provider=self._prepared.provider,
            outcome=outcome,
            seconds=monotonic() - self._began,
            status=answer.status,
            headers=list(answer.headers),
            body=body,
            decoded=answer.decoded,
        )

    def late(self, late: DeadlineExceeded) -> AttemptResult:
        """A timeout fired."""
        reply = self.failed(Fault.TIMEOUT, f"{late.timeout} timeout")
        since_the_request = {"first_byte": self._first_byte, "first_content": self._longest_wait}
        reply.timeout = late.timeout
        reply.timeout_seconds = since_the_request.get(late.timeout, late.seconds)
        return reply

    def failed(
        self, fault: Fault, reason: str, answer: UpstreamResponse | None = None
    ) -> AttemptResult:
        """The try came to nothing that could be handed on."""
        status = None if answer is None else answer.status
        outcome = Outcome(fault, reason)
        seconds = monotonic() - self._began
        reply = AttemptResult(self._prepared.provider, outcome, seconds, status=None)
        if fault is Fault.CONNECT_TIMEOUT:
            reply.timeout, reply.timeout_seconds = "connect", self._limits.connect
        if status is not None:
            reply.outcome = Outcome(fault, f"{status} but {reason}", status)
        return reply
