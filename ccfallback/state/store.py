"""What the server and the commands need of the place that keeps the breaker state.

Nothing here says what that place is. `StateFile` keeps the state in a JSON file; another backend
implements the same protocols and is chosen in `state.open_store`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ccfallback.policy.breaker import BreakerState
from ccfallback.state.sections import Entry, Sections, merge

States = dict[str, BreakerState]
"""The state of each provider, by its name."""

Update = Callable[[States], States]
"""A pure change of all states: a store may run it again if another process wrote meanwhile."""


class BreakerId(NamedTuple):
    """Which breaker of a provider: its own, or that of a model, a credential, or both."""

    provider: str
    model: str = ""
    credential: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a store held at one moment."""

    states: States = field(default_factory=dict)
    sections: Sections = field(default_factory=dict)
    """What else the state holds; see `state.sections`."""
    version: object = None
    """Tells this content from any other; only the store that made it understands it."""
    set_aside: str | None = None
    """Where the store moved content that it could not read, if it just did."""
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


class StateStore(Protocol):
    """The shared breaker state, and what else the servers and commands share.

    `load`, `peek`, `update`, `sync` and `close` may block, so a server calls them in a thread.
    """

    @property
    def slots(self) -> ProbeSlots:
        """The probe slots, shared by all users of this state."""

    def is_current(self, snapshot: Snapshot) -> bool:
        """Whether the store still holds this. Returns at once: False if it would have to wait."""

    def load(self, held: Snapshot | None = None) -> Snapshot:
        """What the store holds, or `held` itself if that is still current.

        Unreadable content is set aside and counts as empty.
        """

    def peek(self) -> Snapshot:
        """What the store holds; unreadable content stays where it is."""

    def update(self, change: Update, entries: Iterable[Entry] = ()) -> Snapshot:
        """Apply a change to what the store holds now, write the entries, and return the result.

        A provider that the result lacks is removed. Raises `StateError`.
        """

    is_unsynced: bool
    """Whether a crash of the machine would undo updates: then call `sync` within a second."""

    def sync(self) -> None:
        """Make updates survive a crash of the machine. Raises `CcfallbackError` or `OSError`."""

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
        self._snapshot = Snapshot()
        self.is_unsynced = False

    def is_current(self, snapshot: Snapshot) -> bool:
        """Whether no update came after this snapshot."""
        return snapshot is self._snapshot

    def load(self, held: Snapshot | None = None) -> Snapshot:
        """What the last update made."""
        return self._snapshot

    def peek(self) -> Snapshot:
        """What the last update made."""
        return self._snapshot

    def update(self, change: Update, entries: Iterable[Entry] = ()) -> Snapshot:
        """Apply a change and keep the result."""
        before = self._snapshot
        sections = {**before.sections, **merge(before.sections, entries)}
        self._snapshot = Snapshot(change(dict(before.states)), sections)
        return self._snapshot

    def sync(self) -> None:
        """Nothing of it would survive."""

    def close(self) -> None:
        """Nothing is open."""
