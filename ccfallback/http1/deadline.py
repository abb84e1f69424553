"""One timer for many short waits, and the deadlines of what is waited for.

Most waits end long before their time. To make a timer for each and take it back costs more than
the wait; this one is left to go off too early, and then set again for what is left.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class DeadlineExceeded(Exception):
    """A deadline has passed: which one, and how long it was."""

    def __init__(self, timeout: str, seconds: float) -> None:
        super().__init__(timeout)
        self.timeout = timeout
        self.seconds = seconds


class Timer:
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


class Deadline:
    """Ends waits that take too long; one wait at a time, in whatever task.

    It may be kept for many requests: then their waits have one timer between them.
    """

    __slots__ = ("_alarm", "_closed", "_late", "_loop", "_task")

    def __init__(self) -> None:
        self._alarm: Timer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._late = False
        self._closed = False

    async def wait(self, what: Awaitable[T], timeout: str, seconds: float) -> T:
        """What `what` returns. Raises `DeadlineExceeded`, with the name of the timeout."""
        alarm = self._alarm
        if alarm is None:
            self._loop = asyncio.get_running_loop()
            alarm = self._alarm = Timer(self._interrupt)
        task = self._task = asyncio.current_task(self._loop)
        self._late = False
        alarm.set(max(seconds, 0.0))
        try:
            return await what
        except asyncio.CancelledError:
            # Whoever else cancels the task is not to be overheard.
            if self._late and task is not None and task.cancelling() == 1:
                raise DeadlineExceeded(timeout, seconds) from None
            raise
        finally:
            self._task = None
            if self._late and task is not None:
                # Whatever was made of it: what comes next is not cancelled.
                task.uncancel()
            alarm.stop()
            if self._closed:
                self.close()

    def close(self) -> None:
        """No timer is left behind; who still waits does so without one."""
        self._closed = True
        if self._alarm is not None:
            self._alarm.close()
            # It holds this in turn, and who holds each other waits for the collector.
            self._alarm = None

    def _interrupt(self) -> None:
        if self._task is not None:
            self._late = True
            self._task.cancel()
