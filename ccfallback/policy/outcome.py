"""The outcome of an attempt, and its consequences for the chain and the breaker.

`Outcome` is all that policy knows about an upstream's answer. The tables below are the rules;
`classify` finds the row for a refusal.
"""

import re
from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Any, Final

import msgspec

from ccfallback.messages import reset_hints
from ccfallback.messages.errors import STOP_FAILURE, UpstreamError
from ccfallback.messages.patterns import has_any, lazy_re
from ccfallback.messages.prompt_length import says_prompt_too_long
from ccfallback.messages.tokens import Usage

CLOCK_SLACK: Final = 300.0
"""Seconds by which this machine's clock may differ from a provider's."""

CLOCK_IS: Final = "this machine's clock is"
"""How a reason names a wrong clock."""


class Fault(StrEnum):
    """Why an attempt failed."""

    NONE = "none"
    REQUEST = "request"
    """The upstream refuses this request; another provider may accept it."""
    LOGIN = "login"
    """A login token has expired; the client refreshes it when it sees the error."""
    OLD_LOGIN = "old-login"
    """The same, but another request has shown the client that error: the next attempt succeeds."""
    ACCOUNT = "account"
    """The key, the credit or a permission: a person has to act."""
    THROTTLED = "throttled"
    MODEL_THROTTLED = "model-throttled"
    """The quota of one model is used up; the account still serves others."""
    OVERLOADED = "overloaded"
    UNKNOWN_MODEL = "unknown-model"
    MODEL_FAILED = "model-failed"
    """The model ended its answer with a stop reason that means a failure."""
    MODEL_TORN = "model-torn"
    """The same after the commit point."""
    UPSTREAM = "upstream"
    """The upstream failed, or its response is not an answer."""
    TRANSPORT = "transport"
    """The connection was refused, reset or broken, or TLS failed."""
    UNREACHABLE = "unreachable"
    """No name resolution or no route: the host is down, or this machine's network is."""
    CONNECT_TIMEOUT = "connect-timeout"
    OWN_MACHINE = "own-machine"
    """This machine can't connect to anything: its outgoing proxy is down, or a resource is used
    up."""
    TIMEOUT = "timeout"
    """No first event in time, or too long a silence after it."""
    TORN = "torn"
    """The answer broke after the commit point."""

    # Tables of faults are looked into several times a request; that of `Enum` is Python code.
    __hash__ = str.__hash__


# Looking up a member costs Python 3.11 as much as the rest of a test.
_NO_FAULT: Final = Fault.NONE


class Blame(Enum):
    """The breaker that counts an outcome as a failure."""

    NONE = "none"
    PROVIDER = "provider"
    MODEL = "model"


BLAME: Final[Mapping[Fault, Blame]] = {
    Fault.NONE: Blame.NONE,
    Fault.REQUEST: Blame.NONE,
    Fault.LOGIN: Blame.NONE,
    Fault.OLD_LOGIN: Blame.NONE,
    Fault.ACCOUNT: Blame.PROVIDER,
    Fault.THROTTLED: Blame.PROVIDER,
    Fault.MODEL_THROTTLED: Blame.MODEL,
    Fault.OVERLOADED: Blame.MODEL,
    Fault.UNKNOWN_MODEL: Blame.MODEL,
    Fault.MODEL_FAILED: Blame.MODEL,
    Fault.MODEL_TORN: Blame.MODEL,
    Fault.UPSTREAM: Blame.PROVIDER,
    Fault.TRANSPORT: Blame.PROVIDER,
    Fault.UNREACHABLE: Blame.PROVIDER,
    Fault.CONNECT_TIMEOUT: Blame.PROVIDER,
    Fault.OWN_MACHINE: Blame.NONE,
    Fault.TIMEOUT: Blame.PROVIDER,
    Fault.TORN: Blame.PROVIDER,
}

OF_ACCOUNT: Final = frozenset({Fault.ACCOUNT, Fault.THROTTLED, Fault.MODEL_THROTTLED})
"""Faults of the credential that was sent: a request with another one may succeed."""

RETRYABLE: Final = frozenset(
    {Fault.UPSTREAM, Fault.OVERLOADED, Fault.MODEL_FAILED, Fault.TRANSPORT, Fault.UNREACHABLE}
)
"""Faults worth a retry at the same provider. A timeout is not: it has taken long enough."""

OWN_NETWORK: Final = frozenset({Fault.UNREACHABLE, Fault.CONNECT_TIMEOUT, Fault.OWN_MACHINE})
"""If two hosts fail like this for one request, this machine is offline; for `OWN_MACHINE`, one is
enough."""

PASSING: Final = frozenset(
    {Fault.OVERLOADED, Fault.UPSTREAM, Fault.TRANSPORT, Fault.UNREACHABLE, Fault.CONNECT_TIMEOUT}
    | {Fault.OWN_MACHINE, Fault.TIMEOUT, Fault.MODEL_FAILED, Fault.OLD_LOGIN}
    | {Fault.THROTTLED, Fault.MODEL_THROTTLED}
)
"""Faults that end by themselves, and soon unless a reset hint or a cooldown says otherwise."""

NEEDS_A_PERSON: Final = frozenset({Fault.ACCOUNT, Fault.UNKNOWN_MODEL, Fault.REQUEST})
"""Faults that another attempt in a minute would meet again."""


class Outcome(msgspec.Struct, frozen=True):
    """What policy knows about an attempt. A struct, because every request makes one."""

    fault: Fault
    reason: str = ""
    """A few words for the state and the log; no content, no secret."""
    status: int | None = None
    message: str = ""
    """The upstream's own words."""
    code: str = ""
    """Its machine-readable code, if there is one."""
    until: float | None = None
    """The reset hint: when the upstream expects to serve again, in Unix seconds."""
    hint: str = ""
    """The source of the reset hint: the name of a header, or `message`."""
    pause: float | None = None
    """Seconds after which the same provider is tried once more; see `burst_pause`."""
    is_hasty: bool = False
    """Whether a limit that is shorter than the configured one has ended the attempt."""
    complete: bool = True
    """False for a stream that has only begun."""
    usage: Usage | None = None
    """What the attempt has cost; `None` for a stream that has only begun."""

    ok: bool = False
    """Whether this is an answer; follows from the fault, and is looked at a dozen times."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "ok", self.fault is _NO_FAULT)

    def but(self, **changes: Any) -> "Outcome":
        """The outcome with other values for some fields."""
        return msgspec.structs.replace(self, **changes)


LONGEST_BURST: Final = 3.0
"""Seconds; see `burst_pause`."""

_TEMPORARY: Final = frozenset(
    {Fault.THROTTLED, Fault.MODEL_THROTTLED, Fault.OVERLOADED, Fault.UPSTREAM}
)
"""Faults that end without a person; the upstream may know when."""

FAULT_OF_STATUS: Final[Mapping[int, Fault]] = {
    401: Fault.ACCOUNT,
    402: Fault.ACCOUNT,
    403: Fault.ACCOUNT,
    404: Fault.UNKNOWN_MODEL,
    408: Fault.UPSTREAM,
    429: Fault.THROTTLED,
    529: Fault.OVERLOADED,
}
"""What a status means unless the body says more; see `fault_of_status` for other statuses."""

FAULT_OF_TYPE: Final[Mapping[str, Fault]] = {
    "invalid_request_error": Fault.REQUEST,
    "authentication_error": Fault.ACCOUNT,
    "billing_error": Fault.ACCOUNT,
    "permission_error": Fault.ACCOUNT,
    "not_found_error": Fault.UNKNOWN_MODEL,
    "request_too_large": Fault.REQUEST,
    "rate_limit_error": Fault.THROTTLED,
    "overloaded_error": Fault.OVERLOADED,
    STOP_FAILURE: Fault.MODEL_FAILED,
}
"""What an error inside a 2xx means; any other type is a failure of the upstream."""

_BILLING: Final = lazy_re(
    r"\bcredits?\b(?! cards?\b)|\binsufficient (?:balance|funds|quota)|payment required"
    # The word alone: not part of the name of a header or of a tool's parameter.
    r"|(?<![\w.-])billing(?![\w-])"
    r"|\bextra usage\b|claude\.ai/settings/(?:usage|billing)"
    r"|\busage (?:limits?|quota|cap|allowance)\b|\b(?:plan|account)(?:'s)? (?:limits?|quota)\b"
    r"|\bspend(?:ing)? (?:limits?|caps?)\b"
    r"|\b(?:your|this|the|a|an|no|active) (?:\w+ )?subscription\b"
    r"|\bsubscription (?:has|is|required)\b"
    r"|\b(?:account|organization|workspace|subscription) (?:(?:has been|is|was) )?(?:currently )?"
    r"(?:disabled|suspended|deactivated|on hold|locked|restricted|expired|past due|inactive)"
    r"|insufficient_quota",
    re.IGNORECASE,
)
"""Words about an account. The client cannot change anything about it by another request."""

_BODY_PATH: Final = lazy_re(
    r"(?:^|[\s'\"`(:])(?:messages|tools|tool_choice|system|thinking|metadata|output_config|container"
    r"|context_management|mcp_servers|stop_sequences|cache_control)(?:\.(?=[\w*])|\[)"
    r"|^['\"`]?(?:messages|tools|tool_choice|system|thinking|metadata|output_config|model|max_tokens"
    r"|temperature|top_[pk]|context_management|betas?|[\w.-]+-beta)['\"`]?:",
)
"""A place in the request's body. What is wrong there is the request's own fault."""

_MODEL_QUOTA: Final = lazy_re(
    # Google Cloud; OpenAI and Groq.
    r"per_base_model\b|\bbase model: ?\w"
    r"|\brate limit reached for (?:model )?\S+ in organization",
    re.IGNORECASE,
)
"""Words about the quota of one model."""
_MODEL_QUOTA_WORDS: Final = ("per_base_model", "base model:", "rate limit reached for")
"""Every match of `_MODEL_QUOTA` contains one of these."""

_BILLING_CODES: Final = frozenset({"organization_on_hold", "insufficient_quota"})


def fault_of_status(status: int) -> Fault:
    """What a status means by itself."""
    if status in FAULT_OF_STATUS:
        return FAULT_OF_STATUS[status]
    if 400 <= status < 500:
        return Fault.REQUEST
    return Fault.UPSTREAM


def is_prompt_too_long(outcome: Outcome) -> bool:
    """Whether the upstream refused the request because the conversation does not fit."""
    return outcome.fault is Fault.REQUEST and (
        outcome.status == 413 or says_prompt_too_long(outcome.message, outcome.code)
    )


def classify(
    status: int, headers: Mapping[str, str], error: UpstreamError, *, now: float
) -> Outcome:
    """The outcome of a refusal: a status that is not 2xx, or an error inside one that is.

    `headers` have lower-case names. The breaker decides whether to honor the reset hint.
    """
    inside_ok = 200 <= status < 300
    if inside_ok:
        fault = FAULT_OF_TYPE.get(error.type, fault_of_status(error.status or 500))
    else:
        fault = fault_of_status(status)
    if fault in (Fault.REQUEST, Fault.UNKNOWN_MODEL) and _is_about_the_account(error):
        fault = Fault.ACCOUNT
    elif error.type == "overloaded_error" or (
        fault in (Fault.UPSTREAM, Fault.THROTTLED) and _mentions_overload(error)
    ):
        fault = Fault.OVERLOADED
    elif fault is Fault.THROTTLED and (
        reset_hints.only_model_window_rejected(headers) or _is_about_one_model(error.message)
    ):
        fault = Fault.MODEL_THROTTLED
    until, source = _hint(fault, headers, error, now) or (None, "")
    return Outcome(
        fault=fault,
        reason=_reason(status, error),
        status=status,
        message=error.message,
        code=error.code,
        until=until,
        hint=source,
    )


def describe_clock(headers: Mapping[str, str], now: float) -> str:
    """How wrong this machine's clock is by the `date` of a response; empty if it is right.

    A signature or a token whose time is off by more than a few minutes is refused.
    """
    there = reset_hints.retry_after(headers.get("date"), now)
    if there is None or abs(there - now) <= CLOCK_SLACK:
        return ""
    way = "behind" if there > now else "ahead of"
    return f"{CLOCK_IS} {round(abs(there - now) / 60)} min {way} the provider's"


def burst_pause(outcome: Outcome, headers: Mapping[str, str], now: float) -> float | None:
    """The seconds after which a throttled request is worth another attempt at the same provider.

    A throttle that ends within `LONGEST_BURST` and rejects no window of a plan is a burst: to wait
    costs less than to move the conversation. `None` if it is anything else.
    """
    is_throttled = outcome.fault is Fault.THROTTLED or outcome.status == 429
    if not is_throttled or outcome.until is None:
        return None
    seconds = outcome.until - now
    is_short = 0 < seconds <= LONGEST_BURST
    return seconds if is_short and not reset_hints.any_window_rejected(headers) else None


def _is_about_the_account(error: UpstreamError) -> bool:
    """Whether an error speaks of credit, plan or organization, and of no place in the body."""
    return (
        error.type == "billing_error"
        or error.code in _BILLING_CODES
        or (
            _BILLING.search(error.message) is not None
            and _BODY_PATH.search(error.message) is None
            and not says_prompt_too_long(error.message, error.code)
        )
    )


def _is_about_one_model(message: str) -> bool:
    return has_any(message, _MODEL_QUOTA_WORDS) and _MODEL_QUOTA.search(message) is not None


def _mentions_overload(error: UpstreamError) -> bool:
    return any("overload" in text.lower() for text in (error.type, error.code, error.message))


def _hint(
    fault: Fault, headers: Mapping[str, str], error: UpstreamError, now: float
) -> reset_hints.ResetHint | None:
    """The reset hint, if the fault ends without a person."""
    if fault in _TEMPORARY:
        return reset_hints.reset_hint(headers, error.message, now)
    if fault is Fault.ACCOUNT:
        # A spending limit ends with the month, and only the message says when.
        return reset_hints.reset_hint({}, error.message, now)
    return None


def _reason(status: int, error: UpstreamError) -> str:
    return f"{status} {error.kind}".rstrip()
