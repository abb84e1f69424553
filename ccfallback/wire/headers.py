"""Which headers are passed on, to an upstream and to the client.

The primary gets what the client sent, because it is the client's own upstream. A fallback gets a
short list of harmless headers and nothing else: an unknown header may hold a secret. Names are
lower-case bytes throughout, as ASGI gives them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import compress
from operator import itemgetter
from typing import Final

from ccfallback.config.model import Provider
from ccfallback.short_cache import short_cache

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

_WAY_HERE: Final = frozenset(
    {
        b"forwarded",
        b"x-client-ip",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-original-forwarded-for",
        b"x-real-ip",
    }
)
"""Request headers in which a reverse proxy before this one tells who the client is."""

_NOT_FOR_UPSTREAMS: Final = HOP_BY_HOP | _REWRITTEN | _WAY_HERE | {b"ccr-request-id"}
_OURS: Final = b"x-ccf-"
"""The start of the headers that are meant for this proxy."""

PLAIN_HEADERS: Final = frozenset({b"accept", b"content-type", b"user-agent"})
"""The client's headers that every fallback may see."""

_UNSENDABLE: Final = bytes({*range(32), 127} - {ord("\t")})
"""The bytes that no header value of a server may have (RFC 9110, 5.5)."""

_FROM_FALLBACKS: Final = frozenset(
    {b"content-type", b"request-id", b"x-request-id", b"retry-after", b"cache-control"}
)
"""A fallback's response headers that the client may see. Its rate limits are those of another
account."""

_NOT_FOR_CLIENTS: Final = HOP_BY_HOP | {b"content-length", b"ccr-request-id"}
"""The primary's response headers that are of one connection, or written anew."""

_OUR_RESPONSES: Final = b"x-ccfallback-"
"""The start of the response headers that this proxy sets."""


_NAME: Final = itemgetter(0)
_VALUE: Final = itemgetter(1)

_MOST_NAMES: Final = 100
"""Headers of a message for whose names a choice is remembered."""


def select(headers: RawHeaders, is_wanted: Callable[[bytes], bool]) -> HeaderList:
    """The headers whose names are wanted, which may depend on nothing but the name.

    The same names come again and again, so that the choice for all of them together is remembered.
    """
    names = tuple(map(_NAME, headers))
    if len(names) > _MOST_NAMES:
        return [pair for pair in headers if is_wanted(pair[0])]
    return list(compress(headers, _choose(names, is_wanted)))


@lru_cache(maxsize=256)
def _choose(names: tuple[bytes, ...], is_wanted: Callable[[bytes], bool]) -> tuple[bool, ...]:
    return tuple(map(is_wanted, names))


def _is_end_to_end(name: bytes) -> bool:
    return name not in HOP_BY_HOP


def _may_reach_primary(name: bytes) -> bool:
    return name not in _NOT_FOR_UPSTREAMS and not name.startswith(_OURS)


def _may_reach_client(name: bytes) -> bool:
    return name not in _NOT_FOR_CLIENTS and not name.startswith(_OUR_RESPONSES)


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
    return _without_named_by_connection(select(headers, _is_end_to_end), headers)


def _without_named_by_connection(kept: HeaderList, headers: RawHeaders) -> HeaderList:
    """The `kept` ones of some headers, without those that a `connection` header names."""
    if b"connection" not in map(_NAME, headers):
        return kept
    named = {
        token.strip().lower()
        for key, value in headers
        if key == b"connection" and value.lower() not in _USUAL_CONNECTION
        for token in value.split(b",")
    }
    return [pair for pair in kept if pair[0] not in named] if named else kept


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
    headers = _without_named_by_connection(select(client, _may_reach_primary), client)
    if has_key:
        return [pair for pair in headers if pair[0] not in CREDENTIALS]
    if not tokens:
        return headers
    return [
        (name, value)
        for name, value in headers
        if name not in CREDENTIALS or bare_credential(value) not in tokens
    ]


def _for_fallback(client: RawHeaders, allowed: frozenset[bytes]) -> HeaderList:
    headers: HeaderList = []
    for name, value in _without_named_by_connection(select(client, allowed.__contains__), client):
        kept = without_login_beta(value) if name == b"anthropic-beta" else value
        if kept:
            headers.append((name, kept))
    return headers


def client_betas(client: RawHeaders) -> tuple[str, ...]:
    """The flags of the `anthropic-beta` headers, in their order."""
    values = [value for _, value in select(client, b"anthropic-beta".__eq__)]
    return _flags(b",".join(values).decode("latin-1")) if values else ()


@short_cache(64)
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
    return len(value.translate(None, _UNSENDABLE)) == len(value)


def is_own_header(name: bytes) -> bool:
    """Whether a response header is one that this proxy sets, so that an upstream's is dropped."""
    return name == b"ccr-request-id" or name.startswith(_OUR_RESPONSES)


def response_headers(upstream: RawHeaders, provider: Provider, *, decoded: bool) -> HeaderList:
    """The upstream's headers for the client.

    The body's length is left to the server that sends it. The encoding is dropped if the body was
    `decoded` here.
    """
    is_wanted = _may_reach_client if provider.primary else _FROM_FALLBACKS.__contains__
    kept = _without_named_by_connection(select(upstream, is_wanted), upstream)
    if decoded:
        kept = [pair for pair in kept if pair[0] != b"content-encoding"]
    # One check of all values together: hardly ever is one of them unsendable.
    if is_sendable(b"".join(map(_VALUE, kept))):
        return kept
    return [pair for pair in kept if is_sendable(pair[1])]
