"""Records events: each becomes one line of the log, and is counted and heard as it happens.

A record never holds a key, a token or message content; texts that come from an upstream are
scrubbed and cut here, so that no caller can forget it.
"""

from asyncio import to_thread
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from threading import RLock
from time import time
from traceback import extract_tb
from typing import Any, Final, Protocol

from ccfallback.config.model import LEVELS
from ccfallback.events.records import SIDE_LEVEL, Event
from ccfallback.events.records import Record as LogRecord
from ccfallback.printable import printable
from ccfallback.quotes import Quotes
from ccfallback.redact import NO_SECRETS, KnownSecrets, scrub

Record = LogRecord[Any]
Listener = Callable[[Record], None]
Output = Callable[[list[Record]], None]

_Logged = tuple[float, Event, str, str | None, str | None]
"""When an event was logged in Unix seconds, the event, its message, the request's id, and a level
unless it is the event's own."""

LONGEST_TEXT: Final = 200

LONGEST_SCRUBBED: Final = 1000
"""Letters in which secrets are looked for. More than are kept: one may begin before the end."""


class Sink(Protocol):
    """Where records are kept. Nothing of it blocks or raises."""

    def add(self, records: list[Record], /) -> None:
        """Take records."""

    def wake(self) -> None:
        """Soon call `Recorder.settle`, and then keep what was taken."""


class Recorder:
    """Makes records of events, counts them and hands them on.

    A request only notes its events: what that takes is done later by the thread of the sink, for
    many events at once. With listeners, or without a sink, it is done at once.
    """

    def __init__(self, sink: Sink | None, level: str = "info") -> None:
        self.sink = sink
        self._logged: list[_Logged] = []
        self._will_settle = False
        """Whether what was logged will be settled."""
        self._settling = RLock()
        self._wanted = _from(level)
        self.listeners: list[Listener] = []
        """Are given each record at once."""
        self.outputs: list[Output] = []
        """Are given the records when they are settled, as the sink is."""
        self.count: Callable[[Event], None] | None = None
        """Is given every event but those of side endpoints, whatever level is logged."""

    def set_level(self, level: str) -> None:
        """Drop records below this level from now on."""
        self.settle()
        self._wanted = _from(level)

    def wants(self, level: str) -> bool:
        """Whether a record of that level would be kept."""
        return level in self._wanted

    def log(
        self,
        event: Event,
        message: str = "",
        request_id: str | None = None,
        level: str | None = None,
    ) -> None:
        """Record an event, which does not change any more, at its own level or at another.

        `message` is a sentence for a person, by default the event's own; the event says the same
        to a program.
        """
        self._logged.append((time(), event, message, request_id, level))
        if not self._will_settle:
            self._will_settle = True
            if self.sink is None or self.listeners:
                self.settle()
            if self.sink is not None:
                self.sink.wake()

    def settle(self) -> None:
        """Count all that was logged, and hand it on. Safe from any thread."""
        with self._settling:
            # What is logged from here on needs another call.
            self._will_settle = False
            logged = self._logged[:]
            del self._logged[: len(logged)]
            records = self._make(logged)
            if not records:
                return
            if self.sink is not None:
                self.sink.add(records)
            for output in self.outputs:
                output(records)
            for listener in self.listeners:
                for record in records:
                    listener(record)

    @contextmanager
    def settled(self) -> Iterator[None]:
        """A block in which all that was logged is counted, and nothing more is."""
        with self._settling:
            self.settle()
            yield

    def _make(self, logged: list[_Logged]) -> list[Record]:
        """Count events, and make records of those whose level is wanted."""
        count, wanted = self.count, self._wanted
        last, stamp = -1, ""
        records: list[Record] = []
        for at, event, message, request_id, given in logged:
            level, text = given or event.level, message
            try:
                if count is not None and level != SIDE_LEVEL:
                    count(event)
                if not text and level in wanted:
                    text = event.describe()
            except Exception as error:
                # The thread of the sink has to go on, whatever the event is like.
                text = text or describe_crash(error)
            if level in wanted:
                moment = int(at * 1000)
                if moment != last:
                    # Several records share a millisecond.
                    last, stamp = moment, timestamp(moment)
                records.append(LogRecord(stamp, level, event.name, text, request_id, event))
        return records

    def announce(self, event: Event, message: str) -> None:
        """Tell everyone but the sink about an event that the log itself can't take."""
        now = timestamp(int(time() * 1000))
        record: Record = LogRecord(now, event.level, event.name, message, None, event)
        for output in self.outputs:
            output([record])
        for listener in self.listeners:
            listener(record)


def _from(level: str) -> frozenset[str]:
    """A level and those above it."""
    return frozenset(LEVELS[LEVELS.index(level) :])


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
    text: str, secrets: Iterable[str] | KnownSecrets = NO_SECRETS, quotes: Quotes | None = None
) -> str:
    """An upstream's own words as the log may hold them: scrubbed, on one line, cut.

    What they quote of the request is removed. In a long conversation a thread looks for it.
    """
    whole = " ".join(printable(scrub(text[:LONGEST_SCRUBBED], secrets)).split())
    line = cut(whole)
    if quotes is None or not line:
        return line
    # Without the mark of the cut: a text in ASCII is searched in a fraction of the time.
    kept, mark = (line, "") if line == whole else (line[:-1], line[-1])
    found = quotes.remove(kept) if quotes.is_cheap else await to_thread(quotes.remove, kept)
    return found + mark
