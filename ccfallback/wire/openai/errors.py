"""Errors of OpenAI's format in Anthropic's words.

`refusal` reads an error response, `error_inside` an error within a 200. The tables give the
meaning of each provider's words; the first match counts, and the status itself comes last.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from http import HTTPStatus
from typing import Any, Final

from msgspec.structs import replace

from ccfallback.messages import reset_hints
from ccfallback.messages.errors import UpstreamError, error_of, plain_text
from ccfallback.messages.patterns import lazy_re
from ccfallback.messages.prompt_length import (
    prompt_too_long_with_sizes,
    says_answer_too_long,
    says_prompt_too_long,
)
from ccfallback.messages.reset_hints import ResetHint
from ccfallback.wire.format import WireRefusal
from ccfallback.wire.openai.chunks import decode_liberally

_TYPE_OF_STATUS: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Other statuses: 4xx is an invalid request, anything else an API error."""

_STATUS_OF_TYPE: Final[Mapping[str, int]] = {
    **{kind: status for status, kind in _TYPE_OF_STATUS.items()},
    "invalid_request_error": 400,
}

_SAME_AS: Final[Mapping[int, int]] = {408: 504, 422: 400, 498: 529, 499: 504, 503: 529}
"""Statuses that mean the same as one of Anthropic's."""

_STATUS_OF_WORD: Final[Mapping[str, int]] = {
    word: status
    for status, words in {
        400: "content_filter content_policy_violation moderation_blocked",
        401: "invalid_api_key invalid_authentication_error incorrect_api_key_error"
        " invalid_organization account_deactivated unauthenticated api_key_invalid"
        " invalidapikey 1004",
        402: "insufficient_quota billing_hard_limit_reached exceeded_current_quota_error"
        " billing_not_active insufficient_balance insufficient_user_quota arrearage"
        " 1113 1309 1008",
        404: "model_not_found deploymentnotfound 1311",
        429: "rate_limit_exceeded rate_limit_reached_error resource_exhausted"
        " too_many_requests 1302 1303 1304 1308 1310 1313 1002 1039",
        # The model wrote a call that the provider could not read; the next one may be better.
        500: "tool_use_failed",
        529: "engine_overloaded_error engine_overloaded model_overloaded capacity_exceeded"
        " unavailable insufficient_system_resource 1305 1312",
    }.items()
    for word in words.split()
}
"""Codes and types, which count more than the status. The numbers are Zhipu's and MiniMax's."""

_STATUS_OF_MESSAGE: Final = (
    # Groq refuses a request that is too large for this minute with 413.
    ((413,), lazy_re(r"tokens per minute|\bTPM\b"), 429),
    # Gemini and xAI refuse a wrong key as an invalid request.
    (
        (400,),
        lazy_re(r"api key (?:not valid|expired)|(?:incorrect|invalid) api key", re.I),
        401,
    ),
    # Refused content says nothing about the account.
    ((403,), lazy_re(r"moderation|flagged|content (?:policy|filter)", re.I), 400),
)

_NOT_TOO_LONG: Final = frozenset({401, 402, 404, 429})
"""Statuses of other errors, which may speak of lengths too: a throttle names its limits.

Together refuses a long prompt with 403, some relays with 422 or 500.
"""

_SUCCESS_CODES: Final = (None, 0, 200, "0", "200", "")


def refusal(status: int, headers: Mapping[str, str], body: bytes, now: float) -> WireRefusal:
    """The error response as Anthropic would have sent it, with the upstream's own message.

    `headers` have lower-case names.
    """
    value = decode_liberally(body)
    error = _read(value) if value is not None else UpstreamError(message=_page(status, body))
    meant, read = _meaning(status, error)
    hint = reset_hint(headers, value, error, now) if meant in reset_hints.TEMPORARY else None
    return WireRefusal(meant, read, *(hint or ()))


def error_inside(value: object) -> UpstreamError | None:
    """The error in an answer with a status of success; `None` if there is none."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, Mapping) or not _is_error(value):
        return None
    error = _read(value)
    claimed = error.status or _claimed_status(error.code) or _STATUS_OF_TYPE.get(error.type) or 500
    return _meaning(claimed, error)[1]


def _is_error(value: Mapping[str, Any]) -> bool:
    """Whether an answer says that it is an error, or contains nothing else."""
    if value.get("error") or "error" in (value.get("object"), value.get("type")):
        return True
    if _failed_base(value) is not None:
        return True
    if value.get("choices") is not None or value.get("usage") is not None:
        return False
    message = value.get("message") or value.get("msg")
    return bool(value.get("detail") or (message and value.get("code") not in _SUCCESS_CODES))


def _failed_base(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """MiniMax's status object, which is in every answer; `None` if it reports success."""
    base = value.get("base_resp")
    failed = isinstance(base, Mapping) and base.get("status_code") not in _SUCCESS_CODES
    return base if failed else None


def error_for_status(status: int, message: str) -> UpstreamError:
    """An error that the upstream described only by a status."""
    return UpstreamError(_error_type(status), message, status=status)


def _meaning(status: int, error: UpstreamError) -> tuple[int, UpstreamError]:
    """An error with Anthropic's status and type for it."""
    if status not in _NOT_TOO_LONG and (
        says_prompt_too_long(error.message, error.code, error.type)
        or says_answer_too_long(error.message)
    ):
        message = prompt_too_long_with_sizes(error.message)
        return 400, UpstreamError("invalid_request_error", message, error.code, 400)
    meant = _status_meant(status, error)
    return meant, UpstreamError(_error_type(meant), error.message, error.code, meant)


def _status_meant(status: int, error: UpstreamError) -> int:
    for word in (error.code, error.type):
        if (meant := _STATUS_OF_WORD.get(word.lower())) is not None:
            return meant
    for statuses, wording, meant in _STATUS_OF_MESSAGE:
        if status in statuses and wording.search(error.message):
            return meant
    return _SAME_AS.get(status, status)


def _error_type(status: int) -> str:
    known = _TYPE_OF_STATUS.get(status)
    if known is not None:
        return known
    return "invalid_request_error" if 400 <= status < 500 else "api_error"


def _claimed_status(code: str) -> int | None:
    """The status that some relays write as the code."""
    return int(code) if re.fullmatch(r"[45][0-9]{2}", code) else None


def _read(value: Any) -> UpstreamError:
    """Read an error of any shape."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, Mapping):
        return error_of(value)
    if (base := _failed_base(value)) is not None:
        value = {"code": base.get("status_code"), "message": base.get("status_msg")}
    error = error_of(value)
    message = error.message
    inner = value.get("error")
    if isinstance(inner, Mapping):
        prompt, limit = inner.get("n_prompt_tokens"), inner.get("n_ctx")
        if isinstance(prompt, int) and isinstance(limit, int):
            # llama.cpp has its counts in members beside the message.
            message += f" ({prompt:d} tokens > {limit:d} maximum)"
    return replace(error, message=message)


def _page(status: int, body: bytes) -> str:
    """The text of a response that is not JSON, or the standard phrase for the status."""
    text = plain_text(body)
    if text:
        return text
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"


# Reset hints


_RATE_LIMIT: Final = "x-ratelimit-reset"
_LIMITS: Final = ("requests", "tokens")

_WAIT: Final = lazy_re(
    r"(?:try again|retry|resets?|available again) (?:in|after):? ?"
    r"((?:\d{1,9}(?:\.\d{1,9})? ?(?:ms|milliseconds?|s|seconds?|m|minutes?|h|hours?|d|days?)\b ?"
    r"|\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h|d)(?=\d))+)",
    re.IGNORECASE,
)
_UNIT: Final = lazy_re(r"(ms|[smhd])[a-z]*")
_DATE: Final = lazy_re(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(?:\.\d{1,9})? ?(Z\b|UTC\b|GMT\b|[+-]\d\d:?\d\d)?"
)
_CHINA: Final = timezone(timedelta(hours=8))


def reset_hint(
    headers: Mapping[str, str], value: object, error: UpstreamError, now: float
) -> ResetHint | None:
    """When the provider says that it will serve again.

    A time in the past does not count, nor one that is absurdly far away.
    """
    candidates: tuple[tuple[float | None, str] | None, ...] = (
        reset_hints.reset_hint(headers, error.message, now),
        _of_limits(headers, error.type, now),
        (reset_hints.moment(headers.get(_RATE_LIMIT), now), _RATE_LIMIT),
        reset_hints.body_hint(value, now),
        (_wait(error.message, now), reset_hints.MESSAGE),
        (_date(error.message), reset_hints.MESSAGE),
    )
    for when, source in filter(None, candidates):
        if when is not None and now < when < now + reset_hints.ABSURD:
            return ResetHint(when, source)
    return None


def _of_limits(headers: Mapping[str, str], kind: str, now: float) -> ResetHint | None:
    """When the used-up one of OpenAI's two limits resets."""
    resets = {
        limit: ResetHint(now + seconds, name)
        for limit in _LIMITS
        if (seconds := reset_hints.duration(headers.get(name := f"{_RATE_LIMIT}-{limit}", "")))
        is not None
        and seconds < reset_hints.ABSURD
    }
    used_up = [
        when
        for limit, when in resets.items()
        if limit == kind or headers.get(f"x-ratelimit-remaining-{limit}", "").strip() == "0"
    ]
    return max(used_up or resets.values(), default=None)


def _wait(message: str, now: float) -> float | None:
    """The time after a wait in words: "try again in 6m0s", "after 1 seconds"."""
    found = _WAIT.search(message)
    if found is None:
        return None
    text = _UNIT.sub(lambda unit: unit[1], found[1].lower().replace(" ", ""))
    seconds = reset_hints.duration(text)
    return None if seconds is None else now + seconds


def _date(message: str) -> float | None:
    """A date in words. Without a time zone it is Zhipu's, in Chinese time."""
    found = _DATE.search(message)
    if found is None:
        return None
    zone = (found[3] or "").replace(":", "")
    try:
        when = datetime.fromisoformat(f"{found[1]}T{found[2]}")
        if zone[:1] in ("+", "-"):
            return datetime.fromisoformat(f"{found[1]}T{found[2]}{zone}").timestamp()
        return when.replace(tzinfo=UTC if zone else _CHINA).timestamp()
    except (ValueError, OverflowError):
        return None
