"""The breakers as one request sees them: whether a provider may be tried, and how it did."""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import partial
from math import inf
from time import monotonic
from typing import ClassVar, Final

import msgspec
from msgspec import UNSET

from ccfallback.config.model import Provider
from ccfallback.events import records as events
from ccfallback.events.records import milliseconds
from ccfallback.messages.tokens import Usage
from ccfallback.policy import breaker
from ccfallback.policy.breaker import CLOSED, BreakerState, Limits, Phase
from ccfallback.policy.error_response import format_wait
from ccfallback.policy.failover import Admission, Ask
from ccfallback.policy.outcome import BLAME, Blame, Outcome
from ccfallback.server.bill import Bill
from ccfallback.server.breakers import Breakers
from ccfallback.state.store import BreakerId

LONGEST_MODEL: Final = 200
"""Characters of a model's name that are remembered; the client chooses the name."""


class Obstacle(Enum):
    """Why a provider may not be tried now, in words."""

    COOLING = "is cooling down"
    PROBED = "is being probed by another request"
    WAS_COOLING = "was cooling down when the request came in"


FindCredential = Callable[[Provider], str]
"""The hash of the credential that a request shows to a provider."""


def _show_none(_provider: Provider) -> str:
    return ""


class RequestHealth(msgspec.Struct, eq=False):
    """The breakers as one request sees them; a `policy.failover.Health`.

    A provider has a breaker of its own and one for each model, and two such breakers for each
    credential that was refused, such as one of several keys. The provider is tried only if all of
    them admit the request. A struct, because every request makes one.
    """

    log_level: ClassVar[str | None] = None
    """The level of what is logged about skips, if it is not the event's own."""

    _breakers: Breakers
    _limits: Limits
    _model: str
    """No longer than `LONGEST_MODEL`."""
    _id: str
    find_credential: FindCredential = _show_none
    bill: Bill | None = None
    """It is there if a provider of the request has a cap."""
    arrived: float = inf
    """When the request came in, by the monotonic clock."""
    failed: frozenset[str] = frozenset()
    """The providers whose failure was counted."""
    urgent: bool = False
    """Whether a change has to be saved before the response ends."""
    _began: dict[str, float] = {}
    _slots: dict[str, tuple[BreakerId, ...]] = {}
    _lost: frozenset[str] = frozenset()
    """The providers that another server is probing."""
    _credentials: dict[str, str] = {}

    def admission(self, provider: Provider) -> Admission | Ask:
        """Whether the provider may be tried for this model now."""
        if self.cooldown_end(provider) is None:
            return Admission.OPEN
        obstacle = self.obstacle(provider)
        if obstacle is not None:
            self._log_skip(provider, obstacle.value)
            is_probed = obstacle is Obstacle.PROBED
            is_cooling = self._is_cooling(provider) if is_probed else obstacle is Obstacle.COOLING
            return Admission.COOLING if is_cooling else Admission.BUSY
        if self._breakers.shares_places and provider.label not in self._slots:
            half_open = self._half_open(provider)
            if half_open:
                return Ask(partial(self._take_places, provider, half_open))
        return Admission.OPEN

    def obstacle(self, provider: Provider) -> Obstacle | None:
        """Why the provider may not be tried for this model now."""
        if self.cooldown_end(provider) is None:
            return None
        if Phase.OPEN in self._phases(provider).values():
            return Obstacle.COOLING
        if provider.label in self._slots:
            return None
        taken = (self._breakers.slots.is_taken(each) for each in self._half_open(provider))
        if provider.label in self._lost or any(taken):
            return Obstacle.PROBED
        return Obstacle.WAS_COOLING if self._was_cooling(provider) else None

    async def _take_places(self, provider: Provider, half_open: list[BreakerId]) -> None:
        """Take the probe slots of a provider for this server, unless another one has them."""
        label = provider.label
        self._slots[label] = self._breakers.slots.take(half_open)
        is_taken = False
        try:
            is_taken = await self._breakers.take_places(half_open)
            # Perhaps another server's probe has failed meanwhile.
            is_taken = is_taken and Phase.OPEN not in self._phases(provider).values()
        finally:
            if not is_taken:
                self._lost |= {label}
                self._release(label)

    def _release(self, label: str) -> None:
        self._breakers.release(self._slots.pop(label, ()))

    def is_capped(self, provider: Provider) -> bool:
        """Whether the provider may not cost any more."""
        return self.bill is not None and self.bill.is_capped(provider)

    def cooldown_until(self, provider: Provider) -> float:
        """When the provider's cooldown for this model ends; 0 if it has none."""
        return self.cooldown_end(provider) or 0.0

    def cooldown_end(self, provider: Provider) -> float | None:
        """When a provider's cooldown for this model ends; `None` if no breaker has opened.

        A cooldown that has ended stays there until a response closes the breaker.
        """
        if provider.name not in self._breakers.troubled:
            return None
        own, for_model = self._states(provider)
        if own.cooldown_until is None:
            return for_model.cooldown_until
        return max(own.cooldown_until, for_model.cooldown_until or 0.0)

    def cooldowns(self, providers: Iterable[Provider]) -> dict[str, float]:
        """The ends of the cooldowns of these, by label, for those that are cooling down now."""
        ends = {each.label: self.cooldown_end(each) for each in providers}
        now = self._breakers.clock()
        return {label: end for label, end in ends.items() if end is not None and end > now}

    def begin(self, provider: Provider) -> None:
        """Remember when the attempts at the provider began, and take its probe slots."""
        name, breakers = provider.name, self._breakers
        now = self._began[provider.label] = breakers.clock()
        if self.bill is not None:
            self.bill.reserve(provider)
        if name not in breakers.troubled or self.cooldown_end(provider) is None:
            return
        half_open = self._half_open(provider)
        if provider.label not in self._slots:
            self._slots[provider.label] = breakers.slots.take(half_open)
        if half_open and self._is_cooling(provider):
            model, credential = self._model, self._credential(provider)
            breakers.change(
                name,
                lambda state: breaker.note_probe(
                    state, model=model, credential=credential, now=now
                ),
                instead_of=(name, model, credential, "probe"),
            )

    def settle(
        self, provider: Provider, outcome: Outcome | None, usage: Usage | None = None
    ) -> None:
        """Count the outcome and release the probe slots.

        A stream that has only begun releases the slots; it is counted by another call at its end.
        """
        label = provider.label
        if label in self._slots:
            self._release(label)
        if outcome is None or (outcome.ok and not outcome.complete):
            return
        began = self._began.get(label)
        if began is None:
            began = self._breakers.clock()
        if self.bill is not None and not outcome.ok and outcome.usage is None:
            self.bill.release(provider)
        if outcome.ok:
            self._count_success(provider, began)
        elif BLAME[outcome.fault] is not Blame.NONE:
            self._count_failure(provider, outcome, began)

    def _count_success(self, provider: Provider, began: float) -> None:
        breakers, name, model = self._breakers, provider.name, self._model
        count = partial(breaker.count_success, model=model, began=began, now=breakers.clock())
        if name in breakers.troubled:
            own, for_model = self._states(provider)
            was_open = own.cooldown_until is not None or for_model.cooldown_until is not None
            # A breaker that was opened by hand has no failures.
            if was_open or own.failures or for_model.failures:
                breakers.change(name, partial(count, credential=self._credential(provider)))
                self.urgent = True
                if was_open and self.cooldown_end(provider) is None:
                    self._log_reset(provider)
                return
        # Nothing is kept for this credential.
        breakers.note(name, count, (name, model))

    def _log_reset(self, provider: Provider) -> None:
        self._breakers.recorder.log(
            events.CircuitBreakerReset(
                provider=provider.name, key=provider.key.number or UNSET, by="success"
            ),
            f"{provider.label} answers again",
            self._id,
        )

    def _count_failure(self, provider: Provider, outcome: Outcome, began: float) -> None:
        self.failed |= {provider.name}
        name, model, credential = provider.name, self._model, self._credential(provider)
        now, limits = self._breakers.clock(), self._limits
        before = self.cooldown_end(provider)
        self._breakers.change(
            name,
            lambda state: breaker.count_failure(
                state,
                outcome,
                model=model,
                began=began,
                now=now,
                limits=limits,
                credential=credential,
                has_others=provider.key.number > 0,
            ),
        )
        self.urgent = True
        until = self.cooldown_end(provider)
        if until is not None and until != before and until > now:
            self._log_cooldown(provider, outcome, until)

    def _log_cooldown(self, provider: Provider, outcome: Outcome, until: float) -> None:
        label, of_model = provider.label, BLAME[outcome.fault] is Blame.MODEL
        own, for_model = self._states(provider)
        failures = (for_model if of_model else own).failures
        seconds = until - self._breakers.clock()
        what = f"{label} for {self._model}" if of_model else label
        count = "1 failure" if failures == 1 else f"{failures} failures in a row"
        self._breakers.recorder.log(
            events.CircuitBreakerCooldown(
                provider=provider.name,
                key=provider.key.number or UNSET,
                model=self._model if of_model else None,
                cooldown_until=milliseconds(until),
                seconds=round(seconds, 3),
                failures=failures,
                reason=outcome.reason,
                hint=outcome.hint or None,
            ),
            f"{what}: cooling down for {format_wait(seconds)} after {count}, "
            f"last with {outcome.reason}",
            self._id,
        )

    def _log_skip(self, provider: Provider, why: str) -> None:
        until = self.cooldown_until(provider)
        own, for_model = self._states(provider)
        of_model = (for_model.cooldown_until or 0.0) > (own.cooldown_until or 0.0)
        state = for_model if of_model else own
        left = until - self._breakers.clock()
        when = f" for another {format_wait(left)}" if left > 0 else ""
        self._breakers.recorder.log(
            events.CircuitBreakerSkip(
                provider=provider.name,
                key=provider.key.number or UNSET,
                cooldown_until=milliseconds(until),
                reason=state.reason,
                model=self._model if of_model else None,
                failures=state.failures,
                last_failure=milliseconds(state.last_failure),
                since=milliseconds(state.cooldown_began),
                probe=left <= 0,
            ),
            f"{provider.label} is skipped: it {why}{when}",
            self._id,
            self.log_level,
        )

    def _credential(self, provider: Provider) -> str:
        found = self._credentials.get(provider.label)
        if found is None:
            found = self._credentials[provider.label] = self.find_credential(provider)
        return found

    def _states(self, provider: Provider) -> tuple[BreakerState, BreakerState]:
        """The state of the provider's own breaker, and that of its breaker for this model."""
        state = self._breakers.quick_state(provider.name)
        if state.credentials:
            state = breaker.as_seen(state, self._credential(provider))
        return state, state.models.get(self._model, CLOSED)

    def _parts(self, provider: Provider) -> Mapping[BreakerId, BreakerState]:
        """The breakers that this request has to pass at a provider.

        The only provider has none but those of its keys, if it has several.
        """
        name, model = provider.name, self._model
        state, is_alone = self._breakers.quick_state(name), not self._limits.cooldowns
        parts: dict[BreakerId, BreakerState] = {}
        if not is_alone:
            parts[BreakerId(name)] = state
            parts[BreakerId(name, model)] = state.models.get(model, CLOSED)
        if state.credentials and (provider.key.number or not is_alone):
            credential = self._credential(provider)
            own = state.credentials.get(credential, CLOSED)
            parts[BreakerId(name, "", credential)] = own
            parts[BreakerId(name, model, credential)] = own.models.get(model, CLOSED)
        return parts

    def _phases(self, provider: Provider) -> dict[BreakerId, Phase]:
        """The phase of each breaker; one that may be probed early counts as half-open."""
        now = self._breakers.clock()
        return {
            each: Phase.HALF_OPEN
            if breaker.may_probe_early(state, now)
            else breaker.phase(state, now)
            for each, state in self._parts(provider).items()
        }

    def _is_cooling(self, provider: Provider) -> bool:
        return self.cooldown_until(provider) > self._breakers.clock()

    def _was_cooling(self, provider: Provider) -> bool:
        """Whether its cooldown has ended while the request waited for other providers in vain.

        Such a request does not probe while one is left that has not failed.
        """
        now, waited = self._breakers.clock(), monotonic() - self.arrived
        return now - waited < self.cooldown_until(provider) <= now

    def _half_open(self, provider: Provider) -> list[BreakerId]:
        phases = self._phases(provider).items()
        return [each for each, phase in phases if phase is Phase.HALF_OPEN]
