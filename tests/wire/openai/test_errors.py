"""Refusals of every shape, and what they mean here."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.messages.errors import UpstreamError
from ccfallback.policy.outcome import Fault, classify
from ccfallback.wire.format import WireRefusal
from ccfallback.wire.openai.chunks import decode_liberally
from ccfallback.wire.openai.errors import error_for_status, error_inside, refusal, reset_hint

NOW = 1_700_000_000.0


def refused(status: int, value: Any, **headers: str) -> WireRefusal:
    """What a refusal means; `_` in a header's name is a dash."""
    raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return refusal(status, named, raw, NOW)


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


SHAPES: list[tuple[str, int, Any, int, str, str]] = [
    ("OpenAI", 400, error("No", type="invalid_request_error"), 400, "invalid_request_error", "No"),
    ("FastAPI", 422, {"detail": "No"}, 400, "invalid_request_error", "No"),
    (
        "FastAPI's list",
        422,
        {"detail": [{"loc": ["body", "a", 0], "msg": "Field required", "type": "missing"}]},
        400,
        "invalid_request_error",
        "body.a.0: Field required",
    ),
    ("vLLM", 404, {"object": "error", "message": "No", "code": 404}, 404, "not_found_error", "No"),
    ("Ollama", 500, {"error": "boom"}, 500, "api_error", "boom"),
    ("a code", 401, {"code": "401", "msg": "No"}, 401, "authentication_error", "No"),
    ("Gemini", 403, [error("No", code=403)], 403, "permission_error", "No"),
    ("a bad key", 401, error("No", code="invalid_api_key"), 401, "authentication_error", "No"),
    (
        "Gemini's bad key",
        400,
        [error("API key not valid. Please pass a valid API key.", code=400)],
        401,
        "authentication_error",
        "API key not valid. Please pass a valid API key.",
    ),
    ("DeepSeek", 402, error("Insufficient Balance"), 402, "billing_error", "Insufficient Balance"),
    ("quota", 429, error("No", code="insufficient_quota"), 402, "billing_error", "No"),
    ("arrears", 429, error("No", code="1113"), 402, "billing_error", "No"),
    ("Moonshot", 429, error("x", type="engine_overloaded_error"), 529, "overloaded_error", "x"),
    ("rate", 429, error("x", code="rate_limit_exceeded"), 429, "rate_limit_error", "x"),
    (
        "Groq's minute",
        413,
        error("Request too large on tokens per minute (TPM)", type="tokens"),
        429,
        "rate_limit_error",
        "Request too large on tokens per minute (TPM)",
    ),
    ("too large", 413, error("x"), 413, "request_too_large", "x"),
    ("Groq's capacity", 498, error("x"), 529, "overloaded_error", "x"),
    ("overload", 503, error("x"), 529, "overloaded_error", "x"),
    ("timeout", 408, error("x"), 504, "timeout_error", "x"),
    ("gone", 499, b"", 504, "timeout_error", "status 499"),
    ("moderation", 403, error("It was flagged"), 400, "invalid_request_error", "It was flagged"),
    ("a broken call", 400, error("x", code="tool_use_failed"), 500, "api_error", "x"),
    ("empty", 502, b"", 502, "api_error", "Bad Gateway"),
    ("text", 500, b"oh no", 500, "api_error", "oh no"),
    ("model", 404, error("x", code="model_not_found"), 404, "not_found_error", "x"),
    ("plan", 429, error("x", code=1311), 404, "not_found_error", "x"),
    ("no shape", 400, {"a": 1}, 400, "invalid_request_error", ""),
]


@pytest.mark.parametrize(
    ("status", "value", "meant", "kind", "message"),
    [shape[1:] for shape in SHAPES],
    ids=[shape[0] for shape in SHAPES],
)
def test_every_shape(status: int, value: Any, meant: int, kind: str, message: str) -> None:
    read = refused(status, value)
    assert (read.status, read.error.type, read.error.message) == (meant, kind, message)
    assert read.until is None


def test_openrouters_provider_message_is_read() -> None:
    raw = '{"error":{"message":"The model is busy"}}'
    for metadata in ({"raw": raw}, {"raw": msgspec.json.decode(raw)}, {"raw": "The model is busy"}):
        read = refused(429, error("Provider returned error", code=429, metadata=metadata))
        assert read.error.message == "Provider returned error: The model is busy"
        assert read.status == 429


def test_a_conversation_that_is_too_long() -> None:
    text = (
        "This model's maximum context length is 131072 tokens. "
        "However, you requested 140000 tokens."
    )
    read = refused(400, error(text, code="context_length_exceeded"))
    assert (read.status, read.error.type) == (400, "invalid_request_error")
    assert read.error.message.startswith("prompt is too long: 140000 tokens > 131072 maximum")
    assert text in read.error.message
    assert read.until is None


def test_together_refuses_a_long_prompt_with_403() -> None:
    read = refused(403, error("Input token count exceeds the maximum number of tokens allowed"))
    assert read.status == 400
    assert "prompt is too long" in read.error.message


def test_reset_hints_of_refusals() -> None:
    quota = refused(429, error("x", code="insufficient_quota"))
    assert (quota.error.type, quota.until) == ("billing_error", None)
    assert refused(429, error("x"), x_ratelimit_reset_tokens="6m0s").until == NOW + 360
    text = "Usage limit reached for 5 hour. Your limit will reset at 2023-11-20 12:00:00"
    assert refused(429, error(text, code="1308")).until == 1_700_452_800.0


def test_a_page() -> None:
    page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
    read = refused(502, page)
    assert (read.status, read.error) == (
        502,
        UpstreamError("api_error", "502 Bad Gateway", "", 502),
    )


FAULTS = [
    (400, error("x"), Fault.REQUEST),
    (429, error("x", code="insufficient_quota"), Fault.ACCOUNT),
    (400, error("Incorrect API key provided"), Fault.ACCOUNT),
    (429, error("x"), Fault.THROTTLED),
    (413, error("tokens per minute"), Fault.THROTTLED),
    (498, error("x"), Fault.OVERLOADED),
    (403, error("flagged by moderation"), Fault.REQUEST),
    (404, error("x"), Fault.UNKNOWN_MODEL),
    (500, error("x"), Fault.UPSTREAM),
]


@pytest.mark.parametrize(("status", "value", "fault"), FAULTS)
def test_the_faults_of_refusals(status: int, value: Any, fault: Fault) -> None:
    read = refused(status, value)
    assert classify(read.status, {}, read.error, now=NOW).fault is fault


@pytest.mark.parametrize(
    "value",
    [
        {"choices": [{"message": {}}]},
        {"choices": [], "usage": {}},
        {"usage": {"prompt_tokens": 1}},
        {"id": "x"},
        {"code": 0, "message": "ok"},
        {"base_resp": {"status_code": 0}, "choices": []},
        None,
        [],
        "x",
    ],
)
def test_answers_that_are_no_errors(value: Any) -> None:
    assert error_inside(value) is None


def test_a_status_without_a_message() -> None:
    assert error_for_status(529, "x") == UpstreamError("overloaded_error", "x", "", 529)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "type", "status", "details", "metadata"])
            | st.sampled_from(
                ["raw", "detail", "loc", "msg", "headers", "retryDelay", "base_resp"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(
    status=st.integers(300, 599),
    raw=st.binary(max_size=40) | JSON.map(msgspec.json.encode),
    header=st.text(max_size=8),
)
def test_no_refusal_raises(status: int, raw: bytes, header: str) -> None:
    headers = {
        "x-ratelimit-reset": header,
        "x-ratelimit-reset-tokens": header,
        "retry-after-ms": header,
    }
    read = refusal(status, headers, raw, NOW)
    assert read.error.type
    assert read.error.status == read.status
    assert read.until is None or read.until > NOW
    error_inside(decode_liberally(raw))


LONG = "maximum context length is 1,000 tokens: you requested 1,500 tokens"


@pytest.mark.parametrize("status", [400, 403, 413, 422, 500])
def test_a_prompt_that_is_too_long_is_refused_in_anthropics_words(status: int) -> None:
    refusal = refused(status, error(LONG))
    assert (refusal.status, refusal.error.type) == (400, "invalid_request_error")
    assert refusal.error.message == f"prompt is too long: 1500 tokens > 1000 maximum ({LONG})"


@pytest.mark.parametrize("more", [{"code": "context_length_exceeded"}, {"type": "1261"}])
def test_a_code_says_that_the_prompt_is_too_long(more: dict[str, str]) -> None:
    assert refused(400, error("No", **more)).error.message == "prompt is too long (No)"


@pytest.mark.parametrize("status", [401, 402, 404, 429])
def test_other_statuses_are_not_about_the_length(status: int) -> None:
    message = "reduce the length of the messages"
    assert refused(status, error(message)).error.message == message


@pytest.mark.parametrize("message", ["Unsupported parameter: 'max_tokens'", "max_tokens is large"])
def test_other_messages_are_not_about_the_length(message: str) -> None:
    assert refused(400, error(message)).error.message == message


HEADERS: list[tuple[dict[str, str], str, float | None]] = [
    ({}, "", None),
    ({"retry-after": "20"}, "", 20),
    ({"retry-after-ms": "1500"}, "", 1.5),
    ({"retry-after": "20", "x-ratelimit-reset-tokens": "6m0s"}, "tokens", 20),
    ({"x-ratelimit-reset-tokens": "6m0s"}, "", 360),
    ({"x-ratelimit-reset-requests": "20ms", "x-ratelimit-reset-tokens": "1s"}, "", 1),
    ({"x-ratelimit-reset-requests": "1h2m3s", "x-ratelimit-reset-tokens": "1s"}, "tokens", 1),
    (
        {
            "x-ratelimit-reset-requests": "2s",
            "x-ratelimit-reset-tokens": "9s",
            "x-ratelimit-remaining-requests": "0",
        },
        "",
        2,
    ),
    ({"x-ratelimit-reset": "1700000060000"}, "", 60),
    ({"x-ratelimit-reset": "1700000060"}, "", 60),
    ({"x-ratelimit-reset": "60"}, "", 60),
    ({"x-ratelimit-reset": "1600000000000"}, "", None),
    ({"x-ratelimit-reset": "soon", "x-ratelimit-reset-tokens": "never"}, "", None),
    ({"x-ratelimit-reset": "nan"}, "", None),
    ({"x-ratelimit-reset": "999999999999999"}, "", None),
    ({"x-ratelimit-reset-requests": "9" * 400 + "s"}, "requests", None),
    ({"x-ratelimit-reset-requests": "9" * 400 + "s", "x-ratelimit-reset-tokens": "1s"}, "", 1),
]


@pytest.mark.parametrize(("headers", "kind", "seconds"), HEADERS)
def test_reset_hints_in_headers(headers: dict[str, str], kind: str, seconds: float | None) -> None:
    found = reset_hint(headers, None, UpstreamError(kind), NOW)
    until = None if found is None else found.until
    assert until == (None if seconds is None else NOW + seconds)


MESSAGES: list[tuple[str, float | None]] = [
    ("Please try again in 6m0s. Visit the site.", 360),
    ("Please try again in 7m12.5s.", 432.5),
    ("Please try again in 20ms.", 0.02),
    ("max RPM: 3, please try again after 1 seconds", 1),
    ("Please retry in 34.5s.", 34.5),
    ("try again in 2 hours", 7200),
    ("try again in 1 day", 86400),
    ("try again in 1 minute 30 seconds", 90),
    ("try again later", None),
    ("try again in a while", None),
    ("Your limit will reset at 2023-11-20 12:00:00", 452_800),
    ("将在 2023-11-20 12:00:00 重置", 452_800),
    ("until 2023-11-20T12:00:00Z", 481_600),
    ("until 2023-11-20 12:00 UTC", 481_600),
    ("until 2023-11-20T12:00:00+01:00", 478_000),
    ("since 2020-01-01 00:00:00", None),
    ("at 2023-99-99 99:99:99", None),
]


@pytest.mark.parametrize(("message", "seconds"), MESSAGES)
def test_reset_hints_in_messages(message: str, seconds: float | None) -> None:
    found = reset_hint({}, None, UpstreamError(message=message), NOW)
    until = None if found is None else found.until
    assert until == (None if seconds is None else pytest.approx(NOW + seconds))


BODIES: list[tuple[Any, float | None]] = [
    ({"error": {"details": [{"@type": "x"}, {"retryDelay": "34s"}]}}, 34),
    ([{"error": {"details": [{"retryDelay": "34.5s"}]}}], 34.5),
    ({"error": {"metadata": {"headers": {"X-RateLimit-Reset": "1700000060000"}}}}, 60),
    ({"error": {"metadata": {"headers": {"X-RateLimit-Reset": 1700000060000}}}}, 60),
    ({"error": {"details": [{"retryDelay": 34}], "metadata": []}}, 34),
    ({"error": "x"}, None),
    ([], None),
]


@pytest.mark.parametrize(("value", "seconds"), BODIES)
def test_reset_hints_in_bodies(value: Any, seconds: float | None) -> None:
    found = reset_hint({}, value, UpstreamError(), NOW)
    until = None if found is None else found.until
    assert until == (None if seconds is None else NOW + seconds)
