"""What `top` draws: tables of what is known at one moment, as large as the terminal has room."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ccfallback import __version__
from ccfallback.cli.caps import describe_reached
from ccfallback.cli.console import WIDE, Cell, Styled, Table, cell_text, draw_table, drop_columns
from ccfallback.cli.health import format_condition
from ccfallback.cli.log_lines import local_time, short_id
from ccfallback.cli.phrases import (
    draw_sparkline,
    format_duration,
    format_latency,
    format_until,
    shorten_model,
    wrap_text,
)
from ccfallback.cli.quota import window_lines
from ccfallback.cli.requests_view import describe_path, describe_uncounted, request_row
from ccfallback.cli.running_server import RunningServer, describe_absence
from ccfallback.config.model import Config, Provider
from ccfallback.events.aggregate import ProviderTotals
from ccfallback.events.distributions import QuantileSketch
from ccfallback.events.live import Picture, Request
from ccfallback.policy.breaker import CLOSED, BreakerState, Phase, as_next, phase
from ccfallback.policy.quota_report import QuotaReport
from ccfallback.words import pluralize

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ccfallback.policy.spend import Limit

BAR_COUNTS: Final = (24, 16, 12, 8, 6, 4)
"""Lengths that a sparkline may have; each divides the parts of the window."""

FEWEST_REQUESTS: Final = 3
"""Requests that keep their lines, however many providers there are."""

LESS_NEEDED: Final = ("p50", "first", "", "attempts", "model", "took")
"""Columns that a narrow terminal can do without, in the order in which they go."""

MOST_MESSAGE: Final = 3
"""Lines that a message may take."""

STATES: Final = {
    "serving": ("●", "green"),
    "closed": ("✓", "green"),
    "partly open": ("!", "yellow"),
    "half-open": ("?", "yellow"),
    "open": ("✗", "red"),
    "disabled": ("·", "dim"),
}
"""The states of a provider, as `--json` names them, each with a sign and a colour that says the
same."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the log."""

    config: Config
    states: Mapping[str, BreakerState]
    servers: Sequence[RunningServer]
    """The servers that answer."""
    now: float
    problems: Sequence[str] = ()
    """What could not be read, in words."""
    quotas: Sequence[QuotaReport] = ()
    """The windows of the primary's plan, for each login."""
    limits: "Sequence[Limit]" = ()
    """The caps of providers, and what is spent of them."""


Totals = ProviderTotals[QuantileSketch]


class Row(NamedTuple):
    """A row that can be selected."""

    kind: str
    """`provider` or `request`."""
    id: str
    """The name of the provider, or the whole id of the request."""


@dataclass(frozen=True, slots=True)
class Look:
    """How to draw on a screen."""

    colour: bool
    footer: str
    selected: Row | None = None
    wanted: str = ""
    """A text: only the rows that contain it are shown."""
    message: Styled | None = None
    """What the last action did."""


@dataclass(frozen=True, slots=True)
class Place:
    """A provider's place in the chain, and its state."""

    number: int
    """0 is the primary; a fallback has the number that `providers move --to` takes."""
    provider: Provider
    state: BreakerState
    word: str
    """One of `STATES`."""


def places(facts: Facts) -> list[Place]:
    """The chain. The first provider that can be tried is `serving`, if there is a server."""
    found: list[Place] = []
    serving = not facts.servers
    is_spared = bool(facts.quotas) and facts.quotas[0].action == "skip"
    for number, provider in enumerate(facts.config.chain):
        state = as_next(facts.states.get(provider.name, CLOSED), provider, os.environ, facts.now)
        word = "disabled" if provider.disabled else _word(state, facts)
        if word == "closed" and not serving and not (provider.primary and is_spared):
            word, serving = "serving", True
        found.append(Place(number, provider, state, word))
    return found


def _word(state: BreakerState, facts: Facts) -> str:
    now = phase(state, facts.now)
    if now is not Phase.CLOSED:
        return str(now.value)
    models = (phase(each, facts.now) for each in state.models.values())
    return "partly open" if Phase.OPEN in models else "closed"


def rows(facts: Facts, picture: Picture, wanted: str = "") -> list[Row]:
    """What can be selected, from the top."""
    found = [Row("provider", place.provider.name) for place in shown_places(facts, wanted)]
    requests = shown_requests(facts, picture, wanted)
    return found + [Row("request", each.id) for each in requests]


def shown_places(facts: Facts, wanted: str) -> list[Place]:
    """The chain; with `wanted`, the providers whose name, format or state contains it."""
    return [
        place
        for place in places(facts)
        if matches(wanted, place.provider.name, place.provider.format, place.word)
    ]


def shown_requests(facts: Facts, picture: Picture, wanted: str) -> list[Request]:
    """The requests in progress, then those that ended, the newest first."""
    found = [*in_progress(facts, picture), *picture.ended]
    return found if not wanted else [each for each in found if _is_wanted(each, wanted)]


def matches(wanted: str, *texts: str) -> bool:
    """Whether a text contains what is wanted; case does not matter."""
    return not wanted or any(wanted.lower() in text.lower() for text in texts)


def _is_wanted(request: Request, wanted: str) -> bool:
    it = request.story
    return matches(wanted, it.id, it.model, str(it.status or ""), *describe_path(it, {}))


def totals(picture: Picture, name: str) -> Totals:
    """What happened at a provider in the window."""
    return picture.providers.get(name) or ProviderTotals(QuantileSketch(), QuantileSketch())


def page(facts: Facts, picture: Picture) -> list[Table | str]:
    """All of it for a pipe: plain, and nothing cut."""
    parts: list[Table | str] = ["\n".join(cell.text for cell in headline(facts, picture))]
    parts.append(providers_table(facts, picture, None))
    if lines := list(notes(facts, picture)):
        parts.append("\n".join(cell.text for cell in lines))
    requests = requests_table(facts, picture, None)
    return [*parts, requests] if requests.rows else parts


def frame(facts: Facts, picture: Picture, look: Look, size: tuple[int, int]) -> "RenderableType":
    """As much of it as fits a screen of so many columns and lines, the selected row included."""
    from rich.console import Group
    from rich.text import Text

    (width, height), colour, selected = size, look.colour, look.selected

    def line(cell: Styled) -> Text:
        return Text(cell.text, cell.style if colour else "", no_wrap=True, overflow="ellipsis")

    lines: list[RenderableType] = [line(cell) for cell in headline(facts, picture, width)]
    noted = [line(cell) for cell in notes(facts, picture)]
    message = look.message or Styled("", "")
    said = wrap_text(message.text, width).splitlines()[:MOST_MESSAGE]
    end = [*(message._replace(text=each) for each in said), Styled(look.footer, "dim")]
    # Empty lines around the tables, their headers, and the footer.
    room = height - len(lines) - 4 - len(end)
    noted = noted[: max(1, room - FEWEST_REQUESTS - 1)]
    table = providers_table(facts, picture, width, look.wanted)
    table = drop_columns(table, LESS_NEEDED, width)
    names = [place.provider.name for place in shown_places(facts, look.wanted)]
    at = _index(names, selected, "provider")
    most = max(1, room - len(noted) - FEWEST_REQUESTS)
    if len(table.rows) > most:
        left = pluralize(len(table.rows) - most + 1, "more provider")
        noted.insert(0, line(Styled(f"  … {left}", "dim")))
        first = _first_shown(at, most - 1)
        table = Table(table.rows[first : first + most - 1], table.header, table.right)
        at = None if at is None else at - first
    count = max(0, room - len(noted) - len(table.rows))
    drawn = draw_table(table, colour=colour, cut=True, selected=at) if table.rows else Text("")
    lines += [Text(""), drawn, *noted, Text("")]
    ids = [each.id for each in shown_requests(facts, picture, look.wanted)]
    at = _index(ids, selected, "request")
    first = _first_shown(at, count)
    requests = requests_table(facts, picture, width, count, first, look.wanted)
    requests = drop_columns(requests, LESS_NEEDED, width, ["answered by", "how"])
    if requests.rows:
        at = None if at is None else at - first
        lines.append(draw_table(requests, colour=colour, cut=True, selected=at))
    else:
        what = "no request matches" if look.wanted else "no request yet"
        lines.append(line(Styled(what, "dim")))
    lines += [Text("")] * (count - len(requests.rows))
    return Group(*lines, *map(line, end))


def _index(ids: Sequence[str], selected: Row | None, kind: str) -> int | None:
    """Where the selected row is in its table."""
    if selected is None or selected.kind != kind or selected.id not in ids:
        return None
    return ids.index(selected.id)


def _first_shown(at: int | None, count: int) -> int:
    """The first of `count` rows, so that the selected one is among them."""
    return 0 if at is None else max(0, at - max(count, 1) + 1)


def headline(facts: Facts, picture: Picture, width: int | None = None) -> Iterator[Styled]:
    """Whether a server is up, what it did in the window, and what could not be read.

    For a screen, `width` is its columns.
    """
    name = "ccfallback  "
    if not facts.servers:
        down = describe_absence(facts.config)
        yield Styled(f"ccfallback {__version__}  {down}", "red")
        yield Styled("`ccfallback serve` starts it", "dim")
    for server in facts.servers:
        left = None if width is None else width - len(name)
        yield Styled(f"{name}{server.describe(facts.now, left)}", "green")
    counts = [
        pluralize(picture.requests, "request"),
        f"{picture.failed:,} failed",
        pluralize(picture.failovers, "failover"),
        f"{picture.last_minute:,} a minute",
    ]
    if current := len(in_progress(facts, picture)):
        counts.append(f"{current:,} in progress")
    if picture.left:
        counts.append(f"{picture.left:,} stopped by you")
    yield Styled(f"last {format_duration(picture.window)}: {', '.join(counts)}", "bold")
    for problem in facts.problems:
        yield Styled(f"! {problem}", "yellow")


def providers_table(facts: Facts, picture: Picture, width: int | None, wanted: str = "") -> Table:
    """The providers, in the order in which they are tried."""
    wide = width is None or width >= WIDE
    chain = shown_places(facts, wanted)
    header = ["", "provider", *(["format"] if wide else []), "state", "attempts", "failed", "p50"]
    rows = [
        _provider_row(place, totals(picture, place.provider.name), facts.now, wide=wide)
        for place in chain
    ]
    right = frozenset(range(len(header) - 3, len(header)))
    columns = zip(header, *rows, strict=True)
    taken = sum(2 + max(len(cell_text(cell)) for cell in column) for column in columns)
    titles = ["latency", "failures"]
    room = width or taken + 2 * BAR_COUNTS[0] + 2
    count = next(
        (n for n in BAR_COUNTS if taken + 2 + sum(max(n, len(title)) for title in titles) <= room),
        0,
    )
    if count:
        header += titles
        for row, place in zip(rows, chain, strict=True):
            parts = picture.parts(place.provider.name, count)
            row.append(Styled(draw_sparkline([part.latency for part in parts]), "cyan"))
            failed = [part.failed if part.ended else None for part in parts]
            row.append(Styled(draw_sparkline(failed), "red"))
    return Table(rows, header, right)


def _provider_row(place: Place, totals: Totals, now: float, *, wide: bool) -> list[Cell]:
    provider, state = place.provider, place.state
    sign, style = STATES[place.word]
    words = place.word
    if place.word not in ("serving", "disabled"):
        words = format_condition(state, now, short=not wide).text
    if place.word == "open" and not wide:
        words = "cooling down"  # The notes below the table say until when.
    p50 = totals.latency.quantile(0.5)
    quiet = "dim" if provider.disabled else ""
    return [
        Styled(str(place.number), "dim"),
        Styled(provider.name, quiet or ("bold" if place.word == "serving" else "")),
        *([Styled(provider.format, quiet)] if wide else []),
        Styled(f"{sign} {words}", style),
        f"{totals.attempts.total():,}",
        Styled(f"{totals.failures:,}", "red" if totals.failures else ""),
        format_latency(None if p50 is None else p50 / 1000),
    ]


def notes(facts: Facts, picture: Picture) -> Iterator[Styled]:
    """Why providers cool down, and what is unusual about the chain."""
    for place in places(facts):
        name, state = place.provider.name, place.state
        if place.word == "disabled":
            continue
        if place.word == "open":
            yield Styled(f"✗ {name} is cooling down {_cooldown(state, facts.now)}", "red")
        if place.word == "half-open":
            why = f", after {state.reason}" if state.reason else ""
            yield Styled(f"? {name}: the next request probes it{why}", "yellow")
        for model, each in state.models.items():
            if phase(each, facts.now) is Phase.OPEN:
                words = f"! {name} is cooling down for {model} {_cooldown(each, facts.now)}"
                yield Styled(words, "yellow")
    yield from window_lines(facts.quotas, facts.now)
    for reached in describe_reached(facts.limits, facts.now):
        yield Styled(f"✗ {reached}", "red")
    uncounted = {name: each.uncounted for name, each in picture.providers.items()}
    if note := describe_uncounted(uncounted):
        yield Styled(f"· {note}", "dim")
    if not facts.config.active:
        yield Styled("✗ no provider is enabled: `ccfallback providers enable`", "red")
    elif not facts.config.has_fallback:
        yield Styled("· no fallback: `ccfallback providers add` adds one", "dim")


def _cooldown(state: BreakerState, now: float) -> str:
    why = f": {state.reason}" if state.reason else ""
    return f"{format_until(state.cooldown_until or now, now)}{why}"


def in_progress(facts: Facts, picture: Picture) -> list[Request]:
    """The requests in progress: none without a server, whatever a killed one left in the log."""
    if not facts.servers:
        return []
    # One second of tolerance: its uptime is rounded, and its clock was read at another moment.
    started = facts.now - max(server.uptime for server in facts.servers) - 1
    return [each for each in picture.in_progress if each.began >= started]


def requests_table(
    facts: Facts,
    picture: Picture,
    width: int | None,
    count: int | None = None,
    first: int = 0,
    wanted: str = "",
) -> Table:
    """The requests in progress, then those that ended, the newest first."""
    wide = width is None or width >= WIDE
    chain = enumerate(facts.config.chain)
    numbers = {} if wide else {each.name: str(number or "primary") for number, each in chain}
    found = shown_requests(facts, picture, wanted)[first:][:count]
    rows = [_request_row(each, facts.now, numbers, whole=width is None) for each in found]
    header = ["time", "answer", "model", "answered by", "took", "first"]
    if wide:
        header = ["time", "request", "answer", "model", "provider", "how", "took", "first", "out"]
    right = frozenset(header.index(name) for name in ("took", "first", "out") if name in header)
    return Table(rows, header, right)


def _request_row(
    request: Request, now: float, numbers: Mapping[str, str], *, whole: bool
) -> list[Cell]:
    it, end = request.story, request.end
    who, how = describe_path(it, numbers)
    model = (it.model if whole else shorten_model(it.model)) or "-"
    if end is not None:
        time, name, answer, _, spent, first, _, tokens = request_row(end)
    else:
        start = request.records[0]
        time, name, answer = local_time(start)[1], short_id(start), Styled("… ", "cyan")
        spent, first, tokens = format_latency(max(0.0, now - request.began)), "-", "-"
    if numbers:
        words = [word for word in (who, how) if word not in ("", "-")]
        return [time, answer, model, ", ".join(words) or "-", spent, first]
    return [time, name, answer, model, who, how, spent, first, tokens]
