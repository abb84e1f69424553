"""Providers' keys, looked up when they are needed."""

import asyncio
from time import monotonic
from typing import Final

from ccfallback.config.model import KeySource, Provider
from ccfallback.config.secrets import KeyUnavailable, resolve
from ccfallback.redact import Secret
from ccfallback.wire.credential import Credential

KEY_LIFETIME: Final = 300.0
"""Seconds for which the output of a key command is used again."""

KEY_FAILURE_LIFETIME: Final = 5.0
"""Seconds for which a key command that failed is not run again."""


class Keys:
    """Looks up providers' keys when they are needed.

    A key command may ask a password manager, so its output is kept for a while and forgotten when
    the provider refuses it. Requests that need it at the same time wait for one run and share its
    result; a failure is kept for some seconds, so that a command that hangs delays no queue of
    requests.
    """

    def __init__(self) -> None:
        self._cache: dict[KeySource, tuple[float, Secret | KeyUnavailable | None]] = {}
        self._running: dict[KeySource, asyncio.Lock] = {}

    async def get(self, provider: Provider) -> Credential | None:
        """Return the provider's own credential, if it has one. Raises `KeyUnavailable`."""
        key = await self._find(provider.key)
        return None if key is None else Credential(key.reveal())

    async def _find(self, source: KeySource) -> Secret | None:
        if source.command is None:
            return resolve(source)
        async with self._running.setdefault(source, asyncio.Lock()):
            until, found = self._cache.get(source, (0.0, None))
            if until < monotonic():
                lifetime = KEY_LIFETIME
                try:
                    found = await asyncio.to_thread(resolve, source)
                except KeyUnavailable as error:
                    found, lifetime = error, KEY_FAILURE_LIFETIME
                self._cache[source] = (monotonic() + lifetime, found)
            if isinstance(found, KeyUnavailable):
                raise KeyUnavailable(*found.args)
            return found

    def forget(self, provider: Provider) -> None:
        """Run the provider's key command again next time."""
        self._cache.pop(provider.key, None)
