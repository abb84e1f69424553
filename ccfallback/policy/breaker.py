"""The circuit breaker: what failures do to a provider, and when it may be tried again.

    closed ──failures, a timeout, a torn answer, a reset hint──▶ open (cooldown)
      ▲                                                            │ time
      └──────────success────────── half-open ◀─────────────────────┘
                                       │ failure: counted, and perhaps open again

States are immutable; every function returns the next one. All times are Unix seconds, passed in.
A provider has one breaker for itself and one for each model. What concerns an account is counted
for the credential that was refused, which has such a pair of its own: another login is not
affected. `as_seen` is how the provider looks to one credential.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec.structs import replace

from ccfallback.config.model import Config, Provider
from ccfallback.policy.fingerprints import fingerprint, hash_keys
from ccfallback.policy.learned import LearnedRejection
from ccfallback.policy.outcome import BLAME, OF_ACCOUNT, Blame, Fault, Outcome

TIERS: Final = ((10, 300.0), (5, 60.0), (3, 30.0))
"""(at least so many failures in a row, seconds of cooldown), longest cooldown first."""

AT_ONCE: Final[Mapping[Fault, float]] = {
    Fault.CONNECT_TIMEOUT: 30.0,
    Fault.TIMEOUT: 30.0,
    Fault.TORN: 10.0,
    Fault.MODEL_TORN: 10.0,
}
"""Failures too expensive to wait for the third: seconds of cooldown from the first one on."""

NEXT_TRY: Final = 2.0
"""Seconds within which a client whose answer broke off tries again."""

MOST_MODELS: Final = 64
"""Models kept for each provider; the client chooses their names, so there is a limit."""

MOST_CREDENTIALS: Final = 32
"""Credentials kept for each provider; the client chooses them too."""

EARLY: Final = 900.0
"""Seconds: during a longer cooldown, one request may probe whenever so many have passed."""

BY_HAND: Final = "put in cooldown by hand"
"""The reason of a cooldown that a person began; no request probes it early."""


class Phase(Enum):
    """Which requests may try: all, none, or one probe at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Limits(msgspec.Struct, frozen=True):
    """The part of the configuration that a breaker needs; seconds."""

    max_cooldown: float = 300.0
    max_reset: float = 21600.0
    honor_reset: bool = True
    cooldowns: bool = True
    """False if no other provider is left to try: then failures are counted without a cooldown."""

    @classmethod
    def from_config(cls, config: Config) -> "Limits":
        """The limits that a configuration sets."""
        rules = config.breaker
        return cls(
            max_cooldown=rules.max_cooldown,
            max_reset=rules.max_reset,
            honor_reset=rules.honor_reset,
            cooldowns=config.cooldowns,
        )

    @property
    def horizon(self) -> float:
        """The longest possible cooldown."""
        return max(self.max_cooldown, self.max_reset)


_NO_PARTS: Final[Mapping[str, "BreakerState"]] = MappingProxyType({})


class BreakerState(msgspec.Struct, frozen=True):
    """The breaker of a provider, of one model there, or of one credential.

    A struct, because a failure makes ten of them.
    """

    failures: int = 0
    last_failure: float | None = None
    last_success: float | None = None
    cooldown_until: float | None = None
    cooldown_began: float | None = None
    reason: str | None = None
    probed: float | None = None
    """When a request last probed during the cooldown."""
    about: str | None = None
    """The fingerprint of what this is about; `None` if it is not known."""
    models: Mapping[str, "BreakerState"] = _NO_PARTS
    credentials: Mapping[str, "BreakerState"] = _NO_PARTS
    """What concerns one credential only, by its hash."""
    learned: tuple[LearnedRejection, ...] = ()
    """What the provider refuses. Not a failure, so nothing here changes it."""


CLOSED: Final = BreakerState()


def phase(state: BreakerState, now: float) -> Phase:
    """The phase of a breaker at a moment."""
    until = state.cooldown_until
    if until is None:
        return Phase.CLOSED
    return Phase.OPEN if until > now else Phase.HALF_OPEN


def may_probe_early(state: BreakerState, now: float) -> bool:
    """Whether a request may probe although the cooldown has not ended: a reset may come early."""
    until, began = state.cooldown_until, state.cooldown_began or state.last_failure
    if until is None or began is None or until <= now or state.reason == BY_HAND:
        return False
    last = max(began, state.last_failure or began, state.probed or began)
    return now - last >= EARLY


def note_probe(state: BreakerState, *, model: str, credential: str, now: float) -> BreakerState:
    """The state after an early probe has begun: the next one has to wait."""

    def note(part: BreakerState) -> BreakerState:
        part = replace(part, probed=now) if may_probe_early(part, now) else part
        if model in part.models and may_probe_early(part.models[model], now):
            part = with_model(part, model, replace(part.models[model], probed=now))
        return part

    state = note(state)
    if credential in state.credentials:
        state = with_credential(state, credential, note(state.credentials[credential]))
    return state


def as_seen(state: BreakerState, credential: str) -> BreakerState:
    """The state of a provider as a request with this credential meets it."""
    if not state.credentials:
        return state
    own = state.credentials.get(credential)
    return replace(state, credentials={}) if own is None else _merge(state, own)


def as_last_seen(state: BreakerState) -> BreakerState:
    """The state as the credential meets it that was used last; with one login, that one."""
    if not state.credentials:
        return state
    latest = max(state.credentials, key=lambda each: _last_used(state.credentials[each]))
    other_answered = _last_used(state.credentials[latest]) < (state.last_success or 0.0)
    return as_seen(state, "" if other_answered else latest)


def as_available(state: BreakerState, credentials: Iterable[str], now: float) -> BreakerState:
    """The state as the next request meets it, with the hashes of a provider's several keys.

    It is that of the first key that is available, or else of the one that is back first. Without
    such keys, that of the credential that was used last.
    """
    seen = [as_seen(state, credential) for credential in credentials]
    if not seen:
        return as_last_seen(state)
    ready = (each for each in seen if phase(each, now) is not Phase.OPEN)
    return next(ready, None) or min(seen, key=lambda each: each.cooldown_until or 0.0)


def as_next(
    state: BreakerState, provider: Provider, environ: Mapping[str, str], now: float
) -> BreakerState:
    """The state of a provider as the next request meets it, with whichever of its keys."""
    return as_available(state, hash_keys(provider.key, environ), now)


def _last_used(state: BreakerState) -> float:
    parts = (state, *state.models.values())
    return max(max(part.last_failure or 0.0, part.last_success or 0.0) for part in parts)


def _merge(state: BreakerState, own: BreakerState) -> BreakerState:
    """What concerns everyone together with what concerns one credential."""
    failed = max(state, own, key=lambda part: part.last_failure or 0.0)
    cooling = max(state, own, key=lambda part: part.cooldown_until or 0.0)
    successes = [part.last_success for part in (state, own) if part.last_success is not None]
    models = dict(state.models)
    for name, of_model in own.models.items():
        models[name] = _merge(models[name], of_model) if name in models else of_model
    return replace(
        state,
        failures=state.failures + own.failures,
        last_failure=failed.last_failure,
        last_success=max(successes, default=None),
        cooldown_until=cooling.cooldown_until,
        cooldown_began=cooling.cooldown_began,
        probed=cooling.probed,
        reason=failed.reason,
        models=models or state.models,
        credentials={},
    )


def count_failure(
    state: BreakerState,
    outcome: Outcome,
    *,
    model: str,
    began: float,
    now: float,
    limits: Limits,
    credential: str = "",
    has_others: bool = False,
) -> BreakerState:
    """The state after an attempt that began at `began` failed.

    Outcomes that are not the provider's fault change nothing. The cooldown is as long as all
    failures ask for that this credential has met, but it holds for the others only as far as
    theirs do. With `has_others` the provider has other keys, so this one may cool down even if no
    other provider is left to try.
    """
    blame = BLAME[outcome.fault]
    if blame is Blame.NONE:
        return state
    own = state.credentials.get(credential, CLOSED)
    of_model = blame is Blame.MODEL
    shared_part = state.models.get(model, CLOSED) if of_model else state
    own_part = own.models.get(model, CLOSED) if of_model else own
    began_last = max(shared_part.cooldown_began or 0.0, own_part.cooldown_began or 0.0)
    ends = max(shared_part.cooldown_until or 0.0, own_part.cooldown_until or 0.0)
    # An answer that broke off shows how the provider is now, however long ago it began. A cooldown
    # that is nearly over would not last until the client's next try.
    is_new = began > began_last or (outcome.fault in AT_ONCE and ends <= now + NEXT_TRY)
    may_open = limits.cooldowns and is_new
    if credential and outcome.fault in OF_ACCOUNT:
        may_open = is_new and (limits.cooldowns or has_others)
        own_part = _add_failure(own_part, outcome, now)
    else:
        shared_part = _add_failure(shared_part, outcome, now)
        if may_open:
            shared_part = _open(shared_part, shared_part.failures, outcome, now, limits)
    if own_part.failures:
        if may_open:
            failures = shared_part.failures + own_part.failures
            own_part = _open(own_part, failures, outcome, now, limits)
        own = with_model(own, model, own_part) if of_model else own_part
        state = with_credential(state, credential, own)
    if of_model:
        return with_model(state, model, shared_part) if shared_part is not CLOSED else state
    return replace(shared_part, credentials=state.credentials)


def _add_failure(state: BreakerState, outcome: Outcome, now: float) -> BreakerState:
    reason = outcome.reason or None
    return replace(state, failures=state.failures + 1, last_failure=now, reason=reason)


def _open(
    state: BreakerState, failures: int, outcome: Outcome, now: float, limits: Limits
) -> BreakerState:
    until = now + cooldown(failures, outcome.fault, limits)
    if limits.honor_reset and outcome.until is not None:
        until = max(until, min(outcome.until, now + limits.max_reset))
    if until <= now:
        return state
    until = max(until, state.cooldown_until or 0.0)
    return replace(state, cooldown_until=until, cooldown_began=now)


def cooldown(failures: int, fault: Fault, limits: Limits) -> float:
    """The seconds of cooldown after so many failures in a row, the last of this kind."""
    tier = next((length for least, length in TIERS if failures >= least), 0.0)
    return min(limits.max_cooldown, max(tier, AT_ONCE.get(fault, 0.0)))


def count_success(
    state: BreakerState, *, model: str, began: float, now: float, credential: str = ""
) -> BreakerState:
    """The state after an answer: closed, for the provider, for the model and for the credential.

    An answer whose attempt began before the cooldown does not close the breaker, and neither does
    an answer that is older than the last failure, which another server counted: they do not show
    how the provider is now.
    """
    own = state.credentials.get(credential)
    state = _close_with_model(state, model, began, now)
    if own is None:
        return state
    own = _close_with_model(own, model, began, now)
    if all(is_clean(part) for part in (own, *own.models.values())):
        # Nothing is left but when it failed, which is kept with what concerns everyone.
        others = {name: old for name, old in state.credentials.items() if name != credential}
        merged = _merge(state, own)
        models = dict(list(merged.models.items())[-MOST_MODELS:])
        return replace(merged, models=models, credentials=others)
    return with_credential(state, credential, own)


def is_clean(state: BreakerState) -> bool:
    """Whether this breaker itself has no failure and no cooldown."""
    return state.failures == 0 and state.cooldown_until is None


def has_no_trouble(state: BreakerState) -> bool:
    """Whether none of a provider's breakers has a failure or a cooldown, with any credential."""
    return is_clean(state) and not state.credentials and all(map(is_clean, state.models.values()))


def _close_with_model(state: BreakerState, model: str, began: float, now: float) -> BreakerState:
    models = state.models
    if model in models:
        models = {**models, model: _close(models[model], began, now)}
    return replace(_close(state, began, now), models=models)


def _close(state: BreakerState, began: float, now: float) -> BreakerState:
    in_flight = state.cooldown_began is not None and began <= state.cooldown_began
    if in_flight or (state.last_failure is not None and now < state.last_failure):
        return replace(state, last_success=max(now, state.last_success or now))
    return replace(
        state, failures=0, last_success=now, cooldown_until=None, cooldown_began=None, probed=None
    )


def reset(state: BreakerState) -> BreakerState:
    """The state as if the provider had never failed, for any model and credential.

    When it last answered and what it refuses are not failures, so they stay.
    """
    kept = BreakerState(last_success=state.last_success, learned=state.learned)
    return kept if kept == CLOSED else replace(kept, about=state.about)


def open_by_hand(state: BreakerState, *, until: float, now: float) -> BreakerState:
    """The state after a person opened the breaker."""
    return replace(state, cooldown_until=until, cooldown_began=now, reason=BY_HAND)


def with_model(state: BreakerState, model: str, of_model: BreakerState) -> BreakerState:
    """The state with another breaker for one model; of too many, the oldest failure is dropped."""
    return replace(state, models=_put(state.models, model, of_model, MOST_MODELS))


def with_credential(state: BreakerState, credential: str, own: BreakerState) -> BreakerState:
    """The state with other facts of a credential; of too many, the longest unused is dropped."""
    return replace(state, credentials=_put(state.credentials, credential, own, MOST_CREDENTIALS))


def _put(
    states: Mapping[str, BreakerState], name: str, new: BreakerState, most: int
) -> Mapping[str, BreakerState]:
    others = {each: old for each, old in states.items() if each != name}
    if len(others) >= most:
        del others[min(others, key=lambda each: _last_used(others[each]))]
    others[name] = new
    return others


# -- What is read


def valid_states(
    states: Mapping[str, BreakerState], config: Config, now: float
) -> dict[str, BreakerState]:
    """States as they enter memory: those about something else are closed, and times are possible.

    Nothing that comes later has to ask whether a state makes sense.
    """
    limits = Limits.from_config(config)
    providers = {provider.name: provider for provider in config.chain}
    return {
        name: with_possible_times(without_outdated(state, providers.get(name)), now, limits)
        for name, state in states.items()
    }


def without_outdated(state: BreakerState, provider: Provider | None) -> BreakerState:
    """The state without what is about another server, account or model than today's."""
    if provider is None:
        return state
    if state.about not in (None, fingerprint(provider)):
        return replace(CLOSED, learned=state.learned)

    def drop_models(state: BreakerState) -> BreakerState:
        models = {
            name: of_model
            for name, of_model in state.models.items()
            if of_model.about in (None, fingerprint(provider, name))
        }
        return state if len(models) == len(state.models) else replace(state, models=models)

    return _for_each_credential(drop_models, state)


def with_fingerprints(state: BreakerState, provider: Provider | None) -> BreakerState:
    """The state with the fingerprints of what it is about, where it has none."""
    if provider is None:
        return state
    if state.about is None:
        state = replace(state, about=fingerprint(provider))

    def mark_models(state: BreakerState) -> BreakerState:
        if all(of_model.about is not None for of_model in state.models.values()):
            return state
        models = {
            name: replace(of_model, about=of_model.about or fingerprint(provider, name))
            for name, of_model in state.models.items()
        }
        return replace(state, models=models)

    return _for_each_credential(mark_models, state)


def _for_each_credential(
    change: Callable[[BreakerState], BreakerState], state: BreakerState
) -> BreakerState:
    """Change what concerns everyone, and what concerns each credential, in the same way."""
    state = change(state)
    if not state.credentials:
        return state
    return replace(state, credentials={n: change(own) for n, own in state.credentials.items()})


def with_possible_times(state: BreakerState, now: float, limits: Limits) -> BreakerState:
    """The state without times that only a wrong clock can have written.

    A past event lies in the future if the clock was set back since: it was now at the latest, and
    its cooldown lasts as long from now as it did then.
    """
    until, began = state.cooldown_until, state.cooldown_began
    if until is not None and until - now > limits.horizon:
        until = began = None
    if began is not None and began > now:
        until = None if until is None else min(until, now + max(until - began, 0.0))
        began = now
    if until is not None and began is not None:
        until = min(until, began + limits.horizon)

    def to_past(when: float | None) -> float | None:
        if when is None or when <= now:
            return when
        return now if when - now <= limits.horizon else None

    def all_of(states: Mapping[str, BreakerState]) -> Mapping[str, BreakerState]:
        if not states:
            return states
        return {name: with_possible_times(each, now, limits) for name, each in states.items()}

    possible = replace(
        state,
        last_failure=to_past(state.last_failure),
        last_success=to_past(state.last_success),
        cooldown_until=until,
        cooldown_began=began,
        probed=to_past(state.probed),
        models=all_of(state.models),
        credentials=all_of(state.credentials),
    )
    # A store need not write again what is the same object.
    return state if possible == state else possible
