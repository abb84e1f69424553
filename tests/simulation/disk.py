"""The threads of the product, run by the loop, and the faults of the disk.

Files are real, in a folder in memory. Whatever a thread would do takes the disk's delay, and
happens at once.
"""

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")


class Disk:
    """How the disk is now."""

    def __init__(self) -> None:
        self.is_full = False
        self.delay = 0.0
        """Seconds that a call takes."""
        self._halves: set[int] = set()

    def check(self, descriptor: int, data: bytes) -> int:
        """How many of these bytes fit. Raises `OSError` where none does."""
        if not self.is_full:
            self._halves.clear()
            return len(data)
        if descriptor not in self._halves and len(data) > 1:
            # The last free block takes the beginning.
            self._halves.add(descriptor)
            return len(data) // 2
        raise OSError(errno.ENOSPC, "No space left on device")


DISK: Final = Disk()


def install() -> None:
    """Let the disk's faults reach the product."""
    write = os.write

    def checked_write(descriptor: int, data: Any) -> int:
        return write(descriptor, data[: DISK.check(descriptor, data)])

    def checked_sync(descriptor: int) -> None:
        # A full disk may refuse what it has taken only when it is written.
        if DISK.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")

    os.write, os.fsync = checked_write, checked_sync  # type: ignore[assignment]


class InlineExecutor:
    """A `SerialExecutor` without a thread: the loop makes the calls, in their order."""

    def __init__(self, _name: str) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._free_at = 0.0
        self._closed = False

    def run(self, call: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Submit a call, and return its future."""
        if self._closed:
            raise RuntimeError("the executor is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def perform() -> None:
            if future.cancelled():
                return
            try:
                result = call(*arguments)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._calls.append(perform)
        self._free_at = max(self._free_at, loop.time()) + DISK.delay
        loop.call_at(self._free_at, self._next)
        return future

    def close(self, _seconds: float = 1.0) -> None:
        """Make the calls that wait, unless the disk is slow."""
        self._closed = True
        while self._calls and not DISK.delay:
            self._next()

    def _next(self) -> None:
        if self._calls:
            self._calls.popleft()()


class InlineBacklog(Generic[T]):
    """A `Backlog` without a thread."""

    def __init__(
        self,
        consume: Callable[[list[T]], None],
        _name: str,
        gather: float = 0.01,
        _busy: float = 0.05,
        fill: Callable[[], None] = lambda: None,
    ) -> None:
        self._consume = consume
        self._fill = fill
        self._gather = gather
        self._waiting: list[T] = []
        self._woken = self._closed = False
        self.dropped = 0

    def put(self, item: T) -> None:
        """Take an item."""
        self.add([item])
        self.wake()

    def add(self, items: Sequence[T]) -> None:
        """Take items."""
        room = 0 if self._closed else 10_000 - len(self._waiting)
        self.dropped += max(0, len(items) - room)
        self._waiting += items[:room]

    def wake(self) -> None:
        """Consume what waits a little later."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_later(self._gather + DISK.delay, self.flush)

    def flush(self, _timeout: float = 5.0) -> bool:
        """Consume all that waits."""
        self._woken = False
        self._fill()
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._consume(waiting)
        return True

    def close(self, _timeout: float = 5.0) -> bool:
        """Consume all that waits, then end."""
        self.flush()
        self._closed = True
        return True
