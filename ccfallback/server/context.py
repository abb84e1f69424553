"""What the parts of a running server share, and what they know of one request."""

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from math import isfinite
from secrets import token_hex
from time import monotonic, time
from typing import Any, ClassVar, Final

from ccfallback.addresses import Address
from ccfallback.config.model import Config, KeySource, Provider
from ccfallback.config.secrets import KeyUnavailable, resolve
from ccfallback.events.aggregate import Totals, metric_totals
from ccfallback.events.distributions import Histogram
from ccfallback.http1 import Deadline
from ccfallback.policy.breaker import Limits
from ccfallback.policy.learned import PlainFormRefusals
from ccfallback.policy.signatures import SignatureOrigins
from ccfallback.redact import Secret
from ccfallback.server.breakers import Breakers
from ccfallback.server.client import Receive, Scope, Send, send_wrong_method
from ccfallback.server.health import credential_of
from ccfallback.server.live_config import LiveConfig
from ccfallback.server.record import Recorder
from ccfallback.server.upstream import Upstreams
from ccfallback.wire.headers import RawHeaders, bare_credential

SCOPE_KEY: Final = "ccfallback"

SKIP_PRIMARY: Final = b"x-ccf-debug-skip-anthropic"
"""A request header: with the value `1` the request does not go to the primary."""

LOGIN_TOKEN: Final = b"sk-ant-oat"
"""The beginning of every token of a Claude login."""

KEY_LIFETIME: Final = 300.0
"""Seconds for which the output of a key command is used again."""

KEY_FAILURE_LIFETIME: Final = 5.0
"""Seconds for which a key command that failed is not run again."""


@dataclass(slots=True)
class Services:
    """Everything that outlives a request."""

    live: LiveConfig
    breakers: Breakers
    recorder: Recorder
    upstreams: Upstreams
    keys: "Keys"
    logins: "RefusedLogins"
    signatures: SignatureOrigins = field(default_factory=SignatureOrigins)
    plain_form_refusals: PlainFormRefusals = field(default_factory=PlainFormRefusals)
    totals: Totals[Histogram] = field(default_factory=metric_totals)
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits before another attempt."""
    started: float = field(default_factory=time)
    instance: str = field(default_factory=lambda: f"ccfallback-{token_hex(4)}")
    """This process in a `via` header: a request that already carries it has come back in a loop."""
    listener: Address | None = None
    """The address on which this server listens; `None` before it does."""

    @property
    def via(self) -> str:
        """This proxy's entry in a `via` header (RFC 9110, 7.6.3)."""
        return f"1.1 {self.instance}"


@dataclass(slots=True)
class Context:
    """One request that the gate has admitted. Its `repr` shows no credential."""

    id: str
    config: Config
    headers: RawHeaders = field(repr=False)
    tokens: frozenset[bytes] = field(repr=False)
    began: float = field(default_factory=monotonic)
    """When the head of the request was complete, by the monotonic clock."""
    watch: Deadline = field(default_factory=Deadline, repr=False)
    """Limits how long the upstreams take."""
    first: dict[bytes, bytes] = field(init=False, repr=False)
    """The first value of each header."""

    def __post_init__(self) -> None:
        self.first = dict(reversed(self.headers))

    def header(self, name: bytes) -> str | None:
        """The first value of a header."""
        value = self.first.get(name)
        return None if value is None else value.decode("latin-1")

    def credential_of(self, provider: Provider) -> str:
        """The hash of the credential that this request shows to a provider."""
        return credential_of(provider, self.headers, self.tokens)

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
        try:
            seconds = float(self.first.get(b"x-stainless-timeout", b""))
        except ValueError:
            return None
        return seconds if seconds > 0 and isfinite(seconds) else None

    @property
    def seconds(self) -> float:
        """How long the request has taken so far."""
        return monotonic() - self.began


def get_context(scope: Mapping[str, Any]) -> Context:
    """Return the request's context, which the gate has put into the ASGI scope."""
    context = scope[SCOPE_KEY]
    assert isinstance(context, Context)
    return context


class Endpoint(ABC):
    """A raw ASGI endpoint of the server."""

    methods: ClassVar[tuple[str, ...]] = ()
    """The allowed methods; none means all."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request, or refuse its method."""
        context = get_context(scope)
        if self.methods and scope["method"] not in self.methods:
            return send_wrong_method(send, context.id, ", ".join(self.methods))
        return self.answer(context, scope, receive, send)

    @abstractmethod
    async def answer(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with an allowed method."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The candidate providers for a request, before breaker state is considered."""

    providers: tuple[Provider, ...]
    names: list[str]
    excluded: dict[str, str]
    """Why each other provider of the configuration is not in the chain: a word for the log."""
    limits: Limits

    @classmethod
    def build(cls, config: Config, *, without_primary: bool) -> "Chain":
        """Make the chain of all enabled providers, with or without the primary."""
        providers = tuple(
            provider for provider in config.active if not (without_primary and provider.primary)
        )
        excluded = {
            provider.name: "disabled" if provider.disabled else "header"
            for provider in config.chain
            if provider not in providers
        }
        names = [provider.name for provider in providers]
        return cls(providers, names, excluded, Limits.from_config(config))


class Chains:
    """The chains of the current configuration, built once and not for each request."""

    def __init__(self) -> None:
        self._config: Config | None = None
        self._chains: dict[bool, Chain] = {}

    def get(self, context: Context) -> Chain:
        """Return the chain of a request."""
        if context.config is not self._config:
            self._config = context.config
            self._chains = {}
        without_primary = context.first.get(SKIP_PRIMARY) == b"1"
        chain = self._chains.get(without_primary)
        if chain is None:
            chain = Chain.build(context.config, without_primary=without_primary)
            self._chains[without_primary] = chain
        return chain


class Keys:
    """Looks up providers' keys when they are needed.

    A key command may ask a password manager, so its output is kept for a while and forgotten when
    the provider refuses it. Requests that need it at the same time wait for one run and share its
    result; a failure is kept for some seconds, so that a command that hangs delays no queue of
    requests.
    """

    def __init__(self) -> None:
        self._cache: dict[KeySource, tuple[float, Secret | KeyUnavailable | None]] = {}
        self._running: dict[KeySource, asyncio.Lock] = {}

    async def get(self, provider: Provider) -> Secret | None:
        """Return the provider's key, or `None` if it has none. Raises `KeyUnavailable`."""
        source = provider.key
        if source.command is None:
            return resolve(source)
        async with self._running.setdefault(source, asyncio.Lock()):
            until, found = self._cache.get(source, (0.0, None))
            if until < monotonic():
                lifetime = KEY_LIFETIME
                try:
                    found = await asyncio.to_thread(resolve, source)
                except KeyUnavailable as error:
                    found, lifetime = error, KEY_FAILURE_LIFETIME
                self._cache[source] = (monotonic() + lifetime, found)
            if isinstance(found, KeyUnavailable):
                raise KeyUnavailable(*found.args)
            return found

    def forget(self, provider: Provider) -> None:
        """Run the provider's key command again next time."""
        self._cache.pop(provider.key, None)


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
