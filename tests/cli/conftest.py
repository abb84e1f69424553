"""Run the command line, in this process or in another, with the test's own files."""

import io
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from ccfallback.cli import main
from ccfallback.cli.console import Console
from ccfallback.cli.session import Session
from ccfallback.paths import Paths

UPDATE = bool(os.environ.get("UPDATE_GOLDEN"))


@dataclass(frozen=True)
class Ran:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout, which must be the only thing there."""
        return msgspec.json.decode(self.out)


Run = Callable[..., Ran]


@pytest.fixture(scope="session", autouse=True)
def commands_built_once() -> Iterator[None]:
    """Typer builds each command once for all tests, where a process would for itself."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("get_command", "get_group"):
            patch.setattr(typer.main, name, cache(getattr(typer.main, name)))
        yield


@pytest.fixture(autouse=True)
def own_files(paths: Paths, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps every command of a test away from the real files."""
    monkeypatch.setenv("CCFALLBACK_CONFIG", str(paths.config))
    monkeypatch.setenv("CCFALLBACK_STATE", str(paths.state))
    monkeypatch.setenv("CCFALLBACK_LOG_FILE", str(paths.log))
    for name in ("NO_COLOR", "SHELL", "_CCFALLBACK_COMPLETE"):
        monkeypatch.delenv(name, raising=False)
    # What runs on this machine is not part of a test.
    monkeypatch.setattr("ccfallback.cli.providers.local_servers.PORTS", ())


@pytest.fixture
def ccf(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process, with `given` on its standard input."""

    def run(*arguments: str, given: str = "") -> Ran:
        piped = io.TextIOWrapper(io.BytesIO(given.encode()), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", piped)
        with pytest.raises(SystemExit) as left:
            main(arguments)
        captured = capfdbinary.readouterr()
        code = left.value.code
        assert isinstance(code, int)
        return Ran(int(code), captured.out.decode(), captured.err.decode())

    return run


@pytest.fixture
def ccf_process() -> Run:
    """Runs a command in its own process, with `given` on its standard input.

    It takes 30 times as long as `ccf`.
    """

    def run(*arguments: str, given: str = "", **environ: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "ccfallback", *arguments],
            input=given,
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, **environ},
            timeout=20,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


NOW = 1_763_992_800.0
"""The time for commands whose screen is compared: 2025-11-24 14:00 UTC."""


@pytest.fixture
def ccf_screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Runs a command in this process, on a terminal of a given width, at `NOW`."""
    pty, fcntl = pytest.importorskip("pty"), pytest.importorskip("fcntl")
    import termios

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(Session, "now", lambda self: NOW)

    def run(*arguments: str, columns: int, **environ: str) -> str:
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        shown = bytearray()

        def read() -> None:
            # Linux reports the end of a terminal as an error.
            with suppress(OSError):
                while piece := os.read(leader, 65536):
                    shown.extend(piece)

        reader = threading.Thread(target=read)
        with os.fdopen(follower, "w", encoding="utf-8") as out:
            console = Console(io.StringIO(), out, io.StringIO(), {"NO_COLOR": "1", **environ})
            monkeypatch.setattr(Console, "for_process", lambda as_json: console)
            reader.start()
            with pytest.raises(SystemExit):
                main(arguments)
        reader.join(10)
        os.close(leader)
        return shown.decode().replace("\r\n", "\n")

    yield run
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compares a screen with its file; UPDATE_GOLDEN=1 writes the file."""

    def compare(name: str, screen: str) -> None:
        file = Path(__file__).parent / "screens" / name
        if UPDATE:
            file.parent.mkdir(exist_ok=True)
            file.write_text(screen, encoding="utf-8")
        assert screen == file.read_text(encoding="utf-8")

    return compare


@pytest.fixture
def configure(paths: Paths) -> Callable[[str], None]:
    """Writes the configuration."""

    def write(text: str) -> None:
        paths.config.parent.mkdir(parents=True, exist_ok=True)
        paths.config.write_text(text)

    return write


@pytest.fixture
def two_providers(configure: Callable[[str], None]) -> None:
    """A chain of the primary, `one` and `two`."""
    configure(
        '# mine\n[[providers]]\nname = "one"\nbase_url = "https://one.example/v1?key=in-the-query"\n'
        'api_key = "sk-abcdefghijklmnopqrstuvwxyz"\n'
        'headers = { "X-Title" = "cc", "X-Api-Token" = "header-secret-value" }\n\n'
        '[[providers]]\nname = "two"\nbase_url = "https://two.example"\napi_key_env = "TWO_KEY"\n'
        'model_mapping = { "*" = "m" }\n'
    )
