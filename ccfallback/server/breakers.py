"""The breakers of the running server: the state that the store keeps, held in memory.

The store is the truth and memory is a cache of it. Each change applies to memory at once and to
whatever the store holds when it is written, so a `breaker reset` and a failure at the same moment
never erase each other. Before its response ends, every other process can see a failure; the disk
has it within a second, and a success that only changes a timestamp may wait as long. While the
store refuses writes, one request waits briefly, the others do not wait, and the changes are kept in
memory until the store accepts them. If servers on several machines share the store, other limits
hold: a request waits for it only as long as its `patience`, and reads what it knows without a wait.

States are made valid where they enter memory, and when the configuration or the clock changes.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from time import time
from typing import Any, Final, TypeVar

from ccfallback.config.model import Config, Provider
from ccfallback.errors import CcfallbackError
from ccfallback.events import records as events
from ccfallback.events.journal import NoticePause
from ccfallback.policy.breaker import (
    CLOSED,
    BreakerState,
    has_no_trouble,
    valid_states,
    with_fingerprints,
)
from ccfallback.server.record import Recorder
from ccfallback.server.refresher import Refresher
from ccfallback.server.serial_executor import SerialExecutor
from ccfallback.state.sections import Entry, Section, Sections
from ccfallback.state.store import PATIENCE, BreakerId, Snapshot, States, StateStore

Change = Callable[[BreakerState], BreakerState]
K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

CLOCK_SLACK: Final = 1.0
"""Seconds by which the clock may be set back without any notice of it."""

MOST_PENDING: Final = 1000
"""Changes kept while the store refuses them; then the oldest are dropped."""


class Breakers:
    """All breakers of this server."""

    def __init__(
        self, store: StateStore, recorder: Recorder, clock: Callable[[], float] = time
    ) -> None:
        self._store = store
        self.slots = store.slots
        self.shares_places = store.places is not None
        """Whether other servers may be probing a breaker; then `take_places` asks them."""
        # One thread: results come back in the order of the calls, and no other blocking work delays
        # them.
        self._executor = SerialExecutor("state")
        self._held: Snapshot | None = None
        self._refresher = Refresher(
            self._executor,
            is_current=self._is_current,
            load=self._load,
            take=self._take_loaded,
            on_late=self._report_late,
        )
        self.is_stale = self._refresher.is_stale
        """Whether a request has to `refresh` first: another process may have written."""
        self.refresh = self._refresher.refresh
        """Take over what other processes had written when a request arrived (monotonic clock)."""
        self._pending: dict[object, tuple[str, Change]] = {}
        self._in_flight: dict[object, tuple[str, Change]] = {}
        # Numbers of changes: made, up to which a request waits, saved, and tried to save last.
        self._made = self._wanted = self._saved = self._batch = 0
        self._kept = 0
        """The number of the last change that `StateStore.keep` got."""
        self._sections: Sections = {}
        # By section and name: entries to write, being written, and read from what the store holds.
        self._unsaved_entries: dict[tuple[str, str], Entry] = {}
        self._written_entries: dict[tuple[str, str], Entry] = {}
        self._read_entries: dict[tuple[str, str], object] = {}
        self._parsed: dict[str, dict[str, Any]] = {}
        self._writing: asyncio.Task[None] | None = None
        self._syncing: asyncio.Future[None] | None = None
        self._refused = False
        self._notice_pause = NoticePause()
        self.recorder = recorder
        self._clock = clock
        self._latest = 0.0
        self._config = Config()
        self._providers: dict[str, Provider] = {}
        self._states: States = {}
        self.troubled = set[str]()
        """The providers that have a breaker with a failure or a cooldown."""
        self.has_learned = False
        """Whether it may be known of any provider what it refuses."""
        self._unapplied: dict[object, tuple[str, Change]] = {}
        """Changes on which no admission depends; later they are among the pending ones."""

    @property
    def states(self) -> States:
        """The states of all providers."""
        if self._unapplied:
            self._apply_late()
        return self._states

    @states.setter
    def states(self, states: States) -> None:
        self._states = states
        self.troubled = {name for name, each in states.items() if not has_no_trouble(each)}
        self.has_learned = any(each.learned for each in states.values())

    def configure(self, config: Config) -> None:
        """Use a configuration: what is about something else in it does not count."""
        self._config = config
        self._providers = {provider.name: provider for provider in config.chain}
        self.states = valid_states(self.states, config, self._clock())

    def clock(self) -> float:
        """The time, in Unix seconds. If the clock was set back, the states follow it."""
        now = self._clock()
        if now < self._latest - CLOCK_SLACK:
            self.states = valid_states(self.states, self._config, now)
            # A write makes the states in the store valid as well; else each change would begin from
            # the old times.
            self._made += 1
        self._latest = now
        return now

    def state(self, name: str) -> BreakerState:
        """The state of a provider's breaker."""
        return self.states.get(name, CLOSED)

    def quick_state(self, name: str) -> BreakerState:
        """The state with all on which an admission depends; its last successes may be missing."""
        return self._states.get(name, CLOSED)

    def note(self, name: str, change: Change, key: object) -> None:
        """Note a change on which no admission depends, in place of an unsaved one with that key.

        It is applied only when the states are read or saved, so that it costs a request little.
        """
        self._unapplied[key] = (name, change)
        self._made += 1
        if len(self._unapplied) > MOST_PENDING:
            self._apply_late()

    def change(self, name: str, change: Change, *, instead_of: object = None) -> None:
        """Change a provider's state in memory now, and in the store at the next flush.

        With `instead_of`, no request waits for the change, and it replaces an unsaved change with
        the same key.
        """
        self._put_state(name, self._apply(name, self.state(name), change))
        self._keep(object() if instead_of is None else instead_of, name, change)
        self._made += 1
        if instead_of is None:
            self._wanted = self._made

    def entry(self, section: Section[T], key: str) -> T | None:
        """An entry of a further section of the state."""
        place = section.name, key
        entry = self._unsaved_entries.get(place) or self._written_entries.get(place)
        if entry is not None:
            found: T | None = entry.value
            return found
        if place not in self._read_entries:
            if len(self._read_entries) >= MOST_PENDING:
                # The client chooses the names.
                self._read_entries = {}
            self._read_entries[place] = section.find(self._sections, key)
        return self._read_entries[place]  # type: ignore[return-value]  # of this section

    def entries(self, section: Section[T]) -> dict[str, T]:
        """All entries of a further section, those last written at the end."""
        if section.name not in self._parsed:
            self._parsed[section.name] = section.read(self._sections)
        found = dict(self._parsed[section.name])
        for each in chain(self._written_entries.values(), self._unsaved_entries.values()):
            if each.section is section:
                found.pop(each.key, None)
                found[each.key] = each.value
        return found

    def has(self, section: Section[T]) -> bool:
        """Whether a further section may have any entry."""
        unsaved = self._unsaved_entries or self._written_entries
        return bool(self._sections.get(section.name) or unsaved)

    def put(self, section: Section[T], key: str, value: T, *, urgent: bool = False) -> None:
        """Write an entry of a further section: in memory now, in the store within a second.

        An urgent one is in the store when `flush` returns.
        """
        place = section.name, key
        self._unsaved_entries.pop(place, None)
        self._unsaved_entries[place] = Entry(section, key, value)
        self._made += 1
        if urgent:
            self._wanted = self._made
        self._drop_oldest()

    async def take_places(self, breakers: Iterable[BreakerId]) -> bool:
        """Whether this server may probe these breakers: no other one does.

        While the store can't say it in time, this server decides alone.
        """
        places = self._store.places
        if places is None or self._refused or self._store.problem:
            return True
        try:
            async with asyncio.timeout(self._store.patience):
                return await self._executor.run(places.take, breakers)
        except TimeoutError:
            self._refuse(f"{self._store.name} does not answer")
            return True

    def release(self, breakers: Iterable[BreakerId]) -> None:
        """Give back the slots, and the places, that were taken. Never waits."""
        self.slots.release(breakers)
        if breakers and self._store.places is not None:
            self._executor.run(self._store.places.release, breakers)

    def report(self) -> None:
        """Log that the store can't be reached, once a minute, and that it is back."""
        if self._store.problem:
            self._refuse(self._store.problem)
        elif self._refused and not (self._unapplied or self._pending or self._in_flight):
            self._accept()

    def _apply_late(self) -> None:
        late, self._unapplied = self._unapplied, {}
        for key, (name, change) in late.items():
            self._put_state(name, self._apply(name, self.quick_state(name), change))
            self._keep(key, name, change)

    def _put_state(self, name: str, state: BreakerState) -> None:
        self._states[name] = state
        if has_no_trouble(state):
            self.troubled.discard(name)
        else:
            self.troubled.add(name)
        if state.learned:
            self.has_learned = True

    def _keep(self, key: object, name: str, change: Change) -> None:
        self._pending.pop(key, None)
        self._pending[key] = (name, change)
        self._drop_oldest()

    def hurry(self) -> None:
        """Start to save the changes, so that a later `flush` waits less."""
        has_changes = self._unapplied or self._pending or self._unsaved_entries
        if has_changes and not self._refused and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write())

    async def flush(self, *, again: bool = False) -> None:
        """Return when the important changes are saved, or the store has refused them.

        While the store refuses changes this returns at once, except with `again`, which tries once
        more and waits for all changes.
        """
        wanted = self._made if again else self._wanted
        try:
            async with asyncio.timeout(PATIENCE if again else self._store.patience):
                while self._saved < wanted and (again or not self._refused):
                    again = False
                    if self._writing is None or self._writing.done():
                        self._writing = asyncio.create_task(self._write())
                    # A client that disconnects must not cancel the write.
                    await asyncio.shield(self._writing)
        except TimeoutError:
            self._refuse(f"{self._store.name} does not answer")
        if self._store.problem and self._saved < wanted:
            self._keep_unsaved()

    async def sync(self) -> None:
        """Make what was saved survive a crash of the machine, as far as the store can.

        While the store can't be reached, commands on this machine get what is not saved.
        """
        if self._store.problem and self._saved < self._made:
            self._keep_unsaved()
        elif self._store.is_unsynced and (self._syncing is None or self._syncing.done()):
            self._syncing = self._executor.run(self._store.sync)
        if self._syncing is None or self._syncing.done():
            return
        with suppress(CcfallbackError, OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.shield(self._syncing)

    def _keep_unsaved(self) -> None:
        """Start to give commands on this machine what is not saved, unless they have it."""
        if self._kept == self._made or not (self._syncing is None or self._syncing.done()):
            return
        made, states = self._made, dict(self.states)
        entries = (*self._written_entries.values(), *self._unsaved_entries.values())

        def keep() -> None:
            self._store.keep(states, entries)
            self._kept = made

        self._syncing = self._executor.run(keep)
        # A request that starts this does not wait for it.
        self._syncing.add_done_callback(lambda done: done.cancelled() or done.exception())

    def close(self) -> None:
        """End the thread, even if it hangs, and close the store."""
        self._executor.close()
        self._store.close()

    async def _write(self) -> None:
        config = self._config
        if not self._in_flight and not self._written_entries:
            # Else the last write has failed and is repeated as it was: perhaps the store has it.
            self._apply_late()
            self._batch = self._made
            self._in_flight, self._pending = self._pending, {}
            self._written_entries, self._unsaved_entries = self._unsaved_entries, {}
        entries = tuple(self._written_entries.values())
        update = self._combine(self._in_flight.values())
        try:
            snapshot = await self._executor.run(self._store.update, update, entries, self._batch)
        except (CcfallbackError, OSError) as error:
            self._refuse(str(error))
        else:
            self._in_flight, self._written_entries = {}, {}
            self._saved = self._batch
            # The update has made them valid for the configuration of that time.
            self._take(snapshot, are_valid=config is self._config)
            self._accept()

    def _is_current(self) -> bool:
        if self._held is not None and self._store.is_current(self._held):
            return True
        known = self._store.known_snapshot()
        if known is None:
            return False
        self._take(known)
        return True

    def _load(self) -> tuple[int, Snapshot]:
        """The number of saved changes and the content of the store. Runs in the thread."""
        return self._saved, self._store.load(self._held)

    def _take_loaded(self, loaded: tuple[int, Snapshot]) -> bool:
        saved, snapshot = loaded
        if self._saved != saved:
            # A write ended during the load, so the loaded state may be older than that write's.
            self._report_set_aside(snapshot)
            self._held = None
            return False
        if snapshot.problem is not None:
            # The next request tries again; until then memory is the best there is.
            self._report_failure(
                f"the state can't be read, going on from memory: {snapshot.problem}"
            )
        elif snapshot is not self._held:
            self._take(snapshot)
        return True

    def _take(self, snapshot: Snapshot, *, are_valid: bool = False) -> None:
        """Hold what the store holds, with the changes that it does not hold yet."""
        self._report_set_aside(snapshot)
        self._held = snapshot
        self._sections, self._read_entries, self._parsed = snapshot.sections, {}, {}
        self._apply_late()
        unsaved = [*self._pending.values()]
        if snapshot.batch != self._batch:
            unsaved[:0] = self._in_flight.values()
        self.states = self._combine(unsaved, are_valid=are_valid)(snapshot.states)

    def _combine(
        self, changes: Iterable[tuple[str, Change]], *, are_valid: bool = False
    ) -> Callable[[States], States]:
        """All changes as one, to the valid part of what a store holds. Runs in the thread too."""
        made, config = tuple(changes), self._config

        def apply(states: States) -> States:
            states = dict(states) if are_valid else valid_states(states, config, self._clock())
            for name, change in made:
                states[name] = self._apply(name, states.get(name, CLOSED), change)
            return states

        return apply

    def _apply(self, name: str, state: BreakerState, change: Change) -> BreakerState:
        return with_fingerprints(change(state), self._providers.get(name))

    def _report_set_aside(self, snapshot: Snapshot) -> None:
        if snapshot.set_aside is not None:
            self.recorder.log(
                events.StateCorrupt(path=snapshot.set_aside),
                f"the state file was unreadable; it is kept as {snapshot.set_aside}",
            )

    def _report_late(self) -> None:
        self._report_failure(
            f"the state can't be read, going on from memory: no answer from {self._store.name}"
        )

    def _drop_oldest(self) -> None:
        if max(len(self._pending), len(self._unsaved_entries)) > MOST_PENDING:
            _shorten(self._pending)
            _shorten(self._unsaved_entries)

    def _refuse(self, why: str) -> None:
        self._refused = True
        self._report_failure(f"the state can't be saved, going on from memory: {why}")

    def _report_failure(self, message: str) -> None:
        if self._notice_pause.is_over():
            self.recorder.log(events.StateFailed(), message)

    def _accept(self) -> None:
        if self._refused:
            self._refused = False
            self.recorder.log(events.StateSaved(), "the state is saved again")


def _shorten(kept: dict[K, V]) -> None:
    """Drop the oldest of too many unsaved changes."""
    while len(kept) > MOST_PENDING:
        del kept[next(iter(kept))]
