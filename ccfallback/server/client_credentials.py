"""The credentials that clients send: Claude logins, and what a provider gets to see."""

import os
from collections import OrderedDict
from hashlib import sha256
from time import monotonic
from typing import Final

from ccfallback.config.model import Provider
from ccfallback.policy.breaker import BreakerState, Phase, as_available, as_seen, phase
from ccfallback.policy.fingerprints import hash_key, hash_keys, hash_text
from ccfallback.wire.headers import CREDENTIALS, RawHeaders, bare_credential

LOGIN_TOKEN: Final = b"sk-ant-oat"
"""The beginning of every token of a Claude login."""

REFRESH_SECONDS: Final = 60.0
"""How long a client may take to come back with a refreshed login."""


class RefusedLogins:
    """Login tokens that the primary has refused; only their hashes are kept, in memory.

    Claude Code answers the first refusal of a token by refreshing its login, so the client has to
    see that one. If the new token of the same session is refused as well, refreshing does not help,
    and the client would give up.
    """

    _MOST: Final = 256

    def __init__(self) -> None:
        self._refused: OrderedDict[bytes, float] = OrderedDict()
        """When the client saw a refusal of a token, or of any token of a session."""

    def refused_at(self, token: bytes, session: str) -> float | None:
        """When the client saw this refusal, by the monotonic clock; `None` if it has not yet."""
        at = self._refused.get(sha256(token).digest())
        if at is None and session:
            at = self._refused.get(session.encode())
            if at is not None and monotonic() - at > REFRESH_SECONDS:
                return None
        return at

    def remember(self, token: bytes, session: str) -> None:
        """Remember that the client has got the refusal of a token."""
        self._refused.setdefault(sha256(token).digest(), monotonic())
        if session:
            self._refused[session.encode()] = monotonic()
        while len(self._refused) > self._MOST:
            self._refused.popitem(last=False)

    def forget(self, headers: RawHeaders) -> None:
        """Forget the refusal of the token in a client's headers: the primary has accepted it.

        That of its session ends by itself: a primary may accept some requests and refuse others.
        """
        if self._refused and (token := login_token(headers)) is not None:
            self._refused.pop(sha256(token).digest(), None)


def login_token(headers: RawHeaders) -> bytes | None:
    """The token of a Claude login in a client's headers."""
    for name, value in headers:
        if name == b"authorization":
            token = bare_credential(value)
            if token.startswith(LOGIN_TOKEN):
                return token
    return None


def hash_credential(
    provider: Provider, client: RawHeaders, tokens: frozenset[bytes] = frozenset()
) -> str:
    """The hash of the credential that a client's request shows to a provider.

    It is empty where a change of the only key changes the configuration, or where only a command
    knows it: then everything concerns the provider itself.
    """
    if provider.key.number or provider.key.env is not None:
        return hash_key(provider.key, os.environ)
    if provider.has_credential or not provider.primary:
        return ""
    shown = (bare_credential(value) for name, value in client if name in CREDENTIALS)
    return hash_text(b"\n".join(each for each in shown if each not in tokens))


def usable_account(provider: Provider, state: BreakerState, now: float) -> Provider:
    """The provider with the first of its keys that is not cooling down, else with the first."""
    accounts = provider.accounts
    if len(accounts) == 1:
        return accounts[0]
    hashes = hash_keys(provider.key, os.environ)
    ready = (
        account
        for account, credential in zip(accounts, hashes, strict=True)
        if phase(as_seen(state, credential), now) is not Phase.OPEN
    )
    return next(ready, accounts[0])


def provider_state(provider: Provider, state: BreakerState, now: float) -> BreakerState:
    """The state of a provider as the next request meets it, with whichever of its keys."""
    return as_available(state, hash_keys(provider.key, os.environ), now)
