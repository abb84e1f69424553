"""Deadlines for waits that nearly always end in time.

Creating and cancelling an event-loop timer for each wait costs more than the wait itself. A
`Timer` leaves its one loop timer running, lets it go off too early, and then sets it again for
what is left.

A stopped process, or a machine that sleeps, is late for everything. Its timers go off before it
reads what has arrived meanwhile, so a timer that is late gives the loop a moment to read first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

LATE_SECONDS: Final = 0.1
"""A timer that is later than this shows that the loop could not read for a while."""

READING_SECONDS: Final = 0.1
"""How long the loop may read then, before the wait has taken too long."""


class DeadlineExceeded(Exception):
    """A wait took too long: the name of its timeout, and how many seconds that was."""

    def __init__(self, timeout: str, seconds: float) -> None:
        super().__init__(timeout)
        self.timeout = timeout
        self.seconds = seconds


class Timer:
    """Calls `ring` when a wait takes too long; one wait at a time."""

    __slots__ = ("_due", "_goes_off", "_handle", "_loop", "_ring")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring: Callable[[], None] | None = ring
        self._due: float | None = None
        """When the wait under way has taken too long; `None` between waits."""
        self._handle: asyncio.Handle | None = None
        self._goes_off = 0.0
        """When the loop's timer goes off."""

    @property
    def is_set(self) -> bool:
        """Whether a wait is under way."""
        return self._due is not None

    @property
    def left(self) -> float:
        """How many seconds the wait may still take."""
        return 0.0 if self._due is None else self._due - self._loop.time()

    def set(self, seconds: float) -> None:
        """Start a wait that may take `seconds`."""
        due = self._due = self._loop.time() + seconds
        handle = self._handle
        if handle is not None:
            if self._goes_off <= due:
                return
            handle.cancel()
        self._goes_off = due
        self._handle = self._loop.call_at(due, self._go_off)

    def stop(self) -> None:
        """End the wait."""
        self._due = None

    def close(self) -> None:
        """End the wait, cancel the loop's timer and never ring again.

        What rings mostly refers to the timer: unlinked, they need no garbage collector.
        """
        self._due = self._ring = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _go_off(self) -> None:
        self._handle = None
        due = self._due
        if due is None:
            return
        now = self._loop.time()
        if due > now:
            self._goes_off = due
            self._handle = self._loop.call_at(due, self._go_off)
        elif now - due > LATE_SECONDS:
            self._goes_off = now + READING_SECONDS
            self._handle = self._loop.call_at(self._goes_off, self._end_reading, due)
        else:
            self._end_wait()

    def _end_reading(self, due: float) -> None:
        # The tasks that got something to read run before a callback that is added now.
        self._handle = self._loop.call_soon(self._decide, due)

    def _decide(self, due: float) -> None:
        self._handle = None
        if self._due == due:
            self._end_wait()
        else:
            self._go_off()

    def _end_wait(self) -> None:
        self._due = None
        if self._ring is not None:
            self._ring()


class Deadline:
    """Cancels waits that take too long; one wait at a time, in any task.

    It may be kept for many requests: then all their waits share one timer.
    """

    __slots__ = ("_closed", "_expired", "_loop", "_task", "_timer", "waited")

    def __init__(self) -> None:
        self.waited = 0.0
        """How many seconds the last wait took that was cancelled from elsewhere."""
        self._timer: Timer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._expired = False
        self._closed = False

    async def wait(self, what: Awaitable[T], timeout: str, seconds: float) -> T:
        """Return what `what` returns. Raises `DeadlineExceeded` with the name of the timeout."""
        timer = self._timer
        if timer is None:
            self._loop = asyncio.get_running_loop()
            timer = self._timer = Timer(self._expire)
        task = self._task = asyncio.current_task(self._loop)
        self._expired = False
        timer.set(seconds if seconds > 0.0 else 0.0)
        try:
            return await what
        except asyncio.CancelledError:
            # A second cancellation, from elsewhere, must not be swallowed.
            if self._expired and task is not None and task.cancelling() == 1:
                raise DeadlineExceeded(timeout, seconds) from None
            self.waited = seconds - timer.left
            raise
        finally:
            self._task = None
            if self._expired and task is not None:
                # However the wait ended, the task is not to be cancelled any more.
                task.uncancel()
            timer.stop()
            if self._closed:
                self.close()

    def close(self) -> None:
        """Leave no timer behind. A wait that is under way goes on without one."""
        self._closed = True
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _expire(self) -> None:
        if self._task is not None:
            self._expired = True
            self._task.cancel()
