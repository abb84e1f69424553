"""Streams in Anthropic's format that clients cannot read, and those that they can."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import Provider
from ccfallback.messages.assemble import to_message
from ccfallback.messages.body import Body
from ccfallback.messages.sse import EventSplitter, data_of, event, has_name
from ccfallback.wire import grammar
from ccfallback.wire.anthropic import ANTHROPIC
from ccfallback.wire.filters import BlockStopHolder

FALLBACK = Provider(name="b", base_url="https://h.test")
PRIMARY = Provider(name="a", base_url="https://h.test", primary=True)
BODY = Body.parse(b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}')


def ev(kind: str, **members: Any) -> bytes:
    return event(kind, msgspec.json.encode({"type": kind, **members}))


def begin(index: Any = 0, **block: Any) -> bytes:
    return ev("content_block_start", index=index, content_block=block)


def piece(index: Any = 0, **delta: Any) -> bytes:
    return ev("content_block_delta", index=index, delta=delta)


USAGE = {"input_tokens": 9, "output_tokens": 1}
START = ev("message_start", message={"id": "msg_1", "content": [], "usage": USAGE})
OPEN = begin(type="text", text="")
TEXT = piece(type="text_delta", text="hello")
CLOSE = ev("content_block_stop", index=0)
END = ev("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5})
STOP = ev("message_stop")
GOOD = START + OPEN + TEXT + CLOSE + END + STOP


def read(raw: bytes, size: int, provider: Provider = FALLBACK) -> tuple[bytes, str]:
    """What passes, and the error; the chunks have `size` bytes."""
    stream = ANTHROPIC.stream(BODY, provider)
    out = b"".join(stream.feed(raw[i : i + size]) for i in range(0, len(raw), size))
    out += stream.finish()
    assert stream.complete or stream.error is not None
    return out, "" if stream.error is None else stream.error.message


def text(raw: bytes) -> Any:
    return msgspec.json.decode(to_message(raw))["content"][0]["text"]


UNREADABLE = {
    "a delta before any block": (START, TEXT),
    "an end before any block": (START, CLOSE),
    "an end before the message": (b"", END + STOP),
    "a delta of another block": (START + OPEN, piece(3, type="text_delta", text="hello")),
    "the end of another block": (START + OPEN, ev("content_block_stop", index=3)),
    "a delta without an index": (START + OPEN, ev("content_block_delta", delta={"text": "x"})),
    "a second message": (START + OPEN + TEXT, START + GOOD),
    "a start without a message": (b"", ev("message_start") + OPEN),
    "a start with a list for a message": (b"", ev("message_start", message=[]) + OPEN),
    "a block without a block": (START, ev("content_block_start", index=0)),
    "a block that is a text": (START, ev("content_block_start", index=0, content_block="text")),
    "a block without a type": (START, begin(text="")),
    "an index that is not a number": (START, begin("first", type="text", text="")),
    "no delta": (START + OPEN, ev("content_block_delta", index=0)),
    "a delta that is a text": (START + OPEN, ev("content_block_delta", index=0, delta="hello")),
    "a delta without a type": (START + OPEN, piece(text="hello")),
    "a delta without its text": (START + OPEN, piece(type="text_delta", thinking="hello")),
    "a text that is a number": (START + OPEN, piece(type="text_delta", text=5)),
    "no text, later": (START + OPEN + TEXT + TEXT, piece(type="text_delta", thinking="x")),
    "a key that is not UTF-8, in a block with another number": (
        START,
        begin(3, type="text", text="").replace(b'{"type"', b'{"\xe6":1,"type"', 1),
    ),
}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", UNREADABLE)
@given(size=st.integers(1, 300))
def test_a_stream_that_clients_cannot_read_is_an_error(name: str, size: int) -> None:
    good, bad = UNREADABLE[name]
    assert read(good + bad + CLOSE + END + STOP, size)[1]
    # Any of its events passes but the bad one, and none after it.
    stream = ANTHROPIC.stream(BODY, FALLBACK)
    assert stream.feed(good) == good
    assert stream.feed(bad) == b""
    assert stream.error is not None
    assert stream.feed(CLOSE) == b""


@pytest.mark.parametrize("name", UNREADABLE)
def test_the_primarys_stream_passes_as_it_is(name: str) -> None:
    raw = b"".join(UNREADABLE[name]) + CLOSE + END + STOP
    passed = raw.partition(STOP)[0] + STOP
    assert read(raw, 1 << 20, PRIMARY) == (passed, "")


READABLE = {
    "all as it should be": GOOD,
    "a delta after the end of the block": START + OPEN + CLOSE + TEXT + END + STOP,
    "an index as text": START
    + begin("0", type="text", text="")
    + piece("0", type="text_delta", text="hello")
    + ev("content_block_stop", index="0")
    + END
    + STOP,
    "unknown events and deltas": ev("odd", x=[{}])
    + START
    + event("odd", b"[1]")
    + OPEN
    + TEXT
    + piece(type="odd_delta", text={"x": 1})
    + CLOSE
    + END
    + STOP,
    "empty members of other deltas": START
    + OPEN
    + piece(type="text_delta", text="hello", thinking=None, partial_json=None, signature=None)
    + CLOSE
    + END
    + STOP,
    "half of a letter": START
    + OPEN
    + TEXT.replace(b"hello", b"hello\\ud83d")
    + TEXT.replace(b"hello", b"\xf0\x9f")
    + CLOSE
    + END
    + STOP,
    "no message_stop": START + OPEN + TEXT + CLOSE + END,
    "signatures and citations": START
    + begin(type="text", text="")
    + TEXT
    + piece(type="citations_delta", citation={"x": [1]})
    + begin(1, type="thinking", thinking="")
    + piece(1, type="thinking_delta", thinking="Hm.")
    + piece(1, type="signature_delta", signature="c2ln")
    + CLOSE
    + ev("content_block_stop", index=1)
    + END
    + STOP,
}


@pytest.mark.parametrize("name", READABLE)
@given(size=st.integers(1, 300))
def test_a_stream_that_clients_can_read_passes_as_it_is(name: str, size: int) -> None:
    raw = READABLE[name]
    assert read(raw, size) == (raw, "")
    stream = ANTHROPIC.stream(BODY, FALLBACK)
    stream.feed(raw.partition(END)[0])
    assert stream.started


NUMBERS: dict[str, tuple[list[Any], list[Any]]] = {
    "a gap": ([0, 5, 7], [0, 1, 2]),
    "all alike": ([0, 0, 0], [0, 1, 2]),
    "from one": ([1, 2, 3], [0, 1, 2]),
    "backwards": ([2, 1, 0], [0, 1, 2]),
    "as texts": (["0", "2", "2"], ["0", 1, "2"]),
    "none at all": ([None, None, None], [0, 1, 2]),
}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("name", NUMBERS)
@given(size=st.integers(1, 300))
def test_clients_get_the_index_that_they_expect(name: str, ended: bool, size: int) -> None:
    """They take it for the place of the block in the message."""

    def blocks(indices: list[Any]) -> bytes:
        raw = START
        for number, index in enumerate(indices):
            raw += begin(index, type="text", text="")
            raw += piece(index, type="text_delta", text=f"hello {number}")
            if ended:
                raw += ev("content_block_stop", index=index)
        return raw + END + STOP

    upstreams, clients = NUMBERS[name]
    out, error = read(blocks(upstreams), size)
    expected = blocks(clients)
    if not ended:
        ends = b"".join(ev("content_block_stop", index=place) for place in range(3))
        expected = expected.replace(END, ends + END)
    assert (out, error) == (expected, "")
    content = msgspec.json.decode(to_message(out))["content"]
    assert [block["text"] for block in content] == ["hello 0", "hello 1", "hello 2"]


def test_an_error_in_a_delta_is_the_error_that_it_names() -> None:
    said = {"type": "overloaded_error", "message": "Overloaded"}
    delta = {"type": "text_delta", "text": "x"}
    bad = ev("content_block_delta", index=0, delta=delta, error=said)
    assert read(START + OPEN + bad + END + STOP, 1 << 20) == (START + OPEN, "Overloaded")
    empty = ev("content_block_delta", index=0, delta=delta, error=None)
    assert read(START + OPEN + empty + END + STOP, 1 << 20)[1] == ""


def without_names(raw: bytes) -> bytes:
    return b"".join(
        b"data: " + data_of(each) + b"\n\n" for each in EventSplitter().feed(raw) if data_of(each)
    )


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", [b"", b"event: message\n", b"event:odd\nid: 1\n", b"event\n"])
@pytest.mark.parametrize("holds", [False, True])
@given(size=st.integers(1, 300))
def test_events_get_the_names_of_their_types(
    name: bytes, ends: bytes, holds: bool, size: int
) -> None:
    raw = without_names(GOOD).replace(b"data: ", name + b"data: ").replace(b"\n", ends)
    filters = [BlockStopHolder()] if holds else []
    stream = ANTHROPIC.stream(BODY, FALLBACK, filters)
    out = b"".join(stream.feed(raw[i : i + size]) for i in range(0, len(raw), size))
    assert out + stream.finish() == GOOD
    assert stream.complete
    assert read(raw, size, PRIMARY)[0].strip() == raw.strip()


def test_data_in_several_lines_gets_a_name_too() -> None:
    spread = b'data: {"type":\ndata: "content_block_delta","index":0,\ndata: "delta":'
    spread += b'{"type":"text_delta","text":"hello"}}\n\n'
    out, error = read(START + OPEN + spread + CLOSE + END + STOP, 1 << 20)
    assert not error
    assert text(out) == "hello"
    assert all(has_name(each, "content_block_delta") for each in out.split(b"\n\n")[2:3])


ABORT = ev("message_delta", delta={"stop_reason": "abort"}, usage={"output_tokens": 5})
TOO_MANY = ev("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2**53})


@pytest.mark.parametrize("bad", [ABORT, TOO_MANY])
@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("holds", [False, True])
@given(size=st.integers(1, 300))
def test_an_event_without_a_name_can_be_an_error(
    bad: bytes, ended: bool, holds: bool, size: int
) -> None:
    """It does not pass, and is forgiven after a whole answer where it would be with a name."""
    good = START + OPEN + TEXT + CLOSE + (END if ended else b"")
    seen = []
    for raw in (good + bad + STOP, without_names(good + bad + STOP)):
        stream = ANTHROPIC.stream(BODY, FALLBACK, [BlockStopHolder()] if holds else [])
        out = b"".join(stream.feed(raw[i : i + size]) for i in range(0, len(raw), size))
        seen.append((out, stream.complete, stream.error))
    assert seen[0] == seen[1]
    assert stream.complete == (ended and bad is TOO_MANY)
    assert stream.error is not None


def test_other_spellings_of_a_name_stay() -> None:
    bom = b"\xef\xbb\xbf"
    raw = bom + GOOD.replace(b"event: ", b"event:")
    assert read(raw, 1 << 20) == (raw, "")


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "delta",
    [
        {"type": "text_delta", "text": None},
        {"type": "text_delta", "text": None, "signature": "x"},
        {"type": "text_delta", "thinking": None},
        *({"type": kind} for kind in ("text_delta", "input_json_delta", "thinking_delta", "odd")),
        {"type": "signature_delta", "signature": None},
        {"type": None},
        {},
        None,
    ],
)
@given(size=st.integers(1, 300))
def test_a_delta_with_no_text_is_left_out(delta: Any, size: int) -> None:
    """Clients raise an exception for it, or append the word `null`."""
    nothing = ev("content_block_delta", index=0, delta=delta)
    raw = START + OPEN + nothing + TEXT + nothing + CLOSE + END + STOP
    assert read(raw, size) == (GOOD, "")


THOUGHT = begin(type="thinking", thinking="")
CALL = begin(type="tool_use", id="t", name="Read", input={})
SAYS = {
    "text_delta": {"text": "x"},
    "thinking_delta": {"thinking": "x"},
    "input_json_delta": {"partial_json": "{}"},
    "signature_delta": {"signature": "x"},
}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("kind", SAYS)
@pytest.mark.parametrize(
    ("block", "fitting"),
    [
        (OPEN, {"text_delta"}),
        (THOUGHT, {"thinking_delta", "signature_delta"}),
        (CALL, {"input_json_delta"}),
        (begin(type="server_tool_use", id="t", name="x", input={}), {"input_json_delta"}),
        (begin(type="redacted_thinking", data="x"), set()),
        (begin(type="odd"), set(SAYS)),
    ],
)
@given(size=st.integers(1, 300))
def test_a_delta_has_to_fit_its_block(
    block: bytes, fitting: set[str], kind: str, size: int
) -> None:
    """Claude Code raises an exception for any other, and for an empty one too."""
    rest = CLOSE + END + STOP
    full = piece(type=kind, **SAYS[kind])
    empty = piece(type=kind, **dict.fromkeys(SAYS[kind], ""))
    if kind in fitting:
        assert read(START + block + empty + full + rest, size) == (
            START + block + empty + full + rest,
            "",
        )
        return
    assert read(START + block + empty + rest, size) == (START + block + rest, "")
    out, error = read(START + block + full + rest, size)
    if kind == "signature_delta":
        assert (out, error) == (START + block + rest, "")
    else:
        assert (out, bool(error)) == (START + block, True)


def test_a_delta_with_no_input_leaves_the_input_that_came_whole() -> None:
    block = begin(type="tool_use", id="t", name="Read", input={"a": 1})
    for delta in (None, {}, {"type": "input_json_delta"}):
        nothing = ev("content_block_delta", index=0, delta=delta)
        out, error = read(START + block + nothing + CLOSE + END + STOP, 1 << 20)
        assert not error
        assert msgspec.json.decode(to_message(out))["content"][0]["input"] == {"a": 1}


@given(size=st.integers(1, 300))
def test_an_index_can_be_a_whole_float(size: int) -> None:
    raw = START + begin(0.0, type="text", text="") + piece(0.0, type="text_delta", text="hello")
    out, error = read(raw + ev("content_block_stop", index=0.0) + END + STOP, size)
    assert (text(out), error) == ("hello", "")
    for index in (0.5, 1e300):
        assert read(START + begin(index, type="text", text="") + END + STOP, size)[1]


NO_REASON = ev("message_delta", delta={}, usage={"output_tokens": 5})
CALL_END = ev("content_block_stop", index=1)
INPUT = piece(1, type="input_json_delta", partial_json="{}")
SECOND_CALL = CALL.replace(b'"index":0', b'"index":1') + INPUT


def parts(out: bytes) -> list[bytes]:
    """The events of a stream, in an order that does not matter, as ends may be held."""
    return sorted(out.split(b"\n\n"))


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("holds", [False, True])
@pytest.mark.parametrize("last", [END + STOP, END, NO_REASON + END, NO_REASON + STOP])
@pytest.mark.parametrize("missing", [(CLOSE,), (CALL_END,), (CLOSE, CALL_END)])
@given(size=st.integers(1, 300))
def test_every_block_ends_before_the_answer(
    missing: tuple[bytes, ...], last: bytes, holds: bool, size: int
) -> None:
    """Claude Code shows and calls only what has ended."""
    raw = whole = START + OPEN + TEXT + CLOSE + SECOND_CALL + CALL_END + last
    for each in missing:
        raw = raw.replace(each, b"")
    stream = ANTHROPIC.stream(BODY, FALLBACK, [BlockStopHolder()] if holds else [])
    out = b"".join(stream.feed(raw[i : i + size]) for i in range(0, len(raw), size))
    out += stream.finish()
    assert stream.complete
    assert stream.error is None
    ends, _, rest = out.rpartition(END if END in last else STOP)
    assert b"content_block_stop" not in rest
    assert [ends.count(each) for each in (CLOSE, CALL_END)] == [1, 1]
    for each in missing:
        assert ends.index(each) > ends.index(INPUT)
    expected = whole.replace(b'"delta":{}', b'"delta":{"stop_reason":null}')
    assert parts(out) == parts(expected) or NO_REASON in last


@pytest.mark.parametrize("holds", [False, True])
@pytest.mark.parametrize("last", [b"", STOP, ABORT + STOP])
@given(size=st.integers(1, 300))
def test_no_block_ends_with_an_answer_that_breaks_off(last: bytes, holds: bool, size: int) -> None:
    """Claude Code would keep it, instead of a second request."""
    raw = START + OPEN + TEXT + last
    stream = ANTHROPIC.stream(BODY, FALLBACK, [BlockStopHolder()] if holds else [])
    out = b"".join(stream.feed(raw[i : i + size]) for i in range(0, len(raw), size))
    assert b"content_block_stop" not in out + stream.finish()
    assert not stream.complete


@pytest.mark.parametrize("holds", [False, True])
@given(size=st.integers(1, 300))
def test_no_block_ends_twice(holds: bool, size: int) -> None:
    """Claude Code would show it twice, or do what it calls for."""
    raw = START + OPEN + TEXT + CLOSE + CLOSE + SECOND_CALL + CALL_END + CALL_END + CLOSE + END
    raw += CLOSE + STOP
    stream = ANTHROPIC.stream(BODY, FALLBACK, [BlockStopHolder()] if holds else [])
    out = b"".join(stream.feed(raw[i : i + size]) for i in range(0, len(raw), size))
    assert stream.complete
    assert [out.count(each) for each in (CLOSE, CALL_END)] == [1, 1]
    # Nor does the real end come after the one that was missing.
    late = START + OPEN + TEXT + END + CLOSE + STOP
    assert read(late, size) == (GOOD, "")
    assert read(late, size, PRIMARY) == (late, "")


def test_the_input_of_a_call_comes_before_its_end() -> None:
    block = begin(type="tool_use", id="t", name="Read", input={"a": 1})
    out, error = read(START + block + END + STOP, 1 << 20)
    assert not error
    assert out.index(b"input_json_delta") < out.index(CLOSE) < out.index(END)


@given(size=st.integers(1, 300))
def test_a_second_start_before_any_block_is_left_out(size: int) -> None:
    assert read(START + ev("ping") + GOOD, size) == (START + ev("ping") + GOOD[len(START) :], "")


@pytest.mark.parametrize("member", [{}, {"text": None}])
def test_a_block_of_text_begins_with_a_text(member: dict[str, Any]) -> None:
    out, error = read(GOOD.replace(OPEN, begin(type="text", **member)), 1 << 20)
    assert (text(out), error) == ("hello", "")
    assert b'"content_block":{"type":"text","text":""}' in out


def test_a_message_begins_with_empty_content() -> None:
    for message in ({"usage": USAGE}, {"usage": USAGE, "content": None}):
        out, error = read(GOOD.replace(START, ev("message_start", message=message)), 1 << 20)
        assert (text(out), error) == ("hello", "")
        assert b'"content":[]' in out.partition(b"\n\n")[0]


def test_the_last_counts_have_a_delta_and_the_end_has_counts() -> None:
    counts = ev("message_delta", usage={"output_tokens": 5})
    out, error = read(START + OPEN + TEXT + CLOSE + counts + STOP, 1 << 20)
    assert not error
    assert b'"delta":{"stop_reason":null}' in out
    out, error = read(START + ev("message_delta", delta={"stop_reason": "end_turn"}) + STOP, 99)
    assert not error
    assert b'"usage":{"output_tokens":0}' in out


def test_the_number_of_blocks_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, "MAX_BLOCKS", 3)
    blocks = [begin(index, type="text", text="") for index in range(4)]
    assert not read(START + b"".join(blocks[:3]) + END + STOP, 1 << 20)[1]
    assert read(START + b"".join(blocks) + END + STOP, 1 << 20)[1]


@given(chunks=st.lists(st.sampled_from([*UNREADABLE.values(), (GOOD, b"\xff")]).map(b"".join)))
def test_no_events_raise(chunks: list[bytes]) -> None:
    stream = ANTHROPIC.stream(BODY, FALLBACK)
    for chunk in chunks:
        stream.feed(chunk)
    stream.finish()
