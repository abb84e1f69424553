"""What every answer has: ids, model, stop reason, usage."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.messages.tokens import Usage
from ccfallback.wire.openai import answer
from ccfallback.wire.openai.answer import (
    MessageHead,
    ShownThinking,
    client_tool_id,
    client_usage,
    llama_usage,
    take_usage,
)
from tests.wire.openai.upstream import body


def test_message_ids_depend_only_on_request_and_answer() -> None:
    first = MessageHead(body(), "chatcmpl-1").message()["id"]
    assert MessageHead(body(), "chatcmpl-1").message()["id"] == first
    assert MessageHead(body(), "chatcmpl-2").message()["id"] != first
    assert MessageHead(body(max_tokens=7), "chatcmpl-1").message()["id"] != first
    assert MessageHead(body(), None).message()["id"] != first


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (None, ShownThinking.NONE),
        ("x", ShownThinking.NONE),
        ({}, ShownThinking.NONE),
        ({"type": "disabled"}, ShownThinking.NONE),
        ({"type": "adaptive"}, ShownThinking.ALL),
        ({"type": "enabled", "budget_tokens": 1024}, ShownThinking.ALL),
        ({"type": "adaptive", "display": "summarized"}, ShownThinking.ALL),
        ({"type": "adaptive", "display": "omitted"}, ShownThinking.BLOCKS),
    ],
)
def test_how_much_thinking_is_shown(thinking: Any, expected: ShownThinking) -> None:
    assert ShownThinking.of(body(thinking=thinking)) is expected


def test_ids_of_calls() -> None:
    history = [{"role": "assistant", "content": [{"type": "tool_use", "id": "call_1"}]}]
    shape = MessageHead(body(messages=history), "x")
    ids = [shape.tool_id(given) for given in ("call_1", "call_2", "call_2", None, "a:b")]
    assert ids[1] == "call_2"
    assert ids[4] == "a_b"
    assert all(tool_id.startswith("toolu_") for tool_id in (ids[0], ids[2], ids[3]))
    assert len(set(ids)) == 5


def test_an_id_fits_the_client() -> None:
    taken: set[str] = set()
    assert client_tool_id("call_1", taken, "s") == "call_1"
    assert client_tool_id("functions.Bash:0", taken, "s") == "functions_Bash_0"
    missing = client_tool_id(None, taken, "s")
    again = client_tool_id("call_1", taken, "s")
    assert all(re.fullmatch(r"toolu_[A-Za-z0-9]{24}", made) for made in (missing, again))
    assert len(taken) == 4
    assert client_tool_id(None, set(), "s") != client_tool_id(None, set(), "t")


@given(st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=300))), st.text())
def test_ids_for_the_client_are_valid_distinct_and_the_same_again(
    raw: list[object], seed: str
) -> None:
    first: set[str] = set()
    made = [client_tool_id(one, first, seed) for one in raw]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", one) for one in made)
    assert len(set(made)) == len(made)
    again: set[str] = set()
    assert [client_tool_id(one, again, seed) for one in raw] == made


REASONS: list[tuple[str | None, dict[str, bool], str]] = [
    ("stop", {}, "end_turn"),
    ("STOP", {}, "end_turn"),
    ("eos", {}, "end_turn"),
    ("", {}, "end_turn"),
    (None, {}, "end_turn"),
    ("something new", {}, "end_turn"),
    ("tool_calls", {}, "end_turn"),
    ("stop", {"has_calls": True}, "tool_use"),
    ("tool_calls", {"has_calls": True}, "tool_use"),
    ("function_call", {"has_calls": True}, "tool_use"),
    (None, {"has_calls": True}, "tool_use"),
    ("length", {}, "max_tokens"),
    ("max_tokens", {}, "max_tokens"),
    ("model_length", {}, "max_tokens"),
    ("length", {"has_calls": True}, "tool_use"),
    ("length", {"has_calls": True, "is_whole": False}, "max_tokens"),
    ("content_filter", {}, "refusal"),
    ("content_filter", {"has_calls": True}, "refusal"),
    ("sensitive", {}, "refusal"),
    ("stop", {"is_refusal": True}, "refusal"),
    ("model_context_window_exceeded", {}, "model_context_window_exceeded"),
]


@pytest.mark.parametrize(("finish", "known", "expected"), REASONS)
def test_stop_reasons(finish: str | None, known: dict[str, bool], expected: str) -> None:
    facts = {"has_calls": False, "is_whole": True, "is_refusal": False, **known}
    assert answer.stop_reason(finish, **facts) == expected


@pytest.mark.parametrize(
    ("finish", "error", "kind"),
    [
        ("error", None, "failed_stop_reason"),
        ("error", {"code": 429, "message": "x"}, "rate_limit_error"),
        ("network_error", None, "api_error"),
        ("insufficient_system_resource", None, "overloaded_error"),
        (None, "boom", "api_error"),
    ],
)
def test_finish_reasons_of_failures(finish: str | None, error: Any, kind: str) -> None:
    failure = answer.failure(finish, error)
    assert failure is not None
    assert failure.type == kind


def test_finish_reasons_of_answers() -> None:
    assert answer.failure("stop", None) is None
    assert answer.failure(None, {}) is None
    assert answer.is_cut("length")
    assert not answer.is_cut(None)


@pytest.mark.parametrize(
    ("said", "given", "expected"),
    [
        ("E", b'["E","F"]', "E"),
        ("G", b'["E"]', None),
        (128009, b'["E"]', None),
        ("", b'[""]', None),
        ("E", b'"E"', None),
        (None, b"null", None),
    ],
)
def test_only_the_clients_stop_sequences_are_reported(
    said: Any, given: bytes, expected: str | None
) -> None:
    assert answer.stop_sequence(said, Body.parse(b'{"stop_sequences":%b}' % given)) == expected


ASKED = Body.parse(b'{"messages":[{"role":"user","content":"hello there"}]}')


def counted(**usage: Any) -> Usage:
    found = Usage()
    take_usage(found, usage)
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
def test_cached_tokens_are_subtracted(cached: dict[str, Any]) -> None:
    found = counted(prompt_tokens=1000, completion_tokens=20, **cached)
    assert found == Usage(200, 20, 800, 0)
    assert found.prompt_tokens == 1000


def test_more_cached_tokens_than_tokens() -> None:
    assert counted(prompt_tokens=5, cached_tokens=9, completion_tokens=1).input_tokens == 5


def test_reasoning_that_is_counted_apart() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 7}}
    apart = counted(prompt_tokens=10, completion_tokens=3, total_tokens=20, **details)
    within = counted(prompt_tokens=10, completion_tokens=9, total_tokens=19, **details)
    assert (apart.output_tokens, within.output_tokens) == (10, 9)


@pytest.mark.parametrize(
    "usage",
    [None, [], "x", {}, {"prompt_tokens": None}, {"prompt_tokens": 0, "completion_tokens": 0}],
)
def test_usage_without_counts(usage: Any) -> None:
    found = Usage()
    assert take_usage(found, usage) is None
    assert found == Usage()


def test_thinking_tokens() -> None:
    assert take_usage(Usage(), {"completion_tokens_details": {"reasoning_tokens": 7}}) == 7


def test_the_timings_of_llama_cpp() -> None:
    timings = {"cache_n": 30, "prompt_n": 10, "predicted_n": 5, "predicted_ms": 1.5}
    found = Usage()
    take_usage(found, llama_usage(timings))
    assert found == Usage(10, 5, 30, 0)
    assert llama_usage({"prompt_n": 10}) is None
    assert llama_usage(None) is None


def test_the_usage_for_the_client() -> None:
    assert client_usage(Usage(200, 20, 800, None), 5, ASKED, 0) == {
        "input_tokens": 200,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 800,
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 5},
    }


def test_missing_counts_are_estimated() -> None:
    usage = client_usage(Usage(), None, ASKED, 9)
    assert usage["output_tokens"] == 3
    assert 3 < usage["input_tokens"] < 20
