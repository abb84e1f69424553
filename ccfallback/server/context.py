"""What the parts of a running server share, and what they know of one request."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_hex
from time import monotonic, time
from typing import Any, Final

from ccfallback.config.model import Config
from ccfallback.events.counters import Counters
from ccfallback.http1.deadline import Deadline
from ccfallback.policy.signatures import SignatureOrigins
from ccfallback.server.breakers import Breakers
from ccfallback.server.keys import Keys
from ccfallback.server.live_config import LiveConfig
from ccfallback.server.record import Recorder
from ccfallback.server.upstream import Upstreams
from ccfallback.wire.headers import RawHeaders
from ccfallback.wire.target import Address

SCOPE_KEY: Final = "ccfallback"


@dataclass(slots=True)
class Services:
    """Everything that outlives a request."""

    live: LiveConfig
    breakers: Breakers
    recorder: Recorder
    upstreams: Upstreams
    keys: Keys
    logins: "Logins"
    ledger: SignatureOrigins = field(default_factory=SignatureOrigins)
    tally: Counters = field(default_factory=Counters)
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    """How a wait passes before another try."""
    started: float = field(default_factory=time)
    instance: str = field(default_factory=lambda: f"ccfallback-{token_hex(4)}")
    """This process, as the `via` header names it: a request that carries it has been here."""
    listener: Address | None = None
    """Where this server listens, once it does."""

    @property
    def via(self) -> str:
        """This proxy's entry in a `via` header (RFC 9110, 7.6.3)."""
        return f"1.1 {self.instance}"


@dataclass(slots=True)
class Context:
    """One request, as the gate has let it in. Its `repr` shows no credential."""

    id: str
    config: Config
    headers: RawHeaders = field(repr=False)
    tokens: frozenset[bytes] = field(repr=False)
    began: float = field(default_factory=monotonic)
    """When the head of the request had come."""
    watch: Deadline = field(default_factory=Deadline, repr=False)
    """Has an eye on how long the upstreams take."""
    first: dict[bytes, bytes] = field(init=False, repr=False)
    """The first value of each header."""

    def __post_init__(self) -> None:
        self.first = dict(reversed(self.headers))

    def header(self, name: bytes) -> str | None:
        """The first value of a header."""
        value = self.first.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def seconds(self) -> float:
        """How long the request has taken so far."""
        return monotonic() - self.began


def context_of(scope: Mapping[str, Any]) -> Context:
    """The request that an ASGI scope is about."""
    context = scope[SCOPE_KEY]
    assert isinstance(context, Context)
    return context


class Logins:
    """Login tokens that the primary has refused once; only their hashes are kept, in memory.

    Claude Code answers the first refusal by refreshing its login, so that one is its business.
    """

    _MOST: Final = 256

    def __init__(self) -> None:
        self._refused: OrderedDict[bytes, float] = OrderedDict()

    def first_refusal(self, token: bytes) -> float | None:
        """When the token was refused for the first time, by the monotonic clock.

        `None` if that is now; it is remembered.
        """
        digest = sha256(token).digest()
        if digest in self._refused:
            return self._refused[digest]
        self._refused[digest] = monotonic()
        if len(self._refused) > self._MOST:
            self._refused.popitem(last=False)
        return None
