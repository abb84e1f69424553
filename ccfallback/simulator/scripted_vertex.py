"""What a scripted Vertex AI sends; see `scripted` and `scripted_format`.

Answers are Anthropic's. Errors are Google's, because most that a client meets are the platform's.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import msgspec

from ccfallback.simulator import scripted_format
from ccfallback.simulator.scripted import Received, Script, answer
from ccfallback.simulator.scripted_format import Reason


def error(
    status: int, word: str, message: str = "scripted", headers: Mapping[str, str] | None = None
) -> Script:
    """An error in Google's envelope."""
    return answer(status, _envelope(status, word, message), headers=headers)


def in_array(status: int, word: str, message: str = "scripted") -> Script:
    """The same as the only item of an array, as Google's streaming methods send it."""
    return answer(status, b"[%b\n]\n" % _envelope(status, word, message))


def _envelope(status: int, word: str, message: str) -> bytes:
    body = {"error": {"code": status, "message": message, "status": word}}
    return msgspec.json.encode(body)


def _wants_stream(request: Received) -> bool:
    return ":streamRawPredict" in request.target


ARRAY_EVENT: Final = b"data: [" + _envelope(503, "UNAVAILABLE", "Unavailable") + b"]\n\n"
"""The same as an event of a stream."""

_OVERLOAD: Final = _envelope(529, "UNAVAILABLE", "Overloaded")

VERTEX: Final = replace(
    scripted_format.ANTHROPIC,
    error=error,
    words={
        Reason.BILLING: "FAILED_PRECONDITION",
        Reason.UNKNOWN_FIELD: "INVALID_ARGUMENT",
        Reason.BAD_KEY: "UNAUTHENTICATED",
        Reason.PAYMENT: "FAILED_PRECONDITION",
        Reason.FORBIDDEN: "PERMISSION_DENIED",
        Reason.UNKNOWN_MODEL: "NOT_FOUND",
        Reason.TIMEOUT: "DEADLINE_EXCEEDED",
        Reason.TOO_LARGE: "INVALID_ARGUMENT",
        Reason.UNPROCESSABLE: "INVALID_ARGUMENT",
        Reason.RATE_LIMIT: "RESOURCE_EXHAUSTED",
        Reason.QUOTA: "RESOURCE_EXHAUSTED",
        Reason.INTERNAL: "INTERNAL",
        Reason.UNAVAILABLE: "UNAVAILABLE",
        Reason.OVERLOADED: "UNAVAILABLE",
    },
    overload=_OVERLOAD,
    overload_event=b"event: error\ndata: " + _OVERLOAD + b"\n\n",
    wants_stream=_wants_stream,
)
