"""What a running server says of itself: where it is, and which process.

One rule: the file is a claim, not a fact; whoever reads it asks the server too.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from ccfallback import files


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server, as it told of itself when it started."""

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
    """Say that this server runs; the last one to start is the one that is found."""
    document = _Document(url=url, pid=pid, version=version, started=round(started * 1000))
    with files.locked(path, patience):
        files.replace_atomically(path, msgspec.json.encode(document) + b"\n")


def read(path: Path) -> ServerInfo | None:
    """The server that said it runs; None if none did, or nothing that makes sense."""
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except (OSError, ValueError, RecursionError):
        return None
    return ServerInfo(document.url, document.pid, document.version, document.started / 1000)


def remove(path: Path, pid: int, *, patience: float = 10.0) -> None:
    """Take the file away, if it is this process's own."""
    with files.locked(path, patience):
        found = read(path)
        if found is not None and found.pid == pid:
            path.unlink(missing_ok=True)
