"""`ccfallback top`: providers and requests as they are right now, on a screen that keeps up."""

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import typer

from ccfallback.cli.options import Json, make_app, parse_duration
from ccfallback.cli.session import Session, session_of

if TYPE_CHECKING:
    from ccfallback.cli.top_view import Facts
    from ccfallback.events.live_stats import Picture

app = make_app()

SHORTEST: Final = 0.1
"""Seconds between two looks."""

PATIENCE: Final = 0.3
"""Seconds for the server's answer, in which keys have to wait."""


@app.command("top", epilog="Example: ccfallback top --since 1h")
def top(
    ctx: typer.Context,
    since: str = typer.Option("15m", metavar="DURATION", help="What counts: the last 15m, 1h, 1d."),
    interval: str = typer.Option(
        "1s", metavar="DURATION", help="How often to look: every 500ms, 1s, 5s."
    ),
    as_json: Json = False,
) -> None:
    """Watch providers and requests live.

    `q` or Ctrl-C leaves, `p` pauses. In a pipe, or with --json, it shows once how things are. It
    only looks: nothing is changed.
    """
    session = session_of(ctx)
    window, pause = parse_duration(since, "--since"), parse_duration(interval, "--interval")
    if window <= 0 or pause < SHORTEST:
        wrong = "--since" if window <= 0 else "--interval"
        raise typer.BadParameter("that is too short", param_hint=f"'{wrong}'")
    with closing(_Lookout(session, window)) as lookout:
        if session.console.has_screen and not as_json:
            _live(lookout, pause)
        else:
            _once(lookout)


class _Lookout:
    """Reads what there is to know, and knows at each look what has changed."""

    def __init__(self, session: Session, window: float) -> None:
        from ccfallback.events import journal_reader as journal
        from ccfallback.events.live_stats import LiveStats

        self.session = session
        self._watch: LiveStats = LiveStats(window)
        # Of a configuration that does not load it is for the console to tell, as of any other.
        self._stamp = session.config_file.stamp()
        self._config = session.config()
        self._broken = ""
        path = session.paths.log
        end = journal.mark(path)
        self._log = journal.Follower(path, end)
        earlier = (record for record, _ in journal.backwards(path, end))
        self._watch.recall(earlier, session.now())

    def look(self) -> "tuple[Facts, Picture]":
        """How things are."""
        from ccfallback.cli.running_server import find_server
        from ccfallback.cli.top_view import Facts
        from ccfallback.events.journal_reader import decoded

        session, watch = self.session, self._watch
        now = session.now()
        for line in self._log.look():
            if (record := decoded(line)) is not None:
                watch.add(record, now)
        self._refresh()
        # Only looked at: to set a corrupt file aside is not for a viewer.
        state = session.store.peek()
        found = find_server(session.paths, self._config, PATIENCE)
        troubles = [
            self._broken,
            f"the state file can't be used: {state.problem}" if state.problem else "",
            self._of_log(),
        ]
        facts = Facts(self._config, state.states, found, now, [each for each in troubles if each])
        return facts, watch.picture(now)

    def close(self) -> None:
        """Let go of the log."""
        self._log.close()

    def _refresh(self) -> None:
        """Read the configuration if it has changed; the last good one stays, as in the server."""
        from ccfallback.errors import CcfallbackError

        stamp = self.session.config_file.stamp()
        if stamp == self._stamp:
            return
        self._stamp, self._broken = stamp, ""
        try:
            self._config = self.session.config()
        except CcfallbackError as error:
            fault = next(iter(getattr(error, "faults", ())), error.message)
            self._broken = f"the configuration does not load any more: {fault}"

    def _of_log(self) -> str:
        path = self.session.paths.log
        if not path.exists():
            return f"no log yet at {path}"
        if self._config.log.level in ("warn", "error"):
            return f'of requests the log says little: [log] level is "{self._config.log.level}"'
        return ""


def _once(lookout: _Lookout) -> None:
    from ccfallback.cli import top_view as board

    console = lookout.session.console
    facts, picture = lookout.look()
    console.emit(_document(facts, picture), lambda: board.page(facts, picture, console.sparkline))


def _live(lookout: _Lookout, pause: float) -> None:
    """Show it until somebody has seen enough; what Ctrl-Z stopped goes on afterwards."""
    from ccfallback.cli import keys

    try:
        while _watch(lookout, pause) == keys.SUSPEND:
            keys.suspend()
    except KeyboardInterrupt:
        return  # It is how one ends watching, not an interruption of anything.


def _watch(lookout: _Lookout, pause: float) -> str:
    """Show it until a key ends that; gives the key."""
    from functools import partial
    from time import monotonic

    from ccfallback.cli import keys
    from ccfallback.cli import top_view as board

    leaving = ("q", "Q", keys.SUSPEND, keys.END)
    console = lookout.session.console
    colour, bars, paused = console.colour, console.sparkline, False
    with keys.keys(console.stdin) as pressed, console.screen() as show:
        facts, picture = lookout.look()
        due = monotonic() + pause
        while True:
            look = board.Look(bars, colour, _remark(pressed.known, paused=paused, pause=pause))
            show(partial(board.frame, facts, picture, look))
            for key in pressed.wait(due - monotonic()):
                if key in leaving:
                    return key
                paused ^= key == "p"
            if monotonic() >= due:
                due = monotonic() + pause
                if not paused:
                    facts, picture = lookout.look()


def _remark(known: bool, *, paused: bool, pause: float) -> str:
    if not known:
        return "Ctrl-C leaves"
    return "paused: p goes on, q leaves" if paused else f"q leaves, p pauses, new every {pause:g} s"


def _document(facts: "Facts", picture: "Picture") -> dict[str, Any]:
    """The same for a script: times in Unix milliseconds, durations in milliseconds."""
    from ccfallback.cli import recent_requests as recent
    from ccfallback.cli import top_view as board
    from ccfallback.cli.breaker import health_json
    from ccfallback.cli.running_server import server_json
    from ccfallback.events.live_stats import Tries
    from ccfallback.events.stats import quantiles
    from ccfallback.policy.breaker import Limits

    limits = Limits.from_config(facts.config)
    providers = []
    for place in board.places(facts):
        provider = place.provider
        tries = picture.providers.get(provider.name) or Tries()
        known = health_json(
            provider.name, place.state, facts.now, limits, disabled=provider.disabled
        )
        providers.append(
            {
                **known,
                "format": provider.format,
                "state": place.word,
                "attempts": tries.attempts,
                "failures": tries.failures,
                "answered": tries.answered,
                "latency": quantiles(tries.latency),
            }
        )
    return {
        **server_json(facts.found),
        "troubles": list(facts.troubles),
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
                "asked": recent.asked(each.story),
            }
            for each in board.under_way(facts, picture)
        ],
        "requests": [
            {**recent.brief(end), "asked": recent.asked(each.story)}
            for each in picture.ended
            if (end := each.end) is not None
        ],
    }
