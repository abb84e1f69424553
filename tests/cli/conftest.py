"""Run the command line, in this process or as a true one, with files of the test's own."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ccfallback.cli import main
from ccfallback.store.paths import Paths


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout, which must be the only thing there."""
        return msgspec.json.decode(self.out)


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def own_files(paths: Paths, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command of a test ever finds the real files."""
    monkeypatch.setenv("CCFALLBACK_CONFIG", str(paths.config))
    monkeypatch.setenv("CCFALLBACK_STATE", str(paths.state))
    monkeypatch.setenv("CCFALLBACK_LOG_FILE", str(paths.log))
    for name in ("NO_COLOR", "SHELL", "_CCFALLBACK_COMPLETE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ccf(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs a command in this process."""

    def run(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        captured = capfdbinary.readouterr()
        code = left.value.code
        assert isinstance(code, int)
        return Ran(int(code), captured.out.decode(), captured.err.decode())

    return run


@pytest.fixture
def ccf_process() -> Run:
    """Runs a command as a process of its own, with `given` on its standard input."""

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
