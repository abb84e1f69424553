"""A proxy in a thread of its own, for whoever needs one beside other work."""

import threading
from collections.abc import Sequence
from types import TracebackType

from ccfallback.errors import ServeError
from ccfallback.paths import Paths
from ccfallback.server.record import Listener
from ccfallback.server.serve import Proxy, run


class BackgroundProxy:
    """Serves on a free port from `__enter__` to `__exit__`."""

    def __init__(
        self,
        paths: Paths,
        *,
        log_level: str | None = None,
        listeners: Sequence[Listener] = (),
        private: bool = False,
    ) -> None:
        self.proxy = Proxy(paths, log_level=log_level, listeners=listeners, private=private)
        self.url = self.proxy.bind("127.0.0.1" if private else None, port=0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._failure: Exception | None = None

    def __enter__(self) -> "BackgroundProxy":
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failed(self._failure)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Let running requests finish, and end. Raises `ServeError` if it had failed before."""
        self.proxy.stop()
        self._thread.join()
        if self._failure is not None:
            raise self._failed(self._failure)

    def _run(self) -> None:
        try:
            run(self.proxy, self._ready.set)
        except Exception as error:
            # The thread has nobody to tell; who waits for it has.
            self._failure = error
        finally:
            # A start that fails must not leave anybody waiting for it.
            self._ready.set()

    def _failed(self, error: Exception) -> ServeError:
        failure = ServeError(f"the proxy has stopped: {type(error).__name__}", "see the log")
        failure.__cause__ = error
        return failure
