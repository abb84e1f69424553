"""What one request costs, and what it may cost while it is in flight."""

import asyncio
from collections.abc import Sequence
from math import ceil
from typing import Final

import msgspec
from msgspec import UNSET

from ccfallback.config.model import Provider
from ccfallback.events import records as events
from ccfallback.events.records import milliseconds
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import BYTES_A_TOKEN, Usage, estimate
from ccfallback.policy.error_response import UNIFIED_STATUS, spend_warning
from ccfallback.policy.spend import (
    Limit,
    Work,
    binding,
    complete_usage,
    cost,
    estimate_cost,
    token_account,
)
from ccfallback.server.attempt import AttemptResult
from ccfallback.server.client_credentials import is_login_key
from ccfallback.server.context import Context
from ccfallback.server.hints import Hints
from ccfallback.server.record import cut, describe_crash
from ccfallback.server.services import Services
from ccfallback.server.spending import Spending
from ccfallback.state.ledger import Row, to_dollars
from ccfallback.wire.headers import find

LONG: Final = 32 * 1024
"""The bytes of a body from which on its tokens are estimated in a thread."""


def is_plan(provider: Provider, context: Context) -> bool:
    """Whether a plan pays for the request there, and not its tokens."""
    if provider.has_credential:
        return is_login_key(provider.key)
    return provider.primary and context.login_token is not None


class Bill(msgspec.Struct, eq=False):
    """What one request costs, and what it may cost while it is in flight.

    A struct, because every request makes one.
    """

    _services: Services
    _context: Context
    _body: Body
    _hints: Hints
    has_cap: bool
    """Whether a provider that the request may go to, or its token, has a cap."""
    capped: dict[str, Limit] = {}
    """The caps for which a provider was skipped."""
    cost: float | None = None
    """What the answer has cost in dollars, once the bill is settled."""
    _is_settled: bool = False
    _held: dict[str, tuple[int, int, str]] = {}
    """By provider, what is reserved, the estimate that this comes from, and its model."""

    @property
    def _spending(self) -> Spending:
        return self._services.spending

    @property
    def _account(self) -> tuple[str, ...]:
        """The account of the token, if the request shows one."""
        token = self._context.token
        return () if token is None else (token_account(token.label),)

    def is_capped(self, provider: Provider) -> bool:
        """Whether the provider may not cost any more."""
        if not self._may_be_capped(provider):
            return False
        limit = binding(self._spending.limits(provider, self._context.token))
        if limit is None:
            return False
        if provider.name not in self.capped:
            self._log_cap(limit)
        self.capped[provider.name] = limit
        return True

    def reserve(self, provider: Provider) -> None:
        """Count what the request may cost there as spent, until it is over."""
        if provider.name in self._held or not self._may_be_capped(provider):
            return
        tokens = ceil(len(self._body.raw) / BYTES_A_TOKEN)
        work, limit = self._work(Usage(), provider), self._body.max_tokens
        guess = estimate_cost(tokens, limit, work, provider, self._spending.table)
        reserve = self._spending.reservations.reserve
        amount = reserve(provider.name, work.model, guess, *self._account)
        self._held[provider.name] = (amount, guess, work.model)
        self._publish(provider.name)

    def _publish(self, provider: str) -> None:
        """Let the servers that share a state know what this one has spent and reserved."""
        if self._spending.publish((provider, *self._account)):
            self._services.breakers.hurry()

    def release(self, provider: Provider) -> None:
        """Give back what is reserved at a provider."""
        self._release(provider.name)

    def _release(self, name: str) -> None:
        if name in self._held:
            amount, *_ = self._held.pop(name)
            self._spending.reservations.release(name, amount, *self._account)
            self._publish(name)

    async def settle(
        self,
        results: Sequence[AttemptResult],
        answer: AttemptResult | None,
        waiting: Provider | None,
    ) -> None:
        """Put what each attempt has cost into the ledger, once, whether or not it is the answer.

        `waiting` is the provider that had not answered yet when the client left. A row that can't
        be made is missing; the client gets its answer all the same.
        """
        if self._is_settled:
            return
        self._is_settled = True
        try:
            for each in results:
                usage, is_answer = each.usage, each is answer
                if is_answer:
                    if not each.outcome.ok and each.stream is None:
                        continue
                elif usage is None or not usage.prompt_tokens:
                    continue
                if usage is None:
                    usage = Usage()
                is_whole, is_counted = is_answer and each.is_whole, usage.input_tokens is not None
                if not (is_whole and is_counted and usage.output_tokens is not None):
                    prompt = 0 if is_counted else await estimate_tokens(self._body)
                    usage = complete_usage(
                        usage, prompt_tokens=prompt, written=each.written, is_whole=is_whole
                    )
                is_estimate = not (is_whole and is_counted)
                self._put(each.provider, usage, is_estimate=is_estimate, is_answer=is_answer)
            if answer is None and waiting is not None:
                usage = Usage(ceil(len(self._body.raw) / BYTES_A_TOKEN), 0)
                self._put(waiting, usage, is_estimate=True, is_answer=False)
        except Exception as error:
            recorder = self._services.recorder
            recorder.log(events.ServerError(), describe_crash(error), self._context.id)

    def _put(self, provider: Provider, usage: Usage, *, is_estimate: bool, is_answer: bool) -> None:
        spending, model, hints = self._services.spending, self._body.model, self._hints
        work = self._work(usage, provider)
        nano = cost(work, provider, spending.table)
        row = Row(
            at=spending.clock(),
            provider=provider.name,
            model=cut(model),
            mapped="" if work.model == model else cut(work.model),
            input=usage.input_tokens or 0,
            output=usage.output_tokens or 0,
            cache_read=usage.cache_read or 0,
            cost=to_dollars(nano),
            estimated=is_estimate,
            session=hints.session,
            request_class=hints.request_class,
        )
        if usage.cache_write or usage.cache_write_1h:
            row.cache_write_1h = usage.cache_write_1h or 0
            row.cache_write = max(0, (usage.cache_write or 0) - row.cache_write_1h)
        if self._context.token is not None:
            row.token = self._context.token.label
        if is_plan(provider, self._context):
            row.plan, row.listed, row.cost = True, row.cost, 0.0
        if is_answer:
            self.cost = row.cost
        spending.put(row)
        if self.has_cap:
            self._end_reservation(provider, None if is_estimate else nano)

    def _end_reservation(self, provider: Provider, nano: int | None) -> None:
        """Give back what is reserved at a provider, after its cost, if known, was counted."""
        if nano is not None and provider.name in self._held:
            _, guess, model = self._held[provider.name]
            self._spending.reservations.learn(provider.name, model, guess, nano)
        self.release(provider)
        if self._may_be_capped(provider):
            # Else it is soon enough when all sums are published, once a second.
            self._publish(provider.name)

    def rereading(self, tokens: int, name: str) -> float | None:
        """The dollars for which a provider would write a prompt into its cache.

        `None` if its price is unknown, or if a plan pays for it.
        """
        provider = self._context.config.provider(name)
        if provider is None or not tokens or is_plan(provider, self._context):
            return None
        work = self._work(Usage(0, 0, 0, tokens), provider)
        return to_dollars(cost(work, provider, self._spending.table))

    def warning(self, result: AttemptResult) -> list[tuple[bytes, bytes]]:
        """Headers by which the client warns its user that a cap is near; none while it is far."""
        provider = result.provider
        if is_plan(provider, self._context) or find(result.headers, UNIFIED_STATUS) is not None:
            return []
        limits = self._spending.limits(provider, self._context.token)
        near = [each for each in limits if each.threshold is not None]
        return spend_warning(max(near, key=lambda each: each.share)) if near else []

    def close(self) -> None:
        """Give back all that is still reserved."""
        for name in tuple(self._held):
            self._release(name)

    def _may_be_capped(self, provider: Provider) -> bool:
        token = self._context.token
        has_cap = provider.cap.is_set or (token is not None and token.cap.is_set)
        return has_cap and not is_plan(provider, self._context)

    def _work(self, usage: Usage, provider: Provider) -> Work:
        body = self._body
        return Work(
            usage,
            provider.model_for(body.model),
            body.get("inference_geo"),
            body.get("speed") == "fast",
        )

    def _log_cap(self, limit: Limit) -> None:
        of_token = f"{limit.title}: " if limit.token else ""
        self._services.recorder.log(
            events.SpendCap(
                provider=limit.provider,
                token=limit.token or UNSET,
                period=limit.period,
                cap=to_dollars(limit.cap) or 0.0,
                spent=to_dollars(limit.spent) or 0.0,
                reserved=to_dollars(limit.reserved) or 0.0,
                until=milliseconds(limit.until),
            ),
            f"{limit.provider} is skipped: {of_token}{limit.sentence}",
            self._context.id,
        )


async def estimate_tokens(body: Body) -> int:
    """About how many tokens the prompt has; a thread estimates a long one."""
    if len(body.raw) < LONG:
        return estimate(body)
    return await asyncio.to_thread(estimate, body)
