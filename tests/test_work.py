"""Work grows with its input and no faster, counted in lines of the program that run."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec
import pytest

from ccfallback.events.journal_reader import all_lines, backwards, find_request, tail
from ccfallback.messages.body import Body
from ccfallback.messages.sse import EventSplitter, EventTooLong
from ccfallback.messages.tokens import estimate
from ccfallback.quotes import Quotes
from ccfallback.redact import scrub

EVENT: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
LINE: Final = b'{"event":"request.complete","requestId":"ccr-%d"}\n'


def count_lines(work: Callable[[Any], object], given: object) -> int:
    """The number of lines of Python that run."""
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work(given)
    finally:
        sys.settrace(before)
    return lines


def split(stream: bytes, size: int, limit: int | None = None) -> None:
    splitter = EventSplitter(limit)
    for place in range(0, len(stream), size):
        splitter.feed(stream[place : place + size])


def split_too_long(size: int) -> None:
    with pytest.raises(EventTooLong):
        split(b"data: " + b"x" * 2 * size, 7, limit=size)


def remove(said: str, text: str) -> None:
    messages = [{"role": "user", "content": said}]
    Quotes(Body.parse(msgspec.json.encode({"model": "m", "messages": messages}))).remove(text)


WORK: Final[dict[str, Callable[[int], None]]] = {
    "events": lambda size: split(EVENT * size, 1 << 20),
    "events in pieces": lambda size: split(EVENT * size, 3),
    "one event in pieces": lambda size: split(b"data: " + b"x" * 40 * size + b"\n\n", 3),
    "lines of one event": lambda size: split(b"data: x\n" * size + b"\n", 3),
    "carriage returns": lambda size: split(b"data: x\r\n\r\n" * size, 3),
    "an event without end": lambda size: split_too_long(40 * size),
    "many quotes": lambda size: remove("some words that were said " * size, "that were said " * 9),
    "a long error": lambda size: remove("some words that were said", "words that were " * size),
    "a long text to redact": lambda size: drop(scrub("key sk-ant-xyz0 " * size)),
    "many secrets": lambda size: drop(scrub("a text", [f"secret-number-{n}" for n in range(size)])),
}


def drop(_value: object) -> None:
    """Take a value of work whose result does not matter."""


@pytest.mark.parametrize("name", WORK)
def test_work_grows_in_proportion(name: str) -> None:
    work = WORK[name]
    work(100)
    short, long = (count_lines(work, size) for size in (100, 400))
    assert short > 0
    assert long <= 5 * short


@pytest.mark.parametrize("letter", ["a", "é", "я", "漢", "🎉"])
def test_the_tokens_of_a_text_are_counted_without_a_loop_over_its_letters(letter: str) -> None:
    def asked(size: int) -> Body:
        said = [{"role": "user", "content": letter * size}]
        return Body.parse(msgspec.json.encode({"model": "m", "messages": said}))

    count_lines(estimate, asked(100))
    short, long = (count_lines(estimate, asked(size)) for size in (100, 10_000))
    assert 0 < long == short


READERS: Final[dict[str, Callable[[Path], object]]] = {
    "all": lambda path: len(list(all_lines(path))),
    "backwards": lambda path: len(list(backwards(path))),
    "one that is not there": lambda path: find_request(path, "ccr-none"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_of_the_log_works_in_proportion_to_it(name: str, tmp_path: Path) -> None:
    counts = [count_lines(READERS[name], log(tmp_path, size)) for size in (500, 2000)]
    assert counts[0] > 0
    assert counts[1] <= 5 * counts[0]


def test_the_tail_of_a_log_takes_no_longer_the_longer_the_log_is(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        assert len(tail(path, 10)) == 10

    counts = [count_lines(read, log(tmp_path, size)) for size in (5000, 20_000)]
    assert 0 < counts[1] <= 2 * counts[0]


def log(folder: Path, size: int) -> Path:
    path = folder / "log.jsonl"
    path.write_bytes(b"".join(map(LINE.__mod__, range(size))))
    return path
