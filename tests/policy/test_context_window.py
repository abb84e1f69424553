"""Requests that are too long for a provider."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import Provider
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import estimate
from ccfallback.policy.context_window import TooLong, find_too_long, longest_that_fits


def provider(name: str, window: int | None) -> Provider:
    return Provider(name=name, base_url="https://a.test", context_window=window)


SMALL, LARGE, UNKNOWN = provider("small", 1000), provider("large", 5000), provider("unknown", None)
CHAIN = (UNKNOWN, SMALL, LARGE)


@pytest.mark.parametrize(
    ("tokens", "too_small"),
    [
        (1000, set()),
        (1100, set()),
        (1101, {"small"}),
        (5500, {"small"}),
        (5501, {"small", "large"}),
    ],
)
def test_an_estimate_may_exceed_a_window_by_a_tenth(tokens: int, too_small: set[str]) -> None:
    assert set(find_too_long(CHAIN, tokens).windows) == too_small


def test_the_refusal_names_the_largest_window() -> None:
    message = find_too_long(CHAIN, 6000).message
    assert message == "prompt is too long: 6000 tokens > 5000 maximum"


def test_without_a_window_no_request_is_too_long() -> None:
    assert longest_that_fits([UNKNOWN]) is None
    assert find_too_long([UNKNOWN], 10**9) == TooLong(10**9, {})


@given(st.lists(st.text(max_size=300), max_size=8), st.sampled_from(["claude-opus-4-8", "m"]))
def test_a_short_body_of_text_fits_without_an_estimate(texts: list[str], model: str) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    body = Body.parse(b"{}").with_members(model=model, messages=messages)
    assert estimate(body) <= len(body.raw)
