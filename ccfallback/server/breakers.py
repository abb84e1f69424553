"""The breakers of the running server: what is in the state file, kept in memory, shared live.

The file is the truth and memory a cache of it. Every change is made to memory at once and to
whatever the file holds by then, so that a `breaker reset` and a failure never erase each other.
A failure is on the disk before its response ends; a success that changes nothing but a time of
day may wait a second. A disk that does not take the state costs one request a moment and the
others nothing: the changes are kept, and written when it does.
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic, time
from typing import Final, Protocol

from ccfallback.errors import CcfallbackError
from ccfallback.events import records as events
from ccfallback.policy.breaker import CLOSED, BreakerState
from ccfallback.server.file_watcher import FileWatcher, Stamp
from ccfallback.server.record import Recorder
from ccfallback.server.serial_executor import SerialExecutor

States = dict[str, BreakerState]
Change = Callable[[BreakerState], BreakerState]

NOTICE_PAUSE: Final = 60.0
"""Seconds between two complaints about a disk that does not take the state."""

PATIENCE: Final = 1.5
"""Seconds that a request waits for the disk; more than for the lock of the file, less than for
what may hang, such as a folder on another machine."""

MOST_PENDING: Final = 1000
"""Changes that wait for the disk; of more, the oldest go, because the newest say what is."""


class StateStore(Protocol):
    """The file, as the server uses it; the methods may block, but for `stamp`."""

    path: Path
    seen: Stamp | None
    set_aside: Path | None

    def stamp(self) -> Stamp | None:
        """What changes when the file does."""

    def read(self) -> States:
        """What the file holds."""

    def update(self, change: Callable[[States], States]) -> States:
        """Change what the file holds, under its lock; returns the result."""


class Breakers:
    """All breakers of this server."""

    def __init__(
        self, store: StateStore, recorder: Recorder, clock: Callable[[], float] = time
    ) -> None:
        self._store = store
        self._freshness = FileWatcher(store.stamp)
        self.is_stale = self._freshness.is_stale
        """Whether a command or another server has written since the file was read."""
        # One thread: what is read and written comes back in the order in which it was asked for,
        # and nothing else that blocks stands in its way.
        self._disk = SerialExecutor("state")
        self._pending: dict[object, tuple[str, Change]] = {}
        self._in_flight: dict[object, tuple[str, Change]] = {}
        self._made = self._wanted = self._kept = 0
        """How many changes there were, up to which somebody waits, and are in the file."""
        self._writing: asyncio.Task[None] | None = None
        self._late: asyncio.Future[States] | None = None
        self._refused = False
        self._noticed = -NOTICE_PAUSE
        self.recorder = recorder
        self.clock = clock
        self.states: States = {}
        self.probing: set[tuple[str, str]] = set()

    def of(self, name: str) -> BreakerState:
        """What is known of a provider."""
        return self.states.get(name, CLOSED)

    async def refresh(self) -> None:
        """Take over what a command or another server has written."""
        if not self.is_stale():
            return
        if self._late is not None and not self._late.done():
            return
        kept = self._kept
        reading = self._disk.run(self._store.read)
        try:
            async with asyncio.timeout(PATIENCE):
                states = await asyncio.shield(reading)
        except TimeoutError:
            # Whoever comes before it is over goes on from memory at once.
            self._late = reading
            self._complain("the state can't be read, going on from memory: no answer from the disk")
            return
        if self._store.set_aside is not None:
            self.recorder.log(
                events.StateCorrupt(path=str(self._store.set_aside)),
                f"the state file was unreadable; it is kept as {self._store.set_aside}",
            )
        if self._kept != kept:
            # A write was over meanwhile, and nobody knows whether this is older.
            self._freshness.seen = None
            await self.refresh()
            return
        self._freshness.seen = self._store.seen
        self._take(states)

    def change(self, name: str, change: Change, *, instead_of: object = None) -> None:
        """Change a provider's state in memory, and in the file at the next flush.

        A change takes the place of a waiting one with the same `instead_of`; nobody waits for it.
        """
        self.states[name] = change(self.of(name))
        key = object() if instead_of is None else instead_of
        self._pending.pop(key, None)
        self._pending[key] = (name, change)
        self._made += 1
        if instead_of is None:
            self._wanted = self._made
        self._bound()

    def hurry(self) -> None:
        """Begin to write what has changed: whoever calls `flush` later finds it done or begun."""
        if self._pending and not self._refused and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write())

    async def flush(self, *, again: bool = False) -> None:
        """Return when what has to be is in the file, or the disk has refused it.

        While it refuses nobody waits for it; whoever wants it tried `again` does, and waits for
        every change.
        """
        wanted = self._made if again else self._wanted
        try:
            async with asyncio.timeout(PATIENCE):
                while self._kept < wanted and (again or not self._refused):
                    again = False
                    if self._writing is None or self._writing.done():
                        self._writing = asyncio.create_task(self._write())
                    # A client that leaves must not take the write along.
                    await asyncio.shield(self._writing)
        except TimeoutError:
            self._refuse("the disk does not answer")

    def close(self) -> None:
        """Let go of the thread; of one that hangs, too."""
        self._disk.close()

    async def _write(self) -> None:
        made = self._made
        self._in_flight, self._pending = self._pending, {}
        change = _all_of(self._in_flight.values())
        try:
            states = await self._disk.run(self._store.update, change)
        except (CcfallbackError, OSError) as error:
            newer = self._pending
            older = {key: old for key, old in self._in_flight.items() if key not in newer}
            self._pending, self._in_flight = {**older, **newer}, {}
            self._bound()
            self._refuse(str(error))
        else:
            self._in_flight = {}
            self._kept = made
            self._freshness.seen = self._store.seen
            self._take(states)
            self._accept()

    def _take(self, states: States) -> None:
        """Take over what the file held, with what it does not hold yet."""
        self.states = dict(states)
        for waiting in (self._in_flight, self._pending):
            for name, change in waiting.values():
                self.states[name] = change(self.of(name))

    def _bound(self) -> None:
        while len(self._pending) > MOST_PENDING:
            del self._pending[next(iter(self._pending))]

    def _refuse(self, why: str) -> None:
        self._refused = True
        self._complain(f"the state can't be saved, going on from memory: {why}")

    def _complain(self, message: str) -> None:
        if monotonic() - self._noticed < NOTICE_PAUSE:
            return
        self._noticed = monotonic()
        self.recorder.log(events.StateError(), message)

    def _accept(self) -> None:
        if self._refused:
            self._refused = False
            self.recorder.log(events.StateSaved(), "the state is saved again")


def _all_of(changes: Iterable[tuple[str, Change]]) -> Callable[[States], States]:
    made = tuple(changes)

    def apply(states: States) -> States:
        for name, change in made:
            states[name] = change(states.get(name, CLOSED))
        return states

    return apply
