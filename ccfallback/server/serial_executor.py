"""A thread for what a disk may let hang: calls go through it in order, and no end waits for it.

A pool's threads are joined when the process ends, however long that takes. This one is left
behind: what it writes is renamed into place, so that nothing is half there.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final, TypeVar

T = TypeVar("T")

CLOSE_SECONDS: Final = 1.0
"""How long `close` waits for what is under way."""


class SerialExecutor:
    """One call at a time, in the order in which they were asked for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, call: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """The call's result, from the thread. Raises `RuntimeError` after `close`."""
        if self._closed:
            raise RuntimeError("the thread for the disk has ended")
        future: Future[T] = Future()

        def perform() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = call(*arguments)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put(perform)
        return asyncio.wrap_future(future)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Take no more calls, and wait so long for those that there are."""
        self._closed = True
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join(seconds)

    def _run(self) -> None:
        while (perform := self._calls.get()) is not None:
            perform()
            # Nothing of a call that is over stays until the next one comes.
            del perform
