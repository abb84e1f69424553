"""One request's way along the chain: every try is prepared, made and logged here, once."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from random import random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ccfallback.addresses import address, host_of
from ccfallback.config.model import Provider, Timeouts
from ccfallback.config.secrets import KeyUnavailable
from ccfallback.events import records as events
from ccfallback.messages.body import Body
from ccfallback.policy import backoff as timing
from ccfallback.policy import failover as policy
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.error_response import Failure
from ccfallback.policy.failover import IsFinal, Reason, Try
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.redact import is_secret_header, scrub
from ccfallback.server.attempt import AttemptResult, Prepared, attempt
from ccfallback.server.context import Context, Services
from ccfallback.server.curl import debug_curl
from ccfallback.server.drive import drive
from ccfallback.server.health import LONGEST_MODEL
from ccfallback.server.record import milliseconds, upstream_text
from ccfallback.server.repairs import Repairs
from ccfallback.wire import FORMATS
from ccfallback.wire.format import Unconvertible, WireFormat
from ccfallback.wire.headers import (
    RawHeaders,
    bare_credential,
    betas_of,
    with_betas,
)
from ccfallback.wire.privacy import body_for

LOGIN_TOKEN = b"sk-ant-oat"


@dataclass(slots=True)
class Attempts:
    """The tries of one request, in the order they were made."""

    services: Services
    context: Context
    turn: policy.Health
    query: str = ""
    counts_tokens: bool = False
    """Whether the providers' counting endpoints are asked, not their models."""
    wait: float | None = None
    """Seconds that each answer may take, where that is less than the provider's own timeouts."""
    level: str | None = None
    """The level of all records, for side endpoints whose outcomes are nobody's concern."""
    replies: list[AttemptResult] = field(default_factory=list)
    attempts: int = 0
    """How many upstream requests were made."""
    _betas: tuple[str, ...] = ()
    """The client's own flags."""
    _repairs: Repairs | None = None

    def __post_init__(self) -> None:
        self._betas = betas_of(self.context.headers)

    @property
    def failures(self) -> list[Failure]:
        """The tries that came to nothing, for the verdict."""
        return [
            Failure(reply.provider.name, reply.provider.primary, reply.outcome)
            for reply in self.replies
        ]

    async def run(
        self, body: Body, chain: Sequence[Provider], is_final: IsFinal, network_wait: float
    ) -> AttemptResult | None:
        """Ask along the chain; the reply to hand on, or `None` when all failed."""
        repairs = self._repairs = Repairs(
            self.services, self.context, body.model[:LONGEST_MODEL], self.level
        )
        flow = policy.failover(
            RequestDraft(body, self._betas),
            chain,
            self.turn,
            is_final=is_final,
            repair=repairs.repair,
            backoff=lambda retry: timing.backoff(retry, random),
            network_wait=network_wait,
        )
        chosen = await drive(flow, self._perform, self.services.pause)
        return next((reply for reply in self.replies if reply.outcome is chosen), None)

    async def close(self) -> None:
        """Close every answer that is still open."""
        for reply in self.replies:
            if reply.answer is not None:
                await reply.answer.aclose()

    async def _perform(self, step: Try) -> Outcome:
        provider = step.provider
        if step.reason is Reason.NETWORK_BACK:
            # The round before reached nobody; only this one counts.
            self.replies.clear()
            self.attempts = 0
        elif self.replies:
            # The failure before is to be in the file when this answer ends.
            self.services.breakers.hurry()
        self._log_attempt(step)
        prepared = await self._prepare(step)
        if isinstance(prepared, AttemptResult):
            reply = prepared
        else:
            transport = self.services.upstreams.transport(prepared.url)
            reply = await attempt(
                prepared,
                transport,
                timeouts=self._timeouts(provider),
                watch=self.context.watch,
                clock=self.services.breakers.clock,
            )
        reply.outcome = self._judged(reply)
        self.replies.append(reply)
        self.attempts += reply.sent
        if reply.outcome.fault is Fault.ACCOUNT:
            self.services.keys.forget(provider)
        if reply.outcome.ok:
            self._log_success(reply)
            if self._repairs is not None:
                self._repairs.taken(provider)
            return reply.outcome
        secrets: tuple[str, ...] = ()
        if isinstance(prepared, Prepared):
            secrets = _secrets(self.context.headers, prepared.headers, prepared.provider)
        # The reason goes further than the log: to the client, and into the state file.
        reason = scrub(reply.outcome.reason, secrets)
        reply.outcome = replace(reply.outcome, reason=reason)
        self._log_failure(reply, secrets, step.draft.body)
        if isinstance(prepared, Prepared):
            self._log_curl(prepared, secrets)
        return reply.outcome

    async def _prepare(self, step: Try) -> Prepared | AttemptResult:
        """The request of a try; a reply where it can't be made."""
        provider, context = step.provider, self.context
        wire: WireFormat | None = FORMATS[provider.format]
        if wire is not None and self.counts_tokens:
            wire = wire.counting
        if wire is None:
            return _not_sent(provider, "it counts no tokens", Fault.REQUEST)
        if address(provider.base_url) == self.services.listener:
            return _not_sent(provider, "its address is this proxy itself")
        try:
            key = await self.services.keys.get(provider)
        except KeyUnavailable as error:
            return _not_sent(provider, f"no key: {error}")
        revealed = None if key is None else key.reveal()
        draft = step.draft
        if self._repairs is not None:
            draft = self._repairs.prevented(provider, draft)
        if draft.quirks is not None:
            provider = replace(provider, quirks=draft.quirks)
        client = context.headers
        if draft.betas != self._betas:
            client = with_betas(client, draft.betas)
        try:
            request = wire.prepare(
                body_for(provider, draft.body, context.config.privacy, self.services.ledger),
                client,
                provider,
                revealed,
                via=self.services.via,
                tokens=context.tokens,
                query=self.query if provider.primary else "",
            )
        except Unconvertible as error:
            return _not_sent(provider, f"not to be said in its format: {error}", Fault.REQUEST)
        request = wire.sign(request, provider, revealed, self.services.breakers.clock())
        return Prepared(
            provider=provider,
            wire=wire,
            asked=draft.body,
            url=request.url,
            headers=request.headers,
            content=request.body,
            names=draft.names,
        )

    def _timeouts(self, provider: Provider) -> Timeouts:
        own = provider.timeouts
        if self.wait is None:
            return own
        return Timeouts(
            connect=min(own.connect, self.wait),
            first_byte=min(own.first_byte, self.wait),
            non_streaming=min(own.non_streaming, self.wait),
            idle=min(own.idle, self.wait),
        )

    def _judged(self, reply: AttemptResult) -> Outcome:
        """The outcome, knowing what only this server can: whose login token was refused."""
        outcome = reply.outcome
        if outcome.status != 401 or not reply.provider.primary or reply.provider.key:
            return outcome
        for name, value in self.context.headers:
            token = bare_credential(value)
            if name == b"authorization" and token.startswith(LOGIN_TOKEN):
                refused = self.services.logins.first_refusal(token)
                if refused is None:
                    return replace(outcome, fault=Fault.LOGIN)
                if self.context.began < refused:
                    # Sent before the client could know; it says nothing new of the primary.
                    return replace(outcome, fault=Fault.REQUEST)
                break
        return outcome

    def _log_attempt(self, step: Try) -> None:
        name = step.provider.name
        number = len(self.replies) + 1
        how = "" if step.reason is Reason.FIRST else f" ({step.reason})"
        if step.reason is Reason.SAFETY_VALVE:
            until = self.turn.cooldown_until(step.provider)
            self._log(
                events.SafetyValveTriggered(
                    provider=name,
                    cooldown_until=milliseconds(until if isfinite(until) else None),
                ),
                f"no other provider is left: trying {name} although it cools down",
            )
        self._log(
            events.ProviderAttempt(
                provider=name,
                attempt=number,
                reason=str(step.reason),
                after=str(self.replies[-1].outcome.fault) if self.replies else None,
                host=host_of(step.provider.base_url),
                model=step.provider.model_for(step.draft.body.model),
            ),
            f"trying {name}{how}",
        )

    def _log_success(self, reply: AttemptResult) -> None:
        message = f"{reply.provider.name} answers after {reply.seconds:.2f} s"
        self._log(events.ProviderSuccess(**self._common(reply)), message)

    def _common(self, reply: AttemptResult) -> dict[str, Any]:
        """What every event at the end of an attempt says."""
        common = {
            "provider": reply.provider.name,
            "attempt": len(self.replies),
            "status": reply.status,
            "ms": round(reply.seconds * 1000, 1),
        }
        if self._repairs is not None and (known := self._repairs.known(reply.provider)):
            common["prevented"] = known
        return common

    def _log_failure(self, reply: AttemptResult, secrets: Sequence[str], body: Body) -> None:
        outcome, name, common = reply.outcome, reply.provider.name, self._common(reply)
        words = upstream_text(outcome.message, secrets, body)
        said = f" ({words})" if words else ""
        if reply.timeout is not None:
            self._log(
                events.ProviderTimeout(
                    **common,
                    fault=str(outcome.fault),
                    reason=outcome.reason,
                    timeout=reply.timeout,
                    seconds=reply.timeout_seconds,
                ),
                f"{name} was too slow: {outcome.reason} after {reply.seconds:.2f} s",
            )
            return
        verb = "could not be tried" if not reply.sent else "failed"
        self._log(
            events.ProviderFailure(
                **common,
                fault=str(outcome.fault),
                reason=outcome.reason,
                error=words,
                until=milliseconds(outcome.until),
                hint=outcome.hint or None,
            ),
            f"{name} {verb} after {reply.seconds:.2f} s: {outcome.reason}{said}",
        )

    def _log_curl(self, prepared: Prepared, secrets: Sequence[str]) -> None:
        if self.services.recorder.wants("debug"):
            curl = debug_curl(prepared.url, prepared.headers, secrets)
            message = f"to repeat the request to {prepared.provider.name}: {curl}"
            self._log(events.RequestDebugCurl(provider=prepared.provider.name), message)

    def _log(self, event: events.Event, message: str) -> None:
        self.services.recorder.log(event, message, self.context.id, self.level)


def _secrets(client: RawHeaders, sent: RawHeaders, provider: Provider) -> tuple[str, ...]:
    """Everything in a request that an upstream might quote, and that must not be logged."""
    names = {b"authorization", b"x-api-key", b"x-ccf-api-key", b"cookie"}
    names.add(provider.auth_header.lower().encode())
    return (
        *(bare_credential(v).decode("latin-1") for n, v in (*client, *sent) if n in names),
        *(value for name, value in provider.headers.items() if is_secret_header(name)),
        *(value for _, value in parse_qsl(urlsplit(provider.base_url).query)),
    )


def _not_sent(provider: Provider, reason: str, fault: Fault = Fault.ACCOUNT) -> AttemptResult:
    return AttemptResult(provider, Outcome(fault, reason), 0.0, sent=False)
