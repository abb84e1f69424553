"""Read a table, as TOML gave it, into a `Config`, or name everything that is wrong with it.

Messages and commands use dotted keys: `server.port`, `providers.spare.retry`. A provider is named
by its name, a token by its number; the primary's name means `[primary]`.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from msgspec.structs import replace

from ccfallback.config import checks
from ccfallback.config.model import (
    PRIMARY_NAME,
    SECTIONS,
    Config,
    KeySource,
    Provider,
    Rectifiers,
    Routes,
    Timeouts,
    Token,
)
from ccfallback.config.options import Reader, options, scrub_values, to_table
from ccfallback.config.platforms import find_platform
from ccfallback.error_codes import ErrorCode
from ccfallback.errors import ConfigError, ConfigFault, ProviderNotFound
from ccfallback.redact import Secret, scrub_misplaced
from ccfallback.words import did_you_mean, pluralize

Names = Callable[[], Iterable[str]]

FindRegion = Callable[[str | None], str]
"""Finds the AWS region that this machine names for a profile, or for its usual one; empty if it
names none."""


class FormatDefaults(Protocol):
    """What a wire format gives to its providers where the configuration says nothing."""

    @property
    def endpoint(self) -> str:
        """The end of the path of a base URL that means this format; empty for none."""

    @property
    def auth_header(self) -> str:
        """The header that carries the key."""

    @property
    def idle_timeout(self) -> float | None:
        """Seconds between two reads of an answer; `None` leaves `[timeouts] idle` as it is."""

    def default_base_url(self, provider: Provider) -> str | None:
        """The base URL of a provider whose table has none; `None` if it needs one."""


def parse(
    table: Mapping[str, Any],
    *,
    formats: Mapping[str, FormatDefaults],
    rectifiers: Names | None = None,
    source: str = "the configuration",
    text: str = "",
    find_region: FindRegion = lambda _profile: "",
) -> Config:
    """The configuration that `table` describes.

    `formats` and `rectifiers` are the names that it may use. For the message, `source` is where the
    table came from, and `text` the TOML text that it was parsed from, if there is one. Raises
    `ConfigError` with every fault.
    """
    faults: list[ConfigFault] = []
    root = Reader(table, "", faults)
    base = Config()
    timeouts = _timeouts(root, base.primary.timeouts)
    routes = root.below("routes")
    config = Config(
        server=root.section("server", base.server),
        primary=_primary(root, replace(base.primary, timeouts=timeouts)),
        failover=root.section("failover", base.failover),
        breaker=root.section("breaker", base.breaker),
        check=root.section("check", base.check),
        quota=root.section("quota", base.quota),
        failback=root.section("failback", base.failback),
        routes=routes.fill(base.routes),
        rectifiers=_rectifiers(root.below("rectifier"), rectifiers),
        privacy=root.section("privacy", base.privacy),
        notify=root.section("notify", base.notify),
        log=root.section("log", base.log),
        network=root.section("network", base.network),
        state=root.section("state", base.state),
        providers=_providers(root, formats, timeouts, find_region),
        tokens=_tokens(root),
    )
    routes.finish()
    _check_routes(routes, config)
    root.finish()
    if faults:
        from ccfallback.config.lines import find_line, index_lines

        lines = index_lines(text)
        located = [fault._replace(line=find_line(lines, fault.place)) for fault in faults]
        raise ConfigError(
            "" if len(faults) == 1 else f"{source} has {pluralize(len(faults), 'fault')}",
            "fix it with `ccfallback config edit`",
            faults=sorted(located, key=lambda fault: fault.line or 0),
            source=source,
            code=ErrorCode.BROKEN_CONFIG,
        )
    return config


def _primary(root: Reader, base: Provider) -> Provider:
    reader = root.below("primary")
    primary = reader.fill(base, primary=True, skip=["timeouts"])
    primary = replace(primary, timeouts=_timeouts(reader, base.timeouts))
    _refuse_second_key_source(reader)
    reader.finish()
    return primary


def _timeouts(reader: Reader, base: Timeouts) -> Timeouts:
    """The timeouts of a table, with `base` where it sets none."""
    timeouts = reader.section("timeouts", base)
    table = reader.table.get("timeouts")
    if isinstance(table, Mapping) and "first_byte" in table:
        timeouts = replace(timeouts, is_patient=False)
    return timeouts


def _providers(
    root: Reader,
    formats: Mapping[str, FormatDefaults],
    shared: Timeouts,
    find_region: FindRegion,
) -> tuple[Provider, ...]:
    providers: list[Provider] = []
    names: set[str] = set()
    timeouts = root.table.get("timeouts")
    idle_is_set = isinstance(timeouts, Mapping) and "idle" in timeouts
    for index, table in enumerate(_tables(root, "providers")):
        named = table.get("name") if isinstance(table, Mapping) else None
        label = _label(named) or str(index + 1)
        reader = Reader(table, f"providers.{label}", root.faults, ("providers", index))
        # Other defaults depend on the format.
        base = Provider(name=label, base_url="")
        implied = implied_format(reader.table, formats) or base.format
        wire_format = reader.get("format", checks.choice(formats), implied)
        defaults = formats[wire_format]
        limits = shared
        if not idle_is_set and defaults.idle_timeout is not None:
            limits = replace(shared, idle=defaults.idle_timeout)
        base = replace(base, format=wire_format, auth_header=defaults.auth_header, timeouts=limits)
        skip = ["format", "timeouts"]
        if "base_url" not in reader.table and defaults.default_base_url(base) is not None:
            skip.append("base_url")
        provider = reader.fill(base, skip=skip)
        provider = replace(provider, timeouts=_timeouts(reader, base.timeouts))
        if not provider.region and _is_of_aws(provider):
            provider = replace(provider, region_here=find_region(provider.aws.profile))
        if not provider.base_url and "base_url" in skip:
            provider = replace(provider, base_url=defaults.default_base_url(provider) or "")
        _refuse_second_key_source(reader)
        if provider.name == PRIMARY_NAME:
            reader.fault("name", f'"{PRIMARY_NAME}"', "another name: this is the primary's")
        elif provider.name in names:
            found = f"{checks.describe(provider.name)} twice"
            reader.fault("name", found, "a different name for each provider")
        reader.finish()
        names.add(provider.name)
        providers.append(provider)
    return tuple(providers)


def _is_of_aws(provider: Provider) -> bool:
    """Whether its address, its login or the ids of its models depend on an AWS region."""
    by_format = find_platform(provider.format, provider.base_url)
    places = (provider.platform, by_format)
    return provider.auth == "aws" or any(each.has_geographies for each in places)


def _label(name: Any) -> str:
    """What messages call a provider of that name; empty if it has none."""
    if not isinstance(name, str):
        return ""
    try:
        return checks.provider_name(name)
    except checks.Expected:
        return scrub_misplaced(name)


def implied_format(table: Mapping[str, Any], formats: Mapping[str, FormatDefaults]) -> str | None:
    """The format that a provider's URL means where its table names none; `None` if it is open."""
    url = table.get("base_url")
    if "format" in table or not isinstance(url, str):
        return None
    path = re.split("[?#]", url.strip())[0].rstrip("/").lower()
    if "/" not in path.partition("://")[2]:
        return None
    found = (
        name for name, each in formats.items() if each.endpoint and path.endswith(each.endpoint)
    )
    return next(found, None)


def _refuse_second_key_source(reader: Reader) -> None:
    given = [row.key for row in options(KeySource) if row.key in reader.table]
    if len(given) > 1:
        reader.fault(given[1], f"both {given[0]} and {given[1]}", "one source for the key")


def _check_routes(reader: Reader, config: Config) -> None:
    """Refuse names that no provider has."""
    for row in options(Routes):
        for name in config.routes.get(row.key) or ():
            if config.provider(name) is None:
                meant = did_you_mean(name, config.names)
                known = f"one of {', '.join(config.names)}"
                expected = f"{known}; {meant}" if meant else known
                reader.fault(row.key, checks.describe(name), expected)


def _rectifiers(reader: Reader, names: Names | None) -> Rectifiers:
    rectifiers = reader.fill(Rectifiers())
    given = [key for key in reader.table if key != "enabled"]
    # The names are looked up only if a switch is set, because that imports every rectifier.
    known = set(names()) if given and names is not None else set(given)
    off = {name for name in sorted(known) if not reader.get(name, checks.boolean, True)}
    reader.finish()
    return replace(rectifiers, off=frozenset(off))


def _tokens(root: Reader) -> tuple[Token, ...]:
    tokens: list[Token] = []
    known: set[Secret] = set()
    for index, table in enumerate(_tables(root, "tokens")):
        reader = Reader(table, f"tokens.{index + 1}", root.faults, ("tokens", index))
        token = reader.fill(Token(token=Secret("")))
        if token.token.reveal() and token.token in known:
            reader.fault("token", "the same token twice", "a different token for each client")
        known.add(token.token)
        tokens.append(token)
        reader.finish()
    notes = [token.note.strip() for token in tokens]
    return tuple(
        replace(token, is_note_taken=note in notes[:index])
        for index, (token, note) in enumerate(zip(tokens, notes, strict=True))
    )


def _tables(root: Reader, key: str) -> list[Any]:
    def check(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise checks.Expected(f"[[{key}]] tables", hide=True)
        return value

    return root.get(key, check, [])


def defaults(config: Config) -> dict[str, Any]:
    """The value of each key that the file does not set; None for an unset option."""
    found: dict[str, Any] = {
        section: {row.key: row.default for row in options(kind)}
        for section, kind in SECTIONS.items()
    }
    found["primary"] = to_table(config.primary, primary=True)
    found["providers"] = [to_table(provider) for provider in config.providers]
    return {**found, "tokens": []}


def mask_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table of the file without anything that must not be seen."""
    rows = options(*SECTIONS.values(), Token, deep=True)
    masks = {row.key: row for row in rows if row.mask is not None}

    def mask(key: str, value: Any) -> Any:
        if key in masks and masks[key].accepts(value):
            return masks[key].mask_value(value)
        if isinstance(value, Mapping):
            return {name: mask(name, item) for name, item in value.items()}
        if isinstance(value, list):
            return [mask("", item) for item in value]
        return scrub_values(value)

    return {key: mask(key, value) for key, value in table.items()}


def look_up(key: str, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
    """The value of a dotted key in the file's `table`, otherwise its default.

    Raises `ConfigError` for a key that has neither.
    """
    parts = split_key(key, names_in(defaults))
    for source in (table, defaults):
        found: Any = source
        for part in parts:
            found = find_member(found, part)
            if found is None:
                break
        if found is not None:
            return found
    require_key(key, table, defaults)
    raise ConfigError(f"{key} is not set", "`ccfallback config show` prints what is set")


def require_key(key: str, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a key that neither the file's `table` nor any default has."""
    names = names_in(defaults)
    parts = split_key(key, names)
    known = {*dotted_keys(table), *dotted_keys(defaults)}
    show = "`ccfallback config show` prints what is set"
    if parts[0] == "providers" and len(parts) > 1 and parts[1] not in names:
        raise no_provider(parts[1], names)
    # Any text may be the name of a header or a model.
    lead = ".".join(parts[:-1])
    if ".".join(parts) in known or (lead in known and parts[-2] in _maps_of_names()):
        return
    wanted = scrub_misplaced(key)
    raise ConfigError(f"there is no key {wanted}", did_you_mean(key, sorted(known)) or show)


def dotted_keys(table: Mapping[str, Any], lead: str = "") -> Iterator[str]:
    """Every dotted key of a table."""
    for name, value in table.items():
        items = index_by_name(value) if isinstance(value, list) else value
        yield f"{lead}{name}"
        if isinstance(items, Mapping):
            yield from dotted_keys(items, f"{lead}{name}.")


def no_provider(name: str, names: Iterable[str]) -> ProviderNotFound:
    """The error about a name that no provider has."""
    return ProviderNotFound(
        f"no provider is named {name}",
        did_you_mean(name, names) or "`ccfallback providers list` shows all names",
    )


def names_in(table: Mapping[str, Any]) -> list[str]:
    """The names of a document's providers."""
    return sorted(index_by_name(table.get("providers", [])))


_PART: Final = r"""("[^"\\]+"|'[^']+'|[^."']*)"""
"""A part of a dotted key: in quotes, where nothing is escaped, or bare."""

_DEEPEST: Final = 32
"""How deep a key may be; the parsers of TOML are recursive."""


def split_key(key: str, names: Iterable[str] = ()) -> list[str]:
    """The names of the tables that a dotted key leads through, and the last key.

    A name with dots may be in quotes. It needs none if it is a header, a model, or one of the
    `names` of the providers. An option comes before a provider of the same key: with the providers
    `a` and `a.retry`, `providers.a.retry` is the option of `a`, and `providers."a.retry"` is the
    other provider.
    """
    if not re.fullmatch(rf"{_PART}(\.{_PART})*", key):
        raise _not_a_key(key)
    head, *rest = re.findall(rf"\.{_PART}", f".{key}")
    head = _unquote(head)
    if head == "providers" and rest:
        rest = _join_provider_name(rest, {*names, PRIMARY_NAME})
    rest = [_unquote(part) for part in rest]
    if head == "providers" and rest[:1] == [PRIMARY_NAME]:
        head, rest = "primary", rest[1:]
    below = {"primary": 1, "providers": 2}.get(head, len(rest))
    if rest[below:] and rest[below - 1] in _maps_of_names():
        rest = [*rest[:below], ".".join(rest[below:])]
    if not all([head, *rest]) or len(rest) > _DEEPEST:
        raise _not_a_key(key)
    return [head, *rest]


def _join_provider_name(parts: list[str], names: Collection[str]) -> list[str]:
    """The parts with the provider's name as one: the longest name before an option of a provider.

    If no name comes before an option, it is the longest name. A part in quotes is never joined.
    """
    split = (name.split(".") for name in names)
    found = [len(name) for name in split if parts[: len(name)] == name]
    keys = {row.path.partition(".")[0] for row in options(Provider, deep=True)}
    with_option = [n for n in found if n < len(parts) and _unquote(parts[n]) in keys]
    length = max(with_option or found, default=1)
    return [".".join(parts[:length]), *parts[length:]]


def _maps_of_names() -> list[str]:
    """The options of a provider whose keys are the names of headers or models."""
    return [row.key for row in options(Provider) if row.separators]


def _unquote(part: str) -> str:
    return part[1:-1] if part[:1] in ('"', "'") else part


def _not_a_key(key: str) -> ConfigError:
    return ConfigError(
        f'"{scrub_misplaced(key)}" is not a key',
        "use one such as server.port or providers.NAME.retry",
    )


def find_member(place: Any, part: str) -> Any:
    """The member of a table, or the table of a list, by its name; `None` if there is none."""
    if isinstance(place, list):
        return index_by_name(place).get(part)
    return place.get(part) if isinstance(place, Mapping) else None


def index_by_name(tables: list[Any]) -> dict[str, Any]:
    """The tables of a list by their names; a table without a name by its number."""
    return {
        str(table.get("name", number)): table
        for number, table in enumerate(tables, 1)
        if isinstance(table, Mapping)
    }
