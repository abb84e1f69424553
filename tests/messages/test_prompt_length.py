"""Refusals of a prompt that does not fit, in every provider's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.prompt_length import (
    context_sizes,
    prompt_too_long,
    prompt_too_long_with_sizes,
    says_answer_too_long,
    says_prompt_too_long,
)

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
def test_a_long_prompt_is_reported_with_its_sizes(message: str, counts: tuple[int, int]) -> None:
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
def test_a_long_prompt_is_reported_without_sizes(message: str) -> None:
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
    assert says_answer_too_long(message)
    assert not says_prompt_too_long(message)
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
def test_a_long_prompt_is_always_reported_in_words_that_the_client_knows(message: str) -> None:
    assert prompt_too_long(message).startswith("prompt is too long")


@given(message=st.text(max_size=80))
def test_no_refusal_raises(message: str) -> None:
    prompt_too_long_with_sizes(message)


@pytest.mark.parametrize(
    "message", ["Unsupported parameter: 'max_tokens'", "max_tokens is too large"]
)
def test_other_refusals_are_not_about_the_prompt(message: str) -> None:
    assert not says_prompt_too_long(message)


TOO_LONG = [
    "prompt is too long: 210000 tokens > 200000 maximum",
    "The number of tokens to keep from the initial prompt is greater than the context length",
    (
        "Trying to keep the first 9000 tokens when context the overflows. However, the model "
        "is loaded with context length of only 4096 tokens"
    ),
    "Context size has been exceeded.",
    "prompt token count of 140000 exceeds the limit of 128000",
    "length of prompt_tokens (40000) must be less than max_seq_len (32768).",
    "Total tokens of image and text exceed max message tokens",
    "prompt too long; exceeded max context length by 120 tokens",
    "The decoder prompt (length 40000) is longer than the maximum model length of 32768.",
    "Prompt too long: 40000 tokens exceeds max context window of 32768 tokens",
    "Input is too long for requested model.",
    "too many tokens: total number of tokens in the prompt cannot exceed 4081",
    "Prompt exceeds max length",
    "The input token count exceeds the maximum number of tokens allowed",
    "the input length exceeds the context length",
    (
        "Please reduce the length of the messages or completion. Current length is 40000 while "
        "limit is 8192"
    ),
    "Range of input length should be [1, 98304]",
    (
        "You passed 40001 input tokens and requested 1000 output tokens. However, the model's "
        "context length is only 32768 tokens, resulting in a maximum input length of 31768"
    ),
    "ContextWindowExceededError",
    "context_length_exceeded",
    "input token length too long",
    "exceeded model token limit: 262144",
    "Your input exceeds the context window of this model",
    "but model only supports up to 4096 tokens",
    (
        "`inputs` tokens + `max_new_tokens` must be <= 32769. Given: 40000 `inputs` tokens and "
        "4096 `max_new_tokens`"
    ),
    "invalid params, context window exceeds limit (2013)",
    "输入长度超过模型上下文长度限制",
    "Too many input tokens",
    "Your conversation does not fit in the window",
    "This model's maximum context length is 8192 tokens",
    (
        "Requested token count exceeds the model's maximum context length of 32768 tokens. You "
        "requested a total of 50900 tokens: 40900 tokens from the input messages and 10000 "
        "tokens for the completion."
    ),
    "the request exceeds the available context size",
    "Request too large for this model: 40000 tokens exceed the 32768 window",
    "The prompt is longer than 32768 tokens",
    "This model only supports up to 32768 context tokens",
    (
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in "
        "300000 tokens."
    ),
    "but model only supports up to 4096",
]


@pytest.mark.parametrize("message", TOO_LONG)
def test_a_sentence_about_too_much_input_is_a_prompt_that_is_too_long(message: str) -> None:
    assert says_prompt_too_long(message)
    assert not says_answer_too_long(message)
    assert prompt_too_long(message).startswith("prompt is too long")


OTHERS = [
    "max_tokens is too large",
    "'max_tokens' is too large: 64000",
    "max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens for model",
    "max_tokens must be less than or equal to 8192",
    (
        "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 6000000 bytes > "
        "5242880 bytes"
    ),
    "max_tokens: Input should be less than or equal to 8192",
    "thinking.budget_tokens: Input should be greater than or equal to 1024",
    "`max_tokens` must be greater than `thinking.budget_tokens`",
    (
        "Invalid 'messages[3].tool_calls[0].id': string too long. Expected a string with "
        "maximum length 64"
    ),
    "context deadline exceeded",
    "You exceeded your current quota, please check your plan",
    "Request too large: input tokens per minute exceeded",
    "Invalid 'prompt_cache_key': string too long",
    "Input image is too large",
    "You have exceeded your monthly token limit",
    "This request would exceed your organization's rate limit of 50,000 input tokens per minute",
    (
        "This model's maximum context length is 32768 tokens. However, you requested 128000 "
        "output tokens and your prompt contains 900 input tokens, for a total of 128900"
    ),
    (
        "Requested token count exceeds the model's maximum context length of 32768 tokens. You "
        "requested a total of 128900 tokens: 900 tokens from the input messages and 128000 "
        "tokens for the completion. Please reduce"
    ),
    "max_tokens=38000 cannot be greater than max_model_len=max_total_tokens=32768",
    (
        "You passed 4001 input tokens and requested 100000 output tokens. However, the model's "
        "context length is only 32768 tokens"
    ),
    "input length and `max_tokens` exceed context limit: 100 + 2000 > 2000",
    "tools.0.custom.description: string too long",
    "Tool description exceeds 1024",
    "Too many requests, please wait",
    "max_tokens is too long",
    "Unsupported parameter: 'max_tokens'",
    "messages: at least one message is required",
    "system: text content blocks must be non-empty",
    (
        "The maxOutputTokens value of 128000 but the supported range is from 1 (inclusive) to "
        "65537 (exclusive)"
    ),
    (
        "the parameter max_tokens specified in the request are not valid: integer above "
        "maximum value, expected a value <= 32768, but got 64000 instead"
    ),
    "Invalid input: expected string",
    "too many images in the messages: more than 100 images",
    "The context was cancelled; more than one client",
    "Number of concurrent messages requests exceeds your plan",
    "stop: array too long. Expected an array with maximum length 4",
    "tools: array too long. Expected maximum 128",
    (
        "Invalid 'tools': array too long. Expected an array with maximum length 128, but got "
        "an array with length 150 instead."
    ),
]


@pytest.mark.parametrize("message", OTHERS)
def test_other_sentences_about_too_much_are_not_about_the_prompt(message: str) -> None:
    assert not says_prompt_too_long(message)


@pytest.mark.parametrize(
    "code", ["model_max_prompt_tokens_exceeded", "too_many_prompt_tokens", "1261"]
)
def test_a_code_alone_says_it_except_for_a_throttle(code: str) -> None:
    assert says_prompt_too_long("No", code)
    assert not says_prompt_too_long("tokens per minute", code)


def test_two_numbers_in_any_sentence_are_the_sizes() -> None:
    message = "prompt token count of 140,000 exceeds the limit of 128000"
    expected = "prompt is too long: 140000 tokens > 128000 maximum"
    assert prompt_too_long_with_sizes(message).startswith(expected)
    assert prompt_too_long(message).startswith(expected)


def test_a_prompt_that_leaves_no_room_for_an_answer_is_too_long() -> None:
    message = "You passed 32700 input tokens and requested 4000 output tokens. However, the "
    message += "model's context length is only 32768 tokens"
    assert says_prompt_too_long(message)


@given(message=st.text(max_size=200))
def test_no_sentence_raises(message: str) -> None:
    says_prompt_too_long(message)
    says_answer_too_long(message)
