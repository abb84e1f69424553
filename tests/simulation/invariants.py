"""What has to be true of every history: a table of functions, each of which yields violations."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

import msgspec

from ccfallback.events import records as events
from ccfallback.policy.breaker import CLOSED, BreakerState, Limits, Phase, phase
from ccfallback.server.record import Record
from ccfallback.state import ledger
from tests.simulation.client import Request, Turn
from tests.simulation.history import History
from tests.simulation.machine import FLUSH_SECONDS, Run
from tests.simulation.providers import PRIMARY, Exchange
from tests.simulation.seams import NOW

Invariant = Callable[[History], Iterator[str]]

MARGIN: Final = 2.0
"""Seconds that a request may take beyond the faults that it met."""

BACKOFF: Final = 1.5
"""Seconds that a retry at the same provider may wait."""

PATIENCE: Final = 1.5
"""Seconds for which a disk may hold a request up, each time that it is needed."""


SILENCE: Final = 95.0
"""Seconds that a connection which was cut without a word may cost."""

CONNECT: Final = 10.0
"""Seconds that an attempt waits for a connection, and for the certificates before."""

FIRST_COOLDOWN: Final = 30.0
"""Seconds that a provider cools down after a timeout."""


# -- Turns


def no_turn_is_lost(history: History) -> Iterator[str]:
    """A person sees no error while one enabled provider is well, even if it is cooling down."""
    for turn in history.turns:
        if turn.outcome == "lost" and not (
            _was_offline(history, turn.began, turn.ended)
            # A server whose configuration is broken does not start.
            or _overlaps(history, "long down", turn.began, turn.ended)
        ):
            well = _settled(history, turn, turn.began, turn.ended, remembers=False)
            rested = _settled(history, turn, turn.began, turn.ended)
            if rested or (well and not _were_kept_from(history, turn, well)):
                endings = [f"{r.ending} {r.status or ''}".strip() for r in turn.requests]
                yield f"turn {turn.name} at {turn.began:.1f} is lost, {well} was well: {endings}"


def _were_kept_from(history: History, turn: Turn, well: list[str]) -> bool:
    """Whether other providers had each request, by the rules, while those that were well cool down.

    The safety valve tries one only, whose cooldown ends first. A torn answer can't move on.
    """
    valves = {
        record.request_id
        for run in history.machine.runs
        for _, record in run.records
        if isinstance(record.data, events.SafetyValveTriggered) and record.data.provider not in well
    }
    return all(
        each.id in valves or (each.ending == "dropped" and each.provider not in ("", *well))
        for each in turn.requests
    )


def no_request_fails_in_vain(history: History) -> Iterator[str]:
    """While a provider is well, a request only fails if another's answer was torn."""
    for turn in history.turns:
        for request in turn.requests:
            if request.ending in ("answered", "aborted") or _is_excused(history, turn, request):
                continue
            well = _settled(history, turn, request.began, request.ended)
            if PRIMARY in well and _has_expired(history, turn, request):
                # Another request has told the client already; this one goes on to the fallbacks.
                well.remove(PRIMARY)
            if well:
                yield (
                    f"request {request.id} of {turn.name} at {request.began:.1f} ended "
                    f"'{request.ending}' {request.status}, {well} was well"
                )


def no_request_is_slow(history: History) -> Iterator[str]:
    """While a provider is well, an answer takes as long as the faults that it met, and 2 s."""
    for turn in history.turns:
        for request in turn.requests:
            if request.ending != "answered" or not _settled(
                history, turn, request.began, request.ended
            ):
                continue
            took, allowed = request.ended - request.began, _allowed(history, turn, request)
            if took > allowed:
                yield (
                    f"request {request.id} of {turn.name} at {request.began:.1f} took {took:.1f} s "
                    f"where {allowed:.1f} are explained"
                )


def every_request_tries_someone(history: History) -> Iterator[str]:
    """Whatever cools down: a request is never refused before a provider was asked."""
    for turn in history.turns:
        for request in turn.requests:
            is_unsent = request.status == 502 and not request.attempts
            if is_unsent and not _was_offline(history, request.began, request.ended):
                yield f"request {request.id} of {turn.name} at {request.began:.1f} was not sent"


def torn_answers_are_dropped(history: History) -> Iterator[str]:
    """What is not whole never ends as if it were, and no error is sent within a stream."""
    for turn in history.turns:
        for request in turn.requests:
            is_torn = request.ending in ("ended early", "malformed", "error event")
            if is_torn and not _is_handed_on(history, turn, request):
                yield f"request {request.id} of {turn.name}: {request.ending}"


def a_torn_answer_costs_one_request(history: History) -> Iterator[str]:
    """The client's next try goes to another provider than the one that broke off."""
    for turn in history.turns:
        for first, second in pairwise(turn.requests):
            is_torn = first.ending == second.ending == "dropped" and first.provider
            soon = second.began - first.ended < 5.0
            killed = _overlaps(history, "down", first.began, second.ended)
            if is_torn and first.provider == second.provider and soon and not killed:
                well = _settled(history, turn, first.began, second.ended)
                if well and not _overlaps(history, "disk", first.began, second.ended):
                    yield f"{turn.name} at {first.began:.1f} was torn twice by {first.provider}"


def the_primary_is_first(history: History) -> Iterator[str]:
    """While the primary is well for a login, it answers, where nothing is said for staying away."""
    edits = {event.get("what") for event in history.script.events}
    mode = history.script.config.get("failback", {}).get("mode", "auto")
    plans = {each["name"]: each["is_plan"] for each in history.script.sessions}
    for turn in history.turns:
        if "failback" in edits or mode == "cache" or (mode == "auto" and not plans[turn.person]):
            continue
        for request in turn.requests:
            began, ended = request.began, request.ended
            if request.ending != "answered" or request.provider in ("", PRIMARY):
                continue
            if PRIMARY not in _settled(history, turn, began, ended):
                continue
            if _was_offline(history, began, ended) or _overlaps(history, "disk", began, ended):
                continue
            if _may_be_silent(history, began - SILENCE - FIRST_COOLDOWN, ended):
                # A request that waited for a cut connection in vain has opened the breaker.
                continue
            at_once = [
                other
                for each in history.turns
                for other in each.requests
                if other is not request and other.began <= ended and other.ended >= began - 1.0
            ]
            if not at_once:
                yield (
                    f"request {request.id} of {turn.name} at {began:.1f} was answered "
                    f"by {request.provider}"
                )


def _settled(
    history: History, turn: Turn, began: float, ended: float, *, remembers: bool = True
) -> list[str]:
    """The enabled providers that were well all the time; with `remembers`, long enough before."""
    # A clock that is set back comes to the time of a cooldown once more.
    back = sum(max(0.0, -each.seconds) for each in history.troubles
               if each.kind == "clock" and each.began <= ended)  # fmt: skip
    return [
        name
        for name, provider in history.providers.items()
        if provider.was_well(began, ended, turn.person, remembers=remembers)
        and _is_enabled(history, name, began, ended)
        and not _overlaps(history, f"trip {name}", began, ended, before=2.0 + back)
    ]


def _is_enabled(history: History, name: str, began: float, ended: float) -> bool:
    changes = history.machine.enabled
    spans = [(a[0], b[0], a[1]) for a, b in pairwise([*changes, (1e12, frozenset[str]())])]
    return all(name in on for start, end, on in spans if start <= ended and end >= began - 2.0)


def _is_handed_on(history: History, turn: Turn, request: Request) -> bool:
    """Whether the client gets what the primary said, whatever it is, as there is no fallback."""
    names = (name for name in history.providers if name != PRIMARY)
    return (
        request.provider == PRIMARY
        and not any(_is_enabled(history, name, request.began, request.ended) for name in names)
        and not any(each.plan.commits for each in _exchanges(history, turn, request))
    )


def _overlaps(history: History, kind: str, began: float, ended: float, before: float = 0.0) -> bool:
    return any(
        each.kind == kind and each.began <= ended and each.ended >= began - before
        for each in history.troubles
    )


def _was_offline(history: History, began: float, ended: float) -> bool:
    return _overlaps(history, "offline", began, ended, before=1.0)


def _exchanges(history: History, turn: Turn, request: Request) -> list[Exchange]:
    """What providers got of a request."""
    return [
        each
        for provider in history.providers.values()
        for each in provider.exchanges
        if each.question.conversation == turn.name and request.began <= each.began <= request.ended
    ]


def _has_expired(history: History, turn: Turn, request: Request) -> bool:
    """Whether the primary refused the login of a request, because it has expired."""
    return any(
        each.provider == PRIMARY and each.weather == "expired-login"
        for each in _exchanges(history, turn, request)
    )


def _is_excused(history: History, turn: Turn, request: Request) -> bool:
    began, ended = request.began, request.ended
    down = any(_overlaps(history, each, began, ended, before=1.0) for each in ("down", "long down"))
    if down or _was_offline(history, began, ended):
        return True
    if any(run.began <= ended and (run.ended or 1e12) >= began and run.port != 8787
           and (run.ended or 1e12) <= ended + 1.0 for run in history.machine.runs):  # fmt: skip
        # The second server has ended.
        return True
    if any(t.kind == "sleep" and began <= t.began <= ended for t in history.troubles):
        return True
    if request.ending != "refused" and _lacks_trust(history, began, ended):
        return True
    if request.status == 401:
        # A login's first refusal is the client's to answer.
        return True
    if request.ending in ("dropped", "ended early", "malformed", "error event"):
        return any(each.plan.commits and not each.plan.usage for each in
                   _exchanges(history, turn, request))  # fmt: skip
    return False


def _allowed(history: History, turn: Turn, request: Request) -> float:
    began, ended = request.began, request.ended
    found = _exchanges(history, turn, request)
    seconds = sum((each.ended or ended) - each.began for each in found)
    failed = [
        min(stop, ended) - max(start, began)
        for _, start, stop in history.network.failed
        if start <= ended and stop >= began
    ]
    tries = len(found) + len(failed)
    offline = [t for t in history.troubles if t.kind == "offline"]
    lost = sum(max(0.0, min(t.ended, ended) + 6.0 - max(t.began, began)) for t in offline
               if t.began <= ended and t.ended + 6.0 >= began)  # fmt: skip
    disk = any(t.kind == "disk" and t.seconds and t.began <= ended and t.ended + t.seconds >= began
               for t in history.troubles)  # fmt: skip
    waits = PATIENCE * (3 + tries) if disk else 0.0
    waits += SILENCE if _may_be_silent(history, began, ended) else 0.0
    waits += CONNECT if _lacks_trust(history, began, ended) else 0.0
    return MARGIN + seconds + sum(failed) + BACKOFF * max(0, tries - 1) + lost + waits


def _lacks_trust(history: History, began: float, ended: float) -> bool:
    """Whether a server still reads its trusted certificates from a slow disk."""
    return any(
        each.kind == "disk" and each.began <= run.began <= each.ended
        and run.began <= ended and began <= run.began + each.seconds
        for run in history.machine.runs
        for each in history.troubles
        if each.seconds
    )  # fmt: skip


def _may_be_silent(history: History, began: float, ended: float) -> bool:
    """Whether a connection was cut without a word, perhaps while it was kept for a request."""
    return any(
        each.kind in ("sleep", "offline") and began - 75.0 <= each.began <= ended
        for each in history.troubles
    )


# -- What the client and the providers see


def no_tool_runs_twice(history: History) -> Iterator[str]:
    """Each command that a model has asked for runs once."""
    for command, count in history.tools.items():
        if count > 1:
            yield f"{command} ran {count} times"


def answers_are_right(history: History) -> Iterator[str]:
    """An answer holds what the model said, and nothing twice."""
    for turn in history.turns:
        if turn.outcome == "endless":
            yield f"turn {turn.name} has no end"
        if turn.outcome == "answered":
            steps = turn.answer.rpartition("k")[2]
            if turn.answer != f"done {turn.name}k{steps}":
                yield f"turn {turn.name} was answered {turn.answer!r}"


def nothing_leaks(history: History) -> Iterator[str]:
    """No fallback sees a credential, a user's id or a cookie of the client; nor does any file."""
    for provider in history.providers.values():
        yield from provider.leaks
    for path in sorted(history.folder.iterdir()):
        if path.suffix in (".json", ".jsonl") and path.is_file():
            data = path.read_bytes()
            for secret in (b"CANARY", b"KEY-"):
                if secret in data:
                    yield f"{secret.decode()} stands in {path.name}"


# -- Books


def each_request_ends_once(history: History) -> Iterator[str]:
    """Each request has one outcome in the log, and the metrics count the same ones."""
    started: set[str] = set()
    for run in history.machine.runs:
        starts = Counter(r.request_id for _, r in run.records if r.event == "request.start")
        ends = Counter(
            r.request_id for _, r in run.records if isinstance(r.data, events.RequestEnd)
        )
        started.update(each for each in starts if each)
        for name, count in starts.items():
            if count != 1 or (ends[name] != 1 and not (run.was_killed and not ends[name])):
                yield f"request {name} started {count} times and ended {ends[name]} times"
        counted = sum(run.proxy.services.totals.requests.values())
        if counted != sum(ends.values()):
            yield f"{run.process.name} counts {counted} requests and logs {sum(ends.values())}"
    for turn in history.turns:
        for request in turn.requests:
            if request.id and request.id not in started:
                yield f"request {request.id} of {turn.name} is in no log"


def the_log_is_whole(history: History) -> Iterator[str]:
    """The file holds each record once, and nothing but whole lines."""
    lines: Counter[tuple[str, str]] = Counter()
    for path in history.folder.glob("log.jsonl*"):
        for line in path.read_bytes().splitlines():
            try:
                record = msgspec.json.decode(line)
            except msgspec.DecodeError:
                yield f"a line of {path.name} is torn: {line[:80]!r}"
                continue
            if record.get("requestId"):
                lines[record["event"], record["requestId"]] += 1
    may_lack = any(r.was_killed for r in history.machine.runs) or _had(history, "disk")
    wanted = Counter(
        (record.event, record.request_id)
        for run in history.machine.runs
        for _, record in run.records
        if record.request_id
    )
    for key in lines | wanted:
        if lines[key] > wanted[key] or (lines[key] < wanted[key] and not may_lack):
            yield f"{key} stands {lines[key]} times in the log and not {wanted[key]} times"


def money_adds_up(history: History) -> Iterator[str]:
    """The ledger has each whole answer once, with the tokens that its provider told."""
    rows = Counter(
        (row.provider, row.input, row.output)
        for row in ledger.rows_since(history.machine.paths.state, 0.0)
        if not row.estimated
    )
    told = Counter(
        (each.provider, each.plan.usage.input, each.plan.usage.output)
        for provider in history.providers.values()
        for each in provider.exchanges
        if each.plan.usage is not None
    )
    for key, count in rows.items():
        if count > told[key]:
            yield f"{key} is {count} times in the ledger and was counted {told[key]} times"
    killed = [run.ended for run in history.machine.runs if run.was_killed and run.ended]
    for turn in history.turns:
        for request in turn.requests:
            if request.ending != "answered":
                continue
            if any(0 <= end - request.ended < 0.1 for end in killed) or _disk_at(history, request):
                continue
            sent = [
                (each.provider, each.plan.usage.input, each.plan.usage.output)
                for each in _exchanges(history, turn, request)
                if each.plan.usage and each.provider == request.provider and each.is_sent
            ]
            # Where the same provider was tried again, what it had sent before did not arrive.
            for key in sent[-1:]:
                if not rows[key]:
                    yield f"the answer to {request.id} of {turn.name} is not in the ledger"


def _had(history: History, kind: str) -> bool:
    return any(each.kind == kind for each in history.troubles)


def _disk_at(history: History, request: Request) -> bool:
    """Whether rows of then may be lost: the disk refused them until their server's end.

    A server that is killed soon after that may not have tried again.
    """
    ends = [
        run.ended - (FLUSH_SECONDS + PATIENCE if run.was_killed else 0.0)
        for run in history.machine.runs
        if run.ended is not None and run.ended >= request.ended
    ]
    return any(
        each.kind == "disk" and each.began <= request.ended <= each.ended and end <= each.ended
        for each in history.troubles
        for end in ends
    )


# -- Breakers


class BreakerWatch:
    """Looks at the breakers whenever a request ends, and notes what may not be."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, str], tuple[float, BreakerState]] = {}
        self._resets: dict[str, float] = {}
        """When an answer has closed a breaker, by provider."""

    def __call__(self, history: History, record: Record) -> None:
        """A record was written."""
        if isinstance(record.data, events.CircuitBreakerCooldown):
            self._check_length(history, record.data)
        if isinstance(record.data, events.CircuitBreakerReset):
            self._resets[record.data.provider] = NOW.elapsed
        if isinstance(record.data, events.RequestEnd):
            for run in history.machine.runs:
                if run.ended is None:
                    self._look(history, run)

    def _check_length(self, history: History, event: events.CircuitBreakerCooldown) -> None:
        rules = history.machine.running_config().breaker
        most = rules.max_reset if event.hint else rules.max_cooldown
        if event.seconds is not None and event.seconds > most + 0.01:
            history.violations.append(
                f"cooldowns_have_a_cap: {event.provider} cools down for {event.seconds} s"
            )

    def _look(self, history: History, run: Run) -> None:
        breakers = run.proxy.services.breakers
        limits = Limits.from_config(run.proxy.services.live.current)
        for name, state in breakers.states.items():
            for key, part in _parts(name, state):
                self._compare(history, (run.process.pid, key), part, limits)

    def _compare(
        self, history: History, key: tuple[int, str], state: BreakerState, limits: Limits
    ) -> None:
        now = NOW.wall
        at, before = self._last.get(key, (0.0, CLOSED))
        self._last[key] = NOW.elapsed, state
        until = state.cooldown_until
        if until is not None and until - now > limits.horizon + 1.0:
            history.violations.append(
                f"cooldowns_have_a_cap: {key[1]} cools down for {until - now:.0f} s"
            )
        if state.failures < 0:
            history.violations.append(f"breakers_follow_the_diagram: {key[1]} {state.failures}")
        if state.cooldown_until is None and phase(before, now) is Phase.OPEN:
            # Only an answer closes a breaker, or a person.
            by_hand = any(when >= at - 0.001 for when, _ in history.machine.by_hand)
            edits = any(t.kind in ("edit", "clock") and t.began >= at - 0.001
                        for t in history.troubles)  # fmt: skip
            answered = (state.last_success or 0.0) > (before.last_success or 0.0)
            answered = answered or self._resets.get(key[1].partition(" ")[0], -1.0) >= at
            if not (by_hand or edits or answered):
                history.violations.append(
                    f"breakers_follow_the_diagram: {key[1]} closed at {NOW.elapsed:.1f} "
                    "without an answer"
                )


def _parts(name: str, state: BreakerState) -> Iterator[tuple[str, BreakerState]]:
    yield name, state
    for model, of_model in state.models.items():
        yield f"{name} {model}", of_model
    for credential, own in state.credentials.items():
        yield f"{name} key {credential}", own


def half_open_places_are_free(history: History) -> Iterator[str]:
    """Nobody probes when nothing is in flight."""
    for run in history.machine.runs:
        taken = getattr(run.proxy.services.breakers.slots, "_taken")  # noqa: B009  # a probe
        if taken and not run.was_killed:
            yield f"{run.process.name} has taken {sorted(taken)}"


# -- The end


def everything_is_well_in_the_end(history: History) -> Iterator[str]:
    """After a quiet hour every cooldown is over, and the primary answers."""
    for turn in history.last_turns:
        by = {request.provider for request in turn.requests}
        if turn.outcome != "answered" or by != {PRIMARY}:
            yield f"turn {turn.name} in the end was {turn.outcome} by {sorted(by)}"
    for run in history.machine.runs:
        if not run.was_killed and run.port == 8787 and run is history.machine.runs[-1]:
            for name, state in run.proxy.services.breakers.states.items():
                for key, part in _parts(name, state):
                    if phase(part, NOW.wall) is Phase.OPEN and name == PRIMARY:
                        yield f"{key} is open in the end"
                if name == PRIMARY and state.failures:
                    yield f"{name} has {state.failures} failures in the end"


def nothing_grows(history: History) -> Iterator[str]:
    """When all is over, nothing of a request is left in memory, and files have their limits."""
    for run in history.machine.runs:
        if run.was_killed:
            continue
        services = run.proxy.services
        sizes = {
            "unsaved changes": len(services.breakers._pending),
            "held reservations": sum(services.spending.reservations._held.values()),
            "unsaved rows": len(services.spending._unsaved),
            "open connections": len(history.network.open_connections(run.process)),
        }
        for what, size in sizes.items():
            if size and not _had(history, "disk"):
                yield f"{run.process.name} has {size} {what} in the end"
    for path in history.folder.iterdir():
        if path.name.endswith(".tmp"):
            yield f"{path.name} is left behind"
        if path.is_file() and path.stat().st_size > 11 * 1024 * 1024:
            yield f"{path.name} has {path.stat().st_size} bytes"
    left = [task for task in history.loop.tasks if not task.done()]
    alive = [t for t in left if not any(r.was_killed for r in history.machine.runs)]
    if alive:
        yield f"{len(alive)} tasks are left: {alive[0].get_coro()}"


def no_code_is_surprised(history: History) -> Iterator[str]:
    """No exception reaches code that did not expect it."""
    for run in history.machine.runs:
        for at, record in run.records:
            if record.event == "server.error":
                yield f"at {at:.1f}: {record.message}"


INVARIANTS: Final[tuple[Invariant, ...]] = (
    no_turn_is_lost,
    no_request_fails_in_vain,
    no_request_is_slow,
    every_request_tries_someone,
    torn_answers_are_dropped,
    a_torn_answer_costs_one_request,
    the_primary_is_first,
    no_tool_runs_twice,
    answers_are_right,
    nothing_leaks,
    each_request_ends_once,
    the_log_is_whole,
    money_adds_up,
    half_open_places_are_free,
    everything_is_well_in_the_end,
    nothing_grows,
    no_code_is_surprised,
)
"""Looked at when a history is over. `BreakerWatch` looks while it happens."""


def check(history: History) -> None:
    """Add to a history what it violates."""
    for invariant in INVARIANTS:
        history.violations += [f"{invariant.__name__}: {found}" for found in invariant(history)]
