"""Reads the log: forwards, backwards from its end, as it grows, and by request.

A file is known by its inode and not by its name, because rotation moves it while it is read. Only
whole lines count: the rest of a line may still be written.
"""

import os
import re
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

import msgspec

from ccfallback import files
from ccfallback.events.records import Event, Record, RequestEnd, RequestStart, decode

LONGEST_LINE: Final = 4 * 1024 * 1024
"""Longer lines are not log lines; they are skipped, so that memory stays bounded."""

BLOCK: Final = 64 * 1024


class Mark(NamedTuple):
    """A place in the log between two lines."""

    inode: int
    offset: int


class _Piece(NamedTuple):
    """One file of the log, where it was when we looked."""

    inode: int
    number: int
    """0 is the current file."""
    modified: int


def numbered(path: Path, number: int) -> Path:
    """The name of a file after so many rotations."""
    if not number:
        return path
    target = files.real(path)
    return target.with_name(f"{target.name}.{number}")


def rotations(path: Path) -> list[int]:
    """The numbers of the rotated files, in no order."""
    path = files.real(path)
    form = re.compile(re.escape(path.name) + r"\.([1-9]\d{0,5})")
    try:
        names = os.listdir(path.parent)  # noqa: PTH208  (names are all we need)
    except OSError:
        return []
    return [int(match[1]) for name in names if (match := form.fullmatch(name))]


def all_lines(path: Path, since: float = 0.0) -> Iterator[bytes]:
    """Every line of the log, raw, oldest first, without files last written before `since`."""
    for piece in reversed(_pieces(path)):
        if piece.modified < since * 1e9 or (file := _open(path, piece)) is None:
            continue
        with file:
            yield from _lines(file)


def backwards(
    path: Path, until: Mark | None = None, *, matching: re.Pattern[bytes] | None = None
) -> Iterator[tuple[Record[Event], bytes]]:
    """Every record with its raw line, newest first; from the place `until` on, if given.

    With `matching`, lines that do not match are not decoded, which is many times as fast.
    """
    pieces = _pieces(path)
    if until is not None and any(piece.inode == until.inode for piece in pieces):
        while pieces[0].inode != until.inode:
            del pieces[0]
    for piece in pieces:
        file = _open(path, piece)
        if file is None:
            continue
        with file:
            end = file.seek(0, os.SEEK_END)
            if until is not None and piece.inode == until.inode:
                end = min(end, until.offset)
            for line in _lines_backwards(file, end):
                if matching is not None and matching.search(line) is None:
                    continue
                record = decode(line)
                if record is not None:
                    yield record, line


def tail(
    path: Path,
    count: int,
    keep: Callable[[Record[Event]], bool] = lambda record: True,
    until: Mark | None = None,
) -> list[tuple[Record[Event], bytes]]:
    """The last `count` records that `keep` accepts, with their raw lines, oldest first."""
    wanted = ((record, line) for record, line in backwards(path, until) if keep(record))
    return list(islice(wanted, min(max(0, count), sys.maxsize)))[::-1]


def mark(path: Path) -> Mark | None:
    """The end of the log as it is now: `tail` up to it and `follow` from it meet exactly."""
    for piece in _pieces(path):
        file = _open(path, piece)
        if file is not None:
            with file:
                return Mark(piece.inode, _end_of_lines(file))
    return None


class Follower:
    """Follows the log from a place, or from its end: each look has the lines that were added."""

    def __init__(self, path: Path, start: Mark | None = None) -> None:
        self._path = path
        start = start or mark(path)
        self._file = None if start is None else _open_at(path, start)

    def look(self) -> Iterator[bytes]:
        """The lines that were added since the last look, raw."""
        while True:
            # Looked for before the last read: once there is a newer file, ours grows no more.
            newer = _newer(self._path, self._file)
            if self._file is not None:
                yield from _read_added(self._file)
            if newer is None:
                return
            self.close()
            self._file = newer

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def follow(
    path: Path, stop: threading.Event | None = None, poll: float = 0.2, start: Mark | None = None
) -> Iterator[bytes]:
    """Every line that is added from now on (or from `start` on), raw, until `stop` is set."""
    return _follow(Follower(path, start), stop or threading.Event(), poll)


def _follow(log: Follower, stop: threading.Event, poll: float) -> Iterator[bytes]:
    with closing(log):
        while not stop.is_set():
            yield from log.look()
            stop.wait(poll)


def _open_at(path: Path, place: Mark) -> BinaryIO | None:
    for piece in _pieces(path):
        if piece.inode == place.inode and (file := _open(path, piece)) is not None:
            # A new file may have the inode of a removed one; none of it has been read.
            file.seek(max(0, place.offset - 1))
            if file.read(1) != b"\n":
                file.seek(0)
            return file
    return None


def _read_added(file: BinaryIO) -> Iterator[bytes]:
    """The whole lines from here on; leaves the file at the start of an unfinished one."""
    if os.fstat(file.fileno()).st_size < file.tell():
        file.seek(0)
    place = file.tell()
    while part := file.readline(LONGEST_LINE):
        if not part.endswith(b"\n") and len(part) < LONGEST_LINE:
            break
        place += len(part)
        yield part
    file.seek(place)


def _newer(path: Path, file: BinaryIO | None) -> BinaryIO | None:
    """The file that follows the one we read; `None` if there is none yet."""
    if file is None:
        pieces = _pieces(path)
    else:
        ours = os.fstat(file.fileno())
        try:
            if path.stat().st_ino == ours.st_ino:
                return None
        except OSError:
            pass
        pieces = _pieces(path)
        known = [place for place, piece in enumerate(pieces) if piece.inode == ours.st_ino]
        if known:
            pieces = pieces[: known[0]]
        else:
            # Ours is gone: it was the oldest, or a person removed it.
            pieces = [piece for piece in pieces if piece.modified >= ours.st_mtime_ns]
    return _open(path, pieces[-1]) if pieces else None


def _pieces(path: Path) -> list[_Piece]:
    """The files of the log, newest first.

    Rotation only moves a file to a higher number, so looking upwards misses none, as long as it
    goes on with the numbers that have come meanwhile. A file that moves is seen more than once and
    recognised by its inode.
    """
    found: dict[int, _Piece] = {}
    beyond = 0
    while True:
        listed = [0, *rotations(path)]
        numbers = {number for low in listed for number in (low, low + 1) if number >= beyond}
        for number in sorted(numbers):
            try:
                info = numbered(path, number).stat()
            except OSError:
                continue
            # A pipe or a device would block, or never end.
            if stat.S_ISREG(info.st_mode):
                # Its last place counts: newer files may have been seen since its first.
                found.pop(info.st_ino, None)
                found[info.st_ino] = _Piece(info.st_ino, number, info.st_mtime_ns)
        if max(listed) < beyond or not numbers:
            break
        beyond = max(numbers) + 1
    return list(found.values())


def _open(path: Path, piece: _Piece) -> BinaryIO | None:
    """The file, wherever rotation has moved it; `None` if it is gone."""
    # It has almost never moved, and listing the folder for each file would take squared time.
    if (file := _open_at_number(path, piece.number, piece.inode)) is not None:
        return file
    highest = max([piece.number, *rotations(path)]) + 1
    for number in range(piece.number + 1, highest + 1):
        if (file := _open_at_number(path, number, piece.inode)) is not None:
            return file
    return None


def _open_at_number(path: Path, number: int, inode: int) -> BinaryIO | None:
    try:
        file = numbered(path, number).open("rb")
    except OSError:
        return None
    if os.fstat(file.fileno()).st_ino == inode:
        return file
    file.close()
    return None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The whole lines of a file, from its position on."""
    skipping = False
    while part := file.readline(LONGEST_LINE):
        whole = part.endswith(b"\n")
        if whole and not skipping:
            yield part
        skipping = not whole


def _lines_backwards(file: BinaryIO, end: int) -> Iterator[bytes]:
    """The whole lines before `end`, the last one first."""
    rest, place = b"", end
    unfinished = True
    while place:
        size = min(BLOCK, place)
        place -= size
        file.seek(place)
        first, *lines = (file.read(size) + rest).split(b"\n")
        for line in reversed(lines):
            # What follows the last line end is not a line yet.
            if not unfinished:
                yield line + b"\n"
            unfinished = False
        rest = first[:LONGEST_LINE]
    if rest and not unfinished:
        yield rest + b"\n"


def _end_of_lines(file: BinaryIO) -> int:
    """Where the last whole line ends."""
    place = file.seek(0, os.SEEK_END)
    while place:
        size = min(BLOCK, place)
        place -= size
        file.seek(place)
        found = file.read(size).rfind(b"\n")
        if found >= 0:
            return place + found + 1
    return 0


# -- Requests, from the end of the log: lines that can't belong to one are not decoded

_SEVERAL_ATTEMPTS: Final = re.compile(rb'"attempts?":(?!0|1[,}])\d')
_FAILURE: Final = re.compile(rb'"event":"provider\.(?:failure|timeout)"')
_ANY_REQUEST: Final = re.compile(rb'"event":"(?:request|provider|auth)\.')
_END: Final = re.compile(rb'"event":"request\.(?:complete|error)"')
_START_OR_END: Final = re.compile(rb'"event":"request\.(?:start|complete|error)"')

LONGEST_REQUEST: Final = 3600.0
"""Seconds before the end of a request in which its start is looked for."""


class Found(NamedTuple):
    """A request that an id, or a part of one, means."""

    id: str
    others: int = 0
    """How many more requests it fits."""


def find_request(path: Path, part: str) -> Found | None:
    """The request with that id, or the latest whose id begins or ends like that."""
    ids: dict[str, None] = {}
    for record, _ in backwards(path, matching=_containing(part)):
        if part and record.request_id is not None and record.matches(part):
            ids[record.request_id] = None
            if part in ids:
                return Found(part)
    return Found(next(iter(ids)), len(ids) - 1) if ids else None


def latest_request(path: Path) -> str | None:
    """The latest request."""
    return _latest(path, _ANY_REQUEST)


def latest_with_trouble(path: Path) -> str | None:
    """The latest request that needed more than one attempt, else the latest with a failure."""
    return _latest(path, _SEVERAL_ATTEMPTS) or _latest(path, _FAILURE)


def latest_ends(path: Path) -> Iterator[Record[RequestEnd]]:
    """The ends of requests, the newest first; not those of side endpoints."""
    for record, _ in backwards(path, matching=_END):
        if isinstance(record.data, RequestEnd) and not record.is_side:
            yield cast("Record[RequestEnd]", record)


class Ended(msgspec.Struct):
    """A request that ended, and what its start says of it, unless the log has lost that."""

    end: Record[RequestEnd]
    start: RequestStart | None = None


def ended_requests(path: Path) -> Iterator[Ended]:
    """The requests that ended, the newest first; not those of side endpoints."""
    waiting: deque[Ended] = deque()
    sought: dict[str | None, Ended] = {}
    for record, _ in backwards(path, matching=_START_OR_END):
        if record.is_side:
            continue
        if isinstance(record.data, RequestEnd):
            found = Ended(cast("Record[RequestEnd]", record))
            # A client may give several requests the same id: an older start is not the newer's.
            sought[record.request_id] = found
            waiting.append(found)
        elif own := sought.pop(record.request_id, None):
            assert isinstance(record.data, RequestStart)
            own.start = record.data
        while waiting and not _may_start_before(waiting[0], record, sought):
            first = waiting.popleft()
            if sought.get(first.end.request_id) is first:
                del sought[first.end.request_id]
            yield first
    yield from waiting


def _may_start_before(it: Ended, record: Record[Event], sought: Mapping[str | None, Ended]) -> bool:
    """Whether the start of a request may be further back in the log than this record."""
    if sought.get(it.end.request_id) is not it:
        return False
    ended, now = it.end.written, record.written
    return ended is None or now is None or now > ended - LONGEST_REQUEST


def request_records(path: Path, request: str) -> list[Record[Event]]:
    """All that the log says of the latest request with that id, oldest first."""
    found: list[Record[Event]] = []
    ended = False
    for record, _ in backwards(path, matching=_containing(request)):
        if record.request_id != request:
            continue
        is_end = isinstance(record.data, RequestEnd)
        if ended and is_end:
            break  # A client may give several requests the same id.
        ended = ended or is_end
        found.append(record)
        if isinstance(record.data, RequestStart):
            break
    return found[::-1]


def _latest(path: Path, matching: re.Pattern[bytes]) -> str | None:
    for record, _ in backwards(path, matching=matching):
        if record.request_id is not None and not record.is_side:
            return record.request_id
    return None


def _containing(text: str) -> re.Pattern[bytes]:
    return re.compile(re.escape(text.encode()))
