"""What goes on right now, as the log tells it line by line: the numbers of a window that moves.

Records go in as they are written, a picture comes out for any moment. Memory does not grow with
their number: one count a part of the window, a bound on every name that came from elsewhere, and
whole records only of the requests that are shown.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import msgspec

from ccfallback.events import story
from ccfallback.events.explain import END_EVENTS, explain
from ccfallback.events.explanation import Explanation
from ccfallback.events.quantiles import QuantileSketch
from ccfallback.events.stats import BUCKETS, CLIENT_LEFT, REST, Data, Part, Record, bounded

MOST_SHOWN: Final = 100
"""Requests that are kept to be shown, of those that ended and of those under way each."""

MOST_RECORDS: Final = 100
"""Records that are kept of one request."""

MOST_RECALLED: Final = 10_000
"""Records that are read for requests older than the window."""

FORGOTTEN: Final = 3600.0
"""Seconds without a word of its end, after which a request is under way no more."""

MINUTE: Final = 60

_BEGINNINGS: Final = frozenset({"request.start", "provider.attempt"})

Told = Mapping[str, Any]
"""A record of the log, as it was read."""


@dataclass
class Request:
    """One request, under way or ended."""

    records: list[Told]

    @property
    def end(self) -> Told | None:
        """The record of its end."""
        last = self.records[-1]
        return last if last.get("event") in END_EVENTS else None

    @property
    def began(self) -> float:
        """When its first record was written, in Unix seconds; 0 if it does not say."""
        when = story.moment(self.records[0])
        return 0.0 if when is None else when.timestamp()

    @cached_property
    def story(self) -> Explanation:
        """Who was asked, and what came of it; to be read once no more records come."""
        return explain(self.records)


@dataclass(slots=True)
class Tries:
    """What was tried at one provider."""

    attempts: int = 0
    latency: QuantileSketch = field(default_factory=QuantileSketch)
    """Of its answers, in milliseconds."""
    parts: list[Part] = field(default_factory=list)
    """Its answers and failed tries over time."""

    @property
    def failures(self) -> int:
        """How many tries failed."""
        return sum(part.failed for part in self.parts)

    @property
    def answered(self) -> int:
        """How many requests it answered."""
        return sum(part.answered for part in self.parts)


@dataclass(frozen=True, slots=True)
class Picture:
    """The window as it is at one moment; times in Unix seconds."""

    window: float
    """Its length; where it begins, it is up to one part of it shorter."""
    since: float
    until: float
    answered: int
    failed: int
    left: int
    """Requests that the client gave up."""
    failovers: int
    """Tries at the next provider because one had failed."""
    last_minute: int
    """Requests that ended in the last minute."""
    providers: Mapping[str, Tries]
    under_way: list[Request]
    """The newest first, as those below."""
    ended: list[Request]

    @property
    def requests(self) -> int:
        """How many have ended in the window."""
        return self.answered + self.failed + self.left


@dataclass(slots=True)
class _Count:
    """What one part of the window holds of one provider."""

    attempts: int = 0
    latency: QuantileSketch = field(default_factory=QuantileSketch)
    part: Part = field(default_factory=Part)


@dataclass(slots=True)
class _Slot:
    """What one part of the window holds."""

    answered: int = 0
    failed: int = 0
    left: int = 0
    failovers: int = 0
    providers: dict[str, _Count] = field(default_factory=dict)

    def provider(self, name: str | None) -> _Count:
        return self.providers.setdefault(bounded(name or REST, self.providers), _Count())


class LiveStats:
    """Follows the log; `window` is how many seconds count."""

    def __init__(self, window: float) -> None:
        self.window = window
        self._length = window / BUCKETS
        self._slots: dict[int, _Slot] = {}
        self._seconds = Counter[int]()
        self._open: OrderedDict[str, list[Told]] = OrderedDict()
        self._ended: deque[Request] = deque(maxlen=MOST_SHOWN)

    def recall(self, newest_first: Iterable[Told], now: float) -> None:
        """Take in what was written before; reads no further back than is shown."""
        held: list[Told] = []
        ends = read = 0
        for record in newest_first:
            when = story.moment(record)
            older = when is not None and when.timestamp() < now - self.window
            enough = ends >= MOST_SHOWN or len(held) >= MOST_RECALLED
            read += older
            if older and (enough or read >= MOST_RECALLED):
                break
            self._count(record, now)
            if not enough:
                held.append(record)
                ends += record.get("event") in END_EVENTS
        for record in reversed(held):
            self._tell(record)

    def add(self, record: Told, now: float) -> None:
        """Take in what is written now."""
        self._count(record, now)
        self._tell(record)

    def picture(self, now: float) -> Picture:
        """All of it, as it is at this moment."""
        self._forget(now)
        last = int(now // self._length)
        slots = [self._slots.get(last - back) or _Slot() for back in reversed(range(BUCKETS))]
        names = dict.fromkeys(name for slot in slots for name in slot.providers)
        opened = [Request(list(records)) for records in self._open.values()]
        return Picture(
            window=self.window,
            since=(last + 1 - BUCKETS) * self._length,
            until=now,
            answered=sum(slot.answered for slot in slots),
            failed=sum(slot.failed for slot in slots),
            left=sum(slot.left for slot in slots),
            failovers=sum(slot.failovers for slot in slots),
            last_minute=sum(self._seconds.values()),
            providers={name: _tries(name, slots) for name in names},
            under_way=[each for each in opened if now - each.began < FORGOTTEN][::-1],
            ended=list(self._ended)[::-1],
        )

    def _forget(self, now: float) -> None:
        last = int(now // self._length)
        for place in [place for place in self._slots if place <= last - BUCKETS]:
            del self._slots[place]
        for second in [second for second in self._seconds if second <= now - MINUTE]:
            del self._seconds[second]

    def _count(self, told: Told, now: float) -> None:
        try:
            record = msgspec.convert(told, Record)
            when = record.timestamp.timestamp()
        except (msgspec.ValidationError, ValueError, OverflowError, OSError):
            return
        place, last = int(when // self._length), int(now // self._length)
        # Side endpoints are logged as debug: nobody waits for them.
        if record.level == "debug" or not last - BUCKETS < place <= last:
            return
        if place not in self._slots:
            self._forget(now)
        slot = self._slots.setdefault(place, _Slot())
        _counted(slot, record.event, record.data)
        if record.event in END_EVENTS and now - MINUTE < int(when):
            self._seconds[int(when)] += 1

    def _tell(self, record: Told) -> None:
        request, event = record.get("requestId"), record.get("event")
        if not isinstance(request, str) or record.get("level") == "debug":
            return
        records = self._open.get(request)
        # A client may give the same id to its next request.
        if records is None or event == "request.start":
            if event not in _BEGINNINGS and event not in END_EVENTS:
                return
            records = self._open[request] = []
        if event in END_EVENTS:
            del self._open[request]
            self._ended.append(Request([*records, record]))
            return
        if len(records) < MOST_RECORDS:
            records.append(record)
        if len(self._open) > MOST_SHOWN:
            self._open.popitem(last=False)


def _counted(slot: _Slot, event: str, data: Data) -> None:
    """Count a record, where `core.stats` would."""
    match event:
        case "request.complete":
            slot.answered += 1
            latency = data.latency or 0.0
            provider = slot.provider(data.provider)
            provider.latency.add(latency)
            provider.part.count(latency)
        case "request.error" if data.status == CLIENT_LEFT:
            slot.left += 1
        case "request.error":
            slot.failed += 1
        case "provider.attempt":
            slot.provider(data.provider).attempts += 1
            slot.failovers += data.reason == "failover"
        case "provider.failure" | "provider.timeout":
            slot.provider(data.provider).part.count(None)


def _tries(name: str, slots: list[_Slot]) -> Tries:
    """What all parts of the window hold of a provider."""
    tries = Tries()
    for slot in slots:
        count = slot.providers.get(name) or _Count()
        tries.attempts += count.attempts
        tries.latency.merge(count.latency)
        tries.parts.append(count.part)
    return tries
