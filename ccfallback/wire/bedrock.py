"""Amazon Bedrock's runtime: Anthropic's messages over InvokeModel, streamed in Amazon's frames.

The model is in the URL and the beta flags are in the body. Each frame of a stream carries one of
Anthropic's events. Sources: the service model of `bedrock-runtime`, 2023-09-30; the user guide,
"Anthropic Claude Messages API".
"""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec
from msgspec.structs import replace

from ccfallback.config.model import Provider
from ccfallback.messages.body import (
    UNREADABLE,
    Body,
    decode_as,
    decode_json,
    replace_lone_surrogates,
)
from ccfallback.messages.errors import UpstreamError, read_error
from ccfallback.messages.model_names import LONGEST_ID
from ccfallback.messages.patterns import lazy_re
from ccfallback.messages.sse import MAX_EVENT_BYTES, event
from ccfallback.messages.tokens import is_token_count
from ccfallback.wire.anthropic import AnthropicStream, MessagesFormat, names_stop_reason
from ccfallback.wire.completion import Completion
from ccfallback.wire.credential import Credential
from ccfallback.wire.event_stream import BrokenFrame, Frame, FrameDecoder
from ccfallback.wire.filters import EventFilter
from ccfallback.wire.format import StreamTranslator, Unconvertible, Whole, WireRefusal, WireRequest
from ccfallback.wire.headers import HeaderList, RawHeaders, find

VERSION: Final = "bedrock-2023-05-31"

_METRICS: Final = "amazon-bedrock-invocationMetrics"
_CACHE_METRICS: Final = (
    ("cache_read_input_tokens", "cacheReadInputTokenCount"),
    ("cache_creation_input_tokens", "cacheWriteInputTokenCount"),
)
"""The members of a usage object, and what Bedrock's own metrics call them."""

_NO_REGION: Final = "https://bedrock-runtime.amazonaws.com"
"""The base URL of a provider whose region is not known: nothing is sent there."""

_USER_PROFILE: Final = b"anthropic-user-profile-id"

# --- Errors ---

_ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    "AccessDeniedException": (403, "permission_error"),
    "UnrecognizedClientException": (401, "authentication_error"),
    "InvalidSignatureException": (401, "authentication_error"),
    "IncompleteSignatureException": (401, "authentication_error"),
    "MissingAuthenticationTokenException": (401, "authentication_error"),
    "ExpiredTokenException": (401, "authentication_error"),
    "ResourceNotFoundException": (404, "not_found_error"),
    "ThrottlingException": (429, "rate_limit_error"),
    "TooManyRequestsException": (429, "rate_limit_error"),
    "ServiceQuotaExceededException": (429, "rate_limit_error"),
    "ModelNotReadyException": (529, "overloaded_error"),
    "ValidationException": (400, "invalid_request_error"),
    "ModelTimeoutException": (408, "timeout_error"),
    "ModelErrorException": (500, "api_error"),
    "ModelStreamErrorException": (500, "api_error"),
    "InternalServerException": (500, "api_error"),
    "InternalFailure": (500, "api_error"),
    "ServiceUnavailableException": (503, "api_error"),
}
"""The status and type that Anthropic would have sent, by Amazon's name of an error. A quota comes
with status 400, although the request is right."""

_MODEL_ERRORS: Final = frozenset({"ModelErrorException", "ModelStreamErrorException"})
"""Errors of the model behind Bedrock, which may give the model's own status."""

_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
"""The type of an error by the model's own status."""

_ABOUT_THE_MODEL: Final = lazy_re(
    r"on-demand throughput|model identifier is invalid|access to the model|model access"
    r"|model (?:id|version|arn)\b.{0,80}\b(?:not (?:found|supported|exist)|end of its life|invalid)"
    r"|not (?:available|supported) in (?:this|the|your) region",
    re.IGNORECASE,
)
"""Texts of other errors that say that the account has no such model."""

_MODEL_IS_MISSING: Final = frozenset({"AccessDeniedException", "ValidationException"})


def _error(name: str, value: Any) -> tuple[int, UpstreamError] | None:
    """The status and error that Anthropic would have sent; `None` for a name that is unknown.

    `value` is the decoded payload.
    """
    if name not in _ERRORS:
        return None
    members = value if isinstance(value, Mapping) else {}
    message = _first_text(members, "message", "Message", "originalMessage")
    meaning, kind = _ERRORS[name]
    own = members.get("originalStatusCode")
    if name in _MODEL_ERRORS and isinstance(own, int) and 400 <= own < 600:
        meaning, kind = own, _TYPES.get(own, "invalid_request_error" if own < 500 else "api_error")
        message = _first_text(members, "originalMessage", "message")
    elif name in _MODEL_IS_MISSING and _ABOUT_THE_MODEL.search(message):
        meaning, kind = 404, "not_found_error"
    return meaning, UpstreamError(kind, message, code=name, status=meaning)


def _first_text(members: Mapping[str, Any], *names: str) -> str:
    found = (members.get(name) for name in names)
    return next((text[:4000] for text in found if isinstance(text, str) and text), "")


def _name(raw: str) -> str:
    """Amazon's name of an error, without a namespace before it or an address behind it."""
    name = raw.partition(":")[0].rpartition("#")[2].strip()
    # In streams it begins with a small letter.
    return name[:1].upper() + name[1:]


# --- Streams ---


class _Chunk(msgspec.Struct, gc=False):
    bytes: bytes


class _Typed(msgspec.Struct, gc=False):
    type: str


_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_TYPED: Final = msgspec.json.Decoder(_Typed)
_TYPE: Final = lazy_re(r"[a-z_]{1,64}")
_STOP: Final = b'{"type":"message_stop"}'


class BedrockStream(AnthropicStream):
    """Reads frames and checks the events in them; see `StreamTranslator`.

    Bedrock may count what its cache did only in the last event, so the one before it, which tells
    the client the counts, waits for that. A stream without frames is read as plain events, which
    some gateways send.
    """

    def __init__(self, filters: Sequence[EventFilter], completion: Completion) -> None:
        super().__init__(filters, completion)
        self._decoder: FrameDecoder | None = FrameDecoder()
        self._is_empty = True
        self._held: bytes | None = None
        """The data of the `message_delta` that has come last."""
        self._held_reason = False
        """Whether there is a stop reason in it: it may come early, with counts alone."""

    @property
    def stopped(self) -> bool:
        """Whether a stop reason has arrived, even if it has not come out."""
        return self._held_reason or self.complete

    def feed(self, chunk: bytes) -> bytes:
        """The events that are complete now, up to the first error."""
        if self.error is not None or self.finished:
            return b""
        if self._is_empty and chunk:
            self._is_empty = False
            # The length of a frame has four bytes, and no frame is so long that all are used.
            if chunk[:1] != b"\0":
                self._decoder = None
        decoder = self._decoder
        if decoder is None:
            return super().feed(chunk)
        try:
            frames = decoder.feed(chunk)
        except BrokenFrame as broken:
            return self._fail(UpstreamError("api_error", f"a broken stream: {broken}"))
        made = bytearray()
        for frame in frames:
            made += self._read_frame(frame)
            if self.error is not None or self.finished:
                return bytes(made)
        if decoder.is_broken:
            made += self._fail(UpstreamError("api_error", "a broken stream"))
        return bytes(made)

    def finish(self) -> bytes:
        """The remaining events, at the end of the upstream's stream."""
        if self._decoder is None:
            return super().finish()
        if self.error is not None or self.finished:
            return b""
        if self._held_reason:
            return self._release({}) + self._pass("message_stop", _STOP)
        made = self._release({})
        if not self._decoder.is_between_frames:
            self.error = UpstreamError("api_error", "a broken stream: a frame is cut")
        return made

    def _pass(self, kind: str, data: bytes) -> bytes:
        return super().feed(event(kind, data))

    def _read_frame(self, frame: Frame) -> bytes:
        kind = frame.headers.get(":message-type")
        if kind == "event":
            if frame.headers.get(":event-type") == "chunk":
                return self._read_chunk(frame.payload)
            return b""
        if kind == "exception":
            name = _name(frame.headers.get(":exception-type", ""))
            found = _error(name, decode_json(frame.payload))
            error = found[1] if found else read_error(frame.payload)
            return self._fail(error if error.type else UpstreamError("api_error", error.message))
        if kind == "error":
            name = _name(frame.headers.get(":error-code", ""))
            value = {"message": frame.headers.get(":error-message", "")}
            found = _error(name, value)
            return self._fail(found[1] if found else UpstreamError("api_error", value["message"]))
        return self._fail(UpstreamError("api_error", "a frame of an unknown kind"))

    def _read_chunk(self, payload: bytes) -> bytes:
        try:
            data = _CHUNK.decode(payload).bytes
            if len(data) > MAX_EVENT_BYTES:
                return self._fail(UpstreamError("api_error", "an event without an end"))
            kind = decode_as(_TYPED, data).type
            if b"\n" in data or b"\r" in data:
                # One line is one line of an event.
                data = msgspec.json.format(replace_lone_surrogates(data), indent=-1)
        except UNREADABLE:
            return self._fail(UpstreamError("api_error", "a chunk without an event"))
        if not _TYPE.fullmatch(kind):
            return self._fail(UpstreamError("api_error", "an event of an unknown kind"))
        if kind == "message_delta":
            before, self._held = self._release({}), data
            self._held_reason = names_stop_reason(data)
            return before
        if kind == "message_stop":
            data, metrics = _without_metrics(data)
            return self._release(metrics) + self._pass(kind, data)
        before = self._release({}) if self._held is not None else b""
        return before + self._pass(kind, data)

    def _release(self, metrics: Mapping[str, Any]) -> bytes:
        """Send the event that waits, with the counts of the cache that it lacks."""
        if self._held is None:
            return b""
        data, self._held, self._held_reason = self._held, None, False
        counts = {name: metrics[own] for name, own in _CACHE_METRICS if metrics.get(own)}
        if counts:
            value = decode_json(data)
            usage = value.get("usage") if isinstance(value, dict) else None
            known = usage if isinstance(usage, dict) else {}
            missing = {name: count for name, count in counts.items() if not known.get(name)}
            seen = self.usage
            if seen.cache_read or seen.cache_write:
                # The start of the message has told them.
                missing = {}
            if missing and isinstance(value, dict):
                data = msgspec.json.encode({**value, "usage": {**known, **missing}})
        return self._pass("message_delta", data)

    def _fail(self, error: UpstreamError) -> bytes:
        """Note an error. It does not undo an answer that has ended with a stop reason."""
        made = self._release({})
        self.error = error
        return made


def _without_metrics(data: bytes) -> tuple[bytes, Mapping[str, Any]]:
    """The data of an event without Bedrock's own metrics, and the metrics."""
    value = decode_json(data) if _METRICS.encode() in data else None
    if not isinstance(value, dict) or _METRICS not in value:
        return data, {}
    metrics = value.pop(_METRICS)
    counts = metrics if isinstance(metrics, Mapping) else {}
    return msgspec.json.encode(value), {
        name: count for name, count in counts.items() if type(count) is int
    }


# --- Requests ---

_ENDPOINT: Final = lazy_re(r"/model/[^/]+/(?:invoke|invoke-with-response-stream|count-tokens)/?$")
_GEOGRAPHY: Final = lazy_re(r"[a-z]{2,6}(?:-gov)?\.(?=anthropic\.)")
"""What makes the id of an inference profile of a model's own id."""


@lru_cache(maxsize=512)
def model_url(base_url: str, model: str, action: str) -> str:
    """The URL of an action with a model. Raises `Unconvertible` for an id that names none."""
    if len(model) > LONGEST_ID:
        raise Unconvertible("the name of its model is too long to be an id")
    if model.partition(";")[0].strip() in ("", ".", ".."):
        raise Unconvertible(f"{model!r} is not the id of a model")
    parts = urlsplit(base_url)
    base = _ENDPOINT.sub("", parts.path).rstrip("/")
    path = f"{base}/model/{quote(model, safe='', errors='replace')}/{action}"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def invocation(body: Body, betas: Sequence[str]) -> Body:
    """A Messages body as InvokeModel takes it."""
    added: dict[str, Any] = {"anthropic_version": VERSION}
    # A flag of a login belongs to Anthropic's own API.
    if flags := [beta for beta in betas if not beta.startswith("oauth-")]:
        added["anthropic_beta"] = flags
    return body.without("model", "stream").with_members(**added)


class BedrockFormat(MessagesFormat):
    """InvokeModel and InvokeModelWithResponseStream."""

    name = "bedrock"
    title = "Amazon Bedrock"
    endpoint = ""
    auth_header = "Authorization"
    # No pings come, and a model may think in silence.
    idle_timeout = 180.0
    client_headers = frozenset({b"content-type", b"user-agent"})
    fallback_headers: ClassVar[RawHeaders] = (
        (b"accept", b"application/json"),
        (b"x-amzn-bedrock-accept", b"application/json"),
    )
    answer_mark = lazy_re(rb":message-type\x07")
    refusal_mark = lazy_re(rb'^\s*\{\s*"(?:message|Message|__type)"\s*:')

    def default_base_url(self, provider: Provider) -> str:
        """The host of the provider's region."""
        region = provider.region
        return f"https://bedrock-runtime.{region}.amazonaws.com" if region else _NO_REGION

    def missing_key(self, provider: Provider) -> str:
        """The region, if nothing names one and the base URL depends on it."""
        return "aws.region" if provider.base_url == _NO_REGION and not provider.region else ""

    def url(self, provider: Provider, model: str, *, stream: bool) -> str:
        """The endpoint of the model, for a stream or a whole answer."""
        action = "invoke-with-response-stream" if stream else "invoke"
        return model_url(provider.base_url, model, action)

    def models_url(self, provider: Provider) -> None:
        """Bedrock lists models at another host."""

    def request(self, body: Body, provider: Provider, betas: tuple[str, ...] = ()) -> Body:
        """The body with version and flags, and without the model."""
        return invocation(body, betas)

    def prepare(
        self,
        body: Body,
        client: RawHeaders,
        provider: Provider,
        credential: Credential | None,
        *,
        via: str,
        tokens: frozenset[bytes] = frozenset(),
        query: str = "",
        betas: tuple[str, ...] | None = None,
        headers: HeaderList | None = None,
    ) -> WireRequest:
        """The whole request; a header that is a member of the body here goes there."""
        if profile := find(client, _USER_PROFILE):
            body = body.with_members(user_profile_id=profile)
        return super().prepare(
            body,
            client,
            provider,
            credential,
            via=via,
            tokens=tokens,
            query=query,
            betas=betas,
            headers=headers,
        )

    def stream(
        self, client_body: Body, provider: Provider, filters: Sequence[EventFilter] = ()
    ) -> StreamTranslator:
        """A reader of frames."""
        return BedrockStream(filters, Completion(client_body))

    def whole(self, raw: bytes, client_body: Body, provider: Provider) -> Whole:
        """The answer, without Bedrock's own metrics."""
        return super().whole(_without_metrics(raw)[0], client_body, provider)

    def refusal(
        self, status: int, headers: Mapping[str, str], body: bytes, now: float
    ) -> WireRefusal:
        """The error by Amazon's name for it; the status alone does not say what it is."""
        value = decode_json(body)
        members = value if isinstance(value, Mapping) else {}
        name = headers.get("x-amzn-errortype") or _first_text(members, "__type", "code")
        found = _error(_name(name), value)
        if found is not None:
            return WireRefusal(*found)
        plain = super().refusal(status, headers, body, now)
        message = plain.error.message or _first_text(members, "Message")
        return replace(plain, error=replace(plain.error, message=message))


class CountTokensFormat(BedrockFormat):
    """The endpoint that counts the tokens of a request for InvokeModel."""

    def url(self, provider: Provider, model: str, *, stream: bool) -> str:
        """The endpoint of the model itself: there is none for an inference profile."""
        return model_url(provider.base_url, _GEOGRAPHY.sub("", model, count=1), "count-tokens")

    def request(self, body: Body, provider: Provider, betas: tuple[str, ...] = ()) -> Body:
        """The body that is counted, inside another one."""
        counted = invocation(body, betas)
        if "max_tokens" not in counted:
            counted = counted.with_members(max_tokens=1)
        encoded = b64encode(counted.raw).decode()
        return Body.parse(msgspec.json.encode({"input": {"invokeModel": {"body": encoded}}}))

    def whole(self, raw: bytes, client_body: Body, provider: Provider) -> Whole:
        """The count as Anthropic's endpoint gives it."""
        value = decode_json(raw)
        count = value.get("inputTokens") if isinstance(value, dict) else None
        if not is_token_count(count):
            return Whole(raw, UpstreamError(message="the answer is not a token count"))
        return Whole(msgspec.json.encode({"input_tokens": count}))


BEDROCK: Final = BedrockFormat()
BEDROCK.counting = CountTokensFormat()
