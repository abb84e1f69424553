"""The headers of a client, kept with its connection.

A client sends the same headers with every request, apart from the length of the body. What follows
from them (flags, hints, the headers of the requests to upstreams) is found once a connection.
"""

from typing import Final

import msgspec

from ccfallback.config.model import Config, Provider
from ccfallback.http1 import FixedHeaders, ServerProtocol
from ccfallback.redact import KnownSecrets, secrets_in_headers
from ccfallback.server.client_credentials import login_token
from ccfallback.server.hints import read_hints
from ccfallback.wire.credential import Credential
from ccfallback.wire.format import WireFormat
from ccfallback.wire.headers import HeaderList, RawHeaders, client_betas

_LENGTH: Final = b"content-length"


class _Sent(msgspec.Struct):
    """The headers of a request to a provider, and what else they follow from."""

    headers: FixedHeaders
    wire: WireFormat
    provider: Provider
    credential: Credential | None
    tokens: frozenset[bytes]


class _SecretsSent(msgspec.Struct):
    """The secrets that a request to a provider had, and what they follow from."""

    secrets: KnownSecrets
    headers: RawHeaders
    provider: Provider
    query: str


class ClientHeaders(list[tuple[bytes, bytes]]):
    """The headers of a request, and what follows from them. Never changed."""

    __slots__ = (
        "_secrets", "_secrets_sent", "_sent", "admitted_by", "betas", "first", "hints", "hosts",
        "login_token",
    )  # fmt: skip

    def __init__(self, headers: RawHeaders) -> None:
        super().__init__(headers)
        self.first = dict(reversed(self))
        """The first value of each header."""
        self.betas = client_betas(self)
        self.hints = read_hints(self.first)
        self.hosts = [value.decode("latin-1") for name, value in self if name == b"host"]
        self.login_token = login_token(self)
        """The token of a Claude login that the client shows."""
        self.admitted_by: Config | None = None
        """The configuration with which the gate admits every request with these headers."""
        self._secrets: tuple[str, ...] | None = None
        self._sent: dict[str, _Sent] = {}
        self._secrets_sent: dict[str, _SecretsSent] = {}

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything in them that an upstream might quote, and that must not be logged."""
        if self._secrets is None:
            self._secrets = tuple(secrets_in_headers(self))
        return self._secrets

    def find_sent(
        self,
        wire: WireFormat,
        provider: Provider,
        credential: Credential | None,
        tokens: frozenset[bytes],
    ) -> FixedHeaders | None:
        """The headers of the last request to the provider, if they still are as they were made."""
        sent = self._sent.get(provider.label)
        if (
            sent is None
            or sent.provider is not provider
            or sent.wire is not wire
            or sent.credential != credential
            or sent.tokens != tokens
        ):
            return None
        return sent.headers

    def keep_sent(
        self,
        headers: HeaderList,
        wire: WireFormat,
        provider: Provider,
        credential: Credential | None,
        tokens: frozenset[bytes],
    ) -> FixedHeaders:
        """Keep the headers of a request to a provider for `find_sent`."""
        fixed = FixedHeaders(headers)
        self._sent[provider.label] = _Sent(fixed, wire, provider, credential, tokens)
        return fixed

    def find_secrets(self, sent: RawHeaders, provider: Provider, query: str) -> KnownSecrets | None:
        """The secrets of a request to the provider, if its headers are those of the last one."""
        known = self._secrets_sent.get(provider.label)
        if (
            known is None
            or known.headers is not sent
            or known.provider is not provider
            or known.query != query
        ):
            return None
        return known.secrets

    def keep_secrets(
        self, secrets: KnownSecrets, sent: RawHeaders, provider: Provider, query: str
    ) -> None:
        """Keep the secrets of a request to a provider for `find_secrets`."""
        self._secrets_sent[provider.label] = _SecretsSent(secrets, sent, provider, query)


def recall(connection: ServerProtocol, headers: HeaderList) -> tuple[ClientHeaders, bytes | None]:
    """The headers of a request without the length of its body, and that length.

    They are those of the connection's last request if nothing has changed.
    """
    # The connection has refused more than one length.
    length = dict(headers).get(_LENGTH)
    if length is not None:
        headers = headers.copy()
        headers.remove((_LENGTH, length))
    known = connection.memory
    if not isinstance(known, ClientHeaders) or known != headers:
        known = connection.memory = ClientHeaders(headers)
    return known, length
