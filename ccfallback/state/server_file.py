"""The file in which a running server writes its address and process id.

The file may be left over from a server that was killed, so readers also ask the server itself.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from ccfallback import files


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server, as it described itself when it started."""

    url: str
    pid: int
    version: str
    started: float
    """Unix seconds."""


class _Document(msgspec.Struct):
    url: str
    pid: int
    version: str
    started: int


def write(
    path: Path, url: str, pid: int, version: str, started: float, *, patience: float = 10.0
) -> None:
    """Publish this server; the server that started last replaces earlier ones."""
    document = _Document(url=url, pid=pid, version=version, started=round(started * 1000))
    with files.locked(path, patience):
        files.replace_atomically(path, msgspec.json.encode(document) + b"\n")


def read(path: Path) -> ServerInfo | None:
    """The published server; `None` if the file is missing or unreadable."""
    try:
        document = msgspec.json.decode(files.read_regular(path), type=_Document)
    except (OSError, ValueError, RecursionError):
        return None
    return ServerInfo(document.url, document.pid, document.version, document.started / 1000)


def remove(path: Path, pid: int, *, patience: float = 10.0) -> None:
    """Delete the file, if it describes this process."""
    with files.locked(path, patience):
        found = read(path)
        if found is not None and found.pid == pid:
            files.real(path).unlink(missing_ok=True)
