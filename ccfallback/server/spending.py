"""The money of the running server: writes the ledger, and keeps the sums that caps need.

On a disk of this machine a request appends its row itself, which costs less than a thread that is
woken for it; the server's start opens the month's file for that, and a new month the thread. Else,
and while the thread writes, the request only puts the row in a queue. The thread appends those to
the file, and then reads what this server and others have appended: the sums in memory are those of
the file and of the rows that are not in it yet. While the disk refuses rows they wait in memory,
and count all the same; `retry` has them written later, also if no request follows.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from time import time
from typing import Final

from ccfallback import files
from ccfallback.config import prices
from ccfallback.config.model import Cap, Config, Provider, Token
from ccfallback.events import records as events
from ccfallback.events.journal import Backlog, Journal, NoticePause
from ccfallback.policy.spend import (
    Limit,
    PriceTable,
    Reservations,
    Spent,
    limits,
    token_account,
)
from ccfallback.server.record import Recorder
from ccfallback.server.shared_spending import SharedSpending
from ccfallback.state import ledger
from ccfallback.state.ledger import Row, Sums

GATHER: Final = 0.002
"""Seconds in which rows gather to a batch: a kill loses only those of requests that end now."""

MOST_UNSAVED: Final = 10_000
"""Rows that wait while the disk refuses them; then the oldest are dropped, and count on."""

UNBOUNDED: Final = 1 << 62
"""The ledger is not rotated: each month has a file."""

REFRESH_SECONDS: Final = 0.25
"""How long a request waits for what other servers have spent."""


class Spending:
    """The ledger of this server, and what each provider and each token has cost."""

    def __init__(
        self,
        state: Path | None = None,
        recorder: Recorder | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        """Without the path of the state, nothing is written."""
        self._state = state
        self._recorder = recorder
        self.clock = clock
        self.reservations = Reservations()
        self.shared: SharedSpending | None = None
        """What the servers spend together that share a state."""
        self._table: PriceTable | None = None
        self._backlog: Backlog[Row | None] | None = None
        """`None` has the rows written that wait."""
        self._journal: Journal | None = None
        self._unsaved: list[Row] = []
        self._refused = False
        """Whether the disk has refused the last write, and nothing has asked for another."""
        self._unread: list[Row] = []
        """Rows that are in the file, and not in the sum of what was read of it."""
        self._wants_sums = False
        """Whether there is a cap, or a shared state; without one, nothing is read."""
        self._opened, self._until = inf, 0.0
        """The time in which rows belong to the file that is open."""
        self._month = ""
        self._offset = 0
        self._size = 0
        """The bytes of the file when it was read."""
        self._saved, self._waiting = Sums(), Sums()
        self._memory = threading.Lock()
        """Held for moments, so that a sum never counts a row twice."""
        self._disk = threading.Lock()
        self._call: asyncio.Task[None] | None = None
        self._notice_pause = NoticePause()

    @property
    def table(self) -> PriceTable:
        """The built-in prices."""
        if self._table is None:
            self._table = PriceTable.read(prices.load())
        return self._table

    def put(self, row: Row) -> None:
        """Take a row for the ledger. Never waits."""
        if self._state is None or self._append_quickly(row):
            return
        if row.cost:
            with self._memory:
                self._waiting.add([row])
        if self._backlog is None:
            self._backlog = Backlog(self._consume, "ledger", GATHER, GATHER)
        self._backlog.put(row)

    def _append_quickly(self, row: Row) -> bool:
        if (
            # Those that the disk has refused come first.
            self._unsaved
            or not self._opened <= row.at < self._until
            # It may wait for a disk while the thread writes.
            or not self._disk.acquire(blocking=False)
        ):
            return False
        try:
            journal, line = self._journal, ledger.encode_row(row)
            if journal is None or not journal.append_quickly(line):
                return False
            if self._wants_sums:
                self._count_appended(row, journal, len(line))
            return True
        finally:
            self._disk.release()

    def _count_appended(self, row: Row, journal: Journal, size: int) -> None:
        """Count a row at the end of the file: as read, if all before it is, else until it is."""
        end, is_month = journal.position, journal.path == self._path(self._month)
        with self._memory:
            if is_month and self._offset == self._size == end - size:
                self._saved.add([row])
                self._offset = self._size = end
            else:
                self._waiting.add([row])
                self._unread.append(row)

    def spent(self, account: str) -> Spent:
        """What a provider or `token_account` has cost this day and this month."""
        now = self.clock()
        with self._memory:
            return self._saved.spent(account, now) + self._waiting.spent(account, now)

    def limits(self, provider: Provider, token: Token | None = None) -> tuple[Limit, ...]:
        """The caps of a provider and of the token of a request; none for most."""
        found: tuple[Limit, ...] = ()
        if provider.cap.is_set:
            found += self._limits(provider, provider.cap, provider.name)
        if token is not None and token.cap.is_set:
            found += self._limits(provider, token.cap, token_account(token.label), token.label)
        return found

    def _limits(
        self, provider: Provider, cap: Cap, account: str, token: str = ""
    ) -> tuple[Limit, ...]:
        ends, held = ledger.period_ends(self.clock()), self.reservations.held(account)
        spent, shared = self.spent(account), self.shared
        if shared is not None:
            spent += shared.spent(account)
            held += shared.held(account)
        return limits(provider.name, cap, spent, ends, held, token)

    def publish(self, accounts: Iterable[str]) -> bool:
        """Let the other servers of a shared state know; whether they do not yet."""
        is_new = False
        if self.shared is not None:
            for account in accounts:
                is_new |= self.shared.publish(account, self.spent(account))
        return is_new

    async def refresh(self, seconds: float = REFRESH_SECONDS) -> None:
        """Read what other servers have appended, if there is anything; briefly at most."""
        if self._is_behind():
            await self._wait(seconds, self._write)

    def read_new(self) -> None:
        """Read what was appended since the last time, if there is anything; in a thread."""
        if self._is_behind():
            self._write()

    def _is_behind(self) -> bool:
        """Whether sums are kept, and the file has rows that were not read."""
        if not self._wants_sums:
            return False
        path = self._path(ledger.month_of(self.clock()))
        stamp = files.stamp(path)
        size = 0 if stamp is None else stamp[1]
        return size != self._size or not path.stem.endswith(self._month)

    async def open(self, seconds: float) -> None:
        """Open the month's file, and read it if a provider has a cap; briefly at most.

        Without a state nothing is opened.
        """
        if self._state is not None:
            await self._wait(seconds, self._prepare)

    async def _wait(self, seconds: float, call: Callable[[], None]) -> None:
        """Have a thread make a call, which goes on if it takes longer than these seconds.

        Meanwhile others wait for that one: a disk that hangs holds one thread, not all.
        """
        if self._call is None or self._call.done():
            self._call = asyncio.create_task(asyncio.to_thread(call))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._call)

    def configure(self, config: Config) -> None:
        """Keep sums from now on if a provider or a token has a cap, or servers share a state."""
        capped: list[Provider | Token] = [*config.chain, *config.tokens]
        wants = bool(config.state.url) or any(each.cap.is_set for each in capped)
        if wants and not self._wants_sums:
            # Nothing of the file counts yet.
            self._month, self._offset, self._size = "", 0, -1
        self._wants_sums = wants

    def close(self) -> None:
        """Write what waits, then end."""
        if self._backlog is not None and not self._backlog.close():
            return
        if self._unsaved:
            self._write()
        if self._journal is not None:
            self._journal.close()

    def retry(self) -> None:
        """Have the thread write the rows that the disk has refused, if there are any. Never waits.

        While the disk hangs, nothing is asked for twice.
        """
        if self._refused and self._backlog is not None:
            self._refused = False
            self._backlog.put(None)

    def flush(self) -> bool:
        """Wait until all rows are written or refused."""
        return self._backlog is None or self._backlog.flush()

    def _consume(self, rows: list[Row | None]) -> None:
        self._write([row for row in rows if row is not None])

    def _prepare(self) -> None:
        # The first row reports what is wrong with the file.
        with self._disk, suppress(OSError):
            self._open(self.clock()).write(b"")
            if self._wants_sums:
                self._catch_up()

    def _write(self, rows: Sequence[Row] = ()) -> None:
        """Append rows to the file, and read what is new in it; in a thread."""
        with self._disk:
            self._unsaved = [*self._unsaved, *rows][-MOST_UNSAVED:]
            try:
                self._append()
                if self._wants_sums:
                    self._catch_up()
            except OSError as error:
                self._refused = True
                self._notice(error)

    def _append(self) -> None:
        for month in sorted({ledger.month_of(row.at) for row in self._unsaved}):
            part = [row for row in self._unsaved if ledger.month_of(row.at) == month]
            journal, written = self._open(part[0].at), 0
            try:
                journal.write(ledger.encode(part))
                written = len(part)
            except OSError:
                # Where the disk became full, the first of them are in the file.
                written = journal.kept
                raise
            finally:
                self._note_written(part[:written])

    def _open(self, at: float) -> Journal:
        """The file of the month in which a moment lies."""
        path = self._path(ledger.month_of(at))
        if self._journal is None or self._journal.path != path:
            if self._journal is not None:
                self._journal.close()
            self._journal = Journal(path, UNBOUNDED, 0)
        self._opened, self._until = at, ledger.period_ends(at)[1]
        return self._journal

    def _note_written(self, rows: list[Row]) -> None:
        found = set(map(id, rows))
        self._unsaved = [row for row in self._unsaved if id(row) not in found]
        if self._wants_sums:
            self._unread += rows
        else:
            with self._memory:
                self._waiting.add(rows, -1)

    def _catch_up(self) -> None:
        month = ledger.month_of(self.clock())
        offset = self._offset if month == self._month else 0
        path = self._path(month)
        rows, end, size = ledger.read(path, offset)
        with self._memory:
            if offset == 0 or end < offset:
                self._saved.clear()
            self._saved.add(rows)
            self._waiting.add(self._unread, -1)
        self._unread = []
        # Not the file's size now: another server may have appended since.
        self._month, self._offset, self._size = month, end, size

    def _path(self, month: str) -> Path:
        assert self._state is not None, "without it there are no rows"
        return ledger.ledger_path(self._state, month)

    def _notice(self, error: OSError) -> None:
        if self._recorder is not None and self._notice_pause.is_over():
            why = error.strerror or error
            message = f"the ledger can't be written, costs are kept in memory: {why}"
            self._recorder.log(events.LedgerFailed(), message)
