"""The rules of failover as a table: each row is played as a dialogue and over real sockets.

`tests/policy/test_rules.py` plays it through the loop and the breaker alone, and
`tests/server/test_rules.py` through a whole proxy. The ids begin with the number of the rule.
Every row begins with one failure of the provider. So a success leaves none, another failure makes
two, and an outcome that does not count leaves one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum
from typing import Final

import msgspec

from ccfallback.policy.outcome import Blame, Fault, Outcome

MODEL: Final = "claude-x"

Headers = Callable[[float], Mapping[str, str]]
"""The headers of a response that is sent at that time."""


@dataclass(frozen=True)
class Said:
    """A refusal, as the provider sends it."""

    status: int
    kind: str = "api_error"
    message: str = "scripted"
    headers: Headers = lambda _now: {}

    @property
    def body(self) -> bytes:
        """In the usual envelope."""
        error = {"type": self.kind, "message": self.message}
        return msgspec.json.encode({"type": "error", "error": error})


class Counts(Enum):
    """What happens to the one failure that there was."""

    SUCCESS = "none is left"
    NOTHING = "it stays"
    PROVIDER = "there are two"
    MODEL = "the model has one of its own"


BLAMED: Final = {Counts.PROVIDER: Blame.PROVIDER, Counts.MODEL: Blame.MODEL}


@dataclass(frozen=True)
class Rule:
    """One row: what a provider does, and the consequences."""

    id: str
    does: Said | str
    """A refusal, or the id of a fault in the catalogue."""
    comes_to: Outcome | None = None
    """The outcome, unless it follows from a refusal."""
    goes_on: bool = True
    """Whether the next provider is tried."""
    counts: Counts = Counts.PROVIDER
    cools: float | None = None
    """Seconds of cooldown after it."""
    stream: bool = False
    at_fallback: bool = False
    torn: bool = False
    """It happens after the commit point, so no failover follows."""


UNIFIED: Final = "anthropic-ratelimit-unified-"


def _windows(rejected: Mapping[str, int], allowed: Mapping[str, int]) -> Headers:
    """Usage windows, each by its name with the seconds until it ends."""

    def headers(now: float) -> Mapping[str, str]:
        found = {f"{UNIFIED}status": "rejected", "retry-after": "5"}
        for status, windows in (("rejected", rejected), ("allowed", allowed)):
            for name, seconds in windows.items():
                found[f"{UNIFIED}{name}-status"] = status
                found[f"{UNIFIED}{name}-reset"] = str(int(now) + seconds)
        return found

    return headers


def _unified_reset(now: float) -> Mapping[str, str]:
    ends = str(int(now) + 800)
    return {f"{UNIFIED}status": "rejected", f"{UNIFIED}reset": ends, "retry-after": "5"}


def _after(value: str) -> Headers:
    return lambda _now: {"retry-after": value}


def _ms_first(_now: float) -> Mapping[str, str]:
    return {"retry-after-ms": "100000", "retry-after": "5"}


def _date(now: float) -> Mapping[str, str]:
    return {"retry-after": formatdate(int(now) + 200, usegmt=True)}


def _refused(status: int, kind: str, message: str = "scripted", note: str = "") -> Rule:
    return Rule(f"6 {status}{note}", Said(status, kind, message))


def _throttled(note: str, headers: Headers, cools: float, status: int = 429) -> Rule:
    said = Said(status, "rate_limit_error" if status == 429 else "api_error", headers=headers)
    return Rule(f"6 {status}, {note}", said, cools=cools)


def _fault(
    id_: str, fault: Fault, *, note: str = "", stream: bool = False, status: int | None = None
) -> Rule:
    cools = 30.0 if fault in (Fault.TIMEOUT, Fault.CONNECT_TIMEOUT) else None
    return Rule(f"6 {note or id_}", id_, Outcome(fault, status=status), cools=cools, stream=stream)


def _no_answer(id_: str, *, stream: bool = False) -> Rule:
    return _fault(id_, Fault.UPSTREAM, note=f"2xx but {id_}", stream=stream, status=200)


def _torn(id_: str) -> Rule:
    outcome = Outcome(Fault.TIMEOUT if id_.startswith("stall") else Fault.TORN)
    cools = 30.0 if outcome.fault is Fault.TIMEOUT else 10.0
    return Rule(
        f"6 after the commit point: {id_}",
        id_,
        outcome,
        goes_on=False,
        cools=cools,
        stream=True,
        torn=True,
    )


CREDIT: Final = "Your credit balance is too low to access the API"
OVERLOAD: Final = Outcome(Fault.OVERLOADED, status=200)
INVALID: Final = "invalid_request_error"

# fmt: off
RULES: Final = (
    Rule("6 2xx, whole", "well", Outcome(Fault.NONE, status=200), goes_on=False,
        counts=Counts.SUCCESS),
    Rule("6 2xx, a stream that ends after its stop reason", "well", Outcome(Fault.NONE, status=200),
        goes_on=False, counts=Counts.SUCCESS, stream=True),
    Rule("6 2xx, a stream that is cut after its stop reason", "no-last-event",
        Outcome(Fault.NONE, status=200), goes_on=False, counts=Counts.SUCCESS, stream=True),

    _refused(401, "authentication_error"),
    _refused(402, "billing_error"),
    _refused(403, "permission_error"),
    _refused(400, INVALID, CREDIT, ", credit"),
    _refused(400, INVALID, "see Plans & Billing", ", billing"),
    _refused(400, INVALID, "You have reached your specified API usage limits", ", spend limit"),
    _refused(400, INVALID, "This organization has been disabled.", ", disabled organization"),
    _refused(404, "not_found_error", CREDIT, ", credit"),
    _refused(404, "not_found_error", "organization is disabled", ", disabled organization"),

    _refused(429, "rate_limit_error"),
    _throttled("the latest of the rejected windows", _windows({"5h": 600, "7d": 1200}, {}), 1200),
    _throttled("a window that is allowed says nothing", _windows({"5h": 600}, {"7d": 1200}), 600),
    _throttled("the unified reset before retry-after", _unified_reset, 800),
    _throttled("retry-after-ms before retry-after", _ms_first, 100),
    _throttled("retry-after in seconds", _after("400"), 400),
    _throttled("retry-after as a date", _date, 200),
    _throttled("no longer than max_reset", _after("1000000"), 21600),
    Rule("6 429, a model's window",
        Said(429, "rate_limit_error", headers=_windows({"7d_opus": 500}, {"5h": 90})),
        counts=Counts.MODEL, cools=500),

    Rule("6 529", Said(529, "overloaded_error"), counts=Counts.MODEL),
    Rule("6 529, come back", Said(529, "overloaded_error", headers=_after("40")),
        counts=Counts.MODEL, cools=40),
    Rule("6 500, overloaded", Said(500, "api_error", "Our servers are overloaded."),
        counts=Counts.MODEL),
    Rule("6 503, overloaded", Said(503, "overloaded_error"), counts=Counts.MODEL),
    Rule("6 429, overloaded", Said(429, "overloaded_error"), counts=Counts.MODEL),
    Rule("6 404", Said(404, "not_found_error", "model: claude-x"), counts=Counts.MODEL),

    _refused(408, "timeout_error"),
    *(_refused(status, "api_error") for status in (500, 501, 502, 503, 504, 520, 524, 599)),
    _throttled("come back", _after("20"), 20, status=408),
    _throttled("come back", _after("45"), 45, status=503),
    Rule("6 redirect", "redirect", Outcome(Fault.UPSTREAM, status=302)),
    Rule("6 999", "999", Outcome(Fault.UPSTREAM)),

    _fault("refused", Fault.TRANSPORT, note="connect error: refused"),
    _fault("no-name", Fault.UNREACHABLE, note="connect error: no name resolution"),
    _fault("no-connection", Fault.CONNECT_TIMEOUT, note="connect timeout"),
    _fault("no-tls", Fault.TRANSPORT, note="TLS error"),
    _fault("reset", Fault.TRANSPORT),
    _fault("closed", Fault.TRANSPORT, note="closed without an answer"),
    _fault("half-a-head", Fault.TRANSPORT, note="closed in the head"),
    _fault("hang", Fault.TIMEOUT, note="first_byte timeout", stream=True),
    _fault("hang", Fault.TIMEOUT, note="non_streaming timeout"),
    _fault("hang-after-head", Fault.TIMEOUT, note="idle timeout of a whole answer"),
    _fault("stall-before-content", Fault.TIMEOUT, note="idle timeout before the first content",
        stream=True),

    _no_answer("html"),
    _no_answer("empty"),
    _no_answer("half-json"),
    _no_answer("other-json"),
    Rule("6 2xx but json-error", "json-error", OVERLOAD, counts=Counts.MODEL),
    Rule("6 2xx but error-first", "error-first", OVERLOAD, counts=Counts.MODEL, stream=True),
    Rule("6 2xx but error-before-content", "error-before-content", OVERLOAD, counts=Counts.MODEL,
        stream=True),
    _no_answer("no-events", stream=True),
    _no_answer("no-content", stream=True),
    _no_answer("garbage-first", stream=True),
    _fault("cut-before-content", Fault.TRANSPORT, note="2xx but cut-before-content", stream=True),

    *(Rule(f"6 {status} of the primary", Said(status, INVALID), goes_on=False,
           counts=Counts.NOTHING)
      for status in (400, 405, 409, 413, 422)),
    *(Rule(f"6 {status} of a fallback", Said(status, INVALID), at_fallback=True,
           counts=Counts.NOTHING)
      for status in (400, 405, 409, 413, 422)),

    *(_torn(id_)
      for id_ in ("cut-in-text", "reset-in-text", "stall-in-text", "end-in-text", "error-in-text",
          "garbage-in-text", "cut-after-call")),
)
# fmt: on

TIERS: Final[Mapping[int, float | None]] = {
    1: None, 2: None, 3: 30, 4: 30, 5: 60, 9: 60, 10: 300, 50: 300,
}  # fmt: skip
"""5: seconds of cooldown after so many failures in a row."""

MOST: Final = 40
CAPPED: Final[Mapping[int, float]] = {3: 30, 5: MOST, 10: MOST}
"""The same under a `max_cooldown` of `MOST`."""
