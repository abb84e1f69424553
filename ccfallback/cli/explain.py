"""`ccfallback explain`: why a request went where it went, one block for each candidate."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, tzinfo
from textwrap import wrap
from typing import Annotated, Final

import typer

from ccfallback.cli.options import Json, make_app
from ccfallback.cli.phrases import format_count, format_duration
from ccfallback.cli.requests_view import describe_uncounted
from ccfallback.cli.session import Session, session_of
from ccfallback.errors import CcfallbackError
from ccfallback.events import journal_reader as reader
from ccfallback.events.explain import (
    Attempt,
    Candidate,
    Cooldown,
    Explanation,
    Failback,
    Repair,
    Standing,
    explain,
)
from ccfallback.events.records import QUOTA
from ccfallback.words import format_seconds, pluralize

app = make_app()

Paint = Callable[[str, str], str]

WIDEST_TEXT: Final = 110
"""Columns; longer lines are hard to read, however wide the terminal is."""

BAR: Final = range(12, 49)
"""Columns of the time scale; not drawn where there is no room for the shortest."""

MARGIN: Final = " " * 5
OFFSET: Final = 10
"""Columns of the time since the request came in."""

LOOKS: Final[Mapping[Standing, tuple[str, str]]] = {
    Standing.ANSWERED: ("✓", "green"),
    Standing.FORWARDED: ("✗", "yellow"),
    Standing.FAILED: ("✗", "red"),
    Standing.BROKE_OFF: ("✗", "red"),
    Standing.SKIPPED: ("-", "yellow"),
    Standing.NOT_NEEDED: ("·", "dim"),
    Standing.EXCLUDED: ("·", "dim"),
    Standing.IN_PROGRESS: ("?", "yellow"),
    Standing.NOT_TRIED: ("·", "dim"),
    Standing.STOPPED: ("·", "dim"),
}
"""A sign and a colour for each, which say the same."""

QUIET: Final = (Standing.NOT_NEEDED, Standing.EXCLUDED, Standing.NOT_TRIED)
"""Not tried, for a reason that has nothing to do with the provider's health."""

REASONS: Final[Mapping[str, str]] = {
    "first": "tried first",
    "failover": "tried next",
    "next-key": "tried with the next key",
    "retry": "tried once more",
    "rectified": "tried again, repaired",
    "renewed": "tried again with a renewed credential",
    "busy-probe": "tried while another request probes it: no other was left",
    "more-time": "tried again with all of the configured time: no other has answered",
    "safety-valve": "tried although it is cooling down: no other was left",
    "network-back": "tried again: no provider could be reached a moment ago",
}

TIMEOUTS: Final[Mapping[str, str]] = {
    "connect": "no connection",
    "first_byte": "no first event",
    "first_content": "no content",
    "non_streaming": "no answer",
    "idle": "no further data",
}

EXCLUDED: Final[Mapping[str, str]] = {
    "disabled": "disabled in the configuration",
    "header": "excluded by a header of the request",
    "route": "not in the route of the request's class",
    "too-long": "skipped: the request does not fit its context window",
    "quota": "skipped, to be tried after the others",
    "spend-cap": "skipped: it has reached its cap of money",
    "token-cap": "skipped: the client's access token has reached its cap of money",
}

UNAVAILABLE: Final[Mapping[str, str]] = {
    "cooling-down": "it is cooling down",
    "spend-cap": "it has reached its cap of money",
    "too-long": "the request does not fit its context window",
    "disabled": "it is disabled",
}


@app.command("explain", epilog="Example: ccfallback explain k3f9x2a")
def explain_command(
    ctx: typer.Context,
    request: Annotated[
        str | None,
        typer.Argument(
            metavar="REQUEST_ID",
            help="A request id, or its beginning or end; by default the last request with several "
            "attempts.",
        ),
    ] = None,
    newest: Annotated[
        bool, typer.Option("--last", help="The last request, even with one attempt.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Explain what happened to one request, attempt by attempt.

    Which providers were tried or skipped, why, on what evidence, what was repaired, and which one
    answered.
    """
    if request is not None and newest:
        raise typer.BadParameter("give a request's id or --last, not both", ctx=ctx)
    session = session_of(ctx)
    session.require_config_file()
    console = session.console
    chosen = _find(session, request, newest=newest)
    it = explain(reader.request_records(session.paths.log, chosen))
    console.emit({"request": it}, lambda: "\n".join(story_lines(it, console.width, console.paint)))


def _find(session: Session, request: str | None, *, newest: bool) -> str:
    """The whole id of the request that is meant."""
    log, console = session.readable_log(), session.console
    if request is not None:
        found = reader.find_request(log, request)
        if found is None:
            raise CcfallbackError(
                f"the log has no request {request}",
                "`ccfallback logs tail` shows the end of each id; older requests are rotated out",
            )
        if found.others:
            count = pluralize(found.others, "other request")
            console.say(f"{count} would match too; this is the latest")
        return found.id
    chosen = None if newest else reader.latest_with_trouble(log)
    if chosen is not None:
        return chosen
    latest = reader.latest_request(log)
    if latest is None:
        raise CcfallbackError(
            f"no request is in the log at {log}",
            "`ccfallback serve` writes it, from the first request on",
        )
    if not newest:
        console.say("no request needed more than one attempt; this is the last one")
    return latest


# -- The story as lines


def story_lines(
    it: Explanation, width: int | None, paint: Paint, timezone: tzinfo | None = None
) -> list[str]:
    """The whole story; `width` is the terminal's, `None` where there is none."""
    return list(_Story(it, width, paint, timezone).lines())


class _Story:
    """Lays out one explanation: all candidates have the same columns and one time scale."""

    def __init__(
        self, it: Explanation, width: int | None, paint: Paint, timezone: tzinfo | None
    ) -> None:
        self._it = it
        self._paint = paint
        self._timezone = timezone
        self._wrap_at = None if width is None else min(width, WIDEST_TEXT)
        self._name = max([len(each.label) for each in it.candidates], default=0)
        self._standing = max(
            [
                len(_describe(each))
                for each in it.candidates
                if each.standing not in (*QUIET, Standing.STOPPED)
            ],
            default=0,
        )
        # Sign, number, and two columns between any two things.
        taken = len(MARGIN) + self._name + 2 + self._standing + 2
        room = 0 if width is None or not it.seconds else min(width - taken, BAR.stop - 1)
        self._bar = room if room in BAR else 0
        self._has_bars = False

    def lines(self) -> Iterator[str]:
        it, paint = self._it, self._paint
        yield paint(f"Request {it.id}", "bold")
        kind = {True: "stream", False: "whole answer", None: ""}[it.stream]
        size = "" if it.bytes is None else f"{it.bytes / 1000:.1f} kB"
        sender = " ".join(filter(None, (it.request_class, it.agent)))
        session = it.session and f"session {it.session}"
        facts = (self._day(it.began), it.model or "no model named", kind, size, sender, session)
        yield from self._text(" · ".join(filter(None, facts)), "", style="dim")
        number = 0
        before = None
        for candidate in it.candidates:
            number += candidate.standing is not Standing.EXCLUDED
            if not (before in QUIET and candidate.standing in QUIET):
                yield ""
            yield from self._candidate(candidate, number)
            before = candidate.standing
        yield ""
        if self._has_bars:
            yield from self._text("█ waiting  ░ answering", "  over time       ", style="dim")
        yield from self._end()
        for unknown in it.unknown:
            yield from self._text(unknown, "  not in the log  ", style="yellow")

    def _candidate(self, candidate: Candidate, number: int) -> Iterator[str]:
        sign, style = LOOKS[candidate.standing]
        quiet = candidate.standing in QUIET
        place = "  " if candidate.standing is Standing.EXCLUDED else f"{number:<2}"
        name = f"{candidate.label:<{self._name}}"
        standing = f"{_describe(candidate):<{self._standing}}"
        paint = self._paint
        head = (
            f"{paint(sign, style)} {paint(place, 'dim')} {paint(name, 'dim' if quiet else 'bold')}"
        )
        if candidate.standing is Standing.STOPPED:
            # A whole sentence, which would push the bars of the others off the screen.
            lead = f"{sign} {place} {name}  "
            yield from self._text(self._describe_stop(candidate), lead, style=style)
        else:
            bar = self._draw_bar(candidate)
            self._has_bars = self._has_bars or bool(bar)
            shown = standing if bar else standing.rstrip()
            yield f"{head}  {paint(shown, style)}" + (f"  {paint(bar, style)}" if bar else "")
        failback = self._it.failback
        if failback is not None and failback.provider == candidate.provider:
            yield from self._text(_describe_failback(failback), MARGIN)
        if candidate.held is not None:
            is_quota = candidate.why == QUOTA
            describe = self._describe_quota if is_quota else self._describe_held
            yield from self._text(describe(candidate.held), MARGIN)
        where = candidate.host and f"at {candidate.host}"
        mapped = candidate.model not in ("", self._it.model)
        model = f"as {candidate.model}" if mapped else ""
        if about := ", ".join(filter(None, (where, model))):
            yield from self._text(about, MARGIN, style="dim")
        for attempt in candidate.attempts:
            yield from self._attempt(attempt)
        if candidate.standing is Standing.BROKE_OFF:
            words = "broke off after the answer had begun: no other provider could take over"
            yield from self._text(words, MARGIN)
        if candidate.set is not None:
            words = self._describe_started(candidate.set)
            yield from self._text(words, MARGIN + "→ ", style="yellow")
        if candidate.recovered:
            yield from self._text("its cooldown is over: it answers again", MARGIN + "→ ")

    def _attempt(self, attempt: Attempt) -> Iterator[str]:
        since = ""
        if attempt.began is not None and self._it.began is not None:
            since = f"+{format_seconds(max(0, attempt.began - self._it.began) / 1000)}"
        lead = f"{MARGIN}{since:<{OFFSET}}"
        indent = " " * len(lead)
        why = REASONS.get(attempt.reason, attempt.reason or "tried")
        yield from self._text(f"{why}: {_result(attempt, stream=bool(self._it.stream))}", lead)
        if attempt.prevented:
            names = ", ".join(attempt.prevented)
            yield from self._text(f"repaired beforehand by {names}, as learned before", indent)
        if attempt.said and attempt.repair is None:
            yield from self._text(f"it said: {attempt.said}", indent, style="dim")
        if attempt.reset_at is not None:
            hint = attempt.reset_hint
            source = f"its {hint} header" if "-" in hint else f"its {hint or 'answer'}"
            yield from self._text(f"back at {self._time(attempt.reset_at)}, says {source}", indent)
        if attempt.repair is not None:
            yield from self._repair(attempt.repair, indent)

    def _repair(self, repair: Repair, indent: str) -> Iterator[str]:
        if repair.refusal:
            yield from self._text(f"it said: {repair.refusal}", indent, style="dim")
        result = "which it accepted" if repair.applied else "which did not help"
        words = f"repaired by {repair.rectifier}: {repair.changed}, {result}"
        yield from self._text(words, indent, style="cyan")
        if repair.difference.words:
            yield from self._text(f"in the request: {repair.difference.words}", indent, style="dim")

    def _describe_stop(self, candidate: Candidate) -> str:
        last = candidate.attempts[-1] if candidate.attempts else None
        state = "was being tried"
        if last is not None and last.ok:
            first = "" if last.seconds is None else format_seconds(last.seconds)
            state = "was answering" + (f", first content after {first}" if first else "")
        when = "" if self._it.seconds is None else f" after {format_seconds(self._it.seconds)}"
        return f"{state}; you stopped it{when}"

    def _describe_held(self, held: Cooldown) -> str:
        model = f" for {held.model}" if held.model else ""
        why = f" ({held.reason})" if held.reason else ""
        if held.probe:
            return f"its cooldown{model} is over{why}, and another request was probing it"
        since = "" if held.since is None else f" since {self._time(held.since)}"
        until = "" if held.until is None else f" until {self._time(held.until)}"
        times = f", {_failures(held.failures)}" if held.failures else ""
        return f"cooling down{model}{since}{until}{times}{why}"

    def _describe_quota(self, held: Cooldown) -> str:
        until = "" if held.until is None else f", until {self._time(held.until)}"
        return f"{held.reason}{until}"

    def _describe_started(self, cooldown: Cooldown) -> str:
        model = f" for {cooldown.model}" if cooldown.model else ""
        length = "" if cooldown.seconds is None else f" for {format_duration(cooldown.seconds)}"
        until = "" if cooldown.until is None else f", until {self._time(cooldown.until)}"
        hint = ", as it asks" if cooldown.reset_hint else ""
        return f"cooling down{model}{length}{until}: {_failures(cooldown.failures)}{hint}"

    def _end(self) -> Iterator[str]:
        it = self._it
        facts: list[tuple[str, str, str]] = []
        if it.complete and it.provider:
            count = "" if it.attempts == 1 else f", after {it.attempts} attempts"
            facts.append(("answered by", f"{it.provider}{count}", "green"))
        elif it.stopped:
            facts.append(("stopped by", "you: the client left before the end", "dim"))
        elif it.client_saw:
            count = pluralize(it.attempts, "attempt")
            facts.append(("answered by", f"no provider, after {count}", "red"))
        if it.seconds is not None:
            first = (
                "" if it.ttft is None else f", the first content after {format_seconds(it.ttft)}"
            )
            facts.append(("took", f"{format_seconds(it.seconds)}{first}", ""))
        if it.tokens:
            facts.append(("tokens", _tokens(it.tokens), ""))
        if it.uncounted:
            label, _, fact = describe_uncounted(it.uncounted).partition(": ")
            facts.append((label, fact, "dim"))
        if it.client_saw:
            facts.append(("client saw", it.client_saw, ""))
        for label, fact, style in facts:
            yield from self._text(fact, f"  {label:<14}  ", style=style)

    def _draw_bar(self, candidate: Candidate) -> str:
        """When the candidate was tried, on the scale of the time that the request took."""
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
        """A text after its lead; on a terminal, further lines are indented as far."""
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
        except (OverflowError, OSError, ValueError):  # A damaged log may hold any number.
            return None

    def _time(self, when: int) -> str:
        """A time of day, with its date if that is not the request's."""
        local = self._local(when)
        if local is None:
            return "?"
        came = None if self._it.began is None else self._local(self._it.began)
        same_day = came is None or came.date() == local.date()
        return local.strftime("%H:%M:%S" if same_day else "%b %d %H:%M:%S")

    def _day(self, when: int | None) -> str:
        local = None if when is None else self._local(when)
        return "" if local is None else local.strftime("%a %b %d %Y, %H:%M:%S")


def _describe(candidate: Candidate) -> str:
    """What became of a candidate, and how long that took."""
    times = [attempt.seconds for attempt in candidate.attempts if attempt.seconds is not None]
    if candidate.standing in (Standing.ANSWERED, Standing.FAILED, Standing.FORWARDED) and times:
        return f"{candidate.standing} in {format_seconds(sum(times))}"
    if candidate.why:
        return EXCLUDED.get(candidate.why, candidate.why)
    return str(candidate.standing)


def _result(attempt: Attempt, *, stream: bool) -> str:
    """What an attempt came to, and after how long."""
    after = "" if attempt.seconds is None else f" after {format_seconds(attempt.seconds)}"
    if attempt.ok:
        what = "an answer" if attempt.status is None else f"{attempt.status}"
        return f"{what}, the first content{after}" if stream else f"{what}{after}"
    if attempt.ok is None:
        return "result unknown"
    if attempt.timeout and attempt.timeout_seconds is not None:
        words = TIMEOUTS.get(attempt.timeout, f"{attempt.timeout} timeout")
        length = format_seconds(attempt.timeout_seconds)
        why = attempt.timeout_why or f"the {attempt.timeout} timeout"
        return f"{words} within {length} ({why})"
    return f"{attempt.result or 'failed'}{after}"


def _describe_failback(it: Failback) -> str:
    """Why a session stays with a fallback, or leaves it."""
    if it.decision == "stay":
        age = "" if it.age is None else f", {format_duration(it.age)} old"
        price = f" would re-read about {format_count(it.tokens)} tokens" if it.tokens else ""
        price += f", about ${it.cost:.2f}" if it.cost else ""
        back = f"; going back to {it.other}{price or ' would find a cold cache'}"
        return f"stayed with {it.provider}: its cache is warm{age}{back}"
    pause = "" if it.age is None else f" of {format_duration(it.age)}"
    why = f"it is not available ({it.why})" if it.why else "it is not available"
    reasons = {
        "pause": f"its cache is cold after a pause{pause}",
        "compacted": "the conversation was compacted, so no cache holds it",
        "warm-cache": "the cache here is still warm",
        "unavailable": UNAVAILABLE.get(it.why, why),
    }
    return f"came from {it.other}: {reasons.get(it.reason, it.reason)}"


def _failures(failures: int) -> str:
    return "1 failure" if failures == 1 else f"{failures} failures in a row"


def _tokens(tokens: Mapping[str, int]) -> str:
    read, written = tokens.get("cache_read", 0), tokens.get("cache_write", 0)
    into = tokens.get("input", 0) + read + written
    cached = f" ({read:,} from the cache)" if read else ""
    return f"{into:,} in{cached}, {tokens.get('output', 0):,} out"
