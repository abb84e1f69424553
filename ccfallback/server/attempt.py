"""One attempt: a single upstream HTTP exchange, and its result.

An `Attempt` ends before anything has been sent to the client: with a whole answer, with a stream at
its commit point, or with a fault. So another provider may still be tried.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Final, Protocol, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ccfallback.config.model import Provider, Timeouts
from ccfallback.http1 import DeadlineExceeded, HTTPError
from ccfallback.messages.assemble import NotAMessage, to_events, to_message
from ccfallback.messages.body_kind import BodyKind, BodyStart, kind_of_start, last_json
from ccfallback.messages.errors import KNOWN_KINDS, UpstreamError, plain_text, readable_part
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
from ccfallback.redact import (
    KnownSecrets,
    is_secret_header,
    scrub,
    secret_forms,
    secrets_in_headers,
)
from ccfallback.server.client_headers import ClientHeaders
from ccfallback.server.context import Context
from ccfallback.server.record import upstream_text
from ccfallback.server.response import MAX_WHOLE, BrokenResponse, UpstreamResponse
from ccfallback.server.services import Services
from ccfallback.server.stream import EMPTY, EVENT_STREAM, AttemptTimeouts, EventStream
from ccfallback.server.upstream import Response, UpstreamRequest, describe_error
from ccfallback.structs import Discreet
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


class AttemptResult(Discreet, msgspec.Struct, eq=False):
    """What an attempt came to, with its answer: whole, or a stream at its commit point.

    A struct, because every request makes one. Its `repr` shows no content.
    """

    SHOWN = ("provider", "outcome")

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


class ClientRequest(Protocol):
    """What all attempts of one request have in common."""

    @property
    def services(self) -> Services:
        """What outlives the request."""

    @property
    def context(self) -> Context:
        """What is known of the request."""

    @property
    def query(self) -> str:
        """The query of its URL."""

    @property
    def counts_tokens(self) -> bool:
        """Whether the providers only count its tokens."""

    @property
    def has_total_limit(self) -> bool:
        """Whether the whole answer has to be there in the time that its head may take."""

    @property
    def quotes(self) -> Quotes:
        """Finds what upstreams quote of it."""


class Attempt(Discreet, msgspec.Struct, eq=False):
    """One upstream HTTP exchange, which begins now. Its `repr` shows no key and no content.

    A struct, because every request makes one.
    """

    SHOWN = ("provider",)

    client: ClientRequest
    provider: Provider
    wire: WireFormat
    draft: RequestDraft
    """The client's request, repaired perhaps: the answer has to fit it."""
    request: WireRequest
    limits: Timeouts
    learned: Learned | None = None
    """What earlier answers say about the timeouts."""
    began: float = msgspec.field(default_factory=monotonic)
    """By the monotonic clock."""
    waited: float | None = None
    """Seconds until the first byte of a 2xx."""
    _timeouts: AttemptTimeouts | None = None
    _secrets: KnownSecrets | None = None

    @property
    def timeouts(self) -> AttemptTimeouts:
        """The timeouts of a streamed answer, and of a whole one that does not come at once."""
        if self._timeouts is None:
            self._timeouts = AttemptTimeouts(
                self.limits,
                len(self.request.body),
                is_stream=self.draft.body.stream,
                is_total=self.client.has_total_limit,
                learned=self.learned,
                began=self.began,
            )
        return self._timeouts

    async def make(self) -> AttemptResult:
        """Send the request and read the answer up to the commit point."""
        watch, upstreams = self.client.context.watch, self.client.services.upstreams
        prepared, limits = self.request, self.limits
        if self.draft.body.stream:
            timeout, seconds = "first_byte", self.timeouts.first_byte
        else:
            timeout, seconds = "non_streaming", limits.non_streaming
        arrived: Response | None = None
        response: UpstreamResponse | None = None
        is_done = False
        try:
            request = UpstreamRequest(prepared.url, prepared.headers, prepared.body, limits.connect)
            arrived = await watch.wait(upstreams.send(request), timeout, seconds)
            response = UpstreamResponse(arrived, watch)
            result = await self._read(response)
            is_done = response.is_over or result.stream is not None
        except DeadlineExceeded as late:
            return self._timeout(late)
        except BrokenResponse as broken:
            return self._failure(Fault.UPSTREAM, str(broken), response)
        except NotAMessage:
            return self._failure(Fault.UPSTREAM, "the answer is not a message", response)
        except HTTPError as error:
            return self._failure(*describe_error(error), response)
        finally:
            if arrived is not None and not is_done:
                await arrived.aclose()
        return result

    async def _read(self, response: UpstreamResponse) -> AttemptResult:
        """Read as much of the response as it takes to know what it is."""
        if not 200 <= response.status < 300:
            return await self._read_refusal(response)
        whole = response.take_whole()
        if whole is not None and kind_of_start(whole) is BodyKind.JSON:
            self.waited = monotonic() - self.began
            return await self._take_whole(response, whole)
        kind, start = await self._read_start(response, whole)
        if kind is BodyKind.UNKNOWN:
            media_type = response.media_type
            is_stream = media_type == EVENT_STREAM or (
                self.draft.body.stream and "json" not in media_type and "html" not in media_type
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
        timeouts = self.timeouts
        chunk = await response.read_within(*timeouts.next_read()) if whole is None else whole
        timeouts.note(chunk)
        self.waited = monotonic() - self.began
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
        status = response.status
        if not 300 <= status < 600:
            return self._failure(Fault.UPSTREAM, f"invalid status {status}")
        body = bytearray()

        async def read() -> None:
            nonlocal body
            while len(body) < MAX_ERROR_BODY and (chunk := await response.read()):
                body += chunk

        # The status is enough to know that this is an error.
        with suppress(DeadlineExceeded, BrokenResponse, HTTPError):
            seconds = min(ERROR_BODY_SECONDS, self.limits.idle)
            await self.client.context.watch.wait(read(), "error body", seconds)
        raw = bytes(body)
        if status < 400:
            reason = f"{status} redirect, not followed"
            return self._result(Outcome(Fault.UPSTREAM, reason, status), response, raw)
        headers, now = text_headers(response.headers), self.client.services.breakers.clock()
        # The client gets the body as it came: it may know the encoding.
        readable = readable_part(raw) if response.is_readable else b""
        refusal = self.wire.refusal(status, headers, readable, now)
        outcome = classify(refusal.status, headers, refusal.error, now=now)
        reason = f"{status} {await self._kind(refusal.error)}".rstrip()
        if status in (401, 403) and not self.provider.has_static_key:
            reason = "; ".join(filter(None, (reason, describe_clock(headers, now))))
        # The format says what the status means; the status itself is the upstream's own.
        outcome = outcome.but(
            fault=await self._login_fault(status) or outcome.fault,
            status=status,
            reason=reason,
            until=outcome.until if refusal.until is None else refusal.until,
            hint=outcome.hint if refusal.until is None else refusal.hint,
        )
        if not self.client.counts_tokens:
            outcome = outcome.but(pause=burst_pause(outcome, headers, now))
        return self._result(outcome, response, raw)

    async def _read_whole(self, response: UpstreamResponse, start: bytes) -> AttemptResult:
        """Read a whole answer, whether or not the client wants a stream."""
        raw = await response.read_rest(self.timeouts.next_read, start)
        return await self._take_whole(response, raw)

    async def _take_whole(self, response: UpstreamResponse, raw: bytes) -> AttemptResult:
        raw = raw.removeprefix(BOM)
        asked = self.draft.body
        if len(raw) <= MAX_ON_LOOP:
            whole = self.wire.whole(raw, asked, self.provider)
        else:
            whole = await asyncio.to_thread(self.wire.whole, raw, asked, self.provider)
        if whole.error is not None:
            return await self._not_an_answer(response, whole.error, raw)
        outcome = Outcome(Fault.NONE, status=response.status, usage=whole.usage)
        result = self._result(outcome, response, whole.body)
        result.signatures = whole.signatures
        if self.draft.names:
            result.body = rename_tools(whole.body, self.draft.names)
        if asked.stream:
            result.body = await _off_loop(to_events, result.body)
            result.media_type = EVENT_STREAM
        elif "json" not in response.media_type:
            result.media_type = "application/json"
        return result

    async def _read_stream(self, response: UpstreamResponse, start: bytes) -> AttemptResult:
        """Read a stream up to its commit point; all of it if the client wants a whole message."""
        filters: list[EventFilter] = []
        if self.draft.names:
            filters.append(ToolRenamer(self.draft.names))
        if self.draft.body.stream and self.client.context.is_claude_code:
            filters.append(BlockStopHolder())
        translator = self.wire.stream(self.draft.body, self.provider, filters)
        # Only the headers: a stream must not keep the request's body in memory.
        secrets = partial(
            secrets_in,
            self.client.context.headers,
            self.request.headers,
            self.provider,
            self.client.query,
        )
        stream = EventStream(
            response, translator, self.timeouts, whole=not self.draft.body.stream, secrets=secrets
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
        if self.draft.body.stream:
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
        headers, now = text_headers(response.headers), self.client.services.breakers.clock()
        outcome = classify(status, headers, error, now=now)
        if error.type:
            reason = outcome.reason.replace(error.kind, await self._kind(error)).rstrip()
            until = outcome.until
        else:
            # Without the upstream's own words: they may quote a key, or the conversation.
            reason = f"{status} but {reason or 'the answer is not a message'}"
            until = None if outcome.fault is Fault.UPSTREAM else outcome.until
        pause = None if self.client.counts_tokens else burst_pause(outcome, headers, now)
        outcome = outcome.but(reason=self._scrub(reason), until=until, pause=pause, usage=usage)
        return self._result(outcome, response, raw)

    async def _login_fault(self, status: int) -> Fault | None:
        """Return what a 401 of the primary means for the login token that the client has sent.

        Only the servers know whether the client has seen a refusal of the token before.
        """
        provider = self.provider
        if (
            self.client.counts_tokens
            or status != 401
            or not provider.primary
            or provider.has_credential
        ):
            return None
        token = self.client.context.login_token
        if token is None:
            return None
        # Another server may have passed a refusal on since this request arrived.
        await self.client.services.breakers.refresh()
        session = self.client.context.headers.hints.session
        refused = self.client.services.logins.refused_at(token, session)
        if refused is None:
            return Fault.LOGIN
        # A request from before the client could know says nothing new about the primary.
        began = self.client.services.breakers.clock() - self.client.context.seconds
        return Fault.OLD_LOGIN if began < refused else None

    def _result(self, outcome: Outcome, response: UpstreamResponse, body: bytes) -> AttemptResult:
        return AttemptResult(
            provider=self.provider,
            outcome=outcome,
            seconds=monotonic() - self.began,
            status=response.status,
            headers=response.headers,
            body=body,
            decoded=response.decoded,
        )

    def _failure(
        self, fault: Fault, reason: str, response: UpstreamResponse | None = None
    ) -> AttemptResult:
        """The result if there is nothing that could be passed on."""
        status = None if response is None else response.status
        reason = self._scrub(reason if status is None else f"{status} but {reason}")
        seconds = monotonic() - self.began
        result = AttemptResult(self.provider, Outcome(fault, reason, status), seconds)
        if fault is Fault.CONNECT_TIMEOUT:
            result.timeout, result.timeout_seconds = "connect", self.limits.connect
        return result

    def _timeout(self, late: DeadlineExceeded) -> AttemptResult:
        timeouts = self.timeouts
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
        """The error's type, without secrets; empty if it is a word of the conversation."""
        if not error.kind or error.kind in KNOWN_KINDS:
            return error.kind
        text = await upstream_text(error.kind, (), self.client.quotes)
        return self._scrub(error.kind) if text == error.kind else ""

    def _scrub(self, reason: str) -> str:
        """A reason without secrets: it goes to the log, to the client and into the state file."""
        return printable(scrub(reason, self.secrets))

    @property
    def secrets(self) -> KnownSecrets:
        """Everything in the request that an upstream might quote, and that must not be logged."""
        if self._secrets is None:
            client, query = self.client.context.headers, self.client.query
            sent = self.request.headers
            self._secrets = client.find_secrets(sent, self.provider, query)
            if self._secrets is None:
                self._secrets = KnownSecrets(secrets_in(client, sent, self.provider, query))
                client.keep_secrets(self._secrets, sent, self.provider, query)
        return self._secrets


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
