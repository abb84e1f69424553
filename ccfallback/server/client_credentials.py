"""The credentials that clients send: Claude logins, and what a provider gets to see."""

import os
from collections import OrderedDict
from functools import lru_cache
from hashlib import blake2b, sha256
from time import monotonic
from typing import Final

from ccfallback.config.model import Provider
from ccfallback.wire.headers import CREDENTIALS, RawHeaders, bare_credential

LOGIN_TOKEN: Final = b"sk-ant-oat"
"""The beginning of every token of a Claude login."""


class RefusedLogins:
    """Login tokens that the primary has refused; only their hashes are kept, in memory.

    Claude Code answers the first refusal of a token by refreshing its login, so the client has to
    see that one.
    """

    _MOST: Final = 256

    def __init__(self) -> None:
        self._refused: OrderedDict[bytes, float] = OrderedDict()

    def refused_at(self, token: bytes) -> float | None:
        """When the client saw that the token was refused, by the monotonic clock."""
        return self._refused.get(sha256(token).digest())

    def remember(self, token: bytes) -> None:
        """Remember that the client has got the refusal of a token."""
        self._refused.setdefault(sha256(token).digest(), monotonic())
        if len(self._refused) > self._MOST:
            self._refused.popitem(last=False)


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

    It is empty where a change of the credential changes the configuration, or where only a
    command knows it: then everything concerns the provider itself.
    """
    if provider.key.env is not None:
        return _hash(os.environ.get(provider.key.env, "").encode("utf-8", "surrogateescape"))
    if provider.has_credential or not provider.primary:
        return ""
    shown = (bare_credential(value) for name, value in client if name in CREDENTIALS)
    return _hash(b"\n".join(value for value in shown if value not in tokens))


@lru_cache(256)
def _hash(credential: bytes) -> str:
    return blake2b(credential, digest_size=8, person=b"ccfallback").hexdigest()
