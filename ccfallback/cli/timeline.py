"""The story of one request as lines for a person: one block a candidate, on one time scale."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, tzinfo
from math import ceil
from textwrap import wrap
from typing import Final

from ccfallback.cli.phrases import format_duration
from ccfallback.events.explanation import (
    Attempt,
    Candidate,
    Cooldown,
    Explanation,
    Repair,
    Standing,
)

Paint = Callable[[str, str], str]

WIDEST_TEXT: Final = 110
"""Columns; longer lines are hard to read, however wide the terminal is."""

BAR: Final = range(12, 49)
"""Columns of the time scale: it is left out where there is no room for the shortest."""

MARGIN: Final = " " * 5
OFFSET: Final = 10
"""Columns of the time since the request came in."""

LOOKS: Final[Mapping[Standing, tuple[str, str]]] = {
    Standing.ANSWERED: ("✓", "green"),
    Standing.HANDED_ON: ("✗", "yellow"),
    Standing.FAILED: ("✗", "red"),
    Standing.BROKE_OFF: ("✗", "red"),
    Standing.PASSED_BY: ("-", "yellow"),
    Standing.NOT_NEEDED: ("·", "dim"),
    Standing.LEFT_OUT: ("·", "dim"),
    Standing.UNDER_WAY: ("?", "yellow"),
}
"""A sign and a colour, each of which says enough without the other."""

QUIET: Final = (Standing.NOT_NEEDED, Standing.LEFT_OUT)
"""Who was not asked, for a reason that has nothing to do with this request."""

REASONS: Final[Mapping[str, str]] = {
    "first": "asked first",
    "failover": "asked next",
    "retry": "asked once more",
    "rectified": "asked again, repaired",
    "busy-probe": "asked while another request tries it: nobody else was left",
    "safety-valve": "asked although it cools down: nobody else was left",
    "network-back": "asked again: nobody could be reached a moment ago",
}

TIMEOUTS: Final[Mapping[str, str]] = {
    "connect": "no connection",
    "first_byte": "no first event",
    "first_content": "no content",
    "non_streaming": "no answer",
    "idle": "no further word",
}

LEFT_OUT: Final[Mapping[str, str]] = {
    "disabled": "disabled in the configuration",
    "header": "left out by a header of the client's",
}


def lines(
    it: Explanation, width: int | None, paint: Paint, timezone: tzinfo | None = None
) -> list[str]:
    """The whole story; `width` is the terminal's, `None` where there is none."""
    return list(_Page(it, width, paint, timezone).lines())


class _Page:
    def __init__(
        self, it: Explanation, width: int | None, paint: Paint, timezone: tzinfo | None
    ) -> None:
        self._it = it
        self._paint = paint
        self._timezone = timezone
        self._wrap_at = None if width is None else min(width, WIDEST_TEXT)
        self._name = max([len(each.provider) for each in it.candidates], default=0)
        self._standing = max(
            [len(_standing(each)) for each in it.candidates if each.standing not in QUIET],
            default=0,
        )
        # Sign, number, and two columns between any two things.
        taken = len(MARGIN) + self._name + 2 + self._standing + 2
        room = 0 if width is None or not it.seconds else min(width - taken, BAR.stop - 1)
        self._bar = room if room in BAR else 0

    def lines(self) -> Iterator[str]:
        it, paint = self._it, self._paint
        yield paint(f"Request {it.id}", "bold")
        kind = {True: "stream", False: "whole answer", None: ""}[it.stream]
        size = "" if it.bytes is None else f"{it.bytes / 1000:.1f} kB"
        facts = (self._day(it.began), it.model or "no model named", kind, size)
        yield from self._text(" · ".join(filter(None, facts)), "", style="dim")
        number = 0
        before = None
        for candidate in it.candidates:
            number += candidate.standing is not Standing.LEFT_OUT
            if not (before in QUIET and candidate.standing in QUIET):
                yield ""
            yield from self._block(candidate, number)
            before = candidate.standing
        yield ""
        yield from self._end()
        for unknown in it.unknown:
            yield from self._text(unknown, "  not in the log  ", style="yellow")

    def _block(self, candidate: Candidate, number: int) -> Iterator[str]:
        sign, style = LOOKS[candidate.standing]
        quiet = candidate.standing in QUIET
        place = "  " if candidate.standing is Standing.LEFT_OUT else f"{number:<2}"
        name = f"{candidate.provider:<{self._name}}"
        standing = f"{_standing(candidate):<{self._standing}}"
        paint = self._paint
        head = (
            f"{paint(sign, style)} {paint(place, 'dim')} {paint(name, 'dim' if quiet else 'bold')}"
        )
        bar = self._scale(candidate)
        shown = standing if bar else standing.rstrip()
        yield f"{head}  {paint(shown, style)}" + (f"  {paint(bar, style)}" if bar else "")
        if candidate.held is not None:
            yield from self._text(self._held(candidate.held), MARGIN)
        where = candidate.host and f"at {candidate.host}"
        other = candidate.model not in ("", self._it.model)
        model = f"as {candidate.model}" if other else ""
        if about := ", ".join(filter(None, (where, model))):
            yield from self._text(about, MARGIN, style="dim")
        for attempt in candidate.attempts:
            yield from self._attempt(attempt)
        if candidate.standing is Standing.BROKE_OFF:
            yield from self._text(
                "broke off after the answer had begun: nobody else could take over", MARGIN
            )
        if candidate.set is not None:
            yield from self._text(self._set(candidate.set), MARGIN + "→ ", style="yellow")
        if candidate.recovered:
            yield from self._text("its cooldown is over: it answers again", MARGIN + "→ ")

    def _attempt(self, attempt: Attempt) -> Iterator[str]:
        since = ""
        if attempt.began is not None and self._it.began is not None:
            since = f"+{_took(max(0, attempt.began - self._it.began) / 1000)}"
        lead = f"{MARGIN}{since:<{OFFSET}}"
        indent = " " * len(lead)
        why = REASONS.get(attempt.reason, attempt.reason or "asked")
        yield from self._text(f"{why}: {_result(attempt, stream=bool(self._it.stream))}", lead)
        if attempt.prevented:
            known = ", ".join(attempt.prevented)
            yield from self._text(f"repaired beforehand by {known}, as learned before", indent)
        if attempt.said and attempt.repair is None:
            yield from self._text(f"it said: {attempt.said}", indent, style="dim")
        if attempt.reset_at is not None:
            source = _source(attempt.reset_hint)
            yield from self._text(f"back at {self._time(attempt.reset_at)}, says {source}", indent)
        if attempt.repair is not None:
            yield from self._repair(attempt.repair, indent)

    def _repair(self, repair: Repair, indent: str) -> Iterator[str]:
        if repair.refusal:
            yield from self._text(f"it said: {repair.refusal}", indent, style="dim")
        taken = "which it took" if repair.applied else "to no avail"
        words = f"repaired by {repair.rectifier}: {repair.changed}, {taken}"
        yield from self._text(words, indent, style="cyan")
        if repair.difference.words:
            yield from self._text(f"in the request: {repair.difference.words}", indent, style="dim")

    def _held(self, held: Cooldown) -> str:
        model = f" for {held.model}" if held.model else ""
        why = f" ({held.reason})" if held.reason else ""
        if held.probe:
            return f"its cooldown{model} is over{why}, and another request was trying it"
        since = "" if held.since is None else f" since {self._time(held.since)}"
        until = "" if held.until is None else f" until {self._time(held.until)}"
        times = f", {_times(held.failures)}" if held.failures else ""
        return f"cools down{model}{since}{until}{times}{why}"

    def _set(self, cooldown: Cooldown) -> str:
        model = f" for {cooldown.model}" if cooldown.model else ""
        length = "" if cooldown.seconds is None else f" for {format_duration(cooldown.seconds)}"
        until = "" if cooldown.until is None else f", until {self._time(cooldown.until)}"
        hint = ", as it asks" if cooldown.reset_hint else ""
        return f"left out{model}{length}{until}: {_times(cooldown.failures)}{hint}"

    def _end(self) -> Iterator[str]:
        it = self._it
        facts: list[tuple[str, str, str]] = []
        if it.complete and it.provider:
            count = "" if it.attempts == 1 else f", after {it.attempts} attempts"
            facts.append(("answered by", f"{it.provider}{count}", "green"))
        elif it.client_saw:
            count = f"{it.attempts} attempt{'' if it.attempts == 1 else 's'}"
            facts.append(("answered by", f"nobody, after {count}", "red"))
        if it.seconds is not None:
            first = "" if it.ttft is None else f", the first content after {_took(it.ttft)}"
            facts.append(("took", f"{_took(it.seconds)}{first}", ""))
        if it.tokens:
            facts.append(("tokens", _tokens(it.tokens), ""))
        if it.client_saw:
            facts.append(("client saw", it.client_saw, ""))
        for label, fact, style in facts:
            yield from self._text(fact, f"  {label:<14}  ", style=style)

    def _scale(self, candidate: Candidate) -> str:
        """When the candidate's turn was, drawn on the time that the request took."""
        it, whole = self._it, self._it.seconds
        if not self._bar or not whole or it.began is None or not candidate.attempts:
            return ""
        first, last = candidate.attempts[0], candidate.attempts[-1]
        if first.began is None or last.began is None or last.seconds is None:
            return ""
        begin = (first.began - it.began) / 1000
        end = (last.began - it.began) / 1000 + last.seconds
        answered = candidate.standing in (Standing.ANSWERED, Standing.BROKE_OFF)
        stop = whole if answered and it.stream else end

        def column(seconds: float) -> int:
            return round(min(max(seconds / whole, 0), 1) * self._bar)

        start = min(column(begin), self._bar - 1)
        solid = max(1, column(end) - start)
        faint = max(0, column(stop) - start - solid)
        return " " * start + "█" * solid + "░" * faint

    def _text(self, text: str, lead: str, *, style: str = "") -> Iterator[str]:
        """A text behind its lead, wrapped below itself where there is a terminal."""
        pieces = [text]
        if self._wrap_at is not None:
            room = max(20, self._wrap_at - len(lead))
            pieces = wrap(text, room, break_on_hyphens=False) or [""]
        for place, piece in enumerate(pieces):
            head = self._paint(lead, "dim") if place == 0 else " " * len(lead)
            yield f"{head}{self._paint(piece, style)}".rstrip()

    def _local(self, when: int) -> datetime | None:
        try:
            return datetime.fromtimestamp(when / 1000, self._timezone)
        except (OverflowError, OSError, ValueError):  # No clock of ours wrote it.
            return None

    def _time(self, when: int) -> str:
        """A moment, with its day where that is another than the request's."""
        local = self._local(when)
        if local is None:
            return "?"
        came = None if self._it.began is None else self._local(self._it.began)
        same_day = came is None or came.date() == local.date()
        return local.strftime("%H:%M:%S" if same_day else "%b %d %H:%M:%S")

    def _day(self, when: int | None) -> str:
        local = None if when is None else self._local(when)
        return "" if local is None else local.strftime("%a %b %d %Y, %H:%M:%S")


def _standing(candidate: Candidate) -> str:
    """What became of a candidate, and how long that took."""
    times = [attempt.seconds for attempt in candidate.attempts if attempt.seconds is not None]
    if candidate.standing in (Standing.ANSWERED, Standing.FAILED, Standing.HANDED_ON) and times:
        return f"{candidate.standing} in {_took(sum(times))}"
    if candidate.why:
        return LEFT_OUT.get(candidate.why, candidate.why)
    return str(candidate.standing)


def _result(attempt: Attempt, *, stream: bool) -> str:
    """What an attempt came to, and after how long."""
    after = "" if attempt.seconds is None else f" after {_took(attempt.seconds)}"
    if attempt.ok:
        what = f"{attempt.status}" if attempt.status is not None else "an answer"
        return f"{what}, the first content{after}" if stream else f"{what}{after}"
    if attempt.ok is None:
        return "no word of what came of it"
    if attempt.timeout and attempt.timeout_seconds is not None:
        words = TIMEOUTS.get(attempt.timeout, f"{attempt.timeout} timeout")
        return f"{words} within {_took(attempt.timeout_seconds)} (the {attempt.timeout} timeout)"
    return f"{attempt.result or 'failed'}{after}"


def _took(seconds: float) -> str:
    if seconds < 0.0995:
        return f"{ceil(seconds * 1000)} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def _times(failures: int) -> str:
    return "failed once" if failures == 1 else f"failed {failures} times in a row"


def _source(hint: str) -> str:
    return f"its {hint} header" if "-" in hint else f"its {hint or 'answer'}"


def _tokens(tokens: Mapping[str, int]) -> str:
    read, written = tokens.get("cache_read", 0), tokens.get("cache_write", 0)
    into = tokens.get("input", 0) + read + written
    cached = f" ({read:,} from the cache)" if read else ""
    return f"{into:,} in{cached}, {tokens.get('output', 0):,} out"
