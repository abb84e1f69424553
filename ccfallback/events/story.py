"""Turn a log record into the parts of a line that a person reads.

Nothing here raises: a log outlives the version that wrote it, and other programs may have
written to it. What comes from a record never reaches the terminal as a control character.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any, Final

from ccfallback.events.records import Record

SIGNS: Final[Mapping[str, str]] = {"debug": " ", "info": "·", "warn": "!", "error": "✗"}
"""What a level looks like where there is no colour."""

ANSWERED: Final = "✓"

GOOD_EVENTS: Final = frozenset({"request.complete", "provider.success"})
"""Events that are good news."""

REQUEST_LETTERS: Final = 7
"""As many as the random part of a request id has."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One line of the story."""

    day: str
    """The date, `2025-05-11`, empty where it is not known."""
    time: str
    """The time of day, `14:20:03`, to be shown in eight columns."""
    sign: str
    """One letter that says how grave it is."""
    level: str
    request: str
    """The end of the request id: lines with the same belong together."""
    text: str


def line(record: Record[Any], *, timezone: tzinfo | None = None) -> StoryLine:
    """A record as a line, its time in `timezone` (by default this machine's)."""
    day, time = _clock(_second(record.timestamp), timezone)
    event = printable(record.event)
    level = printable(record.level)
    return StoryLine(
        day=day,
        time=time,
        sign=ANSWERED if event in GOOD_EVENTS else SIGNS.get(level, " "),
        level=level,
        request=printable(record.request_id)[-REQUEST_LETTERS:],
        text=printable(record.message) or event or "(a line without a message)",
    )


def moment(record: Mapping[str, Any]) -> datetime | None:
    """When a record was written, with its time zone; `None` if it does not say."""
    return _moment(str(record.get("timestamp")))


def _moment(timestamp: str) -> datetime | None:
    try:
        when = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return when if when.tzinfo is not None else None


def _second(timestamp: str) -> str:
    """A timestamp of ours without its fraction, which no line shows; any other as it is."""
    ours = len(timestamp) == len("2025-05-11T14:20:03.123Z") and timestamp[19] == "."
    return timestamp[:19] + timestamp[23:] if ours else timestamp


@lru_cache(maxsize=8)
def _clock(timestamp: str, timezone: tzinfo | None) -> tuple[str, str]:
    """Day and time of day: the same for a great many lines."""
    when = _moment(timestamp)
    local = None if when is None else _local(when, timezone)
    if local is None:
        return "", "--:--:--"
    return local.strftime("%Y-%m-%d"), local.strftime("%H:%M:%S")


def _local(when: datetime, timezone: tzinfo | None) -> datetime | None:
    try:
        return when.astimezone(timezone)
    except (OverflowError, OSError, ValueError):  # A year that this machine's clock can't have.
        return None


def is_of(record: Mapping[str, Any], request: str) -> bool:
    """Whether a record is about the request whose id begins or ends like this.

    Its end is what the story shows, its beginning what one types.
    """
    found = record.get("requestId")
    return isinstance(found, str) and (found.startswith(request) or found.endswith(request))


def printable(value: object) -> str:
    """A text of a record, without anything that a terminal would obey; empty if it is none."""
    if not isinstance(value, str):
        return ""
    # Nearly every text is, and that is known six times as soon.
    if value.isprintable():
        return value.strip()
    return _CONTROL.sub(" ", value).strip()
