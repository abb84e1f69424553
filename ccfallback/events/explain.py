"""Why a request went where it went: its records turned into one value.

Nothing here raises. A log may have lost the beginning of a request to rotation, or may never have
had all of it: what it can't tell is in `Explanation.unknown`. Times are Unix milliseconds,
durations are seconds, and every text is fit for a terminal.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from msgspec import UnsetType

from ccfallback.config.model import PRIMARY_NAME
from ccfallback.events.records import (
    QUOTA,
    SPEND_CAP,
    TOKEN_CAP,
    TOO_LONG,
    AttemptEnd,
    AttemptFailure,
    AuthFailure,
    CircuitBreakerCooldown,
    CircuitBreakerReset,
    CircuitBreakerSkip,
    Event,
    FailbackReturn,
    FailbackStay,
    ProviderAttempt,
    ProviderFailure,
    ProviderSuccess,
    ProviderTimeout,
    Record,
    RectifierApplied,
    RectifierAttempt,
    RequestComplete,
    RequestEnd,
    RequestError,
    RequestStart,
    SpendCap,
    all_printable,
    milliseconds,
)
from ccfallback.words import label, plural, pluralize

SHOWN_HEADERS: Final = ("retry-after", "x-should-retry")
"""Headers of our own answers that tell the client whether, and when, to try again."""


class Standing(StrEnum):
    """What became of a candidate."""

    ANSWERED = "answered"
    FORWARDED = "forwarded"
    """The client got its refusal as it came."""
    FAILED = "failed"
    BROKE_OFF = "broke off"
    """It failed after the commit point."""
    SKIPPED = "skipped"
    NOT_NEEDED = "not needed"
    EXCLUDED = "excluded"
    """It is disabled, or a header or the route of the request excludes it."""
    IN_PROGRESS = "in progress"
    """The log does not say how it ended."""
    NOT_TRIED = "not tried yet"
    """The request is in progress, and its turn has not come."""
    STOPPED = "stopped"
    """The client left while it was tried, or while it was answering."""


@dataclass(slots=True)
class Difference:
    """What a repair changed in the request: names and counts."""

    removed: list[str] = field(default_factory=list)
    """Members of the body, as `added` and `rewritten` are."""
    added: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    betas: list[str] = field(default_factory=list)
    """Removed flags of `anthropic-beta`."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many more or fewer messages of a role (`system_messages`), or blocks of a kind."""
    renamed: int = 0
    """Tools with a new name."""
    quirks: list[str] = field(default_factory=list)
    """Switched quirks of the provider's format."""
    words: str = ""
    """All of it for a person; empty if the log does not say."""


@dataclass(slots=True)
class Repair:
    """What a rectifier did about a refusal."""

    rectifier: str
    changed: str
    refusal: str
    applied: bool = False
    """Whether the provider accepted the repaired request."""
    difference: Difference = field(default_factory=Difference)


@dataclass(slots=True)
class Attempt:
    """One request to a provider, and its result."""

    number: int
    reason: str
    """Why it was made: `first`, `failover`, `retry`, `rectified`, `safety-valve`, …"""
    began: int | None = None
    seconds: float | None = None
    """To the first content of a stream, to the end of anything else."""
    ok: bool | None = None
    status: int | None = None
    fault: str = ""
    result: str = ""
    """What it came to, in a few words."""
    said: str = ""
    """The provider's own words."""
    timeout: str = ""
    """The timeout that expired, and its length in seconds."""
    timeout_seconds: float | None = None
    timeout_why: str = ""
    """What that length follows from, if it is not the configured one."""
    reset_at: int | None = None
    """When the provider expects to be back, and the header that holds that time."""
    reset_hint: str = ""
    prevented: list[str] = field(default_factory=list)
    """Repairs that were applied before sending."""
    repair: Repair | None = None
    """What was done about its refusal."""


@dataclass(slots=True)
class Cooldown:
    """A time in which a provider is not tried."""

    until: int | None
    seconds: float | None = None
    """How long it was when it began."""
    since: int | None = None
    model: str = ""
    """The one model that cools down; all models if empty."""
    failures: int = 0
    reason: str = ""
    reset_hint: str = ""
    last_failure: int | None = None
    probe: bool = False
    """Whether it is over and another request probes the provider."""


@dataclass(slots=True)
class Failback:
    """What was decided about a session that a fallback had served."""

    decision: str
    """`stay` or `return`."""
    provider: str
    """The provider that was tried first therefore."""
    other: str
    """The provider that it did not go back to, or that it left."""
    reason: str
    """`warm-cache`, `pause`, `compacted` or `unavailable`."""
    age: float | None = None
    """Seconds since the last answer of the fallback."""
    tokens: int | None = None
    """The tokens of the prompt that `other` would have to read anew, if that is known."""
    cost: float | None = None
    """US dollars that this would cost, if that is known."""
    why: str = ""
    """Why `other` is not available, such as `cooling-down` or `spend-cap`."""


@dataclass(slots=True)
class Candidate:
    """A provider, once for each time that its turn came."""

    provider: str
    standing: Standing
    key: int = 0
    """The number of the key, if the provider has several."""
    host: str = ""
    model: str = ""
    """The model by the provider's own name."""
    why: str = ""
    """Why it was excluded or skipped: `disabled`, `header`, `route`, `quota` or `too-long`."""
    held: Cooldown | None = None
    """The cooldown for which it was skipped; for `quota` the plan's window, and what of it is used
    as the reason."""
    set: Cooldown | None = None
    """The cooldown that this request started."""
    recovered: bool = False
    """Whether this request ended its cooldown."""
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The provider's name, and the number of the key."""
        return label(self.provider, self.key)

    def attempt(self, number: int | None) -> Attempt:
        """The attempt of that number, or else the latest; made if there is none."""
        for each in reversed(self.attempts):
            if number is None or each.number == number:
                return each
        self.attempts.append(Attempt(number or 0, ""))
        return self.attempts[-1]


@dataclass(slots=True)
class Explanation:
    """The whole story of one request, its candidates in the order of their turns."""

    id: str
    began: int | None = None
    model: str = ""
    stream: bool | None = None
    bytes: int | None = None
    session: str = ""
    """A hash of the session's id, as in the log."""
    request_class: str = ""
    agent: str = ""
    """The type of the agent that has sent it."""
    failback: Failback | None = None
    candidates: list[Candidate] = field(default_factory=list)
    provider: str | None = None
    """The provider whose answer the client got."""
    status: int | None = None
    seconds: float | None = None
    ttft: float | None = None
    attempts: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    uncounted: dict[str, int] = field(default_factory=dict)
    """Failed attempts, by provider, that no breaker counts: this machine was offline."""
    client_saw: str = ""
    complete: bool = False
    """Whether the client got a whole answer."""
    stopped: bool = False
    """Whether the client left before the end, as it does when a person presses Esc."""
    unknown: list[str] = field(default_factory=list)
    """What the log can't tell."""

    def candidate(self, name: str, key: int | UnsetType | None = None) -> Candidate:
        """The latest turn of a provider; a new one if it was only skipped so far.

        Without a number of a key it is the latest turn with any of its keys.
        """
        number = key or 0
        for each in reversed(self.candidates):
            if each.provider == name and (key is None or each.key == number):
                if each.standing is Standing.SKIPPED:
                    break
                return each
        self.candidates.append(Candidate(name, Standing.IN_PROGRESS, number))
        return self.candidates[-1]


def explain(records: Sequence[Record[Event]]) -> Explanation:
    """The story that the records of one request tell, oldest first."""
    ids = (record.request_id for record in records)
    it = Explanation(all_printable(next(filter(None, ids), "")))
    start = RequestStart()
    for record in records:
        event = all_printable(record.data)
        if isinstance(event, RequestStart):
            start = event
        _add(it, event, record)
    ended = any(isinstance(record.data, RequestEnd) for record in records)
    _add_others(it, start, ended=ended)
    if not it.attempts:
        it.attempts = sum(len(candidate.attempts) for candidate in it.candidates)
    it.unknown = list(_find_gaps(it, records, ended=ended))
    return it


def _add(it: Explanation, event: Event, record: Record[Event]) -> None:
    match event:
        case RequestStart():
            it.began = milliseconds(record.written)
            it.model, it.stream, it.bytes = event.model, event.stream, event.bytes
            it.session, it.agent = event.session or "", event.agent or ""
            it.request_class = event.request_class or ""
        case SpendCap():
            cap = TOKEN_CAP if event.token else SPEND_CAP
            it.candidates.append(Candidate(event.provider, Standing.SKIPPED, why=cap))
        case CircuitBreakerSkip() if event.reason == TOO_LONG:
            it.candidates.append(Candidate(event.provider, Standing.SKIPPED, why=TOO_LONG))
        case CircuitBreakerSkip() if event.reason == QUOTA:
            held = Cooldown(event.cooldown_until, reason=event.why or "")
            skipped = Candidate(
                event.provider, Standing.SKIPPED, event.key or 0, why=QUOTA, held=held
            )
            it.candidates.append(skipped)
        case CircuitBreakerSkip():
            held = Cooldown(
                event.cooldown_until,
                since=event.since,
                model=event.model or "",
                failures=event.failures or 0,
                reason=event.reason or "",
                last_failure=event.last_failure,
                probe=event.probe,
            )
            skipped = Candidate(event.provider, Standing.SKIPPED, event.key or 0, held=held)
            it.candidates.append(skipped)
        case FailbackStay():
            it.failback = Failback(
                "stay",
                event.provider,
                event.first,
                "warm-cache",
                event.age,
                event.tokens,
                event.cost,
            )
        case FailbackReturn():
            it.failback = Failback(
                "return",
                event.provider,
                event.left,
                event.reason,
                event.age,
                why=event.why or "",
            )
        case ProviderAttempt():
            candidate = it.candidate(event.provider, event.key)
            candidate.host, candidate.model = event.host, event.model
            attempt = Attempt(event.attempt or 0, event.reason, milliseconds(record.written))
            candidate.attempts.append(attempt)
        case AttemptEnd():
            _end_attempt(it.candidate(event.provider, event.key), event)
        case RectifierAttempt():
            repair = Repair(event.rectifier, event.changed, event.error or "")
            repair.difference = difference(event)
            it.candidate(event.provider).attempt(None).repair = repair
        case RectifierApplied():
            for attempt in it.candidate(event.provider).attempts:
                if attempt.repair is not None and attempt.repair.rectifier == event.rectifier:
                    attempt.repair.applied = True
        case CircuitBreakerCooldown():
            it.candidate(event.provider, event.key).set = Cooldown(
                event.cooldown_until,
                event.seconds,
                model=event.model or "",
                failures=event.failures or 0,
                reason=event.reason or "",
                reset_hint=event.hint or "",
            )
        case CircuitBreakerReset():
            it.candidate(event.provider, event.key).recovered = True
        case RequestEnd():
            _end(it, event, record)
        case AuthFailure():
            it.status = event.status
            it.client_saw = f"{event.status}: {all_printable(record.message)}"


def _end_attempt(candidate: Candidate, event: AttemptEnd) -> None:
    attempt = candidate.attempt(event.attempt)
    attempt.ok = isinstance(event, ProviderSuccess)
    candidate.standing = Standing.ANSWERED if attempt.ok else Standing.FAILED
    if isinstance(event, AttemptFailure):
        attempt.fault, attempt.result = event.fault, event.reason
    if isinstance(event, ProviderTimeout):
        attempt.timeout, attempt.timeout_seconds = event.timeout or "", event.seconds
        attempt.timeout_why = event.why or ""
    if event.attempt is None and not attempt.ok:
        # After the commit point: its success has told the rest.
        candidate.standing = Standing.BROKE_OFF
        return
    attempt.seconds = None if event.ms is None else event.ms / 1000
    attempt.status = event.status
    attempt.prevented = event.prevented or []
    if isinstance(event, ProviderFailure):
        attempt.said = event.error or ""
        attempt.reset_at, attempt.reset_hint = event.until, event.hint or ""


def _end(it: Explanation, event: RequestEnd, record: Record[Event]) -> None:
    it.status, it.provider = event.status, event.provider or None
    it.model = it.model or event.model or ""
    if it.stream is None:
        it.stream = event.stream
    it.attempts = event.attempts or 0
    it.seconds = None if event.latency is None else event.latency / 1000
    it.ttft = None if event.ttft is None else event.ttft / 1000
    ended = milliseconds(record.written)
    if it.began is None and ended is not None and event.latency is not None:
        it.began = round(ended - event.latency)
    it.tokens = event.tokens
    it.complete = isinstance(event, RequestComplete)
    it.stopped = event.client_left and not it.complete
    it.uncounted = event.uncounted or {}
    answered = not (it.complete or it.stopped) and bool(it.provider)
    forwarded = answered and (it.status or 0) >= 400
    if it.stopped:
        for candidate in it.candidates:
            if candidate.standing in (Standing.ANSWERED, Standing.IN_PROGRESS):
                candidate.standing = Standing.STOPPED
    if forwarded:
        for candidate in it.candidates:
            if candidate.provider == it.provider and candidate.attempts:
                candidate.standing = Standing.FORWARDED
    if isinstance(event, RequestComplete):
        it.client_saw = f"{it.status}, a whole {'stream' if it.stream else 'answer'}"
    elif it.stopped:
        it.client_saw = "nothing more: it had disconnected"
    elif forwarded:
        it.client_saw = f"{it.provider}'s own {it.status}, as it came"
    elif it.provider:
        it.client_saw = "half an answer, then a dropped connection, so that it tries again"
    elif isinstance(event, RequestError):
        it.client_saw = _own_answer(event, all_printable(record.message))


def _own_answer(event: RequestError, message: str) -> str:
    """An error that we made ourselves, as the client got it."""
    said = message.partition(": ")[2] or message
    told = event.told or {}
    headers = ", ".join(f"{name}: {told[name]}" for name in SHOWN_HEADERS if told.get(name))
    kind = f" {event.error}" if event.error else ""
    return f"{event.status}{kind}{f' ({headers})' if headers else ''}: {said}"


def _add_others(it: Explanation, start: RequestStart, *, ended: bool) -> None:
    """Add the candidates that were not tried."""
    present = {candidate.provider for candidate in it.candidates}
    # After the commit point no other provider takes over.
    ended = ended or any(each.standing is Standing.ANSWERED for each in it.candidates)
    standing = Standing.NOT_NEEDED if ended else Standing.NOT_TRIED
    it.candidates += [Candidate(name, standing) for name in start.chain if name not in present]
    for name, why in start.left_out.items():
        place = 0 if name == PRIMARY_NAME else len(it.candidates)
        it.candidates.insert(place, Candidate(name, Standing.EXCLUDED, why=why))


def _find_gaps(it: Explanation, records: Sequence[Record[Event]], *, ended: bool) -> Iterable[str]:
    if not records or any(isinstance(record.data, AuthFailure) for record in records):
        return
    levels = {record.level for record in records}
    # A request that is refused before any provider is tried has no beginning in the log.
    started = any(isinstance(record.data, RequestStart) for record in records)
    started = started or (ended and not it.candidates)
    if not started and not levels & {"info", "debug"}:
        yield (
            "all but warnings: which provider answered, which were skipped and how long each took "
            'is logged from [log] level = "info" on'
        )
    elif not started and "debug" not in levels:
        yield "the beginning: the log was rotated past it"
    if not ended and "info" in levels:
        yield "how it ended: it is in progress, or the server was killed"


def difference(event: RectifierAttempt) -> Difference:
    """What a repair changed; empty where its event does not say."""
    it = Difference(
        removed=event.removed or [],
        added=event.added or [],
        rewritten=event.rewritten or [],
        betas=event.betas or [],
        counts={name: count for name, count in (event.counts or {}).items() if count},
        renamed=event.renamed or 0,
        quirks=event.quirks or [],
    )
    it.words = _words(it)
    return it


def _words(it: Difference) -> str:
    """`removed field top_k, 3 thinking blocks, beta context-1m-2025-08-07; renamed 2 tools`."""
    fewer = {name: -count for name, count in it.counts.items() if count < 0}
    more = {name: count for name, count in it.counts.items() if count > 0}
    # With messages or blocks added or removed, it is obvious that `messages` was rewritten.
    rewritten = [name for name in it.rewritten if not (name == "messages" and it.counts)]
    parts = (
        (
            "removed",
            [*_name_each("field", it.removed), *_count_each(fewer), *_name_each("beta", it.betas)],
        ),
        ("added", [*_name_each("field", it.added), *_count_each(more)]),
        ("rewrote", rewritten),
        ("renamed", [pluralize(it.renamed, "tool")] if it.renamed else []),
        ("switched", it.quirks),
    )
    return "; ".join(f"{verb} {', '.join(what)}" for verb, what in parts if what)


def _name_each(thing: str, names: list[str]) -> list[str]:
    return [f"{plural(len(names), thing)} {', '.join(names)}"] if names else []


def _count_each(counts: Mapping[str, int]) -> Iterable[str]:
    for name, count in counts.items():
        role = name.removesuffix("_messages")
        thing = f"{name} block" if role == name else f"{role} message"
        yield pluralize(count, thing)
