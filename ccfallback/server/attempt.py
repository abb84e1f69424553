"""One attempt: a single upstream HTTP exchange, and its result.

An `Attempt` ends before anything has been sent to the client: with a whole answer, with a stream at
its commit point, or with a fault. So another provider may still be tried.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from time import monotonic
from typing import Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ccfallback.config.model import Provider, Timeouts
from ccfallback.http1 import DeadlineExceeded, HTTPError
from ccfallback.messages.assemble import NotAMessage, to_events, to_message
from ccfallback.messages.body_kind import BodyKind, BodyStart, kind_of_start, last_json
from ccfallback.messages.errors import KNOWN_KINDS, UpstreamError, plain_text
from ccfallback.messages.sse import BOM
from ccfallback.messages.tokens import Usage
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.latency import Learned
from ccfallback.policy.outcome import (
    Fault,
    Outcome,
    burst_pause,
    classify,
    describe_clock,
)
from ccfallback.printable import printable
from ccfallback.quotes import Quotes
from ccfallback.redact import is_secret_header, scrub, secret_forms, secrets_in_headers
from ccfallback.server.client_headers import ClientHeaders
from ccfallback.server.context import Context
from ccfallback.server.record import upstream_text
from ccfallback.server.response import MAX_WHOLE, BrokenResponse, UpstreamResponse
from ccfallback.server.services import Services
from ccfallback.server.stream import EMPTY, EVENT_STREAM, AttemptTimeouts, EventStream
from ccfallback.server.upstream import UpstreamRequest, describe_error
from ccfallback.wire.filters import BlockStopHolder, EventFilter, ToolRenamer, rename_tools
from ccfallback.wire.format import WireFormat, WireRequest
from ccfallback.wire.headers import RawHeaders, bare_credential, text_headers

ERROR_BODY_SECONDS: Final = 5.0
"""How long to read the body of a response that is a failure anyway."""

MAX_ERROR_BODY: Final = 4 * 1024 * 1024
"""How many decoded bytes of such a body to read."""

MAX_ON_LOOP: Final = 1024 * 1024
"""A longer answer is decoded in a thread: meanwhile other requests move on."""

_CREDENTIALS: Final = frozenset(
    {b"authorization", b"x-api-key", b"x-ccf-api-key", b"cookie", b"x-amz-security-token"}
)


T = TypeVar("T")


class AttemptResult(msgspec.Struct, eq=False):
    """What an attempt came to, with its answer: whole, or a stream at its commit point.

    A struct, because every request makes one. Its `repr` shows no content.
    """

    provider: Provider
    outcome: Outcome
    seconds: float
    status: int | None = None
    """The status of the response; `None` if there is none that could be passed on."""
    headers: list[tuple[bytes, bytes]] = []
    body: bytes = b""
    """All of the body, or the events before the commit point."""
    decoded: bool = False
    """Whether `body` differs from the upstream's bytes because it was decompressed."""
    media_type: str | None = None
    """The type of `body` if it differs from the upstream's."""
    stream: EventStream | None = None
    """The open stream whose first events are in `body`."""
    timeout: str | None = None
    """The timeout that ended the attempt, by name, and its length in seconds."""
    timeout_seconds: float | None = None
    timeout_why: str = ""
    """What that length follows from, if not from the configuration."""
    sent: bool = True
    """Whether an upstream request was made at all."""
    signatures: list[str] = []
    """Digests of the signatures of thinking in the answer."""

    def __repr__(self) -> str:
        return f"AttemptResult({self.provider.name!r}, {self.outcome!r})"

    @property
    def usage(self) -> Usage | None:
        """What the attempt has cost so far, as far as the upstream says."""
        return self.outcome.usage if self.stream is None else self.stream.usage

    @property
    def written(self) -> int:
        """About how many bytes of content the answer has so far."""
        return len(self.body) if self.stream is None else self.stream.written

    @property
    def is_whole(self) -> bool:
        """Whether all of the answer has come."""
        return self.outcome.ok and (self.stream is None or self.stream.ended)


class Attempt:
    """One upstream HTTP exchange. Its `repr` shows no key and no content."""

    def __init__(
        self,
        services: Services,
        context: Context,
        provider: Provider,
        wire: WireFormat,
        draft: RequestDraft,
        request: WireRequest,
        limits: Timeouts,
        quotes: Quotes,
        *,
        query: str = "",
        is_side: bool = False,
        is_total: bool = False,
        learned: Learned | None = None,
    ) -> None:
        self.request = request
        self.waited: float | None = None
        """Seconds until the first byte of a 2xx."""
        self._services = services
        self._context = context
        self._is_side = is_side
        self._provider = provider
        self._wire = wire
        self._body = draft.body
        """The client's body, repaired perhaps: the answer has to fit it."""
        self._names = draft.names
        self._quotes = quotes
        self._query = query
        self._limits = limits
        self.learned = learned
        """What earlier answers say about the timeouts."""
        self._timeouts = AttemptTimeouts(
            limits,
            len(request.body),
            is_stream=self._body.stream,
            is_total=is_total,
            learned=learned,
        )

    async def make(self) -> AttemptResult:
        """Send the request and read the answer up to the commit point."""
        response: UpstreamResponse | None = None
        keep_open = False
        try:
            response = await self._send()
            result = await self._read(response)
            keep_open = result.stream is not None
        except DeadlineExceeded as late:
            return self._timeout(late)
        except BrokenResponse as broken:
            return self._failure(Fault.UPSTREAM, str(broken), response)
        except NotAMessage:
            return self._failure(Fault.UPSTREAM, "the answer is not a message", response)
        except HTTPError as error:
            return self._failure(*describe_error(error), response)
        finally:
            if response is not None and not keep_open and not response.is_over:
                await response.aclose()
        return result

    async def _send(self) -> UpstreamResponse:
        """Send the request and wait for the response's headers."""
        watch, prepared, upstreams = self._context.watch, self.request, self._services.upstreams
        request = UpstreamRequest(
            prepared.url, prepared.headers, prepared.body, self._limits.connect
        )
        response = await watch.wait(upstreams.send(request), *self._timeouts.head())
        try:
            return UpstreamResponse(response, watch)
        except BrokenResponse:
            await response.aclose()
            raise

    async def _read(self, response: UpstreamResponse) -> AttemptResult:
        """Read as much of the response as it takes to know what it is."""
        status, media_type = response.status, response.media_type
        if not 200 <= status < 600:
            return self._failure(Fault.UPSTREAM, f"invalid status {status}")
        if status >= 300:
            return await self._read_refusal(response)
        whole = response.take_whole()
        if whole is not None and kind_of_start(whole) is BodyKind.JSON:
            self.waited = monotonic() - self._timeouts.began
            return await self._take_whole(response, whole)
        kind, start = await self._read_start(response, whole)
        if kind is BodyKind.UNKNOWN:
            is_stream = media_type == EVENT_STREAM or (
                self._body.stream and "json" not in media_type and "html" not in media_type
            )
        else:
            is_stream = kind is BodyKind.EVENTS
        read = self._read_stream if is_stream else self._read_whole
        return await read(response, start)

    async def _read_start(
        self, response: UpstreamResponse, whole: bytes | None
    ) -> tuple[BodyKind, bytes]:
        """Read until the body shows what it is, which its type may say wrongly.

        `whole` is all of it, if it has arrived already.
        """
        timeouts = self._timeouts
        chunk = await response.read_within(*timeouts.next_read()) if whole is None else whole
        timeouts.note(chunk)
        self.waited = monotonic() - timeouts.began
        if (kind := kind_of_start(chunk)) is not None:
            return kind, chunk
        start = BodyStart()
        start.feed(chunk)
        while start.kind is None:
            chunk = await response.read_within(*timeouts.next_read())
            timeouts.note(chunk)
            start.feed(chunk)
            if start.size > MAX_WHOLE:
                raise BrokenResponse("an answer without an end")
        return start.kind, start.raw

    async def _read_refusal(self, response: UpstreamResponse) -> AttemptResult:
        """Read an error response, with as much of its body as comes soon."""
        body = bytearray()

        async def read() -> None:
            nonlocal body
            while len(body) < MAX_ERROR_BODY and (chunk := await response.read()):
                body += chunk

        # The status is enough to know that this is an error.
        with suppress(DeadlineExceeded, BrokenResponse, HTTPError):
            seconds = min(ERROR_BODY_SECONDS, self._limits.idle)
            await self._context.watch.wait(read(), "error body", seconds)
        raw, status = bytes(body), response.status
        if status < 400:
            reason = f"{status} redirect, not followed"
            return self._result(Outcome(Fault.UPSTREAM, reason, status), response, raw)
        headers, now = text_headers(response.headers), self._services.breakers.clock()
        refusal = self._wire.refusal(status, headers, raw, now)
        outcome = classify(refusal.status, headers, refusal.error, now=now)
        reason = f"{status} {await self._kind(refusal.error)}".rstrip()
        if status in (401, 403) and not self._provider.has_static_key:
            reason = "; ".join(filter(None, (reason, describe_clock(headers, now))))
        # The format says what the status means; the status itself is the upstream's own.
        outcome = outcome.but(
            fault=await self._login_fault(status) or outcome.fault,
            status=status,
            reason=self._scrub(reason),
            until=outcome.until if refusal.until is None else refusal.until,
            hint=outcome.hint if refusal.until is None else refusal.hint,
        )
        if not self._is_side:
            outcome = outcome.but(pause=burst_pause(outcome, headers, now))
        return self._result(outcome, response, raw)

    async def _read_whole(self, response: UpstreamResponse, start: bytes) -> AttemptResult:
        """Read a whole answer, whether or not the client wants a stream."""
        raw = await response.read_rest(self._timeouts.next_read, start)
        return await self._take_whole(response, raw)

    async def _take_whole(self, response: UpstreamResponse, raw: bytes) -> AttemptResult:
        raw = raw.removeprefix(BOM)
        if len(raw) <= MAX_ON_LOOP:
            whole = self._wire.whole(raw, self._body, self._provider)
        else:
            whole = await asyncio.to_thread(self._wire.whole, raw, self._body, self._provider)
        if whole.error is not None:
            return await self._not_an_answer(response, whole.error, raw)
        body = whole.body
        media_type = None if "json" in response.media_type else "application/json"
        if self._names:
            body = rename_tools(body, self._names)
        if self._body.stream:
            body, media_type = await _off_loop(to_events, body), EVENT_STREAM
        outcome = Outcome(Fault.NONE, status=response.status, usage=whole.usage)
        result = self._result(outcome, response, body)
        result.media_type = media_type
        result.signatures = whole.signatures
        return result

    async def _read_stream(self, response: UpstreamResponse, start: bytes) -> AttemptResult:
        """Read a stream up to its commit point; all of it if the client wants a whole message."""
        filters: list[EventFilter] = []
        if self._names:
            filters.append(ToolRenamer(self._names))
        if self._body.stream and self._context.is_claude_code:
            filters.append(BlockStopHolder())
        translator = self._wire.stream(self._body, self._provider, filters)
        # Only the headers: a stream must not keep the request's body in memory.
        secrets = partial(
            secrets_in, self._context.headers, self.request.headers, self._provider, self._query
        )
        stream = EventStream(
            response, translator, self._timeouts, whole=not self._body.stream, secrets=secrets
        )
        begun = await stream.begin(start)
        if stream.failure and stream.error is None and (tail := last_json(stream.raw)):
            # Behind its events there is a whole answer, or an error.
            return await self._take_whole(response, tail)
        if stream.failure:
            error, reason = stream.error, ""
            if error is None:
                reason = stream.failure
                error = UpstreamError(message=plain_text(stream.raw) if reason == EMPTY else reason)
            return await self._not_an_answer(response, error, stream.raw, reason, stream.usage)
        if self._body.stream:
            outcome = Outcome(Fault.NONE, status=response.status, complete=False)
            result = self._result(outcome, response, begun)
            result.media_type = None if response.media_type == EVENT_STREAM else EVENT_STREAM
            result.stream = stream
        else:
            outcome = Outcome(Fault.NONE, status=response.status, usage=stream.usage)
            result = self._result(outcome, response, await _off_loop(to_message, begun))
            result.media_type = "application/json"
        result.signatures = stream.signatures
        return result

    async def _not_an_answer(
        self,
        response: UpstreamResponse,
        error: UpstreamError,
        raw: bytes,
        reason: str = "",
        usage: Usage | None = None,
    ) -> AttemptResult:
        """The result of a 2xx without an answer, classified by the error in it, if there is one."""
        status = response.status
        headers, now = text_headers(response.headers), self._services.breakers.clock()
        outcome = classify(status, headers, error, now=now)
        if error.type:
            reason = outcome.reason.replace(error.kind, await self._kind(error)).rstrip()
            until = outcome.until
        else:
            # Without the upstream's own words: they may quote a key, or the conversation.
            reason = f"{status} but {reason or 'the answer is not a message'}"
            until = None if outcome.fault is Fault.UPSTREAM else outcome.until
        pause = None if self._is_side else burst_pause(outcome, headers, now)
        outcome = outcome.but(reason=self._scrub(reason), until=until, pause=pause, usage=usage)
        return self._result(outcome, response, raw)

    async def _login_fault(self, status: int) -> Fault | None:
        """Return what a 401 of the primary means for the login token that the client has sent.

        Only the servers know whether the client has seen a refusal of the token before.
        """
        provider = self._provider
        if self._is_side or status != 401 or not provider.primary or provider.has_credential:
            return None
        token = self._context.login_token
        if token is None:
            return None
        # Another server may have passed a refusal on since this request arrived.
        await self._services.breakers.refresh()
        session = self._context.headers.hints.session
        refused = self._services.logins.refused_at(token, session)
        if refused is None:
            return Fault.LOGIN
        # A request from before the client could know says nothing new about the primary.
        began = self._services.breakers.clock() - self._context.seconds
        return Fault.OLD_LOGIN if began < refused else None

    def _result(self, outcome: Outcome, response: UpstreamResponse, body: bytes) -> AttemptResult:
        return AttemptResult(
            provider=self._provider,
            outcome=outcome,
            seconds=monotonic() - self._timeouts.began,
            status=response.status,
            headers=list(response.headers),
            body=body,
            decoded=response.decoded,
        )

    def _failure(
        self, fault: Fault, reason: str, response: UpstreamResponse | None = None
    ) -> AttemptResult:
        """The result if there is nothing that could be passed on."""
        status = None if response is None else response.status
        reason = self._scrub(reason if status is None else f"{status} but {reason}")
        seconds = monotonic() - self._timeouts.began
        result = AttemptResult(self._provider, Outcome(fault, reason, status), seconds)
        if fault is Fault.CONNECT_TIMEOUT:
            result.timeout, result.timeout_seconds = "connect", self._limits.connect
        return result

    def _timeout(self, late: DeadlineExceeded) -> AttemptResult:
        timeouts = self._timeouts
        since_began = {"first_byte": timeouts.first_byte, "first_content": timeouts.first_content}
        result = self._failure(Fault.TIMEOUT, f"{late.timeout} timeout")
        result.timeout = late.timeout
        result.timeout_seconds = since_began.get(late.timeout, late.seconds)
        if late.timeout == "idle":
            result.timeout_why = timeouts.idle_why
        elif late.timeout == "first_byte" and timeouts.first_byte_why:
            result.timeout_why = timeouts.first_byte_why
            result.outcome = result.outcome.but(is_hasty=True)
        return result

    async def _kind(self, error: UpstreamError) -> str:
        """The error's type; empty if it is a word of the conversation."""
        if not error.kind or error.kind in KNOWN_KINDS:
            return error.kind
        text = await upstream_text(error.kind, (), self._quotes)
        return error.kind if text == error.kind else ""

    def _scrub(self, reason: str) -> str:
        """A reason without secrets: it goes to the log, to the client and into the state file."""
        return printable(scrub(reason, self.secrets))

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """Everything in the request that an upstream might quote, and that must not be logged."""
        return secrets_in(self._context.headers, self.request.headers, self._provider, self._query)


async def _off_loop(function: Callable[..., T], raw: bytes, *args: object) -> T:
    """Call a function of an answer's bytes, in a thread if they are many."""
    if len(raw) <= MAX_ON_LOOP:
        return function(raw, *args)
    return await asyncio.to_thread(function, raw, *args)


def secrets_in(
    client: ClientHeaders, sent: RawHeaders, provider: Provider, query: str = ""
) -> tuple[str, ...]:
    """The secrets in the client's headers and query, and in a request to a provider."""
    names = _CREDENTIALS | {provider.auth_header.lower().encode()}
    return (
        *client.secrets,
        *secrets_in_headers((n, bare_credential(v)) for n, v in sent if n in names),
        *(form for _, value in parse_qsl(query) for form in secret_forms(value)),
        *(value for name, value in provider.headers.items() if is_secret_header(name)),
        *(value for _, value in parse_qsl(urlsplit(provider.base_url).query)),
    )
