"""What is known of one request."""

from math import isfinite
from time import monotonic
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from ccfallback.config.model import Config, Provider, Token
from ccfallback.http1 import Deadline
from ccfallback.server.client_credentials import hash_credential
from ccfallback.server.client_headers import ClientHeaders
from ccfallback.structs import Discreet

SCOPE_KEY: Final = "ccfallback"
"""The key of the `Context` in a request's ASGI scope."""


class Context(Discreet, msgspec.Struct, eq=False):
    """One request that the gate has admitted. Its `repr` shows no credential."""

    SHOWN = ("id",)

    id: str
    config: Config
    headers: ClientHeaders
    tokens: frozenset[bytes]
    began: float = msgspec.field(default_factory=monotonic)
    """When the head of the request was complete, by the monotonic clock."""
    watch: Deadline = msgspec.field(default_factory=Deadline)
    """Limits how long the upstreams take."""
    client: str | UnsetType = UNSET
    """The client's address, unless it is on this machine and no proxy is trusted."""
    token: Token | None = None
    """The access token that the client shows; `None` where none is asked for."""
    body_length: bytes | None = None
    """What the client says of the length of the body; not among the `headers`."""

    @property
    def first(self) -> dict[bytes, bytes]:
        """The first value of each header."""
        return self.headers.first

    def header(self, name: bytes) -> str | None:
        """The first value of a header."""
        value = self.first.get(name)
        return None if value is None else value.decode("latin-1")

    def hash_credential(self, provider: Provider) -> str:
        """The hash of the credential that this request shows to a provider."""
        return hash_credential(provider, self.headers, self.tokens)

    @property
    def login_token(self) -> bytes | None:
        """The token of a Claude login that the client shows."""
        return self.headers.login_token

    @property
    def is_claude_code(self) -> bool:
        """Whether the client says that it is Claude Code."""
        return (
            self.first.get(b"user-agent", b"").startswith(b"claude-cli/")
            or self.first.get(b"x-app") == b"cli"
        )

    @property
    def client_timeout(self) -> float | None:
        """How many seconds the client waits for an answer; `None` if it does not say."""
        value = self.first.get(b"x-stainless-timeout")
        if value is None:
            return None
        try:
            seconds = float(value)
        except ValueError:
            return None
        return seconds if seconds > 0 and isfinite(seconds) else None

    @property
    def token_label(self) -> str | UnsetType:
        """The label of the access token that the client shows, for the log."""
        return UNSET if self.token is None else self.token.label

    @property
    def seconds(self) -> float:
        """How long the request has taken so far."""
        return monotonic() - self.began
