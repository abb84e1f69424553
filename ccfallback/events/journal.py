"""Writes the log: JSON lines in a file that is rotated when it gets too long.

A line is written whole, once, and moved only together with its file, so that a reader that follows
the log sees every line once.
"""

import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from ccfallback import files
from ccfallback.events.journal_reader import numbered, rotations
from ccfallback.files import Busy
from ccfallback.printable import escape_json

BATCH_BYTES: Final = 64 * 1024

NOTICE_PAUSE: Final = 60.0
"""Seconds between two notices of the same trouble."""

SECONDS_BETWEEN_LOOKS: Final = 1.0
"""For so long lines may be appended to a file that was given another name."""

MOST_WAITING: Final = 10_000
"""Items that wait in a backlog before new ones are dropped."""

GATHER: Final = 0.01
"""Seconds in which items gather to a batch."""

BUSY: Final = 0.05
"""The same while one batch follows the other."""

T = TypeVar("T")


class NoticePause:
    """Keeps notices of the same trouble apart, such as a disk that refuses every write."""

    def __init__(self) -> None:
        self._until = -inf

    def is_over(self) -> bool:
        """Whether another notice is due; then the next pause begins."""
        now = time.monotonic()
        if now < self._until:
            return False
        self._until = now + NOTICE_PAUSE
        return True


class _Signal:
    """What one thread waits for: an `Event` that a wait clears, in a tenth of the time."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Let the wait end; the next one, if none is under way."""
        try:  # noqa: SIM105  (a `suppress` takes three times as long)
            self._lock.release()
        except RuntimeError:
            # It is set already, which is enough.
            pass

    def wait(self, timeout: float = -1) -> None:
        """Wait until it is set, or so many seconds, and clear it."""
        self._lock.acquire(timeout=timeout)


class Backlog(Generic[T]):
    """A queue, and a thread that empties it in batches.

    Putting an item never waits, neither for a disk nor for a terminal that is held. The thread
    lets items gather, the longer the more often they come, because each time it wakes up it takes
    the interpreter from the event loop.
    """

    def __init__(
        self,
        consume: Callable[[list[T]], None],
        name: str,
        gather: float = GATHER,
        busy: float = BUSY,
        fill: Callable[[], None] = lambda: None,
    ) -> None:
        """`consume` is called in the thread, and before it `fill`, which may `add` items.

        Neither may raise. The times are in seconds.
        """
        self._gather, self._busy = gather, busy
        self._fill = fill
        self._consume = consume
        self._waiting: list[T] = []
        self._woken = False
        self._wake, self._no_gathering = _Signal(), _Signal()
        self._closed = False
        self._condition = threading.Condition()
        self._done = 0
        self._put = 0
        self.dropped = 0
        """Items that were dropped because too many waited."""
        # A daemon, so that a `consume` that hangs does not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Take an item; it belongs to the backlog from now on."""
        self.add([item])
        self.wake()

    def add(self, items: Sequence[T]) -> None:
        """Take items, which are consumed at the latest after the next `wake`."""
        room = 0 if self._closed else max(0, MOST_WAITING - len(self._waiting))
        if len(items) > room:
            self.dropped += len(items) - room
            items = items[:room]
        self._waiting.extend(items)
        self._put += len(items)

    def wake(self) -> None:
        """Have the thread consume what waits and what it is filled with, after it has gathered."""
        if not self._woken:
            self._woken = True
            self._wake.set()

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all items put so far are consumed; False if that took too long."""
        self._fill()
        wanted = self._put
        if not self._thread.is_alive():
            return True
        self._no_gathering.set()
        self._wake.set()
        with self._condition:
            return self._condition.wait_for(lambda: self._done >= wanted, timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Have all waiting items consumed, then end; False if that took too long."""
        self._fill()
        self._closed = True
        self._no_gathering.set()
        self._wake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        ended = -inf
        while True:
            self._wake.wait()
            is_busy = time.monotonic() - ended < self._busy
            self._no_gathering.wait(self._busy if is_busy else self._gather)
            # An item that is put from here on wakes the thread again.
            self._woken = False
            self._fill()
            closed = self._closed
            batch = self._waiting[:]
            if batch:
                del self._waiting[: len(batch)]
                self._consume(batch)
                ended = time.monotonic()
                with self._condition:
                    self._done += len(batch)
                    self._condition.notify_all()
            if closed and not self._waiting:
                return
            if self._waiting or self._closed:
                self._wake.set()


_HEAD: Final = 65536
"""Bytes of a file that are searched for a log line before anything is appended to it."""

LOG_LINE: Final = re.compile(rb'^[\0\s]*\{.*"(?:timestamp|event)"', re.MULTILINE)


class Journal:
    """Appends lines to a log file, and rotates it.

    A file that holds something, but no line that matches `line`, is another program's: it is left
    alone.
    """

    def __init__(
        self, path: Path, max_bytes: int, backups: int, line: re.Pattern[bytes] | None = None
    ) -> None:
        self.path = path
        self._line = line
        self.max_bytes = max_bytes
        self.backups = backups
        self.kept = 0
        """How many lines of the last write, if that has failed, are in the file all the same."""
        self._descriptor: int | None = None
        self._end = -1
        """The size of the file after the last write; -1 if there was none."""
        self._torn = False
        self._is_stream = False
        self._name = str(path)
        self._identity = (0, 0)
        """Inode and device of the open file."""
        self._look_at = 0.0
        """When to look next whether the open file has its name, by the monotonic clock."""
        self._is_quick: bool | None = None
        """Whether the file lies on a disk of this machine; `None` before it was opened."""

    def write(self, lines: bytes) -> None:
        """Append whole lines at once; the file is rotated first if they would not fit."""
        self.kept = 0
        descriptor = self._current()
        size = os.fstat(descriptor).st_size
        if self._is_full(size, lines):
            self._rotate(lines)
            descriptor = self._current()
            size = os.fstat(descriptor).st_size
        if size != self._end and not self._is_stream:
            # Another process has written, and may have been killed in the middle of a line.
            self._torn = self._has_half_line(descriptor, size)
        added = b"\n" if self._torn else b""
        lines = added + lines
        written = 0
        try:
            while written < len(lines):
                written += os.write(descriptor, lines[written:])
        except OSError:
            self._torn = not self._take_back(descriptor, lines[:written])
            self.kept = lines[len(added) : written].count(b"\n")
            raise
        self._torn = False
        self._end = size + len(lines)

    def _has_its_name(self) -> bool:
        """Whether the open file is the one of that name; looked at once a second."""
        now = time.monotonic()
        if now >= self._look_at:
            named = os.stat(self._name)  # noqa: PTH116  (as in `files.stamp`)
            if (named.st_ino, named.st_dev) != self._identity:
                return False
            self._look_at = now + SECONDS_BETWEEN_LOOKS
        return True

    @staticmethod
    def _has_half_line(descriptor: int, size: int) -> bool:
        """Whether a file of that size ends within a line."""
        if not size:
            return False
        os.lseek(descriptor, size - 1, os.SEEK_SET)
        return os.read(descriptor, 1) != b"\n"

    def append_quickly(self, line: bytes) -> bool:
        """Append a short line on an event loop, where the file is open on a disk of this machine.

        The system takes the line into its memory, so it waits for no disk. False if the file has to
        be opened or repaired first, or takes no more: then `write` in a thread. Never rotates.
        """
        descriptor = self._descriptor
        if descriptor is None or self._torn or not self._is_quick:
            return False
        written = 0
        try:
            # Of a file that is open; to look for its name takes four times as long.
            found = os.fstat(descriptor)
            if not found.st_nlink or not self._has_its_name():
                return False
            size = found.st_size
            if size != self._end and self._has_half_line(descriptor, size):
                return False
            written = os.write(descriptor, line)
        except OSError:
            return False
        if written < len(line):
            self._torn = not self._take_back(descriptor, line[:written])
            return False
        self._end = size + written
        return True

    @property
    def position(self) -> int:
        """Where the last write ended in the file, which is open."""
        assert self._descriptor is not None, "something was written"
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    @staticmethod
    def _take_back(descriptor: int, written: bytes) -> bool:
        """Remove the half line that a full disk has taken; False if it stays.

        Lines that another process has appended in the meantime stay, and so does the half line.
        """
        half = len(written) - (written.rfind(b"\n") + 1)
        if not half:
            return True
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            os.lseek(descriptor, end - half, os.SEEK_SET)
            if os.read(descriptor, half) != written[-half:]:
                return False
            os.ftruncate(descriptor, end - half)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _current(self) -> int:
        """The file that has the log's name now; another process may have created it."""
        if self._descriptor is not None:
            with suppress(OSError):
                named = os.stat(self._name)  # noqa: PTH116  (as in `files.stamp`)
                if (named.st_ino, named.st_dev) == self._identity:
                    return self._descriptor
            self.close()
        files.make_folder(self.path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | files.BINARY | files.NONBLOCKING
        descriptor = os.open(self.path, flags, files.PRIVATE_FILE)
        found = os.fstat(descriptor)
        self._identity, mode = (found.st_ino, found.st_dev), found.st_mode
        self._look_at = 0.0
        if stat.S_ISBLK(mode):
            os.close(descriptor)
            raise files.NotRegularFile(self.path, mode)
        if self._line and stat.S_ISREG(mode) and _is_foreign(descriptor, self._line):
            os.close(descriptor)
            raise files.ForeignFile(self.path, "a log of ccfallback")
        self._descriptor = descriptor
        self._is_stream = not stat.S_ISREG(mode)
        self._torn, self._end = False, -1
        if self._is_quick is None:
            self._is_quick = not self._is_stream and files.is_local(self.path)
        return descriptor

    def _is_full(self, size: int, lines: bytes) -> bool:
        if not size or size + len(lines) <= self.max_bytes:
            return False
        # A log such as /dev/stderr is not ours to rename, even where a file lies behind it.
        return not (self._is_stream or self.path.is_relative_to("/dev"))

    def _rotate(self, lines: bytes) -> None:
        """Move each file one number up, unless another process just did."""
        # Windows can't move a file that is open.
        self.close()
        # A log that can't be rotated is better than none: it grows; the next write tries again.
        with suppress(Busy, OSError), files.locked(self.path):
            found = files.stamp(self.path)
            if found is None or not self._is_full(found[1], lines):
                return
            for number in sorted(rotations(self.path), reverse=True):
                if number >= self.backups:
                    numbered(self.path, number).unlink()
                else:
                    numbered(self.path, number).replace(numbered(self.path, number + 1))
            # Through a link, the file is moved and the link stays.
            target = files.real(self.path)
            if self.backups:
                target.replace(numbered(self.path, 1))
            else:
                target.unlink()


def _is_foreign(descriptor: int, line: re.Pattern[bytes]) -> bool:
    """Whether the beginning of a file is neither blank nor has such a line."""
    head = os.read(descriptor, _HEAD)
    return bool(head.strip(b"\0 \t\r\n")) and line.search(head) is None


_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)


def encode_lines(records: Iterable[object]) -> bytes:
    """Records as lines of the log. Raises if JSON can't hold one of them."""
    return b"\n".join(map(escape_json, _ENCODER.encode_lines(records).split(b"\n")))


class JournalWriter:
    """Writes records from a thread of its own, so that no request waits for the disk."""

    def __init__(
        self,
        journal: Journal,
        on_error: Callable[[OSError], None] | None = None,
        fill: Callable[[], None] = lambda: None,
    ) -> None:
        """`fill` is called in the thread before it writes, and may `add` records."""
        self._journal = journal
        self._on_error = on_error
        self._notice_pause = NoticePause()
        self._lost = 0
        self._backlog: Backlog[object] = Backlog(self._write_all, "journal", fill=fill)
        self.add = self._backlog.add
        """Take records, which belong to the writer from now on."""
        self.wake = self._backlog.wake
        """Have them written soon."""

    @property
    def dropped(self) -> int:
        """Records that were lost: to a slow or full disk, or because JSON can't hold them."""
        return self._lost + self._backlog.dropped

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything added before is written; False if that took too long."""
        return self._backlog.flush(timeout)

    def reconfigure(self, max_bytes: int, backups: int) -> None:
        """Change the limits from now on."""
        self._journal.max_bytes = max_bytes
        self._journal.backups = backups

    def close(self, timeout: float = 5.0) -> None:
        """Write what is waiting, then end."""
        if self._backlog.close(timeout):
            self._journal.close()

    def _write_all(self, records: list[object]) -> None:
        """Write the records, as many at once as fit in a file."""
        lines = self._encode(records)
        most = min(BATCH_BYTES, self._journal.max_bytes)
        begin = 0
        while begin < len(lines):
            end = len(lines)
            if end - begin > most:
                # After the last line that fits, or after the first line if none does.
                end = lines.rfind(b"\n", begin, begin + most) + 1 or lines.index(b"\n", begin) + 1
            self._write(lines[begin:end])
            begin = end

    def _encode(self, records: list[object]) -> bytes:
        """The records as lines, without those that JSON can't hold."""
        try:
            return encode_lines(records)
        except (TypeError, ValueError, RecursionError):
            if len(records) > 1:
                return b"".join(self._encode([record]) for record in records)
            self._lost += 1
            return b""

    def _write(self, lines: bytes) -> None:
        try:
            self._journal.write(lines)
        except OSError as error:
            self._lost += lines.count(b"\n") - self._journal.kept
            if self._on_error is not None and self._notice_pause.is_over():
                self._on_error(error)
