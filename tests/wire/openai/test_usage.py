"""Tokens, in everybody's way of counting."""

from typing import Any

import pytest

from ccfallback.messages.body import Body
from ccfallback.messages.tokens import Usage
from ccfallback.wire.openai.usage import in_llama_timings, take, told

ASKED = Body.parse(b'{"messages":[{"role":"user","content":"hello there"}]}')


def counted(**usage: Any) -> Usage:
    found = Usage()
    take(found, usage)
    return found


@pytest.mark.parametrize(
    "cached",
    [
        {"prompt_tokens_details": {"cached_tokens": 800}},
        {"prompt_cache_hit_tokens": 800, "prompt_cache_miss_tokens": 200},
        {"cached_tokens": 800},
        {"cache_read_input_tokens": 800},
        {"prompt_tokens_details": None, "cached_tokens": 800.0},
    ],
)
def test_cached_tokens_are_taken_apart(cached: dict[str, Any]) -> None:
    found = counted(prompt_tokens=1000, completion_tokens=20, **cached)
    assert found == Usage(200, 20, 800, 0)
    assert found.prompt_tokens == 1000


def test_more_cached_than_there_is() -> None:
    assert counted(prompt_tokens=5, cached_tokens=9, completion_tokens=1).input_tokens == 0


def test_reasoning_that_is_counted_apart() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 7}}
    apart = counted(prompt_tokens=10, completion_tokens=3, total_tokens=20, **details)
    within = counted(prompt_tokens=10, completion_tokens=9, total_tokens=19, **details)
    assert (apart.output_tokens, within.output_tokens) == (10, 9)


@pytest.mark.parametrize(
    "usage",
    [None, [], "x", {}, {"prompt_tokens": None}, {"prompt_tokens": 0, "completion_tokens": 0}],
)
def test_who_counts_nothing_says_nothing(usage: Any) -> None:
    found = Usage()
    assert take(found, usage) is None
    assert found == Usage()


def test_thinking_tokens() -> None:
    assert take(Usage(), {"completion_tokens_details": {"reasoning_tokens": 7}}) == 7


def test_llama() -> None:
    timings = {"cache_n": 30, "prompt_n": 10, "predicted_n": 5, "predicted_ms": 1.5}
    found = Usage()
    take(found, in_llama_timings(timings))
    assert found == Usage(10, 5, 30, 0)
    assert in_llama_timings({"prompt_n": 10}) is None
    assert in_llama_timings(None) is None


def test_what_the_client_is_told() -> None:
    assert told(Usage(200, 20, 800, None), 5, ASKED, 0) == {
        "input_tokens": 200,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 800,
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 5},
    }


def test_what_nobody_counted_is_estimated() -> None:
    usage = told(Usage(), None, ASKED, 9)
    assert usage["output_tokens"] == 3
    assert 3 < usage["input_tokens"] < 20
