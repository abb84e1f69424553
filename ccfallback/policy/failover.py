"""The loop that tries providers until an outcome should reach the client.

`failover` is a generator: it yields the steps to do (`Try`, `Wait`, `Ask`), and is sent the
`Outcome` of each attempt. It never awaits, and is given its clock; its driver does the work. The
driver closes it when the client disconnects, and `finally` releases what it has reserved.

The primary is the first candidate and the safety valve is the last; every rule below is written
once and holds for all of them. A provider with several keys is a candidate with each of them: what
concerns an account moves on to its next key, everything else to the next provider.
"""

from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from enum import Enum, StrEnum
from typing import Final, Protocol

import msgspec

from ccfallback.addresses import LOOPBACK, address
from ccfallback.config.model import Failover, Provider
from ccfallback.messages.tokens import Usage
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.outcome import (
    OF_ACCOUNT,
    OWN_NETWORK,
    RETRYABLE,
    Fault,
    Outcome,
    fault_of_status,
)

NETWORK_PAUSE: Final = 0.5
"""Seconds between two rounds while this machine's network is down."""

BACKOFF_BASE: Final = 0.5
BACKOFF_MAX: Final = 8.0
"""Seconds before the first retry, and at most."""


class Reason(StrEnum):
    """Why an attempt is made; the log holds the value."""

    FIRST = "first"
    RETRY = "retry"
    RECTIFIED = "rectified"
    RENEWED = "renewed"
    """The provider refused a credential that has been renewed since."""
    FAILOVER = "failover"
    NEXT_KEY = "next-key"
    """The provider has refused another key of it for this request."""
    BUSY_PROBE = "busy-probe"
    """Another request is probing the provider, but no other candidate is left."""
    SAFETY_VALVE = "safety-valve"
    MORE_TIME = "more-time"
    """The provider was given up sooner than configured, but no other candidate has answered."""
    NETWORK_BACK = "network-back"
    """All hosts were unreachable a moment ago; perhaps this machine is online again."""


class Try(msgspec.Struct, frozen=True):
    """Send the request to the provider, and send back the outcome."""

    provider: Provider
    draft: RequestDraft
    reason: Reason


class Wait(msgspec.Struct, frozen=True):
    """Let some seconds pass."""

    seconds: float


class Ask(msgspec.Struct, frozen=True):
    """Await what other servers say; then it is known whether a provider may be tried."""

    call: Callable[[], Awaitable[None]]


Step = Try | Wait | Ask

Flow = Generator[Step, Outcome | None, Outcome | None]
"""Returns the outcome that the client gets, or `None` if all candidates failed."""


class Admission(Enum):
    """Whether a provider may be tried now."""

    OPEN = "open"
    BUSY = "busy"
    """Half-open, and another request is probing it."""
    COOLING = "cooling"


class Health(Protocol):
    """The breakers, as one request uses them."""

    def admission(self, provider: Provider) -> Admission | Ask:
        """Whether the provider may be tried, or what decides about it. Changes nothing."""

    def is_capped(self, provider: Provider) -> bool:
        """Whether it has cost as much as it may, so that not even the safety valve tries it."""

    def cooldown_until(self, provider: Provider) -> float:
        """When its cooldown ends, in Unix seconds."""

    def begin(self, provider: Provider) -> None:
        """Attempts at the provider begin; takes its probe slot if it is half-open."""

    def settle(
        self, provider: Provider, outcome: Outcome | None, usage: Usage | None = None
    ) -> None:
        """Count the outcome of all attempts at it, or nothing if `None`; releases the slot.

        A stream is settled twice: when it begins, which only releases the slot, and when it ends.
        `usage` is what the answer has cost, even if the outcome counts for nothing.
        """


Repair = Callable[
    [Provider, RequestDraft, Outcome, frozenset[str]], tuple[str, RequestDraft] | None
]
"""Repairs a refused request with a rectifier that is not used yet: its name and the new draft."""

Backoff = Callable[[int], float]
"""The seconds to wait before retry number n, from 1."""

IsFinal = Callable[[Outcome, Provider], bool]
"""Whether the client gets this outcome. An answer always reaches it."""


class Visit(msgspec.Struct, eq=False):
    """How far one request has come at a provider that has failed, with whichever of its keys."""

    draft: RequestDraft
    """The draft with all repairs so far."""
    used: frozenset[str] = frozenset()
    """The rectifiers that were tried."""
    refused: Outcome | None = None
    """The first refusal of the request itself."""
    retries: int = 0
    has_paused: bool = False
    """Whether it was tried again after a burst of requests."""
    hurried: Provider | None = None
    """The provider, with the key that was used, if it was given up sooner than configured."""
    is_over: bool = False
    """Whether it has failed in a way that no other key changes."""


def failover(
    draft: RequestDraft,
    providers: Iterable[Provider],
    health: Health,
    *,
    is_final: IsFinal,
    repair: Repair,
    backoff: Backoff,
    clock: Callable[[], float],
    network_wait: float = 0.0,
) -> Flow:
    """Try each candidate in turn until an outcome should reach the client.

    While this machine is offline, try all of them again. By the driver's `clock`, no round begins
    when `network_wait` seconds have passed since the first one began.
    """
    chain = tuple(providers)
    deadline = clock() + network_wait
    is_again = is_known_online = False
    while True:
        unreachable: list[tuple[Provider, Outcome]] = []
        visits: dict[str, Visit] = {}
        held: tuple[str, Outcome] | None = None
        tried = 0
        try:
            for provider, reason in candidates(chain, health, visits):
                if held is not None and held[0] != provider.name:
                    return held[1]
                if isinstance(reason, Ask):
                    yield reason
                    continue
                if is_again and not tried:
                    reason = Reason.NETWORK_BACK
                tried += 1
                health.begin(provider)
                visit = visits.get(provider.name)
                try:
                    outcome = yield Try(provider, visit.draft if visit else draft, reason)
                    assert outcome is not None, "the driver sends the outcome of each attempt"
                    if not outcome.ok:
                        visit = visits.setdefault(provider.name, Visit(draft))
                        outcome = yield from try_again(provider, visit, outcome, repair, backoff)
                except BaseException:
                    # The client has left.
                    health.settle(provider, None)
                    raise
                if outcome.ok:
                    health.settle(provider, outcome, outcome.usage)
                    if unreachable:
                        is_known_online |= shows_online(provider, outcome)
                    return outcome
                final, held = is_final(outcome, provider), None
                if final and provider.key.number and outcome.fault in OF_ACCOUNT:
                    # It is final only if the provider has no other key left.
                    held, final = (provider.name, outcome), False
                if not final and outcome.fault in OWN_NETWORK:
                    unreachable.append((provider, outcome))
                else:
                    # An error that the client has to handle is not the provider's failure.
                    health.settle(provider, None if final else outcome, outcome.usage)
                if unreachable or not final:
                    is_known_online |= shows_online(provider, outcome)
                if final:
                    return outcome
            if held is not None:
                return held[1]
        finally:
            offline = False
            if unreachable:
                offline = is_offline(unreachable, is_known_online=is_known_online)
                for provider, outcome in unreachable:
                    health.settle(provider, None if offline else outcome)
        left = deadline - clock()
        if not offline or len(unreachable) < tried or left <= 0:
            return None
        yield Wait(min(NETWORK_PAUSE, left))
        is_again = True


def candidates(
    providers: Iterable[Provider], health: Health, visits: Mapping[str, Visit]
) -> Iterator[tuple[Provider, Reason | Ask]]:
    """The admitted providers in order, then the busy ones, then the one that cools down soonest.

    Before that last one, those that were given up sooner than configured get another attempt.

    This is lazy because `admission` and `visits` may change before it is a provider's turn: a
    provider that fails with one key, for another reason than the key, is skipped with the others.
    """
    reason = Reason.FIRST
    busy: list[Provider] = []
    cooling: list[Provider] = []
    for provider in providers:
        if (visits and _is_over(provider, visits)) or health.is_capped(provider):
            continue
        admission = health.admission(provider)
        if isinstance(admission, Ask):
            yield provider, admission
            admission = health.admission(provider)
        match admission:
            case Admission.OPEN:
                yield provider, Reason.NEXT_KEY if provider.name in visits else reason
                reason = Reason.FAILOVER
            case Admission.BUSY:
                busy.append(provider)
            case Admission.COOLING:
                cooling.append(provider)
    for provider in busy:
        if not _is_over(provider, visits) and not health.is_capped(provider):
            yield provider, Reason.BUSY_PROBE
    for visit in tuple(visits.values()):
        if visit.hurried is not None and not health.is_capped(visit.hurried):
            yield visit.hurried, Reason.MORE_TIME
    cooling = [p for p in cooling if not _is_over(p, visits) and not health.is_capped(p)]
    if cooling:
        yield min(cooling, key=health.cooldown_until), Reason.SAFETY_VALVE


def _is_over(provider: Provider, visits: Mapping[str, Visit]) -> bool:
    visit = visits.get(provider.name)
    return visit is not None and visit.is_over


def try_again(
    provider: Provider, visit: Visit, outcome: Outcome, repair: Repair, backoff: Backoff
) -> Generator[Step, Outcome | None, Outcome]:
    """All further attempts at a provider with one key, after its first attempt has failed.

    They are repairs and retries. The visit goes on from what was done with the keys before. If a
    repaired request is refused as well, the outcome is the first refusal. A provider with several
    keys waits for no burst to end: the next key can be tried at once.
    """
    while not outcome.ok:
        visit.is_over = outcome.fault not in OF_ACCOUNT
        visit.hurried = provider if outcome.is_hasty else None
        if outcome.fault is Fault.REQUEST:
            visit.refused = visit.refused or outcome
            repaired = repair(provider, visit.draft, outcome, visit.used)
            if repaired is None:
                return visit.refused
            name, visit.draft = repaired
            visit.used |= {name}
            reason = Reason.RECTIFIED
        elif (
            outcome.fault in RETRYABLE and outcome.until is None and visit.retries < provider.retry
        ):
            visit.retries += 1
            yield Wait(backoff(visit.retries))
            reason = Reason.RETRY
        elif outcome.pause is not None and not visit.has_paused and not provider.key.number:
            visit.has_paused = True
            yield Wait(outcome.pause)
            reason = Reason.RETRY
        else:
            return outcome
        again = yield Try(provider, visit.draft, reason)
        assert again is not None, "the driver sends the outcome of each attempt"
        outcome = again
    return outcome


def backoff_seconds(retry: int, random: Callable[[], float]) -> float:
    """The seconds to wait before retry number `retry` (from 1).

    The wait doubles up to 8 seconds; half of it is jitter. `random` returns a number from 0 to 1.
    """
    ceiling = min(BACKOFF_MAX, BACKOFF_BASE * 2 ** (retry - 1))
    return float(ceiling * (0.5 + 0.5 * random()))


def shows_online(provider: Provider, outcome: Outcome) -> bool:
    """Whether an attempt shows that this machine is online: a distant host was reached.

    A refused connection was reached as well. The loopback interface always is.
    """
    answered = outcome.status is not None or outcome.fault in (
        Fault.NONE,
        Fault.TRANSPORT,
        Fault.TIMEOUT,
    )
    return answered and address(provider.base_url).host != LOOPBACK


def is_offline(unreachable: Sequence[tuple[Provider, Outcome]], *, is_known_online: bool) -> bool:
    """Whether this machine is offline: it is known, or two different hosts were unreachable.

    With `is_known_online`, another host was reached, so the unreachable ones are down themselves.
    The loopback interface needs no network, so a server there that is unreachable shows nothing.
    """
    if is_known_online or not unreachable:
        return False
    if any(outcome.fault is Fault.OWN_MACHINE for _, outcome in unreachable):
        return True
    hosts = {address(provider.base_url).host for provider, _ in unreachable}
    return len(hosts - {LOOPBACK}) > 1


def is_final(outcome: Outcome, provider: Provider, rules: Failover) -> bool:
    """The rule for the messages endpoint: an answer, or an error that the client can handle.

    Such an error is a refusal by the primary with a status outside the failover list, unless its
    body shows a fault that the client cannot fix, such as missing credit.
    """
    if outcome.ok or outcome.fault is Fault.LOGIN:
        return True
    status = outcome.status
    if not provider.primary or status is None or status < 400:
        return False
    if outcome.fault is not fault_of_status(status):
        # The body shows a fault behind the status, and the client cannot fix that one.
        return False
    return status not in rules.statuses


def is_answer(outcome: Outcome, _provider: Provider) -> bool:
    """The rule for side endpoints: only an answer reaches the client."""
    return outcome.ok
