"""The breaker state in a JSON file, which the server and any number of commands share.

An update reads the file under its lock, changes only what it is about, and keeps unknown keys, so
a `breaker reset` and a failure at the same moment never erase each other.
"""

import errno
import glob
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from ccfallback import files
from ccfallback.errors import StateError
from ccfallback.files import Busy
from ccfallback.state.document import apply_update, parse_states
from ccfallback.state.sections import Entry, read_sections
from ccfallback.state.store import PATIENCE, LocalSlots, ProbeSlots, Snapshot, States, Update


class StateFile:
    """The state in one JSON file; a `StateStore`.

    An update waits up to `patience` seconds for the lock that another process holds. If the state
    is `synced_later`, an update leaves the disk to `sync`, which is called within a second: when
    the machine crashes before, the state is that of the last `sync`.
    """

    def __init__(self, path: Path, *, patience: float = 10.0, synced_later: bool = False) -> None:
        self.path = path
        self._synced_later = synced_later
        self.is_unsynced = False
        self._last: tuple[object, dict[str, Any], States] = (None, {}, {})
        """The version of the file that was written last, its content, and the states in that."""
        self._parsed: tuple[dict[str, Any], States] = ({}, {})
        """What was read or written last, and the states in it."""
        self.slots: ProbeSlots = LocalSlots()
        self.places = None
        self.name = "the disk"
        self.patience = PATIENCE
        self.problem = ""
        self._watched = files.WatchedFile(path)
        self._lock_seconds = patience

    def is_current(self, snapshot: Snapshot) -> bool:
        """Whether the file is still the one that was read; see `WatchedFile.is_still`."""
        return self._watched.is_still(snapshot.version)

    def read_document(self) -> dict[str, Any]:
        """All that the file says; nothing if it can't be read."""
        try:
            return self._document()
        except (_CorruptError, OSError):
            return {}

    def replace(self, document: Mapping[str, Any]) -> None:
        """Put a whole document into the file. Raises `Busy` or `OSError`."""
        with files.locked(self.path, self._lock_seconds):
            data = msgspec.json.encode(document) + b"\n"
            files.replace_atomically(self.path, data, durable=False)

    def known_snapshot(self) -> None:
        """Only a look at the file tells what it holds."""

    def load(self, held: Snapshot | None = None) -> Snapshot:
        """What the file holds, or `held` itself if the file is still the same.

        Content that cannot be read is set aside and counts as empty, as does a missing file. While
        the disk fails, this is what was held, with a `problem` and no version.
        """
        # Before reading: a write by another process during the read makes a newer version.
        version = self._watched.look()
        if held is not None and held.version == version:
            return held
        try:
            document, states = self._read()
            return Snapshot(states, read_sections(document), version)
        except (files.NotRegularFile, files.ForeignFile) as error:
            return Snapshot(version=version, problem=str(error.strerror))
        except (_CorruptError, OSError) as error:
            if _stays_unreadable(error):
                aside = self._move_corrupt()
                forbidden = aside is None and isinstance(error, PermissionError)
                problem = os.strerror(errno.EACCES) if forbidden else None
                return Snapshot(version=version, set_aside=aside, problem=problem)
            problem = str(getattr(error, "strerror", None) or error)
            return replace(held or Snapshot(), version=None, set_aside=None, problem=problem)

    def peek(self) -> Snapshot:
        """What the file holds, and why it can't be read; it stays where it is."""
        version = self._watched.look()
        try:
            document, states = self._read()
            return Snapshot(states, read_sections(document), version)
        except _CorruptError:
            return Snapshot(version=version, problem="it is not a JSON object")
        except OSError as error:
            return Snapshot(version=version, problem=f"it can't be read: {error.strerror or error}")

    def update(self, change: Update, entries: Iterable[Entry] = (), batch: int = 0) -> Snapshot:
        """Change what the file holds now; raises `StateError` if it is locked or can't be written.

        Content that cannot be read is set aside first.
        """
        with files.locked_to_write(self.path, StateError, self._lock_seconds):
            return self._update(change, entries)

    def sync(self) -> None:
        """Bring the last update to the disk. Raises `Busy` or `OSError`."""
        with files.locked(self.path, self._lock_seconds):
            files.sync(self.path)
        self.is_unsynced = False

    def keep(self, states: States, entries: Iterable[Entry]) -> None:
        """Commands read the file itself."""

    def close(self) -> None:
        """Nothing is open between two calls."""

    def _update(self, change: Update, entries: Iterable[Entry]) -> Snapshot:
        set_aside = None
        # As for a load: scripts write without the lock.
        version = self._watched.look()
        last, document, before = self._last
        if version is None or version != last:
            try:
                document, before = self._read()
            except (_CorruptError, OSError) as error:
                if not _stays_unreadable(error):
                    raise
                set_aside = _move_aside(self.path)
                document, before = {}, {}
        applied = apply_update(document, before, change, entries)
        if applied is None:
            return Snapshot(before, read_sections(document), version, set_aside)
        document, after = applied
        data = msgspec.json.encode(document) + b"\n"
        # A response waits for this write.
        later = self._synced_later and files.keep_synced(self.path)
        version = files.replace_atomically(self.path, data, durable=False, synced=not later)
        self.is_unsynced = self.is_unsynced or later
        self._last = version, document, after
        self._parsed = document, after
        return Snapshot(after, read_sections(document), version, set_aside)

    def _read(self) -> tuple[dict[str, Any], States]:
        """What the file holds, and the states in it."""
        document = self._document()
        self._parsed = document, parse_states(document, *self._parsed)
        return self._parsed

    def _document(self) -> dict[str, Any]:
        try:
            data = files.read_regular(self.path)
        except FileNotFoundError:
            return {}
        try:
            document = _decode(data)
        except _CorruptError:
            with suppress(OSError):
                return _decode(files.read_kept(self.path))
            if not _may_be_state(self.path, data):
                raise files.ForeignFile(self.path, "a state file") from None
            raise
        # Under our own name any document is the state.
        is_ours = self.path.name == "state.json" or "version" in document or "providers" in document
        if document and not is_ours:
            raise files.ForeignFile(self.path, "a state file")
        return document

    def _move_corrupt(self) -> str | None:
        """Set a corrupt file aside, unless another process has already replaced it."""
        try:
            with files.locked(self.path, self._lock_seconds):
                try:
                    self._document()
                except (_CorruptError, OSError) as error:
                    if _stays_unreadable(error):
                        return _move_aside(self.path)
        except (OSError, Busy):
            # The folder is read-only: the file stays and still counts as empty.
            return None
        return None


def set_aside_files(path: Path) -> list[Path]:
    """Earlier state files that could not be read, which were moved aside."""
    target = files.real(path)
    # Unlike `Path.glob`, this finds nothing in a folder that this user may not see.
    found = glob.glob(f"{glob.escape(str(target))}.corrupt-*")  # noqa: PTH207  (see above)
    return sorted(map(Path, found))


class _CorruptError(Exception):
    """The file is not a JSON object."""


def _decode(data: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        raise _CorruptError from None
    if not isinstance(document, dict):
        raise _CorruptError
    return document


def _may_be_state(path: Path, data: bytes) -> bool:
    """Whether a file that is not JSON can be a damaged state rather than another program's file."""
    return path.suffix == ".json" or (
        not path.suffix and data.strip(b"\0 \t\r\n")[:1] in (b"", b"{")
    )


def _stays_unreadable(error: Exception) -> bool:
    """Whether the content can't be read later either.

    Windows calls it a lack of permission while another process has the file open.
    """
    if isinstance(error, PermissionError):
        return getattr(error, "winerror", None) is None
    return isinstance(error, _CorruptError)


def _move_aside(path: Path) -> str:
    files.require_regular(path)
    when = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    target = files.real(path)
    aside = target.with_name(f"{target.name}.corrupt-{when}")
    os.replace(target, aside)  # noqa: PTH105  (as in files.py)
    return str(aside)
