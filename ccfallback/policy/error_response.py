"""The error that the client gets when no provider could answer."""

from collections.abc import Collection, Mapping, Sequence
from math import ceil, floor
from typing import Any, Final

import msgspec

from ccfallback.config.model import Provider, name_in_label
from ccfallback.error_codes import ErrorCode
from ccfallback.messages import errors as envelope
from ccfallback.messages.assemble import to_events
from ccfallback.messages.body import Body
from ccfallback.messages.prompt_length import prompt_too_long
from ccfallback.messages.tokens import estimate
from ccfallback.messages.tools import alphanumerics, only_server_tools
from ccfallback.messages.turns import string
from ccfallback.policy.context_window import TooLong
from ccfallback.policy.outcome import (
    NEEDS_A_PERSON,
    OWN_NETWORK,
    PASSING,
    Fault,
    Outcome,
    is_prompt_too_long,
)
from ccfallback.policy.spend import Limit

FITS: Final = TooLong()

SOON: Final = 60.0
"""Seconds; with a longer `retry-after`, Claude Code gives up at once."""

A_MOMENT: Final = 5.0
"""Seconds until a provider without a cooldown should be tried again."""

HOURS: Final = 900.0
"""Seconds; a client should not wait this long, so it should not retry."""


class Failure(msgspec.Struct, frozen=True):
    """One attempt that failed."""

    provider: Provider
    outcome: Outcome


class ErrorResponse(msgspec.Struct, frozen=True):
    """An error that ccfallback itself answers with."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    kind: str
    message: str
    is_stream: bool = False


def no_fallback_response(failures: Sequence[Failure], request_id: str) -> ErrorResponse:
    """The primary gave no response that can be passed on, and there is no fallback."""
    last = failures[-1].outcome.reason if failures else "the primary was not tried"
    hint = "add one with `ccfallback providers add`"
    message = f"Primary API failed and no fallbacks configured: {last}; {hint}"
    return _response(502, "proxy_error", message, request_id, ErrorCode.NO_FALLBACK)


def exhausted_response(
    failures: Sequence[Failure],
    cooling: Mapping[str, float],
    *,
    model: str,
    request_id: str,
    now: float,
    too_long: TooLong = FITS,
    capped: Collection[Limit] = (),
) -> ErrorResponse:
    """All providers failed, or were skipped: the request is `too_long`, or they are `capped`.

    `cooling` holds when each cooldown ends, by the provider's label.
    """
    reached = [each for each in capped if not each.left]
    names = {each.provider for each in reached}
    cooling = {
        label: until for label, until in cooling.items() if name_in_label(label) not in names
    }
    refusal = _too_long_refusal(failures, too_long)
    roomy_in = _back_soon(failures, cooling, too_long, capped, now)
    if refusal is not None and roomy_in is None:
        code = ErrorCode.PROMPT_TOO_LONG
        return _response(400, "invalid_request_error", refusal, request_id, code)
    ends = {**cooling, **{each.title: each.until for each in reached}}
    if capped and (not (failures or cooling) or _is_hopeless(failures, cooling, now, capped)):
        message = _sentence("The spend cap is reached", failures, ends, too_long, capped, now)
        # A shorter cooldown is that of a provider that was tried, and needs a person.
        back = min((until for until in ends.values() if until - now >= HOURS), default=0.0)
        return _spend_cap_response(message, capped, back, now, request_id)
    headers: list[tuple[bytes, bytes]] = []
    left = [until - now for until in ends.values() if until > now]
    if refusal is not None and roomy_in is not None:
        left = [roomy_in]
    if left and min(left) <= SOON:
        headers.append((b"retry-after", str(max(1, ceil(min(left)))).encode()))
    elif _is_hopeless(failures, cooling, now, capped):
        headers.append((b"x-should-retry", b"false"))
    attempts = [
        {
            "provider": failure.provider.name,
            **({"key": failure.provider.key.number} if failure.provider.key.number else {}),
            "status": failure.outcome.status,
            "error": failure.outcome.reason,
        }
        for failure in failures
    ]
    message = _sentence("All providers failed", failures, ends, too_long, capped, now)
    return _response(
        502,
        "fallback_exhausted",
        message,
        request_id,
        ErrorCode.ALL_FAILED,
        tuple(headers),
        model=model,
        attempts=attempts,
    )


UNIFIED_STATUS: Final = b"anthropic-ratelimit-unified-status"

_PERIODS: Final = {"day": "daily", "month": "monthly"}

_IN_FLIGHT: Final = 10
"""Seconds until a request in flight may have ended for less than was reserved for it."""


def _spend_cap_response(
    message: str, capped: Collection[Limit], back: float, now: float, request_id: str
) -> ErrorResponse:
    """No provider is left that may cost anything, until one is `back` or its cap ends.

    Claude Code shows the message of this error as it is, and stops the turn. It tries again if
    only requests in flight have reserved what is left.
    """
    if any(limit.left for limit in capped):
        headers = ((b"retry-after", str(_IN_FLIGHT).encode()),)
        code = ErrorCode.CAP_REACHED
        return _response(429, "rate_limit_error", message, request_id, code, headers)
    limit = min(capped, key=lambda each: each.until)
    back = min(back or limit.until, limit.until)
    return _response(
        429,
        "billing_error",
        message,
        request_id,
        ErrorCode.CAP_REACHED,
        (
            (b"retry-after", str(max(1, ceil(back - now))).encode()),
            (b"x-should-retry", b"false"),
            (UNIFIED_STATUS, b"rejected"),
            *_unified(
                reset=round(back),
                overage_reset=round(limit.until),
                overage_utilization=1,
                overage_surpassed_threshold=1,
                overage_period=_PERIODS[limit.period],
                overage_disabled_reason="org_spend_cap_reached",
            ),
        ),
    )


def spend_warning(limit: Limit) -> list[tuple[bytes, bytes]]:
    """Headers of an answer, by which Claude Code says that a cap is near."""
    return [
        (UNIFIED_STATUS, b"allowed_warning"),
        *_unified(
            representative_claim="overage",
            overage_status="allowed_warning",
            overage_utilization=f"{min(floor(limit.share * 100), 99) / 100:.2f}",
            overage_surpassed_threshold=limit.threshold,
            reset=round(limit.until),
            overage_reset=round(limit.until),
        ),
    ]


def _unified(**values: object) -> list[tuple[bytes, bytes]]:
    return [
        (f"anthropic-ratelimit-unified-{name.replace('_', '-')}".encode(), str(value).encode())
        for name, value in values.items()
    ]


def search_unavailable(body: Body, request_id: str) -> ErrorResponse:
    """The answer to a request for nothing but server tools that no provider left can run.

    It is an answer whose tool result is an error. Claude Code reports that at once, and its model
    knows that there was no search.
    """
    tool = next(iter(only_server_tools(body)), {})
    name = string(tool, "name") or "web_search"
    kind = next((kind for kind in _RESULT_KINDS if name.startswith(kind)), "web_search")
    tool_id = "srvtoolu_" + alphanumerics(request_id, 24)
    error = {"type": f"{kind}_tool_result_error", "error_code": "unavailable"}
    message = msgspec.json.encode(
        {
            "id": "msg_" + alphanumerics(request_id, 24),
            "type": "message",
            "role": "assistant",
            "model": body.model,
            "content": [
                {"type": "server_tool_use", "id": tool_id, "name": name, "input": {}},
                {"type": f"{kind}_tool_result", "tool_use_id": tool_id, "content": error},
            ],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": estimate(body), "output_tokens": 0},
        }
    )
    return ErrorResponse(
        200,
        (),
        to_events(message) if body.stream else message,
        "search_unavailable",
        f"no provider left can run {name}",
        is_stream=body.stream,
    )


_RESULT_KINDS: Final = ("web_search", "web_fetch", "code_execution")


def _too_long_refusal(failures: Sequence[Failure], too_long: TooLong) -> str | None:
    """The words of a fallback's refusal of a prompt that is too long, or of our own."""
    for failure in failures:
        if is_prompt_too_long(failure.outcome) and not failure.provider.primary:
            return prompt_too_long(failure.outcome.message)
    return too_long.message if too_long.windows else None


def _back_soon(
    failures: Sequence[Failure],
    cooling: Mapping[str, float],
    too_long: TooLong,
    capped: Collection[Limit],
    now: float,
) -> float | None:
    """In how many seconds a provider is back that may have room for the prompt, if soon.

    That is any provider that has not refused the prompt as too long, and whose context it fits. To
    compact a conversation cannot be undone, so a failure that passes is waited out instead.
    """
    last = {failure.provider.label: failure.outcome for failure in failures}
    small = {failure.provider.name for failure in failures if is_prompt_too_long(failure.outcome)}
    small |= set(too_long.windows)
    ends = {
        name: now + A_MOMENT
        for name, outcome in last.items()
        if outcome.fault in PASSING and (outcome.until or now) - now <= SOON
    } | {name: until for name, until in cooling.items() if until > now}
    names = {name_in_label(label) for label in ends}
    ends |= {
        limit.provider: now + _IN_FLIGHT if limit.left else limit.until
        for limit in capped
        if limit.provider and limit.provider not in names
    }
    # By the name, because another key of the provider has no more room.
    left = [until - now for label, until in ends.items() if name_in_label(label) not in small]
    return min(left) if left and min(left) <= SOON else None


def _is_hopeless(
    failures: Sequence[Failure],
    cooling: Mapping[str, float],
    now: float,
    capped: Collection[Limit] = (),
) -> bool:
    """Whether every failure needs a person or hours of waiting.

    What requests in flight have reserved of a cap may be free in a moment.
    """
    tried = {failure.provider.label for failure in failures}
    skipped = [until - now for name, until in cooling.items() if name not in tried]
    skipped += [0.0 for limit in capped if limit.left]
    return (
        (bool(failures) or bool(capped))
        and all(_takes_long(failure.outcome, now) for failure in failures)
        and all(left >= HOURS for left in skipped)
    )


def _takes_long(outcome: Outcome, now: float) -> bool:
    return outcome.fault in NEEDS_A_PERSON or (
        outcome.until is not None and outcome.until - now >= HOURS
    )


def _sentence(
    verdict: str,
    failures: Sequence[Failure],
    cooling: Mapping[str, float],
    too_long: TooLong,
    capped: Collection[Limit],
    now: float,
) -> str:
    """How each provider failed, and when it is back: one line for a person."""
    reasons = {failure.provider.label: _describe(failure.outcome) for failure in failures}
    reasons |= {limit.title: limit.sentence for limit in capped}
    for name, window in too_long.windows.items():
        reasons[name] = f"{too_long.tokens} tokens do not fit its {window}"
    for name in cooling:
        reasons.setdefault(name, "cooling down after earlier failures")
    parts = []
    for name, why in reasons.items():
        until = cooling.get(name, 0.0)
        back = f", back in {format_wait(until - now)}" if until > now else ""
        parts.append(f"{name} ({why}{back})")
    if len(failures) > 1 and all(failure.outcome.fault in OWN_NETWORK for failure in failures):
        parts.append("this machine seems to be offline")
    return f"{verdict}: {'; '.join(parts)}" if parts else "No provider is enabled"


def _describe(outcome: Outcome) -> str:
    """How a provider failed; the status alone does not say that its account is meant."""
    if outcome.fault is Fault.ACCOUNT and outcome.status not in (401, 403):
        return f"{outcome.reason}, about the account's credit or plan"
    return outcome.reason


def format_wait(seconds: float) -> str:
    """A time to wait, rounded up: `30 s`, `50 min`, `1.5 h`."""
    seconds = round(seconds, 3)  # The difference of two large times is not exact.
    if seconds < 90:
        return f"{ceil(seconds)} s"
    if seconds < 5400:
        return f"{ceil(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def _response(
    status: int,
    kind: str,
    message: str,
    request_id: str,
    code: ErrorCode,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    **more: Any,
) -> ErrorResponse:
    body = envelope.encode(kind, code.mark(message), request_id, code=code, **more)
    return ErrorResponse(status, headers, body, kind, message)
