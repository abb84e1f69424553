"""Records events: each becomes one line of the log, and is counted and heard as it happens.

A record never holds a key, a token or message content; texts that come from an upstream are
scrubbed and cut here, so that no caller can forget it.
"""

from asyncio import to_thread
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import lru_cache
from time import time
from traceback import extract_tb
from typing import Any, Final, Protocol

from ccfallback.config.model import LEVELS
from ccfallback.events.records import SIDE_LEVEL, Event
from ccfallback.events.records import Record as LogRecord
from ccfallback.printable import printable
from ccfallback.quotes import Quotes
from ccfallback.redact import scrub

Record = LogRecord[Any]
Listener = Callable[[Record], None]

LONGEST_TEXT: Final = 200

LONGEST_SCRUBBED: Final = 1000
"""Letters in which secrets are looked for. More than are kept: one may begin before the end."""


class Sink(Protocol):
    """Where records are kept."""

    @property
    def put(self) -> Listener:
        """Takes a record; never blocks, never raises."""


class Recorder:
    """Makes records of events and hands them on."""

    def __init__(self, sink: Sink | None, level: str = "info") -> None:
        self.sink = sink
        self._wanted: frozenset[str] = frozenset()
        self.set_level(level)
        self.listeners: list[Listener] = []
        self.count: Callable[[Event], None] | None = None
        """Is given every event but those of side endpoints, whatever level is logged."""
        self._moment, self._timestamp = -1, ""
        """The millisecond of the last record, and as text: several records share one."""

    def set_level(self, level: str) -> None:
        """Drop records below this level from now on."""
        self._wanted = frozenset(LEVELS[LEVELS.index(level) :])

    def wants(self, level: str) -> bool:
        """Whether a record of that level would be kept."""
        return level in self._wanted

    def log(
        self, event: Event, message: str, request_id: str | None = None, level: str | None = None
    ) -> None:
        """Record an event, at its own level unless another is given.

        `message` is a sentence for a person; the event says the same to a program.
        """
        level = level or event.level
        if self.count is not None and level != SIDE_LEVEL:
            self.count(event)
        if level not in self._wanted:
            return
        moment = int(time() * 1000)
        if moment != self._moment:
            self._moment, self._timestamp = moment, timestamp(moment)
        record: Record = LogRecord(self._timestamp, level, event.name, message, request_id, event)
        if self.sink is not None:
            self.sink.put(record)
        for listener in self.listeners:
            listener(record)

    def announce(self, event: Event, message: str) -> None:
        """Tell the listeners about an event that the log itself can't take."""
        now = timestamp(int(time() * 1000))
        record: Record = LogRecord(now, event.level, event.name, message, None, event)
        for listener in self.listeners:
            listener(record)


def timestamp(milliseconds: int) -> str:
    """A moment as ISO 8601 in UTC, to the millisecond."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    """A second as text, kept because many records share it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def describe_crash(error: BaseException) -> str:
    """The type of an exception that no code expected, and its place; its text may be secret."""
    frames = extract_tb(error.__traceback__)
    name = type(error).__name__
    if not frames:
        return f"internal error: {name}"
    path = frames[-1].filename.rpartition("ccfallback")[2]
    return f"internal error: {name} at {path}:{frames[-1].lineno}"


def cut(text: str) -> str:
    """A text of the client or of an upstream, no longer than the log may hold."""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


async def upstream_text(
    text: str, secrets: Collection[str] = (), quotes: Quotes | None = None
) -> str:
    """An upstream's own words as the log may hold them: scrubbed, on one line, cut.

    What they quote of the request is removed. In a long conversation a thread looks for it.
    """
    line = cut(" ".join(printable(scrub(text[:LONGEST_SCRUBBED], secrets)).split()))
    if quotes is None or not line:
        return line
    return quotes.remove(line) if quotes.is_cheap else await to_thread(quotes.remove, line)
