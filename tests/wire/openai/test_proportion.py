"""Work grows in proportion to what an upstream sends, and what is kept has a bound."""

import tracemalloc
from collections.abc import Callable

import msgspec
import pytest

from ccfallback.wire.openai.arguments import MAX_ARGUMENTS, MAX_HELD, repaired
from ccfallback.wire.openai.lines import MAX_EVENT
from ccfallback.wire.openai.request import to_openai
from ccfallback.wire.openai.stream import OpenAIStream, whole
from tests.proportion import grows_in_proportion
from tests.wire.openai.asked import PLAIN
from tests.wire.openai.upstream import (
    ASKED,
    DONE,
    Translated,
    body,
    calls,
    chunk,
    completion,
    piece,
    says,
    translate,
)

pytestmark = pytest.mark.usefixtures("untraced")

THINKING = body(thinking={"type": "enabled", "budget_tokens": 2000})
OPEN = calls(piece(0, "a", "A", '{"x":"'))


def repeated(*reads: bytes, before: bytes = b"", think_tags: bool = False) -> Callable[[int], None]:
    """A stream that sends some reads many times."""

    def work(count: int) -> None:
        stream = OpenAIStream(ASKED, think_tags=think_tags)
        stream.feed(before)
        for _ in range(count):
            for read in reads:
                stream.feed(read)
        stream.finish()

    return work


def details(text: str) -> bytes:
    return chunk({"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": text}]})


def many_calls(count: int) -> None:
    reads = [calls(piece(number, f"c{number}", "A", "{")) for number in range(count)]
    translate(*reads, chunk({}, "tool_calls"), DONE)


def calls_in_one_chunk(count: int) -> None:
    translate(calls(*(piece(None, None, "A", "{}") for _ in range(count))), DONE)


def calls_again(count: int) -> None:
    made = [piece(number, f"c{number}", "A", f'{{"x":{number}}}') for number in range(count)]
    again = [{**call, "id": f"d{number}"} for number, call in enumerate(made)]
    message = msgspec.json.encode({"choices": [{"index": 0, "message": {"tool_calls": again}}]})
    translate(*map(calls, made), b"data: " + message + b"\n\n", DONE)


STREAMS: dict[str, Callable[[int], object]] = {
    "white space": repeated(says(" ")),
    "white space with think tags": repeated(says(" "), think_tags=True),
    "white space as thinking": repeated(chunk({"reasoning_content": " "})),
    "text": repeated(says("word ")),
    "thinking in tags": repeated(says("<"), before=says("<think>"), think_tags=True),
    "braces in arguments": repeated(
        calls(piece(0, args="}")), before=OPEN + calls(piece(1, "b", "B", "{}"))
    ),
    "empty objects": repeated(calls(piece(0, args="{ }")), before=calls(piece(0, "a", "A"))),
    "backslashes": repeated(calls(piece(0, args="\\")), before=OPEN),
    "arguments that are not an object": repeated(
        calls(piece(0, args="}")), before=calls(piece(0, "a", "A", "["))
    ),
    "text within a call": repeated(says("x"), before=OPEN),
    "details": repeated(details("x")),
    "calls": many_calls,
    "calls in one chunk": calls_in_one_chunk,
    "calls once more": calls_again,
    "lines without an end": repeated(b"x" * 40),
    "empty lines": repeated(b"\r\n" * 50),
    "carriage returns": repeated(b"data:\r"),
    "lines of one event": repeated(b"data: {\n"),
    "comments": repeated(b": x\n"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_the_work_for_a_stream(name: str) -> None:
    grows_in_proportion(STREAMS[name], 100)


WHOLE: dict[str, Callable[[int], object]] = {
    "arguments": lambda n: whole(
        completion({"tool_calls": [piece(None, "a", "A", '{"x":"' + "\\d" * n + '"}')]}), ASKED
    ),
    "calls": lambda n: whole(completion({"tool_calls": [piece(None, "a", "A", "{}")] * n}), ASKED),
    "thinking without a start": lambda n: whole(
        completion({"content": "x</thin" * n}), ASKED, think_tags=True
    ),
    "brackets": lambda n: repaired("{" + "[" * n),
    "rubbish": lambda n: whole(b"{}," * n, ASKED),
}


@pytest.mark.parametrize("name", WHOLE)
def test_the_work_for_a_whole_answer(name: str) -> None:
    grows_in_proportion(WHOLE[name], 100)


def asks(*blocks: dict[str, object]) -> Callable[[int], object]:
    """The translation of a conversation that has these blocks many times, turn by turn."""

    def work(count: int) -> None:
        turns = [
            {"role": "assistant" if number % 2 else "user", "content": list(blocks)}
            for number in range(count)
        ]
        to_openai(body(messages=turns), PLAIN, "m")

    return work


REQUESTS: dict[str, Callable[[int], object]] = {
    "text": asks({"type": "text", "text": "x"}),
    "calls": asks({"type": "tool_use", "id": "a", "name": "A", "input": {}}),
    "results": asks({"type": "tool_result", "tool_use_id": "a", "content": "x"}),
    "tools": lambda n: to_openai(
        body(tools=[{"name": f"a.{i}", "input_schema": {}} for i in range(n)]), PLAIN, "m"
    ),
    "many calls in a turn": lambda n: to_openai(
        body(
            messages=[
                {"role": "user", "content": "x"},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "a", "name": "A", "input": {}}] * n,
                },
            ]
        ),
        PLAIN,
        "m",
    ),
    "one message of many blocks": lambda n: to_openai(
        body(messages=[{"role": "user", "content": [{"type": "text", "text": "x"}] * n}]),
        PLAIN,
        "m",
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_work_for_a_request(name: str) -> None:
    grows_in_proportion(REQUESTS[name], 20)


PIECE = "x" * (1 << 18)


@pytest.mark.parametrize(
    ("before", "read", "most"),
    [
        (b"", b"data: {" + PIECE.encode(), MAX_EVENT),
        (b"", b"data: {\ndata: " + PIECE.encode() + b"\n", MAX_EVENT),
        (OPEN, calls(piece(0, args=PIECE)), MAX_ARGUMENTS),
        (OPEN, says(PIECE), MAX_HELD),
        (b"", says(" " * (1 << 18)), MAX_HELD),
        (chunk({"reasoning_content": "x"}), says(" " * (1 << 18)), MAX_HELD),
        (b"", details(PIECE), MAX_HELD),
        (calls(piece(0, "a", "A", "[")), calls(piece(0, args=PIECE)), MAX_ARGUMENTS),
        (OPEN + calls(piece(1, "b", "B", '{"x":"')), calls(piece(1, args=PIECE)), MAX_HELD),
    ],
)
def test_what_is_kept_has_a_bound(before: bytes, read: bytes, most: int) -> None:
    stream = OpenAIStream(ASKED)
    stream.feed(before)
    for _ in range(most // len(PIECE) - 1):
        stream.feed(read)
    assert stream.error is None
    stream.feed(read)
    stream.feed(read)
    assert stream.error is not None
    assert Translated(stream.finish(), stream).out == b""


def test_the_arguments_of_a_whole_answer_have_a_bound() -> None:
    call = piece(None, "a", "A", '{"x":"' + "x" * MAX_ARGUMENTS + '"}')
    assert whole(completion({"tool_calls": [call]}), ASKED).error is not None


@pytest.mark.parametrize("value", [PIECE, [PIECE], {"x": PIECE}])
def test_the_members_of_details_have_a_bound(value: object) -> None:
    stream = OpenAIStream(ASKED)
    most = MAX_HELD // len(PIECE)
    for index in range(most + 1):
        detail = {"type": "reasoning.encrypted", "index": index, "signature": value}
        assert stream.error is None or index == most
        stream.feed(chunk({"reasoning_details": [detail]}))
    assert stream.error is not None


def test_a_member_that_each_detail_says_again_is_held_once() -> None:
    stream = OpenAIStream(ASKED)
    detail = {"type": "reasoning.text", "index": 0, "format": PIECE}
    for _ in range(MAX_HELD // len(PIECE) + 1):
        stream.feed(chunk({"reasoning_details": [detail]}))
    assert stream.error is None


def test_thinking_that_was_sent_is_not_kept() -> None:
    stream = OpenAIStream(THINKING)
    thinks = chunk({"reasoning_content": PIECE})
    stream.feed(thinks)
    tracemalloc.start()
    try:
        for _ in range(64):
            stream.feed(thinks)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 4 * len(PIECE)
