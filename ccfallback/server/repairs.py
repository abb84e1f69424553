"""The repairs of one request: after a provider has refused it, or before sending it there.

A repair is confirmed when the provider accepts the repaired request. Then it is logged, and for a
fallback the rejection is learned: the next request is repaired before it is sent.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from ccfallback.config.model import Provider
from ccfallback.events import records as events
from ccfallback.policy import learned
from ccfallback.policy.breaker import BreakerState
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.learned import LearnedRejection
from ccfallback.policy.outcome import Outcome
from ccfallback.rectify import CLIENTS_OWN, prevent, rectify, repaired_by_client
from ccfallback.rectify.rule import Refusal, Repaired, difference
from ccfallback.server.context import Context, Services
from ccfallback.server.record import upstream_text
from ccfallback.wire import FORMATS

REPAIRABLE: Final = frozenset({400, 422})
"""The statuses of a refusal that a repair may answer."""

_DIGITS: Final = re.compile(r"\d+")


@dataclass(slots=True)
class Repairs:
    """The repairs of one request, provider by provider."""

    services: Services
    context: Context
    model: str
    is_side: bool = False
    """Whether the request is for a side endpoint: those learn nothing."""
    _made: dict[str, list[tuple[str, Repaired]]] = field(default_factory=dict)
    """Repairs that are not confirmed yet, with their rectifiers."""
    _applied: dict[str, list[LearnedRejection]] = field(default_factory=dict)
    _refusals: dict[str, Refusal] = field(default_factory=dict)
    """The last refusal of each provider."""

    def apply_learned(self, provider: Provider, draft: RequestDraft) -> RequestDraft:
        """Repair a draft before sending it, where the provider is known to refuse it."""
        rules = self.context.config.rectifiers
        state = self.services.breakers.state(provider.name)
        if provider.primary or not rules.enabled or not state.learned:
            return draft
        valid = learned.still_valid(state.learned, self.services.breakers.clock())
        for_model = [each for each in valid if each.model == self.model]
        if not for_model:
            return draft
        draft, applied = prevent(with_quirks(provider, draft), for_model, skip=rules.off)
        self._applied[provider.name] = applied
        return draft

    def learned_for(self, provider: Provider) -> list[str]:
        """The names of the repairs that were made before the request was sent."""
        return list(dict.fromkeys(each.rectifier for each in self._applied.get(provider.name, ())))

    def repair(
        self, provider: Provider, draft: RequestDraft, outcome: Outcome, used: frozenset[str]
    ) -> tuple[str, RequestDraft] | None:
        """Repair a refused draft with a rectifier not yet used; see `policy.failover.Repair`."""
        rules = self.context.config.rectifiers
        if not rules.enabled or outcome.status not in REPAIRABLE:
            return None
        refusal = Refusal(outcome.status, outcome.message, outcome.code)
        if provider.primary and repaired_by_client(refusal):
            return None
        self._compare(provider, refusal)
        # The refusal is about what is left after the repairs that were made before sending.
        before = with_quirks(provider, self.apply_learned(provider, draft))
        skip = used | rules.off | (CLIENTS_OWN if provider.primary else frozenset())
        found = rectify(before, refusal, skip=skip)
        if found is None:
            return None
        name, repaired = found
        self._made.setdefault(provider.name, []).append(found)
        error = upstream_text(outcome.message, body=draft.body)
        self._log(
            events.RectifierAttempt(
                provider=provider.name,
                rectifier=name,
                changed=repaired.changed,
                **difference(before, repaired.draft),
                error=error,
            ),
            f"{provider.name} refused the request ({error}); "
            f"repaired by {name}: {repaired.changed}",
        )
        return name, repaired.draft

    def _compare(self, provider: Provider, refusal: Refusal) -> None:
        """Confirm the repairs if the provider refuses something else now, else forget them."""
        before = self._refusals.get(provider.name)
        self._refusals[provider.name] = refusal
        if before is not None and _without_numbers(before) == _without_numbers(refusal):
            self._made.pop(provider.name, None)
        else:
            self.confirm(provider)

    def confirm(self, provider: Provider) -> None:
        """Log and learn the repairs: the provider has accepted the request as it is now."""
        now = self.services.breakers.clock()
        for name, repaired in self._made.pop(provider.name, []):
            lesson = None if provider.primary or self.is_side else repaired.lesson
            self._log(
                events.RectifierApplied(
                    provider=provider.name,
                    rectifier=name,
                    changed=repaired.changed,
                    learned=lesson is not None,
                ),
                f"{provider.name} accepted the repair {name}: {repaired.changed}"
                + ("; remembered for a day" if lesson is not None else ""),
            )
            if lesson is not None:
                learn = partial(
                    learned.remember, rectifier=name, model=self.model, text=lesson, now=now
                )
                self._change(provider, learn)
        applied = self._applied.pop(provider.name, [])
        expiring = [each for each in applied if each.needs_renewal(now)]
        if expiring and not self.is_side:
            self._change(provider, partial(learned.renew, used=expiring, now=now))

    def _log(self, event: events.Event, message: str) -> None:
        level = events.SIDE_LEVEL if self.is_side else None
        self.services.recorder.log(event, message, self.context.id, level)

    def _change(
        self,
        provider: Provider,
        change: Callable[[tuple[LearnedRejection, ...]], tuple[LearnedRejection, ...]],
    ) -> None:
        def apply(state: BreakerState) -> BreakerState:
            return replace(state, learned=change(state.learned))

        self.services.breakers.change(provider.name, apply)


def with_quirks(provider: Provider, draft: RequestDraft) -> RequestDraft:
    """The draft with the provider's quirks, if they decide how its request is written."""
    if not FORMATS[provider.format].has_quirks or draft.quirks is not None:
        return draft
    return replace(draft, quirks=provider.quirks)


def _without_numbers(refusal: Refusal) -> str:
    """The text of a refusal without the positions and numbers in it."""
    return _DIGITS.sub("", refusal.text)
