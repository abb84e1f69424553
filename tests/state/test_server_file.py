import socket
from pathlib import Path

import pytest

from ccfallback.state import server_file
from ccfallback.state.server_file import ServerInfo


def test_a_published_server_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "server.json"
    server_file.write(path, "http://127.0.0.1:8787", 42, "1.0", 1715432100.25)
    assert server_file.read(path) == ServerInfo("http://127.0.0.1:8787", 42, "1.0", 1715432100250)


def test_a_server_removes_only_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    server_file.write(path, "http://127.0.0.1:1", 42, "1.0", 1.0)
    server_file.remove(path, "http://127.0.0.1:1", 41)
    server_file.remove(path, "http://127.0.0.1:2", 42)
    assert server_file.read(path) is not None
    server_file.remove(path, "http://127.0.0.1:1", 42)
    assert server_file.read(path) is None
    server_file.remove(path, "http://127.0.0.1:1", 42)


def test_servers_that_run_stay_published(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    urls = [f"http://127.0.0.1:{each.getsockname()[1]}" for each in listeners]
    for pid, url in enumerate(urls):
        server_file.write(path, url, pid, "1.0", float(pid), (f"--port={pid}",))
    assert [each.pid for each in server_file.read_all(path)] == [2, 1, 0]
    # The one in the middle is killed, and the newest stops.
    listeners[1].close()
    assert [each.pid for each in server_file.read_all(path)] == [2, 1, 0]
    server_file.remove(path, urls[2], 2)
    assert server_file.read_all(path) == [ServerInfo(urls[0], 0, "1.0", 0, ("--port=0",))]
    # Another takes its address.
    server_file.write(path, urls[0], 7, "1.0", 7.0)
    server_file.remove(path, urls[0], 0)
    assert [each.pid for each in server_file.read_all(path)] == [7]
    for listener in listeners:
        listener.close()


def test_a_killed_server_is_forgotten_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    with socket.create_server(("127.0.0.1", 0)) as killed:
        url = f"http://127.0.0.1:{killed.getsockname()[1]}"
        server_file.write(path, url, 1, "1.0", 1.0)
    server_file.write(path, "http://127.0.0.1:1", 2, "1.0", 2.0)
    assert [each.pid for each in server_file.read_all(path)] == [2]


def test_files_of_killed_servers_are_removed(tmp_path: Path) -> None:
    stale, damaged, alive = (tmp_path / f"server-run-{n}.json" for n in (1, 2, 3))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        free = unused.getsockname()[1]
    damaged.write_bytes(b"{")
    server_file.write(stale, f"http://127.0.0.1:{free}", 1, "1.0", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server_file.write(alive, f"http://127.0.0.1:{listener.getsockname()[1]}", 3, "1.0", 1.0)
        server_file.remove_stale([stale, damaged, alive, tmp_path / "missing"])
    assert [path.exists() for path in (stale, damaged, alive)] == [False, False, True]


def test_all_files_share_one_lock(tmp_path: Path) -> None:
    for pid in range(3):
        path = tmp_path / f"server-run-{pid}.json"
        server_file.write(path, "http://127.0.0.1:1", pid, "1.0", 1.0)
        server_file.remove(path, "http://127.0.0.1:1", pid)
    assert [path.name for path in tmp_path.glob(".*")] in ([".server.json.lock"], [])


@pytest.mark.parametrize("data", [b"", b"[]", b'{"url": 1}', b"\xff", b"[" * 200_000])
def test_an_unreadable_server_file_names_no_server(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "server.json"
    path.write_bytes(data)
    assert server_file.read(path) is None
