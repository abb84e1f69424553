"""The windows of a Claude plan: how far they are used, and what follows for the primary.

The primary tells them in the headers `anthropic-ratelimit-unified-…` of its answers, for the login
that was sent. A window is named as in these headers: `5h`, `7d`, `7d_opus`, `overage`. Times are
Unix seconds, passed in; a utilization of 1 is all of a window, and it may be more.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from math import isfinite
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from ccfallback.config.model import Quota
from ccfallback.messages.patterns import lazy_re
from ccfallback.messages.reset_hints import ABSURD, UNIFIED, moment

HYSTERESIS: Final = 0.05
"""How far below a threshold the utilization has to fall before it counts as below."""

RETURN_SECONDS: Final = 120.0
"""In so many seconds all sessions return to the primary after it was skipped, if that was long."""

RETURN_STEPS: Final = 25
"""Sessions that return one after the other in this time, before all others may."""

MOST_POINTS: Final = 24
"""Readings kept of each window for the forecast."""

LOOK_BACK: Final = 0.2
"""The share of a window's length from which its rate of use is taken: 1 h of 5 h."""

LEAST_POINTS: Final = 4
LEAST_SPAN: Final = 1 / 6
"""How much of that time the readings have to cover."""
LEAST_RISE: Final = 0.03
"""How far the utilization has to rise: the headers round it."""

OVERAGE: Final = "overage"
"""The window of paid usage beyond the plan; it decides nothing."""

REJECTED: Final = "rejected"
_ALLOWED: Final = frozenset({"allowed", "allowed_warning"})

_CLAIMS: Final[Mapping[str, str]] = {
    "five_hour": "5h",
    "seven_day": "7d",
    "seven_day_overage_included": "7d_oi",
    "seven_day_opus": "7d_opus",
    "seven_day_sonnet": "7d_sonnet",
    "overage": OVERAGE,
}
"""What `representative-claim` calls the windows."""

_FAMILIES: Final[Mapping[str, str]] = {"oi": "fable"}
"""The models that a window is about, where its name says it in another way."""

_UNITS: Final[Mapping[str, tuple[float, str]]] = {"h": (3600.0, "hour"), "d": (86400.0, "day")}
_PERIODS: Final[Mapping[str, float]] = {"daily": 86400.0, "weekly": 604800.0, "monthly": 2592000.0}

_WINDOW: Final = lazy_re(r"(?P<count>[1-9]\d{0,2})(?P<unit>[hd])(?:_(?P<family>\w{1,32}))?")
_OF_WINDOW: Final = lazy_re(
    r"(?P<window>\d{1,3}[hd](?:_\w{1,32})?|overage)-"
    r"(?P<field>utilization|reset|status|surpassed-threshold)"
)
_WORD: Final = lazy_re(r"[\w.,:+ -]{1,64}", re.ASCII)
_MOST_WINDOWS: Final = 12


class Window(msgspec.Struct, frozen=True, rename="camel"):
    """A window as an answer told it."""

    at: float
    """When it was read."""
    utilization: float | None = None
    reset: float | None = None
    status: str = ""
    threshold: float | None = None
    """The server asks for a warning: this utilization was passed."""
    switched: bool = False
    """Whether it is used so far that the primary is skipped; see `decide`."""
    spared: bool = False
    """The same for the requests that are spared."""
    points: tuple[tuple[float, float], ...] = ()
    """Readings of this period: time and utilization, the oldest first."""


class Overage(msgspec.Struct, frozen=True, rename="camel"):
    """Paid usage beyond the plan; what is used of it is a window of its own."""

    in_use: bool = False
    disabled_reason: str = ""
    scope: str = ""
    group: str = ""
    period: str = ""
    period_monthly_utilization: float | None = None
    period_channel_utilization: float | None = None
    daily_cap_paused: bool = False


class Slow(msgspec.Struct, frozen=True, rename="camel"):
    """The mode of lower priority that is offered after the weekly limit; waits in seconds."""

    offer: str = ""
    status: str = ""
    retry_after: float | None = None
    max_wait: float | None = None
    budget_utilization: float | None = None
    budget_reset: float | None = None


class Grace(msgspec.Struct, frozen=True, rename="camel"):
    """The short time after the end of a window in which requests are still served."""

    status: str = ""
    utilization_5h: float | None = msgspec.field(default=None, name="5hUtilization")
    utilization_7d: float | None = msgspec.field(default=None, name="7dUtilization")


class Reading(msgspec.Struct, frozen=True, rename="camel"):
    """All that is known of one login's plan."""

    at: float
    """When the last answer with such headers came."""
    status: str = ""
    """The verdict on the whole: `allowed`, `allowed_warning`, `rejected`, or an older word."""
    reset: float | None = None
    claim: str = ""
    """The window that binds, by its name."""
    windows: dict[str, Window] = {}
    fallback: str = ""
    """`available` if the server would let a smaller model through."""
    fallback_percentage: float | None = None
    upgrade_paths: tuple[str, ...] = ()
    overage: Overage = Overage()
    slow: Slow = Slow()
    grace: Grace = Grace()
    back: float | None = None
    """When the primary was last usable again after it was skipped or refused."""
    back_seconds: float = 0.0
    """In so many seconds all sessions return from then on."""

    @property
    def uses_overage(self) -> bool:
        """Whether the plan is used up, and requests are served from paid usage."""
        paid = self.windows.get(OVERAGE)
        has_paid = self.overage.in_use or (paid is not None and paid.status in _ALLOWED)
        return self.status == REJECTED and has_paid


# -- What a window's name says


def length(name: str) -> float | None:
    """The seconds of a window; `None` if its name does not say."""
    match = _WINDOW.fullmatch(name)
    return None if match is None else int(match["count"]) * _UNITS[match["unit"]][0]


def family(name: str) -> str:
    """The family of models that a window is about; empty if it is about all."""
    match = _WINDOW.fullmatch(name)
    word = "" if match is None else match["family"] or ""
    return _FAMILIES.get(word, word)


def title(name: str) -> str:
    """A window's name for a person: `5-hour window`, `7-day window for opus`, `paid usage`."""
    match = _WINDOW.fullmatch(name)
    if match is None:
        return "paid usage" if name == OVERAGE else f"window {name}"
    models = family(name)
    return f"{match['count']}-{_UNITS[match['unit']][1]} window" + (f" for {models}" * bool(models))


# -- Reading


def read_quota(headers: Mapping[str, str], now: float) -> Reading | None:
    """What an answer says of the plan; `None` if it says nothing. `headers` have lower-case names.

    A value that makes no sense counts as missing.
    """
    values = {n[len(UNIFIED) :]: v.strip() for n, v in headers.items() if n.startswith(UNIFIED)}
    if not values:
        return None
    windows: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        match = _OF_WINDOW.fullmatch(name)
        if match is not None and len(windows) < _MOST_WINDOWS:
            table = windows.setdefault(match["window"], {})
            table[match["field"].removeprefix("surpassed-")] = value
    reset, claim = _time(values.get("reset"), now), values.get("representative-claim", "")
    claim = _CLAIMS.get(claim, _word(claim))
    status = _word(values.get("status", ""))
    if status == REJECTED and claim in _CLAIMS.values() and not _any_rejected(windows):
        windows.setdefault(claim, {})["status"] = REJECTED
    read = {name: _read_window(table, now) for name, table in windows.items()}
    if claim in read and read[claim].reset is None:
        read[claim] = msgspec.structs.replace(read[claim], reset=reset)
    return Reading(
        at=now,
        status=status,
        reset=reset,
        claim=claim,
        windows={name: window for name, window in read.items() if window != Window(now)},
        fallback=_word(values.get("fallback", "")),
        fallback_percentage=_number(values.get("fallback-percentage")),
        upgrade_paths=tuple(
            path for each in values.get("upgrade-paths", "").split(",")[:8] if (path := _word(each))
        ),
        overage=_fill(Overage, "overage", values, now),
        slow=_fill(Slow, "slow", values, now),
        grace=_fill(Grace, "grace", values, now),
    )


def _any_rejected(windows: Mapping[str, Mapping[str, str]]) -> bool:
    return any(table.get("status") == REJECTED for table in windows.values())


def _read_window(table: Mapping[str, str], now: float) -> Window:
    utilization = _number(table.get("utilization"))
    return Window(
        at=now,
        utilization=utilization,
        reset=_time(table.get("reset"), now),
        status=_word(table.get("status", "")),
        threshold=_number(table.get("threshold")),
        points=() if utilization is None else ((now, utilization),),
    )


K = TypeVar("K", Overage, Slow, Grace)


def _fill(kind: type[K], prefix: str, values: Mapping[str, str], now: float) -> K:
    """The group of headers with this prefix. A header is named like its field."""
    found: dict[str, Any] = {}
    for each in msgspec.structs.fields(kind):
        name = "-".join(reversed(each.name.split("_"))) if kind is Grace else each.name
        value = values.get(f"{prefix}-{name.replace('_', '-')}")
        if value is None:
            continue
        if each.type is bool:
            found[each.name] = value.lower() == "true"
        elif each.type is str:
            found[each.name] = _word(value)
        else:
            found[each.name] = _time(value, now) if name.endswith("reset") else _number(value)
    return kind(**found)


def _word(value: str) -> str:
    """A value that is safe to keep and to show; empty if it is not."""
    value = value.strip()
    return value if _WORD.fullmatch(value) else ""


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and isfinite(number) and 0 <= number < 1e9 else None


def _time(value: str | None, now: float) -> float | None:
    when = None if value is None else moment(value, now)
    return when if when is not None and 0 <= when < now + ABSURD else None


# -- Ageing


def age(name: str, window: Window, now: float) -> Window:
    """The window at a later moment: after its end nothing of it is used."""
    end = window_end(name, window)
    if end is None or now < end:
        return window
    return Window(at=window.at, utilization=0.0)


def window_end(name: str, window: Window) -> float | None:
    """When a window's present period ends; `None` if neither its name nor a header says."""
    if window.reset is not None:
        return window.reset
    seconds = length(name)
    return None if seconds is None else window.at + seconds


def current_windows(reading: Reading, now: float) -> dict[str, Window]:
    """The windows at a moment."""
    return {name: age(name, window, now) for name, window in reading.windows.items()}


def add_reading(old: Reading | None, new: Reading, rules: Quota) -> Reading:
    """A new reading with what is still true of the one before.

    An answer may tell only the windows of its own model, and in paid usage none of the plan. If it
    tells one window of the whole plan, the others that it lacks do not exist.
    """
    if old is None:
        old = Reading(at=new.at)
    is_plan = any(length(name) and not family(name) for name in new.windows)
    windows: dict[str, Window] = {}
    back, back_seconds = old.back, old.back_seconds
    for name, window in old.windows.items():
        end = window_end(name, window)
        if end is not None and end <= new.at:
            if keeps_away(window, old):
                back, back_seconds = end, _spread(window, end)
        elif name not in new.windows and not (is_plan and length(name) and not family(name)):
            windows[name] = window
    for name, window in new.windows.items():
        before = old.windows.get(name)
        if before is not None and age(name, before, new.at) is not before:
            before = None
        joined = _join(name, before, window, rules)
        if before is not None and before.switched and not joined.switched:
            back, back_seconds = new.at, _spread(before, new.at)
        windows[name] = joined
    changes = {"windows": windows, "back": back, "back_seconds": back_seconds}
    return msgspec.structs.replace(new, **changes)


def _join(name: str, before: Window | None, window: Window, rules: Quota) -> Window:
    used = window.utilization
    points = window.points
    if before is not None and used is not None and before.points:
        points = _add_point(before.points, (window.at, used), length(name) or 0.0)
    return msgspec.structs.replace(
        window,
        points=points,
        switched=_is_over(used, rules.switch_at, before is not None and before.switched),
        spared=_is_over(used, rules.spare_from, before is not None and before.spared),
    )


def _add_point(
    points: tuple[tuple[float, float], ...], point: tuple[float, float], seconds: float
) -> tuple[tuple[float, float], ...]:
    """The points with another one; of those close together only the last is kept."""
    spacing = seconds * LOOK_BACK / (MOST_POINTS - 2)
    if len(points) > 1 and points[-1][0] - points[-2][0] < spacing:
        points = points[:-1]
    recent = [each for each in points if point[0] - seconds * LOOK_BACK <= each[0] <= point[0]]
    return (*recent[1 - MOST_POINTS :], point)


def _is_over(utilization: float | None, threshold: float, was_over: bool) -> bool:
    """Whether a window is used up to a threshold; 1 means only when the primary refuses."""
    if utilization is None or threshold >= 1.0:
        return False
    # Headers and thresholds are decimal fractions.
    least = threshold - HYSTERESIS + 1e-9 if was_over else threshold - 1e-9
    return utilization >= least


# -- Forecast


class Forecast(NamedTuple):
    """When a window will be full, if its use goes on as it was."""

    full_at: float
    at_reset: float | None
    """The utilization that it will have when it resets; `None` if that time is not known."""


def forecast(name: str, window: Window, now: float, period: str = "") -> Forecast | None:
    """When the window will be full; `None` if there are too few readings, or its use stands still.

    The rate is that of the last fifth of the window's length. `period` is the word for the length
    of a window that does not say it in its name.
    """
    seconds = length(name) or _PERIODS.get(period)
    if seconds is None or window.utilization is None or window.utilization >= 1:
        return None
    if age(name, window, now) is not window:
        return None
    look_back = seconds * LOOK_BACK
    points = [(at, used) for at, used in window.points if now - look_back <= at <= now]
    if len(points) < LEAST_POINTS or points[-1][0] - points[0][0] < look_back * LEAST_SPAN:
        return None
    if points[-1][1] - points[0][1] < LEAST_RISE - 1e-9:
        return None
    if now - points[-1][0] > look_back / MOST_POINTS:
        # A pause is part of how it is used.
        points.append((now, points[-1][1]))
    rate = _slope(points)
    if rate <= 0:
        return None
    at_reset = None
    if window.reset is not None:
        at_reset = window.utilization + rate * (window.reset - now)
    return Forecast(now + (1 - window.utilization) / rate, at_reset)


def _slope(points: list[tuple[float, float]]) -> float:
    """The slope of the line that fits the points best (least squares)."""
    middle = sum(at for at, _ in points) / len(points)
    spread = sum((at - middle) ** 2 for at, _ in points)
    return sum((at - middle) * used for at, used in points) / spread if spread else 0.0


# -- Decision


class Action(StrEnum):
    """What the policy does with a request that might go to the primary."""

    USE = "use"
    SPARE = "spare"
    """Requests of this class are sent to the fallbacks first, to save the plan for others."""
    SKIP = "skip"
    """All requests are sent to the fallbacks first."""


class Decision(NamedTuple):
    """What the plan's windows say about a request."""

    action: Action
    window: str = ""
    """The window that decides."""
    utilization: float = 0.0
    until: float | None = None
    """When that window resets."""

    @property
    def why(self) -> str:
        """The reason in a few words."""
        used = f"{title(self.window)} is {self.utilization * 100:.0f} % used"
        return {
            Action.USE: "",
            Action.SPARE: f"the {used}, and the rest is kept for the others",
            Action.SKIP: f"the {used}",
        }[self.action]


USE: Final = Decision(Action.USE)


def is_active(rules: Quota) -> bool:
    """Whether the configuration asks for any decision."""
    return rules.switch_at < 1.0 or rules.spare_from < 1.0


def decide(
    reading: Reading, rules: Quota, now: float, *, model: str = "", request_class: str = ""
) -> Decision:
    """Whether a request goes to the primary, by the windows that concern its model.

    Paid usage is not part of the plan and decides nothing. If several windows are used too far,
    the one that resets last decides.
    """
    spare: list[Decision] = []
    skip = [
        decision
        for name, decision in switched_windows(reading, rules, now).items()
        if _concerns(name, model)
    ]
    if not skip and request_class in rules.spare_classes:
        spare = [
            Decision(Action.SPARE, name, window.utilization or 0.0, window_end(name, window))
            for name, window in _plan_windows(reading, now)
            if _concerns(name, model)
            and _is_over(window.utilization, rules.spare_from, window.spared)
        ]
    return max(skip or spare or [USE], key=lambda each: each.until or 0.0)


def switched_windows(reading: Reading, rules: Quota, now: float) -> dict[str, Decision]:
    """The windows that are used so far that requests which they concern skip the primary."""
    return {
        name: Decision(Action.SKIP, name, window.utilization or 0.0, window_end(name, window))
        for name, window in _plan_windows(reading, now)
        if _is_over(window.utilization, rules.switch_at, window.switched)
    }


def _plan_windows(reading: Reading, now: float) -> Iterator[tuple[str, Window]]:
    """The windows of the plan whose period has not ended."""
    for name, window in reading.windows.items():
        if name != OVERAGE and age(name, window, now) is window:
            yield name, window


def _concerns(name: str, model: str) -> bool:
    """Whether a window counts requests for this model; without one, whether it counts all."""
    return family(name) in model.lower() if model else not family(name)


def refused_until(reading: Reading, now: float) -> float | None:
    """When the plan is usable again: the latest reset of its rejected windows; `None` if it is."""
    if reading.uses_overage:
        return None
    ends = [
        window_end(name, window) or 0.0
        for name, window in current_windows(reading, now).items()
        if window.status == REJECTED and name != OVERAGE
    ]
    if not ends and reading.status == REJECTED and reading.claim not in reading.windows:
        ends = [reading.reset or 0.0]
    return max((end for end in ends if end > now), default=None)


# -- Return


def keeps_away(window: Window, reading: Reading) -> bool:
    """Whether requests go elsewhere because of a window, until it resets."""
    return window.switched or (window.status == REJECTED and not reading.uses_overage)


def _spread(window: Window, back: float) -> float:
    """In how many seconds the sessions return after a time without the primary."""
    return max(0.0, min(RETURN_SECONDS, back - window.at))


def returns(reading: Reading, now: float) -> tuple[float, float] | None:
    """Since when sessions return to the primary, and in how many seconds; `None` if all may."""
    back, seconds = reading.back, reading.back_seconds
    for name, window in reading.windows.items():
        end = window_end(name, window)
        if end is not None and end <= now and end > (back or 0.0) and keeps_away(window, reading):
            back, seconds = end, _spread(window, end)
    if back is None or not back <= now < back + seconds:
        return None
    return back, seconds


def returned_by(reading: Reading) -> float:
    """The moment from which no session of this login has to wait for others to return."""
    ends = [
        window_end(name, window) or 0.0
        for name, window in reading.windows.items()
        if keeps_away(window, reading)
    ]
    return max([*ends, reading.back or 0.0]) + RETURN_SECONDS


def may_return(
    since: float, seconds: float, now: float, returned: Iterable[str], session: str
) -> bool:
    """Whether a session may use the primary again while sessions return one after the other.

    The first one may at once, so that a single user waits for nothing.
    """
    sessions = set(returned)
    return session in sessions or len(sessions) <= RETURN_STEPS * (now - since) / seconds
