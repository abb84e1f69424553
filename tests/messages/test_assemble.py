"""A message as a stream and back, with the official client as the judge of the stream."""

import sys
from typing import Any, Final

import anthropic
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.messages.assemble import NotAMessage, to_events, to_message
from ccfallback.wire.anthropic import AnthropicStream

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | TEXT
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
INPUTS = st.dictionaries(TEXT, JSON, max_size=4)
TEXTS = st.fixed_dictionaries({"type": st.just("text"), "text": TEXT})
THINKING = st.fixed_dictionaries({"type": st.just("thinking"), "thinking": TEXT, "signature": TEXT})
TOOL_USES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["tool_use", "server_tool_use", "mcp_tool_use"]),
        "id": TEXT,
        "name": TEXT,
        "input": INPUTS,
    }
)
UNKNOWN = st.fixed_dictionaries(
    {"type": st.sampled_from(["redacted_thinking", "web_search_tool_result", "new"]), "data": JSON}
)
USAGES = st.fixed_dictionaries(
    {"input_tokens": st.integers(0, 1 << 40), "output_tokens": st.integers(0, 1 << 40)},
    optional={"cache_read_input_tokens": st.integers(0, 9) | st.none(), "service_tier": TEXT},
)


def messages(blocks: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "id": TEXT,
            "type": st.just("message"),
            "role": st.just("assistant"),
            "model": TEXT,
            "content": st.lists(blocks, max_size=5),
            "stop_reason": st.sampled_from(["end_turn", "tool_use", "max_tokens", "refusal"]),
            "stop_sequence": st.none() | TEXT,
            "usage": USAGES,
        },
        optional={"container": JSON, "context_management": JSON},
    )


@given(message=messages(TEXTS | THINKING | TOOL_USES | UNKNOWN))
def test_a_message_survives_being_a_stream(message: dict[str, Any]) -> None:
    assert msgspec.json.decode(to_message(to_events(msgspec.json.encode(message)))) == message


@given(message=messages(TEXTS | THINKING | TOOL_USES | UNKNOWN))
def test_the_stream_of_a_message_is_a_good_stream(message: dict[str, Any]) -> None:
    stream = to_events(msgspec.json.encode(message))
    watcher = AnthropicStream()
    assert watcher.feed(stream) == stream
    assert watcher.error is None
    assert watcher.complete
    assert watcher.finished
    assert watcher.started is bool(message["content"])
    assert watcher.usage.output_tokens == message["usage"]["output_tokens"]


HTTP: Final[Any] = next(
    sys.modules[package]
    for base in anthropic.DefaultHttpxClient.__mro__
    if (package := base.__module__.partition(".")[0]).startswith("httpx")
)
"""The HTTP library of the installed client: a newer major has changed it."""


def accumulated(stream: bytes) -> dict[str, Any]:
    """What the official client makes of a stream."""

    def answer(_request: object) -> Any:
        return HTTP.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    with (
        HTTP.Client(transport=HTTP.MockTransport(answer)) as transport,
        anthropic.Anthropic(
            api_key="none", base_url="http://sdk.test", http_client=transport, max_retries=0
        ) as client,
        client.messages.stream(
            model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]
        ) as events,
    ):
        message: dict[str, Any] = events.get_final_message().to_dict()
        return message


SAFE = st.text('abc é漢"\\\n{}', max_size=20)
SDK_BLOCKS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": SAFE}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": SAFE, "signature": SAFE}),
    st.fixed_dictionaries(
        {
            "type": st.just("tool_use"),
            "id": st.just("toolu_1"),
            "name": st.just("Bash"),
            "input": st.dictionaries(SAFE, SAFE | st.integers(-9, 9) | st.none(), max_size=3),
        }
    ),
    st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": SAFE}),
)


@settings(max_examples=12, deadline=None)
@given(blocks=st.lists(SDK_BLOCKS, max_size=4))
def test_the_official_client_reads_the_same_message(blocks: list[dict[str, Any]]) -> None:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": blocks,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5},
    }
    read = accumulated(to_events(msgspec.json.encode(message)))
    for block, expected in zip(read["content"], blocks, strict=True):
        assert {key: block.get(key) for key in expected} == expected
    assert read["stop_reason"] == "end_turn"
    assert read["usage"]["input_tokens"] == 3
    assert read["usage"]["output_tokens"] == 5


def folded(*events: dict[str, Any]) -> dict[str, Any]:
    stream = b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)
    message: dict[str, Any] = msgspec.json.decode(to_message(stream))
    return message


START = {"type": "message_start", "message": {"id": "i", "usage": {"input_tokens": 7}}}


def block(kind: str, *deltas: dict[str, Any], **start: Any) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": 0, "content_block": {"type": kind, **start}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
    ]


@pytest.mark.parametrize(
    ("fragments", "arguments"),
    [
        ([], {}),
        ([""], {}),
        (["", '{"a"', ":1}"], {"a": 1}),
        (['{"a":'], {"_raw_arguments": '{"a":'}),
    ],
)
def test_fragments_of_arguments_are_joined(fragments: list[str], arguments: Any) -> None:
    deltas = [{"type": "input_json_delta", "partial_json": text} for text in fragments]
    message = folded(START, *block("tool_use", *deltas, input={}))
    assert message["content"] == [{"type": "tool_use", "input": arguments}]


def test_citations_are_gathered() -> None:
    deltas = [{"type": "citations_delta", "citation": {"n": n}} for n in (1, 2)]
    message = folded(START, *block("text", {"type": "text_delta", "text": "x"}, *deltas, text=""))
    assert message["content"] == [{"type": "text", "text": "x", "citations": [{"n": 1}, {"n": 2}]}]


def test_pings_comments_and_new_events_add_nothing() -> None:
    message = folded(START, {"type": "ping"}, {"type": "new"}, *block("text", {"type": "new"}))
    assert message["content"] == [{"type": "text"}]


def test_the_last_usage_counts_unless_it_is_null() -> None:
    end = {"input_tokens": None, "output_tokens": 5}
    message = folded(START, {"type": "message_delta", "delta": {}, "usage": end})
    assert message["usage"] == {"input_tokens": 7, "output_tokens": 5}


def test_a_message_without_usage_or_stop_reason_is_streamed_with_defaults() -> None:
    message = msgspec.json.decode(
        to_message(to_events(b'{"content":[{"type":"text","text":"x"}]}'))
    )
    assert message["stop_reason"] == "end_turn"
    assert message["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert message["type"] == "message"


def test_each_delta_belongs_to_the_block_of_its_index() -> None:
    def start(index: int) -> dict[str, Any]:
        block = {"type": "text", "text": ""}
        return {"type": "content_block_start", "index": index, "content_block": block}

    def delta(index: int, text: str) -> dict[str, Any]:
        piece = {"type": "text_delta", "text": text}
        return {"type": "content_block_delta", "index": index, "delta": piece}

    message = folded(START, start(0), start(1), delta(0, "A"), delta(1, "B"), delta(0, "a"))
    assert [each["text"] for each in message["content"]] == ["Aa", "B"]
    with pytest.raises(NotAMessage):
        folded(START, start(0), delta(7, "lost"))


def test_what_is_special_about_an_answer_survives_both_ways() -> None:
    message: dict[str, Any] = {
        "id": "i",
        "type": "message",
        "role": "assistant",
        "model": "small",
        "content": [
            {"type": "compaction", "content": "so far", "encrypted_content": "c2VjcmV0"},
            {"type": "fallback", "from": {"model": "big"}, "to": {"model": "small"}},
            {"type": "text", "text": "x"},
        ],
        "stop_reason": "refusal",
        "stop_sequence": None,
        "stop_details": {"type": "refusal", "category": None},
        "context_management": {"applied_edits": []},
        "input_transformations": [],
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    events = to_events(msgspec.json.encode(message))
    assert msgspec.json.decode(to_message(events)) == message
    end = events[events.index(b"event: message_delta") :]
    assert all(word in end for word in (b"stop_details", b"context_management"))


def test_the_model_of_a_message_is_the_one_that_answered() -> None:
    switch = {"type": "fallback", "from": {"model": "big"}, "to": {"model": "small"}}
    message = folded(
        {"type": "message_start", "message": {"model": "big"}},
        {"type": "content_block_start", "index": 0, "content_block": switch},
    )
    assert message["model"] == "small"


def test_pieces_of_a_compaction_are_joined() -> None:
    deltas: list[dict[str, Any]] = [
        {"type": "compaction_delta", "content": "so "},
        {"type": "compaction_delta", "content": "far", "encrypted_content": "c2VjcmV0"},
        {"type": "compaction_delta", "content": None},
    ]
    message = folded(START, *block("compaction", *deltas, content=None))
    assert message["content"] == [
        {"type": "compaction", "content": "so far", "encrypted_content": "c2VjcmV0"}
    ]


def test_a_stream_without_a_start_is_not_a_message() -> None:
    with pytest.raises(NotAMessage):
        folded(*block("text", {"type": "text_delta", "text": "x"}, text=""))
