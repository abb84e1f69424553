"""Reading the log: whole lines, each once, through rotations; and requests by their id."""

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.events import journal_reader
from ccfallback.events.journal import Journal
from ccfallback.events.journal_reader import (
    Follower,
    Found,
    all_lines,
    backwards,
    find_request,
    follow,
    latest_ends,
    latest_request,
    latest_with_trouble,
    mark,
    request_records,
    tail,
)
from ccfallback.events.records import Event, Record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ccfallback.jsonl"


def line(number: int) -> bytes:
    return b'{"message":"%d"}\n' % number


def lines(start: int, end: int) -> list[bytes]:
    return [line(number) for number in range(start, end)]


def write(path: Path, start: int, end: int, max_bytes: int = 54, backups: int = 50) -> None:
    """Write lines one by one; with these limits, three fit in a file."""
    log = Journal(path, max_bytes, backups)
    for number in range(start, end):
        log.write(line(number))
    log.close()


def number(record: Record[Event]) -> int:
    return int(record.message)


def numbers_backwards(path: Path) -> list[int]:
    return [number(record) for record, _ in backwards(path)]


def drained(path: Path, following: Iterator[bytes], count: int) -> list[bytes]:
    """So many lines, and whether they come at all is the test's own timeout's business."""
    return list(itertools.islice(following, count))


def rest(following: Iterator[bytes], stop: threading.Event) -> list[bytes]:
    """The lines that are left when the follower has to stop."""
    stop.set()
    return list(following)


def test_no_log_has_no_lines(path: Path) -> None:
    assert list(all_lines(path)) == []
    assert tail(path, 5) == []
    assert mark(path) is None
    assert list(all_lines(path / "no" / "folder")) == []


def test_only_json_objects_are_records(path: Path) -> None:
    path.write_bytes(line(1) + b"\n[1]\nnonsense\n\xff\n" + line(2)[:-1] + b"\r\n" + line(3)[:-1])
    assert numbers_backwards(path) == [2, 1]


def test_lines_are_raw_and_old_files_can_be_skipped(path: Path) -> None:
    write(path, 0, 8)
    assert list(all_lines(path)) == lines(0, 8)
    os.utime(journal_reader.numbered(path, 2), (1000, 1000))
    assert list(all_lines(path, since=1001)) == lines(3, 8)
    assert list(all_lines(path, since=1000)) == lines(0, 8)


def test_reading_goes_over_all_files_in_order(path: Path) -> None:
    write(path, 0, 40)
    assert list(all_lines(path)) == lines(0, 40)
    assert numbers_backwards(path) == list(range(39, -1, -1))


def test_a_log_rotated_while_it_is_read_is_read_once(path: Path) -> None:
    write(path, 0, 12)
    reading = all_lines(path)
    first = [next(reading) for _ in range(4)]
    write(path, 12, 20)
    assert [*first, *reading] == lines(0, 12)


def test_tail_gives_the_last_accepted_records_with_their_bytes(path: Path) -> None:
    write(path, 0, 40)
    found = tail(path, 4, lambda record: number(record) % 10 == 0)
    assert [number(record) for record, _ in found] == [0, 10, 20, 30]
    assert [raw for _, raw in found] == [line(n) for n in (0, 10, 20, 30)]
    assert [raw for _, raw in tail(path, 2)] == lines(38, 40)
    assert tail(path, 0) == []


def test_tail_and_follow_meet_at_a_mark(path: Path) -> None:
    write(path, 0, 10)
    place = mark(path)
    write(path, 10, 20)
    assert [raw for _, raw in tail(path, 3, until=place)] == lines(7, 10)
    assert drained(path, follow(path, poll=0.01, start=place), 10) == lines(10, 20)


def test_each_look_has_the_lines_added_since_the_last(path: Path) -> None:
    write(path, 0, 10)
    with closing(Follower(path)) as log:
        assert list(log.look()) == []
        write(path, 10, 20)
        assert list(log.look()) == lines(10, 20)
        path.rename(path.with_name(f"{path.name}.1"))
        write(path, 20, 30)
        assert list(log.look()) == lines(20, 30)
        assert list(log.look()) == []


def test_following_begins_at_the_end(path: Path) -> None:
    write(path, 0, 5)
    stop = threading.Event()
    following = follow(path, stop, poll=0.01)
    write(path, 5, 7)
    assert drained(path, following, 2) == lines(5, 7)
    assert rest(following, stop) == []


def test_following_survives_several_rotations_between_two_looks(path: Path) -> None:
    write(path, 0, 5)
    stop = threading.Event()
    following = follow(path, stop, poll=0.01)
    write(path, 5, 25)
    assert drained(path, following, 20) == lines(5, 25)
    write(path, 25, 26)
    assert drained(path, following, 1) == lines(25, 26)
    assert rest(following, stop) == []


def test_following_survives_the_loss_of_its_file(path: Path) -> None:
    write(path, 0, 2, backups=2)
    stop = threading.Event()
    following = follow(path, stop, poll=0.01)
    write(path, 2, 3, backups=2)
    assert next(following) == line(2)
    write(path, 3, 30, backups=2)
    kept = list(path.parent.glob("ccfallback.jsonl*"))
    still = sum(file.read_bytes().count(b"\n") for file in kept)
    assert drained(path, following, still) == lines(30 - still, 30)
    assert rest(following, stop) == []


def test_following_waits_for_a_log_that_is_not_there(path: Path) -> None:
    stop = threading.Event()
    following = follow(path, stop, poll=0.01)
    write(path, 0, 7)
    assert drained(path, following, 7) == lines(0, 7)
    assert rest(following, stop) == []


def test_a_half_written_line_is_not_read(path: Path) -> None:
    path.write_bytes(line(0)[:8])
    following = follow(path, poll=0.01)

    def finish() -> None:
        with path.open("ab") as file:
            file.write(line(0)[8:])

    timer = threading.Timer(0.05, finish)
    timer.start()
    assert next(following) == line(0)
    timer.join()


def test_a_log_that_a_person_removed_is_followed_without_the_old_files(path: Path) -> None:
    write(path, 0, 9)
    stop = threading.Event()
    following = follow(path, stop, poll=0.01)
    write(path, 9, 10)
    assert next(following) == line(9)
    path.unlink()
    write(path, 10, 12)
    assert drained(path, following, 2) == lines(10, 12)
    assert rest(following, stop) == []


def test_a_log_that_was_emptied_is_followed_from_its_start(path: Path) -> None:
    write(path, 0, 3)
    following = follow(path, poll=0.01)
    path.write_bytes(line(7))
    assert next(following) == line(7)


def test_writing_and_following_at_once(path: Path) -> None:
    following = follow(path, poll=0.001)
    writer = threading.Thread(target=write, args=(path, 0, 600, 100, 500))
    writer.start()
    assert drained(path, following, 600) == lines(0, 600)
    writer.join()


def test_files_that_rotate_several_times_while_they_are_looked_at_stay_in_order(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, 0, 9)
    stop = threading.Event()
    inode = journal_reader.numbered(path, 1).stat().st_ino
    following = follow(path, stop, poll=0.01, start=journal_reader.Mark(inode, 0))
    place, waiting = journal_reader.numbered, [(9, 18)]

    def late(path: Path, number: int) -> Path:
        # The newest file has been looked at.
        if number == 1 and waiting:
            write(path, *waiting.pop())
        return place(path, number)

    monkeypatch.setattr(journal_reader, "numbered", late)
    # What was written since may be missing, but nothing in between.
    assert list(all_lines(path)) == lines(0, 15)
    waiting.append((18, 27))
    assert drained(path, following, 24) == lines(3, 27)
    assert rest(following, stop) == []


def test_files_that_rotate_several_times_while_they_are_listed_are_found(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, 0, 9)
    listing, waiting = journal_reader.rotations, [(9, 18), (18, 21)]

    def late(path: Path) -> list[int]:
        found = listing(path)
        if waiting:
            write(path, *waiting.pop(0))
        return found

    monkeypatch.setattr(journal_reader, "rotations", late)
    # What was written after the newest file was looked at may be missing, but nothing before.
    assert list(all_lines(path))[:18] == lines(0, 18)
    assert not waiting


def test_overlong_lines_cost_no_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_reader, "LONGEST_LINE", 64)
    path.write_bytes(line(1) + b"x" * 1000 + b"\n" + line(2))
    assert list(all_lines(path)) == [line(1), line(2)]
    assert numbers_backwards(path) == [2, 1]


@given(
    sizes=st.lists(st.integers(1, 120), max_size=30),
    cuts=st.data(),
    max_bytes=st.integers(10, 400),
    block=st.integers(1, 200),
)
def test_any_cut_of_writes_reads_back_the_same_lines(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    cuts: st.DataObject,
    max_bytes: int,
    block: int,
) -> None:
    path = tmp_path_factory.mktemp("cut") / "ccfallback.jsonl"
    raw = [b'{"n":%d,"x":"%s"}\n' % (n, b"y" * size) for n, size in enumerate(sizes)]
    following = follow(path, poll=0)
    log = Journal(path, max_bytes, 100)
    left = raw
    while left:
        count = cuts.draw(st.integers(1, len(left)))
        log.write(b"".join(left[:count]))
        left = left[count:]
    log.close()
    assert list(all_lines(path)) == raw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_reader, "BLOCK", block)
        assert [raw for _, raw in tail(path, len(raw))] == raw
    assert list(itertools.islice(following, len(raw))) == raw


def test_a_folder_of_many_files_is_not_listed_for_each(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, 0, 90)
    looks = []
    listing = journal_reader.rotations

    def counted(path: Path) -> list[int]:
        looks.append(path)
        return listing(path)

    monkeypatch.setattr(journal_reader, "rotations", counted)
    assert list(all_lines(path)) == lines(0, 90)
    # Once at first, and once more for what rotation has moved meanwhile.
    assert len(looks) == 2


# -- Requests


def write_events(
    path: Path, *records: tuple[str, str, dict[str, Any]], level: str = "info"
) -> None:
    """Lines of (request, event, data)."""
    with path.open("ab") as file:
        for request, event, data in records:
            line = {"level": level, "event": event, "requestId": request, "data": data}
            file.write(msgspec.json.encode(line) + b"\n")


def request(path: Path, name: str, attempts: int) -> None:
    write_events(path, (name, "request.start", {}))
    for number in range(1, attempts + 1):
        write_events(path, (name, "provider.attempt", {"attempt": number}))
    write_events(path, (name, "request.complete", {"attempts": attempts}))


def test_the_latest_that_needed_more_than_one_attempt(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name, attempts in (("a", 2), ("b", 11), ("c", 1), ("d", 0)):
        request(log, name, attempts)
    assert latest_with_trouble(log) == "b"
    assert latest_request(log) == "d"


def test_otherwise_the_latest_request_with_a_failure_is_explained(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_events(
        log, ("a", "provider.failure", {"attempt": 1}), ("b", "request.error", {"attempts": 0})
    )
    assert latest_with_trouble(log) == "a"


def test_side_endpoints_are_not_found(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_events(log, ("a", "provider.attempt", {"attempt": 2}), level="debug")
    assert latest_with_trouble(log) is None
    assert latest_request(log) is None
    assert find_request(log, "a") == Found("a")


def test_no_log_holds_no_request(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert latest_request(log) is None
    assert find_request(log, "a") is None
    assert request_records(log, "a") == []


def test_a_part_of_an_id_finds_the_latest_that_fits(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name in ("ccr-1_aaa", "ccr-2_bbb", "ccr-3_aab"):
        request(log, name, 1)
    assert find_request(log, "bbb") == Found("ccr-2_bbb")
    assert find_request(log, "ccr-") == Found("ccr-3_aab", 2)
    assert find_request(log, "1_a") is None
    assert find_request(log, "") is None


def test_a_whole_id_beats_a_later_one_that_begins_like_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    request(log, "turn-1", 1)
    request(log, "turn-10", 1)
    assert find_request(log, "turn-1") == Found("turn-1")


def test_a_request_is_found_across_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_events(tmp_path / "log.1", ("other", "request.start", {}), ("a", "request.start", {}))
    write_events(log, ("other", "request.complete", {}), ("a", "request.complete", {"attempts": 1}))
    assert [record.event for record in request_records(log, "a")] == [
        "request.start",
        "request.complete",
    ]


def test_the_latest_of_several_requests_with_one_id_is_found(tmp_path: Path) -> None:
    log = tmp_path / "log"
    request(log, "a", 3)
    write_events(log, ("a", "request.error", {"attempts": 0}))
    assert [record.event for record in request_records(log, "a")] == ["request.error"]


def test_the_ends_of_requests_come_newest_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    request(log, "a", 1)
    request(log, "b", 1)
    write_events(log, ("side", "request.error", {}), level="debug")
    assert [record.request_id for record in latest_ends(log)] == ["b", "a"]
