"""What a scripted upstream sends as Bedrock's runtime; see `scripted` and `scripted_format`.

It is as strict as the real one: it refuses what `strict_clouds` knows, a request without a
credential, and a path that names no model.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from ccfallback.messages.sse import data_of
from ccfallback.simulator import strict_clouds
from ccfallback.simulator.scripted import Received, Script, answer, choose
from ccfallback.simulator.scripted_format import (
    ANTHROPIC,
    Block,
    Reason,
    ScriptedFormat,
)
from ccfallback.wire.event_stream import MEDIA_TYPE, encode_frame

_PATH: Final = re.compile(
    r"/model/(?P<model>[^/?]+)/(?P<action>invoke|invoke-with-response-stream|count-tokens)(?:\?|$)"
)
_CREDENTIAL: Final = re.compile(
    r"Bearer \S+|AWS4-HMAC-SHA256 Credential=\S+/\d{8}/[a-z0-9-]+/bedrock/aws4_request,"
    r" ?SignedHeaders=\S+, ?Signature=[0-9a-f]{64}"
)
_VERSIONS: Final = ("bedrock-2023-05-31", "2026-10-21")

TOO_LONG: Final = "Input is too long for requested model."
ON_DEMAND: Final = (
    "Invocation of model ID {model} with on-demand throughput isn't supported. Retry your request"
    " with the ID or ARN of an inference profile that contains this model."
)
NO_ACCESS: Final = "You don't have access to the model with the specified model ID."


def chunk(event: Mapping[str, Any] | bytes, padding: str = "abcdef") -> bytes:
    """A frame with one of Anthropic's events."""
    raw = event if isinstance(event, bytes) else msgspec.json.encode(event)
    payload = {"bytes": b64encode(raw).decode(), "p": padding}
    headers = {
        ":event-type": "chunk",
        ":content-type": "application/json",
        ":message-type": "event",
    }
    return encode_frame(headers, msgspec.json.encode(payload))


def exception(name: str, message: str, **more: Any) -> bytes:
    """A frame that ends a stream with an error; `name` begins with a small letter."""
    headers = {
        ":exception-type": name,
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return encode_frame(headers, msgspec.json.encode({"message": message, **more}))


def error_frame(code: str, message: str) -> bytes:
    """A frame that reports an error of the service itself."""
    return encode_frame(
        {":message-type": "error", ":error-code": code, ":error-message": message}, b""
    )


THROTTLED: Final = exception("throttlingException", "Too many tokens, please wait")
WRONG_FRAME: Final = bytes((*chunk({"type": "ping"})[:-1], 0))
"""A frame whose checksum is wrong."""


def frames_of(blocks: Iterable[Block], *, cached: int = 0) -> list[bytes]:
    """The frames that stream an answer; the last one has Bedrock's own metrics."""
    events = [msgspec.json.decode(data_of(event)) for event in ANTHROPIC.events(list(blocks))]
    events[-1]["amazon-bedrock-invocationMetrics"] = {
        "inputTokenCount": 12,
        "outputTokenCount": 7,
        "invocationLatency": 420,
        "firstByteLatency": 210,
        **({"cacheReadInputTokenCount": cached, "cacheWriteInputTokenCount": 0} if cached else {}),
    }
    return [chunk(event) for event in events]


def error(
    status: int, name: str, message: str = "scripted", headers: Mapping[str, str] | None = None
) -> Script:
    """An error response: the name of the error is in a header."""
    kind = f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"
    body = msgspec.json.encode({"message": message})
    return answer(status, body, headers={"x-amzn-errortype": kind, **(headers or {})})


def model_of(request: Received) -> str:
    """The id of the model in a request's path; empty if the path has none."""
    found = _PATH.search(request.target)
    return unquote(found["model"]) if found else ""


def wants_stream(request: Received) -> bool:
    """Whether the request is for a stream."""
    found = _PATH.search(request.target)
    return found is not None and found["action"] == "invoke-with-response-stream"


def refusal(request: Received) -> Script | None:
    """What a strict Bedrock says to a request; `None` if it takes it."""
    found = _PATH.search(request.target)
    if found is None:
        return error(404, "UnknownOperationException", "Unable to determine service/operation name")
    if _CREDENTIAL.fullmatch(request.header("authorization") or "") is None:
        return error(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    body = request.json
    if found["action"] == "count-tokens":
        body = msgspec.json.decode(b64decode(body["input"]["invokeModel"]["body"]))
    if body.get("anthropic_version") not in _VERSIONS:
        return error(400, "ValidationException", "anthropic_version: Field required")
    if "max_tokens" not in body:
        return error(400, "ValidationException", "max_tokens: Field required")
    model = model_of(request)
    faults = strict_clouds.faults("bedrock", model, body, body.get("anthropic_beta") or ())
    said = next(faults, None)
    return None if said is None else error(400, "ValidationException", said)


def served(models: Callable[[str], bool], good: Script) -> Script:
    """A region that serves only some models; `models` says whether it serves an id."""
    refuses = error(400, "ValidationException", "The provided model identifier is invalid.")
    return choose(lambda request: models(model_of(request)), good, refuses)


BEDROCK: Final = ScriptedFormat(
    whole=ANTHROPIC.whole,
    events=frames_of,
    error=error,
    words={
        Reason.BILLING: "AccessDeniedException",
        Reason.UNKNOWN_FIELD: "ValidationException",
        Reason.BAD_KEY: "UnrecognizedClientException",
        Reason.PAYMENT: "AccessDeniedException",
        Reason.FORBIDDEN: "AccessDeniedException",
        Reason.UNKNOWN_MODEL: "ResourceNotFoundException",
        Reason.TIMEOUT: "ModelTimeoutException",
        Reason.TOO_LARGE: "ValidationException",
        Reason.UNPROCESSABLE: "ModelErrorException",
        Reason.RATE_LIMIT: "ThrottlingException",
        Reason.QUOTA: "ServiceQuotaExceededException",
        Reason.INTERNAL: "InternalServerException",
        Reason.UNAVAILABLE: "ServiceUnavailableException",
        Reason.OVERLOADED: "ModelNotReadyException",
    },
    overload=ANTHROPIC.overload,
    overload_event=exception(
        "modelStreamErrorException",
        "The model failed.",
        originalStatusCode=529,
        originalMessage="Overloaded",
    ),
    has_results=ANTHROPIC.has_results,
    wants_stream=wants_stream,
    refusal=refusal,
    stream_type=MEDIA_TYPE,
    garbage=chunk(b"{not JSON at all"),
    sign_of_life=chunk({"type": "ping"}),
)
