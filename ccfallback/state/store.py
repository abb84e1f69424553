"""What the server and the commands need of the place that keeps the breaker state.

Nothing here says what that place is. `StateFile` keeps the state in a JSON file; another backend
implements the same protocols and is chosen in `state.open_store`.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

import msgspec

from ccfallback.policy.breaker import BreakerState
from ccfallback.state.sections import Entry, Sections, merge

States = dict[str, BreakerState]
"""The state of each provider, by its name."""

Update = Callable[[States], States]
"""A pure change of all states: a store may run it again if another process wrote meanwhile."""

PATIENCE: Final = 1.5
"""Seconds that a request waits for a file: longer than for a lock, but shorter than for a network
folder that hangs."""


class BreakerId(NamedTuple):
    """Which breaker of a provider: its own, or that of a model, a credential, or both."""

    provider: str
    model: str = ""
    credential: str = ""


class Snapshot(msgspec.Struct, frozen=True):
    """What a store held at one moment."""

    states: States = {}
    sections: Sections = {}
    """What else the state holds; see `state.sections`."""
    version: object = None
    """Tells this content from any other; only the store that made it understands it."""
    set_aside: str | None = None
    """Where the store moved content that it could not read, if it just did."""
    batch: int = 0
    """The number of the last batch of this process that is in it, if the store counts them."""
    problem: str | None = None
    """Why nothing could be read; then the states are those that were held before."""


class ProbeSlots(Protocol):
    """Which half-open breakers are being probed: one request at a time may probe each.

    No method waits: requests ask between two steps of the failover loop.
    """

    def is_taken(self, breaker: BreakerId) -> bool:
        """Whether a request is probing this breaker."""

    def take(self, breakers: Iterable[BreakerId]) -> tuple[BreakerId, ...]:
        """Take the free slots among these and return them, for `release`."""

    def release(self, breakers: Iterable[BreakerId]) -> None:
        """Give back the slots that `take` returned."""


class ProbePlaces(Protocol):
    """The probe slots of several servers: one of them at a time may probe a half-open breaker.

    Both methods may block. A place that its holder does not give back, because it has died, is free
    after some seconds.
    """

    def take(self, breakers: Iterable[BreakerId]) -> bool:
        """Take all of these for this server; False, and none is taken, if another has one.

        While the others can't be reached, this server takes what it wants.
        """

    def release(self, breakers: Iterable[BreakerId]) -> None:
        """Give back what `take` has taken; the others are skipped."""


class StateStore(Protocol):
    """The shared breaker state, and what else the servers and commands share.

    `load`, `peek`, `update`, `sync`, `keep` and `close` may block, so a server calls them in a
    thread.
    """

    name: str
    """What it is, in a message: `the disk`."""
    patience: float
    """How many seconds a request may wait for it."""

    @property
    def slots(self) -> ProbeSlots:
        """The probe slots of this process."""

    @property
    def places(self) -> ProbePlaces | None:
        """Those of all servers; `None` if no other server uses this state."""

    @property
    def problem(self) -> str:
        """Why it can't be reached now; empty if it can. Returns at once."""

    def known_snapshot(self) -> Snapshot | None:
        """What it holds, as far as this is known without waiting; `None` if only `load` tells."""

    def is_current(self, snapshot: Snapshot) -> bool:
        """Whether the store still holds this. Returns at once: False if it would have to wait."""

    def load(self, held: Snapshot | None = None) -> Snapshot:
        """What the store holds, or `held` itself if that is still current.

        Unreadable content is set aside and counts as empty.
        """

    def peek(self) -> Snapshot:
        """What the store holds; unreadable content stays where it is."""

    def update(self, change: Update, entries: Iterable[Entry] = (), batch: int = 0) -> Snapshot:
        """Apply a change to what the store holds now, write the entries, and return the result.

        A provider that the result lacks is removed. Raises `StateError`. An update that has failed
        may be repeated with the same number of its `batch`, and is then applied once, even if only
        its confirmation was lost.
        """

    @property
    def is_unsynced(self) -> bool:
        """Whether a crash of the machine would undo updates: then call `sync` within a second."""

    def sync(self) -> None:
        """Make updates survive a crash of the machine. Raises `CcfallbackError` or `OSError`."""

    def keep(self, states: States, entries: Iterable[Entry]) -> None:
        """Show commands on this machine what a server knows while the store can't be reached.

        The states are all there are, the entries those that are not written yet. Raises
        `CcfallbackError` or `OSError`.
        """

    def close(self) -> None:
        """Release whatever the store keeps open."""


class LocalSlots:
    """The probe slots of one process."""

    def __init__(self) -> None:
        self._taken: set[BreakerId] = set()

    def is_taken(self, breaker: BreakerId) -> bool:
        """Whether a request is probing this breaker."""
        return breaker in self._taken

    def take(self, breakers: Iterable[BreakerId]) -> tuple[BreakerId, ...]:
        """Take the free slots among these and return them, for `release`."""
        free = tuple(breaker for breaker in breakers if breaker not in self._taken)
        self._taken.update(free)
        return free

    def release(self, breakers: Iterable[BreakerId]) -> None:
        """Give back the slots that `take` returned."""
        self._taken.difference_update(breakers)


class MemoryStore:
    """A store that lasts as long as its process, for servers that must leave no trace."""

    def __init__(self) -> None:
        self.slots: ProbeSlots = LocalSlots()
        self.places = None
        self.name = "the memory"
        self.patience = PATIENCE
        self.problem = ""
        self._snapshot = Snapshot()
        self.is_unsynced = False

    def known_snapshot(self) -> Snapshot:
        """What the last update made."""
        return self._snapshot

    def is_current(self, snapshot: Snapshot) -> bool:
        """Whether no update came after this snapshot."""
        return snapshot is self._snapshot

    def load(self, held: Snapshot | None = None) -> Snapshot:
        """What the last update made."""
        return self._snapshot

    def peek(self) -> Snapshot:
        """What the last update made."""
        return self._snapshot

    def update(self, change: Update, entries: Iterable[Entry] = (), batch: int = 0) -> Snapshot:
        """Apply a change and keep the result."""
        before = self._snapshot
        sections = {**before.sections, **merge(before.sections, entries)}
        self._snapshot = Snapshot(change(dict(before.states)), sections)
        return self._snapshot

    def sync(self) -> None:
        """Nothing of it would survive."""

    def keep(self, states: States, entries: Iterable[Entry]) -> None:
        """It can always be reached."""

    def close(self) -> None:
        """Nothing is open."""
