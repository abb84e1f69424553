"""When a provider says that it will serve again, in the many ways that they say it."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from ccfallback.messages import reset_hints
from ccfallback.messages.errors import UpstreamError
from ccfallback.messages.reset_hints import ResetHint

_RATE_LIMIT: Final = "x-ratelimit-reset"
_LIMITS: Final = ("requests", "tokens")

_WAIT: Final = re.compile(
    r"(?:try again|retry|resets?|available again) (?:in|after):? ?"
    r"((?:\d{1,9}(?:\.\d{1,9})? ?(?:ms|milliseconds?|s|seconds?|m|minutes?|h|hours?|d|days?)\b ?"
    r"|\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h|d)(?=\d))+)",
    re.IGNORECASE,
)
_UNIT: Final = re.compile(r"(ms|[smhd])[a-z]*")
_DATE: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(?:\.\d{1,9})? ?(Z\b|UTC\b|GMT\b|[+-]\d\d:?\d\d)?"
)
_CHINA: Final = timezone(timedelta(hours=8))


def hint(
    headers: Mapping[str, str], value: object, error: UpstreamError, now: float
) -> ResetHint | None:
    """A reset hint; what lies in the past counts as not said."""
    candidates: tuple[tuple[float | None, str] | None, ...] = (
        reset_hints.reset_hint(headers, error.message, now),
        _of_limits(headers, error.type, now),
        (_moment(headers.get(_RATE_LIMIT), now), _RATE_LIMIT),
        _in_details(value, now),
        (_wait(error.message, now), reset_hints.MESSAGE),
        (_date(error.message), reset_hints.MESSAGE),
    )
    for when, source in filter(None, candidates):
        if when is not None and when > now:
            return ResetHint(when, source)
    return None


def _of_limits(headers: Mapping[str, str], kind: str, now: float) -> ResetHint | None:
    """The reset of the limit that is used up, of OpenAI's two."""
    resets = {
        limit: ResetHint(now + seconds, name)
        for limit in _LIMITS
        if (seconds := reset_hints.duration(headers.get(name := f"{_RATE_LIMIT}-{limit}", "")))
        is not None
    }
    used_up = [
        when
        for limit, when in resets.items()
        if limit == kind or headers.get(f"x-ratelimit-remaining-{limit}", "").strip() == "0"
    ]
    return max(used_up or resets.values(), default=None)


def _moment(text: object, now: float) -> float | None:
    """A moment as OpenRouter gives it, in milliseconds; others give seconds, or a wait."""
    try:
        number = float(text) if isinstance(text, str | int | float) else 0.0
    except (ValueError, OverflowError):
        return None
    if not 0 < number < 1e15:
        return None
    if number > 1e11:
        return number / 1000
    return number if number > 1e9 else now + number


def _in_details(value: object, now: float) -> tuple[float | None, str] | None:
    """Gemini's `retryDelay`, or the headers that OpenRouter puts into the body."""
    if isinstance(value, list) and value:
        value = value[0]
    error = value.get("error") if isinstance(value, Mapping) else None
    if not isinstance(error, Mapping):
        return None
    for detail in _objects(error.get("details")):
        delay = detail.get("retryDelay")
        seconds = reset_hints.duration(delay) if isinstance(delay, str) else None
        if seconds is not None:
            return now + seconds, "retryDelay"
    metadata = error.get("metadata")
    headers = metadata.get("headers") if isinstance(metadata, Mapping) else None
    if isinstance(headers, Mapping):
        for name, text in headers.items():
            if isinstance(name, str) and name.lower() == _RATE_LIMIT:
                return _moment(text, now), _RATE_LIMIT
    return None


def _objects(value: object) -> Iterable[Mapping[str, Any]]:
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else ()


def _wait(message: str, now: float) -> float | None:
    """A wait in words: "try again in 6m0s", "after 1 seconds"."""
    found = _WAIT.search(message)
    if found is None:
        return None
    text = _UNIT.sub(lambda unit: unit[1], found[1].lower().replace(" ", ""))
    seconds = reset_hints.duration(text)
    return None if seconds is None else now + seconds


def _date(message: str) -> float | None:
    """A date in words; Zhipu, who leaves out the zone, is in China."""
    found = _DATE.search(message)
    if found is None:
        return None
    zone = (found[3] or "").replace(":", "")
    try:
        when = datetime.fromisoformat(f"{found[1]}T{found[2]}")
        if zone[:1] in ("+", "-"):
            return datetime.fromisoformat(f"{found[1]}T{found[2]}{zone}").timestamp()
        return when.replace(tzinfo=UTC if zone else _CHINA).timestamp()
    except (ValueError, OverflowError):
        return None
