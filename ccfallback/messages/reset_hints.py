"""Reset hints: when an upstream says that it will serve again.

Headers count first, then members of the error's body, then words.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final, NamedTuple

from ccfallback.messages.patterns import has_any, lazy_re

UNIFIED: Final = "anthropic-ratelimit-unified-"
_MODEL_WINDOW: Final = lazy_re(r"7d_oi|overage|(?:7d|seven_day)_\w+")
_MODEL_CLAIM: Final = lazy_re(r"overage|seven_day_\w+")
_REGAIN: Final = lazy_re(
    r"regain access on (\d{4}-\d{2}-\d{2})(?: at (\d{2}:\d{2}))?", re.IGNORECASE
)
_REGAIN_WORDS: Final = ("regain access on",)
_CAPITAL: Final = lazy_re(r"(?<=[a-z])([A-Z])")
_DURATION: Final = lazy_re(r"(\d+(?:\.\d+)?)(ms|s|min|m|h|d|w)?")
_UNITS: Final[Mapping[str, float]] = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}

TEMPORARY: Final = frozenset({402, 429, *range(500, 600)})
"""Statuses of errors that may end at a certain time."""

_MOMENTS: Final = lazy_re(r"(?:quota|limit|usage)?_?resets?(?:_?(?:at|on|time|date|time_?stamp))?")
"""Members that say when: `resets_at`, `reset_time`, `quotaResetTimeStamp`."""
_WAITS: Final = lazy_re(
    r"(?:(?:quota|limit|usage)_?resets?_?(?:delay|in|after)|resets?_(?:in|after|delay)|retry_?(?:after|delay|in))"
    r"(?:_?(?P<unit>ms|milliseconds|s|secs?|seconds))?|resets?_(?P<alone>ms|milliseconds|seconds)"
)
"""Members that say how long: `resets_in_seconds`, `retry_after`, `retryDelay`."""
_HEADERS: Final = frozenset({"x-ratelimit-reset", "retry-after"})
"""Headers of the provider behind a gateway, which repeats them in the body."""
_DEEPEST: Final = 6
_MOST_MEMBERS: Final = 256

ABSURD: Final = 400 * 86400.0
"""Seconds; a hint that is further ahead is in another unit than we think."""

MESSAGE: Final = "message"
"""The source of a hint in the text of an error."""


class ResetHint(NamedTuple):
    """When an upstream says that it will serve again."""

    until: float
    """In Unix seconds."""
    source: str
    """The name of the header with the hint, or `MESSAGE`."""


def reset_hint(headers: Mapping[str, str], message: str, now: float) -> ResetHint | None:
    """When an upstream says that it will serve again; `None` if it does not say.

    The latest reset of the rejected windows of a subscription; else the unified reset if the
    unified status is rejected; else `retry-after-ms`, `retry-after`, or a date in the message.
    A time in the past counts for nothing. `headers` have lower-case names.
    """
    resets = [
        ResetHint(reset, name)
        for window, status in _windows(headers).items()
        if status == "rejected"
        and (reset := _number(headers.get(name := f"{UNIFIED}{window}-reset"))) is not None
        and reset < now + ABSURD
    ]
    candidates: list[tuple[float | None, str]] = [max(resets)] if resets else []
    if headers.get(f"{UNIFIED}status") == "rejected":
        name = f"{UNIFIED}reset"
        candidates.append((_number(headers.get(name)), name))
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        candidates.append((now + milliseconds / 1000, "retry-after-ms"))
    candidates.append((retry_after(headers.get("retry-after"), now), "retry-after"))
    candidates.append((_regain_date(message), MESSAGE))
    return next(
        (
            ResetHint(when, source)
            for when, source in candidates
            if when is not None and now < when < now + ABSURD
        ),
        None,
    )


def body_hint(value: object, now: float) -> ResetHint | None:
    """The reset hint that the members of an error's body give, the latest if there are several.

    Numbers are seconds to wait, or Unix seconds or milliseconds by their size.
    """
    found: list[ResetHint] = []
    waiting: list[tuple[int, object]] = [(0, value)]
    for _ in range(_MOST_MEMBERS):
        if not waiting:
            break
        depth, item = waiting.pop()
        if isinstance(item, Mapping):
            for key, inner in list(item.items())[:_MOST_MEMBERS]:
                when = _read_time(key, inner, now)
                if when is not None and now < when < now + ABSURD:
                    found.append(ResetHint(when, key))
                elif depth < _DEEPEST and isinstance(inner, Mapping | list):
                    waiting.append((depth + 1, inner))
        elif isinstance(item, list):
            waiting += [(depth + 1, inner) for inner in item[:_MOST_MEMBERS]]
    return max(found, default=None)


def _read_time(key: object, value: object, now: float) -> float | None:
    """The time that a member of an error gives, if it is one that gives a time."""
    if not isinstance(key, str) or isinstance(value, Mapping | list):
        return None
    if key.lower() in _HEADERS:
        return moment(value, now)
    name = _CAPITAL.sub(r"_\1", key).lower()
    if (wait := _WAITS.fullmatch(name)) is not None:
        if (wait["unit"] or wait["alone"] or "").startswith("m"):
            milliseconds = _number(value) if isinstance(value, str | int | float) else None
            return None if milliseconds is None else now + milliseconds / 1000
        return moment(value, now)
    return moment(value, now) if _MOMENTS.fullmatch(name) is not None else None


def moment(value: Any, now: float) -> float | None:
    """A time: Unix seconds or milliseconds, an ISO date, or a wait such as `42` or `1h30m`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    number = _number(value)
    if number is None and isinstance(value, str):
        if (seconds := duration(value)) is not None:
            return now + seconds
        try:
            when = datetime.fromisoformat(value.strip())
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return retry_after(value, now)
    if number is None or not 0 < number < 1e15:
        return None
    if number > 1e11:
        return number / 1000
    return number if number > 1e9 else now + number


def only_model_window_rejected(headers: Mapping[str, str]) -> bool:
    """Whether a subscription refuses one model, and would serve others."""
    if headers.get(f"{UNIFIED}status") != "rejected":
        return False
    rejected = [window for window, status in _windows(headers).items() if status == "rejected"]
    if rejected:
        return all(_MODEL_WINDOW.fullmatch(window) for window in rejected)
    claim = headers.get(f"{UNIFIED}representative-claim", "")
    return _MODEL_CLAIM.fullmatch(claim) is not None


def any_window_rejected(headers: Mapping[str, str]) -> bool:
    """Whether a window of a subscription, or all of it, is used up."""
    return headers.get(f"{UNIFIED}status") == "rejected" or "rejected" in _windows(headers).values()


def retry_after(value: str | None, now: float) -> float | None:
    """When a `retry-after` header says to come back: seconds or an HTTP date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return now + seconds
    # Here, because few answers have such a date, and the import takes longer than this module.
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(value)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def duration(text: str) -> float | None:
    """The seconds in a text such as `90`, `10m` or `1h30m`; `None` if it is not a duration."""
    text = text.strip().lower()
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        return None
    if len(parts) > 1 and not all(part[2] for part in parts):
        return None
    return sum(float(part[1]) * _UNITS[part[2] or "s"] for part in parts)


def _windows(headers: Mapping[str, str]) -> dict[str, str]:
    """The status of each window of a subscription, by the window's name."""
    # To search all names at once takes a fifth of the time, and most refusals tell of no window.
    if UNIFIED not in "\n".join(headers):
        return {}
    return {
        name[len(UNIFIED) : -len("-status")]: value.strip()
        for name, value in headers.items()
        if name.startswith(UNIFIED) and name.endswith("-status") and name != f"{UNIFIED}status"
    }


def _regain_date(message: str) -> float | None:
    match = _REGAIN.search(message) if has_any(message, _REGAIN_WORDS) else None
    if match is None:
        return None
    try:
        when = datetime.fromisoformat(f"{match[1]}T{match[2] or '00:00'}:00+00:00")
    except ValueError:
        return None
    return when.timestamp()


def _number(value: str | float | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except (ValueError, OverflowError):
        return None
    return number if number is not None and isfinite(number) else None
