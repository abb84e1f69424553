"""Whole completions: what each member becomes, and what is not an answer."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.messages.thinking import mark, read_envelope
from ccfallback.messages.tokens import Usage
from ccfallback.policy.outcome import Fault, classify
from ccfallback.wire.format import Whole
from ccfallback.wire.openai.stream import whole
from tests.wire.openai.upstream import (
    ASKED,
    DONE,
    NOT_THINKING,
    body,
    chunk,
    completion,
    piece,
    translate,
)


def answer(
    message: dict[str, Any], finish: Any = "stop", client_body: Body = ASKED, **more: Any
) -> dict[str, Any]:
    """The message for a completion."""
    translated = whole(completion(message, finish, **more), client_body)
    assert translated.error is None
    value: dict[str, Any] = msgspec.json.decode(translated.body)
    return value


def content(message: dict[str, Any], finish: Any = "stop", **more: Any) -> list[Any]:
    """The blocks at a glance, their type first."""
    blocks = answer(message, finish, **more)["content"]
    return [tuple(value for key, value in block.items() if key != "signature") for block in blocks]


def called(*args: Any, finish: str = "stop") -> list[Any]:
    """The inputs of calls with these arguments."""
    calls = [{**piece(None, f"c{i}", "Bash", value)} for i, value in enumerate(args)]
    return [block[3] for block in content({"content": None, "tool_calls": calls}, finish)]


CASES = sorted((Path(__file__).parent / "cases" / "response").glob("*.txt"))
SEPARATOR = b"=====\n"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_recorded_answer(path: Path) -> None:
    asked, upstream, expected = path.read_bytes().split(SEPARATOR)
    translated = whole(upstream, Body.parse(asked.strip()))
    assert translated.error is None
    if "UPDATE_CASES" in os.environ:
        path.write_bytes(SEPARATOR.join([asked, upstream, translated.body + b"\n"]))
    else:
        assert translated.body.decode() == expected.decode().strip()


def test_everything_that_a_message_needs() -> None:
    message = answer({"content": "Hello"})
    assert message.pop("id").startswith("msg_")
    assert message == {
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 2,
        },
    }


def test_a_call_without_arguments() -> None:
    message = answer({"content": None, "tool_calls": [piece(None, "a", "Bash", "")]})
    assert message["content"] == [{"type": "tool_use", "id": "a", "name": "Bash", "input": {}}]
    assert message["stop_reason"] == "tool_use"


def test_whitespace_before_a_call_is_not_a_text() -> None:
    blocks = content({"content": "\n\n", "tool_calls": [piece(None, "a", "Bash", "{}")]})
    assert [block[0] for block in blocks] == ["tool_use"]


def test_arguments() -> None:
    assert called({"a": 1}, '"{\\"a\\":1}"', '{"a":1}{"a":1}') == [{"a": 1}] * 3
    assert called('{"a": "x', finish="length") == [{"a": "x"}]


def test_a_cut_call_ends_with_max_tokens() -> None:
    calls = {"tool_calls": [piece(None, "a", "Bash", '{"a": "x')]}
    assert answer(calls, "length")["stop_reason"] == "max_tokens"
    assert answer({"tool_calls": [piece(None, "a", "B", "{}")]}, "length")["stop_reason"] == (
        "tool_use"
    )


def test_ids_of_calls() -> None:
    calls = [piece(None, tool_id, "A", "{}") for tool_id in (None, "functions.Bash:0", "x", "x")]
    ids = [block[1] for block in content({"tool_calls": calls})]
    assert ids[1:3] == ["functions_Bash_0", "x"]
    assert ids[0].startswith("toolu_")
    assert ids[3].startswith("toolu_")
    assert len(set(ids)) == 4


def test_the_message_id_depends_on_the_request() -> None:
    first = answer({"content": "a"})
    assert answer({"content": "a"}) == first
    assert answer({"content": "a"}, client_body=body(max_tokens=7))["id"] != first["id"]


def test_cached_tokens_are_counted_apart() -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 800, "cache_write_tokens": 50},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    translated = whole(completion({"content": "a"}, usage=usage), ASKED)
    assert translated.usage == Usage(150, 20, 800, 50)
    assert msgspec.json.decode(translated.body)["usage"] == {
        "input_tokens": 150,
        "cache_creation_input_tokens": 50,
        "cache_read_input_tokens": 800,
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 5},
    }


def test_thinking_comes_first_and_once() -> None:
    message = {"reasoning": "R", "reasoning_content": "R", "content": "x"}
    assert answer(message)["content"] == [
        {"type": "thinking", "thinking": "R", "signature": mark("R")},
        {"type": "text", "text": "x"},
    ]


def test_thinking_is_only_shown_if_requested() -> None:
    message = {"reasoning": "R", "content": "x"}
    assert content(message, client_body=NOT_THINKING) == [("text", "x")]
    omitted = body(thinking={"type": "adaptive", "display": "omitted"})
    assert content(message, client_body=omitted) == [("thinking", ""), ("text", "x")]


def test_reasoning_details_are_kept_in_the_signature() -> None:
    details = [{"type": "reasoning.encrypted", "data": "c2VjcmV0", "index": 0}]
    [thought, _] = answer({"content": "x", "reasoning_details": details})["content"]
    assert thought["thinking"] == ""
    assert read_envelope(thought["signature"]) == {"reasoning_details": details}


def test_reasoning_details_alone_are_no_answer() -> None:
    message = {"content": "", "reasoning_details": [{"type": "reasoning.encrypted"}]}
    assert whole(completion(message), ASKED).error is not None


def test_reasoning_details_of_a_cut_answer_are_kept() -> None:
    details = [{"type": "reasoning.encrypted", "data": "c2VjcmV0"}]
    message = {"content": None, "reasoning_details": details}
    [thought] = answer(message, "length")["content"]
    assert read_envelope(thought["signature"]) == {"reasoning_details": details}
    stream = translate(chunk(message, "length"), DONE)
    assert [block["content_block"]["type"] for block in stream.events[1:2]] == ["thinking"]
    assert stream.stop_reason == "max_tokens"


def test_a_refusal_comes_after_all_other_text() -> None:
    message = {"content": "<thi", "refusal": "no"}
    raw = completion(message, "content_filter")
    value = msgspec.json.decode(whole(raw, ASKED, think_tags=True).body)
    assert value["content"] == [{"type": "text", "text": "<thino"}]
    read = translate(chunk(message, "content_filter"), DONE, think_tags=True)
    assert read.blocks == [("text", "<thino")]


def test_content_in_parts() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "R"}]},
        {"type": "text", "text": "a"},
        {"type": "audio"},
        {"type": "text", "text": "b"},
    ]
    assert content({"content": parts}) == [("thinking", "R"), ("text", "ab")]


def test_think_tags_only_with_the_switch() -> None:
    raw = completion({"content": "<think>a</think>\n\nb"})
    for tags, kinds in ((True, ["thinking", "text"]), (False, ["text"])):
        message = msgspec.json.decode(whole(raw, ASKED, think_tags=tags).body)
        assert [block["type"] for block in message["content"]] == kinds


@pytest.mark.parametrize(
    ("message", "finish"),
    [
        ({"content": None, "refusal": "no"}, "stop"),
        ({"content": "no"}, "content_filter"),
        ({"content": "no"}, "sensitive"),
    ],
)
def test_refusals(message: dict[str, Any], finish: str) -> None:
    translated = answer(message, finish)
    assert translated["content"] == [{"type": "text", "text": "no"}]
    assert translated["stop_reason"] == "refusal"


def test_a_call_in_the_old_function_call_member() -> None:
    call = {"name": "Bash", "arguments": '{"x":1}'}
    message = answer({"content": None, "function_call": call}, "function_call")
    [block] = message["content"]
    assert block.pop("id").startswith("toolu_")
    assert block == {"type": "tool_use", "name": "Bash", "input": {"x": 1}}
    assert message["stop_reason"] == "tool_use"


NO_ANSWERS: list[tuple[Any, Fault]] = [
    ({"error": {"code": 429, "message": "slow down"}}, Fault.THROTTLED),
    ({"error": {"code": 402, "message": "pay"}}, Fault.ACCOUNT),
    ({"error": {"message": "no", "code": "invalid_api_key"}}, Fault.ACCOUNT),
    ({"error": {"message": "no", "code": "insufficient_quota"}}, Fault.ACCOUNT),
    ({"error": {"message": "no", "code": "context_length_exceeded"}}, Fault.REQUEST),
    ({"error": {"message": "hm"}, "choices": []}, Fault.UPSTREAM),
    ({"error": "overloaded"}, Fault.OVERLOADED),
    ({"code": "500", "msg": "hm"}, Fault.UPSTREAM),
    ({"base_resp": {"status_code": 1008, "status_msg": "pay"}, "choices": None}, Fault.ACCOUNT),
    ([{"error": {"code": 503, "message": "x"}}], Fault.OVERLOADED),
    ({"detail": "Not Found"}, Fault.UPSTREAM),
    ({"id": "x"}, Fault.UPSTREAM),
    ({"choices": []}, Fault.UPSTREAM),
    ({"choices": [{"index": 0}]}, Fault.UPSTREAM),
    ({"choices": [{"message": {"content": "a"}, "finish_reason": "error"}]}, Fault.MODEL_FAILED),
    ({"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}, Fault.UPSTREAM),
    ({"choices": [{"message": {"content": " \n"}, "finish_reason": None}]}, Fault.UPSTREAM),
    ({"choices": [{"message": {"tool_calls": []}}]}, Fault.UPSTREAM),
]


@pytest.mark.parametrize(("value", "fault"), NO_ANSWERS)
def test_errors_inside_a_success(value: Any, fault: Fault) -> None:
    raw = msgspec.json.encode(value)
    translated = whole(raw, ASKED)
    assert translated.error is not None
    assert translated.error.type
    assert translated.body == raw
    assert classify(200, {}, translated.error, now=0).fault is fault


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b"null", b'{"choices":'])
def test_answers_that_are_not_json(raw: bytes) -> None:
    assert whole(raw, ASKED).error is not None


def test_an_empty_answer_with_a_stop_reason_is_valid() -> None:
    message = answer({"content": ""}, "length")
    assert (message["content"], message["stop_reason"]) == ([], "max_tokens")
    assert answer({"content": None}, "content_filter")["stop_reason"] == "refusal"


def test_the_stop_sequence_that_the_upstream_names() -> None:
    choice = {"message": {"content": "a"}, "finish_reason": "stop", "stop_reason": "END"}
    raw = msgspec.json.encode({"choices": [choice]})
    message = msgspec.json.decode(whole(raw, body(stop_sequences=["END"])).body)
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")


def test_missing_counts_are_estimated() -> None:
    message = answer({"content": "x" * 400}, usage=None)
    assert message["usage"]["output_tokens"] == 100
    assert message["usage"]["input_tokens"] > 0


def test_blank_lines_to_keep_alive() -> None:
    assert whole(b"\n\n\r\n " + completion({"content": "a"}) + b"\n", ASKED).error is None


def test_a_lone_surrogate_is_replaced() -> None:
    raw = completion({"content": "a@"}).replace(b"@", b"\\ud83d") + b"\n"
    assert msgspec.json.decode(whole(raw, ASKED).body)["content"][0]["text"] == "a\ufffd"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "tool_calls", "function", "arguments"]
            )
            | st.sampled_from(["error", "usage", "finish_reason", "name", "id", "code", "details"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(raw=st.binary(max_size=40) | JSON.map(msgspec.json.encode))
def test_no_bytes_raise(raw: bytes) -> None:
    sound(whole(raw, ASKED))


@settings(deadline=None)
@given(message=JSON, finish=JSON, usage=JSON)
def test_no_message_raises(message: Any, finish: Any, usage: Any) -> None:
    choices = [{"message": message, "finish_reason": finish}]
    sound(whole(msgspec.json.encode({"choices": choices, "usage": usage}), ASKED, think_tags=True))


def sound(translated: Whole) -> None:
    if translated.error is None:
        message = msgspec.json.decode(translated.body)
        assert message["type"] == "message"
        assert isinstance(message["stop_reason"], str)
        for block in message["content"]:
            assert block["type"] in ("text", "thinking", "tool_use")
            assert block["type"] != "tool_use" or isinstance(block["input"], dict)
