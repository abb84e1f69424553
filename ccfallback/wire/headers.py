"""Which headers are passed on, to an upstream and to the client.

The primary gets what the client sent, because it is the client's own upstream. A fallback gets a
short list of harmless headers and nothing else: an unknown header may hold a secret. Names are
lower-case bytes throughout, as ASGI gives them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from ccfallback.config.model import Provider

RawHeaders = Sequence[tuple[bytes, bytes]]
HeaderList = list[tuple[bytes, bytes]]

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers of one connection (RFC 9110, 7.6.1)."""

_USUAL_CONNECTION: Final = frozenset({b"keep-alive", b"close"})
"""The usual values of a `connection` header, which name no other header."""

_REWRITTEN: Final = frozenset(
    {b"host", b"content-length", b"content-encoding", b"accept-encoding", b"expect", b"via"}
)
"""Request headers that are written anew, since the body and the connection are our own."""

CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key"})

_NOT_FOR_UPSTREAMS: Final = HOP_BY_HOP | _REWRITTEN | {b"ccr-request-id"}
_OURS: Final = b"x-ccf-"
"""The start of the headers that are meant for this proxy."""

PLAIN_HEADERS: Final = frozenset({b"accept", b"content-type", b"user-agent"})
"""The client's headers that every fallback may see."""

_SENDABLE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
"""A header value that a server may send (RFC 9110, 5.5)."""

_FROM_FALLBACKS: Final = frozenset(
    {b"content-type", b"request-id", b"x-request-id", b"retry-after", b"cache-control"}
)
"""A fallback's response headers that the client may see. Its rate limits are those of another
account."""

_NOT_FOR_CLIENTS: Final = HOP_BY_HOP | {b"content-length", b"ccr-request-id"}
"""The primary's response headers that are of one connection, or written anew."""

_OUR_RESPONSES: Final = b"x-ccfallback-"
"""The start of the response headers that this proxy sets."""


def find(headers: RawHeaders, name: bytes) -> str | None:
    """The first value of a header."""
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def text_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers as text with lower-case names; repeated ones are joined with commas."""
    joined: dict[str, str] = {}
    for key, value in headers:
        name, item = key.decode("latin-1").lower(), value.decode("latin-1")
        joined[name] = f"{joined[name]}, {item}" if name in joined else item
    return joined


def end_to_end(headers: RawHeaders) -> HeaderList:
    """The headers without hop-by-hop ones, those named by a `connection` header included."""
    lowered = [(key.lower(), value) for key, value in headers]
    dropped = _with_named_by_connection(HOP_BY_HOP, lowered)
    return [pair for pair in lowered if pair[0] not in dropped]


def _with_named_by_connection(names: frozenset[bytes], headers: RawHeaders) -> frozenset[bytes]:
    """Some names, and those of the headers that a `connection` header calls hop-by-hop."""
    for key, value in headers:
        if key == b"connection" and value.lower() not in _USUAL_CONNECTION:
            names |= {token.strip().lower() for token in value.split(b",")}
    return names


def request_headers(
    client: RawHeaders,
    provider: Provider,
    credentials: Mapping[str, str] | None,
    *,
    allowed: frozenset[bytes],
    added: RawHeaders,
    via: str,
    tokens: frozenset[bytes],
    has_body: bool,
) -> HeaderList:
    """The headers of a request; see `WireFormat.headers`.

    A fallback gets the client's headers that are `allowed`, and those `added`. The headers that
    the configuration sets for the provider replace all others of their name, `credentials` too.
    """
    if provider.primary:
        headers = _for_primary(client, credentials is not None, tokens)
    else:
        headers = [*added, *_for_fallback(client, allowed)]
    if has_body and b"content-type" not in dict(headers):
        headers.append((b"content-type", b"application/json"))
    entry = via.encode("latin-1")
    if b"via" in dict(client):
        entry = b", ".join([*(value for name, value in client if name == b"via"), entry])
    headers.append((b"via", entry))
    if credentials is None and not provider.headers:
        return headers
    own = {
        name.lower().encode("latin-1"): value.strip().encode("latin-1")
        for name, value in (*(credentials or {}).items(), *provider.headers.items())
    }
    return [*(pair for pair in headers if pair[0] not in own), *own.items()]


def _for_primary(client: RawHeaders, has_key: bool, tokens: frozenset[bytes]) -> HeaderList:
    dropped = _with_named_by_connection(_NOT_FOR_UPSTREAMS, client)
    if has_key:
        dropped |= CREDENTIALS
    headers = [pair for pair in client if pair[0] not in dropped and not pair[0].startswith(_OURS)]
    if not tokens or has_key:
        return headers
    return [
        (name, value)
        for name, value in headers
        if name not in CREDENTIALS or bare_credential(value) not in tokens
    ]


def _for_fallback(client: RawHeaders, allowed: frozenset[bytes]) -> HeaderList:
    headers: HeaderList = []
    for name, value in end_to_end(client):
        kept = without_login_beta(value) if name == b"anthropic-beta" else value
        if name in allowed and kept:
            headers.append((name, kept))
    return headers


def client_betas(client: RawHeaders) -> tuple[str, ...]:
    """The flags of the `anthropic-beta` headers, in their order."""
    values = [value for name, value in client if name == b"anthropic-beta"]
    return _flags(b",".join(values).decode("latin-1")) if values else ()


@lru_cache(maxsize=64)
def _flags(value: str) -> tuple[str, ...]:
    """The flags in a header value; cached, because a client sends the same ones every time."""
    return tuple(flag.strip() for flag in value.split(",") if flag.strip())


def with_betas(client: RawHeaders, betas: tuple[str, ...]) -> RawHeaders:
    """The client's headers with these flags; the same object if they have them already."""
    if betas == client_betas(client):
        return client
    others = [(name, value) for name, value in client if name != b"anthropic-beta"]
    return [*others, (b"anthropic-beta", ",".join(betas).encode("latin-1"))] if betas else others


def bare_credential(value: bytes) -> bytes:
    """A credential without its scheme."""
    words = value.split(None, 1)
    return words[1].rstrip() if len(words) == 2 and words[0].lower() == b"bearer" else value.strip()


def without_login_beta(value: bytes) -> bytes:
    """An `anthropic-beta` value without the flags that belong to a login."""
    flags = [flag.strip() for flag in value.split(b",")]
    return b",".join(flag for flag in flags if flag and not flag.startswith(b"oauth-"))


def is_sendable(value: bytes) -> bool:
    """Whether a server may send a header value; an upstream's may hold any byte."""
    return _SENDABLE.fullmatch(value) is not None


def is_own_header(name: bytes) -> bool:
    """Whether a response header is one that this proxy sets, so that an upstream's is dropped."""
    return name == b"ccr-request-id" or name.startswith(_OUR_RESPONSES)


def response_headers(upstream: RawHeaders, provider: Provider, *, decoded: bool) -> HeaderList:
    """The upstream's headers for the client.

    The body's length is left to the server that sends it. The encoding is dropped if the body was
    `decoded` here.
    """
    lowered = [(key.lower(), value) for key, value in upstream]
    if provider.primary:
        dropped = _with_named_by_connection(_NOT_FOR_CLIENTS, lowered)
        kept = [
            pair
            for pair in lowered
            if pair[0] not in dropped and not pair[0].startswith(_OUR_RESPONSES)
        ]
    else:
        dropped = _with_named_by_connection(frozenset(), lowered)
        kept = [pair for pair in lowered if pair[0] in _FROM_FALLBACKS and pair[0] not in dropped]
    if decoded:
        kept = [pair for pair in kept if pair[0] != b"content-encoding"]
    # One check of all values together: hardly ever is one of them unsendable.
    if is_sendable(b"".join([value for _, value in kept])):
        return kept
    return [pair for pair in kept if is_sendable(pair[1])]
