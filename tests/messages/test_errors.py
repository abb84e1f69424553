"""An upstream's error, whatever its shape; and our own."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.errors import (
    UpstreamError,
    context_sizes,
    encode,
    error_of,
    is_error,
    plain_text,
    prompt_too_long,
    prompt_too_long_with_sizes,
    read_error,
    says_prompt_too_long,
)

SHAPES: list[tuple[str, bytes, UpstreamError]] = [
    (
        "Anthropic",
        b'{"type":"error","error":{"type":"api_error","message":"m"},"request_id":"r"}',
        UpstreamError("api_error", "m"),
    ),
    (
        "Anthropic with details",
        b'{"type":"error","error":{"type":"t","message":"m","details":{"error_code":"c"}}}',
        UpstreamError("t", "m", "c"),
    ),
    (
        "OpenAI",
        b'{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"c"}}',
        UpstreamError("insufficient_quota", "m", "c"),
    ),
    ("OpenRouter", b'{"error":{"message":"m","code":429}}', UpstreamError("", "m", "429", 429)),
    (
        "Gemini",
        b'[{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}]',
        UpstreamError("UNAVAILABLE", "m", "503", 503),
    ),
    ("a text", b'{"error":"m"}', UpstreamError("", "m")),
    ("a text of an error", b'{"type":"error","error":"m"}', UpstreamError("", "m")),
    ("a text with a type", b'{"type":"t","error":"m"}', UpstreamError("t", "m")),
    ("FastAPI", b'{"detail":"m"}', UpstreamError("", "m")),
    (
        "FastAPI with a list",
        b'{"detail":[{"msg":"m"}]}',
        UpstreamError("", '[{"msg":"m"}]'),
    ),
    ("a bare message", b'{"message":"m","code":400}', UpstreamError("", "m", "400", 400)),
    ("an error without one", b'{"type":"error","error":null}', UpstreamError()),
    ("an error that is only that", b'{"type":"error","message":"m"}', UpstreamError("", "m")),
    ("a JSON text", b'"m"', UpstreamError("", "m")),
    ("null", b"null", UpstreamError()),
    ("nothing", b"", UpstreamError()),
    ("text", b"  Bad\n gateway ", UpstreamError("", "Bad gateway")),
    ("HTML", b"<html><title>502\nBad</title>x</html>", UpstreamError("", "502 Bad")),
    (
        "HTML without a title",
        b"<style>b{}</style><p>Oh <b>no</b><script>x()</script>",
        UpstreamError("", "Oh no"),
    ),
    ("no status", b'{"error":{"message":"m","code":20}}', UpstreamError("", "m", "20")),
    ("true is not a code", b'{"error":{"message":"m","code":true}}', UpstreamError("", "m")),
]  # fmt: skip


@pytest.mark.parametrize(("body", "error"), [s[1:] for s in SHAPES], ids=[s[0] for s in SHAPES])
def test_an_error_is_read_whatever_its_shape(body: bytes, error: UpstreamError) -> None:
    assert read_error(body) == error


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=80)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["error", "type", "message", "code", "details", "detail", "status", "x"]),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


def check(error: UpstreamError) -> None:
    assert len(error.type) <= 64
    assert error.type.isprintable()
    assert len(error.code) <= 64
    assert error.code.isprintable()
    assert len(error.message) <= 4000
    assert error.status is None or 400 <= error.status < 600


@given(value=JSON)
def test_any_json_gives_a_bounded_error(value: Any) -> None:
    check(error_of(value))
    check(read_error(json.JSONEncoder().encode(value).encode()))


@given(body=st.binary(max_size=300))
def test_any_bytes_give_a_bounded_error(body: bytes) -> None:
    check(read_error(body))


@pytest.mark.parametrize(
    "body",
    [b"[" * 50_000, b'{"error":' * 50_000, b'{"code":' + b"9" * 5000 + b"}", b'"\\ud800"'],
    ids=["deep", "deep objects", "huge number", "half a letter"],
)
def test_no_body_is_too_much(body: bytes) -> None:
    check(read_error(body))


@pytest.mark.parametrize("text", ["<script", "<title>", "<title", "<"])
def test_no_page_is_read_to_its_end(text: str) -> None:
    assert plain_text(b"<title>short</title>" + text.encode() * 200_000) == "short"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"type": "error"}, True),
        ({"error": {"message": "m"}}, True),
        ({"error": "m"}, True),
        ({"error": None, "content": []}, False),
        ({"error": ""}, False),
        ({"error": {}}, False),
        ({"error": False}, False),
        ({"type": "message"}, False),
        ([], False),
        ("error", False),
        (None, False),
    ],
)
def test_whether_a_2xx_is_an_error_all_the_same(value: Any, error: bool) -> None:
    assert is_error(value) is error


def test_our_own_errors_are_anthropics_envelope() -> None:
    body = encode("fallback_exhausted", "m", "id", model="x", attempts=[])
    assert msgspec.json.decode(body) == {
        "type": "error",
        "error": {"type": "fallback_exhausted", "message": "m", "model": "x", "attempts": []},
        "request_id": "id",
    }
    assert read_error(body) == UpstreamError("fallback_exhausted", "m")


def test_the_words_of_whom_a_reseller_asked_are_read_too() -> None:
    raw = '{"error":{"message":"Provider returned error","metadata":{"raw":"a: Field required"}}}'
    assert read_error(raw.encode()).message == "Provider returned error: a: Field required"
    raw = '{"error":{"message":"no","metadata":{"raw":"{\\"error\\":{\\"message\\":\\"b\\"}}"}}}'
    assert read_error(raw.encode()).message == "no: b"
    odd = b'{"error":{"message":"no","metadata":{"raw":[{"a":1}, 2]}}}'
    assert read_error(odd).message == "no"


COUNTED = [
    (
        "This model's maximum context length is 131072 tokens. However, you requested 140000 "
        "tokens (136000 in the messages, 4000 in the completion). Please reduce the length.",
        (140000, 131072),
    ),
    (
        "This model's maximum context length is 8192 tokens. However, your messages resulted in "
        "9000 tokens.",
        (9000, 8192),
    ),
    (
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        (1200000, 1048576),
    ),
    (
        "Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)",
        (140000, 131072),
    ),
    (
        "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
        (140000, 131072),
    ),
    (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
        "context length",
        (40000, 32768),
    ),
    (
        "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
        (9000, 8192),
    ),
    (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 32769. Given: "
        "40000 `inputs` tokens and 4096 `max_new_tokens`",
        (40000, 32769),
    ),
    ("maximum context length is 1,000 tokens: you requested 1,500 tokens", (1500, 1000)),
]


@pytest.mark.parametrize(("message", "counts"), COUNTED)
def test_a_long_prompt_is_told_with_its_sizes(message: str, counts: tuple[int, int]) -> None:
    asked, most = counts
    assert says_prompt_too_long(message) or "token limit" in message
    expected = f"prompt is too long: {asked} tokens > {most} maximum ({message})"
    assert prompt_too_long_with_sizes(message) == expected


@pytest.mark.parametrize(
    "message",
    [
        "Your input exceeds the context window of this model",
        "Input is too long for requested model",
        "Prompt exceeds max length",
        "Range of input length should be [1, 129024]",
        "invalid params, context window exceeds limit (2013)",
        "Please reduce the length of the messages or completion.",
    ],
)
def test_a_long_prompt_is_told_without_sizes(message: str) -> None:
    assert says_prompt_too_long(message)
    assert prompt_too_long_with_sizes(message) == f"prompt is too long ({message})"


@pytest.mark.parametrize("code", ["context_length_exceeded", "1261", "EXCEED_CONTEXT_SIZE_ERROR"])
def test_a_code_says_that_the_prompt_is_too_long(code: str) -> None:
    assert says_prompt_too_long("No", "", code)
    assert not says_prompt_too_long("No", "", "other")


VLLM = "This model's maximum context length is 32768 tokens"


@pytest.mark.parametrize(
    ("message", "counts"),
    [
        (
            f"'max_tokens' is too large: 64000. {VLLM} and your request has 10000 input tokens"
            " (64000 > 32768 - 10000).",
            "10000 + 64000 > 32768",
        ),
        (
            f"{VLLM}. However, you requested 8000 output tokens and your prompt contains at least"
            " 24769 input tokens, for a total of at least 32769 tokens.",
            "24769 + 8000 > 32768",
        ),
        (
            f"{VLLM}. However, you requested 40000 tokens (30000 in the messages, 10000 in the"
            " completion).",
            "30000 + 10000 > 32768",
        ),
        (
            f"{VLLM}. However, you requested about 40000 tokens (20000 of text input, 10000 of tool"
            " input, 10000 in the output).",
            "30000 + 10000 > 32768",
        ),
        (
            "`inputs` tokens + `max_new_tokens` must be <= 32768. Given: 30000 `inputs` tokens and"
            " 4096 `max_new_tokens`",
            "30000 + 4096 > 32768",
        ),
    ],
)
def test_a_shorter_answer_would_fit(message: str, counts: str) -> None:
    assert says_prompt_too_long(message)
    expected = f"input length and `max_tokens` exceed context limit: {counts}, decrease"
    assert prompt_too_long_with_sizes(message).startswith(expected)
    # Repairs read the message without quotes, in lower case.
    plain = message.replace("`", "").replace("'", "").lower()
    assert context_sizes(plain) == context_sizes(message)


def test_anthropics_own_words_stay() -> None:
    for message in (
        "prompt is too long: 210000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 1 + 2 > 2, decrease input length",
    ):
        assert prompt_too_long_with_sizes(message) == message


@given(message=st.text(max_size=80) | st.text().map("İ {} prompt is TOO long".format))
def test_a_long_prompt_is_always_told_in_the_clients_words(message: str) -> None:
    assert prompt_too_long(message).startswith("prompt is too long")


@given(message=st.text(max_size=80))
def test_no_refusal_raises(message: str) -> None:
    prompt_too_long_with_sizes(message)


@pytest.mark.parametrize(
    "message", ["Unsupported parameter: 'max_tokens'", "max_tokens is too large"]
)
def test_other_refusals_are_not_about_the_prompt(message: str) -> None:
    assert not says_prompt_too_long(message)
