"""Records reach what is slow in order, in batches, and never make anybody wait."""

import threading

import pytest

from ccfallback.events import backlog
from ccfallback.events.backlog import Backlog

Record = dict[str, int]


def test_records_arrive_in_order_and_all_of_them() -> None:
    seen: list[Record] = []
    waiting = Backlog(seen.extend, "test")
    for number in range(1000):
        waiting.put({"number": number})
    assert waiting.flush()
    assert [record["number"] for record in seen] == list(range(1000))
    assert waiting.close()


def test_what_comes_together_is_handed_on_together(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[Record]] = []
    monkeypatch.setattr(backlog, "GATHER", 60)
    waiting = Backlog(batches.append, "test")
    for number in range(3):
        waiting.put({"number": number})
    assert waiting.flush()
    assert [len(batch) for batch in batches] == [3]
    assert waiting.close()


def test_closing_hands_on_what_is_waiting() -> None:
    seen: list[Record] = []
    waiting = Backlog(seen.extend, "test")
    waiting.put({"number": 1})
    assert waiting.close()
    assert seen == [{"number": 1}]
    waiting.put({"number": 2})
    assert seen == [{"number": 1}]
    assert waiting.dropped == 1


def test_what_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MOST_WAITING", 2)
    go_on, hanging = threading.Event(), threading.Event()

    def hang(_records: list[Record]) -> None:
        hanging.set()
        go_on.wait()

    waiting: Backlog[Record] = Backlog(hang, "test")
    waiting.put({})
    hanging.wait()
    for _ in range(5):
        waiting.put({})
    assert waiting.dropped == 3
    assert not waiting.flush(timeout=0.01)
    assert not waiting.close(timeout=0.01)
    go_on.set()
    assert waiting.close()
