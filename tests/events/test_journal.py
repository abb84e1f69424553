"""The log is written whole, in order and rotated, and nothing ever waits for it."""

import errno
import os
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ccfallback import files
from ccfallback.events import journal
from ccfallback.events.journal import Backlog, Journal, JournalWriter
from ccfallback.events.journal_reader import all_lines
from ccfallback.redact import Secret

WRITER = """
import sys
from pathlib import Path
from ccfallback.events.journal import Journal

log = Journal(Path(sys.argv[1]), 2000, 100)
for number in range(300):
    log.write(b'{"who": "%s", "n": %d}\\n' % (sys.argv[2].encode(), number))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "ccfallback.jsonl"


def line(number: int) -> bytes:
    return b'{"n":%d}\n' % number


def read(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in all_lines(path):
        with suppress(msgspec.DecodeError):
            found.append(msgspec.json.decode(line))
    return found


def numbers(path: Path) -> list[int]:
    return [record["n"] for record in read(path)]


def sizes(path: Path) -> dict[str, int]:
    return {
        entry.name: entry.stat().st_size
        for entry in path.parent.iterdir()
        if not entry.name.startswith(".")
    }


def test_lines_are_appended(path: Path) -> None:
    for number in range(3):
        log = Journal(path, 1000, 1)
        log.write(line(number))
        log.close()
    assert path.read_bytes() == line(0) + line(1) + line(2)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_the_log_is_the_owners_alone(path: Path) -> None:
    umask = os.umask(0)
    try:
        log = Journal(path, 8, 1)
        log.write(line(1))
        log.write(line(2))
    finally:
        os.umask(umask)
    log.close()
    for file in (path, path.with_name("ccfallback.jsonl.1"), path.parent):
        assert files.is_private(file)


def test_a_full_log_is_rotated_and_the_oldest_file_removed(path: Path) -> None:
    log = Journal(path, 16, 2)
    for number in range(9):
        log.write(line(number))
    log.close()
    assert sizes(path) == {
        "ccfallback.jsonl": 8,
        "ccfallback.jsonl.1": 16,
        "ccfallback.jsonl.2": 16,
    }
    assert numbers(path) == [4, 5, 6, 7, 8]


def test_without_backups_a_full_log_is_emptied(path: Path) -> None:
    log = Journal(path, 16, 0)
    for number in range(3):
        log.write(line(number))
    log.close()
    assert sizes(path) == {"ccfallback.jsonl": 8}
    assert numbers(path) == [2]


def test_with_fewer_backups_the_surplus_is_removed(path: Path) -> None:
    log = Journal(path, 8, 5)
    for number in range(6):
        log.write(line(number))
    log.backups = 1
    log.write(line(6))
    log.close()
    assert numbers(path) == [5, 6]


def test_a_line_longer_than_a_file_is_written(path: Path) -> None:
    log = Journal(path, 4, 1)
    log.write(line(1))
    log.write(line(2))
    log.close()
    assert numbers(path) == [1, 2]


def test_a_log_that_another_process_moved_is_opened_again(path: Path) -> None:
    log, other = Journal(path, 16, 3), Journal(path, 16, 3)
    log.write(line(0))
    for number in range(1, 4):
        other.write(line(number))
    log.write(line(4))
    log.close()
    other.close()
    assert path.read_bytes() == line(2) + line(3) or path.read_bytes() == line(4)
    assert numbers(path) == [0, 1, 2, 3, 4]


def test_a_log_that_was_removed_is_created_again(path: Path) -> None:
    log = Journal(path, 1000, 1)
    log.write(line(0))
    path.unlink()
    log.write(line(1))
    log.close()
    assert numbers(path) == [1]


def test_half_a_line_of_a_killed_process_damages_no_other_line(path: Path) -> None:
    files.make_folder(path.parent)
    path.write_bytes(line(0) + b'{"n":')
    log = Journal(path, 1000, 1)
    log.write(line(1))
    log.close()
    assert numbers(path) == [0, 1]


def test_half_a_line_of_another_process_damages_no_line_of_one_that_goes_on(path: Path) -> None:
    log = Journal(path, 1000, 1)
    log.write(line(0))
    for number in (1, 2):
        with path.open("ab") as killed:
            killed.write(line(9) + b'{"n":')
        log.write(line(number))
    log.close()
    assert numbers(path) == [0, 9, 1, 9, 2]


def test_half_a_line_on_a_full_disk_damages_no_other_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Journal(path, 1000, 1)
    log.write(line(0))
    real_write = os.write
    room = 3

    def write(descriptor: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        written, room = real_write(descriptor, data[:room]), 0
        return written

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        log.write(line(1))
    monkeypatch.setattr(os, "write", real_write)
    log.write(line(2))
    log.close()
    assert numbers(path) == [0, 2]


def test_a_log_that_cannot_be_rotated_grows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*arguments: object) -> None:
        raise files.Busy("busy")

    monkeypatch.setattr(files, "locked", busy)
    log = Journal(path, 8, 1)
    log.write(line(0))
    log.write(line(1))
    log.close()
    assert path.read_bytes() == line(0) + line(1)


@pytest.mark.parametrize("data", [b"[server]\nport = 1\n", b'{"permissions": {}}\n', b"\x7fELF"])
def test_nothing_is_appended_to_the_file_of_another_program(path: Path, data: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(files.ForeignFile):
        Journal(path, 1, 1, journal.LOG_LINE).write(line(1))
    assert path.read_bytes() == data
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\n", b'rn line\n{"timestamp":"2026-11-29T01:00:00Z"}\n']
)
def test_a_damaged_log_is_continued(path: Path, data: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(data)
    Journal(path, 1000, 1, journal.LOG_LINE).write(line(1))
    assert path.read_bytes() == data + line(1)


def test_two_processes_lose_no_line(path: Path) -> None:
    children = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), who]) for who in "ab"]
    assert [child.wait() for child in children] == [0, 0]
    records = read(path)
    for who in "ab":
        found = [record["n"] for record in records if record["who"] == who]
        assert sorted(found) == list(range(300))


def test_the_writer_writes_what_it_was_given_in_order(path: Path) -> None:
    writer = JournalWriter(Journal(path, 1000, 50))
    for number in range(200):
        writer.add([{"n": number}])
    assert writer.flush(10)
    assert numbers(path) == list(range(200))
    writer.add([{"n": 200}])
    writer.close()
    assert numbers(path) == list(range(201))
    assert max(sizes(path).values()) <= 1000
    writer.add([{"n": 201}])
    writer.close()
    assert writer.flush()
    assert writer.dropped == 1


def test_a_record_that_json_cannot_hold_is_dropped(path: Path) -> None:
    writer = JournalWriter(Journal(path, 1000, 1))
    endless: dict[str, Any] = {}
    endless["n"] = endless
    writer.add([endless])
    writer.add([{"n": "\ud800"}])
    writer.add([{"n": Secret("sk-1"), "error": OSError("x")}])
    writer.close()
    assert read(path) == [{"n": "***", "error": "x"}]
    assert writer.dropped == 2


def test_the_limits_can_change_while_it_runs(path: Path) -> None:
    writer = JournalWriter(Journal(path, 1000, 5))
    writer.add([{"n": 0}])
    assert writer.flush(10)
    writer.reconfigure(8, 1)
    for number in range(1, 4):
        writer.add([{"n": number}])
    writer.close()
    assert numbers(path) == [2, 3]


class Disk(Journal):
    """A log on a disk that refuses, or hangs until it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 1000, 1)
        self.refuses = False
        self.reached = threading.Event()
        self.goes_on = threading.Event()

    def write(self, lines: bytes) -> None:
        self.reached.set()
        self.goes_on.wait(10)
        if self.refuses:
            raise OSError("refused")
        super().write(lines)


def test_a_failing_disk_is_reported_once_and_recovers(path: Path) -> None:
    errors: list[OSError] = []
    disk = Disk(path)
    disk.goes_on.set()
    disk.refuses = True
    writer = JournalWriter(disk, errors.append)
    for number in range(3):
        writer.add([{"n": number}])
        assert writer.flush(10)
    assert [str(error) for error in errors] == ["refused"]
    assert writer.dropped == 3
    disk.refuses = False
    writer.add([{"n": 3}])
    writer.close()
    assert numbers(path) == [3]


def test_a_hanging_disk_delays_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MOST_WAITING", 5)
    disk = Disk(path)
    writer = JournalWriter(disk)
    writer.add([{"n": 0}])
    writer.wake()
    assert disk.reached.wait(10)
    for number in range(1, 20):
        writer.add([{"n": number}])
    assert not writer.flush(0)
    disk.goes_on.set()
    writer.close()
    assert numbers(path) == [0, 1, 2, 3, 4, 5]
    assert writer.dropped == 14


# -- The backlog

Item = dict[str, int]


def test_a_backlog_keeps_the_order_and_loses_nothing() -> None:
    seen: list[Item] = []
    waiting = Backlog(seen.extend, "test")
    for number in range(1000):
        waiting.put({"number": number})
    assert waiting.flush()
    assert [record["number"] for record in seen] == list(range(1000))
    assert waiting.close()


def test_items_that_come_together_are_consumed_together() -> None:
    batches: list[list[Item]] = []
    waiting = Backlog(batches.append, "test", gather=60)
    for number in range(3):
        waiting.put({"number": number})
    assert waiting.flush()
    assert [len(batch) for batch in batches] == [3]
    assert waiting.close()


def test_items_gather_longer_while_batches_follow_each_other() -> None:
    batches: list[list[Item]] = []
    waiting = Backlog(batches.append, "test", gather=0, busy=60)
    waiting.put({"number": 0})
    assert waiting.flush()
    for number in range(3):
        waiting.put({"number": number})
    assert len(batches) == 1
    assert waiting.flush()
    assert [len(batch) for batch in batches] == [1, 3]
    assert waiting.close()


def test_closing_consumes_what_is_waiting() -> None:
    seen: list[Item] = []
    waiting = Backlog(seen.extend, "test")
    waiting.put({"number": 1})
    assert waiting.close()
    assert seen == [{"number": 1}]
    waiting.put({"number": 2})
    assert seen == [{"number": 1}]
    assert waiting.dropped == 1


def test_a_consumer_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MOST_WAITING", 2)
    go_on, hanging = threading.Event(), threading.Event()

    def hang(_records: list[Item]) -> None:
        hanging.set()
        go_on.wait()

    waiting: Backlog[Item] = Backlog(hang, "test")
    waiting.put({})
    hanging.wait()
    for _ in range(5):
        waiting.put({})
    assert waiting.dropped == 3
    assert not waiting.flush(timeout=0.01)
    assert not waiting.close(timeout=0.01)
    go_on.set()
    assert waiting.close()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links are POSIX")
def test_a_log_behind_a_link_is_rotated_next_to_its_file(tmp_path: Path) -> None:
    link, target = tmp_path / "log.jsonl", tmp_path / "disk" / "data"
    target.parent.mkdir()
    link.symlink_to(target)
    journal = Journal(link, max_bytes=10, backups=2)
    for number in range(3):
        journal.write(b"line %d\n" % number)
    journal.close()
    assert link.is_symlink()
    names = sorted(path.name for path in target.parent.glob("data*"))
    assert names == ["data", "data.1", "data.2"]
    assert list(all_lines(link)) == [b"line 0\n", b"line 1\n", b"line 2\n"]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links are POSIX")
def test_a_pipe_as_the_log_is_neither_rotated_nor_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    journal = Journal(path, max_bytes=10, backups=2)
    journal.write(b"a line that is long\n")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    journal.write(b"another\n")
    assert os.read(reader, 100) == b"a line that is long\nanother\n"
    os.close(reader)
    with suppress(BlockingIOError):
        journal.write(b"x" * 1_000_000)
    with pytest.raises(BlockingIOError):
        journal.write(b"y")
    journal.close()
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert list(all_lines(path)) == []


def full_after(bytes_left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk take so many more bytes, then none."""
    write, left = os.write, bytes_left

    def limited(descriptor: int, data: bytes) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, data[:left])
        left -= written
        return written

    monkeypatch.setattr("ccfallback.events.journal.os.write", limited)


@pytest.mark.parametrize("left", range(0, 19, 3))
def test_a_full_disk_leaves_no_half_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    journal = Journal(path, 10_000, 1)
    journal.write(b"before\n")
    with monkeypatch.context() as patch:
        full_after(left, patch)
        with pytest.raises(OSError, match="No space"):
            journal.write(b"one line\n" * 2 + b"x" * 10 + b"\n")
        assert path.read_bytes() == b"before\n" + b"one line\n" * (left // 9)
    journal.write(b"after\n")
    assert path.read_bytes().endswith(b"\nafter\n")
    assert b"\n\n" not in path.read_bytes()


def test_what_another_process_appended_behind_half_a_line_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(path, 10_000, 1)
    journal.write(b"before\n")
    write = os.write

    def torn(descriptor: int, data: bytes) -> int:
        if data != b"half line\n":
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, data[:4])
        with path.open("ab") as other:
            other.write(b"other\n")
        return written

    with monkeypatch.context() as patch:
        patch.setattr("ccfallback.events.journal.os.write", torn)
        with pytest.raises(OSError, match="No space"):
            journal.write(b"half line\n")
    assert b"other\n" in path.read_bytes()
