"""What keys do in `top`: select, filter, read a story, act on a provider, and undo that.

Each action says which command does the same. A `TopScreen` draws nothing and reads no key: it gets
keys one by one, and says what to draw.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ccfallback.cli.breaker import clear_breakers, trip_breakers
from ccfallback.cli.console import Cell, Styled, Table, align_table
from ccfallback.cli.health import format_condition, format_history, format_standing
from ccfallback.cli.phrases import format_duration, format_latency
from ccfallback.cli.session import Session
from ccfallback.cli.top_view import Facts, Look, Row, frame, places, rows, totals
from ccfallback.errors import CcfallbackError, ProviderNotFound
from ccfallback.events.live import Picture
from ccfallback.policy.breaker import CLOSED, BreakerState

if TYPE_CHECKING:
    from rich.console import RenderableType

TRIP_SECONDS: Final = 600.0
"""How long `t` puts a provider in cooldown."""

MOST_UNDONE: Final = 50

KEYS: Final = (
    ("↑ ↓ PgUp PgDn Home End", "select a provider or a request"),
    ("Enter", "its story; Enter or Esc leads back"),
    ("r", "reset the provider's breaker"),
    ("d", "disable or enable the provider"),
    ("t", f"trip its breaker for {format_duration(TRIP_SECONDS)}"),
    ("u", "undo the last of these"),
    ("/", "show only rows with a text; Esc shows all"),
    ("p", "pause, resume"),
    ("?", "these keys"),
    ("q Ctrl-C", "quit"),
)
"""The keys and what they do."""

STEPS: Final = {"up": -1, "down": 1, "k": -1, "j": 1, "pgup": -10, "pgdn": 10,
                "home": -(10**6), "end": 10**6}  # fmt: skip

LEAVING: Final = ("q", "Q")


@dataclass(slots=True)
class _Page:
    """A text over the whole screen."""

    lines: Sequence[str]
    offset: int = 0


class TopScreen:
    """The state of the screen between two keys."""

    def __init__(self, session: Session, facts: Facts, picture: Picture) -> None:
        self._session = session
        self._facts, self._picture = facts, picture
        self._selected: Row | None = None
        self._place = 0
        """Where the selected row was, for when it is gone."""
        self._wanted = ""
        self._is_typing = False
        self._page: _Page | None = None
        self._message: Styled | None = None
        self._undo: list[tuple[str, Callable[[], object]]] = []
        self.is_paused = False

    def ends_with(self, key: str) -> bool:
        """Whether a key quits."""
        return key in LEAVING and not self._is_typing

    def show(self, facts: Facts, picture: Picture) -> None:
        """Take a new look at how things are."""
        self._facts, self._picture = facts, picture

    def press(self, key: str, width: int) -> bool:
        """Do what a key means; returns whether that changes what is known, so that a look is due.

        `width` is that of the screen, for a story.
        """
        self._message = None
        if self._is_typing:
            self._type(key)
        elif key in STEPS:
            self._move(STEPS[key])
        elif self._page is not None:
            if key in ("enter", "esc", "left", "?"):
                self._page = None
        elif key in ("enter", "right"):
            self._open(width)
        elif key == "esc":
            self._wanted, self._selected = "", None
        elif key == "?":
            self._page = _Page([f"{name:<24}{what}" for name, what in KEYS])
        elif key == "/":
            self._is_typing = True
        elif key == "p":
            self.is_paused = not self.is_paused
        elif key in ("r", "d", "t", "u"):
            return self._act(key)
        return False

    def draw(self, colour: bool, footer: str) -> "Callable[[tuple[int, int]], RenderableType]":
        """A function that draws it."""
        facts, picture, page = self._facts, self._picture, self._page
        if page is not None:
            return lambda size: _draw_page(page, size)
        if self._is_typing:
            footer = f"/{self._wanted}▏  Enter keeps the filter, Esc shows all"
        elif self._wanted:
            footer = f"only {self._wanted!r}: Esc shows all; {footer}"
        look = Look(colour, footer, self._selected, self._wanted, self._message)
        return lambda size: frame(facts, picture, look, size)

    def _rows(self) -> list[Row]:
        return rows(self._facts, self._picture, self._wanted)

    def _move(self, step: int) -> None:
        if self._page is not None:
            last = max(0, len(self._page.lines) - 1)
            self._page.offset = min(max(0, self._page.offset + step), last)
            return
        found = self._rows()
        if not found:
            return
        if self._selected in found:
            self._place = found.index(self._selected) + step
        elif self._selected is None and step > 0:
            self._place = step - 1
        self._place = min(max(0, self._place), len(found) - 1)
        self._selected = found[self._place]

    def _type(self, key: str) -> None:
        if key == "enter":
            self._is_typing = False
        elif key == "esc":
            self._is_typing, self._wanted = False, ""
        elif key in ("\x7f", "\b"):
            self._wanted = self._wanted[:-1]
        elif len(key) == 1 and key.isprintable():
            self._wanted += key
        self._selected = None

    # -- Stories

    def _open(self, width: int) -> None:
        row = self._selected
        if row is None:
            self._say("select a row with ↑ and ↓ first")
            return
        try:
            tell = self._tell_provider if row.kind == "provider" else self._tell_request
            self._page = _Page(tell(row.id, width))
        except CcfallbackError as error:
            self._say(error.message, "red")

    def _tell_request(self, request: str, width: int) -> list[str]:
        from ccfallback.cli.explain import story_lines
        from ccfallback.events.explain import explain
        from ccfallback.events.journal_reader import request_records

        records = request_records(self._session.paths.log, request)
        if not records:
            raise CcfallbackError("the log does not have this request any more")
        lines = story_lines(explain(records), width, self._session.console.paint)
        return [*lines, "", f"`ccfallback explain {request}`"]

    def _tell_provider(self, name: str, _width: int) -> list[str]:
        """The state of a provider, what it did in the window, and why it failed."""
        place = next((each for each in places(self._facts) if each.provider.name == name), None)
        if place is None:
            raise ProviderNotFound(f"no provider is named {name}")
        now, state, found = self._facts.now, place.state, totals(self._picture, name)
        standing = format_standing(place.provider, self._facts.states.get(name, CLOSED), now)
        failures, failed, succeeded = format_history(state, now)
        counts = f"{found.attempts.total():,} attempts, {found.failures:,} failed"
        p50 = found.latency.quantile(0.5)
        facts: list[tuple[Cell, Cell]] = [
            ("place in the chain", f"fallback {place.number}" if place.number else "primary"),
            ("format", place.provider.format),
            ("state", standing),
            ("failures in a row", failures),
            ("last failure", failed),
            ("last success", succeeded),
            *((f"for {model}", format_condition(own, now)) for model, own in state.models.items()),
            (
                f"last {format_duration(self._picture.window)}",
                f"{counts}, {found.answers:,} answers",
            ),
            ("latency", format_latency(None if p50 is None else p50 / 1000)),
            *((f"failed {count:,} times", why) for why, count in found.reasons.most_common()),
        ]
        head = self._session.console.paint(f"Provider {name}", "bold")
        table = align_table(Table(facts)).splitlines()
        return [head, "", *table, "", f"`ccfallback providers show {name}`"]

    # -- Actions

    def _act(self, key: str) -> bool:
        if key == "u":
            return self._take_back()
        row = self._selected
        if row is None or row.kind != "provider":
            self._say("select a provider first: ↑ and ↓")
            return False
        act = {"r": self._reset, "d": self._switch, "t": self._trip}[key]
        try:
            said = act(row.id)
        except (CcfallbackError, OSError) as error:
            self._say(getattr(error, "message", str(error)), "red")
            return False
        del self._undo[:-MOST_UNDONE]
        self._say(said)
        return True

    def _take_back(self) -> bool:
        if not self._undo:
            self._say("nothing to undo")
            return False
        what, undo = self._undo.pop()
        try:
            undo()
        except (CcfallbackError, OSError) as error:
            self._say(getattr(error, "message", str(error)), "red")
            return False
        self._say(f"undone: {what}")
        return True

    def _reset(self, name: str) -> str:
        before = self._state(name)
        if not clear_breakers(self._session, self._facts.config, [name]):
            return f"{name} has no failures"
        self._undo.append((f"the reset of {name}", lambda: self._put_back(name, before)))
        return f"{name} reset: `ccfallback breaker reset {name}`; u undoes it"

    def _trip(self, name: str) -> str:
        before = self._state(name)
        trip_breakers(self._session, self._facts.config, [name], TRIP_SECONDS)
        self._undo.append((f"the trip of {name}", lambda: self._put_back(name, before)))
        return f"{name} tripped: `ccfallback breaker trip {name} --for 10m`; u undoes it"

    def _switch(self, name: str) -> str:
        from ccfallback.cli.providers.edit import switch_providers

        provider = self._facts.config.provider(name)
        if provider is None:
            raise ProviderNotFound(f"no provider is named {name}")
        disabled = not provider.disabled
        switch_providers(self._session, [name], disabled=disabled)

        def undo() -> None:
            switch_providers(self._session, [name], disabled=not disabled)

        verb = "disable" if disabled else "enable"
        self._undo.append((f"{name} is {'enabled' if disabled else 'disabled'} again", undo))
        return f"{name} {verb}d: `ccfallback providers {verb} {name}`; u undoes it"

    def _state(self, name: str) -> BreakerState | None:
        return self._session.store.load().states.get(name)

    def _put_back(self, name: str, state: BreakerState | None) -> None:
        def put(states: dict[str, BreakerState]) -> dict[str, BreakerState]:
            others = {each: own for each, own in states.items() if each != name}
            return others if state is None else {**others, name: state}

        self._session.store.update(put)

    def _say(self, text: str, style: str = "cyan") -> None:
        self._message = Styled(self._session.console.add_file_options(text), style)


def _draw_page(page: _Page, size: tuple[int, int]) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    room = max(1, size[1] - 1)
    offset = min(page.offset, max(0, len(page.lines) - room))
    shown = page.lines[offset : offset + room]
    lines = [Text.from_ansi(line, no_wrap=True, overflow="ellipsis") for line in shown]
    lines += [Text("")] * (room - len(shown))
    more = " ↓ more," if offset + room < len(page.lines) else ""
    return Group(*lines, Text(f"{more} Enter or Esc leads back, q quits".strip(), style="dim"))
