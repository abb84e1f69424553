"""A real Redis or Valkey server for the tests of the shared state."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import pytest

SERVER: Final = shutil.which("redis-server") or shutil.which("valkey-server")

needs_server = pytest.mark.skipif(
    SERVER is None, reason="neither redis-server nor valkey-server is installed"
)

SECONDS: Final = 30.0
"""How long a test waits for what has to come."""


def until(condition: Callable[[], Any]) -> Any:
    """Wait until something is so, and return it."""
    end = monotonic() + SECONDS
    while not (found := condition()):
        assert monotonic() < end, "it does not become so"
        sleep(0.005)
    return found


class RedisServer:
    """A server on a free port that keeps nothing on the disk, unless `options` ask for it."""

    def __init__(self, folder: Path, *options: str, encrypted: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._options, self._encrypted = options, encrypted
        self._folder = folder
        self.url = f"redis{'s' if encrypted else ''}://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert SERVER is not None
        port = ["--port", "0", "--tls-port"] if self._encrypted else ["--port"]
        place = [*port, str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        command = [SERVER, *place, "--save", "", *self._options]
        process = self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(lambda: process.poll() is not None or self._answers())
        if process.poll() is not None:
            raise RuntimeError("the server does not start")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                if self._encrypted:
                    return True
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def set(self, key: str, value: str) -> None:
        """Change the configuration."""
        with socket.create_connection(("127.0.0.1", self.port), SECONDS) as connection:
            connection.sendall(f"CONFIG SET {key} {value}\r\n".encode())
            assert connection.recv(100) == b"+OK\r\n"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """Stop the process: connections stay open, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that runs."""
    if SERVER is None:
        pytest.skip("neither redis-server nor valkey-server is installed")
    folder = tmp_path / "redis"
    folder.mkdir()
    for tries_left in (2, 1, 0):
        server = RedisServer(folder)
        try:
            server.start()
            break
        except RuntimeError:
            # Another process may have taken the port since it was found free.
            if not tries_left:
                raise
    yield server
    server.kill()
