"""The breakers as one request sees them: whether a provider may be tried, and how it did."""

from typing import Final

from ccfallback.config.model import Provider
from ccfallback.events import records as events
from ccfallback.messages.tokens import Usage
from ccfallback.policy import breaker
from ccfallback.policy.breaker import CLOSED, BreakerState, Limits, Phase
from ccfallback.policy.failover import Admission
from ccfallback.policy.outcome import BLAME, Blame, Outcome
from ccfallback.server.breakers import Breakers
from ccfallback.server.record import milliseconds
from ccfallback.state.store import Breaker

LONGEST_MODEL: Final = 200
"""Characters of a model's name that are remembered; the client chooses the name."""


class RequestHealth:
    """The breakers as one request sees them; a `policy.failover.Health`.

    A provider has a breaker of its own and one for each model: both admit a request or it waits.
    """

    def __init__(
        self,
        breakers: Breakers,
        limits: Limits,
        model: str,
        request_id: str,
        *,
        is_side: bool = False,
    ) -> None:
        self._breakers = breakers
        self._model = model[:LONGEST_MODEL]
        self._id = request_id
        self._limits = limits
        self._level = events.SIDE_LEVEL if is_side else None
        self._began: dict[str, float] = {}
        self._slots: dict[str, tuple[Breaker, ...]] = {}
        self.skipped: dict[str, float] = {}
        """The skipped providers, and until when each is cooling down."""
        self.urgent = False
        """Whether a change has to be saved before the response ends."""

    def admission(self, provider: Provider) -> Admission:
        """Whether the provider may be tried for this model now."""
        name = provider.name
        if not self._limits.cooldowns or self.cooldown_end(name) is None:
            return Admission.OPEN
        phases = self._phases(name)
        if Phase.OPEN in phases.values():
            self._log_skip(provider, "is cooling down")
            return Admission.COOLING
        if any(self._breakers.slots.is_taken(each) for each in self._half_open(name)):
            self._log_skip(provider, "is being probed by another request")
            return Admission.BUSY
        return Admission.OPEN

    def cooldown_until(self, provider: Provider) -> float:
        """When the provider's cooldown for this model ends; 0 if it has none."""
        return self.cooldown_end(provider.name) or 0.0

    def cooldown_end(self, name: str) -> float | None:
        """When a provider's cooldown for this model ends; `None` if no breaker has opened.

        A cooldown that has ended stays there until a response closes the breaker.
        """
        own, for_model = self._states(name)
        if own.cooldown_until is None:
            return for_model.cooldown_until
        return max(own.cooldown_until, for_model.cooldown_until or 0.0)

    def begin(self, provider: Provider) -> None:
        """Remember when the attempts at the provider began, and take its probe slots."""
        name = provider.name
        self._began[name] = self._breakers.clock()
        if self.cooldown_end(name) is not None:
            self._slots[name] = self._breakers.slots.take(self._half_open(name))

    def settle(
        self, provider: Provider, outcome: Outcome | None, usage: Usage | None = None
    ) -> None:
        """Count the outcome and release the probe slots.

        A stream that has only begun releases the slots; it is counted by another call at its end.
        """
        name = provider.name
        if name in self._slots:
            self._breakers.slots.release(self._slots.pop(name))
        if outcome is None or (outcome.ok and not outcome.complete):
            return
        began = self._began.get(name, self._breakers.clock())
        if outcome.ok:
            self._count_success(name, began)
        elif BLAME[outcome.fault] is not Blame.NONE:
            self._count_failure(name, outcome, began)

    def _count_success(self, name: str, began: float) -> None:
        model, now = self._model, self._breakers.clock()
        was_open = self.cooldown_end(name) is not None
        # A breaker that was opened by hand has no failures.
        clean = not was_open and all(state.failures == 0 for state in self._states(name))
        self._breakers.change(
            name,
            lambda state: breaker.count_success(state, model=model, began=began, now=now),
            instead_of=(name, model) if clean else None,
        )
        if was_open and self.cooldown_end(name) is None:
            self._breakers.recorder.log(
                events.CircuitBreakerReset(provider=name, by="success"),
                f"{name} answers again",
                self._id,
            )
        if not clean:
            self.urgent = True

    def _count_failure(self, name: str, outcome: Outcome, began: float) -> None:
        model, now, limits = self._model, self._breakers.clock(), self._limits
        before = self.cooldown_end(name)
        self._breakers.change(
            name,
            lambda state: breaker.count_failure(
                state, outcome, model=model, began=began, now=now, limits=limits
            ),
        )
        self.urgent = True
        until = self.cooldown_end(name)
        if until is not None and until != before and until > now:
            self._log_cooldown(name, outcome, until)

    def _log_cooldown(self, name: str, outcome: Outcome, until: float) -> None:
        of_model = BLAME[outcome.fault] is Blame.MODEL
        own, for_model = self._states(name)
        failures = (for_model if of_model else own).failures
        seconds = until - self._breakers.clock()
        what = f"{name} for {self._model}" if of_model else name
        times = "once" if failures == 1 else f"{failures} times in a row"
        self._breakers.recorder.log(
            events.CircuitBreakerCooldown(
                provider=name,
                model=self._model if of_model else None,
                cooldown_until=milliseconds(until),
                seconds=round(seconds, 3),
                failures=failures,
                reason=outcome.reason,
                hint=outcome.hint or None,
            ),
            f"{what} cools down for {seconds:.0f} s: failed {times}, last with {outcome.reason}",
            self._id,
        )

    def _log_skip(self, provider: Provider, why: str) -> None:
        until = self.cooldown_until(provider)
        self.skipped[provider.name] = until
        own, for_model = self._states(provider.name)
        of_model = (for_model.cooldown_until or 0.0) > (own.cooldown_until or 0.0)
        state = for_model if of_model else own
        left = until - self._breakers.clock()
        when = f" for another {left:.0f} s" if left > 0 else ""
        self._breakers.recorder.log(
            events.CircuitBreakerSkip(
                provider=provider.name,
                cooldown_until=milliseconds(until),
                reason=state.reason,
                model=self._model if of_model else None,
                failures=state.failures,
                last_failure=milliseconds(state.last_failure),
                since=milliseconds(state.cooldown_began),
                probe=left <= 0,
            ),
            f"{provider.name} is skipped: it {why}{when}",
            self._id,
            self._level,
        )

    def _states(self, name: str) -> tuple[BreakerState, BreakerState]:
        """The state of the provider's own breaker, and that of its breaker for this model."""
        state = self._breakers.state(name)
        return state, state.models.get(self._model, CLOSED)

    def _phases(self, name: str) -> dict[Breaker, Phase]:
        own, for_model = self._states(name)
        now = self._breakers.clock()
        return {
            (name, ""): breaker.phase(own, now, self._limits),
            (name, self._model): breaker.phase(for_model, now, self._limits),
        }

    def _half_open(self, name: str) -> list[Breaker]:
        if not self._limits.cooldowns:
            return []
        return [each for each, phase in self._phases(name).items() if phase is Phase.HALF_OPEN]
