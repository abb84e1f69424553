"""What the log says of a stretch of time, in numbers.

One pass over the lines, in any order, and memory that does not grow with their number: counts,
sums and quantile sketches only, and a bound on every name that came from elsewhere.

A request counts where it ends. One that the client gave up (499) is neither answered nor failed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from ccfallback.events.quantiles import QuantileSketch

BUCKETS: Final = 48
"""Parts that the time is cut into."""

MOST_NAMES: Final = 100
"""Providers, and reasons of each, that are told apart; the rest is counted together."""

REST: Final = "(others)"

CLIENT_LEFT: Final = 499

QUANTILES: Final[Mapping[str, float]] = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

_SILENT: Final = (b'"event":"request.start"', b'"event":"provider.success"')
"""What half of the lines say, as we write them; it need not be decoded to count for nothing."""


class Data(msgspec.Struct, rename="camel"):
    """The members that are counted."""

    provider: str | None = None
    status: int | None = None
    latency: float | None = None
    ttft: float | None = None
    attempts: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reason: str | None = None


class Record(msgspec.Struct):
    """A line of the log, as far as it counts."""

    timestamp: datetime
    event: str
    level: str = "info"
    data: Data = msgspec.field(default_factory=Data)


_DECODER: Final = msgspec.json.Decoder(Record)


@dataclass(slots=True)
class Tokens:
    """Tokens of a prompt and of its answer."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def prompt(self) -> int:
        """All of the prompt, whether it was in the cache or not."""
        return self.input + self.cache_read + self.cache_write

    def count(self, data: Data) -> None:
        """Count those of an answer."""
        self.input += data.input_tokens or 0
        self.output += data.output_tokens or 0
        self.cache_read += data.cache_read_tokens or 0
        self.cache_write += data.cache_write_tokens or 0


@dataclass(slots=True)
class Answers:
    """Answers: how long they took in milliseconds, and how many tokens they cost."""

    latency: QuantileSketch = field(default_factory=QuantileSketch)
    ttft: QuantileSketch = field(default_factory=QuantileSketch)
    tokens: Tokens = field(default_factory=Tokens)

    @property
    def count(self) -> int:
        """How many there were."""
        return self.latency.count

    def add(self, data: Data) -> None:
        """Count one."""
        self.latency.add(data.latency or 0.0)
        if data.ttft is not None:
            self.ttft.add(data.ttft)
        self.tokens.count(data)


@dataclass(slots=True)
class Part:
    """What happened in one part of the time."""

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
        """Of the average answer, in milliseconds; `None` where there was none."""
        return self.milliseconds / self.answered if self.answered else None

    def count(self, latency: float | None) -> None:
        """Count an answer that took so long, or a failure."""
        self.ended += 1
        if latency is None:
            self.failed += 1
        else:
            self.milliseconds += latency


def _parts() -> list[Part]:
    return [Part() for _ in range(BUCKETS)]


@dataclass(slots=True)
class ProviderStats:
    """One provider: its tries, and the answers that it gave."""

    attempts: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    answers: Answers = field(default_factory=Answers)
    parts: list[Part] = field(default_factory=_parts)
    """Answers and failed tries over time."""

    @property
    def failures(self) -> int:
        """How many tries failed, before the commit point or after it."""
        return self.reasons.total()


class Stats:
    """Counts lines of the log; `start` and `end` in Unix seconds."""

    def __init__(self, start: float, end: float, *, primary: str) -> None:
        self.start = start
        self.end = max(end, start + 1e-3)
        self.answers = Answers()
        self.failed = 0
        self.left = 0
        """Requests that the client gave up."""
        self.by_fallback = 0
        self.providers: dict[str, ProviderStats] = {}
        self.parts = _parts()
        """Requests over time."""
        self._primary = primary

    @property
    def requests(self) -> int:
        """How many have ended."""
        return self.answers.count + self.failed + self.left

    @property
    def success_rate(self) -> float | None:
        """The answered ones among those that their client waited for."""
        return _share(self.answers.count, self.answers.count + self.failed)

    @property
    def fallback_rate(self) -> float | None:
        """The answers that did not come from the primary among all answers."""
        return _share(self.by_fallback, self.answers.count)

    @property
    def ranked(self) -> list[tuple[str, ProviderStats]]:
        """The providers, the one with the most answers and tries first."""
        return sorted(
            self.providers.items(),
            key=lambda item: (-item[1].answers.count, -item[1].attempts, item[0]),
        )

    def add(self, line: bytes) -> None:
        """Count a line, if it is a record of something that counts, within the time."""
        if _SILENT[0] in line or _SILENT[1] in line:
            return
        try:
            record = _DECODER.decode(line)
            when = record.timestamp.timestamp()
        except (msgspec.DecodeError, ValueError, OverflowError, OSError, RecursionError):
            return
        # Side endpoints are logged as debug: nobody waits for them.
        if not self.start <= when < self.end or record.level == "debug":
            return
        part = int((when - self.start) / (self.end - self.start) * BUCKETS)
        self._count(record.event, record.data, min(part, BUCKETS - 1))

    def _count(self, event: str, data: Data, part: int) -> None:
        match event:
            case "request.complete":
                self.answers.add(data)
                self.parts[part].count(data.latency or 0.0)
                self.by_fallback += data.provider != self._primary
                provider = self._provider(data.provider)
                provider.answers.add(data)
                provider.parts[part].count(data.latency or 0.0)
            case "request.error" if data.status == CLIENT_LEFT:
                self.left += 1
            case "request.error":
                self.failed += 1
                self.parts[part].count(None)
            case "provider.attempt":
                self._provider(data.provider).attempts += 1
            case "provider.failure" | "provider.timeout":
                provider = self._provider(data.provider)
                provider.reasons[bounded(data.reason or "unknown", provider.reasons)] += 1
                provider.parts[part].count(None)

    def _provider(self, name: str | None) -> ProviderStats:
        name = bounded(name or REST, self.providers)
        if name not in self.providers:
            self.providers[name] = ProviderStats()
        return self.providers[name]


def bounded(name: str, known: Mapping[str, object]) -> str:
    """The name, or the one for all others where too many are told apart."""
    return name if name in known or len(known) < MOST_NAMES else REST


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def folded(parts: Sequence[Part], count: int) -> list[Part]:
    """The same time in fewer parts; `count` has to divide their number."""
    size = len(parts) // count
    return [
        Part(
            ended=sum(part.ended for part in group),
            failed=sum(part.failed for part in group),
            milliseconds=sum(part.milliseconds for part in group),
        )
        for group in (parts[begin : begin + size] for begin in range(0, len(parts), size))
    ]


def document(stats: Stats) -> dict[str, Any]:
    """The numbers as a script gets them: times in Unix milliseconds, durations in milliseconds."""
    length = (stats.end - stats.start) / BUCKETS
    return {
        "since": round(stats.start * 1000),
        "until": round(stats.end * 1000),
        "requests": stats.requests,
        "answered": stats.answers.count,
        "failed": stats.failed,
        "clientLeft": stats.left,
        "successRate": _rounded(stats.success_rate, 4),
        "fallbackRate": _rounded(stats.fallback_rate, 4),
        **_of_answers(stats.answers),
        "providers": [
            {
                "name": name,
                "attempts": provider.attempts,
                "failures": provider.failures,
                "answered": provider.answers.count,
                **_of_answers(provider.answers),
                "reasons": dict(provider.reasons.most_common()),
            }
            for name, provider in stats.ranked
        ],
        "buckets": [
            {
                "start": round((stats.start + number * length) * 1000),
                "answered": part.answered,
                "failed": part.failed,
                "latency": _rounded(part.latency, 1),
            }
            for number, part in enumerate(stats.parts)
        ],
    }


def _of_answers(answers: Answers) -> dict[str, Any]:
    tokens = answers.tokens
    return {
        "latency": quantiles(answers.latency),
        "ttft": quantiles(answers.ttft),
        "tokens": {
            "input": tokens.input,
            "output": tokens.output,
            "cacheRead": tokens.cache_read,
            "cacheWrite": tokens.cache_write,
        },
    }


def quantiles(sketch: QuantileSketch) -> dict[str, float | None]:
    """The quantiles that are shown everywhere."""
    return {name: _rounded(sketch.quantile(share), 1) for name, share in QUANTILES.items()}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
