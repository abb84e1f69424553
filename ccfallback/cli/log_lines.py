"""A record of the log as a line for people."""

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from enum import StrEnum
from functools import lru_cache
from textwrap import wrap
from typing import Any, Final

from ccfallback.cli.console import Console
from ccfallback.events.records import ProviderSuccess, Record, RequestComplete
from ccfallback.printable import printable

SIGNS: Final[Mapping[str, str]] = {"debug": " ", "info": "·", "warn": "!", "error": "✗"}
"""What a level looks like without colour."""

GOOD_EVENTS: Final = (RequestComplete, ProviderSuccess)
GOOD_SIGN: Final = "✓"

STYLES: Final[Mapping[str, str]] = {"·": "cyan", "!": "yellow", "✗": "red", GOOD_SIGN: "green"}

ID_LENGTH: Final = 7
"""The length of the random part of a request id, which is all that a line shows of it."""


class Level(StrEnum):
    """The log levels."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


LEVELS: Final = tuple(level.value for level in Level)


class LogPrinter:
    """Prints records, one line each; a new day gets a line of its own."""

    def __init__(self, console: Console, timezone: tzinfo | None = None) -> None:
        self._console = console
        self._timezone = timezone
        self._width = console.width
        # Read once: it takes system calls, and would be most of what a line costs.
        self._colour = console.colour
        self._day = ""

    def print(self, records: Iterable[Record[Any]]) -> None:
        """Print records with one write."""
        self._console.write("".join(map(self.format, records)))

    def format(self, record: Record[Any]) -> str:
        """The next record as text."""
        day, time = local_time(record, self._timezone)
        sign, request = level_sign(record), f"{short_id(record):<{ID_LENGTH}}"
        message = printable(record.message) or printable(record.event) or "(no message)"
        new_day = ""
        if day and day != self._day:
            new_day = self._console.paint(day, "dim") + "\n"
            self._day = day
        head = margin = f"{time} {sign} {request}  "
        texts = [message]
        if self._width is not None and self._width > 2 * len(margin):
            texts = wrap(message, self._width - len(margin), break_on_hyphens=False) or [""]
        if self._colour:
            paint, style = self._console.paint, STYLES.get(sign, "dim")
            head = f"{paint(time, 'dim')} {paint(sign, style)} {paint(request, 'dim')}  "
            if record.level in ("warn", "error", "debug"):
                texts = [paint(text, style) for text in texts]
        body = ("\n" + " " * len(margin)).join(texts)
        return new_day + f"{head}{body}".rstrip() + "\n"


def level_sign(record: Record[Any]) -> str:
    """One character that says how serious a record is."""
    return GOOD_SIGN if isinstance(record.data, GOOD_EVENTS) else SIGNS.get(record.level, " ")


def short_id(record: Record[Any]) -> str:
    """The end of the request id: lines with the same one belong together."""
    return printable(record.request_id or "")[-ID_LENGTH:]


def local_time(record: Record[Any], timezone: tzinfo | None = None) -> tuple[str, str]:
    """The day (empty if unknown) and the time of day, by default in this machine's timezone."""
    stamp = record.timestamp
    ours = len(stamp) == len("2025-05-11T14:20:03.123Z") and stamp[19] == "."
    return _local_time(stamp[:19] + stamp[23:] if ours else stamp, timezone)


@lru_cache(maxsize=8)
def _local_time(timestamp: str, timezone: tzinfo | None) -> tuple[str, str]:
    # Kept, because a great many lines have the same second.
    try:
        moment = datetime.fromisoformat(timestamp)
        if moment.tzinfo is None:
            return "", "--:--:--"
        local = moment.astimezone(timezone)
    except (OverflowError, OSError, ValueError):
        return "", "--:--:--"
    return local.strftime("%Y-%m-%d"), local.strftime("%H:%M:%S")
