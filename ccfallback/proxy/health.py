"""The breakers of the running server: what is in the state file, kept in memory, shared live.

The file is the truth and memory a cache of it. Every change is made to memory at once and to
whatever the file holds by then, so that a `breaker reset` and a failure never erase each other.
A failure is on the disk before its response ends; a success that changes nothing but a time of
day may wait a second.
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic, time
from typing import Final, Protocol

from ccfallback.core import breaker
from ccfallback.core.breaker import CLOSED, BreakerState, Phase, limits_of
from ccfallback.core.config import Config, Provider
from ccfallback.core.failover import Admission
from ccfallback.core.outcome import BLAME, Blame, Outcome
from ccfallback.errors import CcfallbackError
from ccfallback.proxy.record import Recorder, milliseconds

States = dict[str, BreakerState]
Change = Callable[[BreakerState], BreakerState]

NOTICE_PAUSE: Final = 60.0
"""Seconds between two complaints about a disk that does not take the state."""

LONGEST_MODEL: Final = 200
"""Letters of a model's name that are remembered: the client chooses it."""

MOST_PENDING: Final = 1000


class StateStore(Protocol):
    """The file, as the server uses it; the methods may block."""

    path: Path
    set_aside: Path | None

    def stamp(self) -> tuple[int, int, int] | None:
        """What changes when the file does."""

    def read(self) -> States:
        """What the file holds."""

    def update(self, change: Callable[[States], States]) -> States:
        """Change what the file holds, under its lock; returns the result."""


class Breakers:
    """All breakers of this server."""

    def __init__(
        self, store: StateStore, recorder: Recorder, clock: Callable[[], float] = time
    ) -> None:
        self._store = store
        self._stamp: tuple[int, int, int] | None = None
        self._pending: dict[object, tuple[str, Change]] = {}
        self._writing = asyncio.Lock()
        self._noticed = -NOTICE_PAUSE
        self.recorder = recorder
        self.clock = clock
        self.states: States = {}
        self.probing: set[tuple[str, str]] = set()

    def of(self, name: str) -> BreakerState:
        """What is known of a provider."""
        return self.states.get(name, CLOSED)

    async def refresh(self) -> None:
        """Take over what a command or another server has written."""
        stamp = self._store.stamp()
        if stamp == self._stamp:
            return
        states = await asyncio.to_thread(self._store.read)
        self._stamp = stamp
        if self._store.set_aside is not None:
            self.recorder.log(
                "error",
                "state.corrupt",
                f"the state file was not readable; it is kept as {self._store.set_aside}",
                path=str(self._store.set_aside),
            )
        self._take(states)

    def change(self, name: str, change: Change, *, instead_of: object = None) -> None:
        """Change a provider's state in memory, and in the file at the next flush.

        A change takes the place of a waiting one with the same `instead_of`.
        """
        self.states[name] = change(self.of(name))
        key = object() if instead_of is None else instead_of
        self._pending.pop(key, None)
        if len(self._pending) < MOST_PENDING:
            self._pending[key] = (name, change)

    async def flush(self) -> None:
        """Return when every change so far is in the file, or the disk has refused it."""
        if not self._pending and not self._writing.locked():
            return
        async with self._writing:
            changes, self._pending = self._pending, {}
            if not changes:
                return
            try:
                states = await asyncio.to_thread(self._store.update, _all_of(changes.values()))
            except (CcfallbackError, OSError) as error:
                self._pending = {**changes, **self._pending}
                self._notice(error)
                return
            self._stamp = self._store.stamp()
            self._take(states)

    def _take(self, states: States) -> None:
        self.states = dict(states)
        for name, change in self._pending.values():
            self.states[name] = change(self.of(name))

    def _notice(self, error: Exception) -> None:
        if monotonic() - self._noticed < NOTICE_PAUSE:
            return
        self._noticed = monotonic()
        self.recorder.log(
            "error", "state.error", f"the state can't be saved, going on from memory: {error}"
        )


def _all_of(changes: Iterable[tuple[str, Change]]) -> Callable[[States], States]:
    def apply(states: States) -> States:
        for name, change in changes:
            states[name] = change(states.get(name, CLOSED))
        return states

    return apply


class Turn:
    """The breakers as one request sees them; a `core.failover.Health`."""

    def __init__(self, breakers: Breakers, config: Config, model: str, request_id: str) -> None:
        self._breakers = breakers
        self._model = model[:LONGEST_MODEL]
        self._id = request_id
        self._limits = limits_of(config)
        self._began: dict[str, float] = {}
        self._places: dict[str, tuple[tuple[str, str], ...]] = {}
        self.skipped: dict[str, float] = {}
        """Who was passed by, and until when they cool down."""
        self.urgent = False
        """Whether something has to be in the file before the response ends."""

    def admission(self, provider: Provider) -> Admission:
        """Whether the provider may be asked for this model now."""
        if not self._limits.cooldowns:
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
        places = self._half_open(provider.name)
        self._places[provider.name] = tuple(p for p in places if p not in self._breakers.probing)
        self._breakers.probing.update(places)

    def settle(self, provider: Provider, outcome: Outcome | None) -> None:
        """Count what came of it, and free the place.

        A stream of which only the beginning is known frees the place and counts at its end, for
        which this is called again.
        """
        name = provider.name
        self._breakers.probing.difference_update(self._places.pop(name, ()))
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
        clean = before.failures == known.failures == 0
        self._breakers.change(
            name,
            lambda state: breaker.succeeded(state, model=model, began=began, now=now),
            instead_of=(name, model) if clean else None,
        )
        was_open = before.cooldown_until is not None or known.cooldown_until is not None
        if was_open and self.cooldown_of(name) is None:
            self._breakers.recorder.log(
                "info",
                "circuit_breaker.reset",
                f"{name} answers again",
                self._id,
                provider=name,
                by="success",
            )
        if was_open or not clean:
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
            "warn",
            "circuit_breaker.cooldown",
            f"{what} is left out for {seconds:.0f} s: failed {times}, last with {outcome.reason}",
            self._id,
            provider=name,
            model=self._model if scoped else None,
            cooldownUntil=milliseconds(until),
            seconds=round(seconds, 3),
            failures=failures,
            reason=outcome.reason,
        )

    def cooldown_of(self, name: str) -> float | None:
        """When a provider's cooldown for this model ends; `None` where none was set."""
        state = self._breakers.of(name)
        known = state.models.get(self._model, CLOSED)
        ends = [end for end in (state.cooldown_until, known.cooldown_until) if end is not None]
        return max(ends, default=None)

    def _phases(self, name: str) -> list[tuple[tuple[str, str], Phase]]:
        """The phase of the provider's breaker and of the model's there, each by its place."""
        state, now = self._breakers.of(name), self._breakers.clock()
        known = state.models.get(self._model, CLOSED)
        return [
            ((name, ""), breaker.phase(state, now, self._limits)),
            ((name, self._model), breaker.phase(known, now, self._limits)),
        ]

    def _half_open(self, name: str) -> list[tuple[str, str]]:
        if not self._limits.cooldowns:
            return []
        return [place for place, phase in self._phases(name) if phase is Phase.HALF_OPEN]

    def _skip(self, provider: Provider, why: str) -> None:
        until = self.cooldown_until(provider)
        self.skipped[provider.name] = until
        left = until - self._breakers.clock()
        when = f" for another {left:.0f} s" if left > 0 else ""
        self._breakers.recorder.log(
            "info",
            "circuit_breaker.skip",
            f"{provider.name} is passed by: it {why}{when}",
            self._id,
            provider=provider.name,
            cooldownUntil=milliseconds(until),
            reason=self._breakers.of(provider.name).reason,
        )
