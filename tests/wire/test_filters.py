"""The filters of a stream: which events they change, and that they change no others."""

from collections import Counter
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import Provider
from ccfallback.messages import sse
from ccfallback.messages.assemble import to_message
from ccfallback.messages.body import Body
from ccfallback.messages.sse import EventSplitter, data_of
from ccfallback.simulator import SCRIPTED_FORMATS, scripted
from ccfallback.wire import FORMATS
from ccfallback.wire.anthropic import ANTHROPIC, AnthropicStream
from ccfallback.wire.filters import (
    BlockStopHolder,
    Mark,
    ToolRenamer,
    TooMuchHeld,
    rename_tools,
)
from tests.wire.test_anthropic import CUTS, GOOD, cut

PROVIDER = Provider(name="b", base_url="https://h.test")
ASKED = Body.parse(b'{"model":"m","stream":true}')
THINKING = {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"}
TEXT = {"type": "text", "text": 'I say "content_block_stop" and "message_delta".'}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "message_stop"}}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"q": "x"}}
HIDDEN = {"type": "redacted_thinking", "data": "b3BhcXVl"}

BLOCKS = st.lists(st.sampled_from([THINKING, TEXT, CALL, SEARCH, HIDDEN]), max_size=6)


def stream_of(*content: dict[str, Any]) -> list[bytes]:
    return scripted.events_of(msgspec.json.encode(scripted.message(content)))


def passed(*chunks: bytes) -> bytes:
    stream = AnthropicStream([BlockStopHolder()])
    return b"".join(stream.feed(chunk) for chunk in chunks) + stream.finish()


def split(raw: bytes) -> list[bytes]:
    splitter = EventSplitter()
    return [*splitter.feed(raw), *([splitter.rest] if splitter.rest else [])]


def read(raw: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(data_of(event)) for event in split(raw) if data_of(event)]


def told(raw: bytes) -> list[str]:
    """Each event in short: what it is and of which block."""
    return [f"{event['type']} {event.get('index', '')}".strip() for event in read(raw)]


def test_the_stop_of_a_text_that_has_the_index_of_a_call_waits() -> None:
    start, *call, delta, stop = stream_of(CALL)
    _, *text, _, _ = stream_of(TEXT)
    stream = AnthropicStream([BlockStopHolder()])
    seen = [told(stream.feed(event)) for event in (start, *call, *text)]
    assert seen[3] == ["content_block_stop 0"]
    assert seen[-1] == []
    assert told(stream.feed(delta))[0] == "content_block_stop 0"
    assert told(stream.feed(stop)) == ["message_stop"]


def test_text_flows_while_the_stops_before_it_wait_for_a_call() -> None:
    stream = AnthropicStream([BlockStopHolder()])
    seen = [told(stream.feed(event)) for event in stream_of(THINKING, TEXT, CALL, TEXT)]
    assert seen == [
        ["message_start"],
        ["content_block_start 0"],
        ["content_block_delta 0"],
        ["content_block_delta 0"],
        [],
        ["content_block_start 1"],
        ["content_block_delta 1"],
        [],
        ["content_block_start 2"],
        ["content_block_delta 2"],
        ["content_block_stop 0", "content_block_stop 1", "content_block_stop 2"],
        ["content_block_start 3"],
        ["content_block_delta 3"],
        [],
        ["content_block_stop 3", "message_delta"],
        ["message_stop"],
    ]


@given(content=BLOCKS, places=CUTS)
def test_a_whole_answer_has_every_event_under_every_cut(
    content: list[dict[str, Any]], places: list[int]
) -> None:
    raw = b"".join(stream_of(*content))
    # What comes at once and whole can no longer be torn.
    assert passed(raw) == raw
    out = passed(*cut(raw, places))
    assert Counter(split(out)) == Counter(split(raw))
    for index in range(len(content)):
        of_the_block = [event for event in read(out) if event.get("index") == index]
        assert of_the_block == [event for event in read(raw) if event.get("index") == index]
    stops = [name for name in told(out) if name.startswith("content_block_stop")]
    assert stops == [f"content_block_stop {index}" for index in range(len(content))]


@given(content=BLOCKS, end=st.integers(0, 100_000), places=CUTS)
def test_a_broken_answer_has_no_finished_block_after_its_last_call(
    content: list[dict[str, Any]], end: int, places: list[int]
) -> None:
    raw = b"".join(stream_of(*content)[:-2])
    stream = AnthropicStream([BlockStopHolder()])
    out = b""
    for chunk in (*cut(raw[: end % (len(raw) + 1)], places), None):
        out += stream.finish() if chunk is None else stream.feed(chunk)
        stops = [event for event in read(out) if event["type"] == "content_block_stop"]
        assert not stops or content[stops[-1]["index"]]["type"] == "tool_use"


@pytest.mark.parametrize("block", [THINKING, TEXT, CALL, SEARCH, HIDDEN], ids=lambda b: b["type"])
def test_an_answer_of_one_block_is_the_same_bytes(block: dict[str, Any]) -> None:
    raw = b"".join(stream_of(block))
    assert passed(raw) == raw
    assert passed(*stream_of(block)) == raw


@pytest.mark.parametrize("name", GOOD)
def test_streams_with_one_block_keep_their_bytes(name: str) -> None:
    inner = AnthropicStream()
    assert passed(GOOD[name]) == inner.feed(GOOD[name]) + inner.finish()


@pytest.mark.parametrize("name", FORMATS)
def test_all_formats_hold_their_stops_and_add_up_to_the_same_message(name: str) -> None:
    content: list[dict[str, Any]] = [THINKING, TEXT, CALL, {**CALL, "id": "toolu_2"}]
    events = SCRIPTED_FORMATS[name].events(content)
    inner = FORMATS[name].stream(ASKED, PROVIDER)
    plain = b"".join(inner.feed(event) for event in events) + inner.finish()
    stream = FORMATS[name].stream(ASKED, PROVIDER, [BlockStopHolder()])
    held = b"".join(stream.feed(event) for event in events) + stream.finish()
    assert told(held) != told(plain)
    assert sorted(told(held)) == sorted(told(plain))
    assert message(held) == message(plain)
    assert stream.complete
    assert stream.usage == inner.usage
    assert stream.signatures == inner.signatures


START = sse.event("message_start", b'{"type":"message_start","message":{}}')


def message(raw: bytes) -> list[dict[str, Any]]:
    """The blocks as a client puts them together, each by its number."""
    by_number = sorted(
        (event for event in split(raw) if b'"index"' in event),
        key=lambda event: msgspec.json.decode(data_of(event))["index"],
    )
    blocks: list[dict[str, Any]] = msgspec.json.decode(to_message(b"".join([START, *by_number])))[
        "content"
    ]
    return blocks


def ev(kind: str, **members: Any) -> bytes:
    return sse.event(kind, msgspec.json.encode({"type": kind, **members}))


def test_two_blocks_with_one_index_follow_each_other() -> None:
    first, second = (
        stream_of(TEXT)[1:4],
        [event.replace(b'"index":1', b'"index":0') for event in stream_of(TEXT, CALL)[4:]],
    )
    raw = b"".join([ev("message_start", message={}), *first, *second])
    assert passed(raw) == raw


def test_escaped_event_types_are_understood() -> None:
    start, opened, delta, stop, end, last = stream_of(TEXT)
    odd = [each.replace(b"message_", b"message\\u005f") for each in (end, last)]
    out = passed(start, opened, delta, stop, *odd)
    assert Counter(split(out)) == Counter([start, opened, delta, stop, *odd])


def test_an_error_keeps_the_stops_back() -> None:
    events = stream_of(THINKING, TEXT)
    stream = AnthropicStream([BlockStopHolder()])
    error = ev("error", error={"type": "overloaded_error", "message": "Overloaded"})
    assert "content_block_stop 0" not in told(stream.feed(b"".join(events[:7]) + error))
    assert stream.error is not None
    assert stream.error.type == "overloaded_error"
    assert stream.feed(b"".join(events[7:])) + stream.finish() == b""


def test_an_end_without_a_stop_reason_finishes_no_block() -> None:
    *events, _reason, end = stream_of(THINKING, TEXT)
    out = passed(*events, end)
    assert not [name for name in told(out) if name.startswith("content_block_stop")]
    assert passed(b"".join([*events, end])) == out


NAMES = {"a_b": "a.b"}


def call(name: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "t", "name": name, "input": {"name": "a_b"}}


def answer(*names: Any) -> bytes:
    content = [{"type": "text", "text": '"tool_use" of a_b'}, *map(call, names)]
    return msgspec.json.encode(scripted.message(content))


def names_in(raw: bytes) -> list[Any]:
    content = msgspec.json.decode(raw)["content"]
    return [block["name"] for block in content if block["type"] == "tool_use"]


def test_the_tools_of_a_whole_answer() -> None:
    whole = rename_tools(answer("a_b", "Bash"), NAMES)
    assert names_in(whole) == ["a.b", "Bash"]
    content = msgspec.json.decode(whole)["content"]
    assert content[0]["text"] == '"tool_use" of a_b'
    assert content[1]["input"] == {"name": "a_b"}


@pytest.mark.parametrize(
    "raw",
    [
        answer("Bash"),
        answer(7, None),
        answer(),
        b"no JSON",
        b'{"type":"error","error":{"type":"tool_use"}}',
        b'{"content":"tool_use"}',
    ],
)
def test_answers_without_renamed_tools_keep_their_bytes(raw: bytes) -> None:
    assert rename_tools(raw, NAMES) is raw


@given(st.lists(st.integers(0, 2000), max_size=6))
def test_the_tools_of_a_stream_wherever_it_is_cut(cuts: list[int]) -> None:
    raw = b"".join(scripted.events_of(answer("a_b", "Bash")))
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    translator = ANTHROPIC.stream(ASKED, PROVIDER, [ToolRenamer(NAMES)])
    made = b"".join(translator.feed(raw[a:b]) for a, b in pairwise(edges))
    made += translator.finish()
    assert names_in(to_message(made)) == ["a.b", "Bash"]
    assert translator.complete
    assert translator.finished
    assert translator.started
    assert translator.usage.output_tokens == 7
    untouched = [
        event for event in scripted.events_of(answer("a_b", "Bash")) if b'"name":"a_b"' not in event
    ]
    assert all(event in made for event in untouched)


def test_an_error_passes_the_renaming_as_an_error() -> None:
    translator = ANTHROPIC.stream(ASKED, PROVIDER, [ToolRenamer(NAMES)])
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
    assert translator.feed(error) == b""
    assert translator.error is not None
    assert translator.error.type == "overloaded_error"


def test_odd_events_pass_the_renaming() -> None:
    translator = ANTHROPIC.stream(ASKED, PROVIDER, [ToolRenamer(NAMES)])
    for odd in (b'data: ["tool_use"]\n\n', b'data: {"content_block":"tool_use"}\n\n'):
        assert translator.feed(odd) == odd


def test_stops_are_held_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccfallback.wire.filters.MAX_HELD", 1000)
    stream = AnthropicStream([BlockStopHolder()])
    stream.feed(ev("content_block_start", index=0, content_block={"type": "text"}))
    for _ in range(10):
        stream.feed(ev("content_block_stop", index=0, padding="x" * 100))
    assert stream.error is not None
    assert stream.feed(ev("message_delta", delta={"stop_reason": "end_turn"})) == b""


def start(place: int, index: int, block: str = "text") -> Mark:
    return Mark(place, "content_block_start", index, block)


def stop(place: int, index: int) -> Mark:
    return Mark(place, "content_block_stop", index)


def edited(holder: BlockStopHolder, *events: bytes, marks: list[Mark]) -> list[bytes]:
    found = list(events)
    holder.edit(found, marks, complete=False)
    return found


def test_a_second_block_with_the_same_index_ends_the_first_before_it_starts() -> None:
    holder = BlockStopHolder()
    held = edited(holder, b"start0", b"stop0", marks=[start(0, 0), stop(1, 0)])
    assert held == [b"start0", b""]
    again = edited(holder, b"start0 again", marks=[start(0, 0)])
    assert again == [b"stop0start0 again"]
    # Another index releases nothing.
    assert edited(holder, b"stop0", b"start1", marks=[stop(0, 0), start(1, 1)]) == [b"", b"start1"]


def test_the_end_of_the_message_releases_what_was_held() -> None:
    holder = BlockStopHolder()
    edited(holder, b"start0", b"stop0", marks=[start(0, 0), stop(1, 0)])
    end = edited(holder, b"delta", marks=[Mark(0, "message_delta")])
    assert end == [b"stop0delta"]
    assert edited(holder, b"stop", marks=[Mark(0, "message_stop")]) == [b"stop"]


def test_what_is_released_no_longer_counts_as_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccfallback.wire.filters.MAX_HELD", 10)
    holder = BlockStopHolder()
    for _ in range(3):
        edited(holder, b"0123456789", marks=[stop(0, 0)])
        call = edited(holder, b"call", b"end", marks=[start(0, 1, "tool_use"), stop(1, 1)])
        assert call == [b"call", b"0123456789end"]
    edited(holder, b"0123456789", marks=[stop(0, 0)])
    with pytest.raises(TooMuchHeld):
        edited(holder, b"x", marks=[stop(0, 0)])


def test_only_a_call_that_starts_is_renamed() -> None:
    raw = sse.json_event({"type": "content_block_stop", "content_block": CALL})
    text = sse.json_event({"type": "content_block_start", "content_block": TEXT})
    events = [raw, text]
    renamer = ToolRenamer({"Read": "read"})
    renamer.edit(events, [Mark(0, "content_block_stop", 0, "tool_use"), start(1, 1)], complete=True)
    assert events == [raw, text]
