"""Records on their way to something slow: taken at once, handed on in batches by a thread.

Whoever puts a record never waits, neither for a disk nor for a terminal that somebody holds. The
thread lets a moment's records gather, because each time it wakes it takes the interpreter from
the event loop.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

MOST_WAITING: Final = 10_000
"""Records that wait before new ones are dropped."""

GATHER: Final = 0.01
"""Seconds in which records gather to a batch."""

T = TypeVar("T")


class Backlog(Generic[T]):
    """A queue and the thread that empties it."""

    def __init__(self, consume: Callable[[list[T]], None], name: str) -> None:
        """`consume` is called in the thread, and must not raise."""
        self._consume = consume
        self._waiting: deque[T] = deque()
        self._rung = False
        self._bell = threading.Event()
        self._hurry = threading.Event()
        self._closed = False
        self._condition = threading.Condition()
        self._done = 0
        self._put = 0
        self.dropped = 0
        """Records that found no room."""
        # A daemon, so that what hangs does not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, record: T) -> None:
        """Take a record; it belongs to the backlog from now on."""
        if self._closed or len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(record)
        self._put += 1
        if not self._rung:
            self._rung = True
            self._bell.set()

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything put before has been handed on; False if that took too long."""
        wanted = self._put
        if not self._thread.is_alive():
            return True
        self._hurry.set()
        self._bell.set()
        with self._condition:
            return self._condition.wait_for(lambda: self._done >= wanted, timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Hand on what is waiting, and end; False if that took too long."""
        self._closed = True
        self._hurry.set()
        self._bell.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._bell.wait()
            self._hurry.wait(GATHER)
            # In this order: what is put from here on rings again.
            self._bell.clear()
            self._rung = False
            self._hurry.clear()
            closed = self._closed
            batch: list[T] = []
            while self._waiting and len(batch) < MOST_WAITING:
                batch.append(self._waiting.popleft())
            if batch:
                self._consume(batch)
                with self._condition:
                    self._done += len(batch)
                    self._condition.notify_all()
            if closed and not self._waiting:
                return
            if self._waiting or self._closed:
                self._bell.set()
