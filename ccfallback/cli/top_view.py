"""The board of `ccfallback top`: a picture of what goes on, as tables of a terminal's size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ccfallback import __version__
from ccfallback.cli import recent_requests as recent
from ccfallback.cli.breaker import current_state
from ccfallback.cli.console import Cell, Styled, Table, draw_table
from ccfallback.cli.phrases import (
    format_duration,
    format_latency,
    format_since,
    format_until,
    pluralize,
)
from ccfallback.cli.running_server import RunningServer, configured_url
from ccfallback.config.model import Config, Provider
from ccfallback.events import story
from ccfallback.events.live_stats import Picture, Request, Tries
from ccfallback.events.records import record_from
from ccfallback.events.stats import BUCKETS, Part, folded
from ccfallback.policy.breaker import BreakerState, Limits, Phase, phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

Bars = Callable[[Sequence[float | None]], str]

ROOMY: Final = 110
"""Columns from which on there is room for all that is known."""

LETTERS: Final = (24, 16, 12, 8, 6, 4)
"""Lengths that a sparkline may have; each divides the parts of the window."""

FEWEST: Final = 3
"""Requests that keep their place, however many providers there are."""

LOOKS: Final = {
    "serving": ("●", "green"),
    "closed": ("✓", "green"),
    "partly open": ("!", "yellow"),
    "half-open": ("?", "yellow"),
    "open": ("✗", "red"),
    "disabled": ("·", "dim"),
}
"""What a provider may be: a sign and a colour, each of which says enough without the other."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the log."""

    config: Config
    states: "Mapping[str, BreakerState]"
    found: RunningServer | None
    """The server, if one answers."""
    now: float
    troubles: Sequence[str] = ()
    """What could not be read, in words."""


@dataclass(frozen=True, slots=True)
class Place:
    """A provider's place in the chain, and how it is."""

    number: int
    provider: Provider
    state: BreakerState
    word: str
    """One of `LOOKS`."""


def places(facts: Facts) -> list[Place]:
    """The chain; the first that may be asked is the one that serves, if there is a server."""
    found: list[Place] = []
    serving = facts.found is None
    for number, provider in enumerate(facts.config.chain, 1):
        state = current_state(facts.config, facts.states, provider.name, facts.now)
        word = "disabled" if provider.disabled else _word(state, facts)
        if word == "closed" and not serving:
            word, serving = "serving", True
        found.append(Place(number, provider, state, word))
    return found


def _word(state: BreakerState, facts: Facts) -> str:
    limits = Limits.from_config(facts.config)
    now = phase(state, facts.now, limits)
    if now is not Phase.CLOSED:
        return str(now.value)
    models = (phase(each, facts.now, limits) for each in state.models.values())
    return "partly open" if Phase.OPEN in models else "closed"


def page(facts: Facts, picture: Picture, bars: Bars) -> list[Table | str]:
    """All of it, for a reader who has no screen: plain, and whole."""
    parts: list[Table | str] = ["\n".join(cell.text for cell in head(facts, picture))]
    parts.append(chain(facts, picture, None, bars))
    if told := list(notes(facts)):
        parts.append("\n".join(cell.text for cell in told))
    return [*parts, requests(facts, picture, None)] if shown(facts, picture) else parts


@dataclass(frozen=True, slots=True)
class Look:
    """What a screen can show."""

    bars: Bars
    colour: bool
    remark: str
    """What the last line says."""


def frame(facts: Facts, picture: Picture, look: Look, size: tuple[int, int]) -> "RenderableType":
    """All of it that fits a screen of so many columns and lines."""
    from rich.console import Group
    from rich.text import Text

    (width, height), colour = size, look.colour

    def line(cell: Styled) -> Text:
        return Text(cell.text, cell.style if colour else "", no_wrap=True, overflow="ellipsis")

    lines: list[RenderableType] = [line(cell) for cell in head(facts, picture)]
    told = [line(cell) for cell in notes(facts)]
    # Blank lines around the tables, their headers, and the line of the keys.
    room = height - len(lines) - 5
    told = told[: max(1, room - FEWEST - 1)]
    table = chain(facts, picture, width, look.bars)
    most = max(1, room - len(told) - FEWEST)
    if len(table.rows) > most:
        left = pluralize(len(table.rows) - most + 1, "more provider")
        told.insert(0, line(Styled(f"  … {left}", "dim")))
        table = Table(table.rows[: most - 1], table.header, table.right)
    count = max(0, room - len(told) - len(table.rows))
    lines += [Text(""), draw_table(table, colour=colour, cut=True), *told, Text("")]
    rows = requests(facts, picture, width, count)
    if rows.rows:
        lines.append(draw_table(rows, colour=colour, cut=True))
    else:
        lines.append(line(Styled("no request yet", "dim")))
    lines += [Text("")] * (count - len(rows.rows))
    return Group(*lines, line(Styled(look.remark, "dim")))


def head(facts: Facts, picture: Picture) -> Iterator[Styled]:
    """Is there a server, what is going on, and what can't be known."""
    found, now = facts.found, facts.now
    if found is None:
        where = configured_url(facts.config)
        down = f"ccfallback {__version__}  ✗ down: nothing of ours answers at {where}"
        yield Styled(down, "red")
        yield Styled("`ccfallback serve` starts it", "dim")
    else:
        when = format_since(now - found.uptime, now)
        yield Styled(f"ccfallback {found.version}  ✓ up at {found.url}, {when}", "green")
    counts = [
        pluralize(picture.requests, "request"),
        f"{picture.failed:,} failed",
        pluralize(picture.failovers, "failover"),
        f"{picture.last_minute:,} a minute",
    ]
    if waiting := len(under_way(facts, picture)):
        counts.append(f"{waiting:,} under way")
    if picture.left:
        counts.append(f"{pluralize(picture.left, 'client')} left")
    yield Styled(f"last {format_duration(picture.window)}: {', '.join(counts)}", "bold")
    for trouble in facts.troubles:
        yield Styled(f"! {trouble}", "yellow")


def chain(facts: Facts, picture: Picture, width: int | None, bars: Bars) -> Table:
    """The providers, in the order in which they are asked."""
    roomy = width is None or width >= ROOMY
    found = [
        (place, picture.providers.get(place.provider.name) or Tries()) for place in places(facts)
    ]
    header = ["", "provider", *(["format"] if roomy else []), "state", "tries", "failed", "p50"]
    rows = [_row(place, tries, facts.now, roomy=roomy) for place, tries in found]
    right = frozenset(range(len(header) - 3, len(header)))
    columns = zip(header, *rows, strict=True)
    taken = sum(2 + max(len(_text(cell)) for cell in column) for column in columns)
    titles = ["latency", "failures"]
    room = width or taken + 2 * LETTERS[0] + 2
    letters = next(
        (n for n in LETTERS if taken + 2 + sum(max(n, len(title)) for title in titles) <= room), 0
    )
    if letters:
        header += titles
        rows = [
            [*row, *_drawn(tries.parts, letters, bars)]
            for row, (_, tries) in zip(rows, found, strict=True)
        ]
    return Table(rows, header, right)


def _row(place: Place, tries: Tries, now: float, *, roomy: bool) -> list[Cell]:
    provider, state = place.provider, place.state
    sign, style = LOOKS[place.word]
    words = place.word
    if roomy and place.word == "open" and state.cooldown_until is not None:
        words = f"open {format_until(state.cooldown_until, now)}"
    p50 = tries.latency.quantile(0.5)
    quiet = "dim" if provider.disabled else ""
    return [
        Styled(str(place.number), "dim"),
        Styled(provider.name, quiet or ("bold" if place.word == "serving" else "")),
        *([Styled(provider.format, quiet)] if roomy else []),
        Styled(f"{sign} {words}", style),
        f"{tries.attempts:,}",
        Styled(f"{tries.failures:,}", "red" if tries.failures else ""),
        format_latency(None if p50 is None else p50 / 1000),
    ]


def _drawn(parts: Sequence[Part], letters: int, bars: Bars) -> tuple[Styled, Styled]:
    """How an answer's latency and the failures went over time."""
    over_time = folded(parts or [Part()] * BUCKETS, letters)
    latency = bars([part.latency for part in over_time])
    failed = bars([part.failed if part.ended else None for part in over_time])
    return Styled(latency, "cyan"), Styled(failed, "red")


def notes(facts: Facts) -> Iterator[Styled]:
    """Why providers are left out, and what is strange about the chain."""
    limits = Limits.from_config(facts.config)
    for place in places(facts):
        name, state = place.provider.name, place.state
        if place.word == "disabled":
            continue
        if place.word == "open":
            yield Styled(f"✗ {name} is left out {_held(state, facts.now)}", "red")
        if place.word == "half-open":
            why = f", after {state.reason}" if state.reason else ""
            yield Styled(f"? {name}: the next request tries it{why}", "yellow")
        for model, each in state.models.items():
            if phase(each, facts.now, limits) is Phase.OPEN:
                held = _held(each, facts.now)
                yield Styled(f"! {name} is left out for {model} {held}", "yellow")
    if not facts.config.active:
        yield Styled("✗ no provider is enabled: `ccfallback providers enable`", "red")
    elif not facts.config.has_fallback:
        yield Styled("· no fallback: `ccfallback providers add` adds one", "dim")


def _held(state: BreakerState, now: float) -> str:
    why = f": {state.reason}" if state.reason else ""
    return f"{format_until(state.cooldown_until or now, now)}{why}"


def shown(facts: Facts, picture: Picture) -> list[Request]:
    """The requests that there are to show, those under way first."""
    return [*under_way(facts, picture), *picture.ended]


def under_way(facts: Facts, picture: Picture) -> list[Request]:
    """Without a server none is, whatever the log says that a killed one has left."""
    found = facts.found
    if found is None:
        return []
    # Its uptime is rounded, and its clock need not be read when ours is.
    started = facts.now - found.uptime - 1
    return [each for each in picture.under_way if each.began >= started]


def requests(facts: Facts, picture: Picture, width: int | None, count: int | None = None) -> Table:
    """The last requests, the newest first, as many as there is room for."""
    roomy = width is None or width >= ROOMY
    brief = (
        {}
        if roomy
        else {each.name: str(number) for number, each in enumerate(facts.config.chain, 1)}
    )
    found = shown(facts, picture)[:count]
    rows = [_request(each, facts.now, brief, whole=width is None) for each in found]
    header = ["time", "answer", "model", "answered by", "took", "first"]
    if roomy:
        header = ["time", "request", "answer", "model", "provider", "how", "took", "first", "out"]
    right = frozenset(header.index(name) for name in ("took", "first", "out") if name in header)
    return Table(rows, header, right)


def _request(
    request: Request, now: float, brief: "Mapping[str, str]", *, whole: bool
) -> list[Cell]:
    it, end = request.story, request.end
    who, how = recent.path(it, brief)
    model = (it.model if whole else recent.short(it.model)) or "-"
    if end is not None:
        time, name, answer, _, spent, first, _, tokens = recent.row(end)
    else:
        line = story.line(record_from(request.records[0]))
        time, name, answer = line.time, line.request, Styled("… ", "cyan")
        spent, first, tokens = format_latency(max(0.0, now - request.began)), "-", "-"
    if brief:
        words = [word for word in (who, how) if word not in ("", "-")]
        return [time, answer, model, ", ".join(words) or "-", spent, first]
    return [time, name, answer, model, who, how, spent, first, tokens]


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Styled) else cell
