"""`ccfallback top`: providers and requests as they are right now, on a screen that keeps up.

Two parts: the command, which looks again and again, and the view, which makes tables of a look.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import typer

from ccfallback import __version__
from ccfallback.cli import keyboard
from ccfallback.cli.breaker import format_condition, health_json, state_of_next
from ccfallback.cli.caps import describe_reached, find_limits, limit_json
from ccfallback.cli.console import WIDE, Cell, Styled, Table, draw_table
from ccfallback.cli.log_lines import local_time, short_id
from ccfallback.cli.options import Json, make_app, parse_duration
from ccfallback.cli.phrases import (
    format_duration,
    format_latency,
    format_until,
    shorten_model,
)
from ccfallback.cli.quota import read_reports, reports_json, window_lines
from ccfallback.cli.requests_view import (
    describe_path,
    describe_uncounted,
    request_json,
    request_row,
    tried_json,
)
from ccfallback.cli.running_server import (
    RunningServer,
    describe_absence,
    find_servers,
    servers_json,
)
from ccfallback.cli.session import Session, session_of
from ccfallback.config.model import Config, Provider
from ccfallback.errors import CcfallbackError
from ccfallback.events import journal_reader as reader
from ccfallback.events.aggregate import ProviderTotals
from ccfallback.events.distributions import QuantileSketch
from ccfallback.events.live import LiveStats, Picture, Request
from ccfallback.events.records import decode
from ccfallback.policy.breaker import CLOSED, BreakerState, Phase, phase, valid_states
from ccfallback.policy.quota_report import QuotaReport
from ccfallback.words import pluralize

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ccfallback.policy.spend import Limit

app = make_app()

SHORTEST_INTERVAL: Final = 0.1

SERVER_WAIT: Final = 0.3
"""Seconds for the server's answer; keys wait as long."""

BAR_COUNTS: Final = (24, 16, 12, 8, 6, 4)
"""Lengths that a sparkline may have; each divides the parts of the window."""

FEWEST_REQUESTS: Final = 3
"""Requests that keep their lines, however many providers there are."""

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


@app.command("top", epilog="Example: ccfallback top --since 1h")
def top(
    ctx: typer.Context,
    since: str = typer.Option("15m", metavar="DURATION", help="The window: the last 15m, 1h, 1d."),
    interval: str = typer.Option(
        "1s", metavar="DURATION", help="How often to refresh: every 500ms, 1s, 5s."
    ),
    as_json: Json = False,
) -> None:
    """Watch providers and requests live.

    `q` or Ctrl-C quits, `p` pauses. In a pipe, or with --json, it prints once. It changes nothing.
    """
    session = session_of(ctx)
    window, pause = parse_duration(since, "--since"), parse_duration(interval, "--interval")
    if window <= 0 or pause < SHORTEST_INTERVAL:
        wrong = "--since" if window <= 0 else "--interval"
        raise typer.BadParameter("that is too short", param_hint=f"'{wrong}'")
    console = session.console
    with closing(_Viewer(session, window)) as viewer:
        if console.has_screen and not as_json:
            _live(viewer, pause)
        else:
            facts, picture = viewer.look()
            console.emit(_top_json(facts, picture), lambda: page(facts, picture, console.sparkline))


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
    blocks: bool = True
    """Whether bars can be drawn with block characters."""
    limits: "Sequence[Limit]" = ()
    """The caps of providers, and what is spent of them."""


class _Viewer:
    """Reads what is to be shown; each look reads only what has changed since the last."""

    def __init__(self, session: Session, window: float) -> None:
        self.session = session
        self._live = LiveStats(window)
        self._stamp = session.config_file.stamp()
        self._config, self._config_problem = session.config_in_use()
        path = session.paths.log
        end = reader.mark(path)
        self._log = reader.Follower(path, end)
        self._live.recall((record for record, _ in reader.backwards(path, end)), session.now())

    def look(self) -> tuple[Facts, Picture]:
        """How things are now."""
        session, now = self.session, self.session.now()
        for line in self._log.look():
            if (record := decode(line)) is not None:
                self._live.add(record, now)
        self._reload_config()
        # `peek` and not `load`: a viewer must not move a corrupt file away.
        state = session.store.peek()
        servers = find_servers(session.paths, self._config, SERVER_WAIT)
        problems = [
            self._config_problem,
            f"the state file can't be used: {state.problem}" if state.problem else "",
            self._log_problem(),
        ]
        states = valid_states(state.states, self._config, now)
        facts = Facts(
            self._config,
            states,
            servers,
            now,
            [each for each in problems if each],
            read_reports(state, self._config, now),
            session.console.has_blocks,
            find_limits(session.paths.state, self._config, now),
        )
        return facts, self._live.picture(now)

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _reload_config(self) -> None:
        """Read the configuration if it has changed; keep the last good one, as the server does."""
        stamp = self.session.config_file.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._config, self._config_problem = self.session.config_in_use(needs_server=False)
        except CcfallbackError as error:
            self._config_problem = error.message

    def _log_problem(self) -> str:
        path, level = self.session.paths.log, self._config.log.level
        if not path.exists():
            return f"no log yet at {path}"
        if level in ("warn", "error"):
            return f'the log says little about requests: [log] level is "{level}"'
        return ""


def _live(viewer: _Viewer, pause: float) -> None:
    """Show it until the user leaves; after Ctrl-Z and `fg` it goes on."""
    try:
        while _show_until_key(viewer, pause) == keyboard.SUSPEND:
            keyboard.suspend()
    except KeyboardInterrupt:
        return  # This is how a person stops watching; nothing was interrupted.


def _show_until_key(viewer: _Viewer, pause: float) -> str:
    """Show it until a key ends that; returns the key."""
    leaving = ("q", "Q", keyboard.SUSPEND, keyboard.END)
    console = viewer.session.console
    paused = False
    with keyboard.read_keys(console.stdin) as pressed, console.screen() as show:
        facts, picture = viewer.look()
        due = monotonic() + pause
        while True:
            if not pressed.available:
                footer = "Ctrl-C quits"
            elif paused:
                footer = "paused: p resumes, q quits"
            else:
                footer = f"q quits, p pauses, refreshed every {pause:g} s"
            look = Look(console.sparkline, console.colour, footer)
            show(partial(frame, facts, picture, look))
            for key in pressed.wait(due - monotonic()):
                if key in leaving:
                    return key
                paused ^= key == "p"
            if monotonic() >= due:
                due = monotonic() + pause
                if not paused:
                    facts, picture = viewer.look()


def _top_json(facts: Facts, picture: Picture) -> dict[str, Any]:
    """The same for `--json`: times in Unix milliseconds, durations in milliseconds."""
    providers = []
    for place in places(facts):
        provider, totals = place.provider, _totals(picture, place.provider.name)
        state = facts.states.get(provider.name, CLOSED)
        health = health_json(provider, state, facts.now)
        providers.append(
            {
                **health,
                "format": provider.format,
                "state": place.word,
                "attempts": totals.attempts.total(),
                "failures": totals.failures,
                "uncounted": totals.uncounted,
                "answered": totals.answers,
                "latency": totals.latency.quantiles(),
            }
        )
    return {
        **servers_json(facts.servers),
        "troubles": list(facts.problems),
        "quotas": reports_json(facts.quotas),
        "caps": [limit_json(limit) for limit in facts.limits],
        "window": {
            "since": round(picture.since * 1000),
            "until": round(picture.until * 1000),
            "requests": picture.requests,
            "answered": picture.answered,
            "failed": picture.failed,
            "clientLeft": picture.left,
            "failovers": picture.failovers,
            "lastMinute": picture.last_minute,
        },
        "providers": providers,
        "underWay": [
            {
                "requestId": each.story.id,
                "model": each.story.model,
                "began": each.story.began,
                "asked": tried_json(each.story),
            }
            for each in in_progress(facts, picture)
        ],
        "requests": [
            {**request_json(end), "asked": tried_json(each.story)}
            for each in picture.ended
            if (end := each.end) is not None
        ],
    }


# -- The view: tables of a terminal's size

Bars = Callable[[Sequence[float | None]], str]
Totals = ProviderTotals[QuantileSketch]


@dataclass(frozen=True, slots=True)
class Look:
    """How to draw on a screen."""

    bars: Bars
    colour: bool
    footer: str


@dataclass(frozen=True, slots=True)
class Place:
    """A provider's place in the chain, and its state."""

    number: int
    provider: Provider
    state: BreakerState
    word: str
    """One of `STATES`."""


def places(facts: Facts) -> list[Place]:
    """The chain. The first provider that can be tried is `serving`, if there is a server."""
    found: list[Place] = []
    serving = not facts.servers
    is_spared = bool(facts.quotas) and facts.quotas[0].action == "skip"
    for number, provider in enumerate(facts.config.chain, 1):
        state = state_of_next(provider, facts.states.get(provider.name, CLOSED), facts.now)
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


def _totals(picture: Picture, name: str) -> Totals:
    return picture.providers.get(name) or ProviderTotals(QuantileSketch(), QuantileSketch())


def page(facts: Facts, picture: Picture, bars: Bars) -> list[Table | str]:
    """All of it for a pipe: plain, and nothing cut."""
    parts: list[Table | str] = ["\n".join(cell.text for cell in headline(facts, picture))]
    parts.append(providers_table(facts, picture, None, bars))
    if lines := list(notes(facts, picture)):
        parts.append("\n".join(cell.text for cell in lines))
    requests = requests_table(facts, picture, None)
    return [*parts, requests] if requests.rows else parts


def frame(facts: Facts, picture: Picture, look: Look, size: tuple[int, int]) -> "RenderableType":
    """As much of it as fits a screen of so many columns and lines."""
    from rich.console import Group
    from rich.text import Text

    (width, height), colour = size, look.colour

    def line(cell: Styled) -> Text:
        return Text(cell.text, cell.style if colour else "", no_wrap=True, overflow="ellipsis")

    lines: list[RenderableType] = [line(cell) for cell in headline(facts, picture)]
    noted = [line(cell) for cell in notes(facts, picture)]
    # Empty lines around the tables, their headers, and the footer.
    room = height - len(lines) - 5
    noted = noted[: max(1, room - FEWEST_REQUESTS - 1)]
    table = providers_table(facts, picture, width, look.bars)
    most = max(1, room - len(noted) - FEWEST_REQUESTS)
    if len(table.rows) > most:
        left = pluralize(len(table.rows) - most + 1, "more provider")
        noted.insert(0, line(Styled(f"  … {left}", "dim")))
        table = Table(table.rows[: most - 1], table.header, table.right)
    count = max(0, room - len(noted) - len(table.rows))
    lines += [Text(""), draw_table(table, colour=colour, cut=True), *noted, Text("")]
    requests = requests_table(facts, picture, width, count)
    if requests.rows:
        lines.append(draw_table(requests, colour=colour, cut=True))
    else:
        lines.append(line(Styled("no request yet", "dim")))
    lines += [Text("")] * (count - len(requests.rows))
    return Group(*lines, line(Styled(look.footer, "dim")))


def headline(facts: Facts, picture: Picture) -> Iterator[Styled]:
    """Whether a server is up, what it did in the window, and what could not be read."""
    if not facts.servers:
        down = describe_absence(facts.config)
        yield Styled(f"ccfallback {__version__}  {down}", "red")
        yield Styled("`ccfallback serve` starts it", "dim")
    for server in facts.servers:
        yield Styled(f"ccfallback  {server.describe(facts.now)}", "green")
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


def providers_table(facts: Facts, picture: Picture, width: int | None, bars: Bars) -> Table:
    """The providers, in the order in which they are tried."""
    wide = width is None or width >= WIDE
    chain = places(facts)
    header = ["", "provider", *(["format"] if wide else []), "state", "attempts", "failed", "p50"]
    rows = [
        _provider_row(place, _totals(picture, place.provider.name), facts.now, wide=wide)
        for place in chain
    ]
    right = frozenset(range(len(header) - 3, len(header)))
    columns = zip(header, *rows, strict=True)
    taken = sum(2 + max(len(_text(cell)) for cell in column) for column in columns)
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
            row.append(Styled(bars([part.latency for part in parts]), "cyan"))
            failed = [part.failed if part.ended else None for part in parts]
            row.append(Styled(bars(failed), "red"))
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
    yield from window_lines(facts.quotas, facts.now, facts.blocks)
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
    facts: Facts, picture: Picture, width: int | None, count: int | None = None
) -> Table:
    """The requests in progress, then those that ended, the newest first."""
    wide = width is None or width >= WIDE
    chain = enumerate(facts.config.chain, 1)
    numbers = {} if wide else {each.name: str(number) for number, each in chain}
    found = [*in_progress(facts, picture), *picture.ended][:count]
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


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Styled) else cell
