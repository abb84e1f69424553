"""What has to be true of every history: a table of functions, each of which yields violations."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

import msgspec

from ccfallback.events import records as events
from ccfallback.policy.breaker import CLOSED, BreakerState, Limits, Phase, phase
from ccfallback.policy.spend import NANO
from ccfallback.server.client_credentials import REFRESH_SECONDS
from ccfallback.server.record import Record
from ccfallback.state import ledger
from tests.simulation.explanations import (
    FIRST_COOLDOWN,
    MARGIN,
    SILENCE,
    allowed_seconds,
    disk_at,
    exchanges,
    had,
    has_expired,
    is_capped,
    is_excused,
    is_handed_on,
    may_be_silent,
    overlaps,
    settled,
    was_offline,
    were_kept_from,
)
from tests.simulation.history import History
from tests.simulation.machine import Run
from tests.simulation.providers import PRIMARY
from tests.simulation.seams import NOW
from tests.simulation.weather import utilization

Invariant = Callable[[History], Iterator[str]]


PASSING: Final = frozenset(
    {"error-500", "error-502-page", "burst-429", "burst-529", "hang", "reset", "refused"}
)
"""Weather in which the primary fails, and may be back at the next try."""

COUNT_SECONDS: Final = 10.0
"""Seconds that a provider gets for a count of tokens."""


# -- Turns


def no_turn_is_lost(history: History) -> Iterator[str]:
    """A person sees no error while one enabled provider is well, even if it is cooling down."""
    for turn in history.turns:
        if turn.outcome == "lost" and not (
            was_offline(history, turn.began, turn.ended)
            # A server whose configuration is broken does not start.
            or overlaps(history, "long down", turn.began, turn.ended)
        ):
            well = settled(history, turn, turn.began, turn.ended, remembers=False)
            rested = settled(history, turn, turn.began, turn.ended)
            if rested or (well and not were_kept_from(history, turn, well)):
                endings = [f"{r.ending} {r.status or ''}".strip() for r in turn.requests]
                yield f"turn {turn.name} at {turn.began:.1f} is lost, {well} was well: {endings}"


def no_request_fails_in_vain(history: History) -> Iterator[str]:
    """While a provider is well, a request only fails if another's answer was torn."""
    for turn in history.turns:
        for request in turn.requests:
            if request.ending in ("answered", "aborted") or is_excused(history, turn, request):
                continue
            well = settled(history, turn, request.began, request.ended)
            if PRIMARY in well and has_expired(history, turn, request):
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
            if request.ending != "answered" or not settled(
                history, turn, request.began, request.ended
            ):
                continue
            took, allowed = request.ended - request.began, allowed_seconds(history, turn, request)
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
            span = request.began, request.ended
            is_kept = any(is_capped(history, n, turn.person, *span) for n in history.providers)
            if is_unsent and not is_kept and not was_offline(history, *span):
                yield f"request {request.id} of {turn.name} at {request.began:.1f} was not sent"


def torn_answers_are_dropped(history: History) -> Iterator[str]:
    """What is not whole never ends as if it were, and no error is sent within a stream."""
    for turn in history.turns:
        for request in turn.requests:
            is_torn = request.ending in ("ended early", "malformed", "error event")
            if is_torn and not is_handed_on(history, turn, request):
                yield f"request {request.id} of {turn.name}: {request.ending}"


def a_torn_answer_costs_one_request(history: History) -> Iterator[str]:
    """The client's next try goes to another provider than the one that broke off."""
    for turn in history.turns:
        for first, second in pairwise(turn.requests):
            is_torn = first.ending == second.ending == "dropped" and first.provider
            soon = second.began - first.ended < 5.0
            if was_offline(history, first.began, second.ended):
                continue
            killed = overlaps(history, "down", first.began, second.ended)
            if is_torn and first.provider == second.provider and soon and not killed:
                well = settled(history, turn, first.began, second.ended)
                if well and not overlaps(history, "disk", first.began, second.ended):
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
            if PRIMARY not in settled(history, turn, began, ended):
                continue
            if was_offline(history, began, ended) or overlaps(history, "disk", began, ended):
                continue
            if may_be_silent(history, began - SILENCE - FIRST_COOLDOWN, ended):
                # A request that waited for a cut connection in vain has opened the breaker.
                continue
            if any(e["kind"] == "expire-login" and began - REFRESH_SECONDS <= e["at"] <= ended
                   for e in history.script.events):  # fmt: skip
                # A login that is refused right after its refresh goes on to the next provider.
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


def compaction_is_the_last_resort(history: History) -> Iterator[str]:
    """No client is told that its prompt is too long while a larger provider may answer soon."""
    # A cooldown of a minute or more is not soon.
    kept_away = {
        record.request_id
        for run in history.machine.runs
        for _, record in run.records
        if isinstance(record.data, events.SafetyValveTriggered)
        or (
            isinstance(record.data, events.CircuitBreakerCooldown)
            and record.data.provider == PRIMARY
            and (record.data.seconds or 0.0) >= 60.0
        )
    }
    for turn in history.turns:
        for request in turn.requests:
            found = [e for e in exchanges(history, turn, request) if e.provider == PRIMARY]
            if not request.is_too_long or any(e.weather == "small-window" for e in found):
                continue
            soon = [each.weather for each in found if each.weather in PASSING]
            if request.id in kept_away:
                soon = []
            well = settled(history, turn, request.began, request.ended)
            if soon or well:
                yield f"request {request.id} of {turn.name} is too long, {well} was well, {soon}"


# -- Side endpoints and checks


def side_endpoints_change_no_breaker(history: History) -> Iterator[str]:
    """A count or a list of models leaves the breakers as they are."""
    for look in history.looks:
        if look.change:
            yield f"the counts at {look.began:.1f}: {look.change}"


def counts_are_always_answered(history: History) -> Iterator[str]:
    """A count is a number within 10 s for each provider, and never an upstream's error."""
    for look in history.looks:
        down = any(overlaps(history, each, look.began, look.ended, before=1.0)
                   for each in ("down", "long down", "sleep", "disk"))  # fmt: skip
        for request in look.requests:
            is_count = request.turn.endswith("count_tokens")
            took = request.ended - request.began
            if down or request.ending == "refused" or not is_count:
                continue
            if request.status != 200 or took > MARGIN + COUNT_SECONDS * len(history.providers):
                yield f"a count at {look.began:.1f}: {request.ending} {request.status} {took:.1f} s"


def checks_are_rare(history: History) -> Iterator[str]:
    """The chain is checked once in a period, and a provider with a login never."""
    every = {"1h": 3600.0}.get(history.script.config.get("check", {}).get("every", ""))
    for name, provider in history.providers.items():
        found = [each for each in provider.exchanges if each.question.kind == "check"]
        if found and (every is None or name == PRIMARY):
            yield f"{name} is checked at {found[0].began:.1f}"
        troubles = had(history, "clock") or had(history, "disk")
        if every is None or troubles or history.machine.by_hand:
            # A server that can't read the state does not know when it was.
            continue
        for first, second in pairwise(found):
            # One check may take several requests, with repairs between them.
            if 300.0 < second.wall - first.wall < every:
                yield f"{name} is checked at {first.began:.1f} and {second.began:.1f}"


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
    may_lack = any(r.was_killed for r in history.machine.runs) or had(history, "disk")
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
            if any(0 <= end - request.ended < 0.1 for end in killed) or disk_at(history, request):
                continue
            sent = [
                (each.provider, each.plan.usage.input, each.plan.usage.output)
                for each in exchanges(history, turn, request)
                if each.plan.usage and each.provider == request.provider and each.is_sent
            ]
            # Where the same provider was tried again, what it had sent before did not arrive.
            for key in sent[-1:]:
                if not rows[key]:
                    yield f"the answer to {request.id} of {turn.name} is not in the ledger"


def caps_are_kept(history: History) -> Iterator[str]:
    """A provider that has cost its cap is not tried; only requests in flight may exceed it."""
    if had(history, "clock"):
        return
    tables = [{"name": PRIMARY, **history.script.config.get("primary", {})}]
    rows = list(ledger.rows_since(history.machine.paths.state, 0.0))
    for table in [*tables, *history.script.config["providers"]]:
        if "cap" not in table:
            continue
        name, cap = table["name"], table["cap"]["day"]
        own = [row for row in rows if row.provider == name]
        days = Counter[str]()
        for row in own:
            days[ledger.day_of(row.at)] += row.nano
        dearest = max((row.nano for row in own), default=0)
        for day, nano in days.items():
            if nano > cap * NANO + 2 * dearest:
                yield f"{name} costs {nano / NANO:.4f} on {day}, with a cap of {cap}"
        for each in history.providers[name].exchanges:
            if each.shown or each.question.is_side or overlaps(history, "disk", 0, each.began):
                continue
            day = ledger.day_of(each.wall)
            before = sum(row.nano for row in own
                         if row.at < each.wall - 0.5 and ledger.day_of(row.at) == day)  # fmt: skip
            if before >= cap * NANO:
                yield f"{name} is tried at {each.began:.1f} after {before / NANO:.4f} of {cap}"


def full_windows_are_spared(history: History) -> Iterator[str]:
    """A login whose window is used up to `switch_at` goes to a fallback that is well."""
    switch_at = history.script.config.get("quota", {}).get("switch_at", 1.0)
    primary = history.providers[PRIMARY]
    turns = {turn.name: turn for turn in history.turns}
    for event in primary.events if switch_at < 1.0 else ():
        if event["kind"] != "filling":
            continue
        end = event["at"] + event["for"]
        told = next(
            (each.ended for each in primary.exchanges
             if each.weather == "filling" and each.is_sent and each.ended is not None
             and each.shown == event["person"] and event["at"] <= each.began and each.ended < end
             and utilization(event, each.began) >= switch_at),
            None,
        )  # fmt: skip
        if told is None or had(history, "clock"):
            # To a clock that is wrong the window may have been reset.
            continue
        # Of two windows that fill up at once, the later one is told.
        if [e for e in primary.events if e["kind"] == "filling" and e["at"] < end][-1] is not event:
            continue
        upsets = [t.began for t in history.troubles if t.ended >= told - 1.0]
        upsets += [at for at, _ in history.machine.by_hand if at >= told - 1.0]
        upsets += [r.began for r in history.machine.runs if (r.ended or end) >= told][1:]
        end = min([end, *upsets])
        for each in primary.exchanges:
            turn = turns.get(each.question.conversation)
            if turn is None or each.shown != event["person"]:
                continue
            began = next((r.began for r in turn.requests if r.began <= each.began <= r.ended), 0.0)
            if told + 0.5 < began < end and settled(history, turn, began, each.ended or began):
                yield f"the primary is tried at {each.began:.1f}, full since {told:.1f}"


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
    if "quota" in history.script.config and any(
        PRIMARY not in settled(history, turn, turn.began, turn.ended) for turn in history.last_turns
    ):
        # A window that has said to be full for longer is believed, and not probed.
        return
    for turn in history.last_turns:
        by = {request.provider for request in turn.requests}
        if is_capped(history, PRIMARY, turn.person, turn.began, turn.ended):
            continue
        if turn.outcome != "answered" or by != {PRIMARY}:
            yield f"turn {turn.name} in the end was {turn.outcome} by {sorted(by)}"
    for run in history.machine.runs:
        if not run.was_killed and run.port == 8787 and run is history.machine.runs[-1]:
            for name, state in run.proxy.services.breakers.states.items():
                for key, part in _parts(name, state):
                    if phase(part, NOW.wall) is Phase.OPEN and name == PRIMARY:
                        yield f"{key} is open in the end"
                capped = any(is_capped(history, name, t.person, t.began, t.ended)
                             for t in history.last_turns)  # fmt: skip
                if name == PRIMARY and state.failures and not capped:
                    yield f"{name} has {state.failures} failures in the end"


def nothing_grows(history: History) -> Iterator[str]:
    """When all is over, nothing of a request is left in memory, and files have their limits."""
    for run in history.machine.runs:
        if run.was_killed:
            continue
        services = run.proxy.services
        sizes = {
            "noted changes": len(services.breakers._unapplied),
            "unsaved changes": len(services.breakers._pending),
            "held reservations": sum(services.spending.reservations._held.values()),
            "unsaved rows": len(services.spending._unsaved),
            "open connections": len(history.network.open_connections(run.process)),
        }
        for what, size in sizes.items():
            if size and not had(history, "disk"):
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
    compaction_is_the_last_resort,
    side_endpoints_change_no_breaker,
    counts_are_always_answered,
    checks_are_rare,
    no_tool_runs_twice,
    answers_are_right,
    nothing_leaks,
    each_request_ends_once,
    the_log_is_whole,
    money_adds_up,
    caps_are_kept,
    full_windows_are_spared,
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
