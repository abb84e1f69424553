"""Words that several commands use, so that they say the same thing in the same way."""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Final

TAKE_BACK: Final = "`ccfallback config rollback` takes it back"
"""Every write of the configuration says this; it is why nothing asks for confirmation."""

_LARGER: Final = ((60, "min"), (60, "h"), (24, "d"))
"""How many of a unit make one of the next, from seconds on."""

_DAY: Final = 86400.0


def span(seconds: float) -> str:
    """A length of time in its largest unit, rounded: `45 s`, `4 min`, `3 h`, `2 d`."""
    count, unit = max(seconds, 0.0), "s"
    for full, larger in _LARGER:
        if round(count) < full:
            break
        count, unit = count / full, larger
    return f"{round(count)} {unit}"


def ago(when: float, now: float) -> str:
    """How long something is past."""
    return "just now" if now - when < 1 else f"{span(now - when)} ago"


def ahead(when: float, now: float, zone: tzinfo | None = None) -> str:
    """How far something is ahead, and by the clock on the wall."""
    far = when - now >= _DAY
    clock = datetime.fromtimestamp(when, zone).strftime("%b %d %H:%M" if far else "%H:%M")
    return f"in {span(when - now)}, {clock}"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: `a`, `a and b`, `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
