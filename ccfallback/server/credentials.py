"""Providers' credentials, looked up when they are needed and renewed in time.

Most are keys of the configuration. A program or a login takes longer and is asked in a thread: once
for all requests that wait, again five minutes before the credential ends, and once after a refusal.
One that ends sooner than that is used for a while first: a source of short-lived credentials is not
asked all the time.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from math import inf
from time import time
from typing import Final

import msgspec

from ccfallback.config.model import Aws, Google, KeySource, Provider
from ccfallback.credentials import KeyUnavailable, Resolved, resolve
from ccfallback.credentials.command import find_key
from ccfallback.credentials.fetch import Fetch, Fetcher
from ccfallback.server.outgoing import OutgoingProxies
from ccfallback.server.trust import TrustedRoots
from ccfallback.structs import Discreet
from ccfallback.wire.credential import Credential

RENEW_BEFORE: Final = 300.0
"""Seconds before its end from which a credential is renewed, while requests still use it."""

SHORTEST_USE: Final = 60.0
"""Seconds for which a credential is used before it is renewed, at most half of its time, if it ends
within `RENEW_BEFORE`, or soon after that and has replaced another one in time: its source may give
nothing that lasts longer."""

SHORTEST_PAUSE: Final = 1.0
"""Seconds between two renewals at least: a source may give the same credential until it ends."""

UNKNOWN_LIFETIME: Final = 300.0
"""Seconds after which a credential whose end is not known is looked up again."""

FAILURE_LIFETIME: Final = 5.0
"""Seconds for which a source that failed is not tried again; more if it was slow to fail."""

REFUSAL_PAUSE: Final = 30.0
"""Seconds after a renewal for which further refusals do not ask the source again. So long, too, it
is not tried again for a renewal that failed before the credential ends."""

LONGEST_WAIT: Final = 30.0
"""Seconds that a request waits for a source, which may have to try several places."""

Source = tuple[KeySource | None, str, Aws, Google, str]
"""What makes two providers have the same credential."""

OnFailure = Callable[[str, KeyUnavailable], None]
"""Is called with a provider's name if its credential could not be renewed in time."""


class _Entry(Discreet, msgspec.Struct, eq=False):
    """What is known of one source. Times are Unix seconds, because a machine may sleep."""

    SHOWN = ("renew_at", "was_used", "failure", "ask_again_at", "renewed_after_refusal")

    found: Resolved | None = None
    renew_at: float = 0.0
    was_used: bool = False
    """Whether a request has used the credential since it was found."""
    failure: KeyUnavailable | None = None
    ask_again_at: float = 0.0
    """When a source that failed may be tried again."""
    renewed_after_refusal: float = -inf
    """When it was last asked because of a refusal."""
    flight: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None


class Keys:
    """The credentials of all providers."""

    def __init__(
        self,
        make_fetch: Callable[[], Fetch] | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time,
        on_failure: OnFailure = lambda _name, _error: None,
    ) -> None:
        """`make_fetch` makes the HTTP client of one look-up, in its thread."""
        self._make_fetch = make_fetch or default_fetch
        self._environ = environ
        self._clock = clock
        self._on_failure = on_failure
        self._entries: dict[Source, _Entry] = {}

    async def get(self, provider: Provider) -> Credential | None:
        """Return the provider's own credential, if it has one. Raises `KeyUnavailable`."""
        if provider.has_static_key:
            key = find_key(provider.key, self._environ)
            return None if key is None else Credential(key.reveal())
        entry = self._entry(provider)
        now = self._clock()
        found = entry.found
        if found is not None and not _has_ended(found, now):
            entry.was_used = True
            if now >= entry.renew_at and now >= entry.ask_again_at:
                self._start(provider, entry)
            return found.credential
        if entry.flight is None and entry.failure is not None and now < entry.ask_again_at:
            raise entry.failure.copy()
        return await self._wait(provider, entry)

    async def renew(self, provider: Provider, refused: Credential | None) -> bool:
        """Replace a credential that the provider refused; whether another attempt makes sense.

        The source is asked once, however many requests were refused at the same time. The other
        attempt has another credential, or says which login a person has to renew.
        """
        if refused is None or provider.has_static_key:
            return False
        entry, now = self._entry(provider), self._clock()
        if entry.found is not None and entry.found.credential != refused:
            return True
        if entry.flight is None:
            if abs(now - entry.renewed_after_refusal) < REFUSAL_PAUSE:
                return False
            entry.renewed_after_refusal = now
        try:
            return await self._wait(provider, entry) != refused
        except KeyUnavailable as error:
            entry.found = None
            return bool(error.command)

    def describe(self, provider: Provider) -> str:
        """Where the credential was found; empty if it was not looked up yet."""
        found = self._entry(provider).found
        return "" if found is None else found.source

    def close(self) -> None:
        """Renew nothing any more."""
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
            if entry.flight is not None:
                entry.flight.cancel()

    def _entry(self, provider: Provider) -> _Entry:
        key = provider.key if provider.key else None
        source = (key, provider.auth, provider.aws, provider.google, provider.region)
        return self._entries.setdefault(source, _Entry())

    async def _wait(self, provider: Provider, entry: _Entry) -> Credential:
        """Wait until the source was asked, by this request or by another."""
        flight = self._start(provider, entry)
        done, _ = await asyncio.wait([flight], timeout=LONGEST_WAIT)
        if not done:
            raise KeyUnavailable(f"its source did not answer within {LONGEST_WAIT:g} s")
        if entry.failure is not None:
            raise entry.failure.copy()
        if entry.found is None:
            raise KeyUnavailable("the server is stopping")
        entry.was_used = True
        return entry.found.credential

    def _start(self, provider: Provider, entry: _Entry) -> asyncio.Task[None]:
        if entry.flight is None:
            entry.flight = asyncio.create_task(self._look_up(provider, entry))
        return entry.flight

    async def _look_up(self, provider: Provider, entry: _Entry) -> None:
        """Ask the source, and keep what it says. Raises nothing."""
        began = self._clock()
        is_early = entry.found is not None and not _has_ended(entry.found, began)
        try:
            found = await asyncio.to_thread(self._resolve, provider)
        except KeyUnavailable as error:
            failure = error.copy()
        except Exception as error:
            failure = KeyUnavailable(f"its source failed: {type(error).__name__}")
        else:
            now = self._clock()
            entry.found, entry.failure, entry.was_used = found, None, False
            entry.renew_at = _renew_at(found, now, is_early=is_early)
            self._set_timer(provider, entry, now)
            return
        finally:
            entry.flight = None
        now = self._clock()
        left = 0.0 if entry.found is None else _seconds_left(entry.found, now)
        is_usable = left > 0
        # When the old credential ends, requests need another one at once.
        entry.ask_again_at = now + max(FAILURE_LIFETIME, min(REFUSAL_PAUSE, left), now - began)
        if is_usable and entry.failure is None:
            self._on_failure(provider.name, failure)
        entry.failure = failure

    def _resolve(self, provider: Provider) -> Resolved:
        found = resolve(provider, self._environ, fetch=self._make_fetch(), now=self._clock)
        assert found is not None
        return found

    def _set_timer(self, provider: Provider, entry: _Entry, now: float) -> None:
        """Renew a credential before its end, if requests use it until then."""
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        if entry.found is not None and entry.found.expires_at is not None:
            loop = asyncio.get_running_loop()
            delay = max(0.0, entry.renew_at - now)
            entry.timer = loop.call_later(delay, self._renew_if_used, provider, entry)

    def _renew_if_used(self, provider: Provider, entry: _Entry) -> None:
        entry.timer = None
        if entry.was_used:
            self._start(provider, entry)


def _seconds_left(found: Resolved, now: float) -> float:
    return inf if found.expires_at is None else found.expires_at - now


def _has_ended(found: Resolved, now: float) -> bool:
    return _seconds_left(found, now) <= 0


def _renew_at(found: Resolved, now: float, *, is_early: bool) -> float:
    """When to renew a credential. With `is_early`, it has replaced one that is still valid."""
    if found.expires_at is None:
        return now + UNKNOWN_LIFETIME
    left = found.expires_at - now
    use = min(SHORTEST_USE, left / 2) if is_early or left <= RENEW_BEFORE else 0.0
    return now + max(left - RENEW_BEFORE, use, SHORTEST_PAUSE)


def default_fetch() -> Fetch:
    """An HTTP client with the trusted roots and the outgoing proxies of the environment."""
    return Fetcher(TrustedRoots().load, OutgoingProxies().for_url)
