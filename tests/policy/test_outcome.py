"""What an answer means, as a table."""

from datetime import UTC, datetime
from email.utils import format_datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback.messages.errors import UpstreamError, read_error
from ccfallback.policy.outcome import (
    CLOCK_SLACK,
    LONGEST_BURST,
    Fault,
    Outcome,
    burst_pause,
    classify,
    describe_clock,
    fault_of_status,
    is_prompt_too_long,
)

NOW = 1_700_000_000.0

UNIFIED = "anthropic-ratelimit-unified-"


def anthropic(kind: str, message: str = "said no", code: str = "") -> bytes:
    details = f',"details":{{"error_code":"{code}"}}' if code else ""
    return (
        f'{{"type":"error","error":{{"type":"{kind}","message":"{message}"{details}}}}}'
    ).encode()


def openai(message: str, code: str = "null") -> bytes:
    return f'{{"error":{{"message":"{message}","code":{code}}}}}'.encode()


REQUEST = "invalid_request_error"

STATUSES = [
    (400, Fault.REQUEST),
    (401, Fault.ACCOUNT),
    (402, Fault.ACCOUNT),
    (403, Fault.ACCOUNT),
    (404, Fault.UNKNOWN_MODEL),
    (405, Fault.REQUEST),
    (408, Fault.UPSTREAM),
    (409, Fault.REQUEST),
    (413, Fault.REQUEST),
    (422, Fault.REQUEST),
    (429, Fault.THROTTLED),
    (499, Fault.REQUEST),
    (500, Fault.UPSTREAM),
    (502, Fault.UPSTREAM),
    (503, Fault.UPSTREAM),
    (504, Fault.UPSTREAM),
    (522, Fault.UPSTREAM),
    (529, Fault.OVERLOADED),
    (302, Fault.UPSTREAM),
]

BODIES = [
    # An error inside a 200.
    (200, anthropic("invalid_request_error"), Fault.REQUEST),
    (200, anthropic("authentication_error"), Fault.ACCOUNT),
    (200, anthropic("billing_error"), Fault.ACCOUNT),
    (200, anthropic("permission_error"), Fault.ACCOUNT),
    (200, anthropic("not_found_error"), Fault.UNKNOWN_MODEL),
    (200, anthropic("request_too_large"), Fault.REQUEST),
    (200, anthropic("rate_limit_error"), Fault.THROTTLED),
    (200, anthropic("timeout_error"), Fault.UPSTREAM),
    (200, anthropic("api_error"), Fault.UPSTREAM),
    (200, anthropic("overloaded_error"), Fault.OVERLOADED),
    (200, anthropic("never_heard_of"), Fault.UPSTREAM),
    (200, anthropic(REQUEST, "Your credit balance is too low"), Fault.ACCOUNT),
    (200, openai("slow down", "429"), Fault.THROTTLED),
    (200, openai("no such model", "404"), Fault.UNKNOWN_MODEL),
    (200, openai("bad", "400"), Fault.REQUEST),
    (200, openai("who knows"), Fault.UPSTREAM),
    (200, b"", Fault.UPSTREAM),
    (200, b"<html><title>Sign in</title></html>", Fault.UPSTREAM),
    (200, b"{", Fault.UPSTREAM),
    # Money.
    (400, anthropic(REQUEST, "Your credit balance is too low to access the API"), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "You have reached your specified API usage limits"), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "monthly spend limit reached"), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "see Plans & Billing"), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "This organization has been disabled."), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "on hold", "organization_on_hold"), Fault.ACCOUNT),
    (400, anthropic("billing_error"), Fault.ACCOUNT),
    (404, anthropic("not_found_error", "organization is disabled"), Fault.ACCOUNT),
    (400, openai("You exceeded", '"insufficient_quota"'), Fault.ACCOUNT),
    (402, openai("Insufficient credits"), Fault.ACCOUNT),
    # An account, a plan or an organization, in words that may be anyone's.
    (400, anthropic(REQUEST, "You're out of extra usage. Add more to keep going"), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "Third-party apps draw from your extra usage"), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "Add more at claude.ai/settings/usage"), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "You are out of credits"), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "Your subscription has expired"), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "subscription required"), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "The beta is not available for this subscription"), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "weekly usage quota reached"), Fault.ACCOUNT),
    (404, anthropic("not_found_error", "Your account is suspended"), Fault.ACCOUNT),
    (400, anthropic(REQUEST, "This workspace has been disabled"), Fault.ACCOUNT),
    # Not money, although it looks like it.
    (400, anthropic(REQUEST, "messages.3.content.0.text: no credits here"), Fault.REQUEST),
    (400, anthropic(REQUEST, "Invalid `tools[2].name`: extra usage"), Fault.REQUEST),
    (400, anthropic(REQUEST, "system: credits must be text"), Fault.REQUEST),
    (400, anthropic(REQUEST, "thinking.type: not with your subscription"), Fault.REQUEST),
    (404, anthropic("not_found_error", "model: not in your subscription"), Fault.UNKNOWN_MODEL),
    (400, anthropic(REQUEST, "credit card numbers are not accepted"), Fault.REQUEST),
    (400, anthropic(REQUEST, "x-anthropic-billing-header is a reserved keyword"), Fault.REQUEST),
    (400, anthropic(REQUEST, "tools.3.input_schema.billing_address: bad"), Fault.REQUEST),
    (400, anthropic(REQUEST, "tools.0.custom.name: get-billing: bad"), Fault.REQUEST),
    (400, anthropic(REQUEST, "prompt is too long: see your usage limits"), Fault.REQUEST),
    (400, anthropic(REQUEST, "max_tokens: 128000 > 64000"), Fault.REQUEST),
    (404, anthropic("not_found_error", "model: nope"), Fault.UNKNOWN_MODEL),
    # Overload, said in another way.
    (500, anthropic("overloaded_error"), Fault.OVERLOADED),
    (503, anthropic("overloaded_error"), Fault.OVERLOADED),
    (429, anthropic("overloaded_error"), Fault.OVERLOADED),
    (503, openai("The model is overloaded. Please try again later."), Fault.OVERLOADED),
    (500, anthropic("api_error", "Overloaded"), Fault.OVERLOADED),
    (429, openai("busy", '"engine_overloaded"'), Fault.OVERLOADED),
    (400, anthropic(REQUEST, "overloaded operator in tools.0"), Fault.REQUEST),
    # The body does not change what these mean.
    (401, b"<html>", Fault.ACCOUNT),
    (403, b"", Fault.ACCOUNT),
    (429, anthropic("rate_limit_error"), Fault.THROTTLED),
    (503, b"<html><title>503</title>", Fault.UPSTREAM),
    (529, b"", Fault.OVERLOADED),
]


def meaning(status: int, body: bytes, headers: dict[str, str] | None = None) -> Outcome:
    return classify(status, headers or {}, read_error(body), now=NOW)


@pytest.mark.parametrize(("status", "fault"), STATUSES)
def test_the_fault_of_a_status(status: int, fault: Fault) -> None:
    assert fault_of_status(status) is fault
    assert meaning(status, b"").fault is fault


@pytest.mark.parametrize(("status", "body", "fault"), BODIES)
def test_the_fault_of_a_status_with_a_body(status: int, body: bytes, fault: Fault) -> None:
    outcome = meaning(status, body)
    assert outcome.fault is fault
    assert outcome.status == status
    assert not outcome.ok


WINDOWS = [
    ({"status": "rejected", "5h-status": "rejected"}, Fault.THROTTLED),
    ({"status": "rejected", "7d-status": "rejected"}, Fault.THROTTLED),
    ({"status": "rejected"}, Fault.THROTTLED),
    (
        {"status": "rejected", "5h-status": "allowed", "7d_oi-status": "rejected"},
        Fault.MODEL_THROTTLED,
    ),
    (
        {"status": "rejected", "7d_oi-status": "rejected", "overage-status": "rejected"},
        Fault.MODEL_THROTTLED,
    ),
    ({"status": "rejected", "7d_opus-status": "rejected"}, Fault.MODEL_THROTTLED),
    ({"status": "rejected", "7d_oi-status": "rejected", "5h-status": "rejected"}, Fault.THROTTLED),
    ({"status": "rejected", "representative-claim": "seven_day_opus"}, Fault.MODEL_THROTTLED),
    ({"status": "rejected", "representative-claim": "seven_day"}, Fault.THROTTLED),
    ({"status": "rejected", "representative-claim": "five_hour"}, Fault.THROTTLED),
    ({"status": "allowed", "7d_oi-status": "rejected"}, Fault.THROTTLED),
    ({}, Fault.THROTTLED),
]


@pytest.mark.parametrize(("windows", "fault"), WINDOWS)
def test_a_429_for_the_window_of_one_model_is_about_that_model(
    windows: dict[str, str], fault: Fault
) -> None:
    headers = {f"{UNIFIED}{name}": value for name, value in windows.items()}
    assert meaning(429, anthropic("rate_limit_error"), headers).fault is fault


@pytest.mark.parametrize("status", [429, 503, 529, 408])
def test_a_reset_hint_is_read(status: int) -> None:
    assert meaning(status, b"", {"retry-after": "40"}).until == NOW + 40


@pytest.mark.parametrize("status", [400, 402, 403])
def test_the_end_of_a_spending_limit_is_read_from_its_message(status: int) -> None:
    words = "You have reached your specified API usage limits. You will regain access on "
    day = datetime.fromtimestamp(NOW + 86400 * 3, UTC)
    body = anthropic("invalid_request_error", f"{words}{day:%Y-%m-%d} at 00:00 UTC")
    found = meaning(status, body)
    assert found.fault is Fault.ACCOUNT
    midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)
    assert (found.until, found.hint) == (midnight.timestamp(), "message")


def test_a_refused_request_has_no_reset_hint() -> None:
    assert meaning(400, b"", {"retry-after": "40"}).until is None


TOO_LONG = [
    "prompt is too long: 210000 tokens > 200000 maximum",
    "Input is too long for requested model.",
    "context_length_exceeded",
    "This model's maximum context length is 8192 tokens",
    "Your input exceeds the context window of this model",
    "ContextWindowExceededError",
    "the request exceeds the available context size",
    "input is longer than the model's context length",
    "The input token count exceeds the maximum number of tokens allowed",
    "exceeded model token limit: 262144",
    "input token length too long",
    "prompt exceeds max length",
    "Range of input length should be [1, 98304]",
    "context window exceeds limit",
    "but model only supports up to 4096",
    "Please reduce the length of the messages",
]


@pytest.mark.parametrize("message", TOO_LONG)
def test_a_prompt_that_is_too_long_is_recognized_in_many_wordings(message: str) -> None:
    assert is_prompt_too_long(meaning(400, openai(message)))


def test_a_413_means_that_the_prompt_is_too_long() -> None:
    assert is_prompt_too_long(meaning(413, b""))


@pytest.mark.parametrize(
    ("status", "message"), [(400, "max_tokens is too long"), (500, TOO_LONG[0]), (429, TOO_LONG[0])]
)
def test_other_failures_do_not_mean_that_the_prompt_is_too_long(status: int, message: str) -> None:
    assert not is_prompt_too_long(meaning(status, openai(message)))


def test_the_reason_is_status_and_type() -> None:
    assert meaning(529, anthropic("overloaded_error", "long story")).reason == (
        "529 overloaded_error"
    )
    assert meaning(502, b"<html>long story</html>").reason == "502"


@given(status=st.integers(100, 999), body=st.binary(max_size=200) | st.text().map(str.encode))
def test_any_response_has_a_fault_and_a_short_reason(status: int, body: bytes) -> None:
    outcome = meaning(status, body)
    assert outcome.fault is not Fault.NONE
    assert len(outcome.reason) < 80
    assert outcome.reason.isprintable()


@given(kind=st.text(max_size=300), message=st.text(max_size=300), bare=st.booleans())
def test_the_reason_holds_no_content(kind: str, message: str, bare: bool) -> None:
    error: object = message if bare else {"type": kind, "message": message}
    outcome = meaning(500, msgspec.json.encode({"type": kind, "error": error}))
    assert len(outcome.reason) < 80
    assert outcome.reason.isprintable()


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (
            "Quota exceeded for aiplatform.googleapis.com/"
            "online_prediction_input_tokens_per_minute_per_base_model with base model: "
            "anthropic-claude-opus-5-5. Please submit a quota increase request.",
            Fault.MODEL_THROTTLED,
        ),
        (
            "Rate limit reached for gpt-5.6 in organization org-1 on tokens per min (TPM)",
            Fault.MODEL_THROTTLED,
        ),
        (
            "Rate limit reached for model `llama-3.3` in organization `org` service tier `free`",
            Fault.MODEL_THROTTLED,
        ),
        ("Quota exceeded for requests per minute per region", Fault.THROTTLED),
        ("Rate limit reached for requests", Fault.THROTTLED),
        ("Too many tokens, please wait before trying again.", Fault.THROTTLED),
    ],
)
def test_a_quota_of_one_model_concerns_that_model(message: str, fault: Fault) -> None:
    error = UpstreamError("rate_limit_error", message)
    assert classify(429, {}, error, now=0.0).fault is fault


@pytest.mark.parametrize(
    ("date", "words"),
    [
        ("Sat, 28 Nov 2026 12:12:00 GMT", "this machine's clock is 12 min behind the provider's"),
        ("Sat, 28 Nov 2026 11:30:00 GMT", "this machine's clock is 30 min ahead of the provider's"),
        ("Sat, 28 Nov 2026 12:04:59 GMT", ""),
        ("yesterday", ""),
        (None, ""),
    ],
)
def test_a_wrong_clock_is_told_from_the_date_of_a_response(date: str | None, words: str) -> None:
    headers = {} if date is None else {"date": date}
    assert describe_clock(headers, 1_795_867_200.0) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (CLOCK_SLACK, ""),
        (-CLOCK_SLACK, ""),
        (CLOCK_SLACK + 1, "5 min behind the provider's"),
        (-3600.0, "60 min ahead of the provider's"),
    ],
)
def test_a_clock_may_be_off_by_a_few_minutes(seconds: float, words: str) -> None:
    there = format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)
    assert describe_clock({"date": there}, NOW).endswith(words)
    assert bool(describe_clock({"date": there}, NOW)) == bool(words)


THROTTLED = Outcome(Fault.THROTTLED, status=429, until=NOW + 2)


@pytest.mark.parametrize(
    ("outcome", "headers", "seconds"),
    [
        (THROTTLED, {}, 2.0),
        (replace(THROTTLED, until=NOW + LONGEST_BURST), {}, LONGEST_BURST),
        (replace(THROTTLED, until=NOW + LONGEST_BURST + 0.01), {}, None),
        (replace(THROTTLED, until=NOW + 0.5), {}, 0.5),
        (replace(THROTTLED, until=NOW), {}, None),
        (replace(THROTTLED, until=None), {}, None),
        (replace(THROTTLED, status=200), {}, 2.0),
        (replace(THROTTLED, fault=Fault.MODEL_THROTTLED), {}, 2.0),
        (replace(THROTTLED, fault=Fault.OVERLOADED, status=529), {}, None),
        (replace(THROTTLED, fault=Fault.TIMEOUT, status=None), {}, None),
        (THROTTLED, {f"{UNIFIED}status": "rejected"}, None),
        (THROTTLED, {f"{UNIFIED}5h-status": "rejected"}, None),
        (THROTTLED, {f"{UNIFIED}status": "allowed"}, 2.0),
    ],
)
def test_only_a_short_burst_is_waited_for(
    outcome: Outcome, headers: dict[str, str], seconds: float | None
) -> None:
    assert burst_pause(outcome, headers, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "fault"),
    [(200, Fault.ACCOUNT), (299, Fault.ACCOUNT), (300, Fault.UPSTREAM), (199, Fault.UPSTREAM)],
)
def test_the_type_of_an_error_counts_inside_a_good_status(status: int, fault: Fault) -> None:
    error = UpstreamError("authentication_error", "said no")
    assert classify(status, {}, error, now=NOW).fault is fault


def test_an_error_without_a_type_inside_a_good_status_is_the_providers() -> None:
    assert classify(200, {}, UpstreamError("", "said no"), now=NOW).fault is Fault.UPSTREAM
    given = classify(400, {}, UpstreamError("overloaded_error", "said no"), now=NOW)
    assert (given.fault, given.hint) == (Fault.OVERLOADED, "")
