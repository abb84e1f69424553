"""Errors: an upstream's, whatever its shape, and our own in Anthropic's envelope.

Providers of any format answer with Anthropic's envelope, OpenAI's, FastAPI's `detail`, a bare
message, a list with one error, or HTML; one liberal reader serves them all.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ccfallback.messages.body import UNREADABLE, decode_as

_TAGS: Final = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_SPACE: Final = re.compile(r"\s+")
_LONGEST: Final = 4000
_LONG: Final = 256 * 1024
_MANY: Final = 200_000
_ANY: Final = msgspec.json.Decoder(Any)
_KIND: Final = re.compile(r"[A-Za-z][A-Za-z_.]{0,47}\d{0,3}|\d{1,6}")

STOP_FAILURE: Final = "failed_stop_reason"
"""The type of an error that is only a stop reason."""

KNOWN_KINDS: Final = frozenset({
    STOP_FAILURE,
    "api_error", "authentication_error", "bad_request_error", "billing_error",
    "engine_overloaded_error", "insufficient_quota", "internal_error", "internal_server_error",
    "invalid_authentication_error", "invalid_request_error", "model_not_found", "not_found_error",
    "overloaded_error", "permission_denied_error", "permission_error", "rate_limit_error",
    "rate_limit_exceeded", "request_too_large", "requests", "server_error", "service_unavailable",
    "service_unavailable_error", "timeout_error", "tokens", "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION", "INTERNAL", "INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "UNAVAILABLE", "AccessDeniedException",
    "ModelErrorException", "ModelNotReadyException", "ModelStreamErrorException",
    "ModelTimeoutException", "ServiceQuotaExceededException", "ServiceUnavailableException",
    "ThrottlingException", "ValidationException",
})  # fmt: skip
"""Types of errors that upstreams are known for; any other may be a word of the conversation."""


class UpstreamError(msgspec.Struct, frozen=True):
    """What an upstream said went wrong."""

    type: str = ""
    message: str = ""
    code: str = ""
    """A machine-readable code, if the upstream gives one."""
    status: int | None = None
    """The status that the body itself claims, if any."""

    @property
    def kind(self) -> str:
        """Its type if it is safe to show: a plain word, neither a key nor a sentence."""
        return self.type if _KIND.fullmatch(self.type) else ""


def readable_part(body: bytes) -> bytes:
    """A body, or only its beginning if it has so many values that to decode it takes long.

    No error is like that. One that repeats a whole prompt is as long, but most of it is text.
    """
    # Each value but the first has one of these before it.
    if len(body) <= _LONG or sum(map(body.count, (b",", b"[", b"{"))) <= _MANY:
        return body
    return body[:_LONGEST]


def read_error(body: bytes) -> UpstreamError:
    """The error in an answer's body; never raises."""
    body = readable_part(body)
    try:
        value = decode_as(_ANY, body)
    except UNREADABLE:
        return UpstreamError(message=plain_text(body))
    return error_of(value)


def error_of(value: Any) -> UpstreamError:
    """The error in a decoded answer."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, Mapping):
        return UpstreamError(message=_text(value))
    error = value.get("error", value)
    if isinstance(error, str):
        kind = value.get("type")
        return UpstreamError(type=_word("" if kind == "error" else kind), message=_text(error))
    if not isinstance(error, Mapping):
        error = value
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, Mapping) else None
    code = code or error.get("code")
    kind = error.get("type") or error.get("status")
    detail = error.get("detail")
    message = _text(error.get("message") or _validation(detail) or detail or error.get("msg"))
    return UpstreamError(
        type=_word("" if error is value and kind == "error" else kind),
        message=_with_reason(message, error.get("metadata")),
        code=_word(code),
        status=code if isinstance(code, int) and 400 <= code < 600 else None,
    )


def _validation(detail: object) -> str:
    """FastAPI's list of faults of a request, each as its path and its message; without values,
    which are content."""
    lines = []
    for fault in detail if isinstance(detail, list) else ():
        if isinstance(fault, Mapping) and isinstance(fault.get("msg"), str):
            place = fault.get("loc")
            steps = place if isinstance(place, list) else []
            where = ".".join(str(step) for step in steps if isinstance(step, str | int))
            lines.append(f"{where}: {fault['msg']}" if where else fault["msg"])
    return "; ".join(lines)


def _with_reason(message: str, metadata: Any) -> str:
    """The message with the reason that OpenRouter got from the provider behind it."""
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    if isinstance(raw, str):
        try:
            value = msgspec.json.decode(raw)
        except (*UNREADABLE, UnicodeError):
            value = raw
    else:
        value = raw if isinstance(raw, Mapping) else None
    reason = error_of(value).message if isinstance(value, Mapping | list) else str(value or "")
    reason = reason[:_LONGEST]
    return f"{message}: {reason}" if reason and reason not in message else message


def is_error(value: Any) -> bool:
    """Whether the decoded body of a 2xx answer is an error nevertheless."""
    if isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, Mapping) and (value.get("type") == "error" or bool(value.get("error")))


def plain_text(body: bytes) -> str:
    """What a body that is not JSON says, without its tags, on one line."""
    text = body[:_LONGEST].decode("utf-8", "replace")
    title = _TITLE.search(text)
    return _SPACE.sub(" ", _TAGS.sub(" ", title[1] if title else text)).strip()[:200]


def encode(kind: str, message: str, request_id: str, **more: Any) -> bytes:
    """An error of our own, in Anthropic's envelope."""
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": kind, "message": message, **more},
            "request_id": request_id,
        }
    )


def _word(value: Any) -> str:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if len(text) <= 64 and text.isprintable() else ""


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value[:_LONGEST]
    return msgspec.json.encode(value).decode()[:_LONGEST]
