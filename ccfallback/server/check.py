"""Checks providers by one small real request each, in the shape of Claude Code's requests.

The request goes through the server's own attempts, so that repairs are found and learned as for any
other request. No breaker counts it, and it says nothing about how quick a provider is.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import random
from time import monotonic
from typing import Any, Final

import msgspec

from ccfallback.config.model import Config, Provider
from ccfallback.credentials import KeyUnavailable
from ccfallback.events import records as events
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import Usage, estimate
from ccfallback.policy.failover import Admission, is_answer
from ccfallback.policy.fingerprints import fingerprint
from ccfallback.policy.latency import Latencies
from ccfallback.policy.outcome import Fault, Outcome
from ccfallback.policy.spend import NANO, PriceTable, Work, cost
from ccfallback.server.attempt import AttemptResult
from ccfallback.server.bill import Bill
from ccfallback.server.client_credentials import LOGIN_TOKEN
from ccfallback.server.client_headers import ClientHeaders
from ccfallback.server.context import Context
from ccfallback.server.failover_driver import FailoverDriver
from ccfallback.server.hints import NO_HINTS
from ccfallback.server.record import Record, Recorder
from ccfallback.server.services import Services
from ccfallback.state.checks import CHECKS, CLAIM, CLAIMS, Check, Claim
from ccfallback.wire.headers import HeaderList

ANSWER_SECONDS: Final = 30.0
"""How long a provider may take, if its own timeouts allow more."""

MOST_TOKENS: Final = 64
"""The longest answer; a reasoning model may spend all of it on thinking."""

USUAL_MODEL: Final = "claude-sonnet-5-5"
"""The model that Claude Code asks for if nothing else is set."""

LOOK_SECONDS: Final = 60.0
"""How often a server looks whether the chain has to be checked."""

JITTER: Final = 0.1
"""By which share of its period a check may come later."""

LONGEST_WAIT: Final = 3600.0
"""Seconds for which a check waits until no request is in flight."""

SETTLE_SECONDS: Final = 3.0
"""Seconds after which the last claim of several servers stays the last."""

BETAS: Final = (
    "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
    "per-turn-control-2026-07-01,mid-conversation-tool-changes-2026-07-01,"
    "thinking-token-count-2026-05-13,advanced-tool-use-2025-11-20,effort-2025-11-24"
)
HEADERS: Final[HeaderList] = [
    (b"accept", b"application/json"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"claude-cli/2.1.330 (external, cli)"),
    (b"x-app", b"cli"),
    (b"anthropic-version", b"2023-06-01"),
    (b"anthropic-beta", BETAS.encode()),
]
"""The headers of Claude Code 2.1.330, without those that concern its process."""

QUERY: Final = "beta=true"

_DOT: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
"""A picture of one pixel."""


def _tool(name: str, text: str, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "description": text,
        "input_schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": properties,
            "required": list(properties)[:1],
            "additionalProperties": False,
        },
        **more,
    }


def question(model: str) -> Body:
    """The request: every part of Claude Code's that a provider may refuse, as short as possible."""
    text = {"type": "text", "text": "<system-reminder>\nA test.\n</system-reminder>\n"}
    source = {"type": "base64", "media_type": "image/png", "data": _DOT}
    ask = {"type": "text", "text": "Reply with OK.", "cache_control": {"type": "ephemeral"}}
    return Body.parse(
        msgspec.json.encode(
            {
                "model": model,
                "messages": [
                    {"role": "user", "content": [text, {"type": "image", "source": source}, ask]},
                    {"role": "system", "content": [{"type": "text", "text": "# Environment"}]},
                ],
                "system": [
                    {
                        "type": "text",
                        "text": "You are Claude Code, Anthropic's official CLI for Claude.",
                        "cache_control": {"type": "ephemeral"},
                    }
                ],
                "tools": [
                    _tool(
                        "Bash",
                        "Runs a command.",
                        {
                            "command": {"description": "The command", "type": "string"},
                            "timeout": {"description": "Milliseconds", "type": "number"},
                        },
                    ),
                    _tool(
                        "Edit",
                        "Replaces text.",
                        {
                            "file_path": {"type": "string"},
                            "replace_all": {"default": False, "type": "boolean"},
                        },
                    ),
                    _tool(
                        "Later",
                        "Is loaded when needed.",
                        {"q": {"type": "string"}},
                        defer_loading=True,
                    ),
                ],
                "metadata": {"user_id": msgspec.json.encode({"session_id": "check"}).decode()},
                "max_tokens": MOST_TOKENS,
                "thinking": {"type": "adaptive", "display": "omitted"},
                "context_management": {
                    "edits": [{"type": "clear_thinking_20251015", "keep": "all"}]
                },
                "output_config": {"effort": "low"},
                "stream": True,
            }
        )
    )


def estimate_dollars(provider: Provider, model: str, table: PriceTable) -> float | None:
    """About what a check costs; `None` if the price is unknown."""
    body = question(model)
    usage = Usage(input_tokens=estimate(body), output_tokens=MOST_TOKENS)
    nano = cost(Work(usage, provider.model_for(model)), provider, table)
    return None if nano is None else nano / NANO


async def is_login(services: Services, provider: Provider) -> bool:
    """Whether a request there would use the login of a plan, or the client's own credentials."""
    if not provider.has_credential:
        return provider.primary
    try:
        credential = await services.keys.get(provider.accounts[0])
    except KeyUnavailable:
        return False
    return credential is not None and credential.key.encode().startswith(LOGIN_TOKEN)


class OnlyCaps:
    """Breakers that admit every request and count nothing; a `policy.failover.Health`."""

    def __init__(self, bill: Bill | None = None) -> None:
        self._bill = bill

    def admission(self, _provider: Provider) -> Admission:
        """Every provider may be tried."""
        return Admission.OPEN

    def is_capped(self, provider: Provider) -> bool:
        """Whether the provider may not cost any more; never without a bill."""
        return self._bill is not None and self._bill.is_capped(provider)

    def cooldown_until(self, _provider: Provider) -> float:
        """No provider is cooling down."""
        return 0.0

    def begin(self, provider: Provider) -> None:
        """Take no probe slot."""

    def settle(
        self, provider: Provider, outcome: Outcome | None, usage: Usage | None = None
    ) -> None:
        """Count nothing."""


def most_informative(results: Sequence[AttemptResult]) -> AttemptResult:
    """The last result; of several refusals the first, because a repair led to the others."""
    last = results[-1]
    if last.outcome.fault is not Fault.REQUEST:
        return last
    return next(result for result in results if result.outcome.fault is Fault.REQUEST)


async def check(
    services: Services, config: Config, provider: Provider, model: str, login: HeaderList
) -> tuple[Check, AttemptResult | None]:
    """Check a provider with the first of its keys; `login` are headers for the primary.

    The result is in the state too. What the provider has refused is learned.
    """
    records: list[Record] = []
    recorder = Recorder(None)
    recorder.listeners.append(records.append)
    services = replace(services, recorder=recorder, latencies=Latencies())
    headers = ClientHeaders([*HEADERS, *(login if provider.primary else [])])
    context = Context("check", config, headers, config.token_bytes)
    body = question(model)
    bill = Bill(services, context, body, NO_HINTS, has_cap=True)
    driver = FailoverDriver(
        services, context, OnlyCaps(bill), body, query=QUERY, max_seconds=ANSWER_SECONDS
    )
    try:
        answer = await driver.run([provider.accounts[0]], is_answer)
        if answer is not None and answer.stream is not None:
            outcome = await answer.stream.relay(_drop)
            answer.outcome = answer.outcome if outcome.ok else outcome
        await bill.settle(driver.results, answer, None)
    finally:
        bill.close()
        await driver.close()
    result = answer or (most_informative(driver.results) if driver.results else None)
    if result is None:
        message = "; ".join(limit.sentence for limit in bill.capped.values())
    else:
        texts = (getattr(each.data, "error", None) for each in reversed(records))
        text = next(filter(None, texts), "") if not result.outcome.ok else ""
        message = result.outcome.reason + (f": {text}" if text else "")
    applied = (each.data for each in records)
    repairs = [each.rectifier for each in applied if isinstance(each, events.RectifierApplied)]
    for each in records:
        if isinstance(each.data, events.ProviderSuccess) and each.data.prevented:
            repairs += each.data.prevented
    found = Check(
        at=round(services.breakers.clock() * 1000),
        ok=result is not None and result.outcome.ok,
        fingerprint=fingerprint(provider),
        model=model,
        mapped_to=provider.model_for(model),
        status=None if result is None else result.status,
        seconds=None if result is None or not result.sent else round(result.seconds, 3),
        message=message,
        repairs=list(dict.fromkeys(repairs)),
        cost=bill.cost if answer is not None else 0.0,
    )
    services.breakers.put(CHECKS, provider.name, found)
    return found, result


async def _drop(_message: Any) -> None:
    """Take a part of the answer."""


class Checker:
    """Checks the chain regularly, as `[check] every` says.

    A provider with a login is never asked, so that no window of a plan begins. Of several servers
    that share a state, the last that claims a check makes it.
    """

    def __init__(self, services: Services, is_busy: Callable[[], bool]) -> None:
        self._services = services
        self._is_busy = is_busy
        self._jitter = random()
        self._due_since: float | None = None

    async def run(self) -> None:
        """Check whenever a check is due, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS * (0.5 + random()))
            try:
                await self.check_if_due()
            except Exception as error:
                # A check that fails in an unforeseen way costs nothing but itself.
                self._services.recorder.log(events.ServerError(), f"check: {type(error).__name__}")

    async def check_if_due(self) -> bool:
        """Check the chain if it is time; whether it was checked."""
        if not self._is_due():
            self._due_since = None
            return False
        now = monotonic()
        self._due_since = now if self._due_since is None else self._due_since
        if self._is_busy() and now - self._due_since < LONGEST_WAIT:
            return False
        if not await self._claim():
            return False
        self._due_since, self._jitter = None, random()
        await self._check_chain()
        return True

    def _is_due(self) -> bool:
        services = self._services
        every = services.live.current.check.seconds
        if every is None:
            return False
        claim = services.breakers.entry(CLAIMS, CLAIM)
        last = 0.0 if claim is None else claim.at / 1000
        now = services.breakers.clock()
        # A time in the future was written by a wrong clock.
        return last > now or now - last >= every * (1 + JITTER * self._jitter)

    async def _claim(self) -> bool:
        """Whether this server makes the check, of all that share the state."""
        services, breakers = self._services, self._services.breakers
        await breakers.refresh()
        if not self._is_due():
            return False
        claim = Claim(services.instance, round(breakers.clock() * 1000))
        breakers.put(CLAIMS, CLAIM, claim)
        await breakers.flush(again=True)
        await services.pause(SETTLE_SECONDS)
        await breakers.refresh()
        return breakers.entry(CLAIMS, CLAIM) == claim

    async def _check_chain(self) -> None:
        services, config = self._services, self._services.live.current
        ready, failed, spent = 0, [], 0.0
        for provider in config.active:
            until = services.breakers.state(provider.name).cooldown_until
            if until is not None and until > services.breakers.clock():
                continue
            if await is_login(services, provider):
                continue
            found, _ = await check(services, config, provider, USUAL_MODEL, [])
            ready += found.ok
            spent += found.cost or 0.0
            if not found.ok:
                failed.append(provider.name)
        await services.breakers.flush(again=True)
        names = f"; not ready: {', '.join(failed)}" if failed else ""
        services.recorder.log(
            events.ChainCheck(ready=ready, failed=failed, cost=round(spent, 6)),
            f"chain checked: {ready} of {ready + len(failed)} ready{names}",
        )
