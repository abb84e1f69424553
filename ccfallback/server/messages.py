"""`POST /v1/messages`, in the order in which things happen."""

import asyncio
from collections.abc import Awaitable, Mapping
from math import inf

import msgspec
from msgspec import UNSET

from ccfallback.config.model import Provider
from ccfallback.error_codes import ErrorCode
from ccfallback.events import records as events
from ccfallback.events.records import (
    CLIENT_LEFT,
    COOLING,
    QUOTA,
    SPEND_CAP,
    TOO_LONG,
    milliseconds,
)
from ccfallback.http1 import CONNECTION_KEY, Receive, Scope, Send, ServerProtocol
from ccfallback.messages.body import Body, NotAnObject
from ccfallback.messages.tools import only_server_tools
from ccfallback.policy.context_window import LearnedWindow, TooLong, find_too_long
from ccfallback.policy.error_response import (
    FITS,
    ErrorResponse,
    exhausted_response,
    no_fallback_response,
    search_unavailable,
)
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.policy.route import arrange
from ccfallback.server.affinity import RequestSession, keeps_caches
from ccfallback.server.attempt import AttemptResult
from ccfallback.server.bill import Bill, estimate_tokens
from ccfallback.server.chain import Chain, Chains
from ccfallback.server.client import (
    EVENTS,
    JSON,
    BadEncoding,
    ClientGone,
    TooLarge,
    read_body,
    send_error,
    send_whole,
    while_connected,
)
from ccfallback.server.context import Context
from ccfallback.server.endpoint import Endpoint
from ccfallback.server.failover_driver import FailoverDriver
from ccfallback.server.health import LONGEST_MODEL, RequestHealth
from ccfallback.server.hints import Hints
from ccfallback.server.record import describe_crash
from ccfallback.server.request_log import RequestLog
from ccfallback.server.services import Services
from ccfallback.server.stream import EVENT_STREAM, SHORTEST_STALL
from ccfallback.wire.headers import response_headers


class RefusedRequest(Exception):
    """The request gets an error of our own before any provider is tried."""

    def __init__(self, status: int, kind: str, message: str, code: ErrorCode) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.kind = kind
        self.message = message

    async def send(self, send: Send, context: Context) -> None:
        """Answer the request with the error."""
        await send_error(send, context.id, self.status, self.kind, self.message, self.code)


async def read_request(context: Context, receive: Receive) -> Body:
    """Read the client's body. Raises `RefusedRequest` or `ClientGone`."""
    limit = context.config.server.max_body_bytes
    try:
        raw = await read_body(receive, context.headers.first, context.body_length, limit)
        return Body.parse(raw)
    except TooLarge:
        message = f"Request body is over the limit of {limit} bytes"
        code = ErrorCode.BODY_TOO_LARGE
        raise RefusedRequest(413, "request_too_large", message, code) from None
    except BadEncoding as error:
        message = f"Request body is not readable as {error}"
    except NotAnObject:
        message = "Request body must be a JSON object"
    raise RefusedRequest(400, "invalid_request_error", message, ErrorCode.UNREADABLE_BODY)


class Messages(Endpoint):
    """`POST /v1/messages`."""

    methods = ("POST",)

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._chains = Chains()

    async def answer(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            body = await read_request(context, receive)
        except ClientGone:
            return
        except RefusedRequest as refused:
            self._log_refused(context, refused)
            await refused.send(send, context)
            return
        await self._prepare(context, scope, body).answer(scope, send)

    def _prepare(self, context: Context, scope: Scope, body: Body) -> "MessagesRequest":
        """Make what the answer of one request needs."""
        services, hints, token = self._services, context.headers.hints, context.token
        chain = self._chains.get(context, hints)
        has_cap = chain.has_cap or (token is not None and token.cap.is_set)
        bill = Bill(services, context, body, hints, has_cap)
        health = RequestHealth(
            services.breakers,
            chain.limits,
            body.model[:LONGEST_MODEL],
            context.id,
            context.hash_credential,
            bill if has_cap else None,
            context.began,
        )
        query = scope["query_string"].decode("latin-1")
        driver = FailoverDriver(services, context, health, body, query=query)
        log = RequestLog(driver, health, chain, bill)
        session = None
        if len(chain.providers) > 1 and keeps_caches(context.config, context, hints):
            breakers = services.breakers
            session = RequestSession(services.sessions, breakers, context, hints, body, bill)
        client = scope[CONNECTION_KEY]
        return MessagesRequest(
            services, context, client, body, chain, hints, bill, health, driver, log, session
        )

    def _log_refused(self, context: Context, refused: RefusedRequest) -> None:
        self._services.recorder.log(
            events.RequestError(
                status=refused.status,
                latency=round(context.seconds * 1000, 1),
                attempts=0,
                error=refused.kind,
                token=context.token_label,
            ),
            f"refused with {refused.status}: {refused.message}",
            context.id,
        )


class MessagesRequest(msgspec.Struct, eq=False):
    """One request and its answer."""

    _services: Services
    _context: Context
    _client: ServerProtocol
    _body: Body
    _chain: Chain
    _hints: Hints
    _bill: Bill
    _health: RequestHealth
    _driver: FailoverDriver
    _log: RequestLog
    _session: RequestSession | None
    _too_long: TooLong = FITS

    async def answer(self, scope: Scope, send: Send) -> None:
        """Find an answer along the chain, and send it to the client."""
        self._log.start()
        result: AttemptResult | None = None
        try:
            with while_connected(scope):
                result = await self._try_providers()
                if result is not None and result.stream is not None:
                    await self._relay(result, send)
                if self._health.urgent or self._driver.has_learned:
                    await self._services.breakers.flush()
            # Before the client has all of the answer, so that it is not lost with the server.
            await self._settle_bill(result)
            if self._bill.has_cap and self._services.spending.shared is not None:
                await self._services.breakers.flush()
            # Outside of the block: once the last piece is sent the connection's next request may
            # begin, and if the client leaves then, it does not leave this one.
            await self._finish(result or self._own_answer(), send)
        except ClientGone:
            if result is not None:
                # The client keeps the thinking of an answer that it has interrupted.
                self._remember_signer(result)
            elif (slow := self._driver.find_slow_provider()) is not None:
                self._health.settle(*slow)
            await self._settle_bill(result)
            self._log.error(result, CLIENT_LEFT, "client disconnected")
            if self._health.urgent or self._driver.has_learned:
                await self._services.breakers.flush()
        except asyncio.CancelledError:
            message = "the server is stopping"
            self._count_silence(result)
            await self._settle_bill(result)
            self._log.error(result, 503, "server stopping", message=message)
            raise
        finally:
            if self._bill.has_cap:
                self._bill.close()
            await self._driver.close()

    def _count_silence(self, result: AttemptResult | None) -> None:
        """Count a stream that has been silent as torn: the client's next try goes elsewhere.

        The server stops and can't wait for it any longer.
        """
        if result is None or result.stream is None or self._context.watch.waited < SHORTEST_STALL:
            return
        self._health.settle(result.provider, Outcome(Fault.TORN, "silent until the server stopped"))

    def _settle_bill(self, result: AttemptResult | None) -> Awaitable[None]:
        waiting = self._driver.current_provider if result is None else None
        return self._bill.settle(self._driver.results, result, waiting)

    async def _try_providers(self) -> AttemptResult | None:
        services, context, chain, driver = (
            self._services,
            self._context,
            self._chain,
            self._driver,
        )
        if services.breakers.is_stale(context.began):
            await services.breakers.refresh(context.began)
        if self._bill.has_cap:
            await services.spending.refresh()
        config, providers = context.config, chain.providers
        if services.breakers.has_learned or chain.safe_bytes is not None:
            learned = driver.learned_windows(providers)
            safe = [chain.safe_bytes or inf, *(each.safe_bytes for each in learned.values())]
            if len(self._body.raw) > min(safe):
                providers = await self._leave_out_small(providers, learned)
        if self._session is not None or services.quotas.may_move(config):
            providers = self._arrange(providers)
        result = await driver.run(providers, chain.is_final, config.breaker.network_wait)
        if result is not None:
            self._log.ttft = context.seconds
            if self._session is not None and result.outcome.ok:
                self._session.remember(result.provider, result.usage)
        return result

    async def _leave_out_small(
        self, providers: tuple[Provider, ...], learned: Mapping[str, LearnedWindow]
    ) -> tuple[Provider, ...]:
        """The providers whose context window the request fits, as far as that is known."""
        tokens = await estimate_tokens(self._body)
        self._too_long = find_too_long(providers, tokens, learned)
        for name, window in self._too_long.windows.items():
            self._services.recorder.log(
                events.CircuitBreakerSkip(provider=name, reason=TOO_LONG),
                f"{name} is skipped: {tokens} tokens do not fit its context window of {window}",
                self._context.id,
            )
        return tuple(each for each in providers if each.name not in self._too_long.windows)

    def _arrange(self, providers: tuple[Provider, ...]) -> tuple[Provider, ...]:
        """The providers in the order in which they are tried."""
        spared = self._find_spared(providers)
        first = next((each for each in providers if each.label not in spared), None)
        session = self._session
        is_away = session is not None and first is not None and session.is_away(first)
        if not (spared or is_away):
            return providers
        if session is None or not is_away:
            return arrange(providers, {}, put_last=spared)
        unavailable = self._find_unavailable(providers)
        return arrange(providers, unavailable, put_last=spared, decide=session.decide)

    def _find_unavailable(self, providers: tuple[Provider, ...]) -> dict[str, str]:
        """Why providers can't be tried now: by label, or by name outside of `providers`."""
        found = {**self._chain.excluded, **dict.fromkeys(self._too_long.windows, TOO_LONG)}
        cooling = self._health.cooldowns(providers)
        for each in providers:
            if self._health.is_capped(each):
                found[each.label] = SPEND_CAP
            elif each.label in cooling or self._health.obstacle(each) is not None:
                found[each.label] = COOLING
        return found

    def _find_spared(self, providers: tuple[Provider, ...]) -> set[str]:
        """The labels of the providers that the plan's windows want to be spared."""
        moved = self._services.quotas.find_moved(
            providers, self._context, self._hints, self._body.model
        )
        for provider, why, until in moved:
            self._services.recorder.log(
                events.CircuitBreakerSkip(
                    provider=provider.name,
                    key=provider.key.number or UNSET,
                    cooldown_until=milliseconds(until),
                    reason=QUOTA,
                    why=why,
                ),
                f"{provider.label} is tried after the others: {why}",
                self._context.id,
            )
        return {each.provider.label for each in moved}

    async def _relay(self, result: AttemptResult, send: Send) -> None:
        """Send the beginning of a stream, the commit point, and then all that follows."""
        assert result.stream is not None
        headers, outcome = self._headers(result), None
        self._context.watch.waited = 0.0
        try:
            start = {"type": "http.response.start", "status": result.status, "headers": headers}
            await send(start)
            await send({"type": "http.response.body", "body": result.body, "more_body": True})
            outcome = await result.stream.relay(send)
            if outcome.ok:
                self._driver.note_rhythm(result.stream)
        finally:
            # Without an outcome if the client has left: that counts for nothing, and still costs.
            self._health.settle(result.provider, outcome, result.usage)
        if not outcome.ok:
            result.outcome = outcome
        if result.stream.crash is not None:
            message = describe_crash(result.stream.crash)
            self._services.recorder.log(events.ServerError(), message, self._context.id)

    async def _finish(self, answer: AttemptResult | ErrorResponse, send: Send) -> None:
        """Send a whole answer, or the end of a stream; drop a stream that is torn."""
        if isinstance(answer, ErrorResponse):
            media_type = EVENTS if answer.is_stream else JSON
            headers = [media_type, *answer.headers, self._attempts_header()]
            await send_whole(send, answer.status, headers, answer.body)
            told = {name.decode(): value.decode() for name, value in answer.headers}
            self._log.error(None, answer.status, answer.kind, message=answer.message, told=told)
            return
        if answer.signatures:
            self._remember_signer(answer)
        status, stream = answer.status or 200, answer.stream
        if not answer.outcome.ok:
            if stream is None:
                await self._forward_failure(answer, status, send)
                return
            self._log.torn(answer)
            return
        if answer.provider.primary and self._services.logins.any:
            self._services.logins.forget(self._context.login_token)
        if stream is None:
            await send_whole(send, status, self._headers(answer), answer.body)
        else:
            await send({"type": "http.response.body", "body": b""})
        # Now the client has a whole answer.
        if self._session is not None:
            self._session.remember(answer.provider, answer.usage)
        self._log.complete(answer, status)
        if stream is not None:
            await stream.drain()

    async def _forward_failure(self, answer: AttemptResult, status: int, send: Send) -> None:
        """Send a provider's error."""
        logins, session = self._services.logins, self._hints.session
        refused = self._context.login_token if answer.outcome.fault is Fault.LOGIN else None
        if refused is not None:
            # Before the client sends its next request, perhaps to another server.
            logins.remember(refused, session)
            await self._services.breakers.flush()
        await send_whole(send, status, self._headers(answer), answer.body)
        if refused is not None and self._client.is_gone:
            logins.forget(refused, session)
        self._log.error(answer, status, answer.outcome.reason)

    def _remember_signer(self, result: AttemptResult) -> None:
        if result.signatures:
            provider = result.provider
            self._services.signatures.remember(
                result.signatures,
                provider.name,
                primary=provider.primary,
                shared=provider.shares_signatures,
            )

    def _own_answer(self) -> AttemptResult | ErrorResponse:
        """What the client gets if no provider has answered."""
        config, failures = self._context.config, self._driver.failures
        primary = next((r for r in reversed(self._driver.results) if r.provider.primary), None)
        capped = self._bill.capped.values()
        if not config.has_fallback and not self._too_long.windows and not capped:
            if primary is not None and primary.status is not None and primary.timeout is None:
                return primary
            return no_fallback_response(failures, self._context.id)
        error = exhausted_response(
            failures,
            self._health.cooldowns(self._chain.providers),
            model=self._body.model,
            request_id=self._context.id,
            now=self._services.breakers.clock(),
            too_long=self._too_long,
            capped=capped,
        )
        if error.status == 502 and primary is not None and primary.status == 404:
            return primary
        if error.status == 502 and only_server_tools(self._body):
            return search_unavailable(self._body, self._context.id)
        return error

    def _headers(self, result: AttemptResult) -> list[tuple[bytes, bytes]]:
        headers = response_headers(result.headers, result.provider, decoded=result.decoded)
        media_type = result.media_type
        if media_type is not None:
            headers = [(name, value) for name, value in headers if name != b"content-type"]
            charset = "; charset=utf-8" if media_type == EVENT_STREAM else ""
            headers.append((b"content-type", f"{media_type}{charset}".encode()))
        name = result.provider.name.encode()
        headers += [(b"x-ccfallback-provider", name), self._attempts_header()]
        if self._bill.has_cap:
            headers += self._bill.warning(result)
        return headers

    def _attempts_header(self) -> tuple[bytes, bytes]:
        return (b"x-ccfallback-attempts", b"%d" % self._driver.sent)
