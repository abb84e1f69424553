"""A conversation that does not fit: in all their words, said in the client's."""

import pytest

from ccfallback.messages.errors import UpstreamError
from ccfallback.wire.openai.overflow import as_too_long

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


def said(message: str, code: str = "", status: int = 400) -> str | None:
    return as_too_long(status, UpstreamError(message=message, code=code))


@pytest.mark.parametrize(("message", "counts"), COUNTED)
def test_with_numbers(message: str, counts: tuple[int, int]) -> None:
    asked, most = counts
    expected = f"prompt is too long: {asked} tokens > {most} maximum ({message})"
    assert said(message) == expected


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
def test_without_numbers(message: str) -> None:
    assert said(message) == f"prompt is too long ({message})"


def test_by_code() -> None:
    assert said("No", "context_length_exceeded") == "prompt is too long (No)"
    assert said("No", "1261") == "prompt is too long (No)"


@pytest.mark.parametrize(
    ("message", "counts"),
    [
        (
            "'max_tokens' is too large: 64000. This model's maximum context length is 32768 tokens "
            "and your request has 10000 input tokens (64000 > 32768 - 10000).",
            "10000 + 64000 > 32768",
        ),
        (
            "This model's maximum context length is 131072 tokens. However, you requested 140000 "
            "tokens (100000 in the messages, 40000 in the completion).",
            "100000 + 40000 > 131072",
        ),
    ],
)
def test_a_shorter_answer_would_do(message: str, counts: str) -> None:
    expected = f"input length and `max_tokens` exceed context limit: {counts}, decrease"
    assert (said(message) or "").startswith(expected)


def test_anthropics_own_words_stay() -> None:
    message = "prompt is too long: 210000 tokens > 200000 maximum"
    assert said(message) == message


@pytest.mark.parametrize("status", [401, 402, 404, 429])
def test_other_trouble_goes_before(status: int) -> None:
    assert said("reduce the length of the messages", status=status) is None


def test_other_words_are_another_error() -> None:
    assert said("Unsupported parameter: 'max_tokens'") is None
    assert said("max_tokens is too large") is None
