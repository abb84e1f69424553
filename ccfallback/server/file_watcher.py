"""Whether what the server knows of a file is still what the file holds."""

from collections.abc import Callable
from math import inf
from time import monotonic

Stamp = tuple[int, int, int]
"""What changes when a file does."""


class FileWatcher:
    """What a file was when it was read.

    To ask the file takes a system call. One answer serves all requests that had come by then: what
    was written before one of them was sent, it would have told.
    """

    __slots__ = ("_looked", "_stamp", "seen")

    def __init__(self, stamp: Callable[[], Stamp | None]) -> None:
        self.seen: Stamp | None = None
        """The version that was read; whoever reads sets it."""
        self._stamp = stamp
        self._looked = -inf

    def is_stale(self, arrived: float = inf) -> bool:
        """Whether a request that had come by `arrived`, by the monotonic clock, has to wait until
        the file is read again.
        """
        if arrived < self._looked:
            return False
        looked = monotonic()
        if self._stamp() != self.seen:
            return True
        self._looked = looked
        return False
