"""A thread for calls that a hanging disk may block.

The threads of a pool are joined when the process ends, however long that takes. This thread is
abandoned instead. That is safe, because files are written aside and then renamed into place.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeVar

T = TypeVar("T")

CLOSE_SECONDS: Final = 1.0
"""How long `close` waits for running calls."""


class SerialExecutor:
    """Runs one call at a time, in the order in which they were submitted."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, call: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Submit a call, and return its future. Raises `RuntimeError` after `close`."""
        if self._closed:
            raise RuntimeError("the executor is closed")
        loop = asyncio.get_running_loop()
        # One of `concurrent.futures`, wrapped for the loop, takes three times as long.
        future: asyncio.Future[T] = loop.create_future()

        def perform() -> None:
            if future.cancelled():
                return
            try:
                result = call(*arguments)
            except BaseException as error:
                settle(future.set_exception, error)
            else:
                settle(future.set_result, result)

        def settle(set_it: Callable[[Any], None], value: object) -> None:
            # A loop that has ended waits for nothing.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, future, set_it, value)

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put(perform)
        return future

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Accept no more calls, and wait up to `seconds` for those that were submitted."""
        self._closed = True
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join(seconds)

    def _run(self) -> None:
        while (perform := self._calls.get()) is not None:
            perform()
            # Keep no reference to a finished call until the next one comes.
            del perform


def _settle(future: asyncio.Future[Any], set_it: Callable[[Any], None], value: object) -> None:
    if not future.done():
        set_it(value)
