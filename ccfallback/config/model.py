"""What the configuration means, once it has been read and found whole.

Everything is frozen: the server swaps one `Config` for the next, and a request ends under the
one it began with. Rules that follow from the configuration alone are properties here, so that
nobody else needs an `if` for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from ccfallback.config.quirks import Quirks
from ccfallback.redact import Secret

PRIMARY_NAME: Final = "anthropic-primary"
PRIMARY_URL: Final = "https://api.anthropic.com"

LEVELS: Final = ("debug", "info", "warn", "error")
"""Log levels, from the most to the least talkative."""

LONG_CONTEXT: Final = "[1m]"
"""The end of a model name by which the client asks for a long context; no part of the name."""

NO_ITEMS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the proxy listens, and whom it lets in."""

    host: str = "127.0.0.1"
    port: int = 8787
    max_body_bytes: int = 32 * 1024 * 1024
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """Which statuses of the primary send a request on to the next provider."""

    statuses: frozenset[int] = frozenset({401, 402, 403, 404, 408, 429, *range(500, 600)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """How long a failing provider is left out; all in seconds."""

    max_cooldown: float = 300.0
    honor_reset: bool = True
    max_reset: float = 21600.0
    network_wait: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long an upstream may take, in seconds."""

    connect: float = 10.0
    first_byte: float = 30.0
    non_streaming: float = 600.0
    idle: float = 90.0
    silence: float = 300.0
    """With nothing but signs of life until the first content, after the time for the first byte:
    as long as Claude Code waits in silence. Not to be configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """Where a provider's key comes from: at most one of the three is set."""

    literal: Secret | None = None
    env: str | None = None
    command: tuple[str, ...] | None = field(default=None, repr=False)
    """Its arguments may hold a secret."""

    def __bool__(self) -> bool:
        return self.literal is not None or self.env is not None or self.command is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An upstream with a name. The primary is one of them."""

    name: str
    base_url: str = field(repr=False)
    """Its query may hold a key."""
    primary: bool = False
    format: str = "anthropic"
    key: KeySource = KeySource()
    auth_header: str = "x-api-key"
    retry: int = 0
    disabled: bool = False
    headers: Mapping[str, str] = field(default_factory=lambda: NO_ITEMS, repr=False)
    model_mapping: Mapping[str, str] = field(default_factory=lambda: NO_ITEMS)
    timeouts: Timeouts = Timeouts()
    quirks: Quirks = field(default_factory=Quirks)

    def model_for(self, model: str) -> str:
        """The provider's own name of a model that the client asks for."""
        return mapped_model(model, self.model_mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectifiers:
    """Which repairs may be made."""

    enabled: bool = True
    off: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """What is kept from fallbacks beside credentials."""

    strip_billing_header: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is logged, and how much of it is kept."""

    level: str = "info"
    max_bytes: int = 10 * 1024 * 1024
    backups: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An access token that clients must show."""

    token: Secret
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration."""

    server: Server = Server()
    primary: Provider = Provider(name=PRIMARY_NAME, base_url=PRIMARY_URL, primary=True)
    providers: tuple[Provider, ...] = ()
    failover: Failover = Failover()
    breaker: Breaker = Breaker()
    rectifiers: Rectifiers = Rectifiers()
    privacy: Privacy = Privacy()
    log: Log = Log()
    proxy: str | None = field(default=None, repr=False)
    """The outgoing proxy; a name and a password may be in it."""
    tokens: tuple[Token, ...] = ()

    @property
    def chain(self) -> tuple[Provider, ...]:
        """The primary and every provider, in the order they are tried, disabled ones included."""
        return (self.primary, *self.providers)

    @property
    def active(self) -> tuple[Provider, ...]:
        """The chain without the disabled ones."""
        return tuple(provider for provider in self.chain if not provider.disabled)

    @property
    def has_fallback(self) -> bool:
        """Whether anybody but the primary is enabled."""
        return any(not provider.disabled for provider in self.providers)

    @property
    def cooldowns(self) -> bool:
        """Whether a cooldown may be set at all: not while there is nobody else to ask."""
        return len(self.active) > 1

    def provider(self, name: str) -> Provider | None:
        """The provider of that name, the primary included."""
        return next((provider for provider in self.chain if provider.name == name), None)


def mapped_model(model: str, mapping: Mapping[str, str]) -> str:
    """The name that a mapping gives to a model; the model itself where no row matches.

    An exact row wins over the longest matching glob. A row without `[1m]` matches a model with it
    too.
    """
    if not mapping:
        return model
    names = (model, model.removesuffix(LONG_CONTEXT))
    for name in names:
        if name in mapping:
            return mapping[name]
    for name in names:
        globs = [glob for glob in mapping if fnmatchcase(name, _with_literal_suffix(glob))]
        if globs:
            return mapping[max(globs, key=len)]
    return model


def _with_literal_suffix(glob: str) -> str:
    """A glob in which `[1m]` at the end is text, not a set of characters."""
    if glob.endswith(LONG_CONTEXT):
        return glob.removesuffix(LONG_CONTEXT) + "[[]1m]"
    return glob
