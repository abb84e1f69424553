"""Turn a table, as TOML gave it, into a `Config`, or name everything that is wrong with it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from ccfallback.config import checks
from ccfallback.config.checks import Reader
from ccfallback.config.model import (
    LEVELS,
    NO_ITEMS,
    PRIMARY_NAME,
    PRIMARY_URL,
    Breaker,
    Config,
    Failover,
    KeySource,
    Log,
    Privacy,
    Provider,
    Rectifiers,
    Server,
    Timeouts,
    Token,
)
from ccfallback.config.quirks import CHECKS, Quirks
from ccfallback.errors import ConfigError, ConfigFault
from ccfallback.redact import Secret

Names = Callable[[], Iterable[str]]

DAY: Final = 86400.0


class FormatDefaults(Protocol):
    """What a wire format gives to its providers where the configuration says nothing."""

    @property
    def auth_header(self) -> str:
        """The header that carries the key."""

    @property
    def idle_timeout(self) -> float | None:
        """Seconds between two reads of an answer; `None` leaves `[timeouts] idle` as it is."""


NAME = checks.pattern(
    r"[A-Za-z0-9._-]{1,64}", "1 to 64 letters, digits, dots, underscores or hyphens"
)


def parse(
    table: Mapping[str, Any],
    *,
    formats: Mapping[str, FormatDefaults],
    rectifiers: Names | None = None,
    source: str = "the configuration",
) -> Config:
    """The configuration that `table` describes.

    Raises `ConfigError` with every fault when there is one. `formats` are the wire formats that
    a provider may name; `source` is where the table came from, for the message.
    """
    faults: list[ConfigFault] = []
    root = Reader(table, "", faults)
    timeouts = root.section("timeouts")
    shared = _timeouts(timeouts, Timeouts())
    timeouts.finish()
    idle_is_set = "idle" in timeouts.table
    config = Config(
        server=_server(root.section("server")),
        primary=_primary(root.section("primary"), shared),
        failover=_failover(root.section("failover")),
        breaker=_breaker(root.section("breaker")),
        rectifiers=_rectifiers(root.section("rectifier"), rectifiers),
        privacy=_privacy(root.section("privacy")),
        log=_log(root.section("log")),
        proxy=_network(root.section("network")),
        providers=_providers(root, formats, shared, idle_is_set=idle_is_set),
        tokens=_tokens(root),
    )
    root.finish()
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        listed = "; ".join(str(fault) for fault in faults)
        raise ConfigError(
            f"{source} has {count}: {listed}",
            "mend it with `ccfallback config edit`",
            faults=faults,
        )
    return config


def _server(reader: Reader) -> Server:
    default = Server()
    server = Server(
        host=reader.get("host", checks.text, default.host),
        port=reader.get("port", checks.integer(0, 65535), default.port),
        max_body_bytes=reader.get(
            "max_body_bytes", checks.integer(1024, 1 << 31), default.max_body_bytes
        ),
        allowed_hosts=reader.get("allowed_hosts", checks.texts, ()),
        allowed_origins=reader.get("allowed_origins", checks.texts, ()),
    )
    reader.finish()
    return server


def _failover(reader: Reader) -> Failover:
    failover = Failover(statuses=reader.get("on", checks.statuses, Failover().statuses))
    reader.finish()
    return failover


def _breaker(reader: Reader) -> Breaker:
    default = Breaker()
    breaker = Breaker(
        max_cooldown=reader.get("max_cooldown", checks.seconds(0, 7 * DAY), default.max_cooldown),
        honor_reset=reader.get("honor_reset", checks.boolean, default.honor_reset),
        max_reset=reader.get("max_reset", checks.seconds(0, 31 * DAY), default.max_reset),
        network_wait=reader.get("network_wait", checks.seconds(0, 300), default.network_wait),
    )
    reader.finish()
    return breaker


def _rectifiers(reader: Reader, names: Names | None) -> Rectifiers:
    enabled = reader.get("enabled", checks.boolean, True)
    given = [key for key in reader.table if key != "enabled"]
    # The names are looked up only where some are written: each is a module.
    known = set(names()) if given and names is not None else set(given)
    switches = {name: reader.get(name, checks.boolean, True) for name in sorted(known)}
    reader.finish()
    return Rectifiers(
        enabled=enabled, off=frozenset(name for name, on in switches.items() if not on)
    )


def _privacy(reader: Reader) -> Privacy:
    mode = reader.get("billing_header", checks.choice(("strip", "keep")), "strip")
    reader.finish()
    return Privacy(strip_billing_header=mode == "strip")


def _log(reader: Reader) -> Log:
    default = Log()
    log = Log(
        level=reader.get("level", checks.choice(LEVELS), default.level),
        max_bytes=reader.get("max_bytes", checks.integer(1024, 1 << 40), default.max_bytes),
        backups=reader.get("backups", checks.integer(0, 10_000), default.backups),
    )
    reader.finish()
    return log


def _network(reader: Reader) -> str | None:
    proxy = reader.get("proxy", checks.proxy_url, "")
    reader.finish()
    return proxy or None


def _timeouts(reader: Reader, default: Timeouts) -> Timeouts:
    limit = checks.seconds(0.05, DAY)
    return Timeouts(
        connect=reader.get("connect", limit, default.connect),
        first_byte=reader.get("first_byte", limit, default.first_byte),
        non_streaming=reader.get("non_streaming", limit, default.non_streaming),
        idle=reader.get("idle", limit, default.idle),
    )


def _primary(reader: Reader, shared: Timeouts) -> Provider:
    provider = Provider(
        name=PRIMARY_NAME,
        primary=True,
        **_upstream(reader, Config().primary.auth_header, shared, PRIMARY_URL),
    )
    reader.finish()
    return provider


def _providers(
    root: Reader, formats: Mapping[str, FormatDefaults], shared: Timeouts, *, idle_is_set: bool
) -> tuple[Provider, ...]:
    providers: list[Provider] = []
    for index, table in enumerate(_tables(root, "providers")):
        named = table.get("name") if isinstance(table, Mapping) else None
        label = named if isinstance(named, str) and named else str(index + 1)
        reader = Reader(table, f"providers.{label}", root.faults)
        name = reader.get("name", NAME, "")
        if "name" not in reader.table:
            reader.fault("name", "nothing", "a name")
        elif name == PRIMARY_NAME:
            reader.fault("name", f'"{name}"', "another name: this is the primary's")
        elif name and any(name == other.name for other in providers):
            reader.fault("name", f'"{name}" twice', "a name of its own for each provider")
        wire_format = reader.get("format", checks.choice(formats), "anthropic")
        if "base_url" not in reader.table:
            reader.fault("base_url", "nothing", "the URL of the provider")
        defaults = formats[wire_format]
        limits = shared
        if not idle_is_set and defaults.idle_timeout is not None:
            limits = replace(shared, idle=defaults.idle_timeout)
        providers.append(
            Provider(
                name=name or label,
                format=wire_format,
                quirks=_quirks(reader),
                **_upstream(reader, defaults.auth_header, limits, ""),
            )
        )
        reader.finish()
    return tuple(providers)


def _upstream(reader: Reader, auth_header: str, shared: Timeouts, base_url: str) -> dict[str, Any]:
    """What the primary and the other providers have in common, as arguments of `Provider`."""
    limits = reader.section("timeouts")
    upstream = {
        "base_url": reader.get("base_url", checks.http_url, base_url),
        "key": _key(reader),
        "auth_header": reader.get("auth_header", checks.header_name, auth_header),
        "retry": reader.get("retry", checks.integer(0, 10), 0),
        "disabled": reader.get("disabled", checks.boolean, False),
        "headers": reader.get("headers", checks.header_map, NO_ITEMS),
        "model_mapping": reader.get("model_mapping", checks.text_map, NO_ITEMS),
        "timeouts": _timeouts(limits, shared),
    }
    limits.finish()
    return upstream


def _quirks(reader: Reader) -> Quirks:
    default = Quirks()
    values = {
        name: reader.get(name, check, getattr(default, name)) for name, check in CHECKS.items()
    }
    return Quirks(**values)


def _key(reader: Reader) -> KeySource:
    literal = reader.get("api_key", checks.key_text, "")
    env = reader.get(
        "api_key_env",
        checks.pattern(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable", hide=True),
        "",
    )
    no_command: tuple[str, ...] = ()
    command = reader.get("api_key_command", checks.command, no_command)
    given = [key for key in ("api_key", "api_key_env", "api_key_command") if key in reader.table]
    if len(given) > 1:
        reader.fault(given[1], f"beside {given[0]}", "one source for the key")
    return KeySource(
        literal=Secret(literal) if literal else None,
        env=env or None,
        command=command or None,
    )


def _tokens(root: Reader) -> tuple[Token, ...]:
    tokens: list[Token] = []
    for index, table in enumerate(_tables(root, "tokens")):
        reader = Reader(table, f"tokens.{index + 1}", root.faults)
        token = reader.get("token", checks.key_text, "")
        if "token" not in reader.table:
            reader.fault("token", "nothing", "an access token")
        elif token and any(token == other.token.reveal() for other in tokens):
            reader.fault("token", "one that is there already", "a token of its own for each")
        tokens.append(Token(token=Secret(token), note=reader.get("note", checks.note, "")))
        reader.finish()
    return tuple(tokens)


def _tables(root: Reader, key: str) -> list[Any]:
    def check(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise checks.Expected(f"[[{key}]] tables", hide=True)
        return value

    return root.get(key, check, [])
