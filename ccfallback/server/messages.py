"""`POST /v1/messages`, top to bottom in the order in which things happen."""

import asyncio

from ccfallback.events import records as events
from ccfallback.messages.body import Body, NotAnObject
from ccfallback.policy.error_response import ErrorResponse, exhausted, no_fallback
from ccfallback.policy.failover import is_final
from ccfallback.policy.outcome import Fault
from ccfallback.server.attempt import AttemptResult
from ccfallback.server.attempts import Attempts
from ccfallback.server.client import (
    JSON,
    BadEncoding,
    ClientGone,
    Receive,
    Scope,
    Send,
    TooLarge,
    read_body,
    send_error,
    send_whole,
    send_wrong_method,
    while_connected,
)
from ccfallback.server.context import Chain, Chains, Context, Services, get_context
from ccfallback.server.health import RequestHealth
from ccfallback.server.relay import content_type, drain, relay
from ccfallback.wire.headers import response_headers


class Refused(Exception):
    """The request is answered by an error of our own before anybody was asked."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


async def read_request(context: Context, receive: Receive) -> Body:
    """The client's body. Raises `Refused` or `ClientGone`."""
    limit = context.config.server.max_body_bytes
    try:
        return Body.parse(await read_body(receive, context.first, limit))
    except TooLarge:
        raise Refused(
            413, "request_too_large", f"Request body is over the limit of {limit} bytes"
        ) from None
    except BadEncoding as error:
        raise Refused(
            400, "invalid_request_error", f"Request body is not readable as {error}"
        ) from None
    except NotAnObject:
        raise Refused(400, "invalid_request_error", "Request body must be a JSON object") from None


class Messages:
    """The endpoint; raw ASGI, because it is the hot path."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._chains = Chains()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        context = get_context(scope)
        if scope["method"] != "POST":
            await send_wrong_method(send, context.id, "POST")
            return
        try:
            body = await read_request(context, receive)
        except ClientGone:
            return
        except Refused as refused:
            self._log_error(context, refused.status, refused.kind, refused.message)
            await send_error(send, context.id, refused.status, refused.kind, refused.message)
            return
        chain = self._chains.get(context)
        await MessagesRequest(self._services, context, scope, body, chain).answer(scope, send)

    def _log_error(self, context: Context, status: int, kind: str, message: str) -> None:
        self._services.recorder.log(
            events.RequestError(
                status=status, latency=round(context.seconds * 1000, 1), attempts=0, error=kind
            ),
            f"refused with {status}: {message}",
            context.id,
        )


class MessagesRequest:
    """One request and its answer."""

    def __init__(
        self, services: Services, context: Context, scope: Scope, body: Body, chain: Chain
    ) -> None:
        self._services = services
        self._context = context
        self._body = body
        self._chain = chain
        self._turn = RequestHealth(services.breakers, chain.limits, body.model, context.id)
        self._talk = Attempts(
            services,
            context,
            self._turn,
            query=scope["query_string"].decode("latin-1"),
        )
        self._ttft: float | None = None

    async def answer(self, scope: Scope, send: Send) -> None:
        """Find an answer along the chain, and hand it on."""
        self._log_start()
        reply: AttemptResult | None = None
        try:
            with while_connected(scope):
                reply = await self._ask()
                if reply is not None and reply.answer is not None:
                    outcome = await relay(
                        reply, send, self._headers(reply), reply.provider.timeouts.idle
                    )
                    self._turn.settle(reply.provider, outcome)
                    if not outcome.ok:
                        reply.outcome = outcome
                if self._turn.urgent:
                    await self._services.breakers.flush()
            # The last piece may let the connection's next request begin, whose client may leave.
            await self._finish(reply or self._own_answer(), send)
        except ClientGone:
            if reply is not None:
                # Who interrupts an answer keeps the thinking that it began with.
                self._note_signer(reply)
            self._log_end(
                reply,
                events.CLIENT_LEFT,
                error="client disconnected",
                message="the client has left",
            )
            if self._turn.urgent:
                await self._services.breakers.flush()
        except asyncio.CancelledError:
            self._log_end(reply, 503, error="server stopping", message="the server is stopping")
            raise
        finally:
            await self._talk.close()

    async def _ask(self) -> AttemptResult | None:
        if self._services.breakers.is_stale(self._context.began):
            await self._services.breakers.refresh(self._context.began)
        rules = self._context.config
        reply = await self._talk.run(
            self._body, self._chain.providers, is_final(rules.failover), rules.breaker.network_wait
        )
        self._ttft = self._context.seconds if reply else None
        return reply

    async def _finish(self, reply: AttemptResult | ErrorResponse, send: Send) -> None:
        """Send what is whole, or the end of a stream that is; drop one that is not."""
        if isinstance(reply, AttemptResult):
            self._note_signer(reply)
        if isinstance(reply, ErrorResponse):
            headers = [JSON, *reply.headers, self._attempts_header()]
            await send_whole(send, reply.status, headers, reply.body)
            told = {name.decode(): value.decode() for name, value in reply.headers}
            self._log_end(None, reply.status, error=reply.kind, message=reply.message, told=told)
            return
        status = reply.status or 200
        if reply.answer is None:
            await send_whole(send, status, self._headers(reply), reply.body)
            error = None if reply.outcome.ok else reply.outcome.reason
            self._log_end(reply, status, error=error)
        elif reply.outcome.ok:
            await send({"type": "http.response.body", "body": b""})
            self._log_end(reply, status)
            await drain(reply)
        else:
            self._log_torn(reply)

    def _note_signer(self, reply: AttemptResult) -> None:
        if reply.signatures:
            provider = reply.provider
            self._services.ledger.note(reply.signatures, provider.name, primary=provider.primary)

    def _own_answer(self) -> AttemptResult | ErrorResponse:
        """What the client gets when nobody could answer."""
        config, replies = self._context.config, self._talk.replies
        primary = next((r for r in reversed(replies) if r.provider.primary), None)
        if not config.has_fallback:
            if primary is not None and primary.status is not None and primary.timeout is None:
                return primary
            why = "the primary is left out"
            return no_fallback(self._talk.failures, self._context.id, why)
        verdict = exhausted(
            self._talk.failures,
            self._cooling(),
            model=self._body.model,
            request_id=self._context.id,
            now=self._services.breakers.clock(),
        )
        if verdict.status == 502 and primary is not None and primary.status == 404:
            return primary
        return verdict

    def _cooling(self) -> dict[str, float]:
        """Who of the chain cools down, and until when."""
        ends = {p.name: self._turn.cooldown_of(p.name) for p in self._chain.providers}
        now = self._services.breakers.clock()
        return {name: end for name, end in ends.items() if end is not None and end > now}

    def _headers(self, reply: AttemptResult) -> list[tuple[bytes, bytes]]:
        headers = response_headers(reply.headers, reply.provider, decoded=reply.decoded)
        media_type = content_type(reply)
        if media_type is not None:
            headers = [(name, value) for name, value in headers if name != b"content-type"]
            headers.append((b"content-type", media_type))
        headers.append((b"x-ccfallback-provider", reply.provider.name.encode()))
        headers.append(self._attempts_header())
        return headers

    def _attempts_header(self) -> tuple[bytes, bytes]:
        return (b"x-ccfallback-attempts", str(self._talk.attempts).encode())

    def _log_start(self) -> None:
        body, size = self._body, len(self._body.raw)
        kind = "stream" if body.stream else "whole answer"
        self._services.recorder.log(
            events.RequestStart(
                model=body.model,
                stream=body.stream,
                bytes=size,
                chain=self._chain.names,
                left_out=self._chain.excluded,
            ),
            f"{body.model or 'no model'}, {kind}, {size / 1000:.1f} kB",
            self._context.id,
        )

    def _log_end(
        self,
        reply: AttemptResult | None,
        status: int,
        *,
        error: str | None = None,
        message: str = "",
        told: dict[str, str] | None = None,
    ) -> None:
        latency = self._context.seconds
        name = reply.provider.name if reply is not None else None
        count = self._talk.attempts
        after = "" if count <= 1 else f" after {count} attempts"
        if error is None:
            tokens = _tokens(reply)
            text = f"answered by {name} in {latency:.2f} s{after}{tokens}"
        elif reply is not None and not message:
            text = f"{name}'s {status} is forwarded after {latency:.2f} s{after}"
        else:
            text = f"no answer after {latency:.2f} s{after}: {message}"
        usage = reply.usage if reply is not None else None
        end = events.RequestComplete() if error is None else events.RequestError(error=error)
        end.provider = name
        end.model = self._body.model
        end.status = status
        end.latency = round(latency * 1000, 1)
        end.ttft = None if self._ttft is None else round(self._ttft * 1000, 1)
        end.attempts = count
        end.stream = self._body.stream
        if usage is not None:
            end.input_tokens, end.output_tokens = usage.input_tokens, usage.output_tokens
            end.cache_read_tokens, end.cache_write_tokens = usage.cache_read, usage.cache_write
        if told and isinstance(end, events.RequestError):
            end.told = told
        # A client disconnect is not an error.
        level = "info" if end.client_left else None
        self._services.recorder.log(end, text, self._context.id, level)

    def _log_torn(self, reply: AttemptResult) -> None:
        outcome, name = reply.outcome, reply.provider.name
        late = outcome.fault is Fault.TIMEOUT
        kind = events.ProviderTimeout if late else events.ProviderFailure
        self._services.recorder.log(
            kind(
                provider=name,
                status=reply.status,
                fault=str(outcome.fault),
                reason=outcome.reason,
            ),
            f"{name} broke off after the answer had begun: {outcome.reason}",
            self._context.id,
        )
        self._log_end(
            reply,
            reply.status or 200,
            error=outcome.reason,
            message="the connection is dropped, so that the client tries again",
        )


def _tokens(reply: AttemptResult | None) -> str:
    if reply is None or reply.usage.output_tokens is None:
        return ""
    return f", {reply.usage.prompt_tokens or 0} tokens in, {reply.usage.output_tokens} out"
