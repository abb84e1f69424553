"""`ccfallback top`: providers and requests as they are right now, on a screen that keeps up.

This module looks again and again; `top_view` draws a look, `top_screen` knows what keys do.
"""

from contextlib import closing
from time import monotonic
from typing import Any, Final

import typer

from ccfallback.cli import keyboard
from ccfallback.cli.caps import find_limits, limit_json
from ccfallback.cli.health import health_json
from ccfallback.cli.options import Json, make_app, parse_duration, parse_since
from ccfallback.cli.quota import read_reports, reports_json
from ccfallback.cli.requests_view import request_json, tried_json
from ccfallback.cli.running_server import find_servers, servers_json
from ccfallback.cli.session import Session, session_of
from ccfallback.cli.top_screen import TopScreen
from ccfallback.cli.top_view import Facts, in_progress, page, places, totals
from ccfallback.errors import CcfallbackError
from ccfallback.events import journal_reader as reader
from ccfallback.events.live import LiveStats, Picture
from ccfallback.events.records import decode
from ccfallback.policy.breaker import CLOSED, valid_states

app = make_app()

SHORTEST_INTERVAL: Final = 0.1

SERVER_WAIT: Final = 0.3
"""Seconds for the server's answer; keys wait as long."""


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

    Arrows select, Enter tells the story of a request or a provider; `r` resets, `d` disables or
    enables, `t` trips a provider, `u` undoes that; `?` lists all keys. In a pipe, or with --json,
    it prints once and changes nothing.
    """
    session = session_of(ctx)
    window, pause = parse_since(session, since)[0], parse_duration(interval, "--interval")
    if window <= 0 or pause < SHORTEST_INTERVAL:
        wrong = "--since" if window <= 0 else "--interval"
        raise typer.BadParameter("that is too short", param_hint=f"'{wrong}'")
    console = session.console
    with closing(_Viewer(session, window)) as viewer:
        if console.has_screen and not as_json:
            _live(viewer, pause)
        else:
            facts, picture = viewer.look()
            console.emit(_top_json(facts, picture), lambda: page(facts, picture))


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
            session.state_trouble(state),
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
            find_limits(session, self._config, now),
        )
        return facts, self._live.picture(now)

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _reload_config(self) -> None:
        """Read the configuration if it has changed; keep the last good one, as the server does."""
        stamp = self.session.config_file.stamp()
        # What makes a broken one readable may leave its stamp as it is, such as `chmod`.
        if stamp == self._stamp and not self._config_problem:
            return
        self._stamp = stamp
        try:
            self._config, self._config_problem = self.session.config_in_use(needs_server=False)
        except CcfallbackError as error:
            self._config_problem = error.message

    def _log_problem(self) -> str:
        path, level = self.session.paths.log, self._config.log.level
        if trouble := self.session.log_trouble:
            return trouble
        if not path.exists():
            return f"no log yet at {path}"
        if level in ("warn", "error"):
            return f'the log says little about requests: [log] level is "{level}"'
        return ""


def _live(viewer: _Viewer, pause: float) -> None:
    """Show it until the user leaves; after Ctrl-Z and `fg` it goes on."""
    screen = TopScreen(viewer.session, *viewer.look())
    try:
        while _show_until_key(viewer, screen, pause) == keyboard.SUSPEND:
            keyboard.suspend()
    except KeyboardInterrupt:
        return  # This is how a person stops watching; nothing was interrupted.


def _show_until_key(viewer: _Viewer, screen: TopScreen, pause: float) -> str:
    """Show it until a key ends that; returns the key."""
    console = viewer.session.console
    with keyboard.read_keys(console.stdin) as pressed, console.screen() as show:
        screen.show(*viewer.look())
        due = monotonic() + pause
        while True:
            footer = _footer(console.size[0], screen, pause, has_keys=pressed.available)
            show(screen.draw(console.colour, footer))
            is_due = False
            for key in pressed.wait(due - monotonic()):
                if key in (keyboard.SUSPEND, keyboard.END) or screen.ends_with(key):
                    return key
                is_due |= screen.press(key, console.size[0])
            if is_due or monotonic() >= due:
                due = monotonic() + pause
                if is_due or not screen.is_paused:
                    screen.show(*viewer.look())


def _footer(width: int, screen: TopScreen, pause: float, *, has_keys: bool) -> str:
    """What keys there are, as far as the width allows."""
    if not has_keys:
        return "Ctrl-C quits"
    if screen.is_paused:
        return "paused: p resumes, q quits"
    most = f"q quits, p pauses, ? keys, ↑↓ select, Enter: story, refreshed every {pause:g} s"
    return next(
        (text for text in (most, most.rpartition(",")[0]) if len(text) < width),
        "q quits, ? keys",
    )


def _top_json(facts: Facts, picture: Picture) -> dict[str, Any]:
    """The same for `--json`: times in Unix milliseconds, durations in milliseconds."""
    providers = []
    for place in places(facts):
        provider, found = place.provider, totals(picture, place.provider.name)
        state = facts.states.get(provider.name, CLOSED)
        health = health_json(provider, state, facts.now)
        providers.append(
            {
                **health,
                "format": provider.format,
                "state": place.word,
                "attempts": found.attempts.total(),
                "failures": found.failures,
                "uncounted": found.uncounted,
                "answered": found.answers,
                "latency": found.latency.quantiles(),
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
