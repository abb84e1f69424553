"""Keep a copy in memory of what lies in a store, as fresh as each request needs it."""

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Generic, TypeVar

from ccfallback.server.serial_executor import SerialExecutor
from ccfallback.state.store import PATIENCE

T = TypeVar("T")


class Refresher(Generic[T]):
    """Loads a store's content when a request needs it.

    A request must see what was written before it was sent. One look at the store serves all
    requests that had arrived by then, and so does one load. A look happens on the event loop, so it
    must not wait; a load happens in a thread.
    """

    def __init__(
        self,
        executor: SerialExecutor,
        *,
        is_current: Callable[[], bool],
        load: Callable[[], T],
        take: Callable[[T], bool],
        on_late: Callable[[], None],
    ) -> None:
        """`take` gets each loaded content and returns False if it has to be loaded again.

        `on_late` runs when a load takes too long and requests continue with the old content.
        """
        self._executor = executor
        self._is_current = is_current
        self._load = load
        self._take = take
        self._on_late = on_late
        self._looked = -inf
        self._loading = asyncio.Lock()
        self._late: asyncio.Future[T] | None = None

    def is_stale(self, arrived: float = inf) -> bool:
        """Whether a request that arrived at that time (monotonic clock) has to `refresh` first."""
        if arrived < self._looked:
            return False
        looked = monotonic()
        if not self._is_current():
            return True
        self._looked = looked
        return False

    async def refresh(self, arrived: float = inf) -> None:
        """Load what the store held when the request arrived, unless that is already in memory."""
        if self._is_late():
            return
        async with self._loading:
            while self.is_stale(arrived) and not self._is_late():
                began = monotonic()
                loading = self._executor.run(self._load)
                try:
                    async with asyncio.timeout(PATIENCE):
                        loaded = await asyncio.shield(loading)
                except TimeoutError:
                    self._late = loading
                    self._on_late()
                    return
                if self._take(loaded):
                    self._looked = max(self._looked, began)
                    return

    def _is_late(self) -> bool:
        """Whether a load still hangs: until it ends, no request waits."""
        return self._late is not None and not self._late.done()
