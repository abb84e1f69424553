"""Providers' keys at the moment they are needed.

A key command may ask a password manager, so its answer is kept for a while and forgotten when
the provider refuses it; requests that need it at the same time wait for one run.
"""

import asyncio
from time import monotonic
from typing import Final

from ccfallback.config.model import KeySource, Provider
from ccfallback.config.secrets import resolve
from ccfallback.redact import Secret

KEPT: Final = 300.0
"""Seconds for which a command's key is used again."""


class Keys:
    """Looks keys up."""

    def __init__(self) -> None:
        self._kept: dict[KeySource, tuple[float, Secret | None]] = {}
        self._running: dict[KeySource, asyncio.Lock] = {}

    async def of(self, provider: Provider) -> Secret | None:
        """The provider's key, or `None` where it has none. Raises `KeyUnavailable`."""
        source = provider.key
        if source.command is None:
            return resolve(source)
        async with self._running.setdefault(source, asyncio.Lock()):
            until, key = self._kept.get(source, (0.0, None))
            if until < monotonic():
                key = await asyncio.to_thread(resolve, source)
                self._kept[source] = (monotonic() + KEPT, key)
            return key

    def forget(self, provider: Provider) -> None:
        """Ask the provider's key command again next time."""
        self._kept.pop(provider.key, None)
