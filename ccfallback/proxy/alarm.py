"""One timer for many short waits.

Most waits end long before their time. To make a timer for each and take it back costs more than
the wait; this one is left to go off too early, and then set again for what is left.
"""

import asyncio
from collections.abc import Callable


class Alarm:
    """Rings when a wait has taken too long; one wait at a time."""

    __slots__ = ("_due", "_loop", "_ring", "_timer")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring = ring
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> bool:
        """Whether a wait is under way."""
        return self._due is not None

    def set(self, seconds: float) -> None:
        """A wait begins, which may take so long."""
        due = self._due = self._loop.time() + seconds
        timer = self._timer
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timer = self._loop.call_at(due, self._goes_off)

    def stop(self) -> None:
        """The wait is over."""
        self._due = None

    def close(self) -> None:
        """There will be no more waits."""
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _goes_off(self) -> None:
        self._timer = None
        due = self._due
        if due is None:
            return
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._goes_off)
            return
        self._due = None
        self._ring()
