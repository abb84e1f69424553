"""A restart that refuses and resets no connection."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from ccfallback.cli.background import is_running
from ccfallback.http1.listener import Server
from ccfallback.paths import Paths
from ccfallback.server import handover
from ccfallback.server.serve import _handle_signals
from ccfallback.state import server_file
from ccfallback.state.server_file import ServerInfo
from tests.cli.conftest import Run
from tests.server.test_serve import start
from tests.shared_state import until

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="sockets and signals of POSIX"),
    pytest.mark.usefixtures("traced_processes"),
]

CLIENTS = 12


class Load:
    """Clients that send one request after the other; some keep their connection."""

    def __init__(self, url: str) -> None:
        self.host, _, port = url.removeprefix("http://").partition(":")
        self.port = int(port)
        self.results = Counter[str]()
        self.connections = 0
        self._end = threading.Event()
        self._lock = threading.Lock()
        keeps = [True, False] * (CLIENTS // 2)
        self._threads = [threading.Thread(target=self._ask, args=(each,)) for each in keeps]

    def __enter__(self) -> "Load":
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for each in self._threads:
            each.join()

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more requests have ended."""
        wanted = self.results.total() + count
        until(lambda: self.results.total() >= wanted)

    def _ask(self, keeps: bool) -> None:
        way: http.client.HTTPConnection | None = None
        while not self._end.is_set():
            try:
                if way is None:
                    way = http.client.HTTPConnection(self.host, self.port, timeout=20)
                    way.connect()
                    with self._lock:
                        self.connections += 1
                way.request("GET", "/health")
                answer = way.getresponse()
                answer.read()
                result = str(answer.status)
                if not keeps or answer.will_close:
                    way.close()
                    way = None
            except OSError as error:
                result, way = type(error).__name__, None
            except http.client.HTTPException as error:
                result, way = type(error).__name__, None
            with self._lock:
                self.results[result] += 1
            # One core is enough for them.
            time.sleep(0.001)
        if way is not None:
            way.close()


@pytest.fixture
def serve(
    ccf: Run, paths: Paths, configure: Callable[[str], None]
) -> Iterator[Callable[[str], ServerInfo]]:
    """Starts a server in the background with these lines, and returns what it has published."""

    def start_in_background(lines: str) -> ServerInfo:
        configure(f"[server]\n{lines}\n")
        assert ccf("serve", "-d").code == 0
        info = server_file.read(paths.server)
        assert info is not None
        return info

    yield start_in_background
    ccf("stop", "--now")


Serve = Callable[[str], ServerInfo]


def test_an_address_that_is_published_again_is_the_same(paths: Paths, serve: Serve) -> None:
    info = serve("port = 0")
    paths.server.unlink()
    until(paths.server.exists)
    assert server_file.read(paths.server) == info


def test_a_restart_under_load_refuses_and_resets_nothing(
    ccf: Run, paths: Paths, serve: Serve
) -> None:
    info: ServerInfo | None = serve("port = 0")
    assert info is not None
    assert info.hands_over
    with Load(info.url) as load:
        load.wait_for_more(50)
        for _ in range(2):
            ran = ccf("restart", "--json")
            assert (ran.code, ran.json["url"]) == (0, info.url), ran.err
            # From then on only the new one accepts connections.
            pids = {httpx.get(f"{info.url}/health").json()["pid"] for _ in range(20)}
            assert pids == {ran.json["pid"]}
            load.wait_for_more(400)
        before, info = info, server_file.read(paths.server)
        assert info is not None
        assert info.pid != before.pid
        # The old one ends, although clients had kept connections to it.
        until(lambda: not is_running(before.pid))
    assert set(load.results) == {"200"}
    assert load.connections >= 400
    assert not handover.request_path(paths.state).exists()
    assert paths.log.read_bytes().count(b'"event":"server.handover"') == 2


def test_another_server_at_the_same_address_is_still_an_error(paths: Paths, serve: Serve) -> None:
    port = serve("port = 0").url.rpartition(":")[2]
    other = [sys.executable, "-m", "ccfallback", "--state", str(paths.state.with_name("b.json"))]
    other += ["serve", "--port", port]
    ran = subprocess.run(other, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 1
    assert "can't listen on" in ran.stderr


def test_a_restart_at_another_address_does_not_take_the_socket(
    ccf: Run, configure: Callable[[str], None], serve: Serve
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    before = serve(f"port = {port}").url
    with socket.create_server(("127.0.0.1", 0)) as free:
        other = free.getsockname()[1]
    configure(f"[server]\nport = {other}\n")
    assert ccf("restart", "--json").json["url"] == f"http://127.0.0.1:{other}"
    assert server_file.refuses(before)
    assert httpx.get(f"http://127.0.0.1:{other}/health").status_code == 200


def test_a_new_server_that_fails_leaves_the_old_one(
    ccf: Run, monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    before = serve("port = 0\ndrain_delay = 60")
    with monkeypatch.context() as patch:
        # An interpreter option that the new process does not survive.
        patch.setenv("PYTHONMALLOC", "nonsense")
        ran = ccf("restart")
    assert ran.code == 1
    assert "did not start" in ran.err
    assert httpx.get(f"{before.url}/health").json()["pid"] == before.pid
    # It is alone again: the delay before its end counts.
    os.kill(before.pid, signal.SIGTERM)
    until(lambda: httpx.get(f"{before.url}/ready").status_code == 503)


# --- systemd ---


class Systemd:
    """What systemd does with a service that has `FileDescriptorStoreMax`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._inbox.bind(str(self.path))
        self._inbox.settimeout(20)

    def receive(self) -> tuple[bytes, list[int]]:
        """The next message of the service, and the sockets that came with it."""
        message, numbers, _, _ = socket.recv_fds(self._inbox, 1000, 4)
        return message, list(numbers)

    def close(self) -> None:
        self._inbox.close()


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    # The folders of tests have too long a path for a Unix socket.
    with TemporaryDirectory(prefix="ccf-") as folder:
        found = Systemd(Path(folder))
        yield found
        found.close()


LAUNCHER = """\
import os, sys
number = int(sys.argv[1])
os.dup2(number, 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_FDNAMES"] = sys.argv[2]
os.execv(sys.executable, [sys.executable, "-m", "ccfallback", *sys.argv[3:]])
"""
"""Starts a server with a socket, as systemd does: the process id is known only in the process."""


def serve_with(
    listener: socket.socket, name: str, paths: Paths, *options: str
) -> "subprocess.Popen[str]":
    arguments = ["--config", str(paths.config), "--state", str(paths.state)]
    arguments += ["--log-file", str(paths.log), "serve", *options]
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(listener.fileno()), name, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=[listener.fileno()],
    )


def announced(process: "subprocess.Popen[str]") -> str:
    """The address that a server prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    return line.strip().rpartition("=")[2]


def end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def test_systemd_keeps_the_socket_between_two_servers(
    systemd: Systemd, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
    first, url = start(paths, "--port", "0")
    message, numbers = systemd.receive()
    assert message == b"FDSTORE=1\nFDNAME=ccfallback"
    kept = socket.socket(fileno=numbers[0])
    end(first)
    # No server runs now, and a connection waits for the next one.
    with ExitStack() as stack:
        waiting = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        stack.callback(waiting.close)
        waiting.request("GET", "/health")
        second = serve_with(kept, "ccfallback", paths, "--port", url.rpartition(":")[2])
        stack.callback(end, second)
        assert announced(second) == url
        assert waiting.getresponse().status == 200
        assert systemd.receive()[0] == message
        kept.close()


def test_a_kept_socket_of_another_address_is_given_up(
    systemd: Systemd, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
    with socket.create_server(("127.0.0.1", 0)) as kept:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        process = serve_with(kept, "ccfallback", paths, "--port", str(port))
        assert announced(process) == f"http://127.0.0.1:{port}"
        assert systemd.receive()[0] == b"FDSTOREREMOVE=1\nFDNAME=ccfallback"
        assert systemd.receive()[0].startswith(b"FDSTORE=1")
        end(process)


def test_a_socket_unit_decides_on_the_address(paths: Paths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        process = serve_with(opened, "ccfallback.socket", paths)
        assert announced(process) == f"http://127.0.0.1:{opened.getsockname()[1]}"
        end(process)


def test_a_socket_unit_that_others_reach_needs_a_token(paths: Paths) -> None:
    with socket.create_server(("0.0.0.0", 0)) as opened:
        process = serve_with(opened, "ccfallback.socket", paths)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "no access token is configured" in err


# --- The parts ---


@pytest.mark.parametrize("number", ["", "x", "-1", "999999"])
def test_what_is_not_a_socket_is_not_taken(number: str) -> None:
    assert handover.take({handover.VARIABLE: number}) is None


def test_a_socket_that_does_not_listen_is_not_taken() -> None:
    with socket.socket() as other:
        number = os.dup(other.fileno())
    assert handover.take({handover.VARIABLE: str(number)}) is None


def test_the_sockets_of_another_process_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(handover, "_FIRST", os.dup(listener.fileno()))
    assert handover.take({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) is None
    # It is taken by the process that it is for.
    taken = handover.take({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
    assert taken is not None
    taken[0].close()


def test_a_file_that_others_may_write_asks_for_nothing(paths: Paths) -> None:
    file = handover.request_path(paths.state)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"/tmp/x")
    file.chmod(0o666)
    with socket.socket() as listener, pytest.raises(PermissionError):
        handover.send(listener, paths.state)


def test_a_socket_goes_from_one_process_to_another(paths: Paths) -> None:
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    assert handover.SIGNAL is not None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ways: list[socket.socket] = []

        def give(*_: object) -> None:
            def send() -> None:
                ways.append(handover.send(listener, paths.state))

            threading.Thread(target=send).start()

        before = signal.signal(handover.SIGNAL, give)
        try:
            # This process is both.
            found = handover.fetch(os.getpid(), paths.state)
        finally:
            signal.signal(handover.SIGNAL, before)
        assert found is not None
        with found:
            given = found.listener
            assert given.getsockname() == listener.getsockname()
            with socket.create_connection(listener.getsockname()), given.accept()[0]:
                pass
            taken = handover.take({handover.VARIABLE: str(os.dup(given.fileno()))})
            assert taken is not None
            assert taken[1] is False
            taken[0].close()
            # The old server says by closing the connection that it accepts no more.
            until(lambda: ways)
            ways[0].close()
            found.wait()


def test_a_socket_is_shared_until_the_other_process_leaves() -> None:
    server = Server()
    assert not server.is_shared
    ends = []
    for _ in range(3):
        mine, other = socket.socketpair()
        server.share(mine)
        ends.append(mine)
        assert server.is_shared
        other.close()
        assert not server.is_shared
    # A connection to a process that has left is not kept.
    assert [each.fileno() >= 0 for each in ends] == [False, False, True]
    mine, other = socket.socketpair()
    with mine, other:
        server.share(mine)
        assert server.is_shared
        mine.close()
        assert not server.is_shared


def test_the_signal_does_not_end_a_server_that_saves() -> None:
    number = handover.SIGNAL
    assert number is not None
    before = signal.getsignal(number)
    try:
        with _handle_signals(Server(), lambda: None):
            assert callable(signal.getsignal(number))
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_process_that_never_answers_is_not_waited_for_long(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(handover, "SECONDS", 0.1)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as silent:
        # The default action of the signal ends it, so it never connects.
        assert handover.fetch(silent.pid, paths.state) is None
        silent.kill()
    assert not handover.request_path(paths.state).exists()


def test_an_unwanted_signal_changes_nothing(paths: Paths, serve: Serve) -> None:
    info = serve("port = 0")
    assert handover.SIGNAL is not None
    os.kill(info.pid, handover.SIGNAL)
    assert httpx.get(f"{info.url}/health").json()["pid"] == info.pid
    log = paths.log
    until(lambda: log.exists() and b"socket can't be sent" in log.read_bytes())


def test_with_a_drain_delay_ready_says_so_and_requests_are_served(
    paths: Paths, configure: Callable[[str], None], request: pytest.FixtureRequest
) -> None:
    configure("[server]\ndrain_delay = 60\n")
    process, url = start(paths, "--port", "0")
    request.addfinalizer(process.kill)
    assert httpx.get(f"{url}/ready").status_code == 200
    process.send_signal(signal.SIGTERM)
    until(lambda: httpx.get(f"{url}/ready").status_code == 503)
    answer = httpx.get(f"{url}/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "draining")
    assert answer.headers["connection"] == "close"
    assert httpx.get(f"{url}/health").status_code == 200
    # A second signal ends the delay.
    end(process)
    assert process.returncode == 0
