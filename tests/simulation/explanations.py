"""What explains that a request failed or was slow: weather, troubles of the machine, and rules."""

from itertools import pairwise
from typing import Final

from ccfallback.events import records as events
from tests.simulation.client import Request, Turn
from tests.simulation.history import History
from tests.simulation.machine import FLUSH_SECONDS
from tests.simulation.providers import PRIMARY, Exchange

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

HANDED_ON: Final = frozenset(
    {"small-window", "no-context-management", "no-system-turns", "no-effort"}
    | {"no-adaptive-thinking", "fewer-tokens"}
)
"""Weather in which the primary refuses a request as the client has made it."""

LONGEST_COOLDOWN: Final = 330.0

FIRST_COOLDOWN: Final = 30.0
"""Seconds that a provider cools down after a timeout."""


def settled(
    history: History, turn: Turn, began: float, ended: float, *, remembers: bool = True
) -> list[str]:
    """The enabled providers that were well all the time; with `remembers`, long enough before."""
    # A clock that is set back comes to the time of a cooldown once more.
    back = sum(max(0.0, -each.seconds) for each in history.troubles
               if each.kind == "clock" and each.began <= ended)  # fmt: skip
    set_back = [each.began for each in history.troubles
                if remembers and each.kind == "clock" and each.seconds < 0
                and began - LONGEST_COOLDOWN <= each.began <= ended]  # fmt: skip
    small = {p["name"] for p in history.script.config["providers"] if "context_window" in p}
    return [
        name
        for name, provider in history.providers.items()
        if provider.was_well(began, ended, turn.person, remembers=remembers)
        # What has ended without an answer since may begin once more.
        and all(provider.was_well(0.0, at, turn.person) for at in set_back)
        and not (turn.is_wide and name in small)
        and not is_capped(history, name, turn.person, began, ended)
        and is_enabled(history, name, began, ended)
        and not overlaps(history, f"trip {name}", began, ended, before=2.0 + back)
    ]


def is_plan(history: History, person: str) -> bool:
    return any(each["is_plan"] for each in history.script.sessions if each["name"] == person)


def is_capped(history: History, name: str, person: str, began: float, ended: float) -> bool:
    """Whether the log says that a provider was skipped for its cap; `caps_are_kept` judges that."""
    if name == PRIMARY and is_plan(history, person):
        return False
    return any(each == name and began <= at <= ended for at, each in history.capped)


def is_enabled(history: History, name: str, began: float, ended: float) -> bool:
    changes = history.machine.enabled
    spans = [(a[0], b[0], a[1]) for a, b in pairwise([*changes, (1e12, frozenset[str]())])]
    return all(name in on for start, end, on in spans if start <= ended and end >= began - 2.0)


def is_handed_on(history: History, turn: Turn, request: Request) -> bool:
    """Whether the client gets what the primary said, whatever it is, as there is no fallback."""
    names = (name for name in history.providers if name != PRIMARY)
    return (
        request.provider == PRIMARY
        and not any(is_enabled(history, name, request.began, request.ended) for name in names)
        and not any(each.plan.commits for each in exchanges(history, turn, request))
    )


def overlaps(history: History, kind: str, began: float, ended: float, before: float = 0.0) -> bool:
    return any(
        each.kind == kind and each.began <= ended and each.ended >= began - before
        for each in history.troubles
    )


def was_offline(history: History, began: float, ended: float) -> bool:
    return overlaps(history, "offline", began, ended, before=1.0)


def exchanges(history: History, turn: Turn, request: Request) -> list[Exchange]:
    """What providers got of a request."""
    return [
        each
        for provider in history.providers.values()
        for each in provider.exchanges
        if each.question.conversation == turn.name and request.began <= each.began <= request.ended
    ]


def has_expired(history: History, turn: Turn, request: Request) -> bool:
    """Whether the primary refused the login of a request, because it has expired."""
    return any(
        each.provider == PRIMARY and each.weather == "expired-login"
        for each in exchanges(history, turn, request)
    )


def is_excused(history: History, turn: Turn, request: Request) -> bool:
    began, ended = request.began, request.ended
    down = any(overlaps(history, each, began, ended, before=1.0) for each in ("down", "long down"))
    if down or was_offline(history, began, ended):
        return True
    if any(run.began <= ended and (run.ended or 1e12) >= began and run.port != 8787
           and (run.ended or 1e12) <= ended + 1.0 for run in history.machine.runs):  # fmt: skip
        # The second server has ended.
        return True
    if any(t.kind == "sleep" and began <= t.began <= ended for t in history.troubles):
        return True
    if request.ending != "refused" and lacks_trust(history, began, ended):
        return True
    if request.status == 400 and request.provider == PRIMARY:
        # What the client can change itself is handed on to it.
        return any(each.provider == PRIMARY and each.weather in HANDED_ON
                   for each in exchanges(history, turn, request))  # fmt: skip
    if request.status == 401:
        # A login's first refusal is the client's to answer.
        return True
    if request.ending in ("dropped", "ended early", "malformed", "error event"):
        return any(each.plan.commits and not each.plan.usage for each in
                   exchanges(history, turn, request))  # fmt: skip
    return False


def allowed_seconds(history: History, turn: Turn, request: Request) -> float:
    began, ended = request.began, request.ended
    found = exchanges(history, turn, request)
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
    waits += SILENCE if may_be_silent(history, began, ended) else 0.0
    waits += CONNECT if lacks_trust(history, began, ended) else 0.0
    return MARGIN + seconds + sum(failed) + BACKOFF * max(0, tries - 1) + lost + waits


def lacks_trust(history: History, began: float, ended: float) -> bool:
    """Whether a server still reads its trusted certificates from a slow disk."""
    return any(
        each.kind == "disk" and each.began <= run.began <= each.ended
        and run.began <= ended and began <= run.began + each.seconds
        for run in history.machine.runs
        for each in history.troubles
        if each.seconds
    )  # fmt: skip


def may_be_silent(history: History, began: float, ended: float) -> bool:
    """Whether a connection was cut without a word, perhaps while it was kept for a request."""
    return any(
        each.kind in ("sleep", "offline") and began - 75.0 <= each.began <= ended
        for each in history.troubles
    )


def had(history: History, kind: str) -> bool:
    return any(each.kind == kind for each in history.troubles)


def disk_at(history: History, request: Request) -> bool:
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


def were_kept_from(history: History, turn: Turn, well: list[str]) -> bool:
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
