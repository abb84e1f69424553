"""What a wire format is: everything that depends on the shape of a provider's API.

The server prepares each attempt in the same way, whatever the format.
`wire.provider_body.adapt_body` first takes out of the client's body what the provider may not see;
then:

1. `WireFormat.prepare` turns the body and the client's headers into one `WireRequest`;
2. `WireFormat.sign` signs it; this is the last step, so a signature can cover all of it;
3. the answer is read by `stream`, `whole` or `refusal`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import ClassVar, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import msgspec

from ccfallback.config.model import Provider
from ccfallback.messages.body import Body
from ccfallback.messages.errors import UpstreamError
from ccfallback.messages.tokens import Usage
from ccfallback.structs import Discreet
from ccfallback.wire import aws
from ccfallback.wire.credential import Credential
from ccfallback.wire.filters import EventFilter
from ccfallback.wire.headers import (
    PLAIN_HEADERS,
    HeaderList,
    RawHeaders,
    client_betas,
    request_headers,
)

UNCOMPRESSED: Final = (b"accept-encoding", b"identity")
"""Asks for an answer that can be read while it arrives."""


class StreamTranslator(Protocol):
    """Turns an upstream's stream into Anthropic's events, wherever its reads are cut.

    Only whole events come out. Once `error` is set, nothing more comes out: neither the event
    that carries the error nor anything after it.
    """

    heard: bool
    """Whether any event has arrived, which ends the wait for the first byte."""
    started: bool
    """Whether content has come out: the commit point."""
    complete: bool
    """Whether a stop reason has come out, which tells a finished answer from a cut one."""
    finished: bool
    """Whether the stream has ended by its own rules; later bytes are not read."""
    error: UpstreamError | None
    """The error that the stream reported, or what is wrong with the stream itself."""
    usage: Usage
    signatures: list[str]
    """Digests of the last signatures of the thinking that has come out."""

    @property
    def written(self) -> int:
        """About how many bytes of content have come."""

    @property
    def stopped(self) -> bool:
        """Whether a stop reason has arrived, even if it has not come out. What may still follow
        does not belong to the answer."""

    def feed(self, chunk: bytes) -> bytes:
        """The events that are complete now. Never raises."""

    def finish(self) -> bytes:
        """The remaining events, at the end of the upstream's stream."""


class Whole(msgspec.Struct):
    """A whole answer, translated."""

    body: bytes
    error: UpstreamError | None = None
    """Why it is not an answer; `None` if it is one."""
    usage: Usage = msgspec.field(default_factory=Usage)
    signatures: list[str] = []


IMPOSSIBLE_COUNT: Final = UpstreamError("api_error", "a token count of 2^53 or more")
"""Why an answer of a fallback is broken; see `MOST_TOKENS`."""


class Unconvertible(Exception):
    """The request cannot be expressed in the format; the message says why."""


class WireRefusal(msgspec.Struct, frozen=True):
    """An error response, with the status and error that Anthropic would have sent."""

    status: int
    error: UpstreamError
    until: float | None = None
    """A reset hint that the format's own headers or messages give, in Unix seconds."""
    hint: str = ""
    """Where the reset hint was found: the name of a header, or `message`."""


class WireRequest(Discreet, msgspec.Struct):
    """One request to an upstream. Its `repr` shows neither key nor content."""

    SHOWN = ("method",)

    url: str
    headers: HeaderList
    body: bytes
    method: str = "POST"


class WireFormat(ABC):
    """The shape of a provider's API. It has no state: one object serves every request.

    A subclass has to say where requests go (`url`), what they carry (`request`) and how answers
    read (`stream`, `whole`, `refusal`). All else has a default.
    """

    name: ClassVar[str]
    """The name in the configuration: `format = "…"`."""
    title: ClassVar[str]
    """The name in messages."""
    endpoint: ClassVar[str] = ""
    """The end of the endpoint's path. A base URL that ends with it means this format, unless the
    configuration names another."""
    auth_header: ClassVar[str] = "Authorization"
    """The header that carries the key, unless the configuration names another."""
    idle_timeout: ClassVar[float | None] = None
    """The idle timeout in seconds, where the general default is too short for such providers."""
    speaks_messages: ClassVar[bool] = False
    """Whether providers take Anthropic's own Messages body, whose thinking blocks they check."""
    has_quirks: ClassVar[bool] = False
    """Whether the provider's quirks decide how a request is written."""
    client_headers: ClassVar[frozenset[bytes]] = PLAIN_HEADERS
    """The client's headers that a fallback may see; any other may hold a secret."""
    fallback_headers: ClassVar[RawHeaders] = ()
    """Headers that every request to a fallback carries."""
    answer_mark: ClassVar[re.Pattern[bytes]]
    """Found in an answer only if it is in this format."""
    refusal_mark: ClassVar[re.Pattern[bytes]]
    """Found in an error response only if it is in this format."""
    counting: "WireFormat | None" = None
    """The format of the providers' endpoint that counts the tokens of a request; `None` if they
    have no such endpoint."""

    def default_base_url(self, provider: Provider) -> str | None:
        """The base URL of a provider whose configuration has none; `None` if it needs one."""
        return None

    def missing_key(self, provider: Provider) -> str:
        """The key without which no request can be sent, if the configuration lacks one."""
        for name in provider.platform.required_headers:
            if all(name != given.lower() for given in provider.headers):
                return f"headers.{name}"
        return ""

    @abstractmethod
    def url(self, provider: Provider, model: str, *, stream: bool) -> str:
        """The URL of a request for `model`, which is the provider's own name of it."""

    def models_url(self, provider: Provider) -> str | None:
        """The URL of the provider's list of models; `None` if there is none."""
        return None

    def credentials(self, provider: Provider, credential: Credential) -> Mapping[str, str]:
        """The headers that show the credential; `sign` adds those of a signature."""
        value = credential.key
        if not value:
            return credential.headers
        name = "Authorization" if credential.is_token else provider.auth_header
        if name.lower() == "authorization" and not _SCHEME.match(value):
            value = f"Bearer {value}"
        return {name: value, **credential.headers}

    def headers(
        self,
        client: RawHeaders,
        provider: Provider,
        credential: Credential | None,
        *,
        via: str,
        tokens: frozenset[bytes] = frozenset(),
        body: Body | None = None,
    ) -> HeaderList:
        """The headers of a request to `provider`, without host and body length.

        `credential` is the provider's own. Without one, the primary gets the client's credentials,
        except those that are access `tokens` of this proxy. `via` marks the request for the loop
        guard. `body` is the upstream's body, `None` for a request without one.
        """
        return request_headers(
            client,
            provider,
            None if credential is None else self.credentials(provider, credential),
            allowed=self.client_headers,
            added=self.fallback_headers,
            via=via,
            tokens=tokens,
            has_body=body is not None,
        )

    @abstractmethod
    def request(self, body: Body, provider: Provider, betas: tuple[str, ...] = ()) -> Body:
        """The upstream's body for the client's, which names the provider's model already.

        `betas` are the flags of the request's `anthropic-beta` header. Raises `Unconvertible`.
        """

    def omitted_parts(self, body: Body) -> tuple[str, ...]:
        """The names of the parts that `request` omits, for the log; no content."""
        return ()

    def prepare(
        self,
        body: Body,
        client: RawHeaders,
        provider: Provider,
        credential: Credential | None,
        *,
        via: str,
        tokens: frozenset[bytes] = frozenset(),
        query: str = "",
        betas: tuple[str, ...] | None = None,
        headers: HeaderList | None = None,
    ) -> WireRequest:
        """The whole request of an attempt, except for its signature.

        `query` is added to the URL. `betas` are those of the `client`, and `headers` those of
        another request that differs in nothing but its body, where they are known. For the other
        parameters see `headers` and `request`.
        """
        betas = client_betas(client) if betas is None else betas
        upstream_body = self.request(body, provider, betas)
        url = self.url(provider, body.model, stream=body.stream)
        if query:
            url += ("&" if "?" in url else "?") + query
        if headers is None:
            headers = self.headers(
                client, provider, credential, via=via, tokens=tokens, body=upstream_body
            )
            headers.append(UNCOMPRESSED)
        return WireRequest(url, headers, upstream_body.raw)

    def sign(
        self, request: WireRequest, provider: Provider, credential: Credential | None, now: float
    ) -> WireRequest:
        """The request with its signature, if the credential signs; `now` is Unix time.

        The last step before sending: nothing changes the request after it.
        """
        if credential is None or credential.aws is None:
            return request
        signature = aws.signed_headers(
            request.method,
            request.url,
            request.headers,
            request.body,
            credential.aws,
            region=credential.aws.region or provider.region or aws.DEFAULT_REGION,
            service=aws.service_of_host(urlsplit(request.url).hostname or ""),
            now=now,
        )
        added = [(name.encode(), value.encode("latin-1")) for name, value in signature.items()]
        kept = [pair for pair in request.headers if pair[0].decode("latin-1") not in signature]
        return msgspec.structs.replace(request, headers=[*kept, *added])

    @abstractmethod
    def stream(
        self, client_body: Body, provider: Provider, filters: Sequence[EventFilter] = ()
    ) -> StreamTranslator:
        """A translator for the streamed answer to the client's request.

        `filters` change the translated events, one after the other.
        """

    @abstractmethod
    def whole(self, raw: bytes, client_body: Body, provider: Provider) -> Whole:
        """The message for an answer that is not a stream."""

    @abstractmethod
    def refusal(
        self, status: int, headers: Mapping[str, str], body: bytes, now: float
    ) -> WireRefusal:
        """The meaning of an error response; `headers` have lower-case names."""


_SCHEME: Final = re.compile(r"(?:bearer|basic) ", re.IGNORECASE)


@lru_cache(maxsize=512)
def endpoint_url(base_url: str, path: str, *, below_any_path: bool = False) -> str:
    """The URL of an API's endpoint such as `/v1/messages`.

    A base URL that ends with the endpoint's path is the endpoint itself. Otherwise the missing
    part is appended: without `/v1` where the base URL has it, or any path with `below_any_path`.
    The query is kept.
    """
    parts = urlsplit(base_url)
    base = parts.path.rstrip("/")
    leaf = path.removeprefix("/v1")
    if not base.endswith(leaf):
        base += leaf if base.endswith("/v1") or (below_any_path and base) else path
    return urlunsplit((parts.scheme, parts.netloc, base, parts.query, ""))
