"""The log's events, one struct each, and the record that carries an event.

A record is one line of the log; the fields of its event are the line's `data`. Everything that
counts, shows or explains events tells them apart by their type. To add an event, add a struct.

Reading never fails on a line that is JSON: a log outlives the version that wrote it, and other
programs may have written to it. A member of the wrong type counts as missing.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cache, lru_cache
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from ccfallback.printable import printable
from ccfallback.words import format_seconds, label

CLIENT_LEFT: Final = 499
"""The status of a request whose client disconnected before the answer was complete."""

TOO_LONG: Final = "too-long"
"""The reason of a skip: the request does not fit the provider's context window."""

QUOTA: Final = "quota"
"""The reason of a skip: a window of the primary's plan is used too far for this request."""

DISABLED: Final = "disabled"
HEADER: Final = "header"
ROUTE: Final = "route"
"""Why a provider is not in a request's chain: the configuration disables it, a header of the
request excludes it, or the route of the request's class does not name it."""

COOLING: Final = "cooling-down"
"""Why a session leaves a provider: its breaker is open."""

SPEND_CAP: Final = "spend-cap"
TOKEN_CAP: Final = "token-cap"
"""The reason of a skip: the provider, or the client's access token, has cost as much as it may."""

SIDE_LEVEL: Final = "debug"
"""The level of everything about a side endpoint such as `count_tokens`; it is counted nowhere."""

Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""A count, a status, or a moment in milliseconds. Any other number is missing after it was read:
a sum of it might be more than JSON, a chart or a clock can hold."""

Dollars = Annotated[float, msgspec.Meta(ge=0, lt=1e9)]
"""US dollars; the same holds for it."""

Duration = Annotated[float, msgspec.Meta(ge=0, lt=1e12)]
"""A duration in milliseconds or seconds; the same holds for it."""


def milliseconds(seconds: float | None) -> int | None:
    """Seconds as milliseconds, which scripts and the log get."""
    return None if seconds is None else round(seconds * 1000)


class Event(msgspec.Struct, rename="camel", kw_only=True, gc=False):
    """What happened. Times are Unix milliseconds, `UNSET` members are not written."""

    name: ClassVar[str] = ""
    level: ClassVar[str] = "info"

    def describe(self) -> str:
        """A sentence for a person that follows from the fields; empty for most events.

        Events of every request have one, so that it is made when the record is.
        """
        return ""


EVENTS: Final[dict[str, type[Event]]] = {}
"""Every event by its name."""

K = TypeVar("K", bound=type[Event])


def named(name: str, *, level: str = "info") -> Callable[[K], K]:
    """Give an event its name in the log, and the level at which it is logged."""

    def register(kind: K) -> K:
        kind.name, kind.level = name, level
        EVENTS[name] = kind
        return kind

    return register


@named("request.reduced", level="debug")
class RequestReduced(Event):
    """Parts of a request have no counterpart in the provider's format."""

    provider: str = ""
    omitted: list[str] = []


class UnknownEvent(Event):
    """An event of another version, or of another program."""

    provider: str | None = None


@named("server.start")
class ServerStart(Event):
    """The server listens."""

    url: str = ""
    version: str = ""
    pid: Count | None = None
    providers: list[str] = []
    problems: list[str] | UnsetType = UNSET
    """What is wrong with proxy variables and files of certificates that the user named."""


@named("server.drain")
class ServerDrain(Event):
    """The server stops accepting requests, and lets the answers under way finish."""

    answers: Count = 0


@named("server.handover")
class ServerHandover(Event):
    """The server has given its listening socket to the next one."""


@named("server.stop")
class ServerStop(Event):
    """The server has stopped."""


@named("server.error", level="error")
class ServerError(Event):
    """An exception that no code expected."""


@named("config.load")
class ConfigLoad(Event):
    """The configuration was read again."""

    path: str = ""
    providers: list[str] | UnsetType = UNSET


@named("config.error", level="error")
class ConfigRejected(Event):
    """The configuration can't be used; the previous one stays."""

    path: str = ""


@named("state.error", level="error")
class StateFailed(Event):
    """The state can't be read or saved."""


@named("state.saved")
class StateSaved(Event):
    """The state can be saved again."""


@named("state.corrupt", level="error")
class StateCorrupt(Event):
    """The state file was unreadable and has been moved to `path`."""

    path: str = ""


@named("log.error", level="error")
class LogError(Event):
    """The log can't be written."""


@named("notify.error", level="warn")
class NotifyError(Event):
    """The command of `[notify]` failed."""


@named("files.open", level="warn")
class FilesOpen(Event):
    """Other users can open a file that is private."""

    path: str = ""


@named("auth.failure", level="warn")
class AuthFailure(Event):
    """A request was refused for its token, its `Host` or its `Origin`."""

    path: str = ""
    status: Count | None = None
    client: str | UnsetType = UNSET
    """As in `RequestStart`."""


@named("credential.failure", level="warn")
class CredentialFailure(Event):
    """A provider's credential ends soon and could not be renewed."""

    provider: str = ""


@named("client.refused", level="warn")
class ClientRefused(Event):
    """A request was malformed HTTP."""

    status: Count | None = None


@named("request.start")
class RequestStart(Event):
    """A request came in, and has a chain of candidate providers."""

    model: str = ""
    stream: bool | None = None
    bytes: Count | None = None
    chain: list[str] = []
    left_out: dict[str, str] = {}
    """Configured providers that are not in the chain: `disabled`, `header` or `route`."""
    session: str | None = None
    """A hash of the session's id."""
    request_class: str | None = msgspec.field(default=None, name="class")
    """What Claude Code says that it is: `main`, `subagent`, …; and the type of its agent."""
    agent: str | None = None
    token: str | UnsetType = UNSET
    """The label of the client's access token, if there are any: a note or a hash."""
    client: str | UnsetType = UNSET
    """The address of a client on another machine, or behind a trusted proxy."""

    def describe(self) -> str:
        """What the client asks for."""
        kind = "stream" if self.stream else "whole answer"
        return f"{self.model or 'no model'}, {kind}, {(self.bytes or 0) / 1000:.1f} kB"


class RequestEnd(Event):
    """A request ended. Durations are milliseconds since it came in."""

    provider: str | None = None
    model: str | None = None
    status: Count | None = None
    latency: Duration | None = None
    ttft: Duration | None = None
    attempts: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    cost: Dollars | None = None
    """US dollars; 0 if a plan pays, and `None` if the price is unknown."""
    cache: Duration | None = None
    """The share of the prompt that the provider's cache held, from 0 to 1."""
    stream: bool | None = None
    uncounted: dict[str, int] | UnsetType = UNSET
    """Failed attempts that no breaker counts, by provider: this machine's own network was down."""
    request_class: str | UnsetType = msgspec.field(default=UNSET, name="class")
    token: str | UnsetType = UNSET
    """The label of the client's access token."""

    @property
    def tokens(self) -> dict[str, int]:
        """The tokens that are known, by kind."""
        counts = (
            ("input", self.input_tokens),
            ("output", self.output_tokens),
            ("cache_read", self.cache_read_tokens),
            ("cache_write", self.cache_write_tokens),
        )
        return {kind: count for kind, count in counts if count is not None}

    @property
    def took(self) -> str:
        """How long the request has taken, and how many attempts."""
        attempts = self.attempts or 0
        after = "" if attempts <= 1 else f" after {attempts} attempts"
        return f"{format_seconds((self.latency or 0.0) / 1000)}{after}"

    @property
    def client_left(self) -> bool:
        """Whether the client disconnected, which is neither an answer nor a failure."""
        return self.status == CLIENT_LEFT


@named("request.complete")
class RequestComplete(RequestEnd):
    """The client got a whole answer."""

    def describe(self) -> str:
        """Which provider has answered, how fast, and how much it has read and written."""
        text = f"answered by {self.provider} in {self.took}"
        if self.output_tokens is None:
            return text
        read = self.input_tokens
        if read is not None:
            read += (self.cache_read_tokens or 0) + (self.cache_write_tokens or 0)
        return f"{text}, {read or 0} tokens in, {self.output_tokens} out"


@named("request.error", level="warn")
class RequestError(RequestEnd):
    """The client got an error, half an answer, or left."""

    error: str | None = None
    told: dict[str, str] | UnsetType = UNSET
    """Headers of an error of our own that say whether, and when, to try again."""


class ProviderEvent(Event):
    """An event at a provider."""

    provider: str = ""
    key: Count | UnsetType = UNSET
    """The number of the key, if the provider has several."""


@named("provider.attempt")
class ProviderAttempt(ProviderEvent):
    """A request is about to be sent to a provider."""

    attempt: Count | None = None
    reason: str = ""
    """Why it is made: `first`, `failover`, `retry`, `rectified`, `safety-valve`, …"""
    after: str | None = None
    """The fault of the attempt before."""
    host: str = ""
    model: str = ""
    """The model by the provider's own name."""

    def describe(self) -> str:
        """Which provider is tried, and why unless it is the first."""
        how = "" if self.reason == "first" else f" ({self.reason})"
        return f"trying {label(self.provider, self.key or 0)}{how}"


class AttemptEnd(ProviderEvent):
    """An attempt ended, after so many milliseconds."""

    attempt: Count | None = None
    """Missing where an answer broke off after the commit point."""
    status: Count | None = None
    ms: Duration | None = None
    prevented: list[str] | UnsetType = UNSET
    """Repairs that were applied before sending, because this provider needed them before."""


@named("provider.success")
class ProviderSuccess(AttemptEnd):
    """The provider answers."""

    def describe(self) -> str:
        """Which provider answers, and after how long."""
        after = format_seconds((self.ms or 0.0) / 1000)
        return f"{label(self.provider, self.key or 0)} answers after {after}"


class AttemptFailure(AttemptEnd):
    """The provider failed, before the commit point or after it."""

    fault: str = ""
    reason: str = ""
    """What went wrong, in a few words."""


@named("provider.failure", level="warn")
class ProviderFailure(AttemptFailure):
    """The provider answered an error, or could not be reached."""

    error: str | None = None
    """The provider's own words."""
    until: Count | None = None
    """When the provider expects to be back, and the header that holds that time."""
    hint: str | None = None


@named("provider.timeout", level="warn")
class ProviderTimeout(AttemptFailure):
    """The provider was too slow."""

    timeout: str | None = None
    """The option that sets the timeout, and its value."""
    seconds: Duration | None = None
    why: str | UnsetType = UNSET
    """What the value follows from, if it is not the configured one."""


@named("circuit_breaker.skip")
class CircuitBreakerSkip(ProviderEvent):
    """A provider is skipped: it cools down, another request probes it, or this one is too long."""

    cooldown_until: Count | None = None
    reason: str | None = None
    model: str | None = None
    """The one model that cools down; all of them where it is missing."""
    failures: Count | None = None
    last_failure: Count | None = None
    since: Count | None = None
    probe: bool = False
    """Whether the cooldown is over and another request probes the provider."""
    why: str | UnsetType = UNSET
    """What `quota` means here, in a few words; then the provider is tried after the others."""


@named("quota.reading", level="debug")
class QuotaReading(ProviderEvent):
    """An answer of the primary says how far the windows of its plan are used."""

    login: str | None = None
    """The hash of the credential."""
    status: str | None = None
    utilization: dict[str, float] = {}
    """By window; 1 is all of it."""


@named("quota.switch")
class QuotaSwitch(ProviderEvent):
    """A window of the primary's plan moves requests to the fallbacks, or back to the primary."""

    login: str | None = None
    """The hash of the credential."""
    window: str = ""
    to: str = ""
    """`fallbacks` or `primary`."""
    utilization: float | None = None
    until: Count | None = None
    """When the window resets."""


@named("circuit_breaker.cooldown", level="warn")
class CircuitBreakerCooldown(ProviderEvent):
    """A provider starts to cool down."""

    by: str | UnsetType = UNSET
    """`cli` where a person did it."""
    model: str | None = None
    cooldown_until: Count | None = None
    seconds: Duration | None = None
    failures: Count | None = None
    reason: str | None = None
    hint: str | None = None
    """The header that asked for it."""


@named("circuit_breaker.reset")
class CircuitBreakerReset(ProviderEvent):
    """A cooldown is over: by a `success`, or by a person (`cli`)."""

    by: str = ""


@named("failback.stay")
class FailbackStay(Event):
    """A session stays with the fallback that has its prompt in a warm cache."""

    provider: str = ""
    first: str = ""
    """The provider that it would go to otherwise."""
    age: Duration | None = None
    """Seconds since the last answer of the fallback."""
    tokens: Count | None = None
    """The tokens that the other provider would have to read anew; missing if unknown."""
    cost: Dollars | None = None
    """US dollars that this would cost; missing if unknown, or if a plan pays."""


@named("failback.return")
class FailbackReturn(Event):
    """A session leaves the fallback that has served it."""

    provider: str = ""
    """The provider that it goes to."""
    left: str = ""
    reason: str = ""
    """`pause`, `compacted`, `warm-cache` (of the provider that it goes to) or `unavailable`."""
    why: str | UnsetType = UNSET
    """Why that fallback is not available: `cooling-down`, `spend-cap`, `too-long`, `disabled`, …"""
    age: Duration | None = None


@named("safety_valve.triggered", level="warn")
class SafetyValveTriggered(ProviderEvent):
    """A provider is tried although it cools down, because no other is left."""

    cooldown_until: Count | None = None


@named("rectifier.attempt")
class RectifierAttempt(Event):
    """A refused request was repaired and is sent again.

    The difference is measured, in names and counts: members of the body, flags of
    `anthropic-beta`, messages of a role or blocks of a kind, renamed tools, switched quirks.
    """

    provider: str = ""
    rectifier: str = ""
    changed: str = ""
    removed: list[str] | UnsetType = UNSET
    added: list[str] | UnsetType = UNSET
    rewritten: list[str] | UnsetType = UNSET
    betas: list[str] | UnsetType = UNSET
    counts: dict[str, int] | UnsetType = UNSET
    renamed: int | UnsetType = UNSET
    quirks: list[str] | UnsetType = UNSET
    error: str | None = None
    """The refusal, in the provider's own words."""


@named("rectifier.applied")
class RectifierApplied(Event):
    """The provider accepted a repaired request."""

    provider: str = ""
    rectifier: str = ""
    changed: str = ""
    learned: bool = False


@named("spend.cap")
class SpendCap(Event):
    """A provider is skipped: it, or the client's token, has cost as much as it may. Money is in US
    dollars."""

    provider: str = ""
    token: str | UnsetType = UNSET
    """The label of the token whose cap it is; missing for the provider's own."""
    period: str = ""
    """`day` or `month`."""
    cap: Dollars | None = None
    spent: Dollars | None = None
    reserved: Dollars | None = None
    """What requests in flight may cost."""
    until: Count | None = None
    """When the period ends."""


@named("chain.check")
class ChainCheck(Event):
    """This server has checked the providers, because it was time."""

    ready: Count | None = None
    """How many have answered."""
    failed: list[str] = []
    cost: Dollars | None = None


@named("ledger.error", level="error")
class LedgerFailed(Event):
    """The ledger can't be written; costs are kept in memory."""


@named("request.debug_curl", level="debug")
class RequestDebugCurl(Event):
    """A command that repeats a failed request, without its secrets."""

    provider: str = ""


E = TypeVar("E", bound=Event, covariant=True)


class Record(msgspec.Struct, Generic[E], rename="camel", gc=False):
    """One line of the log."""

    timestamp: str = ""
    """ISO 8601 in UTC, to the millisecond."""
    level: str = ""
    event: str = ""
    message: str = ""
    """A sentence for a person; `data` says the same to a program."""
    request_id: str | None = None
    data: E = msgspec.field(default_factory=UnknownEvent)  # type: ignore[assignment]  # stands for any

    @property
    def is_side(self) -> bool:
        """Whether it is about a side endpoint."""
        return self.level == SIDE_LEVEL

    @property
    def moment(self) -> datetime | None:
        """When it was written, with its time zone; `None` if it does not say."""
        return _moment(self.timestamp)

    @property
    def written(self) -> float | None:
        """When it was written, in Unix seconds; `None` if it does not say."""
        try:
            return None if (moment := self.moment) is None else moment.timestamp()
        except (OverflowError, OSError, ValueError):
            return None

    def matches(self, request: str) -> bool:
        """Whether it is about the request whose id begins or ends with `request`.

        The end is what `logs tail` shows, the beginning is what a person types.
        """
        found = self.request_id
        return found is not None and (found.startswith(request) or found.endswith(request))


@lru_cache(maxsize=8)
def _moment(timestamp: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


_NAME: Final = re.compile(rb'"event":"([a-z_.]+)"')
"""The event as we write it; a quote within a text would be escaped."""


@cache
def _decoder(name: bytes) -> msgspec.json.Decoder[Record[Any]] | None:
    # Made when first needed: the status line reads two kinds of events, and is to be quick.
    kind = EVENTS.get(name.decode())
    if kind is None:
        return None
    return msgspec.json.Decoder(Record[kind])  # type: ignore[valid-type]  # not known to mypy


def decode(line: bytes) -> Record[Event] | None:
    """The record of a line; `None` if the line is not a JSON object."""
    found = _NAME.search(line)
    decoder = None if found is None else _decoder(found[1])
    if decoder is not None:
        with suppress(ValueError, RecursionError):
            record: Record[Event] = decoder.decode(line)
            if type(record.data).name == record.event:
                return record
    try:
        raw = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return None
    return record_from(raw) if isinstance(raw, dict) else None


def record_from(raw: Mapping[str, Any]) -> Record[Event]:
    """A record made of JSON values, without the members that have a wrong type."""
    name = raw.get("event")
    kind = EVENTS.get(name, UnknownEvent) if isinstance(name, str) else UnknownEvent
    record: Record[Event] = Record(**_readable(Record, {**raw, "data": {}}))
    data = raw.get("data")
    record.data = kind(**_readable(kind, data)) if isinstance(data, Mapping) else kind()
    return record


def _readable(kind: type[msgspec.Struct], raw: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name in raw and field.name != "data":
            with suppress(msgspec.ValidationError, RecursionError):
                found[field.name] = msgspec.convert(raw[field.encode_name], field.type)
    return found


def all_printable(value: Any) -> Any:
    """A value, every text in it made printable."""
    match value:
        case str():
            return printable(value)
        case list():
            return [all_printable(each) for each in value]
        case dict():
            return {all_printable(key): all_printable(each) for key, each in value.items()}
        case msgspec.Struct():
            names = value.__struct_fields__
            return type(value)(**{name: all_printable(getattr(value, name)) for name in names})
        case _:
            return value
