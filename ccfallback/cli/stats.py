"""`ccfallback stats`: requests, failures, latency and tokens of the last hours, from the log."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import typer

from ccfallback.cli.console import UNWRAPPED, Cell, Table
from ccfallback.cli.options import Json, make_app, parse_since
from ccfallback.cli.phrases import (
    draw_sparkline,
    format_count,
    format_duration,
    format_latency,
    format_percent,
)
from ccfallback.cli.requests_view import describe_uncounted
from ccfallback.cli.session import session_of
from ccfallback.printable import printable
from ccfallback.words import pluralize

if TYPE_CHECKING:
    from collections import Counter

    from ccfallback.events.aggregate import Part, ProviderTotals, Summary
    from ccfallback.events.distributions import QuantileSketch

    Totals = ProviderTotals[QuantileSketch]

app = make_app()

Value = Callable[["Part"], float | None]

TWO_DAYS: Final = 2 * 86400.0

TICK: Final = 12
"""Bars from one time on the axis to the next."""

MOST_REASONS: Final = 10


@app.command("stats", epilog="Example: ccfallback stats --since 7d")
def stats(
    ctx: typer.Context,
    since: str = typer.Option("24h", metavar="DURATION", help="The window: the last 90m, 24h, 7d."),
    as_json: Json = False,
) -> None:
    """Count requests, failures, latency and tokens of each provider.

    Everything is read from the log, so it goes back as far as the log. A request counts
    when it ends; one that the client aborted is neither answered nor failed.
    """
    from ccfallback.events.aggregate import Stats
    from ccfallback.events.journal_reader import all_lines

    session = session_of(ctx)
    session.require_config_file()
    now = session.now()
    seconds, since = parse_since(session, since)
    start = now - seconds
    counts = Stats(start, now)
    for line in all_lines(session.readable_log(), since=start):
        counts.add(line)
    summary, console = counts.summary(), session.console
    console.emit(stats_json(summary), lambda: _page(summary, since, console.width))
    if not summary.requests:
        console.say(f"no request was counted; the log is {session.paths.log}")


def stats_json(it: "Summary") -> dict[str, Any]:
    """The numbers for `--json`: times in Unix milliseconds, durations in milliseconds."""
    from ccfallback.config.model import PRIMARY_NAME
    from ccfallback.events.aggregate import ANSWERED, BUCKETS, FAILED, LEFT

    length = (it.until - it.since) / BUCKETS
    return {
        "since": round(it.since * 1000),
        "until": round(it.until * 1000),
        "requests": it.requests,
        "answered": it.answered,
        "failed": it.failed,
        "clientLeft": it.left,
        "successRate": _round(it.success_rate, 4),
        "fallbackRate": _round(it.fallback_rate(PRIMARY_NAME), 4),
        **_answers_json(it.all_providers),
        "providers": [
            {
                "name": name,
                "attempts": each.attempts.total(),
                "failures": each.failures,
                "uncounted": each.uncounted,
                "answered": each.answers,
                **_answers_json(each),
                "reasons": dict(each.reasons.most_common()),
            }
            for name, each in it.ranked
        ],
        "classes": [
            {
                "name": name,
                "requests": counts.total(),
                "answered": counts[ANSWERED],
                "failed": counts[FAILED],
                "clientLeft": counts[LEFT],
            }
            for name, counts in it.classes
        ],
        "accessTokens": [
            {
                "token": name,
                "requests": each.outcomes.total(),
                "answered": each.outcomes[ANSWERED],
                "failed": each.outcomes[FAILED],
                "clientLeft": each.outcomes[LEFT],
                "tokens": _tokens_json(each.tokens),
                "cost": round(each.dollars, 6),
            }
            for name, each in it.access_tokens
        ],
        "buckets": [
            {
                "start": round((it.since + number * length) * 1000),
                "answered": part.answered,
                "failed": part.failed,
                "latency": _round(part.latency, 1),
            }
            for number, part in enumerate(it.parts())
        ],
    }


def _answers_json(totals: "Totals") -> dict[str, Any]:
    return {
        "latency": totals.latency.quantiles(),
        "ttft": totals.ttft.quantiles(),
        "tokens": _tokens_json(totals.tokens),
    }


def _tokens_json(tokens: "Counter[str]") -> dict[str, int]:
    return {
        "input": tokens["input"],
        "output": tokens["output"],
        "cacheRead": tokens["cache_read"],
        "cacheWrite": tokens["cache_write"],
    }


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _page(it: "Summary", since: str, width: int | None) -> list[Table | str]:
    if not it.requests and not it.ranked:
        return [f"last {since}: no request ended"]
    page: list[Table | str] = [_headline(it, since), _time_table(it, width)]
    more = (
        _latency_table(it),
        _attempts_table(it),
        _classes_table(it),
        _access_tokens_table(it),
        _reasons_table(it),
    )
    page += [table for table in more if table.rows]
    note = describe_uncounted({name: each.uncounted for name, each in it.ranked})
    return [*page, note] if note else page


def _headline(it: "Summary", since: str) -> str:
    from ccfallback.config.model import PRIMARY_NAME

    rate = it.fallback_rate(PRIMARY_NAME)
    shares = f"{format_percent(it.success_rate)} answered"
    if rate is not None:
        shares += f", {format_percent(rate)} by a fallback"
    left = f", {it.left:,} stopped by you" if it.left else ""
    return f"last {since}: {pluralize(it.requests, 'request')}, {shares}{left}"


def _latency_table(it: "Summary") -> Table:
    """How fast each provider answered."""
    header = ("latency", "p50", "p95", "p99", "ttft p50", "p95", "p99")
    rows = [(name, *_quantiles(each)) for name, each in it.ranked]
    return Table(rows, header, right=frozenset(range(1, len(header))))


def _attempts_table(it: "Summary") -> Table:
    """How often each provider was tried, with what result."""
    rows = [
        (
            name,
            *(f"{n:,}" for n in (each.attempts.total(), each.failures, each.answers)),
            format_count(each.prompt_tokens),
            format_count(each.tokens["output"]),
        )
        for name, each in it.ranked
    ]
    header = ("attempts", "all", "failed", "answers", "tokens in", "out")
    return Table(rows, header, right=frozenset(range(1, len(header))))


def _time_table(it: "Summary", width: int | None) -> Table:
    """All requests together and each provider over time, with one axis for all rows.

    There are as many bars as there is room for; long names wrap before the bars get too few.
    """
    from ccfallback.events.aggregate import BUCKETS

    lines: list[tuple[str, str, str | None, Value]] = [
        ("requests", f"{it.requests:,}", None, _count_ended),
        ("failed", f"{it.failed:,}", None, _count_failed),
        ("mean latency", _mean(it.all_providers), None, _mean_latency),
    ]
    for name, each in it.ranked:
        lines.append((name, _mean(each), name, _mean_latency))
        lines.append(("  failed attempts", f"{each.failures:,}", name, _count_failed))
    names = 2 + max(len(title) for title, *_ in lines)
    numbers = 2 + max(len(total) for _, total, *_ in lines)
    left = BUCKETS if width is None else width - min(names, UNWRAPPED + 2) - numbers
    count = next((n for n in (BUCKETS, BUCKETS // 2, BUCKETS // 4) if n <= left), BUCKETS // 8)
    length = (it.until - it.since) / count
    rows = [
        (title, total, draw_sparkline([value(part) for part in it.parts(name, count)]))
        for title, total, name, value in lines
    ]
    rows.append(("", "", _axis(it.since, it.until, count)))
    header = ("over time", "all", f"{format_duration(length)} a bar")
    return Table(rows, header, right=frozenset({1}), whole=frozenset({2}))


def _axis(since: float, until: float, count: int) -> str:
    """The times below every twelfth bar; with the day alone where the window is of days."""
    form = "%b %d" if until - since > TWO_DAYS else "%H:%M"
    step = min(count, TICK)
    times = (since + (until - since) * at / count for at in range(0, count, step))
    return "".join(f"{datetime.fromtimestamp(each):{form}}".ljust(step) for each in times).rstrip()


def _mean(totals: "Totals") -> str:
    mean = totals.latency.mean
    return format_latency(None if mean is None else mean / 1000)


def _count_ended(part: "Part") -> float | None:
    return part.ended


def _count_failed(part: "Part") -> float | None:
    return part.failed if part.ended else None


def _mean_latency(part: "Part") -> float | None:
    return part.latency


def _quantiles(totals: "Totals") -> tuple[str, ...]:
    from ccfallback.events.distributions import QUANTILES

    return tuple(
        format_latency(None if (value := sketch.quantile(share)) is None else value / 1000)
        for sketch in (totals.latency, totals.ttft)
        for share in QUANTILES.values()
    )


def _classes_table(it: "Summary") -> Table:
    """How many requests each class had, as Claude Code names the classes."""
    from ccfallback.events.aggregate import ANSWERED, FAILED

    rows = [
        (name, *(f"{n:,}" for n in (counts.total(), counts[ANSWERED], counts[FAILED])))
        for name, counts in it.classes
    ]
    header = ("requests by class", "all", "answered", "failed")
    return Table(rows, header, right=frozenset({1, 2, 3}))


def _access_tokens_table(it: "Summary") -> Table:
    """How many requests came with each access token, and what they have cost."""
    from ccfallback.events.aggregate import ANSWERED, FAILED

    rows = [
        (
            printable(name),
            *(f"{n:,}" for n in (each.outcomes.total(), each.outcomes[ANSWERED])),
            f"{each.outcomes[FAILED]:,}",
            format_count(each.tokens.total() - each.tokens["output"]),
            format_count(each.tokens["output"]),
            f"${each.dollars:,.2f}",
        )
        for name, each in it.access_tokens
    ]
    header = ("requests by token", "all", "answered", "failed", "tokens in", "out", "cost")
    return Table(rows, header, right=frozenset(range(1, len(header))))


def _reasons_table(it: "Summary") -> Table:
    """Why attempts failed, the most frequent reason first."""
    found = [
        (count, name, reason) for name, each in it.ranked for reason, count in each.reasons.items()
    ]
    found.sort(key=lambda each: (-each[0], *each[1:]))
    rows: list[Sequence[Cell]] = [
        (f"{count:,}", name, reason) for count, name, reason in found[:MOST_REASONS]
    ]
    if rest := sum(count for count, _, _ in found[MOST_REASONS:]):
        rows.append((f"{rest:,}", "", "other reasons"))
    return Table(rows, ("failed", "provider", "reason"), right=frozenset({0}))
