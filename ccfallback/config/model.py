"""The configuration: frozen structs whose fields are the rows of the option table.

The server swaps one `Config` for the next, and a request ends under the one it began with. Facts
that follow from the configuration alone are properties here, found out once where every request
asks for them: what has such properties has a `dict`.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from ccfallback.config import checks
from ccfallback.config.options import Options, group, option
from ccfallback.config.platforms import (
    FIRST_PARTY,
    LONG_CONTEXT,
    OTHER,
    PLATFORMS,
    Platform,
    find_platform,
    region_of_host,
)
from ccfallback.config.quirks import Quirks
from ccfallback.messages.reset_hints import duration
from ccfallback.redact import Secret, mask, mask_arguments, mask_each, mask_headers, mask_url
from ccfallback.words import label

PRIMARY_NAME: Final = "anthropic-primary"
PRIMARY_URL: Final = "https://api.anthropic.com"

LEVELS: Final = ("debug", "info", "warn", "error")
"""Log levels, from the most to the least verbose."""

CLASSES: Final = ("main", "subagent", "workflow", "compaction", "auxiliary")
"""What Claude Code calls the classes of its requests."""

AUTHS: Final = ("key", "aws", "google", "azure")
"""The places where a provider's credential may come from."""

_DAY: Final = 86400.0
_WAIT: Final = checks.seconds(0.05, _DAY)


class Server(Options, frozen=True, kw_only=True):
    """`[server]`: the address of the proxy, and the requests that it accepts."""

    host: str = option(checks.host, "127.0.0.1", "the address to listen on")
    port: int = option(checks.integer(0, 65535), 8787, "the port to listen on; 0 takes a free one")
    max_body_bytes: int = option(
        checks.integer(1024, 1 << 31), 32 * 1024 * 1024, "the longest body, after decoding"
    )
    allowed_hosts: tuple[str, ...] = option(
        checks.texts, [], "names accepted in Host, besides loopback and `host`"
    )
    allowed_origins: tuple[str, ...] = option(checks.texts, [], "web pages that may call")
    trusted_proxies: tuple[str, ...] = option(
        checks.networks,
        [],
        "addresses or networks of reverse proxies whose `x-forwarded-for` tells the client's "
        "address to the log",
    )
    drain_delay: float = option(
        checks.seconds(0, 60),
        0.0,
        "seconds after a stop in which `/ready` answers 503 and requests are still accepted, for a "
        "load balancer",
    )


class Failover(Options, frozen=True, kw_only=True):
    """`[failover]`: when a request moves on from the primary."""

    statuses: frozenset[int] = option(
        checks.statuses,
        ["401", "402", "403", "404", "408", "429", "5xx"],
        "statuses of the primary that move on to the next provider",
        key="on",
    )


class Breaker(Options, frozen=True, kw_only=True):
    """`[breaker]`: how long a failing provider is skipped, in seconds."""

    max_cooldown: float = option(checks.seconds(0, 7 * _DAY), 300.0, "the longest cooldown")
    honor_reset: bool = option(checks.boolean, True, "believe an upstream's own time to come back")
    max_reset: float = option(checks.seconds(0, 31 * _DAY), 21600.0, "the longest such time")
    network_wait: float = option(
        checks.seconds(0, 300), 5.0, "how long a request waits for this machine's own network"
    )


class ChainCheck(Options, frozen=True, kw_only=True):
    """`[check]`: whether a running server checks the providers itself, as `drill --live` does."""

    every: str | None = option(
        checks.period, None, "how often, such as 24h; unset: never. The login of a plan is not used"
    )

    @property
    def seconds(self) -> float | None:
        """How often in seconds; `None` for never."""
        return None if self.every is None else duration(self.every)


class Network(Options, frozen=True, kw_only=True):
    """`[network]`: how upstreams are reached."""

    proxy: str | None = option(checks.proxy_url, None, "the URL of an outgoing proxy", mask=mask)
    ca_file: str | None = option(
        checks.file_path, None, "certificates in PEM format to trust as well, such as a company's"
    )


class State(Options, frozen=True, kw_only=True):
    """`[state]`: where the state is kept that several servers share."""

    url: str = option(
        checks.state_url,
        "",
        "a Redis or Valkey server that several servers share: redis://HOST:6379/0; "
        "empty: the state file",
        mask=mask_url,
    )


class Timeouts(Options, frozen=True, kw_only=True):
    """`[timeouts]`: how long an upstream may take, in seconds."""

    connect: float = option(_WAIT, 10.0, "until the connection is open")
    first_byte: float = option(_WAIT, 30.0, "until the first event of a stream")
    non_streaming: float = option(_WAIT, 600.0, "until the headers of an answer in one piece")
    idle: float = option(_WAIT, 90.0, "between two reads of an answer that has begun")
    adaptive: bool = option(
        checks.boolean, True, "give a provider less than `first_byte` if it usually is much quicker"
    )
    is_patient: bool = True
    """False if `first_byte` is configured: then it is the limit everywhere. Not an option, and not
    compared: a file that states a default has the same timeouts."""
    silence: float = 300.0
    """From the first byte to the first content, while only pings arrive. Claude Code waits as long.
    Not an option."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timeouts) and self._compared == other._compared

    def __hash__(self) -> int:
        return hash(self._compared)

    @property
    def _compared(self) -> tuple[float, ...]:
        limits = (self.connect, self.first_byte, self.non_streaming, self.idle, self.silence)
        return (*limits, self.adaptive)


class Quota(Options, frozen=True, kw_only=True):
    """`[quota]`: what follows from how far the windows of the primary's plan are used."""

    switch_at: float = option(
        checks.share,
        1.0,
        "from this utilization on the primary is skipped until the window resets; "
        "1.0: only when it refuses",
    )
    spare_from: float = option(
        checks.share,
        1.0,
        "from this utilization on requests of `spare_classes` go to the fallbacks first",
    )
    spare_classes: tuple[str, ...] = option(
        checks.choices(CLASSES),
        ["subagent", "workflow", "auxiliary"],
        "the classes of requests that are spared",
    )


class KeySource(Options, frozen=True, kw_only=True, dict=True):
    """Where the keys of a provider come from; at most one of the options is set."""

    literal: Secret | None = option(
        checks.secret,
        None,
        "The key itself; `ps` and the shell history show it. Repeatable: several keys.",
        key="api_key",
        flag="--api-key KEY",
        repeats_as="api_keys",
        mask=mask,
    )
    literals: tuple[Secret, ...] | None = option(
        checks.secrets,
        None,
        "Several keys: each has its own cooldowns, and the first that is available is used.",
        key="api_keys",
        mask=mask_each,
    )
    env: str | tuple[str, ...] | None = option(
        checks.variable_names,
        None,
        "The environment variable that holds the key. Repeatable: several keys.",
        key="api_key_env",
        flag="--api-key-env VAR",
        repeats_as="api_key_env",
    )
    command: tuple[str, ...] | None = option(
        checks.command,
        None,
        "The program that prints the key, and its arguments.",
        key="api_key_command",
        mask=mask_arguments,
    )

    number: int = 0
    """The place of this key among several keys of a provider, from 1; 0 for an only key."""
    whole: "KeySource | None" = None
    """All keys of the provider, if this is one of several."""

    def __bool__(self) -> bool:
        given = (self.literal, self.literals, self.env, self.command)
        return any(each is not None for each in given)

    @property
    def each(self) -> tuple["KeySource", ...]:
        """Each key by itself, in the order in which they are tried; none without a key."""
        if self.literals is not None:
            found = [KeySource(literal=key) for key in self.literals]
        elif isinstance(self.env, tuple):
            found = [KeySource(env=name) for name in self.env]
        else:
            return (self,) if self else ()
        numbers = range(1, len(found) + 1) if len(found) > 1 else (0,)
        return tuple(
            replace(key, number=number, whole=self)
            for number, key in zip(numbers, found, strict=True)
        )


class Aws(Options, frozen=True, kw_only=True):
    """`aws` of a provider: its AWS account, for `auth = "aws"` and for formats of AWS."""

    profile: str | None = option(
        checks.text, None, "The AWS profile.", flag="--aws-profile PROFILE"
    )
    region: str | None = option(checks.region, None, "The AWS region.", flag="--aws-region REGION")
    sign: str = option(
        checks.choice(("bearer", "sigv4")),
        "bearer",
        "bearer sends a short-term Bedrock key; sigv4 signs each request.",
        flag="--aws-sign WAY",
    )


class Google(Options, frozen=True, kw_only=True):
    """`google` of a provider: its Google Cloud project, for `auth = "google"`."""

    project: str | None = option(
        checks.project, None, "The Google Cloud project.", flag="--google-project PROJECT"
    )
    location: str = option(
        checks.region, "global", "The Google Cloud location.", flag="--google-location LOCATION"
    )


class Cap(Options, frozen=True, kw_only=True, dict=True):
    """`cap` of a provider or a token: from so many US dollars on, the provider is skipped until the
    period ends, or for a token every provider whose answers cost money."""

    day: float | None = option(
        checks.dollars, None, "US dollars that it may cost a day.", flag="--cap-day USD"
    )
    month: float | None = option(
        checks.dollars, None, "US dollars that it may cost a month.", flag="--cap-month USD"
    )

    @cached_property
    def is_set(self) -> bool:
        """Whether there is a cap at all."""
        return self.day is not None or self.month is not None


class Prices(Options, frozen=True, kw_only=True, dict=True):
    """`prices` of a provider: US dollars for a million tokens, before the built-in list."""

    input: float | None = option(
        checks.dollars, None, "US dollars per million tokens of the prompt that no cache holds"
    )
    output: float | None = option(
        checks.dollars, None, "US dollars per million tokens of the answer"
    )
    cache_read: float | None = option(
        checks.dollars, None, "US dollars per million tokens that a cache holds"
    )
    cache_write: float | None = option(
        checks.dollars, None, "US dollars per million tokens that enter a cache for 5 minutes"
    )
    cache_write_1h: float | None = option(
        checks.dollars, None, "US dollars per million tokens that enter a cache for an hour"
    )

    @property
    def given(self) -> Mapping[str, float | None]:
        """The prices by the names of their keys."""
        return {name: getattr(self, name) for name in self.__struct_fields__}

    @cached_property
    def is_set(self) -> bool:
        """Whether there is a price at all."""
        return any(price is not None for price in self.given.values())


class Provider(Options, frozen=True, kw_only=True, dict=True):
    """`[[providers]]`: an upstream with a name. `[primary]` is one too."""

    name: str = option(
        checks.provider_name, None, "A name of your choice.", required="a name", fallback_only=True
    )
    primary: bool = False
    format: str = option(
        checks.text,
        "anthropic",
        "The wire format, such as openai; anthropic by default.",
        flag="--format FORMAT",
        fallback_only=True,
    )
    base_url: str = option(
        checks.http_url,
        None,
        "The base URL, or the endpoint itself.",
        required="the URL of the provider",
        flag="--base-url URL",
        mask=mask_url,
    )
    auth_header: str = option(
        checks.header_name,
        "x-api-key",
        "The header that carries the key.",
        flag="--auth-header HEADER",
    )
    key: KeySource = group(KeySource)
    auth: str = option(
        checks.choice(AUTHS),
        "key",
        "Where the credential comes from: key (the default), aws, google or azure.",
        flag="--auth AUTH",
    )
    aws: Aws = group(Aws, key="aws")
    google: Google = group(Google, key="google")
    retry: int = option(
        checks.integer(0, 10), 0, "More attempts after a 5xx or network error.", flag="--retry N"
    )
    disabled: bool = option(
        checks.boolean, False, "Keep the provider, but do not use it.", flag="--disabled/--enabled"
    )
    headers: Mapping[str, str] = option(
        checks.header_map,
        {},
        "A header to send; repeatable.",
        flag="--header K=V",
        separators="=:",
        mask=mask_headers,
    )
    model_mapping: Mapping[str, str] = option(
        checks.text_map,
        {},
        "The provider's name for a model; repeatable.",
        flag="--map FROM=TO",
        separators="=",
    )
    platform_name: str | None = option(
        checks.choice(PLATFORMS),
        None,
        "The platform that serves Claude there, if its address does not tell.",
        key="platform",
        flag="--platform PLATFORM",
        fallback_only=True,
    )
    context_window: int | None = option(
        checks.integer(1, 1 << 31),
        None,
        "The tokens that a request and its answer may have together.",
        flag="--context-window N",
    )
    cap: Cap = group(Cap, key="cap")
    prices: Prices = group(Prices, key="prices")
    inference_geo: tuple[str, ...] = option(
        checks.texts, [], "The regions of `inference_geo` that it keeps.", fallback_only=True
    )
    timeouts: Timeouts = group(Timeouts, key="timeouts")
    quirks: Quirks = group(Quirks, fallback_only=True)
    region_here: str = ""
    """The AWS region of the environment or of the profile, where neither option nor address names
    one."""

    @cached_property
    def platform(self) -> Platform:
        """The platform that serves its models: the configured one, or what format and host say."""
        if self.platform_name is not None:
            return PLATFORMS[self.platform_name]
        return find_platform(self.format, self.base_url)

    @property
    def region(self) -> str:
        """The region of its cloud; empty if that is not known."""
        return self.aws.region or region_of_host(self.base_url) or self.region_here

    @cached_property
    def is_first_party(self) -> bool:
        """Whether Anthropic itself runs it, so that its own prices and options are valid there."""
        return self.primary or self.platform.name in FIRST_PARTY

    @cached_property
    def has_credential(self) -> bool:
        """Whether it has a credential of its own; if not, the primary gets the client's."""
        return bool(self.key) or self.auth != "key"

    @cached_property
    def has_static_key(self) -> bool:
        """Whether its credential is a key of the configuration or of the environment, or none; if
        not, a login or a program gives it, and it may expire."""
        return self.key.command is None and (self.auth == "key" or bool(self.key))

    @property
    def accounts(self) -> tuple["Provider", ...]:
        """This provider with each of its keys, in the order in which they are tried."""
        keys = self.key.each
        if keys in ((), (self.key,)):
            return (self,)
        return tuple(replace(self, key=key) for key in keys)

    @cached_property
    def label(self) -> str:
        """Its name, with the number of the key if that is one of several: `spare key 2`.

        The name itself contains no space; see `name_in_label`.
        """
        return label(self.name, self.key.number)

    @cached_property
    def shares_signatures(self) -> bool:
        """Whether it serves Claude, whose signatures of thinking are valid wherever Claude is."""
        return self.primary or self.platform.serves_claude

    @cached_property
    def renames_models(self) -> bool:
        """Whether a model may have another name there than the client's."""
        return bool(self.model_mapping) or self.platform is not OTHER

    def model_for(self, model: str) -> str:
        """The provider's own name of a model that the client asks for.

        A row of `model_mapping` decides, or else the ids of the platform.
        """
        if not self.renames_models:
            return model
        mapped = find_mapping(model, self.model_mapping) if self.model_mapping else None
        if mapped is not None:
            return mapped
        platform = self.platform
        return model if platform is OTHER else platform.model_id(model, self.region)

    def keeps_region(self, region: object) -> bool:
        """Whether a request with this `inference_geo` is run where it demands, as far as is known.

        Anthropic keeps every region, and any other provider those of its configuration.
        """
        if self.primary or region in (None, "global") or region in self.inference_geo:
            return True
        return urlsplit(self.base_url).hostname == urlsplit(PRIMARY_URL).hostname


def name_in_label(label: str) -> str:
    """The name of the provider that has this label."""
    return label.partition(" ")[0]


class Failback(Options, frozen=True, kw_only=True):
    """`[failback]`: when a session that a fallback has served goes back to the primary."""

    mode: str = option(
        checks.choice(("auto", "eager", "cache")),
        "auto",
        "as soon as the primary is available (eager), when that costs nothing (cache), or eager "
        "for the login of a plan and cache for all else (auto)",
    )
    cache_ttl: float = option(
        checks.seconds(0, _DAY), 300, "the seconds that a provider's prompt cache lives"
    )


def _route(requests: str) -> Any:
    help = f"the providers of {requests}, in this order; unset: the whole chain"
    return option(checks.names, None, help)


class Routes(Options, frozen=True, kw_only=True):
    """`[routes]`: the providers for each class of requests, as Claude Code names the classes."""

    main: tuple[str, ...] | None = _route("the conversation with a person")
    subagent: tuple[str, ...] | None = _route("subagents")
    workflow: tuple[str, ...] | None = _route("workflows")
    compaction: tuple[str, ...] | None = _route("compactions")
    auxiliary: tuple[str, ...] | None = _route("titles, summaries and other small tasks")

    def get(self, request_class: str) -> tuple[str, ...] | None:
        """The names of the providers for a class; `None` if its requests take the whole chain."""
        return getattr(self, request_class) if request_class in CLASSES else None


class Rectifiers(Options, frozen=True, kw_only=True):
    """`[rectifier]`: which repairs are allowed."""

    enabled: bool = option(checks.boolean, True, "whether refused requests are repaired")
    off: frozenset[str] = frozenset()
    """The names that are set to false."""


class Privacy(Options, frozen=True, kw_only=True):
    """`[privacy]`: what fallbacks do not receive, besides credentials."""

    strip_billing_header: bool = option(
        checks.one_of({"strip": True, "keep": False}),
        "strip",
        "keep Claude Code's billing line from fallbacks, or not",
        key="billing_header",
    )


class Log(Options, frozen=True, kw_only=True):
    """`[log]`: what is logged, and how much of it is kept."""

    level: str = option(checks.choice(LEVELS), "info", "the least important level that is logged")
    max_bytes: int = option(
        checks.integer(1024, 1 << 40), 10 * 1024 * 1024, "the size at which the file is rotated"
    )
    backups: int = option(checks.integer(0, 10_000), 5, "how many rotated files are kept")


class Notify(Options, frozen=True, kw_only=True):
    """`[notify]`: notices for the user that a session moves to a fallback, and back."""

    command: tuple[str, ...] | None = option(
        checks.command,
        None,
        "a program and its arguments; it gets the facts as JSON and as variables",
        mask=mask_arguments,
    )
    bell: bool = option(checks.boolean, False, "ring the bell of the terminal")

    @property
    def is_on(self) -> bool:
        """Whether anything is to be done."""
        return self.bell or self.command is not None


class Token(Options, frozen=True, kw_only=True, dict=True):
    """`[[tokens]]`: an access token. With any of them, clients must send one."""

    token: Secret = option(checks.secret, None, "the token", required="an access token", mask=mask)
    note: str = option(checks.note, "", "whose token it is")
    cap: Cap = group(Cap, key="cap")
    is_note_taken: bool = False
    """Whether a token before it has the same note. Not an option."""

    @cached_property
    def label(self) -> str:
        """Its name in log, ledger and metrics: the note, or a short hash if that is not enough."""
        secret = self.token.reveal()
        digest = f"token-{sha256(f'access token {secret}'.encode()).hexdigest()[:8]}"
        note = self.note.strip()
        if not note or secret in note:
            return digest
        return f"{note} ({digest})" if self.is_note_taken else note


SECTIONS: Final[Mapping[str, type]] = {
    "server": Server,
    "primary": Provider,
    "failover": Failover,
    "breaker": Breaker,
    "quota": Quota,
    "check": ChainCheck,
    "network": Network,
    "state": State,
    "timeouts": Timeouts,
    "failback": Failback,
    "routes": Routes,
    "rectifier": Rectifiers,
    "privacy": Privacy,
    "notify": Notify,
    "log": Log,
}
"""The tables of the file; `[[providers]]` and `[[tokens]]` are lists of tables."""


class Config(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The whole configuration."""

    server: Server = msgspec.field(default_factory=Server)
    primary: Provider = msgspec.field(
        default_factory=lambda: Provider(name=PRIMARY_NAME, base_url=PRIMARY_URL, primary=True)
    )
    providers: tuple[Provider, ...] = ()
    failover: Failover = msgspec.field(default_factory=Failover)
    breaker: Breaker = msgspec.field(default_factory=Breaker)
    check: ChainCheck = msgspec.field(default_factory=ChainCheck)
    quota: Quota = msgspec.field(default_factory=Quota)
    failback: Failback = msgspec.field(default_factory=Failback)
    routes: Routes = msgspec.field(default_factory=Routes)
    rectifiers: Rectifiers = msgspec.field(default_factory=Rectifiers)
    privacy: Privacy = msgspec.field(default_factory=Privacy)
    notify: Notify = msgspec.field(default_factory=Notify)
    log: Log = msgspec.field(default_factory=Log)
    network: Network = msgspec.field(default_factory=Network)
    state: State = msgspec.field(default_factory=State)
    tokens: tuple[Token, ...] = ()

    @cached_property
    def chain(self) -> tuple[Provider, ...]:
        """The primary and all fallbacks in the order they are tried, disabled ones included."""
        return (self.primary, *self.providers)

    @property
    def names(self) -> list[str]:
        """The name of each provider in the chain."""
        return [provider.name for provider in self.chain]

    @cached_property
    def active(self) -> tuple[Provider, ...]:
        """The chain without disabled providers."""
        return tuple(provider for provider in self.chain if not provider.disabled)

    @cached_property
    def has_fallback(self) -> bool:
        """Whether a fallback is enabled."""
        return any(not provider.disabled for provider in self.providers)

    @cached_property
    def token_bytes(self) -> frozenset[bytes]:
        """The access tokens as headers carry them."""
        return frozenset(each.token.reveal().encode("latin-1") for each in self.tokens)

    @cached_property
    def cooldowns(self) -> bool:
        """Whether a provider may cool down: never the only one that is enabled."""
        return len(self.active) > 1

    def provider(self, name: str) -> Provider | None:
        """The provider of that name, the primary included."""
        return next((provider for provider in self.chain if provider.name == name), None)


def mapped_model(model: str, mapping: Mapping[str, str]) -> str:
    """The name that a mapping gives to a model; the model itself where no row matches."""
    found = find_mapping(model, mapping)
    return model if found is None else found


def find_mapping(model: str, mapping: Mapping[str, str]) -> str | None:
    """The name that a mapping gives to a model; `None` where no row matches.

    An exact row wins over the longest matching glob. A row without `[1m]` matches a model with it
    too.
    """
    names = (model, model.removesuffix(LONG_CONTEXT))
    for name in names:
        if name in mapping:
            return mapping[name]
    for name in names:
        globs = [glob for glob in mapping if fnmatchcase(name, _with_literal_suffix(glob))]
        if globs:
            return mapping[max(globs, key=len)]
    return None


def _with_literal_suffix(glob: str) -> str:
    """A glob in which `[1m]` at the end is text, not a set of characters."""
    if glob.endswith(LONG_CONTEXT):
        return glob.removesuffix(LONG_CONTEXT) + "[[]1m]"
    return glob
