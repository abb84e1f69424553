"""Does what the failover loop of `policy.failover` decides, for one request.

Each step of that loop becomes an `Attempt`, which is prepared, sent and logged here, once. Whatever
goes wrong in an attempt, the next provider may still be tried.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache, partial
from math import inf, isfinite
from random import random
from time import monotonic
from typing import Any, Final, assert_never

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from ccfallback.addresses import address, host_and_port, is_local
from ccfallback.config.model import Provider, Timeouts
from ccfallback.credentials import KeyUnavailable
from ccfallback.events import records as events
from ccfallback.events.records import milliseconds
from ccfallback.messages.body import Body
from ccfallback.policy.context_window import LearnedWindow
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.error_response import Failure
from ccfallback.policy.failover import (
    Ask,
    Health,
    IsFinal,
    Reason,
    Try,
    Wait,
    backoff_seconds,
    failover,
)
from ccfallback.policy.latency import Digest, Learned
from ccfallback.policy.outcome import OWN_NETWORK, Fault, Outcome
from ccfallback.quotes import Quotes
from ccfallback.rectify import platforms
from ccfallback.redact import NO_SECRETS, debug_curl, scrub
from ccfallback.server.attempt import Attempt, AttemptResult
from ccfallback.server.context import Context
from ccfallback.server.health import LONGEST_MODEL
from ccfallback.server.record import cut, describe_crash, upstream_text
from ccfallback.server.repairs import LARGE, Repairs
from ccfallback.server.services import Services
from ccfallback.server.stream import EventStream
from ccfallback.structs import Discreet
from ccfallback.wire import FORMATS
from ccfallback.wire.credential import Credential
from ccfallback.wire.format import Unconvertible
from ccfallback.wire.headers import HeaderList, with_betas
from ccfallback.wire.provider_body import adapt_body
from ccfallback.words import format_seconds

SHARE_OF_THE_TIME: Final = 0.6
"""How much of the time that the client waits for a whole answer one provider may take."""

MOST_OF_THE_TIME: Final = 0.6
"""If the client leaves after this much of a provider's time, the provider was too slow."""

UNHURRIED: Final = (Reason.BUSY_PROBE, Reason.SAFETY_VALVE, Reason.MORE_TIME)
"""Attempts for which no better candidate is left: they get all of the configured time."""

DEFAULT_FIRST_BYTE: Final = Timeouts().first_byte

PATIENT_FIRST_BYTE: Final = 280.0
"""The default where waiting costs nothing: on a loopback or private address, where a model may read
a long prompt slowly, and at the last candidate. Claude Code waits 300 s."""


_BACKOFF: Final = partial(backoff_seconds, random=random)

_EXPIRED: Final = re.compile(r"expired|UnrecognizedClient", re.IGNORECASE)
"""Found in the code or type of a refusal if a credential has expired."""


class CannotSend(Exception):
    """An attempt's request can't be made, for a reason and a fault."""

    def __init__(self, reason: str, fault: Fault = Fault.ACCOUNT) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fault = fault


class FailoverDriver(Discreet, msgspec.Struct, eq=False):
    """Makes the attempts of one request, and is their `ClientRequest`.

    A struct, because every request makes one. What only some requests need is made when it is used.
    """

    SHOWN = ("results",)

    services: Services
    context: Context
    health: Health
    body: Body
    query: str = ""
    counts_tokens: bool = False
    """Whether the providers only count the tokens: a side endpoint neither teaches nor spends."""
    max_seconds: float | None = None
    """Seconds that each answer may take, if that is less than the provider's own timeouts."""
    results: list[AttemptResult] = []
    """What each attempt came to, in order."""
    sent: int = 0
    """How many upstream requests were made."""
    _unreached: list[str] = []
    """The provider of each attempt in the rounds that reached none."""
    _known_repairs: Repairs | None = None
    _known_quotes: Quotes | None = None
    _candidates: Sequence[Provider] = ()
    """The providers that the request may go to."""
    _share: float | None = None
    """Seconds that each provider may take for a whole answer."""
    _current: tuple[Try | None, float] = (None, 0.0)
    """The attempt that is being made, and when it began by the monotonic clock."""
    _shown: Credential | None = None
    """The provider's own credential that the last attempt showed."""
    _digest: Digest | None = None
    """How long the current provider has taken to answer until now."""
    _level: str | None = None
    """The level of what is logged, unless that is each event's own."""

    def __post_init__(self) -> None:
        if self.counts_tokens:
            self._level = events.SIDE_LEVEL
        timeout = None if self.body.stream else self.context.client_timeout
        if timeout is not None:
            self._share = SHARE_OF_THE_TIME * timeout

    @property
    def _repairs(self) -> Repairs:
        if self._known_repairs is None:
            self._known_repairs = Repairs(
                self.services, self.context, self.body, self.counts_tokens
            )
        return self._known_repairs

    @property
    def quotes(self) -> Quotes:
        """Finds what upstreams quote of the request."""
        if self._known_quotes is None:
            self._known_quotes = Quotes(self.body)
        return self._known_quotes

    @property
    def has_total_limit(self) -> bool:
        """Whether a whole answer has to be there in the time that its head may take."""
        return self._share is not None

    @property
    def failures(self) -> list[Failure]:
        """The failed attempts, for the error that the client gets."""
        return [Failure(result.provider, result.outcome) for result in self.results]

    @property
    def has_learned(self) -> bool:
        """Whether a provider's answer has taught something that has to be saved."""
        return self._known_repairs is not None and self._known_repairs.has_learned

    def learned_windows(self, providers: Iterable[Provider]) -> dict[str, LearnedWindow]:
        """The context windows that providers have told for this model, by their names."""
        quick_state, found = self.services.breakers.quick_state, {}
        for provider in providers:
            if not provider.primary and quick_state(provider.name).learned:
                window = self._repairs.learned_window(provider)
                if window is not None:
                    found[provider.name] = window
        return found

    async def run(
        self, providers: Sequence[Provider], is_final: IsFinal, network_wait: float = 0.0
    ) -> AttemptResult | None:
        """Try the providers in turn; return the result for the client, `None` if all failed.

        A cancellation closes the failover loop, which frees what it had reserved.
        """
        self._candidates = providers
        flow = failover(
            RequestDraft(self.body, self.context.headers.betas),
            providers,
            self.health,
            is_final=is_final,
            repair=self._repairs.repair,
            backoff=_BACKOFF,
            network_wait=network_wait,
            clock=monotonic,
        )
        outcome: Outcome | None = None
        try:
            while True:
                match flow.send(outcome):
                    case Try() as step:
                        outcome = await self._attempt(step)
                        if not outcome.ok and await self._renew(step.provider, outcome):
                            again = Try(step.provider, step.draft, Reason.RENEWED)
                            outcome = await self._attempt(again)
                    case Wait(seconds):
                        await self.services.pause(seconds)
                        outcome = None
                    case Ask(call):
                        await call()
                        outcome = None
                    case never:
                        assert_never(never)
        except StopIteration as stop:
            chosen: Outcome | None = stop.value
        finally:
            flow.close()
        for result in self.results:
            if result.outcome is chosen:
                return result
        return None

    async def _renew(self, provider: Provider, outcome: Outcome) -> bool:
        """Whether the provider's credential has been renewed after a failure."""
        return may_have_expired(outcome) and await self.services.keys.renew(provider, self._shown)

    def count_uncounted(self, failed: Collection[str]) -> dict[str, int]:
        """Failed attempts that no breaker counts, by provider: this machine was offline.

        `failed` has the providers whose failure was counted.
        """
        if not self._unreached and len(self.results) == 1 and self.results[0].outcome.ok:
            return {}
        faults = [(each.provider.name, each.outcome.fault) for each in self.results]
        last = [name for name, fault in faults if fault in OWN_NETWORK and name not in failed]
        return dict(Counter([*self._unreached, *last])) if last or self._unreached else {}

    def note_rhythm(self, stream: EventStream) -> None:
        """Learn how often the provider that answers sends pings, at the end of its stream."""
        if self._digest is not None and stream.gap is not None:
            self._digest.note_gap(stream.gap, self.services.breakers.clock())

    async def close(self) -> None:
        """Close every stream that is still open."""
        for result in self.results:
            if result.stream is not None:
                await result.stream.aclose()

    async def _attempt(self, step: Try) -> Outcome:
        """Make one attempt, and log how it begins and ends. Raises nothing but cancellation.

        An exception that no code expected is a failure of this attempt: the next provider is tried.
        """
        provider = step.provider
        if step.reason is Reason.NETWORK_BACK:
            # The round before reached no provider; only this one counts.
            self._unreached += [result.provider.name for result in self.results]
            self.results.clear()
            self.sent = 0
        elif self.results:
            # The failure before has to be in the state file when this answer ends.
            self.services.breakers.hurry()
        attempt = self._shown = None
        began = monotonic()
        self._current = step, began
        try:
            self._log_attempt(step)
            attempt = await self._prepare(step)
            result = await attempt.make()
        except CannotSend as error:
            outcome = Outcome(error.fault, scrub(error.reason))
            result = AttemptResult(provider, outcome, 0.0, sent=False)
        except Exception as error:
            outcome = Outcome(Fault.UPSTREAM, self._log_crash(error))
            seconds = monotonic() - began
            result = AttemptResult(provider, outcome, seconds, sent=attempt is not None)
        self._current = None, began
        self.results.append(result)
        self.sent += result.sent
        try:
            if self._digest is not None and attempt is not None:
                self._note_latency(self._digest, attempt, result)
            if result.outcome.ok:
                self._log_success(result)
                if self._known_repairs is not None:
                    self._known_repairs.confirm(provider)
            else:
                await self._note_failure(result, attempt)
            if provider.primary:
                self.services.quotas.note(provider, result.headers, self.context)
        except Exception as error:
            # The result counts all the same.
            self._log_crash(error)
        if result.outcome.ok:
            return result.outcome
        try:
            await self._repairs.note_window(provider, result.outcome, self.body)
            draft = None if attempt is None else attempt.draft
            result.outcome = await self._repairs.consider(provider, result.outcome, draft)
        except Exception as error:
            # A rectifier that fails finds no repair.
            self._log_crash(error)
        return result.outcome

    async def _note_failure(self, result: AttemptResult, attempt: Attempt | None) -> None:
        """Log a failure, without what it quotes of the request."""
        text = ""
        try:
            if result.timeout is None and self.services.recorder.wants(self._level or "warn"):
                secrets = attempt.secrets if attempt else NO_SECRETS
                text = await upstream_text(result.outcome.message, secrets, self.quotes)
                self._repairs.refusal_text = text
        finally:
            # The client may leave while the quotes are looked for.
            self._log_failure(result, attempt, text)

    def _note_latency(self, digest: Digest, attempt: Attempt, result: AttemptResult) -> None:
        """Learn how long the provider takes until the first event."""
        if result.outcome.ok and attempt.waited is not None:
            now = self.services.breakers.clock()
            digest.note_answer(attempt.waited, len(attempt.request.body), now)
        elif result.outcome.is_hasty and attempt.learned is not None:
            digest.note_late(attempt.learned.first_byte)

    def _log_crash(self, error: Exception) -> str:
        """Log an exception that no code expected, and return the words for it."""
        reason = describe_crash(error)
        self._log(events.ServerError(), reason)
        return reason.partition(" at ")[0]

    async def _prepare(self, step: Try) -> Attempt:
        """Make the request of an attempt. Raises `CannotSend`."""
        provider, context, services = step.provider, self.context, self.services
        wire = FORMATS[provider.format]
        if self.counts_tokens:
            if wire.counting is None:
                raise CannotSend("it counts no tokens", Fault.REQUEST)
            wire = wire.counting
        if address(provider.base_url) == services.listener:
            raise CannotSend("its address is this proxy itself")
        if not provider.primary:
            self._check_fallback(provider)
        credential: Credential | None = None
        if provider.has_credential:
            credential = self._shown = await self._credential(provider)
            if credential is not None and credential.project:
                google = replace(provider.google, project=credential.project)
                provider = replace(provider, google=google)
        if key := wire.missing_key(provider):
            raise CannotSend(f"it needs {key}: set providers.{provider.name}.{key}")
        draft = step.draft
        if not provider.primary:
            draft = await self._repairs.prepare(provider, draft)
            if draft.quirks is not None:
                provider = replace(provider, quirks=draft.quirks)
        client_headers = context.headers
        sent: HeaderList | None = None
        has_own_betas = draft.betas == client_headers.betas
        if has_own_betas:
            sent = client_headers.find_sent(wire, provider, credential, context.tokens)
        privacy, signatures = context.config.privacy, services.signatures
        try:
            if len(self.body.raw) < LARGE:
                upstream_body = adapt_body(provider, draft.body, privacy, signatures)
            else:
                upstream_body = await asyncio.to_thread(
                    adapt_body, provider, draft.body, privacy, signatures
                )
            request = wire.prepare(
                upstream_body,
                client_headers if has_own_betas else with_betas(client_headers, draft.betas),
                provider,
                credential,
                via=services.via,
                tokens=context.tokens,
                query=self.query if provider.primary else "",
                betas=draft.betas,
                headers=sent,
            )
        except Unconvertible as error:
            raise CannotSend(f"its format can't express it: {error}", Fault.REQUEST) from None
        if services.recorder.wants("debug") and (omitted := wire.omitted_parts(draft.body)):
            self._log(
                events.RequestReduced(provider=provider.name, omitted=list(omitted)),
                f"{provider.name} can't get all of the request: without {', '.join(omitted)}",
            )
        if credential is not None and credential.aws is not None:
            request = wire.sign(request, provider, credential, services.breakers.clock())
        elif sent is None and has_own_betas:
            request.headers = client_headers.keep_sent(
                request.headers, wire, provider, credential, context.tokens
            )
        return Attempt(
            self,
            provider,
            wire,
            draft,
            request,
            self.timeouts(step.provider),
            self._find_learned(step),
        )

    def _check_fallback(self, provider: Provider) -> None:
        """Raise `CannotSend` if a fallback can't do what the request asks for."""
        if not provider.keeps_region(self.body.get("inference_geo")):
            raise CannotSend("it does not promise the region of inference_geo", Fault.REQUEST)
        if platforms.runs_no_tool(provider.platform.name, self.body):
            raise CannotSend("it runs none of the tools that are asked for", Fault.REQUEST)

    async def _credential(self, provider: Provider) -> Credential | None:
        try:
            return await self.services.keys.get(provider)
        except KeyUnavailable as error:
            raise CannotSend(describe_missing(provider, error)) from None

    def timeouts(self, provider: Provider) -> Timeouts:
        """The provider's timeouts, none longer than `max_seconds`.

        A client that wants a whole answer and says how long it waits gives each provider a share
        of that time, so that another one can still answer.
        """
        own = provider.timeouts
        # Only a stream has a first byte to wait for.
        is_default = self.body.stream and own.is_patient and own.first_byte == DEFAULT_FIRST_BYTE
        if is_default and (is_local(provider.base_url) or self._is_last(provider)):
            own = _patient(own)
        if self.max_seconds is not None:
            return Timeouts(
                connect=min(own.connect, self.max_seconds),
                first_byte=min(own.first_byte, self.max_seconds),
                non_streaming=min(own.non_streaming, self.max_seconds),
                idle=min(own.idle, self.max_seconds),
            )
        if self._share is not None and self._share < own.non_streaming:
            return _with_share(own, self._share)
        return own

    def _find_learned(self, step: Try) -> Learned | None:
        """What the provider's earlier answers say about the timeouts of an attempt at it."""
        if not self.body.stream or self.counts_tokens or not step.provider.timeouts.adaptive:
            self._digest = None
            return None
        provider, own = step.provider, step.provider.timeouts
        model = self.body.model[:LONGEST_MODEL]
        self._digest = self.services.latencies.find(provider, model)
        now = self.services.breakers.clock()
        learned = self._digest.learned(now)
        if learned is None:
            return None
        if (
            step.reason in UNHURRIED
            or (own.is_patient and is_local(provider.base_url))
            or not self._has_alternative(provider, now)
        ):
            return learned._replace(first_byte=inf)
        return learned

    def _has_alternative(self, provider: Provider, now: float) -> bool:
        """Whether another candidate was not tried yet and is not cooling down."""
        tried = {result.provider.name for result in self.results}
        return any(
            each.name not in tried
            and each.name != provider.name
            and self.health.cooldown_until(each) <= now
            for each in self._candidates
        )

    @property
    def current_provider(self) -> Provider | None:
        """The provider of the attempt that is being made, or that was when the client left."""
        step = self._current[0]
        return None if step is None else step.provider

    def find_slow_provider(self) -> tuple[Provider, Outcome] | None:
        """The provider to blame if the client has left, and why: it has used up most of its time.

        A client that waits for a whole answer sees nothing of it until the end.
        """
        step, began = self._current
        if step is None or self.body.stream:
            return None
        limit = self.timeouts(step.provider).non_streaming
        if monotonic() - began < MOST_OF_THE_TIME * limit:
            return None
        outcome = Outcome(Fault.TIMEOUT, "no answer until the client left")
        self._log(
            events.ProviderTimeout(
                provider=step.provider.name,
                key=step.provider.key.number or UNSET,
                attempt=len(self.results) + 1,
                ms=round((monotonic() - began) * 1000, 1),
                fault=str(outcome.fault),
                reason=outcome.reason,
                timeout="non_streaming",
                seconds=limit,
            ),
            f"{step.provider.label} was too slow: the client has left",
        )
        return step.provider, outcome

    def _is_last(self, provider: Provider) -> bool:
        """Whether every other candidate was tried for this request."""
        tried = {provider.name, *[result.provider.name for result in self.results]}
        return tried.issuperset([each.name for each in self._candidates])

    def _log_attempt(self, step: Try) -> None:
        provider, reason, results = step.provider, step.reason, self.results
        key = provider.key.number or UNSET
        if reason is Reason.SAFETY_VALVE:
            until = self.health.cooldown_until(provider)
            self._log(
                events.SafetyValveTriggered(
                    provider=provider.name,
                    key=key,
                    cooldown_until=milliseconds(until if isfinite(until) else None),
                ),
                f"no other provider is left: trying {provider.label} although it is cooling down",
            )
        self._log(
            events.ProviderAttempt(
                provider=provider.name,
                key=key,
                attempt=len(results) + 1,
                reason=str(reason),
                after=str(results[-1].outcome.fault) if results else None,
                host=host_and_port(provider.base_url),
                model=cut(provider.model_for(step.draft.body.model)),
            )
        )

    def _log_success(self, result: AttemptResult) -> None:
        self._log(events.ProviderSuccess(**self._end_data(result)))

    def _log_failure(self, result: AttemptResult, attempt: Attempt | None, text: str) -> None:
        outcome, name, data = result.outcome, result.provider.label, self._end_data(result)
        data |= {"fault": str(outcome.fault), "reason": outcome.reason}
        after = f"after {format_seconds(result.seconds)}"
        event: events.AttemptFailure
        if result.timeout is not None:
            why = result.timeout_why
            event = events.ProviderTimeout(
                **data, timeout=result.timeout, seconds=result.timeout_seconds, why=why or UNSET
            )
            message = f"{name} was too slow: {outcome.reason} {after}" + (
                f" ({why})" if why else ""
            )
        else:
            event = events.ProviderFailure(
                **data, error=text, until=milliseconds(outcome.until), hint=outcome.hint or None
            )
            verb = "failed" if result.sent else "could not be tried"
            message = f"{name} {verb} {after}: {outcome.reason}" + (f" ({text})" if text else "")
        self._log(event, message)
        if attempt is not None and self.services.recorder.wants("debug"):
            request = attempt.request
            curl = debug_curl(request.url, request.headers, attempt.secrets)
            message = f"to repeat the request to {name}: {curl}"
            self._log(events.RequestDebugCurl(provider=result.provider.name), message)

    def _end_data(self, result: AttemptResult) -> dict[str, Any]:
        """The fields that every event at the end of an attempt has."""
        repairs = self._known_repairs
        prevented = None if repairs is None else repairs.learned_for(result.provider)
        return {
            "provider": result.provider.name,
            "key": result.provider.key.number or UNSET,
            "attempt": len(self.results),
            "status": result.status,
            "ms": round(result.seconds * 1000, 1),
            "prevented": prevented or UNSET,
        }

    def _log(self, event: events.Event, message: str = "") -> None:
        self.services.recorder.log(event, message, self.context.id, self._level)


@lru_cache(maxsize=64)
def _with_share(timeouts: Timeouts, share: float) -> Timeouts:
    """The same timeouts, but with less time for a whole answer."""
    return replace(timeouts, non_streaming=share)


@lru_cache(maxsize=64)
def _patient(timeouts: Timeouts) -> Timeouts:
    """The same timeouts, but with more time for the first byte."""
    return replace(timeouts, first_byte=PATIENT_FIRST_BYTE)


def may_have_expired(outcome: Outcome) -> bool:
    """Whether another credential may help.

    No other refusal, such as one for lack of credit, says that the credential is wrong.
    """
    return not outcome.ok and (
        outcome.status in (401, 403) or _EXPIRED.search(outcome.code) is not None
    )


def describe_missing(provider: Provider, error: KeyUnavailable) -> str:
    """Why an attempt has no credential, in words for the log and for the client."""
    what = "no key" if provider.key or provider.auth == "key" else "no credential"
    return f"{what}: {error}"
