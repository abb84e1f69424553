"""The credentials that clients send: Claude logins, and what a provider gets to see."""

import os
from typing import TYPE_CHECKING, Final

from ccfallback.config.model import KeySource, Provider
from ccfallback.policy.breaker import BreakerState, Phase, as_seen, phase
from ccfallback.policy.fingerprints import hash_key, hash_keys, hash_text
from ccfallback.state.logins import LOGINS, session_key, token_key
from ccfallback.wire.headers import CREDENTIALS, RawHeaders, bare_credential

if TYPE_CHECKING:
    from ccfallback.server.breakers import Breakers

LOGIN_TOKEN: Final = b"sk-ant-oat"
"""The beginning of every token of a Claude login."""

REFRESH_SECONDS: Final = 60.0
"""How long a client may take to come back with a refreshed login."""


class RefusedLogins:
    """Login tokens that the primary has refused, for all servers that share the state.

    Claude Code answers the first refusal of a token by refreshing its login, so the client has to
    see that one. If the new token of the same session is refused as well, refreshing does not help,
    and the client would give up.
    """

    def __init__(self, breakers: "Breakers") -> None:
        self._breakers = breakers

    def refused_at(self, token: bytes, session: str) -> float | None:
        """When the client saw this refusal, in Unix seconds; `None` if it has not yet."""
        breakers, now = self._breakers, self._breakers.clock()
        own = breakers.entry(LOGINS, token_key(token))
        if own:
            return min(own, now)
        others = breakers.entry(LOGINS, session_key(session)) if session else None
        # A clock that was set back makes nothing recent that lies far ahead of it now.
        return min(others, now) if others and abs(now - others) <= REFRESH_SECONDS else None

    def remember(self, token: bytes, session: str) -> None:
        """Remember that the client gets the refusal of a token. Save it before the answer ends."""
        now = self._breakers.clock()
        for key in _keys(token, session):
            self._breakers.put(LOGINS, key, now, urgent=True)

    @property
    def any(self) -> bool:
        """Whether there may be anything to forget."""
        return self._breakers.has(LOGINS)

    def forget(self, token: bytes | None, session: str = "") -> None:
        """Forget the refusal of a token: the primary has accepted it, or the client did not see it.

        Without a session, that of its session ends by itself: a primary may accept some requests
        and refuse others.
        """
        for key in _keys(token, session):
            if self._breakers.entry(LOGINS, key):
                self._breakers.put(LOGINS, key, 0.0)


def _keys(token: bytes | None, session: str) -> list[str]:
    """The entries of a token and of a session, as far as there are any."""
    return [*([token_key(token)] if token else ()), *([session_key(session)] if session else ())]


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


def is_login_key(source: KeySource) -> bool:
    """Whether the configuration has the login of a plan in the place of a key."""
    return source.literal is not None and source.literal.reveal().startswith(LOGIN_TOKEN.decode())


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
