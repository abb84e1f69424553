"""Repairs of one request: made when a provider refuses it, or before, where it is known to.

A repair counts when the repaired request was taken: then it is said, and, for a fallback, kept.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from ccfallback.core import lessons
from ccfallback.core.breaker import BreakerState
from ccfallback.core.config import Provider
from ccfallback.core.draft import Draft
from ccfallback.core.lessons import Lesson
from ccfallback.core.outcome import Outcome
from ccfallback.proxy.context import Context, Services
from ccfallback.proxy.record import upstream_text
from ccfallback.rectify import RECTIFIERS, rectify
from ccfallback.rectify.client import repairs_itself
from ccfallback.rectify.rule import Refusal, Repaired

REPAIRABLE = frozenset({400, 422})

Log = Callable[..., None]


@dataclass(slots=True)
class Repairs:
    """The repairs of one request, provider by provider."""

    services: Services
    context: Context
    model: str
    log: Log
    _made: dict[str, list[tuple[str, Repaired]]] = field(default_factory=dict)
    _used: dict[str, list[Lesson]] = field(default_factory=dict)

    def prevented(self, provider: Provider, draft: Draft) -> Draft:
        """The draft without what the provider is known to refuse for this model."""
        rules = self.context.config.rectifiers
        state = self.services.breakers.of(provider.name)
        if provider.primary or not rules.enabled or not state.learned:
            return draft
        now = self.services.breakers.clock()
        known = [each for each in lessons.valid(state.learned, now) if each.model == self.model]
        used = []
        for rectifier in RECTIFIERS:
            for lesson in known:
                if lesson.rectifier != rectifier.name or rectifier.name in rules.off:
                    continue
                repaired = rectifier.repair(draft, Refusal(400, lesson.text))
                if repaired is not None:
                    draft = repaired.draft
                    used.append(lesson)
        self._used[provider.name] = used
        return draft

    def repair(
        self, provider: Provider, draft: Draft, outcome: Outcome, used: frozenset[str]
    ) -> tuple[str, Draft] | None:
        """The draft repaired by a rectifier not yet used; see `core.failover.Repair`."""
        rules = self.context.config.rectifiers
        if not rules.enabled or outcome.status not in REPAIRABLE:
            return None
        refusal = Refusal(outcome.status, outcome.message)
        if provider.primary and repairs_itself(refusal):
            return None
        # What was prevented stays so: the refusal is about the rest.
        found = rectify(self.prevented(provider, draft), refusal, skip=used | rules.off)
        if found is None:
            return None
        name, repaired = found
        self._made.setdefault(provider.name, []).append(found)
        said = upstream_text(outcome.message, body=draft.body)
        self.log(
            "info",
            "rectifier.attempt",
            f"{provider.name} refused the request ({said}); {name}: {repaired.changed}",
            provider=provider.name,
            rectifier=name,
            changed=repaired.changed,
            error=said,
        )
        return name, repaired.draft

    def taken(self, provider: Provider) -> None:
        """The provider took the request as it is now: the repairs were right."""
        now = self.services.breakers.clock()
        for name, repaired in self._made.pop(provider.name, []):
            learns = repaired.lesson is not None and not provider.primary
            self.log(
                "info",
                "rectifier.applied",
                f"{name} was right about {provider.name}: {repaired.changed}"
                + ("; remembered for a day" if learns else ""),
                provider=provider.name,
                rectifier=name,
                changed=repaired.changed,
                learned=learns,
            )
            if learns and repaired.lesson is not None:
                learn = partial(
                    lessons.learned,
                    rectifier=name,
                    model=self.model,
                    text=repaired.lesson,
                    now=now,
                )
                self._change(provider, learn)
        used = self._used.pop(provider.name, [])
        worn = [lesson for lesson in used if lessons.wearing_out(lesson, now)]
        if worn:
            self._change(provider, partial(lessons.renewed, used=worn, now=now))

    def _change(
        self, provider: Provider, change: Callable[[tuple[Lesson, ...]], tuple[Lesson, ...]]
    ) -> None:
        def apply(state: BreakerState) -> BreakerState:
            return replace(state, learned=change(state.learned))

        self.services.breakers.change(provider.name, apply)
