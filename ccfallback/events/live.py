"""What happens right now: a summary of the last minutes that moves on, and the latest requests.

Records go in as they are written; a `Picture` comes out for any moment. Memory does not grow with
the number of records: totals for each part of the time, and whole records only of the requests
that are shown.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, cast

from ccfallback.events.aggregate import BUCKETS, LogTotals, Summary, log_totals
from ccfallback.events.explain import Explanation, explain
from ccfallback.events.records import Event, ProviderAttempt, Record, RequestEnd, RequestStart

MOST_SHOWN: Final = 100
"""Requests that are kept to be shown: as many that ended, and as many in progress."""

MOST_RECORDS: Final = 100
"""Records that are kept of one request."""

MOST_RECALLED: Final = 10_000
"""Records that are read for requests older than the window."""

FORGOTTEN: Final = 3600.0
"""Seconds after which a request that has not ended is no longer in progress."""

MINUTE: Final = 60


@dataclass
class Request:
    """One request, in progress or ended."""

    records: list[Record[Event]]

    @property
    def end(self) -> Record[RequestEnd] | None:
        """The record of its end."""
        last = self.records[-1]
        return cast("Record[RequestEnd]", last) if isinstance(last.data, RequestEnd) else None

    @property
    def id(self) -> str:
        """Its whole id."""
        return self.records[0].request_id or ""

    @property
    def began(self) -> float:
        """When its first record was written, in Unix seconds; 0 if it does not say."""
        return self.records[0].written or 0.0

    @cached_property
    def story(self) -> Explanation:
        """Which providers were tried, with what result, as far as the records go now."""
        return explain(self.records)


class Picture(Summary):
    """The window as it is at one moment; times in Unix seconds."""

    window: float
    """Its length; it begins up to one part later than that."""
    last_minute: int
    """Requests that ended in the last minute."""
    in_progress: list[Request]
    """The newest first."""
    ended: list[Request]
    """The newest first."""


class LiveStats:
    """Follows the log; `window` is how many seconds count."""

    def __init__(self, window: float) -> None:
        self.window = window
        self._length = window / BUCKETS
        self._slots: dict[int, LogTotals] = {}
        self._seconds = Counter[int]()
        self._open: OrderedDict[str, list[Record[Event]]] = OrderedDict()
        self._ended: deque[Request] = deque(maxlen=MOST_SHOWN)

    def recall(self, newest_first: Iterable[Record[Event]], now: float) -> None:
        """Add what was written before; reads no further back than is shown."""
        held: list[Record[Event]] = []
        ends = read = 0
        for record in newest_first:
            when = record.written
            older = when is not None and when < now - self.window
            enough = ends >= MOST_SHOWN or len(held) >= MOST_RECALLED
            read += older
            if older and (enough or read >= MOST_RECALLED):
                break
            self._count(record, now)
            if not enough:
                held.append(record)
                ends += isinstance(record.data, RequestEnd)
        for record in reversed(held):
            self._follow(record)

    def add(self, record: Record[Event], now: float) -> None:
        """Add what is written now."""
        self._count(record, now)
        self._follow(record)

    def picture(self, now: float) -> Picture:
        """All of it, as it is at this moment."""
        self._forget(now)
        last = int(now // self._length)
        started = [Request(list(records)) for records in self._open.values()]
        return Picture(
            since=(last + 1 - BUCKETS) * self._length,
            until=now,
            slots=[self._slots.get(last - back, _EMPTY) for back in reversed(range(BUCKETS))],
            window=self.window,
            last_minute=self._seconds.total(),
            in_progress=[each for each in started if now - each.began < FORGOTTEN][::-1],
            ended=list(self._ended)[::-1],
        )

    def _forget(self, now: float) -> None:
        last = int(now // self._length)
        for place in [place for place in self._slots if place <= last - BUCKETS]:
            del self._slots[place]
        for second in [second for second in self._seconds if second <= now - MINUTE]:
            del self._seconds[second]

    def _count(self, record: Record[Event], now: float) -> None:
        if record.is_side or (when := record.written) is None:
            return
        place, last = int(when // self._length), int(now // self._length)
        if not last - BUCKETS < place <= last:
            return
        if place not in self._slots:
            self._forget(now)
            self._slots[place] = log_totals()
        self._slots[place].count(record.data)
        if isinstance(record.data, RequestEnd) and now - MINUTE < int(when):
            self._seconds[int(when)] += 1

    def _follow(self, record: Record[Event]) -> None:
        request, event = record.request_id, record.data
        if request is None or record.is_side:
            return
        records = self._open.get(request)
        # A client may give its next request the same id.
        if records is None or isinstance(event, RequestStart):
            if not isinstance(event, RequestStart | ProviderAttempt | RequestEnd):
                return
            records = self._open[request] = []
        if isinstance(event, RequestEnd):
            del self._open[request]
            self._ended.append(Request([*records, record]))
            return
        if len(records) < MOST_RECORDS:
            records.append(record)
        if len(self._open) > MOST_SHOWN:
            self._open.popitem(last=False)


_EMPTY: Final = log_totals()
