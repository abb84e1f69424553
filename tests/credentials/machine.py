"""A machine for tests of credentials: files in a temporary home, fake programs, a fake network."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from ccfallback.config.model import Provider
from ccfallback.credentials import Resolved, resolve
from ccfallback.credentials.fetch import FetchFailed, Reply

NOW: Final = 1_795_867_200.0
"""28 November 2026, noon in UTC."""


def no_network(
    method: str, url: str, headers: Mapping[str, str], body: bytes = b"", **_more: Any
) -> Reply:
    """A network that reaches nothing."""
    raise FetchFailed("no network")


Answer = Callable[[str, str, Mapping[str, str], bytes], Reply]


@dataclass
class FakeMachine:
    """What a source of credentials may read."""

    home: Path
    now: float = NOW
    environ: dict[str, str] = field(default_factory=dict)
    answer: Answer | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.programs.mkdir()
        self.environ |= {"HOME": str(self.home), "PATH": str(self.programs)}

    @property
    def programs(self) -> Path:
        return self.home / "bin"

    def write(self, name: str, text: str) -> Path:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def install(self, name: str, code: str) -> None:
        """Put a program on PATH: Python code. Its calls are in `calls`."""
        log = self.home / f"{name}.calls"
        path = self.programs / name
        lead = f"import sys\nopen({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        path.write_text(f"#!{sys.executable}\n{lead}{code}\n")
        path.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        log = self.home / f"{name}.calls"
        return log.read_text().splitlines() if log.exists() else []

    def fetch(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        seconds: float = 0.0,
        direct: bool = False,
    ) -> Reply:
        self.requests.append((method, url))
        if self.answer is None:
            raise FetchFailed("no network")
        return self.answer(method, url, headers, body)

    def resolve(self, provider: Provider) -> Resolved:
        found = resolve(provider, self.environ, fetch=self.fetch, now=lambda: self.now)
        assert found is not None
        return found


def fails(message: str, status: int = 1) -> str:
    """The code of a program that fails."""
    return f"sys.stderr.write({message!r}); sys.exit({status})"


def prints(value: object) -> str:
    """The code of a program that prints JSON."""
    return f"print({msgspec.json.encode(value).decode()!r})"


def json_reply(value: object, status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(value))
