"""What happened since the server started, in plain numbers, for `/metrics`.

Every event passes through here, whether it is logged or not, so counting one costs no more than a
microsecond or two. Labels are names of providers and words of ours: nothing that a client chooses.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from ccfallback.events.records import CLIENT_LEFT, Event

NOBODY: Final = "none"
"""The provider of a request that none answered."""

LATENCY: Final = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0)
TTFT: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
"""Upper bounds of the histograms, in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A metric, as Prometheus is told of it. Each is there once, and is known by being itself."""

    name: str
    help: str
    labels: tuple[str, ...] = ("provider",)
    bounds: tuple[float, ...] = ()
    """Of a histogram; a counter has none."""


REQUESTS: Final = Metric(
    "ccfallback_requests_total",
    "Requests that ended, by who answered: answered, failed or client_left.",
    ("provider", "outcome", "status"),
)
ATTEMPTS: Final = Metric(
    "ccfallback_attempts_total",
    "Tries, by why they were made.",
    ("provider", "reason"),
)
FAILURES: Final = Metric(
    "ccfallback_attempt_failures_total",
    "Tries that failed, by what was wrong.",
    ("provider", "fault"),
)
FAILOVERS: Final = Metric(
    "ccfallback_failovers_total",
    "Tries at the next provider, by what was wrong with the one before.",
    ("provider", "fault"),
)
SKIPS: Final = Metric("ccfallback_skips_total", "Times that a provider was passed by.")
COOLDOWNS: Final = Metric("ccfallback_cooldowns_total", "Cooldowns that began.")
VALVES: Final = Metric(
    "ccfallback_safety_valve_total", "Times that a cooling provider was asked as the last one left."
)
REPAIRS: Final = Metric(
    "ccfallback_repairs_total",
    "Repairs of refused requests that the provider then took.",
    ("provider", "rectifier"),
)
TOKENS: Final = Metric(
    "ccfallback_tokens_total", "Tokens of answered requests.", ("provider", "kind")
)
REFUSED: Final = Metric(
    "ccfallback_refused_total", "Requests that were not let in: token, host or origin.", ()
)
DURATION: Final = Metric(
    "ccfallback_request_duration_seconds", "From request to end of the answer.", bounds=LATENCY
)
FIRST: Final = Metric(
    "ccfallback_time_to_first_token_seconds", "From request to first content.", bounds=TTFT
)

COUNTERS: Final = (
    REQUESTS,
    ATTEMPTS,
    FAILURES,
    FAILOVERS,
    SKIPS,
    COOLDOWNS,
    VALVES,
    REPAIRS,
    TOKENS,
    REFUSED,
)
HISTOGRAMS: Final = (DURATION, FIRST)

Labels = tuple[str, ...]

_KINDS: Final = (
    ("input", "input_tokens"),
    ("output", "output_tokens"),
    ("cache_read", "cache_read_tokens"),
    ("cache_write", "cache_write_tokens"),
)


class Histogram:
    """Counts of durations, by bounds in seconds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Each bound, as Prometheus writes it, and how many were not above it."""
        return zip((*map(repr, self.bounds), "+Inf"), accumulate(self.counts), strict=True)


class Counters:
    """Counts events."""

    def __init__(self) -> None:
        self.counts: dict[Metric, dict[Labels, int]] = {
            metric: defaultdict(int) for metric in COUNTERS
        }
        self.counts[REFUSED][()] = 0
        self.histograms: dict[Metric, dict[str, Histogram]] = {metric: {} for metric in HISTOGRAMS}

    def note(self, event: Event) -> None:
        """Count an event."""
        count = COUNTED.get(event.name)
        if count is not None:
            count(self, event)

    def _unanswered(self, data: Any) -> None:
        status = data.status
        outcome = "client_left" if status == CLIENT_LEFT else "failed"
        self.counts[REQUESTS][data.provider or NOBODY, outcome, str(status)] += 1

    def _answered(self, data: Any) -> None:
        self.counts[REQUESTS][data.provider, "answered", str(data.status)] += 1
        provider = data.provider
        self._took(DURATION, provider, data.latency)
        if data.ttft is not None:
            self._took(FIRST, provider, data.ttft)
        counts = self.counts[TOKENS]
        for kind, member in _KINDS:
            if count := getattr(data, member):
                counts[provider, kind] += count

    def _took(self, metric: Metric, provider: str, milliseconds: float) -> None:
        histogram = self.histograms[metric].get(provider)
        if histogram is None:
            histogram = self.histograms[metric][provider] = Histogram(metric.bounds)
        histogram.add(milliseconds / 1000)

    def _tried(self, data: Any) -> None:
        provider, reason, fault = data.provider, data.reason, data.after
        self.counts[ATTEMPTS][provider, reason] += 1
        if reason == "failover" and fault is not None:
            self.counts[FAILOVERS][provider, fault] += 1

    def _failed(self, data: Any) -> None:
        self.counts[FAILURES][data.provider, data.fault] += 1

    def _repaired(self, data: Any) -> None:
        self.counts[REPAIRS][data.provider, data.rectifier] += 1

    def _refused(self, _data: Any) -> None:
        self.counts[REFUSED][()] += 1


def _of_provider(metric: Metric) -> Callable[[Counters, Any], None]:
    def count(tally: Counters, data: Any) -> None:
        tally.counts[metric][data.provider,] += 1

    return count


COUNTED: Final[Mapping[str, Callable[[Counters, Any], None]]] = {
    "request.complete": Counters._answered,
    "request.error": Counters._unanswered,
    "provider.attempt": Counters._tried,
    "provider.failure": Counters._failed,
    "provider.timeout": Counters._failed,
    "circuit_breaker.skip": _of_provider(SKIPS),
    "circuit_breaker.cooldown": _of_provider(COOLDOWNS),
    "safety_valve.triggered": _of_provider(VALVES),
    "rectifier.applied": Counters._repaired,
    "auth.failure": Counters._refused,
}
