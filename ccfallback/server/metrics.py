"""`GET /metrics`: what was counted and how things are now, for Prometheus.

prometheus-client writes the page; it is loaded at the first scrape, so that a server that nobody
scrapes neither starts later nor grows for it.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ccfallback import __version__
from ccfallback.config.model import Config
from ccfallback.events.counters import NOBODY, Histogram, Labels, Metric
from ccfallback.policy.breaker import Limits, Phase, phase, without_impossible_times
from ccfallback.server.client import Receive, Scope, Send, send_whole, send_wrong_method
from ccfallback.server.context import Services, get_context
from ccfallback.wire.headers import find

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client import Metric as Family

INFO: Final = Metric("ccfallback_info", "The version that runs; always 1.", ("version",))
STARTED: Final = Metric("ccfallback_start_time_seconds", "When it started, in Unix seconds.", ())
STATE: Final = Metric("ccfallback_breaker_state", "0: closed, 1: half-open, 2: open.")
FAILED: Final = Metric("ccfallback_breaker_failures", "Failures in a row.")
LEFT: Final = Metric("ccfallback_cooldown_seconds", "What is left of the cooldown; 0: none.")
ENABLED: Final = Metric("ccfallback_provider_enabled", "1: enabled, 0: disabled.")

GAUGES: Final = (INFO, STARTED, STATE, FAILED, LEFT, ENABLED)

PROCESS: Final = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
)
"""What prometheus-client says of the process, where there is /proc."""

_PHASES: Final[Mapping[Phase, int]] = {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}


class MetricsPage:
    """`/metrics`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._registry: CollectorRegistry | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape."""
        context, services = get_context(scope), self._services
        if scope["method"] not in ("GET", "HEAD"):
            await send_wrong_method(send, context.id, "GET, HEAD")
            return
        await services.breakers.refresh()
        accept = find(context.headers, b"accept") or ""
        if self._registry is None:
            # Streams go on while it is loaded.
            self._registry = await asyncio.to_thread(_registry, services)
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        page: bytes = encode(self._registry)
        await send_whole(send, 200, [(b"content-type", content_type.encode())], page)


def _registry(services: Services) -> "CollectorRegistry":
    """A registry of this server's own: there may be several in a process."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(services))
    ProcessCollector(registry=registry)
    return registry


class Collector:
    """Hands prometheus-client what there is, each time it asks."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> "Iterator[Family]":
        """Every metric, about the providers that are configured now."""
        services, config = self._services, self._services.live.current
        known = {provider.name for provider in config.chain} | {NOBODY}
        for metric, counts in services.tally.counts.items():
            yield _family("counter", metric, _about(counts, known))
        for metric, histograms in services.tally.histograms.items():
            yield _histogram(
                metric, {name: one for name, one in histograms.items() if name in known}
            )
        for metric, values in self._gauges(config, Limits.from_config(config)).items():
            yield _family("gauge", metric, values)

    def _gauges(self, config: Config, limits: Limits) -> dict[Metric, dict[Labels, float]]:
        services, now = self._services, self._services.breakers.clock()
        found: dict[Metric, dict[Labels, float]] = {metric: {} for metric in GAUGES}
        found[INFO][__version__,] = 1
        found[STARTED][()] = services.started
        for provider in config.chain:
            state = without_impossible_times(services.breakers.state(provider.name), now, limits)
            label = (provider.name,)
            found[STATE][label] = _PHASES[phase(state, now, limits)]
            found[FAILED][label] = state.failures
            found[LEFT][label] = max(0.0, (state.cooldown_until or 0.0) - now)
            found[ENABLED][label] = 0 if provider.disabled else 1
        return found


def _about(counts: Mapping[Labels, float], known: set[str]) -> dict[Labels, float]:
    return {labels: count for labels, count in counts.items() if not labels or labels[0] in known}


def _family(kind: str, metric: Metric, values: Mapping[Labels, float]) -> "Family":
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
        buckets = [*histogram.cumulative()]
        family.add_metric([provider], buckets=buckets, sum_value=histogram.total)
    return family
