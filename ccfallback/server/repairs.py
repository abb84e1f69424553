"""Repairs of one request: made when a provider refuses it, or before, where it is known to.

A repair counts when the repaired request was taken: then it is said, and, for a fallback, kept.
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
from ccfallback.rectify import prevent, rectify
from ccfallback.rectify.client import THE_CLIENTS_OWN, repairs_itself
from ccfallback.rectify.difference import difference
from ccfallback.rectify.rule import Refusal, Repaired
from ccfallback.server.context import Context, Services
from ccfallback.server.record import upstream_text
from ccfallback.wire import FORMATS

REPAIRABLE: Final = frozenset({400, 422})

_DIGITS: Final = re.compile(r"\d+")


@dataclass(slots=True)
class Repairs:
    """The repairs of one request, provider by provider."""

    services: Services
    context: Context
    model: str
    level: str | None = None
    """The level of all records, where it is not theirs to choose."""
    _made: dict[str, list[tuple[str, Repaired]]] = field(default_factory=dict)
    _used: dict[str, list[LearnedRejection]] = field(default_factory=dict)
    _refusals: dict[str, Refusal] = field(default_factory=dict)

    def prevented(self, provider: Provider, draft: RequestDraft) -> RequestDraft:
        """The draft without what the provider is known to refuse for this model."""
        rules = self.context.config.rectifiers
        state = self.services.breakers.state(provider.name)
        if provider.primary or not rules.enabled or not state.learned:
            return draft
        now = self.services.breakers.clock()
        valid = learned.still_valid(state.learned, now)
        known = [each for each in valid if each.model == self.model]
        if not known:
            return draft
        draft, self._used[provider.name] = prevent(_put_to(provider, draft), known, skip=rules.off)
        return draft

    def known(self, provider: Provider) -> list[str]:
        """The repairs that were made before the provider could refuse the request again."""
        return list(dict.fromkeys(each.rectifier for each in self._used.get(provider.name, ())))

    def repair(
        self, provider: Provider, draft: RequestDraft, outcome: Outcome, used: frozenset[str]
    ) -> tuple[str, RequestDraft] | None:
        """The draft repaired by a rectifier not yet used; see `core.failover.Repair`."""
        rules = self.context.config.rectifiers
        if not rules.enabled or outcome.status not in REPAIRABLE:
            return None
        refusal = Refusal(outcome.status, outcome.message, outcome.code)
        if provider.primary and repairs_itself(refusal):
            return None
        self._judge(provider, refusal)
        # What was prevented stays so: the refusal is about the rest.
        skip = used | rules.off | (THE_CLIENTS_OWN if provider.primary else frozenset())
        before = _put_to(provider, self.prevented(provider, draft))
        found = rectify(before, refusal, skip=skip)
        if found is None:
            return None
        name, repaired = found
        self._made.setdefault(provider.name, []).append(found)
        said = upstream_text(outcome.message, body=draft.body)
        self._log(
            events.RectifierAttempt(
                provider=provider.name,
                rectifier=name,
                changed=repaired.changed,
                **difference(before, repaired.draft),
                error=said,
            ),
            f"{provider.name} refused the request ({said}); {name}: {repaired.changed}",
        )
        return name, repaired.draft

    def _judge(self, provider: Provider, refusal: Refusal) -> None:
        """Another refusal than the one before: what was done about that one was right."""
        before = self._refusals.get(provider.name)
        self._refusals[provider.name] = refusal
        if before is not None and _without_places(before) == _without_places(refusal):
            self._made.pop(provider.name, None)
        else:
            self.taken(provider)

    def taken(self, provider: Provider) -> None:
        """The provider took the request as it is now: the repairs were right."""
        now = self.services.breakers.clock()
        for name, repaired in self._made.pop(provider.name, []):
            learns = repaired.lesson is not None and not provider.primary
            self._log(
                events.RectifierApplied(
                    provider=provider.name, rectifier=name, changed=repaired.changed, learned=learns
                ),
                f"{name} was right about {provider.name}: {repaired.changed}"
                + ("; remembered for a day" if learns else ""),
            )
            if learns and repaired.lesson is not None:
                learn = partial(
                    learned.remember,
                    rectifier=name,
                    model=self.model,
                    text=repaired.lesson,
                    now=now,
                )
                self._change(provider, learn)
        used = self._used.pop(provider.name, [])
        worn = [lesson for lesson in used if lesson.needs_renewal(now)]
        if worn:
            self._change(provider, partial(learned.renew, used=worn, now=now))

    def _log(self, event: events.Event, message: str) -> None:
        # Not the conversation's own: who holds each other waits for the collector.
        self.services.recorder.log(event, message, self.context.id, self.level)

    def _change(
        self,
        provider: Provider,
        change: Callable[[tuple[LearnedRejection, ...]], tuple[LearnedRejection, ...]],
    ) -> None:
        def apply(state: BreakerState) -> BreakerState:
            return replace(state, learned=change(state.learned))

        self.services.breakers.change(provider.name, apply)


def _put_to(provider: Provider, draft: RequestDraft) -> RequestDraft:
    """The draft with the provider's quirks, where they decide how it is written."""
    if not FORMATS[provider.format].has_quirks or draft.quirks is not None:
        return draft
    return replace(draft, quirks=provider.quirks)


def _without_places(refusal: Refusal) -> str:
    """A refusal without the places and numbers in it."""
    return _DIGITS.sub("", refusal.text)
