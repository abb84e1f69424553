"""A proxy in a thread of its own, for whoever needs one beside other work."""

import threading
from collections.abc import Sequence
from types import TracebackType

from ccfallback.proxy.record import Listener
from ccfallback.proxy.serve import Proxy, run
from ccfallback.store.paths import Paths


class BackgroundProxy:
    """Serves on a free port from `__enter__` to `__exit__`."""

    def __init__(
        self, paths: Paths, *, log_level: str | None = None, listeners: Sequence[Listener] = ()
    ) -> None:
        self.proxy = Proxy(paths, log_level=log_level, listeners=listeners)
        self.url = self.proxy.bind(port=0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> "BackgroundProxy":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Let running requests finish, and end."""
        self.proxy.stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            run(self.proxy, self._ready.set)
        finally:
            # A start that fails must not leave anybody waiting for it.
            self._ready.set()
