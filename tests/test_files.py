import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ccfallback import files

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes and signals are POSIX")

BLOCKED_BEFORE_RENAME = """
import os, sys, time
from pathlib import Path
from ccfallback import files

def blocked(*arguments):
    print("ready", flush=True)
    time.sleep(60)

os.replace = blocked
path = Path(sys.argv[1])
with files.locked(path):
    files.replace_atomically(path, b"new")
"""


def leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.endswith(".tmp")]


def test_a_file_is_replaced_atomically(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "data"
    files.replace_atomically(path, b"one")
    before = files.stamp(path)
    files.replace_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert files.stamp(path) != before
    assert leftovers(path.parent) == []


@posix
def test_files_and_new_folders_are_private_to_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "data"
    umask = os.umask(0)
    try:
        with files.locked(path):
            files.replace_atomically(path, b"x")
    finally:
        os.umask(umask)
    assert files.is_private(path)
    assert files.is_private(path.with_name(".data.lock"))
    assert files.is_private(path.parent)
    assert files.is_private(path.parent.parent)


@posix
def test_a_file_is_private_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    real_replace = os.replace

    def replace(source: str, target: Path) -> None:
        modes.append(Path(source).stat().st_mode & 0o777)
        real_replace(source, target)

    monkeypatch.setattr(os, "replace", replace)
    umask = os.umask(0)
    try:
        files.replace_atomically(tmp_path / "data", b"x")
    finally:
        os.umask(umask)
    assert modes == [0o600]


@posix
def test_the_target_of_a_symlink_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "dotfiles" / "real", tmp_path / "link"
    files.replace_atomically(target, b"one")
    link.symlink_to(target)
    with files.locked(link):
        files.replace_atomically(link, b"two")
    assert link.is_symlink()
    assert target.read_bytes() == b"two"


@posix
def test_through_a_link_to_its_folder_a_file_is_the_same(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    files.replace_atomically(folder / "data", b"one")
    with (
        files.locked(link / "data"),
        pytest.raises(files.Busy),
        files.locked(folder / "data", timeout=0.01),
    ):
        pass
    files.replace_atomically(link / "data", b"two")
    assert (folder / "data").read_bytes() == b"two"
    assert leftovers(folder) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    files.replace_atomically(path, b"old")

    def refuse(*arguments: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        files.replace_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


@posix
def test_a_process_killed_before_the_rename_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "data"
    files.replace_atomically(path, b"old")
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED_BEFORE_RENAME, str(path)], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"old"
    assert len(leftovers(tmp_path)) == 1
    with files.locked(path, timeout=2):
        files.replace_atomically(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert leftovers(tmp_path) == []


def test_a_lock_held_too_long_is_an_error_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "data"
    caught: list[files.Busy] = []

    def other() -> None:
        try:
            with files.locked(path, timeout=0.01):
                pass
        except files.Busy as error:
            caught.append(error)

    with files.locked(path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(caught) == 1
    assert caught[0].hint
    other()
    assert len(caught) == 1


def test_a_missing_file_has_no_stamp(tmp_path: Path) -> None:
    assert files.stamp(tmp_path / "none") is None


MOUNTS = r"""
22 1 0:21 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:22 / {folder}/net rw,relatime shared:1 - nfs4 server:/export rw
31 22 0:22 / {folder}/net rw,relatime - nfs4 server:/export rw
32 30 0:23 / {folder}/net/scratch\040disk rw - xfs /dev/sdb1 rw
33 22 0:24 / {folder}/fuse rw - fuse.sshfs other: rw
short line
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("state.json", True),
        ("net/state.json", False),
        ("network/state.json", True),
        ("net/scratch disk/state.json", True),
        ("fuse/deep/state.json", False),
    ],
)
def test_a_local_file_system_is_distinguished_from_a_network_file_system(
    tmp_path: Path, name: str, expected: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(folder=os.path.realpath(tmp_path)))
    assert files.is_local(tmp_path / name, mounts) is expected


def test_a_file_system_that_the_system_does_not_describe_is_not_local(tmp_path: Path) -> None:
    assert not files.is_local(tmp_path, tmp_path / "missing")


def test_a_watched_file_on_a_network_file_system_is_looked_at_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"one")
    monkeypatch.setattr(files, "is_local", lambda _path: False)
    watched = files.WatchedFile(path)
    assert not watched.is_still(None)
    version = watched.look()
    assert version == files.stamp(path)
    # A `stat` could hang here, so there must be none.
    monkeypatch.setattr(files, "stamp", None)
    assert not watched.is_still(version)


def lock(path: Path) -> None:
    with files.locked(path):
        pass


def special(path: Path, kind: str) -> None:
    """Put something at the path that is not a regular file; never the machine's own device."""
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path)
        case "link to a pipe":
            os.mkfifo(path.with_name("pipe"))
            path.symlink_to(path.with_name("pipe"))
        case "link to a device":
            device = path.with_name("null")
            try:
                os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
            except PermissionError:
                pytest.skip("only root can create a device")
            path.symlink_to(device)


KINDS = ("folder", "pipe", "loop", "link to a pipe", "link to a device")


@posix
@pytest.mark.parametrize("kind", KINDS)
def test_only_a_regular_file_is_read_locked_or_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data"
    special(path, kind)
    before = path.lstat()
    for access in (
        files.read_regular,
        files.require_regular,
        lambda path: files.replace_atomically(path, b"new"),
        lock,
    ):
        with pytest.raises(OSError, match=r"not a regular file|symbolic links"):
            access(path)
    assert path.lstat().st_ino == before.st_ino
    assert leftovers(tmp_path) == []
    assert not path.with_name(".data.lock").exists()


@posix
def test_a_link_to_nothing_is_written_through(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "later")
    with pytest.raises(FileNotFoundError):
        files.read_regular(link)
    with files.locked(link):
        files.replace_atomically(link, b"x")
    assert link.is_symlink()
    assert files.read_regular(link) == b"x"


@posix
def test_a_lock_file_that_is_a_link_is_not_emptied(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    (tmp_path / ".data.lock").symlink_to(precious)
    with pytest.raises(files.NotRegularFile), files.locked(tmp_path / "data"):
        pass
    assert precious.read_text() == "x"


@posix
def test_only_files_are_removed_as_leftovers(tmp_path: Path) -> None:
    pipe = tmp_path / ".data.0.tmp"
    os.mkfifo(pipe)
    files.replace_atomically(tmp_path / "data", b"x")
    assert pipe.exists()
