"""Say what happens: one record an event, to the log file and to whoever listens.

A record never holds a key, a token or message content; texts that come from an upstream are
scrubbed and cut here, so that no caller can forget it.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import lru_cache
from time import time
from typing import Any, Final, Protocol

from ccfallback.config.model import LEVELS
from ccfallback.messages.body import Body
from ccfallback.redact import scrub, without_quotes

Record = dict[str, Any]
Listener = Callable[[Record], None]
Count = Callable[[str, str, Record], None]
"""Takes an event's level, its name and its data."""

LONGEST_TEXT: Final = 200


class Sink(Protocol):
    """Where records go to stay."""

    @property
    def put(self) -> Listener:
        """Takes a record; never blocks, never raises."""


class Recorder:
    """Makes records and hands them on."""

    def __init__(self, sink: Sink | None, level: str = "info") -> None:
        self.sink = sink
        """Where records go, if anywhere."""
        self._wanted: frozenset[str] = frozenset()
        self.set_level(level)
        self.listeners: list[Listener] = []
        self.counts: dict[str, Count] = {}
        """Who is told of an event by that name, of whatever level."""

    def set_level(self, level: str) -> None:
        """Records below this level are dropped from now on."""
        self._wanted = frozenset(LEVELS[LEVELS.index(level) :])

    def wants(self, level: str) -> bool:
        """Whether a record of that level would be kept."""
        return level in self._wanted

    def log(
        self, level: str, event: str, message: str, request_id: str | None = None, **data: Any
    ) -> None:
        """Record an event; `message` is a sentence for a person, `data` the same for a script."""
        if event in self.counts:
            self.counts[event](level, event, data)
        if level not in self._wanted:
            return
        record = {
            "timestamp": timestamp(time()),
            "level": level,
            "event": event,
            "message": message,
            "requestId": request_id,
            "data": data,
        }
        if self.sink is not None:
            self.sink.put(record)
        for listener in self.listeners:
            listener(record)


def timestamp(seconds: float) -> str:
    """A moment as ISO 8601 in UTC, to the millisecond."""
    return _millisecond(int(seconds * 1000))


@lru_cache(maxsize=8)
def _millisecond(milliseconds: int) -> str:
    """A millisecond of the calendar: the same for several records."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    """A second of the calendar: the same for a great many records."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def milliseconds(seconds: float | None) -> int | None:
    """A moment as scripts get it."""
    return None if seconds is None else round(seconds * 1000)


def upstream_text(text: str, secrets: Collection[str] = (), body: Body | None = None) -> str:
    """An upstream's own words, fit for the log: scrubbed, on one line, cut.

    What they quote of the `body` that was sent is left out.
    """
    line = " ".join(scrub(text, secrets).split())
    line = line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"
    return line if body is None else without_quotes(line, body)
