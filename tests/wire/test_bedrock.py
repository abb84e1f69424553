"""The wire format of Bedrock's runtime: URLs, bodies, streams, errors and counts."""

from base64 import b64decode
from itertools import pairwise
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback.config.model import Aws, Provider
from ccfallback.messages.assemble import to_message
from ccfallback.messages.body import Body
from ccfallback.messages.errors import UpstreamError
from ccfallback.messages.prompt_length import says_prompt_too_long
from ccfallback.messages.sse import EventSplitter, data_of
from ccfallback.policy.outcome import Fault, classify, is_prompt_too_long
from ccfallback.simulator.scripted_bedrock import (
    ON_DEMAND,
    TOO_LONG,
    chunk,
    error_frame,
    exception,
    frames_of,
)
from ccfallback.wire import FORMATS
from ccfallback.wire.credential import Credential
from ccfallback.wire.event_stream import encode_frame
from ccfallback.wire.format import StreamTranslator, Unconvertible

BEDROCK: Final = FORMATS["bedrock"]
PROVIDER: Final = Provider(
    name="b",
    base_url="https://bedrock-runtime.eu-central-1.amazonaws.com",
    format="bedrock",
    auth_header="Authorization",
)
ASKED: Final = Body.parse(
    b'{"model":"eu.anthropic.claude-opus-5-5","max_tokens":9,"stream":true,'
    b'"messages":[{"role":"user","content":"Hi"}]}'
)
CONTENT: Final[list[dict[str, Any]]] = [
    {"type": "thinking", "thinking": "Well.", "signature": "c2ln"},
    {"type": "text", "text": "Hello, \n world"},
    {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "/a"}},
]


def stream() -> StreamTranslator:
    return BEDROCK.stream(ASKED, PROVIDER)


def events(raw: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(data_of(event)) for event in EventSplitter().feed(raw)]


def fed(*frames: bytes) -> tuple[list[dict[str, Any]], StreamTranslator]:
    translator = stream()
    raw = b"".join(translator.feed(frame) for frame in frames) + translator.finish()
    return events(raw), translator


# --- Requests ---


@pytest.mark.parametrize(
    ("base_url", "model", "url"),
    [
        (
            "https://bedrock-runtime.us-east-1.amazonaws.com",
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "https://bedrock-runtime.us-east-1.amazonaws.com/model/"
            "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke-with-response-stream",
        ),
        (
            "https://h.test/proxy/",
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc",
            "https://h.test/proxy/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3A"
            "application-inference-profile%2Fabc/invoke-with-response-stream",
        ),
        (
            "https://h.test/model/other/invoke?x=y",
            "a b~c",
            "https://h.test/model/a%20b~c/invoke-with-response-stream?x=y",
        ),
    ],
)
def test_the_model_is_one_segment_of_the_path(base_url: str, model: str, url: str) -> None:
    provider = replace(PROVIDER, base_url=base_url)
    assert BEDROCK.url(provider, model, stream=True) == url
    whole = BEDROCK.url(provider, model, stream=False)
    assert whole == url.replace("/invoke-with-response-stream", "/invoke")
    assert BEDROCK.url(replace(provider, base_url=whole), model, stream=True) == url


@pytest.mark.parametrize("model", ["", ".", "..", " ", ";", "..;x", ".;a=b"])
def test_an_id_that_names_no_model_is_refused(model: str) -> None:
    with pytest.raises(Unconvertible):
        BEDROCK.url(PROVIDER, model, stream=True)


@given(model=st.text(min_size=1, max_size=30).filter(lambda text: text[0] not in " .;"))
def test_any_other_id_stays_one_segment(model: str) -> None:
    try:
        url = BEDROCK.url(PROVIDER, model, stream=False)
    except Unconvertible:
        assert not model.partition(";")[0].strip()
        return
    path = url.removeprefix(PROVIDER.base_url)
    assert path.count("/") == 3
    assert path.isascii()
    assert not set(path) & set("?#;: ")


def test_the_body_has_version_and_flags_but_no_model() -> None:
    client = [
        (b"anthropic-beta", b"effort-2025-11-24,oauth-2025-04-20,context-1m-2025-08-07"),
        (b"anthropic-version", b"2023-06-01"),
        (b"accept", b"text/html"),
        (b"x-stainless-lang", b"js"),
        (b"user-agent", b"claude-cli/2"),
    ]
    request = BEDROCK.prepare(ASKED, client, PROVIDER, Credential("the-key"), via="1.1 us")
    assert msgspec.json.decode(request.body) == {
        "anthropic_version": "bedrock-2023-05-31",
        "anthropic_beta": ["effort-2025-11-24", "context-1m-2025-08-07"],
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert dict(request.headers) == {
        b"accept": b"application/json",
        b"x-amzn-bedrock-accept": b"application/json",
        b"content-type": b"application/json",
        b"user-agent": b"claude-cli/2",
        b"authorization": b"Bearer the-key",
        b"accept-encoding": b"identity",
        b"via": b"1.1 us",
    }


def test_a_user_profile_moves_from_the_header_into_the_body() -> None:
    client = [(b"anthropic-user-profile-id", b"up_1")]
    request = BEDROCK.prepare(ASKED, client, PROVIDER, None, via="1.1 us")
    assert msgspec.json.decode(request.body)["user_profile_id"] == "up_1"
    assert b"anthropic-user-profile-id" not in dict(request.headers)


@pytest.mark.parametrize(
    ("region", "model", "own"),
    [
        ("us-east-1", "claude-opus-5-5[1m]", "us.anthropic.claude-opus-5-5"),
        ("eu-west-3", "claude-opus-4-6", "eu.anthropic.claude-opus-4-6-v1"),
        ("ap-south-1", "claude-sonnet-4-6", "apac.anthropic.claude-sonnet-4-6"),
        ("us-gov-west-1", "claude-haiku-4-5", "us-gov.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("sa-east-1", "claude-opus-4-5-20251101", "global.anthropic.claude-opus-4-5-20251101-v1:0"),
        ("us-east-1", "eu.anthropic.claude-opus-5", "eu.anthropic.claude-opus-5"),
        ("us-east-1", "arn:aws:bedrock:x", "arn:aws:bedrock:x"),
        ("us-east-1", "claude-sonnet-5", "mine"),
    ],
)
def test_models_need_no_mapping(region: str, model: str, own: str) -> None:
    provider = replace(PROVIDER, aws=Aws(region=region), model_mapping={"claude-sonnet-5": "mine"})
    assert provider.model_for(model) == own


# --- Counting ---


def test_tokens_are_counted_for_the_model_itself() -> None:
    counting = BEDROCK.counting
    assert counting is not None
    url = counting.url(PROVIDER, "eu.anthropic.claude-haiku-4-5-20251001-v1:0", stream=False)
    assert url == (
        "https://bedrock-runtime.eu-central-1.amazonaws.com/model/"
        "anthropic.claude-haiku-4-5-20251001-v1%3A0/count-tokens"
    )
    bare = Body.parse(b'{"model":"m","messages":[]}')
    body = msgspec.json.decode(counting.request(bare, PROVIDER, ("effort-2025-11-24",)).raw)
    inner = msgspec.json.decode(b64decode(body["input"]["invokeModel"]["body"]))
    assert inner == {
        "anthropic_version": "bedrock-2023-05-31",
        "anthropic_beta": ["effort-2025-11-24"],
        "max_tokens": 1,
        "messages": [],
    }
    counted = counting.whole(b'{"inputTokens":42}', bare, PROVIDER)
    assert (counted.body, counted.error) == (b'{"input_tokens":42}', None)
    for wrong in (
        b'{"inputTokens":true}',
        b'{"inputTokens":-1}',
        b'{"inputTokens":9007199254740992}',
        b'{"input_tokens":1}',
        b"[]",
        b"<html>",
    ):
        assert counting.whole(wrong, bare, PROVIDER).error is not None


# --- Streams ---


def test_a_stream_of_frames_becomes_the_events_in_them() -> None:
    found, translator = fed(*frames_of(CONTENT))
    assert translator.error is None
    assert translator.complete
    assert translator.finished
    assert found[-1] == {"type": "message_stop"}
    assert [event["type"] for event in found].count("message_delta") == 1
    message = msgspec.json.decode(to_message(b"".join(stream_bytes(frames_of(CONTENT)))))
    assert message["content"] == CONTENT
    assert list(translator.signatures)


def stream_bytes(frames: list[bytes]) -> list[bytes]:
    translator = stream()
    return [*(translator.feed(frame) for frame in frames), translator.finish()]


@given(places=st.lists(st.integers(0, 4000), max_size=12))
def test_a_cut_anywhere_changes_nothing(places: list[int]) -> None:
    raw = b"".join(frames_of(CONTENT, cached=5))
    ends = sorted({min(place, len(raw)) for place in places} | {0, len(raw)})
    parts = [raw[start:end] for start, end in pairwise(ends)]
    assert b"".join(stream_bytes(parts)) == b"".join(stream_bytes([raw]))


@given(end=st.integers(0, 4000))
def test_no_prefix_looks_like_a_whole_answer(end: int) -> None:
    raw = b"".join(frames_of(CONTENT))[:end]
    translator = stream()
    seen = translator.feed(raw)
    seen += translator.finish()
    assert translator.complete == (b'"stop_reason":"tool_use"' in seen)
    if not translator.complete:
        assert b"message_stop" not in seen
        assert translator.error is not None or raw == b"" or translator.heard


def test_counts_of_the_cache_are_told_before_the_end() -> None:
    found, translator = fed(*frames_of(CONTENT, cached=700))
    delta = next(event for event in found if event["type"] == "message_delta")
    assert delta["usage"]["cache_read_input_tokens"] == 700
    assert "amazon-bedrock" not in str(found)
    assert translator.usage.cache_read == 700


def test_counts_that_the_start_has_told_are_not_repeated() -> None:
    start = {"type": "message_start", "message": {"usage": {"cache_read_input_tokens": 700}}}
    frames = [chunk(start), *frames_of(CONTENT, cached=650)[1:]]
    found, _ = fed(*frames)
    delta = next(event for event in found if event["type"] == "message_delta")
    assert "cache_read_input_tokens" not in delta["usage"]


def test_an_answer_without_its_last_event_is_whole() -> None:
    frames = frames_of(CONTENT)[:-1]
    translator = stream()
    for frame in frames:
        translator.feed(frame)
    assert translator.stopped
    assert not translator.complete
    ending = events(translator.finish())
    assert [event["type"] for event in ending] == ["message_delta", "message_stop"]
    assert translator.complete


@pytest.mark.parametrize("delta", [{"stop_reason": None}, {"stop_reason": ""}, {}, None])
@pytest.mark.parametrize("rest", [[], [b"\xff" * 30]])
def test_counts_without_a_stop_reason_are_not_the_end(delta: Any, rest: list[bytes]) -> None:
    value = {"type": "message_delta", "usage": {"output_tokens": 3}}
    if delta is not None:
        value["delta"] = delta
    begun = [*frames_of(CONTENT)[:-2], chunk(value)]
    translator = stream()
    for frame in begun:
        translator.feed(frame)
    assert not translator.stopped
    assert not translator.complete
    found, translator = fed(*begun, *rest)
    assert found[-1]["type"] == "message_delta"
    assert not translator.complete
    assert (translator.error is not None) == bool(rest)
    # The answer may go on, and its own last event may end it.
    found, translator = fed(*begun, *frames_of(CONTENT)[-2:])
    assert translator.complete
    found, translator = fed(*begun, frames_of(CONTENT)[-1])
    assert found[-1] == {"type": "message_stop"}
    assert translator.complete


def test_a_broken_frame_after_the_stop_reason_does_not_undo_the_answer() -> None:
    found, translator = fed(*frames_of(CONTENT)[:-1], b"\xff" * 30)
    assert found[-1]["type"] == "message_delta"
    assert translator.complete


def test_other_frames_are_skipped_and_events_are_one_line() -> None:
    first, *rest = frames_of(CONTENT)
    initial = encode_frame({":message-type": "event", ":event-type": "initial-response"}, b"{}")
    spread = chunk(b'{"type": "ping",\n "x":\r\n 1}')
    found, translator = fed(first, initial, spread, *rest)
    assert {"type": "ping", "x": 1} in found
    assert translator.complete


@pytest.mark.parametrize("line", [b"", b"\n"])
def test_half_of_a_letter_does_not_break_a_stream(line: bytes) -> None:
    delta = b'{"type":"content_block_delta",%b"index":0,"delta":{"type":"text_delta","text":"%b"}}'
    start, opened, *_, closed, ending, stop = frames_of([{"type": "text", "text": "Hi"}])
    translator = stream()
    frames = [start, opened, chunk(delta % (line, b"\\ud83d")), closed, ending, stop]
    out = b"".join(translator.feed(frame) for frame in frames)
    assert translator.error is None
    assert translator.complete
    assert out.count(b"event: ") == 6


def test_a_stream_of_plain_events_is_read_too() -> None:
    plain = b"".join(stream_bytes(frames_of(CONTENT)))
    translator = stream()
    assert translator.feed(plain) == plain
    assert translator.complete


TEXT = frames_of(CONTENT)[:6]


@pytest.mark.parametrize(
    ("frame", "kind", "fault"),
    [
        (exception("throttlingException", "Too many tokens"), "rate_limit_error", Fault.THROTTLED),
        (exception("validationException", TOO_LONG), "invalid_request_error", Fault.REQUEST),
        (exception("internalServerException", "no"), "api_error", Fault.UPSTREAM),
        (exception("serviceUnavailableException", "no"), "api_error", Fault.UPSTREAM),
        (exception("modelTimeoutException", "late"), "timeout_error", Fault.UPSTREAM),
        (
            exception(
                "modelStreamErrorException",
                "x",
                originalStatusCode=529,
                originalMessage="Overloaded",
            ),
            "overloaded_error",
            Fault.OVERLOADED,
        ),
        (
            exception(
                "modelStreamErrorException", "x", originalStatusCode=400, originalMessage="bad"
            ),
            "invalid_request_error",
            Fault.REQUEST,
        ),
        (exception("aNewException", "what"), "api_error", Fault.UPSTREAM),
        (error_frame("ThrottlingException", "slow"), "rate_limit_error", Fault.THROTTLED),
        (error_frame("SomethingElse", "what"), "api_error", Fault.UPSTREAM),
        (encode_frame({":message-type": "what"}, b""), "api_error", Fault.UPSTREAM),
        (encode_frame({}, b""), "api_error", Fault.UPSTREAM),
        (chunk(b"not JSON"), "api_error", Fault.UPSTREAM),
        (chunk(b'{"type":"a\\nb"}'), "api_error", Fault.UPSTREAM),
        (
            encode_frame({":message-type": "event", ":event-type": "chunk"}, b'{"bytes":"%"}'),
            "api_error",
            Fault.UPSTREAM,
        ),
        (
            chunk(
                {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
            ),
            "overloaded_error",
            Fault.OVERLOADED,
        ),
    ],
)
def test_an_error_amid_a_stream_ends_it(frame: bytes, kind: str, fault: Fault) -> None:
    found, translator = fed(*TEXT, frame, *frames_of(CONTENT)[6:])
    assert translator.error is not None
    assert translator.error.type == kind
    assert classify(200, {}, translator.error, now=0.0).fault is fault
    assert not translator.complete
    assert not any(event["type"] in ("error", "message_stop") for event in found)
    assert translator.feed(b"".join(frames_of(CONTENT))) == b""


@pytest.mark.parametrize("cut", [5, 40])
def test_a_cut_frame_is_a_broken_stream(cut: int) -> None:
    _, translator = fed(*TEXT, frames_of(CONTENT)[6][:cut])
    assert translator.error is not None
    assert not translator.complete


def test_a_wrong_checksum_is_a_broken_stream_for_good() -> None:
    wrong = bytearray(frames_of(CONTENT)[6])
    wrong[-1] ^= 1
    found, translator = fed(b"".join([*TEXT, bytes(wrong), *frames_of(CONTENT)[7:]]))
    assert len(found) == len(TEXT)
    assert translator.error is not None
    assert translator.error.type == "api_error"


def test_an_event_over_the_limit_is_refused() -> None:
    big = chunk({"type": "ping", "x": "a" * (4 * 1024 * 1024)})
    _, translator = fed(*TEXT, big)
    assert translator.error is not None


# --- Whole answers and errors ---


def test_a_whole_answer_is_a_message_without_metrics() -> None:
    message = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "Hi"}],
        "usage": {"input_tokens": 3, "output_tokens": 1},
        "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3},
    }
    whole = BEDROCK.whole(msgspec.json.encode(message), ASKED, PROVIDER)
    assert whole.error is None
    del message["amazon-bedrock-invocationMetrics"]
    assert msgspec.json.decode(whole.body) == message


ERRORS = [
    ("AccessDeniedException", 403, "You are not authorized to perform this", Fault.ACCOUNT),
    (
        "AccessDeniedException",
        403,
        "You don't have access to the model with the specified model ID.",
        Fault.UNKNOWN_MODEL,
    ),
    ("UnrecognizedClientException", 403, "The security token is invalid.", Fault.ACCOUNT),
    ("InvalidSignatureException", 403, "Signature expired", Fault.ACCOUNT),
    ("ExpiredTokenException", 403, "The security token has expired", Fault.ACCOUNT),
    ("ResourceNotFoundException", 404, "Could not resolve the model", Fault.UNKNOWN_MODEL),
    ("ThrottlingException", 429, "Too many requests", Fault.THROTTLED),
    ("ModelNotReadyException", 429, "The model is not ready", Fault.OVERLOADED),
    ("ServiceQuotaExceededException", 400, "Your quota is used up", Fault.THROTTLED),
    ("ValidationException", 400, "max_tokens: Input should be greater", Fault.REQUEST),
    ("ValidationException", 400, TOO_LONG, Fault.REQUEST),
    (
        "ValidationException",
        400,
        ON_DEMAND.format(model="anthropic.claude-opus-5-5"),
        Fault.UNKNOWN_MODEL,
    ),
    (
        "ValidationException",
        400,
        "The provided model identifier is invalid.",
        Fault.UNKNOWN_MODEL,
    ),
    ("ModelTimeoutException", 408, "Model has timed out", Fault.UPSTREAM),
    ("ModelErrorException", 424, "The model failed", Fault.UPSTREAM),
    ("InternalServerException", 500, "no", Fault.UPSTREAM),
    ("ServiceUnavailableException", 503, "no", Fault.UPSTREAM),
]


@pytest.mark.parametrize(("name", "status", "message", "fault"), ERRORS)
@pytest.mark.parametrize("spelling", ["header", "address", "member", "capital"])
def test_the_name_of_an_error_says_what_it_is(
    name: str, status: int, message: str, fault: Fault, spelling: str
) -> None:
    body: dict[str, Any] = {"Message" if spelling == "capital" else "message": message}
    headers = {"x-amzn-errortype": name}
    if spelling == "address":
        headers = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/"}
    elif spelling == "member":
        body["__type"], headers = f"com.amazon.bedrock#{name}", {}
    refusal = BEDROCK.refusal(status, headers, msgspec.json.encode(body), 0.0)
    outcome = classify(refusal.status, headers, refusal.error, now=0.0)
    assert outcome.fault is fault
    assert outcome.message == message
    assert outcome.code == name
    assert outcome.until is None
    assert is_prompt_too_long(outcome) is (message == TOO_LONG)


@pytest.mark.parametrize("text", [TOO_LONG, "Input is too long."])
def test_both_texts_about_the_length_are_known(text: str) -> None:
    assert says_prompt_too_long(text, "ValidationException")


def test_the_models_own_status_counts() -> None:
    body = msgspec.json.encode({"message": "x", "originalStatusCode": 400})
    refusal = BEDROCK.refusal(424, {"x-amzn-errortype": "ModelErrorException"}, body, 0.0)
    assert (refusal.status, refusal.error.type) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            "Overloaded",
        ),
        (b'{"Message":"Forbidden"}', "Forbidden"),
        (b"<html><title>Bad gateway</title></html>", "Bad gateway"),
        (b"", ""),
        (b"[]", "[]"),
    ],
)
def test_an_error_of_something_in_between_is_read_as_it_is(body: bytes, message: str) -> None:
    refusal = BEDROCK.refusal(502, {}, body, 0.0)
    assert (refusal.status, refusal.error.message) == (502, message)


@given(
    name=st.text(max_size=30),
    body=st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(["message", "Message", "__type", "originalStatusCode"]),
        st.none() | st.integers() | st.text(max_size=9) | st.lists(st.integers()),
    ).map(msgspec.json.encode),
)
def test_no_error_response_raises(name: str, body: bytes) -> None:
    refusal = BEDROCK.refusal(400, {"x-amzn-errortype": name}, body, 0.0)
    assert isinstance(refusal.error, UpstreamError)
    frame = encode_frame({":message-type": "exception", ":exception-type": name}, body)
    _, translator = fed(frame)
    assert translator.error is not None
