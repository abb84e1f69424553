"""One way to count events, for `stats`, `top` and `/metrics` alike.

`Totals` counts the events of any time, and can be added to others. A `Summary` is a time cut into
equal parts, each with its totals. A request counts when it ends; one that the client gave up is
neither answered nor failed. Memory does not grow with the number of events: names that come from
a log are bounded.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Final, Generic, TypeVar

import msgspec

from ccfallback.events.distributions import Distribution, Histogram, QuantileSketch
from ccfallback.events.records import (
    AttemptFailure,
    AuthFailure,
    CircuitBreakerCooldown,
    CircuitBreakerSkip,
    Event,
    ProviderAttempt,
    ProviderSuccess,
    RectifierApplied,
    RequestComplete,
    RequestEnd,
    RequestError,
    RequestStart,
    SafetyValveTriggered,
    decode,
)

BUCKETS: Final = 48
"""Parts of a summary."""

MOST_NAMES: Final = 100
"""Names of a kind that are counted apart; all others are counted together, as `REST`."""

REST: Final = "(others)"

NO_PROVIDER: Final = "none"
"""Stands for the provider of a request that no provider answered."""

ANSWERED: Final = "answered"
FAILED: Final = "failed"
LEFT: Final = "client_left"

_WITHOUT_TOTALS: Final = frozenset({RequestStart, ProviderSuccess})
"""Events of every request that change no total: they need no look at each case."""

K = TypeVar("K", bound=object)
D = TypeVar("D", bound=Distribution)


class ProviderTotals(Generic[D]):
    """What happened at one provider."""

    def __init__(self, latency: D, ttft: D) -> None:
        self.attempts = Counter[str]()
        """Attempts by the reason for which they were made."""
        self.failovers = Counter[str]()
        """Failovers to it, by the fault of the provider before."""
        self.faults = Counter[str]()
        """Failed attempts by their fault."""
        self.reasons = Counter[str]()
        """Failed attempts by what went wrong, in words."""
        self.repairs = Counter[str]()
        """Repairs that it accepted, by rectifier."""
        self.skips = 0
        self.cooldowns = 0
        self.valves = 0
        self.uncounted = 0
        """Failed attempts that no breaker counts, because this machine's own network was down."""
        self.answers = 0
        self.latency = latency
        """Of its answers, in milliseconds, as `ttft` is."""
        self.ttft = ttft
        self.tokens = Counter[str]()
        """`input`, `output`, `cache_read`, `cache_write`."""
        self.dollars = 0.0
        """What its answers have cost, as far as prices are known."""

    @property
    def failures(self) -> int:
        """Failed attempts, before the commit point or after it."""
        return self.reasons.total()

    @property
    def prompt_tokens(self) -> int:
        """All tokens of the prompts, cached or not."""
        return self.tokens.total() - self.tokens["output"]

    @property
    def was_tried(self) -> bool:
        """Whether there was an attempt, or at least the end of one."""
        return bool(self.attempts or self.answers or self.reasons)

    def merge(self, other: "ProviderTotals[D]") -> None:
        """Add all that another one has counted."""
        for name in ("attempts", "failovers", "faults", "reasons", "repairs", "tokens"):
            mine, theirs = getattr(self, name), getattr(other, name)
            for key, count in theirs.items():
                _add(mine, key, REST, count)
        self.skips += other.skips
        self.cooldowns += other.cooldowns
        self.valves += other.valves
        self.uncounted += other.uncounted
        self.answers += other.answers
        self.dollars += other.dollars
        self.latency.merge(other.latency)
        self.ttft.merge(other.ttft)


class TokenTotals:
    """What happened to the requests with one access token."""

    def __init__(self) -> None:
        self.outcomes = Counter[str]()
        self.tokens = Counter[str]()
        """Of the answers: `input`, `output`, `cache_read`, `cache_write`."""
        self.dollars = 0.0

    def merge(self, other: "TokenTotals") -> None:
        """Add all that another one has counted."""
        self.outcomes.update(other.outcomes)
        self.tokens.update(other.tokens)
        self.dollars += other.dollars


class Totals(Generic[D]):
    """Counts events; `latency` and `ttft` make what counts durations."""

    def __init__(self, latency: Callable[[], D], ttft: Callable[[], D]) -> None:
        self._latency = latency
        self._ttft = ttft
        self.requests = Counter[tuple[str, str, int]]()
        """Requests that ended, by provider, outcome and status."""
        self.classes = Counter[tuple[str, str]]()
        """Requests that ended, by class and outcome; without those that have no class."""
        self.refused = 0
        self.providers: dict[str, ProviderTotals[D]] = {}
        self.access_tokens: dict[str, TokenTotals] = {}
        """By the label of the access token; empty without any."""

    def count(self, event: Event) -> None:
        """Count an event."""
        if type(event) in _WITHOUT_TOTALS:
            return
        match event:
            case ProviderAttempt():
                provider = self._provider(event.provider)
                _add(provider.attempts, event.reason, REST)
                if event.reason == "failover" and event.after is not None:
                    _add(provider.failovers, event.after, REST)
            case RequestComplete():
                self._end(event, ANSWERED)
                provider = self._provider(event.provider)
                provider.answers += 1
                if event.latency is not None:
                    provider.latency.add(event.latency)
                if event.ttft is not None:
                    provider.ttft.add(event.ttft)
                _add_tokens(provider.tokens, event)
            case RequestError():
                self._end(event, LEFT if event.client_left else FAILED)
            case AttemptFailure():
                provider = self._provider(event.provider)
                _add(provider.faults, event.fault, REST)
                _add(provider.reasons, event.reason or "unknown", REST)
            case RectifierApplied():
                _add(self._provider(event.provider).repairs, event.rectifier, REST)
            case CircuitBreakerSkip():
                self._provider(event.provider).skips += 1
            case CircuitBreakerCooldown():
                self._provider(event.provider).cooldowns += 1
            case SafetyValveTriggered():
                self._provider(event.provider).valves += 1
            case AuthFailure():
                self.refused += 1

    def merge(self, other: "Totals[D]") -> None:
        """Add all that another one has counted."""
        for (name, outcome, status), count in other.requests.items():
            _add(self.requests, (name, outcome, status), (REST, outcome, 0), count)
        for (name, outcome), count in other.classes.items():
            _add(self.classes, (name, outcome), (REST, outcome), count)
        self.refused += other.refused
        for name, provider in other.providers.items():
            self._provider(name).merge(provider)
        for name, token in other.access_tokens.items():
            self._access_token(name).merge(token)

    def count_ended(self, outcome: str) -> int:
        """How many requests ended like that."""
        return sum(count for key, count in self.requests.items() if key[1] == outcome)

    def _end(self, event: RequestEnd, outcome: str) -> None:
        if event.uncounted:
            for name, count in event.uncounted.items():
                self._provider(name).uncounted += count
        if event.cost:
            self._provider(event.provider).dollars += event.cost
        key = (event.provider or NO_PROVIDER, outcome, event.status or 0)
        _add(self.requests, key, (REST, outcome, 0))
        if event.token:
            token = self._access_token(event.token)
            token.outcomes[outcome] += 1
            token.dollars += event.cost or 0.0
            if outcome == ANSWERED:
                _add_tokens(token.tokens, event)
        if event.request_class:
            _add(self.classes, (event.request_class, outcome), (REST, outcome))

    def _access_token(self, name: str) -> TokenTotals:
        if name not in self.access_tokens and len(self.access_tokens) >= MOST_NAMES:
            name = REST
        return self.access_tokens.setdefault(name, TokenTotals())

    def _provider(self, name: str | None) -> ProviderTotals[D]:
        name = name or REST
        found = self.providers.get(name)
        if found is None:
            if len(self.providers) >= MOST_NAMES and name != REST:
                return self._provider(REST)
            found = self.providers[name] = ProviderTotals(self._latency(), self._ttft())
        return found


def _add_tokens(counts: Counter[str], event: RequestEnd) -> None:
    """Add the tokens that are known, by kind."""
    if event.input_tokens is not None:
        counts["input"] += event.input_tokens
    if event.output_tokens is not None:
        counts["output"] += event.output_tokens
    if event.cache_read_tokens is not None:
        counts["cache_read"] += event.cache_read_tokens
    if event.cache_write_tokens is not None:
        counts["cache_write"] += event.cache_write_tokens


def _add(counts: Counter[K], key: K, rest: K, count: int = 1) -> None:
    counts[key if key in counts or len(counts) < MOST_NAMES else rest] += count


LogTotals = Totals[QuantileSketch]


def log_totals() -> LogTotals:
    """Totals of records that were read from a log."""
    return Totals(QuantileSketch, QuantileSketch)


def metric_totals() -> Totals[Histogram]:
    """Totals for `/metrics`, with bounds in seconds."""
    latency = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0)
    ttft = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
    return Totals(partial(Histogram, latency), partial(Histogram, ttft))


class Part(msgspec.Struct, frozen=True):
    """What happened in one part of a time."""

    ended: int = 0
    failed: int = 0
    milliseconds: float = 0.0
    """Of all answers together."""

    @property
    def answered(self) -> int:
        """How many were answers."""
        return self.ended - self.failed

    @property
    def latency(self) -> float | None:
        """The latency of the average answer, in milliseconds; `None` if there was none."""
        return self.milliseconds / self.answered if self.answered else None


class Summary(msgspec.Struct, dict=True):
    """What happened in a time: `BUCKETS` parts of the same length, the oldest first."""

    since: float
    until: float
    slots: Sequence[LogTotals]

    @cached_property
    def total(self) -> LogTotals:
        """All parts together."""
        total = log_totals()
        for slot in self.slots:
            total.merge(slot)
        return total

    @cached_property
    def all_providers(self) -> ProviderTotals[QuantileSketch]:
        """All providers together."""
        found = ProviderTotals(QuantileSketch(), QuantileSketch())
        for provider in self.total.providers.values():
            found.merge(provider)
        return found

    @property
    def providers(self) -> dict[str, ProviderTotals[QuantileSketch]]:
        """Each provider's totals."""
        return self.total.providers

    @property
    def answered(self) -> int:
        """Requests that were answered."""
        return self.total.count_ended(ANSWERED)

    @property
    def failed(self) -> int:
        """Requests that were not."""
        return self.total.count_ended(FAILED)

    @property
    def left(self) -> int:
        """Requests whose client left."""
        return self.total.count_ended(LEFT)

    @property
    def requests(self) -> int:
        """Requests that ended."""
        return self.total.requests.total()

    @property
    def failovers(self) -> int:
        """Attempts at the next provider."""
        return sum(provider.attempts["failover"] for provider in self.providers.values())

    @property
    def success_rate(self) -> float | None:
        """The share of answered requests among those that the client waited for."""
        return _share(self.answered, self.answered + self.failed)

    def fallback_rate(self, primary: str) -> float | None:
        """The share of answers that did not come from the primary."""
        others = (each.answers for name, each in self.providers.items() if name != primary)
        return _share(sum(others), self.answered)

    @property
    def ranked(self) -> list[tuple[str, ProviderTotals[QuantileSketch]]]:
        """The providers that were tried, the one with the most answers and attempts first."""
        tried = (each for each in self.providers.items() if each[1].was_tried)
        return sorted(
            tried, key=lambda item: (-item[1].answers, -item[1].attempts.total(), item[0])
        )

    @property
    def classes(self) -> list[tuple[str, Counter[str]]]:
        """The requests of each class by their outcome, the most frequent class first."""
        found: dict[str, Counter[str]] = {}
        for (name, outcome), count in self.total.classes.items():
            found.setdefault(name, Counter())[outcome] += count
        return sorted(found.items(), key=lambda item: (-item[1].total(), item[0]))

    @property
    def access_tokens(self) -> list[tuple[str, TokenTotals]]:
        """The totals of each access token, the most frequent one first."""
        found = self.total.access_tokens.items()
        return sorted(found, key=lambda item: (-item[1].outcomes.total(), item[0]))

    def parts(self, provider: str | None = None, count: int = BUCKETS) -> list[Part]:
        """The time in `count` parts, which has to divide `BUCKETS`.

        They hold all requests, or answers and failed attempts of one `provider`.
        """
        each = [_part(slot, provider) for slot in self.slots]
        size = len(each) // count
        groups = (each[begin : begin + size] for begin in range(0, len(each), size))
        return [
            Part(
                sum(part.ended for part in group),
                sum(part.failed for part in group),
                sum(part.milliseconds for part in group),
            )
            for group in groups
        ]


def _part(slot: LogTotals, name: str | None) -> Part:
    if name is None:
        answers = sum(each.latency.total for each in slot.providers.values())
        failed = slot.count_ended(FAILED)
        return Part(slot.count_ended(ANSWERED) + failed, failed, answers)
    if (provider := slot.providers.get(name)) is None:
        return Part()
    failures = provider.failures
    return Part(provider.answers + failures, failures, provider.latency.total)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


_UNCOUNTED: Final = (b'"event":"request.start"', b'"event":"provider.success"')
"""What half of the lines say, as we write them. They count nowhere, so they are not decoded."""


class Stats:
    """Counts the lines of a log that were written from `start` to `end`, in Unix seconds."""

    def __init__(self, start: float, end: float) -> None:
        self._start = start
        self._end = max(end, start + 1e-3)
        self._slots = [log_totals() for _ in range(BUCKETS)]

    def add(self, line: bytes) -> None:
        """Count a line, in any order."""
        if _UNCOUNTED[0] in line or _UNCOUNTED[1] in line:
            return
        record = decode(line)
        if record is None or record.is_side or (when := record.written) is None:
            return
        if self._start <= when < self._end:
            share = (when - self._start) / (self._end - self._start)
            self._slots[min(int(share * BUCKETS), BUCKETS - 1)].count(record.data)

    def summary(self) -> Summary:
        """All that was counted."""
        return Summary(self._start, self._end, self._slots)
