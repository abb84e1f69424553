"""File locks, atomic replacement, and a cheap look at whether a file has changed.

A file is replaced under its lock. No process holds two locks at once, so there are no deadlocks.
"""

import errno
import os
import re
import stat as modes
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, NamedTuple

from ccfallback.errors import CcfallbackError

Stamp = tuple[int, int, int]
"""What tells one version of a file from the next: mtime in ns, size, inode."""

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700

# Without it, Windows turns every \n into \r\n.
BINARY: Final = getattr(os, "O_BINARY", 0)

# A pipe or a terminal that has no other end must not block `open`, nor become our terminal.
NONBLOCKING: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)

_KINDS: Final = (
    (modes.S_ISDIR, "a folder"),
    (modes.S_ISFIFO, "a named pipe"),
    (modes.S_ISLNK, "a symbolic link"),
    (modes.S_ISSOCK, "a socket"),
)

LOCAL_FILE_SYSTEMS: Final = frozenset(
    {"bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "ntfs3"}
    | {"overlay", "ramfs", "reiserfs", "tmpfs", "vfat", "xfs", "zfs"}
)
"""File systems of Linux that answer without another machine or a user process."""

LOCK_POLL: Final = 0.005
"""Seconds between two looks at a lock that another process holds."""

_MOUNT_ESCAPE: Final = re.compile(r"\\(\d{3})")

_local_locks: dict[Path, threading.Lock] = {}


class _Companions(NamedTuple):
    """The paths of what lies beside a file, and belongs to it."""

    folder: Path
    lock: Path
    kept: Path
    """What `keep_synced` keeps."""
    temporary: str
    """The beginning of the names of temporary files."""


@lru_cache(maxsize=64)
def _beside(target: Path) -> _Companions:
    """Kept, because a failover waits for the state to be written, and paths are slow to make."""
    return _Companions(
        target.parent,
        target.with_name(f".{target.name}.lock"),
        target.with_name(f".{target.name}.synced"),
        str(target.with_name(f".{target.name}.")),
    )


class Busy(CcfallbackError):
    """Another process holds the lock of a file for too long."""


class NotRegularFile(OSError):
    """The path leads to a folder, a pipe or a device, which is neither read nor replaced."""

    def __init__(self, path: Path, mode: int) -> None:
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")
        super().__init__(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


class ForeignFile(OSError):
    """The file holds something else than what is kept under that path: it is left alone."""

    def __init__(self, path: Path, expected: str) -> None:
        super().__init__(errno.EINVAL, f"it is not {expected}, and is left alone", str(path))


def read_regular(path: Path) -> bytes:
    """The content of a regular file.

    Raises `NotRegularFile` for anything else: to open a pipe may block for ever, and a device may
    have no end.
    """
    mode = path.stat().st_mode
    # Not opened at all, because opening some devices does something.
    if modes.S_ISREG(mode):
        descriptor = os.open(path, os.O_RDONLY | BINARY | NONBLOCKING)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if modes.S_ISREG(mode):
                return file.read()
    raise NotRegularFile(path, mode)


def require_regular(path: Path) -> None:
    """Raise `NotRegularFile` if `path` leads to anything but a regular file or nothing.

    Call this before a file is locked, replaced, or moved.
    """
    _require_regular(path, real(path))


def _require_regular(path: Path, target: Path) -> None:
    # The second look finds a link that leads to itself, which `stat` cannot follow.
    for follow, place in ((True, path), (False, target)):
        try:
            mode = os.stat(place, follow_symlinks=follow).st_mode  # noqa: PTH116  (as in `stamp`)
        except OSError:
            continue
        if not modes.S_ISREG(mode):
            raise NotRegularFile(path, mode)


@contextmanager
def locked(path: Path, timeout: float = 10.0) -> Iterator[None]:
    """Keep every other process and thread out of `path` while the block runs.

    The lock is a separate file next to the data: a lock on the data would be lost when the data is
    replaced.
    """
    target = _target(path)
    _require_regular(path, target)
    beside = _beside(target)
    make_folder(beside.folder)
    # Threads queue here, because the lock of the file only polls.
    local = _local_locks.setdefault(target, threading.Lock())
    began = time.monotonic()
    if not local.acquire(timeout=timeout):
        raise _busy(path, beside.lock, timeout)
    try:
        release = _lock(beside.lock, max(0.0, timeout - (time.monotonic() - began)))
        if release is None:
            raise _busy(path, beside.lock, timeout)
        try:
            yield
        finally:
            release()
    finally:
        local.release()


@contextmanager
def locked_to_write(
    path: Path, failure: Callable[[str, str], CcfallbackError], timeout: float = 10.0
) -> Iterator[None]:
    """As `locked`, for a block that writes the file; where it can't, `failure` makes the error.

    It is called with the message and the hint.
    """
    try:
        with locked(path, timeout):
            yield
    except Busy as error:
        raise failure(error.message, error.hint) from error
    except OSError as error:
        raise failure(
            f"{path} can't be written: {error.strerror or error}",
            "check the permissions of the file and its folder, and the free space on the disk",
        ) from error


def _busy(path: Path, lock_path: Path, timeout: float) -> Busy:
    return Busy(
        f"another process has kept {path} locked for {timeout:g} s",
        f"try again; if it persists, find the process that uses {lock_path}",
    )


if sys.platform == "win32":

    def _lock(lock_path: Path, seconds: float) -> Callable[[], object] | None:
        """Lock a file of our own; `None` if another process keeps it locked."""
        from filelock import FileLock, Timeout

        _require_own(lock_path)
        lock = FileLock(lock_path, mode=PRIVATE_FILE)
        try:
            lock.acquire(timeout=seconds, poll_interval=LOCK_POLL)
        except Timeout:
            return None
        return lock.release

else:
    import fcntl

    def _lock(lock_path: Path, seconds: float) -> Callable[[], object] | None:
        """Lock a file of our own; `None` if another process keeps it locked.

        What filelock does, in a tenth of its time: a failover waits for this.
        """
        due = time.monotonic() + seconds
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | NONBLOCKING
            descriptor = os.open(lock_path, flags, PRIVATE_FILE)
        except OSError:
            _require_own(lock_path)
            raise
        try:
            mode = os.fstat(descriptor).st_mode
            if not modes.S_ISREG(mode):
                raise NotRegularFile(lock_path, mode)
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() >= due:
                        os.close(descriptor)
                        return None
                    time.sleep(LOCK_POLL)
                else:
                    # To close it is to unlock it.
                    return partial(os.close, descriptor)
        except BaseException:
            os.close(descriptor)
            raise


def _require_own(lock_path: Path) -> None:
    """Raise `NotRegularFile` for a lock file that is a link, or no file."""
    if lock_path.is_symlink():
        # A lock file is emptied when it is opened.
        raise NotRegularFile(lock_path, lock_path.lstat().st_mode)
    require_regular(lock_path)


def replace_atomically(
    path: Path, data: bytes, *, durable: bool = True, synced: bool = True
) -> Stamp:
    """Replace the file's content with `data`; a reader sees the old content or the new.

    Returns the version that was written, whatever another writer has put there since.

    With `durable`, the new content survives a power cut after the return. Without `synced`, a power
    cut may destroy it: call `keep_synced` before and `sync` after. Call this under the lock
    of `path`: temporary files of other writers are removed as leftovers. Raises `NotRegularFile`
    if something else than a file is there.
    """
    target = _target(path)
    _require_regular(path, target)
    beside = _beside(target)
    make_folder(beside.folder)
    _sweep(target)
    temporary = f"{beside.temporary}{os.urandom(6).hex()}.tmp"
    # Created private: with a later chmod, others could open the file in between.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY
    descriptor = os.open(temporary, flags, PRIVATE_FILE)
    try:
        try:
            if not synced and hasattr(os, "posix_fallocate"):
                # ext4 writes a file without blocks to the disk before it replaces another one.
                with suppress(OSError):
                    os.posix_fallocate(descriptor, 0, len(data))
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:])
            if synced:
                os.fsync(descriptor)
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, target)  # noqa: PTH105  (tests replace this name to fail here)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108  (a `Path` is only made for this)
        raise
    if durable and synced:
        _sync_folder(beside.folder)
    return found.st_mtime_ns, found.st_size, found.st_ino


def keep_synced(path: Path) -> bool:
    """Keep what the file has on the disk, under a second name, until the next `sync`.

    Call this under the lock of `path` before it is replaced without syncing. False if there is
    no file, or if its file system has no second names. What is kept stays as it is.
    """
    target = _target(path)
    try:
        os.link(target, _beside(target).kept)
    except FileExistsError:
        # The file is not on the disk yet, but this is.
        return True
    except OSError:
        return False
    return True


def sync(path: Path) -> None:
    """Bring a file that was replaced without syncing to the disk, under the lock of `path`."""
    target = _target(path)
    descriptor = os.open(target, os.O_RDWR | BINARY | NONBLOCKING)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside = _beside(target)
    _sync_folder(beside.folder)
    beside.kept.unlink(missing_ok=True)


def read_kept(path: Path) -> bytes:
    """What was kept of a file that the machine's last crash has destroyed.

    Raises `FileNotFoundError` if the machine has not crashed since a file was kept.
    """
    kept = _beside(_target(path)).kept
    # A link changes the ctime. The clock may have been set since, so this is a guess.
    if kept.stat().st_ctime >= _booted():
        raise FileNotFoundError(errno.ENOENT, "the machine has not crashed", str(kept))
    return read_regular(kept)


def _booted() -> float:
    """About when the machine was started, in Unix seconds."""
    if sys.platform == "linux":
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - time.monotonic()


def find_lock_out(path: Path) -> str:
    """Why this user may not read a file, or not even see it; empty if nothing forbids it."""
    try:
        path.stat()
    except PermissionError as error:
        return error.strerror or str(error)
    except OSError:
        return ""
    return "" if os.access(path, os.R_OK) else os.strerror(errno.EACCES)


def stamp(path: Path | str) -> Stamp | None:
    """What tells this version of the file from the next; None if there is no file."""
    try:
        # Runs at every request; `Path.stat` takes half as long again, as does a `Path` argument.
        found = os.stat(path)  # noqa: PTH116  (see above)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class WatchedFile:
    """Tells whether a file has changed, cheaply enough to be asked at every request.

    A `stat` of a local file takes 2 µs and cannot hang, so it is called where it is needed, on an
    event loop too: a thread would cost 20 times as much. On a network file system it may hang for
    as long as the other machine is away. There `is_still` says False without looking, and the
    caller looks in a thread.
    """

    __slots__ = ("_is_local", "_path")

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._is_local: bool | None = None

    def look(self) -> Stamp | None:
        """The version of the file now; may block."""
        if self._is_local is None:
            self._is_local = is_local(Path(self._path))
        return stamp(self._path)

    def is_still(self, version: object) -> bool:
        """Whether the file is surely this version; never blocks. Call `look` once before."""
        return self._is_local is True and stamp(self._path) == version


def is_local(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether the file lies on a local file system; False where the system does not say."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return False
    target = os.path.realpath(path)
    best, kind = -1, ""
    for line in lines:
        # "36 35 98:0 /root /mount/point rw - ext4 /dev/sda1 rw"; see proc(5).
        mount, _, file_system = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5:
            continue
        point = _MOUNT_ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[4])
        # A later mount at the same point hides the earlier one.
        if f"{target}/".startswith(point.rstrip("/") + "/") and len(point) >= best:
            best, kind = len(point), file_system.partition(" ")[0]
    return kind in LOCAL_FILE_SYSTEMS


def is_private(path: Path) -> bool:
    """Whether only the owner may open the file; True on Windows, where modes mean nothing."""
    if sys.platform == "win32":
        return True
    return not modes.S_IMODE(path.stat().st_mode) & 0o077


def find_exposed(paths: Iterable[Path]) -> list[Path]:
    """The files among these that other users may open too; missing ones are skipped."""
    found = []
    for path in paths:
        with suppress(OSError):
            if not is_private(path):
                found.append(path)
    return found


def real(path: Path) -> Path:
    """The file behind a path, the same for each way to write it: absolute, and without links."""
    return Path(os.path.realpath(path))


def _target(path: Path) -> Path:
    """The file behind a symlink: the one to lock and to replace.

    A plain path stays as it is. Links among its folders make no difference: the system follows them
    to the same folder, where the lock lies too.
    """
    # `Path.is_symlink` takes three times as long.
    return path if _is_plain(path) and not os.path.islink(path) else real(path)  # noqa: PTH114


@lru_cache(maxsize=64)
def _is_plain(path: Path) -> bool:
    return path.is_absolute() and path.name != "" and ".." not in path.parts


def make_folder(folder: Path) -> None:
    """Create the folder and its missing parents, private to the owner."""
    # Before each write; `Path.is_dir` takes twice as long.
    if os.path.isdir(folder):  # noqa: PTH112
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=PRIVATE_FOLDER)


def _sweep(target: Path) -> None:
    """Remove the temporary files of writers that were killed before they renamed them."""
    prefix, suffix = f".{target.name}.", ".tmp"
    for entry in os.scandir(_beside(target).folder):
        name = entry.name
        is_ours = name.startswith(prefix) and name.endswith(suffix)
        if is_ours and entry.is_file(follow_symlinks=False):
            with suppress(OSError):
                Path(entry.path).unlink()


def _sync_folder(folder: Path) -> None:
    """Make the rename survive a power cut, where the system can."""
    # Windows cannot open folders, and some network file systems refuse to sync them.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
