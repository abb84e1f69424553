"""The TLS context for upstreams, which a thread loads when it is needed first."""

import asyncio
import ssl
from collections.abc import Callable

from ccfallback.http1.errors import TrustUnavailable


class Trust:
    """Loads a context once: that takes long enough to hold up every stream, so a thread does it."""

    def __init__(
        self, load: Callable[[], ssl.SSLContext], context: ssl.SSLContext | None = None
    ) -> None:
        """Nothing is loaded if a context is given."""
        self._load = load
        self._context = context
        self._loading: asyncio.Task[ssl.SSLContext] | None = None

    async def get(self, timeout: float | None = None) -> ssl.SSLContext:
        """The context. Raises `TrustUnavailable` if it can't be loaded, or not within a timeout.

        All that wait share one thread, which goes on after a timeout.
        """
        if self._context is None:
            if self._loading is None or self._loading.done():
                self._loading = asyncio.create_task(asyncio.to_thread(self._load))
                # Nothing may be waiting any more when it fails.
                self._loading.add_done_callback(lambda done: done.cancelled() or done.exception())
            try:
                async with asyncio.timeout(timeout):
                    self._context = await asyncio.shield(self._loading)
            except TimeoutError as error:
                raise TrustUnavailable("no answer from the disk") from error
            except OSError as error:
                raise TrustUnavailable(error.strerror or str(error)) from error
        return self._context

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._loading is not None:
            self._loading.cancel()
