"""An upstream's error, whatever its shape; and our own."""

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.errors import (
    UpstreamError,
    encode,
    error_of,
    is_error,
    plain_text,
    read_error,
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
        b'{"detail":[{"loc":["body","messages",1,"role"],"msg":"m","input":"secret"},{"msg":"n"}]}',
        UpstreamError("", "body.messages.1.role: m; n"),
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
def test_whether_a_2xx_is_an_error_in_spite_of_its_status(value: Any, error: bool) -> None:
    assert is_error(value) is error


def test_our_own_errors_are_anthropics_envelope() -> None:
    body = encode("fallback_exhausted", "m", "id", model="x", attempts=[])
    assert msgspec.json.decode(body) == {
        "type": "error",
        "error": {"type": "fallback_exhausted", "message": "m", "model": "x", "attempts": []},
        "request_id": "id",
    }
    assert read_error(body) == UpstreamError("fallback_exhausted", "m")


def test_the_message_of_the_provider_behind_a_reseller_is_read() -> None:
    raw = '{"error":{"message":"Provider returned error","metadata":{"raw":"a: Field required"}}}'
    assert read_error(raw.encode()).message == "Provider returned error: a: Field required"
    raw = '{"error":{"message":"no","metadata":{"raw":"{\\"error\\":{\\"message\\":\\"b\\"}}"}}}'
    assert read_error(raw.encode()).message == "no: b"
    odd = b'{"error":{"message":"no","metadata":{"raw":[{"a":1}, 2]}}}'
    assert read_error(odd).message == "no"


MANY = b'{"type":"error","error":{"type":"t","message":"m","y":[' + b"{}," * 300_000 + b"{}]}}"


def test_a_body_of_many_values_is_read_as_text() -> None:
    tracemalloc.start()
    try:
        assert read_error(MANY).message.startswith('{"type":"error"')
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Every value takes 60 bytes, and its comma one.
    assert most < 2 * len(MANY)


def test_an_error_that_repeats_a_long_prompt_is_read() -> None:
    fault = {"msg": "m", "loc": ["body"], "input": "a text, and more of it. " * 20_000}
    assert read_error(msgspec.json.encode({"detail": [fault]})) == UpstreamError("", "body: m")


def test_half_of_a_letter_in_an_error_hides_nothing() -> None:
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"Wait \\ud83d"}}'
    assert read_error(body) == UpstreamError("overloaded_error", "Wait \ufffd")
