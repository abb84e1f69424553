"""Locks, and writes that are whole or did not happen.

One rule: a file here is replaced under its lock, and nobody holds two locks at once, so no
process can wait for another in a circle.
"""

import os
import stat as modes
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ccfallback.errors import CcfallbackError

Stamp = tuple[int, int, int]
"""What tells one version of a file from the next: mtime in ns, size, inode."""

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700

# Windows would turn every \n into \r\n without it.
BINARY: Final = getattr(os, "O_BINARY", 0)

_local_locks: dict[Path, threading.Lock] = {}


class Busy(CcfallbackError):
    """Another process holds the lock of a file for too long."""


@contextmanager
def locked(path: Path, timeout: float = 10.0) -> Iterator[None]:
    """Keep every other process and thread out of `path` for as long as the block runs.

    The lock is a file of its own beside the data, because a replaced file can't carry one.
    """
    from filelock import FileLock, Timeout

    target = real(path)
    make_folder(target.parent)
    lock_path = target.with_name(f".{target.name}.lock")
    # Threads queue up here; between processes filelock has to ask again and again.
    local = _local_locks.setdefault(target, threading.Lock())
    began = time.monotonic()
    busy = Busy(
        f"another process has kept {path} locked for {timeout:g} s",
        f"try again; if it goes on, see who uses {lock_path}",
    )
    if not local.acquire(timeout=timeout):
        raise busy
    try:
        lock = FileLock(lock_path, mode=PRIVATE_FILE)
        left = max(0.0, timeout - (time.monotonic() - began))
        try:
            lock.acquire(timeout=left, poll_interval=0.005)
        except Timeout:
            raise busy from None
        try:
            yield
        finally:
            lock.release()
    finally:
        local.release()


def replace_atomically(path: Path, data: bytes, *, settle: bool = True) -> None:
    """Put `data` in place of the file, so that a reader sees the old or the new one, whole.

    When it returns, the new one is there for every process; a power cut leaves either, unless
    the change is to `settle` first.
    To be called under the lock of `path`: temporary files found here are taken for leftovers.
    """
    target = real(path)
    make_folder(target.parent)
    _sweep(target)
    temporary = target.with_name(f".{target.name}.{os.urandom(6).hex()}.tmp")
    # Born private: a chmod afterwards would leave a moment in which others can open it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY
    descriptor = os.open(temporary, flags, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)  # noqa: PTH105  (a name that a test can stop at)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if settle:
        _sync_folder(target.parent)


def stamp(path: Path | str) -> Stamp | None:
    """What tells this version of the file from the next; None if there is no file."""
    try:
        # Asked at every request: `Path.stat` would cost half as much again, and so does a `Path`.
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def is_private(path: Path) -> bool:
    """Whether nobody but the owner may touch the file; its mode says nothing on Windows."""
    if sys.platform == "win32":
        return True
    return not modes.S_IMODE(path.stat().st_mode) & 0o077


def real(path: Path) -> Path:
    """The file behind a symlink, which is what is locked and replaced."""
    return Path(os.path.realpath(path))


def make_folder(folder: Path) -> None:
    """Make the folder and those above it that are missing, for the owner only."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=PRIVATE_FOLDER)


def _sweep(target: Path) -> None:
    """Take away what a process left that was killed between its write and its rename."""
    prefix, suffix = f".{target.name}.", ".tmp"
    for entry in os.scandir(target.parent):
        if entry.name.startswith(prefix) and entry.name.endswith(suffix):
            with suppress(OSError):
                Path(entry.path).unlink()


def _sync_folder(folder: Path) -> None:
    """Make the rename last through a power cut, where the system can."""
    # Windows opens no folders, and some network file systems refuse to sync them.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
