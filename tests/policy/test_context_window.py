"""Requests that are too long for a provider."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback.config.model import Provider
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import estimate
from ccfallback.policy.context_window import (
    RULE,
    LearnedWindow,
    TooLong,
    find_too_long,
    learned_window,
    longest_that_fits,
    read_window,
    remember_window,
)
from ccfallback.policy.learned import learn
from ccfallback.policy.outcome import Fault, Outcome


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


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("This model's maximum context length is 8192 tokens. However, your messages resulted in"
         " 9000 tokens.", 8192),
        ("prompt is too long: 210000 tokens > 200000 maximum", 200000),
        ("the prompt exceeds the maximum context length of 32,768 tokens", 32768),
        ("input is too long: max_model_len is 4096", 4096),
        ("the prompt is longer than the context window (131072)", 131072),
        ("prompt is too long", None),
        ("max_tokens: 64000 > 8192", None),
        ("overloaded", None),
    ],
)  # fmt: skip
def test_a_refusal_tells_the_window(message: str, limit: int | None) -> None:
    outcome = Outcome(Fault.REQUEST, "400", 400, message)
    window = read_window(outcome, 60000)
    assert window == (None if limit is None else LearnedWindow(limit, 60000))
    assert read_window(Outcome(Fault.OVERLOADED, "529", 529, message), 60000) is None


def test_the_refusal_of_a_short_request_keeps_no_other_one_from_the_provider() -> None:
    words = "prompt is too long: 250000 tokens > 200000 maximum"
    window = read_window(Outcome(Fault.REQUEST, "400", 400, words), 7)
    assert window is not None
    for tokens, is_too_long in ((7, False), (50_000, False), (219_999, False), (221_000, True)):
        assert window.is_too_small_for(tokens) is is_too_long


def test_a_learned_window_can_be_stored() -> None:
    window = LearnedWindow(8192, 9500)
    assert LearnedWindow.parse(window.text) == window
    for text in ("", "8192", "maximum context length is x tokens; refused: 3", window.text + "1x"):
        assert LearnedWindow.parse(text) is None
    rejection = learn(UNKNOWN, RULE, "claude-x", window.text, 1000.0)
    assert learned_window([rejection]) == window
    assert learned_window([replace(rejection, rectifier="max_tokens")]) is None
    # A newer window of the same model takes its place, and the others stay.
    other = learn(UNKNOWN, RULE, "claude-y", LearnedWindow(99, 1).text, 1000.0)
    newer = learn(UNKNOWN, RULE, "claude-x", LearnedWindow(4096, 5000).text, 1000.0)
    assert remember_window([rejection, other], newer, 1000.0) == (other, newer)


@pytest.mark.parametrize(
    ("tokens", "is_refused"), [(9499, False), (9500, True), (20000, True), (8000, False)]
)
def test_what_is_as_long_as_a_refused_request_is_not_sent(tokens: int, is_refused: bool) -> None:
    learned = {UNKNOWN.name: LearnedWindow(12000, 9500)}
    found = find_too_long([UNKNOWN], tokens, learned)
    assert bool(found.windows) is is_refused
    if is_refused:
        # Whatever the estimate is, the client reads that it is more than the maximum.
        asked, most = map(int, re.findall(r"\d+", found.message))
        assert asked > most == 12000


def test_a_body_that_is_shorter_than_a_window_fits_it() -> None:
    assert longest_that_fits(CHAIN) == pytest.approx(1100)
    assert LearnedWindow(1000, 5000).safe_bytes == pytest.approx(1100)
    assert LearnedWindow(1000, 900).safe_bytes == 899


def test_the_refusal_of_a_short_prompt_still_exceeds_its_maximum() -> None:
    message = TooLong(900, {"a": 1000}).message
    assert message == "prompt is too long: 1001 tokens > 1000 maximum"


@pytest.mark.parametrize(("tokens", "is_refused"), [(1100, False), (1101, True)])
def test_a_learned_window_may_be_exceeded_by_a_tenth(tokens: int, is_refused: bool) -> None:
    assert LearnedWindow(1000, 9999).is_too_small_for(tokens) is is_refused
