"""The repairs of one request: after a provider has refused it, or before sending it there.

A repair is made only if it changes what is sent: not every part of a request survives the
translation to the provider's format. It is confirmed when the provider answers the repaired
request. Then it is logged, and for a fallback the rejection is learned: the next request is
repaired before it is sent. If no rule knows the refusal, the last resort is the plain form.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from ccfallback.config.model import Provider
from ccfallback.events import records as events
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import estimate
from ccfallback.policy import context_window, learned, signatures
from ccfallback.policy.breaker import BreakerState
from ccfallback.policy.context_window import LearnedWindow
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.learned import LearnedRejection
from ccfallback.policy.outcome import Fault, Outcome, is_prompt_too_long
from ccfallback.rectify import (
    BY_NAME,
    CLIENTS_OWN,
    PLAIN_FORM,
    find_repairs,
    plain_form,
    platforms,
    prevent,
    repaired_by_client,
)
from ccfallback.rectify.narrowing import Narrowing
from ccfallback.rectify.rule import Refusal, Repaired, difference, trigger
from ccfallback.server.context import Context
from ccfallback.server.health import LONGEST_MODEL
from ccfallback.server.services import Services
from ccfallback.wire import FORMATS
from ccfallback.wire.format import Unconvertible
from ccfallback.wire.headers import with_betas
from ccfallback.wire.provider_body import adapt_body

T = TypeVar("T")

FOREIGN_SIGNATURE: Final = "thinking_signature"
"""The repair of a request with a signature that the provider does not accept."""

LARGE: Final = 256 * 1024
"""The bytes of a body from which on repairs are made in a thread: they walk all of it."""

_HIDDEN: Final = {Fault.UNKNOWN_MODEL: frozenset({404}), Fault.UPSTREAM: frozenset({500, 501})}
"""Faults and statuses behind which a refusal of the request may hide; its text tells."""

_FAULTS_OF_A_TRIAL: Final = frozenset(
    {Fault.REQUEST, Fault.UNKNOWN_MODEL, Fault.UPSTREAM, Fault.MODEL_FAILED}
)
"""Faults that a request may have met because it lacked steps of the plain form."""


class _PendingRepair(msgspec.Struct):
    """A repair that is not confirmed yet."""

    name: str
    repaired: Repaired
    trigger: object = None
    """What its rule has read in the refusal."""
    steps: tuple[str, ...] = ()
    """The steps of the plain form that it consists of."""

    @property
    def lesson(self) -> LearnedRejection | None:
        """What it teaches if it is right."""
        text = self.repaired.lesson
        return LearnedRejection(self.name, "", text, 0.0) if text else None


class _ProviderRepairs(msgspec.Struct, eq=False):
    """The repairs of the request at one provider, where it is refused or known to be."""

    original: RequestDraft | None = None
    """The draft that was prepared last, as it came."""
    prepared: RequestDraft | None = None
    """The same draft after what is known of the provider was applied to it."""
    applied: list[LearnedRejection] = []
    """The lessons that have changed it."""
    names: list[str] = []
    """The repairs that were made after refusals, in order."""
    pending: list[_PendingRepair] = []
    refused: set[bytes] = set()
    """Digests of the requests that the provider has refused."""
    found: tuple[str, RequestDraft] | None = None
    """The next repair, found and not yet asked for."""
    lesson: LearnedRejection | None = None
    """The lesson that the plain form is needed."""
    full: RequestDraft | None = None
    """The draft with all steps that the lesson names, if the draft that was sent lacks some."""
    left_out: frozenset[str] = frozenset()
    """The steps that it lacks, or has lacked."""
    changed: tuple[str, ...] = ()
    """The steps of the plain form that have changed the draft."""


class Repairs(msgspec.Struct, eq=False):
    """The repairs of one request, provider by provider."""

    services: Services
    context: Context
    body: Body
    """The client's body."""
    is_side: bool = False
    """Whether the request is for a side endpoint: those neither learn nor use what is learned."""
    _providers: dict[str, _ProviderRepairs] = {}
    refusal_text: str = ""
    """What the last failure said, as the log may hold it."""
    has_learned: bool = False
    """Whether what is learned of a provider has changed."""

    @property
    def model(self) -> str:
        """The model that the client asks for."""
        return self.body.model[:LONGEST_MODEL]

    async def prepare(self, provider: Provider, draft: RequestDraft) -> RequestDraft:
        """Repair a draft before sending it to a fallback that is known to refuse it.

        Nothing is learned of the primary.
        """
        here = self._providers.get(provider.name)
        if here is not None and here.original is draft and here.prepared is not None:
            return here.prepared
        self._recall_signatures(provider)
        prepared, lessons = draft, self._lessons(provider)
        platform = provider.platform.name
        if platform in platforms.PLATFORMS:
            own_name = provider.model_for(self.model)
            prepared = await self.run_aside(platforms.apply, prepared, platform, own_name)
        if lessons:
            here = self._repairs_at(provider)
            prepared = await self.run_aside(self._apply, provider, prepared, lessons, here)
        if prepared is not draft:
            here = self._repairs_at(provider)
            here.original, here.prepared = draft, prepared
        return prepared

    def learned_for(self, provider: Provider) -> list[str]:
        """The names of the repairs that were made before the request was sent."""
        here = self._providers.get(provider.name)
        if here is None or not here.applied:
            return []
        return list(dict.fromkeys(each.rectifier for each in here.applied))

    async def consider(
        self, provider: Provider, outcome: Outcome, draft: RequestDraft | None
    ) -> Outcome:
        """Find a repair for a draft that was sent; the outcome, a refusal if there is one.

        There is no draft if none could be sent.
        """
        rules = self.context.config.rectifiers
        if draft is None or not rules.enabled:
            return outcome
        is_refused = self._may_repair(provider, outcome)
        if not is_refused and not self._has_full_form(provider, outcome):
            return outcome
        here = self._repairs_at(provider)
        here.prepared = draft
        refusal = (
            Refusal(outcome.status or 0, outcome.message, outcome.code) if is_refused else None
        )
        found = await self.run_aside(self._find, provider, refusal, here)
        if found is None:
            return outcome
        name, repaired, before = found
        error = self.refusal_text
        here.names.append(name)
        here.found = (name, repaired.draft)
        # The lessons are part of it already.
        here.original = here.prepared = repaired.draft
        self._log(
            events.RectifierAttempt(
                provider=provider.name,
                rectifier=name,
                changed=repaired.changed,
                **await self.run_aside(difference, before, repaired.draft),
                error=error,
            ),
            f"{provider.name} refused the request ({error}); "
            f"repaired by {name}: {repaired.changed}",
        )
        return outcome.but(fault=Fault.REQUEST)

    def repair(
        self, provider: Provider, _draft: RequestDraft, _outcome: Outcome, _used: frozenset[str]
    ) -> tuple[str, RequestDraft] | None:
        """The repair that was found for a refused draft; see `policy.failover.Repair`."""
        here = self._repairs_at(provider)
        found, here.found = here.found, None
        return found

    def confirm(self, provider: Provider) -> None:
        """Log and learn the repairs: the provider has answered the request as it is now."""
        here = self._providers.get(provider.name)
        if here is None:
            return
        may_learn = not provider.primary and not self.is_side
        confirmed = here.pending
        if confirmed:
            here.pending = []
        for each in confirmed:
            lesson = each.repaired.lesson if may_learn else None
            self._log(
                events.RectifierApplied(
                    provider=provider.name,
                    rectifier=each.name,
                    changed=each.repaired.changed,
                    learned=lesson is not None,
                ),
                f"{provider.name} accepted the repair {each.name}: {each.repaired.changed}"
                + ("; remembered for a day" if lesson is not None else ""),
            )
            if each.name == FOREIGN_SIGNATURE:
                self.services.signatures.separate(provider.name)
                if may_learn and provider.shares_signatures:
                    self._learn(provider, signatures.RULE, signatures.LESSON)
            if lesson is not None and each.name != PLAIN_FORM:
                self._learn(provider, each.name, lesson)
        if may_learn:
            self._narrow(provider, here)

    # --- What is learned ---

    def _lessons(self, provider: Provider) -> tuple[LearnedRejection, ...]:
        """What is known of the provider for this model."""
        if provider.primary or self.is_side or not self.context.config.rectifiers.enabled:
            return ()
        rejections = self.services.breakers.quick_state(provider.name).learned
        if not rejections:
            return ()
        return learned.find_valid(rejections, provider, self.services.breakers.clock(), self.model)

    def _apply(
        self,
        provider: Provider,
        draft: RequestDraft,
        lessons: tuple[LearnedRejection, ...],
        here: _ProviderRepairs,
    ) -> RequestDraft:
        off = self.context.config.rectifiers.off
        draft = with_quirks(provider, draft)
        draft, here.applied = prevent(draft, lessons, skip=off)
        here.lesson = next((each for each in lessons if each.rectifier == PLAIN_FORM), None)
        if here.lesson is None or PLAIN_FORM in off:
            return draft
        known = Narrowing.parse(here.lesson.text)
        full, changed = plain_form.apply(draft, known.steps)
        here.applied += [here.lesson] if changed else []
        if not self._is_hopeless(provider):
            here.left_out = known.to_leave_out(changed)
        if not here.left_out:
            return full
        here.full = full
        return plain_form.apply(draft, known.steps - here.left_out)[0]

    def _narrow(self, provider: Provider, here: _ProviderRepairs) -> None:
        """Learn which steps of the plain form the provider needs."""
        old = here.lesson
        known = Narrowing.parse(old.text) if old is not None else None
        if here.changed:
            new = Narrowing.begin(here.changed, known)
        elif here.left_out and known is not None:
            new = known.after(here.left_out, accepted=here.full is not None)
        else:
            return
        here.changed, here.left_out = (), frozenset()
        if old is None:
            self._learn(provider, PLAIN_FORM, new.text)
        else:
            # Nothing is learned anew, so it ends when the lesson would have ended.
            lesson = replace(old, text=new.text) if new.steps else None
            self._change(provider, partial(learned.revise, old=old, new=lesson))

    def _recall_signatures(self, provider: Provider) -> None:
        """Note whether a platform of Claude is known to refuse foreign thinking, of any model."""
        if provider.primary or self.is_side or not provider.shares_signatures:
            return
        breakers = self.services.breakers
        rejections = breakers.quick_state(provider.name).learned
        known = learned.find_valid(rejections, provider, breakers.clock()) if rejections else ()
        apart = any(each.rectifier == signatures.RULE for each in known)
        self.services.signatures.separate(provider.name, apart=apart)

    def learned_window(self, provider: Provider) -> LearnedWindow | None:
        """The context window that the provider has told for this model."""
        breakers = self.services.breakers
        rejections = breakers.quick_state(provider.name).learned
        if not rejections or provider.primary:
            return None
        known = learned.find_valid(rejections, provider, breakers.clock(), self.model)
        return context_window.learned_window(known)

    async def note_window(self, provider: Provider, outcome: Outcome, body: Body) -> None:
        """Remember the context window that a refusal tells, so that the next request that does not
        fit is not sent. Of the length of a prompt the refusal itself is the proof."""
        if provider.primary or self.is_side or not is_prompt_too_long(outcome):
            return
        tokens = await self.run_aside(estimate, body)
        window = context_window.read_window(outcome, tokens)
        if window is not None:
            now = self.services.breakers.clock()
            new = learned.learn(provider, context_window.RULE, self.model, window.text, now)
            self._change(provider, partial(context_window.remember_window, new=new, now=now))

    def _learn(self, provider: Provider, name: str, text: str) -> None:
        now = self.services.breakers.clock()
        lesson = learned.learn(provider, name, self.model, text, now)
        self._change(provider, partial(learned.remember, new=lesson, now=now))

    # --- What a refusal calls for ---

    def _may_repair(self, provider: Provider, outcome: Outcome) -> bool:
        """Whether the provider has refused the request itself."""
        if outcome.status is None:
            return False
        if outcome.fault is Fault.REQUEST or provider.primary:
            return outcome.fault is Fault.REQUEST
        return bool(outcome.message) and outcome.status in _HIDDEN.get(outcome.fault, ())

    def _has_full_form(self, provider: Provider, outcome: Outcome) -> bool:
        """Whether the request may have failed because it lacked steps of the plain form."""
        here = self._providers.get(provider.name)
        if here is None or here.full is None or outcome.status is None:
            return False
        return outcome.fault in _FAULTS_OF_A_TRIAL

    def _find(
        self, provider: Provider, refusal: Refusal | None, here: _ProviderRepairs
    ) -> tuple[str, Repaired, RequestDraft] | None:
        """The name of a repair, the repair, and the draft that was refused.

        Only a repair that changes what is sent: another one, or another provider, may help where
        the same bytes would be refused again.
        """
        assert here.prepared is not None
        before = with_quirks(provider, here.prepared)
        is_first = True
        for repair in self._candidates(provider, refusal, here, before):
            if is_first:
                here.refused.add(self._digest(provider, before))
                is_first = False
            digest = self._digest(provider, repair.repaired.draft)
            if not digest or digest in here.refused:
                continue
            here.pending.append(repair)
            here.changed = repair.steps or here.changed
            return repair.name, repair.repaired, before
        return None

    def _digest(self, provider: Provider, draft: RequestDraft) -> bytes:
        """A digest of the request that a draft becomes, credentials aside; empty if it can't be
        expressed in the provider's format."""
        wire = FORMATS[provider.format]
        if self.is_side and wire.counting is not None:
            wire = wire.counting
        if draft.quirks is not None:
            provider = replace(provider, quirks=draft.quirks)
        privacy, signatures = self.context.config.privacy, self.services.signatures
        try:
            request = wire.prepare(
                adapt_body(provider, draft.body, privacy, signatures),
                with_betas(self.context.headers, draft.betas),
                provider,
                None,
                via=self.services.via,
                betas=draft.betas,
            )
        except Unconvertible:
            return b""
        digest = sha256(request.body)
        digest.update(repr((request.url, request.headers)).encode())
        return digest.digest()

    def _candidates(
        self,
        provider: Provider,
        refusal: Refusal | None,
        here: _ProviderRepairs,
        before: RequestDraft,
    ) -> Iterator[_PendingRepair]:
        """The repairs that a refusal calls for, the best first. Without a refusal only the plain
        form is one, for a draft that lacked some of its steps."""
        if here.full is not None:
            # It lacked too many steps, or the provider is down. Either way it gets the plain form.
            full, here.full = here.full, None
            yield _PendingRepair(PLAIN_FORM, Repaired(full, "back to the plain form"))
            # The steps that it lacked change nothing for this provider.
            here.left_out = frozenset()
        by_client = provider.primary and self.context.is_claude_code
        if refusal is None or (by_client and repaired_by_client(refusal)):
            return
        off = self.context.config.rectifiers.off
        # A repair after which the provider says the same again has repaired nothing.
        right = [each for each in here.pending if not _is_still_wrong(each, before, refusal)]
        is_known = len(right) < len(here.pending) or any(
            _trigger(name, before, refusal) is not None for name in off
        )
        here.pending = right
        skip = off | {name for name in here.names if here.names.count(name) >= _most_uses(name)}
        if provider.primary:
            skip |= CLIENTS_OWN
        # A repair may move something to where the provider is known to refuse it.
        lessons = (*here.applied, *(each.lesson for each in right if each.lesson is not None))
        for name, repaired in find_repairs(before, refusal, skip=skip):
            draft, _ = prevent(repaired.draft, lessons, skip=off)
            repaired = replace(repaired, draft=draft)
            yield _PendingRepair(name, repaired, _trigger(name, before, refusal))
        if is_known or provider.primary or self.is_side or PLAIN_FORM in off:
            return
        repair = self._make_plain_form(provider, refusal, here, before)
        if repair is not None:
            yield repair

    def _make_plain_form(
        self, provider: Provider, refusal: Refusal, here: _ProviderRepairs, before: RequestDraft
    ) -> _PendingRepair | None:
        if not plain_form.may_help(refusal):
            return None
        if here.changed:
            here.changed = ()
            now = self.services.breakers.clock()
            self.services.plain_form_refusals.add(provider, self.model, now)
            return None
        if self._is_hopeless(provider):
            return None
        draft, changed = plain_form.apply(before)
        if not changed or (refusal.status == 413 and not _is_much_smaller(draft, before)):
            return None
        repaired = Repaired(draft, f"reduced to the plain form: {', '.join(changed)}", "")
        return _PendingRepair(PLAIN_FORM, repaired, steps=changed)

    def _is_hopeless(self, provider: Provider) -> bool:
        now = self.services.breakers.clock()
        return self.services.plain_form_refusals.holds(provider, self.model, now)

    # --- Tools ---

    def _repairs_at(self, provider: Provider) -> _ProviderRepairs:
        here = self._providers.get(provider.name)
        if here is None:
            here = self._providers[provider.name] = _ProviderRepairs()
        return here

    async def run_aside(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that may walk the whole body, in a thread if that takes long."""
        if len(self.body.raw) >= LARGE:
            return await asyncio.to_thread(function, *args)
        return function(*args)

    def _log(self, event: events.Event, message: str) -> None:
        level = events.SIDE_LEVEL if self.is_side else None
        self.services.recorder.log(event, message, self.context.id, level)

    def _change(
        self,
        provider: Provider,
        change: Callable[[tuple[LearnedRejection, ...]], tuple[LearnedRejection, ...]],
    ) -> None:
        def apply(state: BreakerState) -> BreakerState:
            return msgspec.structs.replace(state, learned=change(state.learned))

        self.has_learned = True
        self.services.breakers.change(provider.name, apply)


def with_quirks(provider: Provider, draft: RequestDraft) -> RequestDraft:
    """The draft with the provider's quirks, if they decide how its request is written."""
    if not FORMATS[provider.format].has_quirks or draft.quirks is not None:
        return draft
    return replace(draft, quirks=provider.quirks)


def _trigger(name: str, draft: RequestDraft, refusal: Refusal) -> object:
    return trigger(BY_NAME.get(name, ()), draft, refusal)


def _is_still_wrong(repair: _PendingRepair, draft: RequestDraft, refusal: Refusal) -> bool:
    found = _trigger(repair.name, draft, refusal)
    return found is not None and found == repair.trigger


def _is_much_smaller(draft: RequestDraft, before: RequestDraft) -> bool:
    """Whether a request that was too large may now be small enough."""
    return len(draft.body.raw) < 0.9 * len(before.body.raw)


def _most_uses(name: str) -> int:
    return max((rule.most for rule in BY_NAME.get(name, ())), default=1)
