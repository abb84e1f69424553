"""The loop that tries providers until an outcome should reach the client.

It is a conversation: `failover` yields the steps it wants done (`Try`, `Wait`) and is sent the
`Outcome` of each try. It never awaits and knows no clock; whoever drives it does the work. The
driver closes it when the client leaves, and `finally` frees what was reserved.

The primary is the first provider and the safety valve the last candidate; every rule below is
written once and holds for all of them.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Protocol

from ccfallback.addresses import address
from ccfallback.config.model import Failover, Provider
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.outcome import OWN_NETWORK, RETRYABLE, Fault, Outcome, fault_of_status

NETWORK_PAUSE: Final = 0.5
"""Seconds between two looks at whether this machine's network is back."""


class Reason(StrEnum):
    """Why a try is made; goes into the log as it is."""

    FIRST = "first"
    RETRY = "retry"
    RECTIFIED = "rectified"
    FAILOVER = "failover"
    BUSY_PROBE = "busy-probe"
    """Another request is probing the provider, but nobody else is left."""
    SAFETY_VALVE = "safety-valve"
    NETWORK_BACK = "network-back"
    """This machine was offline a moment ago; perhaps it no longer is."""


@dataclass(frozen=True, slots=True)
class Try:
    """Send the request to the provider, and say what came of it."""

    provider: Provider
    draft: RequestDraft
    reason: Reason


@dataclass(frozen=True, slots=True)
class Wait:
    """Let so many seconds pass."""

    seconds: float


Step = Try | Wait

Flow = Generator[Step, Outcome | None, Outcome | None]
"""Returns the outcome to hand to the client, or `None` when all failed."""


class Admission(Enum):
    """Whether a provider may be asked now."""

    OPEN = "open"
    BUSY = "busy"
    """Half-open, and another request is probing it."""
    COOLING = "cooling"


class Health(Protocol):
    """What one request asks and tells the breakers."""

    def admission(self, provider: Provider) -> Admission:
        """Whether the provider may be asked. Changes nothing."""

    def cooldown_until(self, provider: Provider) -> float:
        """When its cooldown ends, in Unix seconds."""

    def begin(self, provider: Provider) -> None:
        """A try is about to be made; takes the half-open place."""

    def settle(self, provider: Provider, outcome: Outcome | None) -> None:
        """What all tries at it came to, `None` if nobody is to blame. Frees the place."""


Repair = Callable[
    [Provider, RequestDraft, Outcome, frozenset[str]], tuple[str, RequestDraft] | None
]
"""A repair of a refused request, by one of the rectifiers not yet used: its name and the draft."""

Backoff = Callable[[int], float]
"""Seconds before the n-th retry, from 1."""

IsFinal = Callable[[Outcome, Provider], bool]
"""Whether an outcome is what the client gets."""


def failover(
    draft: RequestDraft,
    providers: Iterable[Provider],
    health: Health,
    *,
    is_final: IsFinal,
    repair: Repair,
    backoff: Backoff,
    network_wait: float = 0.0,
) -> Flow:
    """Ask each candidate in turn until an outcome should reach the client.

    While every failure is this machine's own network, ask again for `network_wait` seconds.
    """
    chain = tuple(providers)
    waited = 0.0
    while True:
        unreachable: list[tuple[Provider, Outcome]] = []
        asked = 0
        try:
            for provider, reason in candidates(chain, health):
                again = waited > 0 and asked == 0
                asked += 1
                health.begin(provider)
                outcome, final = None, False
                try:
                    first = Reason.NETWORK_BACK if again else reason
                    outcome = yield from ask(provider, draft, first, repair, backoff)
                    final = is_final(outcome, provider)
                finally:
                    if outcome is not None and outcome.fault in OWN_NETWORK and not final:
                        unreachable.append((provider, outcome))
                    else:
                        # A failure that the client is to deal with is no failure of the provider.
                        blamed = outcome is not None and (outcome.ok or not final)
                        health.settle(provider, outcome if blamed else None)
                if final:
                    return outcome
        finally:
            offline = bool(unreachable) and is_offline(unreachable)
            for provider, outcome in unreachable:
                health.settle(provider, None if offline else outcome)
        if not offline or len(unreachable) < asked or waited >= network_wait:
            return None
        pause = min(NETWORK_PAUSE, network_wait - waited)
        yield Wait(pause)
        waited += pause


def candidates(providers: Iterable[Provider], health: Health) -> Iterator[tuple[Provider, Reason]]:
    """Whoever is admitted, in order; then those that are being probed; at last one that cools.

    Lazy, because the answer of `admission` may be another one by the time a provider's turn comes.
    """
    reason = Reason.FIRST
    busy: list[Provider] = []
    cooling: list[Provider] = []
    for provider in providers:
        match health.admission(provider):
            case Admission.OPEN:
                yield provider, reason
                reason = Reason.FAILOVER
            case Admission.BUSY:
                busy.append(provider)
            case Admission.COOLING:
                cooling.append(provider)
    for provider in busy:
        yield provider, Reason.BUSY_PROBE
    if cooling:
        yield min(cooling, key=health.cooldown_until), Reason.SAFETY_VALVE


def ask(
    provider: Provider, draft: RequestDraft, reason: Reason, repair: Repair, backoff: Backoff
) -> Generator[Step, Outcome | None, Outcome]:
    """All tries of one request at one provider: repairs first, then retries.

    A repair that is refused as well leaves the first refusal standing.
    """
    refused: Outcome | None = None
    used: frozenset[str] = frozenset()
    retries = 0
    while True:
        outcome = yield Try(provider, draft, reason)
        assert outcome is not None, "a driver sends the outcome of each try"
        if outcome.fault is Fault.REQUEST:
            refused = refused or outcome
            repaired = repair(provider, draft, outcome, used)
            if repaired is None:
                return refused
            name, draft = repaired
            used |= {name}
            reason = Reason.RECTIFIED
        elif outcome.fault in RETRYABLE and outcome.until is None and retries < provider.retry:
            retries += 1
            yield Wait(backoff(retries))
            reason = Reason.RETRY
        else:
            return outcome


def is_offline(unreachable: Iterable[tuple[Provider, Outcome]]) -> bool:
    """Whether failures to reach anybody are this machine's own: two different hosts at once."""
    return len({address(provider.base_url).host for provider, _ in unreachable}) > 1


def is_final(rules: Failover) -> IsFinal:
    """The rule for the messages endpoint: an answer, or what the client has to deal with itself.

    That is a refusal by the primary with a status that is not in the failover list, unless its
    body tells of something else, such as money, that the client can do nothing about.
    """

    def check(outcome: Outcome, provider: Provider) -> bool:
        if outcome.fault in (Fault.NONE, Fault.LOGIN):
            return True
        status = outcome.status
        if not provider.primary or status is None or status < 400:
            return False
        # What the body says beyond the status is nothing that the client could mend.
        says_more = outcome.fault is not fault_of_status(status)
        return status not in rules.statuses and not says_more

    return check


def only_answers(outcome: Outcome, _provider: Provider) -> bool:
    """The rule for side endpoints: nothing but an answer reaches the client."""
    return outcome.ok
