"""The breakers as one request sees them: who may be asked, and what came of it."""

from typing import Final

from ccfallback.config.model import Provider
from ccfallback.events import records as events
from ccfallback.policy import breaker
from ccfallback.policy.breaker import CLOSED, Limits, Phase
from ccfallback.policy.failover import Admission
from ccfallback.policy.outcome import BLAME, Blame, Outcome
from ccfallback.server.breakers import Breakers
from ccfallback.server.record import milliseconds

LONGEST_MODEL: Final = 200
"""Letters of a model's name that are remembered: the client chooses it."""


class RequestHealth:
    """The breakers as one request sees them; a `core.failover.Health`."""

    def __init__(self, breakers: Breakers, limits: Limits, model: str, request_id: str) -> None:
        self._breakers = breakers
        self._model = model[:LONGEST_MODEL]
        self._id = request_id
        self._limits = limits
        self._began: dict[str, float] = {}
        self._places: dict[str, tuple[tuple[str, str], ...]] = {}
        self.skipped: dict[str, float] = {}
        """Who was passed by, and until when they cool down."""
        self.urgent = False
        """Whether something has to be in the file before the response ends."""

    def admission(self, provider: Provider) -> Admission:
        """Whether the provider may be asked for this model now."""
        if not self._limits.cooldowns or not self._was_out(provider.name):
            return Admission.OPEN
        phases = [phase for _, phase in self._phases(provider.name)]
        if Phase.OPEN in phases:
            self._skip(provider, "cools down")
            return Admission.COOLING
        if any(place in self._breakers.probing for place in self._half_open(provider.name)):
            self._skip(provider, "is being probed by another request")
            return Admission.BUSY
        return Admission.OPEN

    def cooldown_until(self, provider: Provider) -> float:
        """When the provider serves this model again: 0 when it does."""
        state = self._breakers.of(provider.name)
        known = state.models.get(self._model, CLOSED)
        return max(state.cooldown_until or 0.0, known.cooldown_until or 0.0)

    def begin(self, provider: Provider) -> None:
        """Note when the request went there, and take the half-open place."""
        self._began[provider.name] = self._breakers.clock()
        if not self._was_out(provider.name):
            return
        places = self._half_open(provider.name)
        self._places[provider.name] = tuple(p for p in places if p not in self._breakers.probing)
        self._breakers.probing.update(places)

    def settle(self, provider: Provider, outcome: Outcome | None) -> None:
        """Count what came of it, and free the place.

        A stream of which only the beginning is known frees the place and counts at its end, for
        which this is called again.
        """
        name = provider.name
        if name in self._places:
            self._breakers.probing.difference_update(self._places.pop(name))
        if outcome is None or (outcome.ok and not outcome.complete):
            return
        began = self._began.get(name, self._breakers.clock())
        if outcome.ok:
            self._succeeded(name, began)
        elif BLAME[outcome.fault] is not Blame.NOBODY:
            self._failed(name, outcome, began)

    def _succeeded(self, name: str, began: float) -> None:
        model, now = self._model, self._breakers.clock()
        before = self._breakers.of(name)
        known = before.models.get(model, CLOSED)
        was_open = before.cooldown_until is not None or known.cooldown_until is not None
        # One that was put in cooldown by hand has failed at nothing.
        clean = before.failures == known.failures == 0 and not was_open
        self._breakers.change(
            name,
            lambda state: breaker.succeeded(state, model=model, began=began, now=now),
            instead_of=(name, model) if clean else None,
        )
        if was_open and self.cooldown_of(name) is None:
            self._breakers.recorder.log(
                events.CircuitBreakerReset(provider=name, by="success"),
                f"{name} answers again",
                self._id,
            )
        if not clean:
            self.urgent = True

    def _failed(self, name: str, outcome: Outcome, began: float) -> None:
        model, now, limits = self._model, self._breakers.clock(), self._limits
        before = self.cooldown_of(name)
        self._breakers.change(
            name,
            lambda state: breaker.failed(
                state, outcome, model=model, began=began, now=now, limits=limits
            ),
        )
        self.urgent = True
        until = self.cooldown_of(name)
        if until is not None and until != before and until > now:
            self._log_cooldown(name, outcome, until)

    def _log_cooldown(self, name: str, outcome: Outcome, until: float) -> None:
        scoped = BLAME[outcome.fault] is Blame.MODEL
        state = self._breakers.of(name)
        failures = (state.models.get(self._model, CLOSED) if scoped else state).failures
        seconds = until - self._breakers.clock()
        what = f"{name} for {self._model}" if scoped else name
        times = "once" if failures == 1 else f"{failures} times in a row"
        self._breakers.recorder.log(
            events.CircuitBreakerCooldown(
                provider=name,
                model=self._model if scoped else None,
                cooldown_until=milliseconds(until),
                seconds=round(seconds, 3),
                failures=failures,
                reason=outcome.reason,
                hint=outcome.hint or None,
            ),
            f"{what} cools down for {seconds:.0f} s: failed {times}, last with {outcome.reason}",
            self._id,
        )

    def cooldown_of(self, name: str) -> float | None:
        """When a provider's cooldown for this model ends; `None` where none was set."""
        state = self._breakers.of(name)
        known = state.models.get(self._model, CLOSED)
        ends = [end for end in (state.cooldown_until, known.cooldown_until) if end is not None]
        return max(ends, default=None)

    def _phases(self, name: str) -> list[tuple[tuple[str, str], Phase]]:
        """The phase of the provider's breaker and of the model's there, each by its place."""
        if not self._was_out(name):
            return []
        state = self._breakers.of(name)
        known = state.models.get(self._model, CLOSED)
        now = self._breakers.clock()
        return [
            ((name, ""), breaker.phase(state, now, self._limits)),
            ((name, self._model), breaker.phase(known, now, self._limits)),
        ]

    def _was_out(self, name: str) -> bool:
        """Whether a cooldown was set that no answer has ended yet."""
        state = self._breakers.of(name)
        known = state.models.get(self._model, CLOSED)
        return state.cooldown_until is not None or known.cooldown_until is not None

    def _half_open(self, name: str) -> list[tuple[str, str]]:
        if not self._limits.cooldowns:
            return []
        return [place for place, phase in self._phases(name) if phase is Phase.HALF_OPEN]

    def _skip(self, provider: Provider, why: str) -> None:
        until = self.cooldown_until(provider)
        self.skipped[provider.name] = until
        state = self._breakers.of(provider.name)
        known = state.models.get(self._model, CLOSED)
        of_model = (known.cooldown_until or 0.0) > (state.cooldown_until or 0.0)
        holding = known if of_model else state
        left = until - self._breakers.clock()
        when = f" for another {left:.0f} s" if left > 0 else ""
        self._breakers.recorder.log(
            events.CircuitBreakerSkip(
                provider=provider.name,
                cooldown_until=milliseconds(until),
                reason=holding.reason,
                model=self._model if of_model else None,
                failures=holding.failures,
                last_failure=milliseconds(holding.last_failure),
                since=milliseconds(holding.cooldown_began),
                probe=until <= self._breakers.clock(),
            ),
            f"{provider.name} is skipped: it {why}{when}",
            self._id,
        )
