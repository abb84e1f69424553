"""The log: JSON lines in a file that is rotated when it gets too long.

One rule: a line is written whole, once, and moved only together with its file, so that whoever
follows the log sees every line once. Reading is in `journal_reading`.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from ccfallback import files
from ccfallback.events.backlog import Backlog
from ccfallback.events.journal_reader import (
    Mark,
    all_lines,
    backwards,
    follow,
    mark,
    numbered,
    read,
    rotations,
    tail,
)
from ccfallback.files import Busy

__all__ = [
    "Journal",
    "JournalWriter",
    "Mark",
    "all_lines",
    "backwards",
    "follow",
    "mark",
    "read",
    "tail",
]

BATCH_BYTES: Final = 64 * 1024

SECONDS_BETWEEN_NOTICES: Final = 60.0


class Journal:
    """Appends lines to a log file, and rotates it."""

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.backups = backups
        self._descriptor: int | None = None
        self._torn = False

    def write(self, lines: bytes) -> None:
        """Append whole lines at once; the file is rotated first if they would not fit."""
        descriptor = self._current()
        if self._is_full(os.fstat(descriptor).st_size, lines):
            self._rotate(lines)
            descriptor = self._current()
        if self._torn:
            lines = b"\n" + lines
        written = os.write(descriptor, lines)
        # A full disk may take half a line; the next line must not be glued to it.
        self._torn = written < len(lines) and not lines[:written].endswith(b"\n")
        if written < len(lines):
            rest = lines[written:]
            self._torn = os.write(descriptor, rest) < len(rest)

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _current(self) -> int:
        """The file that has the log's name now, which another process may have put there."""
        if self._descriptor is not None:
            with suppress(OSError):
                ours, named = os.fstat(self._descriptor), self.path.stat()
                if (ours.st_ino, ours.st_dev) == (named.st_ino, named.st_dev):
                    return self._descriptor
            self.close()
        files.make_folder(self.path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | files.BINARY
        descriptor = os.open(self.path, flags, files.PRIVATE_FILE)
        self._descriptor = descriptor
        # The process before may have been killed in the middle of a line.
        end = os.lseek(descriptor, 0, os.SEEK_END)
        if end:
            os.lseek(descriptor, end - 1, os.SEEK_SET)
        self._torn = end > 0 and os.read(descriptor, 1) != b"\n"
        return descriptor

    def _is_full(self, size: int, lines: bytes) -> bool:
        return size > 0 and size + len(lines) > self.max_bytes

    def _rotate(self, lines: bytes) -> None:
        """Move the file and those before it one number up, unless another process just did."""
        # Windows moves no file that is open.
        self.close()
        # A log that can't be rotated is better than none: it grows, and the next write tries again.
        with suppress(Busy, OSError), files.locked(self.path):
            found = files.stamp(self.path)
            if found is None or not self._is_full(found[1], lines):
                return
            for number in sorted(rotations(self.path), reverse=True):
                if number >= self.backups:
                    numbered(self.path, number).unlink()
                else:
                    numbered(self.path, number).replace(numbered(self.path, number + 1))
            if self.backups:
                self.path.replace(numbered(self.path, 1))
            else:
                self.path.unlink()


class JournalWriter:
    """Writes records from a thread of its own, so that nobody waits for the disk."""

    def __init__(self, journal: Journal, on_error: Callable[[OSError], None] | None = None) -> None:
        self._journal = journal
        self._on_error = on_error
        self._noticed: float | None = None
        self._encoder = msgspec.json.Encoder(enc_hook=str)
        self._lost = 0
        self._backlog: Backlog[object] = Backlog(self._write_all, "journal")
        self.put = self._backlog.put
        """Have a record written; it belongs to the writer from now on."""

    @property
    def dropped(self) -> int:
        """Records that were lost to a slow or full disk, or that no JSON can hold."""
        return self._lost + self._backlog.dropped

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything put before is written; False if that took too long."""
        return self._backlog.flush(timeout)

    def reconfigure(self, max_bytes: int, backups: int) -> None:
        """Rotate by other rules from now on."""
        self._journal.max_bytes = max_bytes
        self._journal.backups = backups

    def close(self, timeout: float = 5.0) -> None:
        """Write what is waiting, and end."""
        if self._backlog.close(timeout):
            self._journal.close()

    def _write_all(self, records: list[object]) -> None:
        for lines in self._chunks(records):
            self._write(lines)

    def _chunks(self, records: Iterable[object]) -> Iterator[bytes]:
        """The records as lines, as many at once as a file may take."""
        most = min(BATCH_BYTES, self._journal.max_bytes)
        chunk = bytearray()
        for record in records:
            try:
                line = self._encoder.encode(record) + b"\n"
            except (TypeError, ValueError, RecursionError):
                self._lost += 1
                continue
            if chunk and len(chunk) + len(line) > most:
                yield bytes(chunk)
                chunk.clear()
            chunk += line
        if chunk:
            yield bytes(chunk)

    def _write(self, lines: bytes) -> None:
        try:
            self._journal.write(lines)
        except OSError as error:
            self._lost += lines.count(b"\n")
            now = time.monotonic()
            due = self._noticed is None or now - self._noticed >= SECONDS_BETWEEN_NOTICES
            if due and self._on_error is not None:
                self._noticed = now
                self._on_error(error)
