"""`ccfallback stats`: what the log says of the last hours, in numbers."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import typer

from ccfallback.cli.console import UNWRAPPED, Cell, Table
from ccfallback.cli.options import Json, make_app, parse_duration
from ccfallback.cli.phrases import (
    format_count,
    format_duration,
    format_latency,
    format_percent,
    pluralize,
)
from ccfallback.cli.session import session_of

if TYPE_CHECKING:
    from ccfallback.events.quantiles import QuantileSketch
    from ccfallback.events.stats import Answers, Part, ProviderStats, Stats

app = make_app()

Bars = Callable[[Sequence[float | None]], str]
Value = Callable[["Part"], float | None]

MOST_REASONS: Final = 10


@app.command("stats", epilog="Example: ccfallback stats --since 7d")
def stats(
    ctx: typer.Context,
    since: str = typer.Option("24h", metavar="DURATION", help="The last 90m, 24h, 7d."),
    as_json: Json = False,
) -> None:
    """Count requests, failures, latency and tokens of each provider.

    All of it is read from the log, so it reaches back as far as the log does. A request counts
    where it ends; one that the client gave up is neither answered nor failed.
    """
    from ccfallback.config.model import PRIMARY_NAME
    from ccfallback.events import stats as numbers
    from ccfallback.events.journal_reader import all_lines

    session = session_of(ctx)
    now = session.now()
    start = now - parse_duration(since, "--since")
    found = numbers.Stats(start, now, primary=PRIMARY_NAME)
    for line in all_lines(session.paths.log, since=start):
        found.add(line)
    console = session.console
    console.emit(
        numbers.document(found), lambda: _page(found, since, console.width, console.sparkline)
    )
    if not found.requests:
        console.say(f"nothing is counted; the log is {session.paths.log}")


def _page(stats: "Stats", since: str, width: int | None, bars: Bars) -> list[Table | str]:
    if not stats.requests and not stats.providers:
        return [f"last {since}: no request ended"]
    page: list[Table | str] = [
        _summary(stats, since),
        _requests(stats, width, bars),
        _speed(stats, width, bars),
        _tries(stats, width, bars),
    ]
    reasons = _reasons(stats)
    return [*page, reasons] if reasons.rows else page


def _summary(stats: "Stats", since: str) -> str:
    left = f", {pluralize(stats.left, 'client')} left" if stats.left else ""
    rates = format_percent(stats.success_rate), format_percent(stats.fallback_rate)
    return (
        f"last {since}: {pluralize(stats.requests, 'request')}, {rates[0]} answered, "
        f"{rates[1]} by a fallback{left}"
    )


def _requests(stats: "Stats", width: int | None, bars: Bars) -> Table:
    """All requests together, and how they went over time."""
    mean = stats.answers.latency.mean
    rows: list[Sequence[str]] = [
        ("requests", f"{stats.requests:,}"),
        ("failed", f"{stats.failed:,}"),
        ("mean latency", format_latency(None if mean is None else mean / 1000)),
    ]
    values = [_ended, _failed, _latency]
    lines = [(stats.parts, value) for value in values]
    length = stats.end - stats.start
    return _with_bars(
        rows,
        ("", "all"),
        lines,
        lambda n: f"{format_duration(length / n)} a letter",
        width,
        bars,
    )


def _speed(stats: "Stats", width: int | None, bars: Bars) -> Table:
    """How fast each provider answered."""
    rows = [(name, *_quantiles(each.answers)) for name, each in stats.ranked]
    lines = [(each.parts, _latency) for _, each in stats.ranked]
    header = ("latency of", "p50", "p95", "p99", "ttft p50", "p95", "p99")
    return _with_bars(rows, header, lines, lambda _: "latency", width, bars)


def _tries(stats: "Stats", width: int | None, bars: Bars) -> Table:
    """How often each provider was tried, and what came of it."""
    rows = [(name, *_counts(each)) for name, each in stats.ranked]
    lines = [(each.parts, _failed) for _, each in stats.ranked]
    header = ("tries of", "all", "failed", "answers", "tokens in", "out")
    return _with_bars(rows, header, lines, lambda _: "failed", width, bars)


def _with_bars(
    rows: Sequence[Sequence[str]],
    header: Sequence[str],
    lines: "Sequence[tuple[Sequence[Part], Value]]",
    title: Callable[[int], str],
    width: int | None,
    bars: Bars,
) -> Table:
    """A table with a sparkline at the end of each row, as fine as there is room for.

    Long names wrap rather than that it says nothing any more.
    """
    from ccfallback.events.stats import BUCKETS, folded

    names, *columns = (2 + max(map(len, column)) for column in zip(header, *rows, strict=True))
    left = BUCKETS if width is None else width - names - sum(columns)
    fine, rough, coarse = BUCKETS // 2, BUCKETS // 4, BUCKETS // 8
    if left < rough and left + max(0, names - UNWRAPPED) >= rough:
        left = rough
    letters = next((n for n in (BUCKETS, fine, rough) if n <= left), coarse)
    drawn = [bars([value(part) for part in folded(parts, letters)]) for parts, value in lines]
    return Table(
        [(*row, line) for row, line in zip(rows, drawn, strict=True)],
        (*header, title(letters)),
        right=frozenset(range(1, len(header))),
        whole=frozenset({len(header)}),
    )


def _ended(part: "Part") -> float | None:
    return part.ended


def _failed(part: "Part") -> float | None:
    return part.failed if part.ended else None


def _latency(part: "Part") -> float | None:
    return part.latency


def _counts(provider: "ProviderStats") -> tuple[str, ...]:
    tokens = provider.answers.tokens
    counts = (provider.attempts, provider.failures, provider.answers.count)
    return (*(f"{n:,}" for n in counts), format_count(tokens.prompt), format_count(tokens.output))


def _quantiles(answers: "Answers") -> tuple[str, ...]:
    from ccfallback.events.stats import QUANTILES

    return tuple(
        format_latency(_seconds(sketch, share))
        for sketch in (answers.latency, answers.ttft)
        for share in QUANTILES.values()
    )


def _reasons(stats: "Stats") -> Table:
    """Why tries failed, the most frequent first."""
    found = [
        (count, name, reason)
        for name, provider in stats.ranked
        for reason, count in provider.reasons.items()
    ]
    found.sort(key=lambda each: (-each[0], *each[1:]))
    rows: list[Sequence[Cell]] = [
        (f"{count:,}", name, reason) for count, name, reason in found[:MOST_REASONS]
    ]
    if rest := sum(count for count, _, _ in found[MOST_REASONS:]):
        rows.append((f"{rest:,}", "", "for other reasons"))
    return Table(rows, ("failed", "provider", "because of"), right=frozenset({0}))


def _seconds(sketch: "QuantileSketch", share: float) -> float | None:
    milliseconds = sketch.quantile(share)
    return None if milliseconds is None else milliseconds / 1000
