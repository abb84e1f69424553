"""Vertex AI: where requests go, what they carry, and what its errors mean."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ccfallback.config.model import Google, Provider
from ccfallback.messages.body import Body
from ccfallback.policy.outcome import Fault, Outcome, classify, is_prompt_too_long
from ccfallback.wire import FORMATS, recognize_refusal
from ccfallback.wire.credential import Credential
from ccfallback.wire.format import Unconvertible

HOST = "https://aiplatform.googleapis.com"
PLACE = "/v1/projects/my-project/locations/global"
MODELS = f"{PLACE}/publishers/anthropic/models"
PROVIDER = Provider(
    name="v",
    format="vertex",
    base_url=HOST,
    auth_header="Authorization",
    google=Google(project="my-project"),
)
WIRE = FORMATS["vertex"]
ASKED = Body.parse(
    b'{"model":"claude-haiku-4-5@20251001","max_tokens":9,"stream":true,'
    b'"messages":[{"role":"user","content":"Hi"}]}'
)


@pytest.mark.parametrize(
    ("base", "url"),
    [
        (HOST, f"{HOST}{MODELS}"),
        (f"{HOST}/", f"{HOST}{MODELS}"),
        (f"{HOST}/v1", f"{HOST}{MODELS}"),
        (f"{HOST}/v1/", f"{HOST}{MODELS}"),
        (f"{HOST}/v1beta1", f"{HOST}/v1beta1{MODELS.removeprefix('/v1')}"),
        ("http://127.0.0.1:8000", f"http://127.0.0.1:8000{MODELS}"),
        ("http://127.0.0.1:8000/vertex", f"http://127.0.0.1:8000/vertex{MODELS}"),
        (
            f"{HOST}/v1/projects/other/locations/eu",
            f"{HOST}{MODELS}".replace("my-project", "other").replace("global", "eu"),
        ),
        (f"{HOST}{MODELS}/claude-x:rawPredict", f"{HOST}{MODELS}"),
    ],
)
def test_the_endpoint_of_a_model(base: str, url: str) -> None:
    provider = replace(PROVIDER, base_url=base)
    assert (
        WIRE.url(provider, "claude-opus-5-5", stream=True)
        == f"{url}/claude-opus-5-5:streamRawPredict"
    )
    assert (
        WIRE.url(provider, "claude-opus-5-5", stream=False) == f"{url}/claude-opus-5-5:rawPredict"
    )


@pytest.mark.parametrize(
    ("model", "segment"),
    [
        ("claude-haiku-4-5@20251001", "claude-haiku-4-5@20251001"),
        ("../../x", "..%2F..%2Fx"),
        ("a;b", "a%3Bb"),
        ("a?b#c", "a%3Fb%23c"),
        ("{}", "%7B%7D"),
    ],
)
def test_a_model_is_one_segment_of_the_path(model: str, segment: str) -> None:
    assert WIRE.url(PROVIDER, model, stream=False) == f"{HOST}{MODELS}/{segment}:rawPredict"


@pytest.mark.parametrize("model", ["", " ", "[1m]"])
def test_a_request_without_a_model_is_not_sent(model: str) -> None:
    with pytest.raises(Unconvertible):
        WIRE.url(PROVIDER, PROVIDER.model_for(model), stream=True)


def test_a_query_of_the_base_url_is_kept() -> None:
    provider = replace(PROVIDER, base_url=f"{HOST}/v1?key=a{{}}b")
    assert WIRE.url(provider, "m", stream=False) == f"{HOST}{MODELS}/m:rawPredict?key=a%7B%7Db"


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("europe-west1", "europe-west1-aiplatform.googleapis.com"),
    ],
)
def test_the_location_gives_the_host(location: str, host: str) -> None:
    provider = replace(PROVIDER, google=Google(project="p", location=location))
    assert WIRE.default_base_url(provider) == f"https://{host}"


def test_a_project_is_needed_unless_the_url_has_it() -> None:
    assert WIRE.missing_key(PROVIDER) == ""
    assert WIRE.missing_key(replace(PROVIDER, google=Google())) == "google.project"
    known = replace(PROVIDER, google=Google(), base_url=f"{HOST}{PLACE}")
    assert WIRE.missing_key(known) == ""


def test_a_request_has_its_version_in_the_body_and_its_model_in_the_url() -> None:
    client = [
        (b"anthropic-version", b"2023-06-01"),
        (b"anthropic-beta", b"oauth-2025-04-20,context-1m-2025-08-07"),
        (b"authorization", b"Bearer the-clients"),
        (b"x-app", b"cli"),
    ]
    credential = Credential("ya29.t", headers={"x-goog-user-project": "billed"})
    request = WIRE.prepare(ASKED, client, PROVIDER, credential, via="1.1 us")
    body = msgspec.json.decode(request.body)
    assert "model" not in body
    assert body["anthropic_version"] == "vertex-2023-10-16"
    assert body["stream"] is True
    headers = dict(request.headers)
    assert b"anthropic-version" not in headers
    assert headers[b"anthropic-beta"] == b"context-1m-2025-08-07"
    assert headers[b"authorization"] == b"Bearer ya29.t"
    assert headers[b"x-goog-user-project"] == b"billed"
    assert request.url == f"{HOST}{MODELS}/claude-haiku-4-5@20251001:streamRawPredict"


def test_tokens_are_counted_for_a_model_without_its_date() -> None:
    counting = WIRE.counting
    assert counting is not None
    assert counting.url(PROVIDER, "m", stream=False) == f"{HOST}{MODELS}/count-tokens:rawPredict"
    body = counting.request(ASKED, PROVIDER)
    assert body.model == "claude-haiku-4-5"
    assert body.get("anthropic_version") == "vertex-2023-10-16"
    assert counting.whole(b'{"input_tokens":7}', ASKED, PROVIDER).error is None


def google(code: int, status: str, message: str = "m", *details: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": details}}


def outcome(status: int, value: Any) -> Outcome:
    found = WIRE.refusal(status, {}, msgspec.json.encode(value), 1000.0)
    judged = classify(found.status, {}, found.error, now=1000.0)
    return judged.but(status=status, until=found.until or judged.until)


NOT_ENABLED = (
    "Publisher Model `projects/p/locations/l/publishers/anthropic/models/claude-opus-5-5` was not "
    "found or your project does not have access to it."
)
NOT_SERVED = (
    "Publisher Model `projects/p/locations/us-east1/publishers/anthropic/models/claude-opus-5-5` "
    "is not servable in region us-east1."
)


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value]], ids=["one", "array"])
@pytest.mark.parametrize(
    ("status", "value", "fault"),
    [
        (401, google(401, "UNAUTHENTICATED"), Fault.ACCOUNT),
        (403, google(403, "PERMISSION_DENIED"), Fault.ACCOUNT),
        (404, google(404, "NOT_FOUND", NOT_ENABLED), Fault.UNKNOWN_MODEL),
        (400, google(400, "FAILED_PRECONDITION", NOT_SERVED), Fault.UNKNOWN_MODEL),
        (400, google(400, "FAILED_PRECONDITION", "Billing is disabled"), Fault.ACCOUNT),
        (429, google(429, "RESOURCE_EXHAUSTED", "Quota exceeded"), Fault.THROTTLED),
        (499, google(499, "CANCELLED", "The operation was cancelled."), Fault.UPSTREAM),
        (409, google(409, "ABORTED"), Fault.UPSTREAM),
        (500, google(500, "INTERNAL"), Fault.UPSTREAM),
        (503, google(503, "UNAVAILABLE", "overloaded"), Fault.OVERLOADED),
        (504, google(504, "DEADLINE_EXCEEDED"), Fault.UPSTREAM),
        (400, google(400, "INVALID_ARGUMENT", "no"), Fault.REQUEST),
        (
            529,
            {"type": "error", "error": {"type": "overloaded_error", "message": "O"}},
            Fault.OVERLOADED,
        ),
        (
            400,
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "x: Extra inputs are not permitted",
                },
            },
            Fault.REQUEST,
        ),
    ],
)
def test_what_an_error_means(status: int, value: Any, fault: Fault, wrap: Any) -> None:
    assert outcome(status, wrap(value)).fault is fault


@pytest.mark.parametrize("status", [400, 413])
def test_a_body_over_the_limit_is_a_prompt_that_is_too_long(status: int) -> None:
    text = "The request size (31457999 bytes) exceeds 30.000MB limit."
    found = outcome(status, google(status, "INVALID_ARGUMENT", text))
    assert is_prompt_too_long(found)
    assert found.fault is Fault.REQUEST


def test_a_retry_delay_in_the_details_is_a_reset_hint() -> None:
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
    found = outcome(429, google(429, "RESOURCE_EXHAUSTED", "Quota exceeded", retry))
    assert found.until == 1034.0


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value]], ids=["one", "array"])
@pytest.mark.parametrize("event", [b"event: error\n", b""])
def test_googles_error_inside_a_stream(event: bytes, wrap: Any) -> None:
    stream = WIRE.stream(ASKED, PROVIDER)
    error = msgspec.json.encode(wrap(google(429, "RESOURCE_EXHAUSTED")))
    assert stream.feed(event + b"data: " + error + b"\n\n") == b""
    assert stream.error is not None
    assert classify(200, {}, stream.error, now=0.0).fault is Fault.THROTTLED


def test_googles_error_as_a_whole_answer() -> None:
    error = msgspec.json.encode([google(503, "UNAVAILABLE")])
    found = WIRE.whole(error, ASKED, PROVIDER).error
    assert found is not None
    assert found.type == "UNAVAILABLE"


def test_its_errors_are_recognized_in_both_shapes() -> None:
    assert WIRE.refusal_mark.search(msgspec.json.encode(google(400, "INVALID_ARGUMENT")))
    assert WIRE.refusal_mark.search(b'{"type":"error","error":{"type":"x"}}')
    assert not WIRE.refusal_mark.search(b'{"error":{"message":"m","code":"c"}}')
    assert recognize_refusal(b'{"type":"error","error":{}}') is FORMATS["anthropic"]
