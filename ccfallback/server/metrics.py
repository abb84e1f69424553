"""`GET /metrics`: what was counted since the start, and how things are now, for Prometheus.

prometheus-client writes the page. It is imported at the first scrape, so that a server without
Prometheus neither starts later nor grows for it. Labels are names of providers, notes of access
tokens and fixed words, never anything that a client chooses.
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ccfallback import __version__
from ccfallback.config.model import Config
from ccfallback.events.aggregate import NO_PROVIDER, REST, ProviderTotals, TokenTotals, Totals
from ccfallback.events.distributions import Histogram
from ccfallback.http1 import Receive, Scope, Send
from ccfallback.policy.breaker import Phase, as_next, phase
from ccfallback.server.client import send_whole
from ccfallback.server.context import Context
from ccfallback.server.endpoint import Endpoint
from ccfallback.server.services import Services
from ccfallback.wire.headers import find

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client import Metric as Family

Labels = tuple[str, ...]
Values = Mapping[Labels, float]


class Metric(msgspec.Struct, frozen=True, eq=False):
    """A metric, as Prometheus knows it."""

    name: str
    help: str
    labels: tuple[str, ...] = ("provider",)


ProviderCounts = ProviderTotals[Histogram]
Read = Callable[[Totals[Histogram]], Values]


def _by_provider(read: Callable[[ProviderCounts], float]) -> Read:
    """A count of each provider."""
    return lambda totals: {(name,): read(each) for name, each in totals.providers.items()}


def _by_label(read: Callable[[ProviderCounts], Mapping[str, int]]) -> Read:
    """Counts of each provider, by a second label."""
    return lambda totals: {
        (name, label): count
        for name, each in totals.providers.items()
        for label, count in read(each).items()
    }


def _by_token(read: Callable[[TokenTotals], Mapping[str, int]]) -> Read:
    """Counts of each access token, by a second label."""
    return lambda totals: {
        (name, label): count
        for name, each in totals.access_tokens.items()
        for label, count in read(each).items()
    }


def _requests(totals: Totals[Histogram]) -> Values:
    counts = totals.requests.items()
    return {(name, outcome, str(status)): count for (name, outcome, status), count in counts}


COUNTERS: Final[Mapping[Metric, Read]] = {
    Metric(
        "ccfallback_requests_total",
        "Requests that ended, by the provider that answered: answered, failed or client_left.",
        ("provider", "outcome", "status"),
    ): _requests,
    Metric(
        "ccfallback_attempts_total",
        "Attempts, by why they were made.",
        ("provider", "reason"),
    ): _by_label(lambda each: each.attempts),
    Metric(
        "ccfallback_attempt_failures_total",
        "Attempts that failed, by their fault.",
        ("provider", "fault"),
    ): _by_label(lambda each: each.faults),
    Metric(
        "ccfallback_failovers_total",
        "Attempts at the next provider, by the fault of the one before.",
        ("provider", "fault"),
    ): _by_label(lambda each: each.failovers),
    Metric(
        "ccfallback_skips_total",
        "Times that a provider was skipped.",
    ): _by_provider(lambda each: each.skips),
    Metric(
        "ccfallback_cooldowns_total",
        "Cooldowns that began.",
    ): _by_provider(lambda each: each.cooldowns),
    Metric(
        "ccfallback_safety_valve_total",
        "Times that a provider was tried although it cooled down, because no other was left.",
    ): _by_provider(lambda each: each.valves),
    Metric(
        "ccfallback_repairs_total",
        "Repairs of refused requests that the provider then accepted.",
        ("provider", "rectifier"),
    ): _by_label(lambda each: each.repairs),
    Metric(
        "ccfallback_tokens_total",
        "Tokens of answered requests.",
        ("provider", "kind"),
    ): _by_label(lambda each: each.tokens),
    Metric(
        "ccfallback_cost_dollars_total",
        "US dollars that answers have cost, as far as prices are known.",
    ): _by_provider(lambda each: each.dollars),
    Metric(
        "ccfallback_refused_total",
        "Requests that were refused for their token, host or origin.",
        (),
    ): lambda totals: {(): totals.refused},
    Metric(
        "ccfallback_access_token_requests_total",
        "Requests that ended, by the access token of the client: answered, failed or client_left.",
        ("token", "outcome"),
    ): _by_token(lambda each: each.outcomes),
    Metric(
        "ccfallback_access_token_tokens_total",
        "Tokens of answered requests, by the access token of the client.",
        ("token", "kind"),
    ): _by_token(lambda each: each.tokens),
    Metric(
        "ccfallback_access_token_cost_dollars_total",
        "US dollars that requests with an access token have cost, as far as prices are known.",
        ("token",),
    ): lambda totals: {(name,): each.dollars for name, each in totals.access_tokens.items()},
}

HISTOGRAMS: Final[Mapping[Metric, Callable[[ProviderCounts], Histogram]]] = {
    Metric(
        "ccfallback_request_duration_seconds", "From the request to the end of the answer."
    ): lambda provider: provider.latency,
    Metric(
        "ccfallback_time_to_first_token_seconds", "From the request to the first content."
    ): lambda provider: provider.ttft,
}

INFO: Final = Metric("ccfallback_info", "The version that runs; always 1.", ("version",))
STARTED: Final = Metric("ccfallback_start_time_seconds", "When it started, in Unix seconds.", ())
STATE: Final = Metric("ccfallback_breaker_state", "0: closed, 1: half-open, 2: open.")
FAILED: Final = Metric("ccfallback_breaker_failures", "Consecutive failures.")
LEFT: Final = Metric("ccfallback_cooldown_seconds", "The rest of the cooldown; 0: none.")
ENABLED: Final = Metric("ccfallback_provider_enabled", "1: enabled, 0: disabled.")

USED: Final = Metric(
    "ccfallback_quota_utilization",
    "How far a window of the primary's plan is used, by the hash of the login; 1 is all of it.",
    ("provider", "login", "window"),
)
RESETS: Final = Metric(
    "ccfallback_quota_reset_time_seconds",
    "When a window of the primary's plan resets, in Unix seconds.",
    ("provider", "login", "window"),
)

GAUGES: Final = (INFO, STARTED, STATE, FAILED, LEFT, ENABLED, USED, RESETS)

PROCESS: Final = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
)
"""What prometheus-client knows of the process, on systems with /proc."""

_PHASES: Final[Mapping[Phase, int]] = {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}


class MetricsPage(Endpoint):
    """`/metrics`."""

    methods = ("GET", "HEAD")

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._registry: CollectorRegistry | None = None

    async def answer(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape."""
        services = self._services
        await services.breakers.refresh()
        accept = find(context.headers, b"accept") or ""
        if self._registry is None:
            # In a thread, so that streams go on meanwhile.
            self._registry = await asyncio.to_thread(_registry, services)
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        with services.recorder.settled():
            page: bytes = encode(self._registry)
        await send_whole(send, 200, [(b"content-type", content_type.encode())], page)


def _registry(services: Services) -> "CollectorRegistry":
    """A registry of this server's own: a process may have several servers."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(services))
    ProcessCollector(registry=registry)
    return registry


class Collector:
    """Reads all metrics, each time that prometheus-client asks."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> "Iterator[Family]":
        """Every metric, of the providers that are configured now."""
        services, config = self._services, self._services.live.current
        totals = services.totals
        known = {provider.name for provider in config.chain} | {NO_PROVIDER, REST}
        tokens = {token.label for token in config.tokens} | {REST}
        shown: dict[Labels, set[str]] = {(): set(), ("provider",): known, ("token",): tokens}
        for metric, count in COUNTERS.items():
            yield _family("counter", metric, _select(count(totals), shown[metric.labels[:1]]))
        providers = {name: each for name, each in totals.providers.items() if name in known}
        for metric, read in HISTOGRAMS.items():
            histograms = {name: read(each) for name, each in providers.items()}
            yield _histogram(metric, histograms)
        for metric, values in self._gauges(config).items():
            yield _family("gauge", metric, values)

    def _gauges(self, config: Config) -> dict[Metric, dict[Labels, float]]:
        services, now = self._services, self._services.breakers.clock()
        found: dict[Metric, dict[Labels, float]] = {metric: {} for metric in GAUGES}
        found[INFO][__version__,] = 1
        found[STARTED][()] = services.started
        for provider in config.chain:
            state = as_next(services.breakers.state(provider.name), provider, os.environ, now)
            label = (provider.name,)
            found[STATE][label] = _PHASES[phase(state, now)]
            found[FAILED][label] = state.failures
            found[LEFT][label] = max(0.0, (state.cooldown_until or 0.0) - now)
            found[ENABLED][label] = 0 if provider.disabled else 1
        for report in services.quotas.reports(config):
            for window in report.windows:
                labels = (config.primary.name, report.login, window.window)
                if window.utilization is not None:
                    found[USED][labels] = window.utilization
                if window.resets_at is not None:
                    found[RESETS][labels] = window.resets_at / 1000
        return found


def _select(counts: Values, known: set[str]) -> Values:
    """The counts with labels that may be shown, as far as they are above 0; and without labels."""
    return {
        labels: count
        for labels, count in counts.items()
        if not labels or (count and labels[0] in known)
    }


def _family(kind: str, metric: Metric, values: Values) -> "Family":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    make: Callable[..., Any] = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    family: Family = make(metric.name, metric.help, labels=metric.labels)
    add: Callable[..., None] = family.add_metric  # type: ignore[attr-defined]  # of both kinds
    for labels, value in values.items():
        add(labels, value)
    return family


def _histogram(metric: Metric, histograms: Mapping[str, Histogram]) -> "Family":
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for provider, histogram in histograms.items():
        if not any(histogram.counts):
            continue
        buckets = [*histogram.cumulative()]
        family.add_metric([provider], buckets=buckets, sum_value=histogram.total / 1000)
    return family
