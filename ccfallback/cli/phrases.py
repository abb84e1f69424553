"""How commands write durations, times, counts and lists, so that all of them write alike."""

import re
from collections.abc import Sequence
from datetime import datetime, tzinfo
from math import ceil
from textwrap import wrap
from typing import Final

from ccfallback.words import format_seconds

UNDO: Final = "undo: `ccfallback config rollback`"
"""Every change of the configuration ends with this. It is why no command asks for confirmation."""

BARS: Final = "▁▂▃▄▅▆▇█"

PLAIN: Final = dict(zip("✓✗●·…→↑↓▏░" + BARS, "+x*-~>^v|." + ".:-=+*%#", strict=True))
"""What is printed for our marks and bars where a stream's encoding lacks them."""

_DAY: Final = 86400.0
_DATE: Final = re.compile(r"-20\d{6}$")
_COMMAND: Final = re.compile(r"`[^`]*`")
_NO_BREAK_SPACE: Final = "\xa0"


def format_duration(seconds: float) -> str:
    """A duration in its largest unit, rounded: `45 s`, `4 min`, `3 h`, `2 d`."""
    count, unit = max(seconds, 0.0), "s"
    for per_larger, larger in ((60, "min"), (60, "h"), (24, "d")):
        if round(count) < per_larger:
            break
        count, unit = count / per_larger, larger
    return f"{round(count)} {unit}"


def format_latency(seconds: float | None) -> str:
    """A duration to about two digits: `4 ms`, `0.41 s`, `5.6 s`, `58 s`, `4 min`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 0.995:
        return format_seconds(seconds)
    return f"{seconds:.1f} s" if seconds < 9.95 else format_duration(seconds)


def format_ago(when: float, now: float) -> str:
    """A past time: `just now`, `4 min ago`."""
    return "just now" if now - when < 1 else f"{format_duration(now - when)} ago"


def format_last(when: float | None, now: float) -> str:
    """A past time, or `never`."""
    return "never" if when is None else format_ago(when, now)


def format_ahead(when: float, now: float, zone: tzinfo | None = None) -> str:
    """A future time, relative and by the clock: `in 4 min, 14:20`."""
    return f"in {format_duration(when - now)}, {_clock(when, when - now, zone)}"


def format_until(when: float, now: float, zone: tzinfo | None = None) -> str:
    """The end of something: `until 14:20, in 4 min`."""
    return f"until {_clock(when, when - now, zone)}, in {format_duration(when - now)}"


def format_since(when: float, now: float, zone: tzinfo | None = None) -> str:
    """The beginning of something: `since 14:16 (4 min)`."""
    return f"since {_clock(when, now - when, zone)} ({format_duration(now - when)})"


def format_clock(when: float, now: float, zone: tzinfo | None = None) -> str:
    """The time of day of something ahead, with the date if it is a day or more away: `14:20`."""
    return _clock(when, when - now, zone)


def _clock(when: float, distance: float, zone: tzinfo | None) -> str:
    """The time of day, with the date if it is a day or more away."""
    form = "%b %d %H:%M" if distance >= _DAY else "%H:%M"
    return datetime.fromtimestamp(when, zone).strftime(form)


def format_count(count: int) -> str:
    """A number in at most five characters: `999`, `14.1k`, `2.5M`."""
    value, unit = float(count), ""
    for larger in ("k", "M", "G"):
        if abs(value) < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f}{unit}" if unit and value < 99.95 else f"{value:.0f}{unit}"


def format_percent(share: float | None) -> str:
    """A share of a whole as a percentage, never rounded to 0 or 100 %; `-` for None."""
    if share is None:
        return "-"
    shown = share * 100
    if 0 < share < 1:
        shown = min(max(shown, 0.1), 99.9)
        return f"{shown:.1f} %"
    return f"{shown:.0f} %"


def shorten_model(model: str) -> str:
    """A model's name without what most names share: `opus-5-5`, `sonnet-4-5`."""
    return _DATE.sub("", model.removeprefix("claude-"))


def join_names(names: Sequence[str], word: str = "and") -> str:
    """Names as they stand in a sentence: `a`, `a and b`, `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {word} {names[-1]}"


def draw_sparkline(values: Sequence[float | None]) -> str:
    """Values over time, one character each.

    A blank means no value, the lowest bar 0, the highest bar the largest value.
    """
    highest = max((value for value in values if value is not None), default=0.0)
    steps = len(BARS) - 1
    return "".join(
        " " if value is None else BARS[min(steps, ceil(value / highest * steps)) if highest else 0]
        for value in values
    )


def wrap_text(text: str, width: int | None) -> str:
    """The text in lines of at most `width` columns; `None` leaves it as it is.

    Words, paths and commands (text between backticks) stay whole, so that they can be copied.
    """
    if width is None:
        return text
    lines = []
    for line in text.split("\n"):
        if len(line) <= width:
            lines.append(line)
            continue
        held = _COMMAND.sub(lambda found: found[0].replace(" ", _NO_BREAK_SPACE), line)
        pieces = wrap(held, max(width, 20), break_long_words=False, break_on_hyphens=False)
        lines += [piece.replace(_NO_BREAK_SPACE, " ") for piece in pieces]
    return "\n".join(lines)
