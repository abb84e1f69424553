"""The file in which a running server writes its address and process id.

The shared server has one file, and the proxy of each `run` has another next to it. A file may be
left over from a server that was killed, so readers also ask the server itself.
"""

import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ccfallback import files

CONNECT_SECONDS: Final = 0.2
"""How long to wait for a port of this machine; one that is free refuses at once."""


class ServerInfo(NamedTuple):
    """A server, as it described itself when it started."""

    url: str
    pid: int
    version: str
    started: float
    """Unix seconds."""
    options: tuple[str, ...] = ()
    """The options that `serve` was given: a restart needs them again."""
    hands_over: bool = False
    """Whether it gives its listening socket to a process that asks for it."""


class _Document(msgspec.Struct):
    url: str
    pid: int
    version: str
    started: int
    options: tuple[str, ...] = ()
    hands_over: bool = False


def write(
    path: Path,
    url: str,
    pid: int,
    version: str,
    started: float,
    options: tuple[str, ...] = (),
    *,
    hands_over: bool = False,
    patience: float = 10.0,
) -> None:
    """Publish this server; the server that started last replaces earlier ones."""
    document = _Document(url, pid, version, round(started * 1000), options, hands_over)
    with files.locked(_lock(path), patience):
        files.replace_atomically(path, msgspec.json.encode(document) + b"\n")


def read(path: Path) -> ServerInfo | None:
    """The published server; `None` if the file is missing or unreadable."""
    try:
        document = msgspec.json.decode(files.read_regular(path), type=_Document)
    except (OSError, ValueError, RecursionError):
        return None
    return ServerInfo(
        document.url,
        document.pid,
        document.version,
        document.started / 1000,
        document.options,
        document.hands_over,
    )


def remove(path: Path, pid: int, *, patience: float = 10.0) -> None:
    """Delete the file, if it describes this process."""
    with files.locked(_lock(path), patience):
        found = read(path)
        if found is not None and found.pid == pid:
            files.real(path).unlink(missing_ok=True)


def remove_stale(paths: Iterable[Path]) -> None:
    """Delete the files of servers that were killed: nothing listens at their addresses."""
    for path in paths:
        found = read(path)
        if found is None or refuses(found.url):
            with suppress(OSError):
                path.unlink()


def _lock(path: Path) -> Path:
    """The file whose lock is taken: one for all servers, so that none is left behind for each."""
    return path.with_name("server.json")


def refuses(url: str) -> bool:
    """Whether nothing listens at an address of this machine."""
    try:
        parts = urlsplit(url)
        address = (parts.hostname or "", parts.port or 80)
        socket.create_connection(address, CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):
        return False
    return False
