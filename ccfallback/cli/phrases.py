"""Words that several commands use, so that they say the same thing in the same way."""

import re
from collections.abc import Sequence
from datetime import datetime, tzinfo
from math import ceil
from textwrap import wrap
from typing import Final

TAKE_BACK: Final = "`ccfallback config rollback` takes it back"
"""Every write of the configuration says this; it is why nothing asks for confirmation."""

_LARGER: Final = ((60, "min"), (60, "h"), (24, "d"))
"""How many of a unit make one of the next, from seconds on."""

_DAY: Final = 86400.0

BARS: Final = "▁▂▃▄▅▆▇█"
_COMMAND: Final = re.compile(r"`[^`]*`")
_HELD: Final = "\xa0"

PLAIN_BARS: Final = ".:-=+*#@"
"""For streams that have no letters for bars."""


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
    return f"in {span(when - now)}, {_clock(when, when - now, zone)}"


def until(when: float, now: float, zone: tzinfo | None = None) -> str:
    """Until when something lasts by the clock on the wall, and how far that is ahead."""
    return f"until {_clock(when, when - now, zone)}, in {span(when - now)}"


def since(when: float, now: float, zone: tzinfo | None = None) -> str:
    """Since when something is so, by the clock on the wall, and how long that is."""
    return f"since {_clock(when, now - when, zone)} ({span(now - when)})"


def _clock(when: float, distance: float, zone: tzinfo | None) -> str:
    """The time of day, with its date where that is a day or more away."""
    form = "%b %d %H:%M" if distance >= _DAY else "%H:%M"
    return datetime.fromtimestamp(when, zone).strftime(form)


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: `a`, `a and b`, `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def took(seconds: float | None) -> str:
    """A duration to about two digits: `4 ms`, `0.41 s`, `5.6 s`, `58 s`, `4 min`; else a dash."""
    if seconds is None:
        return "-"
    if seconds < 0.00995:
        return f"{ceil(seconds * 1000)} ms"
    for limit, digits in ((0.995, 2), (9.95, 1)):
        if seconds < limit:
            return f"{seconds:.{digits}f} s"
    return span(seconds)


def amount(count: int) -> str:
    """A number as short as it may be: `999`, `14.1k`, `2.5M`."""
    value, unit = float(count), ""
    for larger in ("k", "M", "G"):
        if abs(value) < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f}{unit}" if unit and value < 99.95 else f"{value:.0f}{unit}"


def percent(share: float | None) -> str:
    """A share of a whole; it is never rounded to all or nothing. A dash for `None`."""
    if share is None:
        return "-"
    shown = share * 100
    if 0 < share < 1:
        shown = min(max(shown, 0.1), 99.9)
        return f"{shown:.1f} %"
    return f"{shown:.0f} %"


def counted(count: int, thing: str) -> str:
    """So many of something: `1 request`, `3 requests`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def sparkline(values: Sequence[float | None], width: int | None = None, bars: str = BARS) -> str:
    """Values over time, a letter each: the newest `width` of them where they are too many.

    A blank stands where there is none, the lowest bar for 0, the highest for the largest shown.
    """
    shown = values if width is None else values[max(0, len(values) - width) :]
    highest = max((value for value in shown if value is not None), default=0.0)
    steps = len(bars) - 1
    return "".join(
        " " if value is None else bars[min(steps, ceil(value / highest * steps)) if highest else 0]
        for value in shown
    )


def wrapped(text: str, width: int | None) -> str:
    """A text in lines of at most so many columns, its words, paths and commands kept whole.

    A command is what stands between backticks: it is to be copied. `None` leaves all as it is.
    """
    if width is None:
        return text
    lines = []
    for line in text.split("\n"):
        if len(line) <= width:
            lines.append(line)
            continue
        held = _COMMAND.sub(lambda found: found[0].replace(" ", _HELD), line)
        pieces = wrap(held, max(width, 20), break_long_words=False, break_on_hyphens=False)
        lines += [piece.replace(_HELD, " ") for piece in pieces]
    return "\n".join(lines)
