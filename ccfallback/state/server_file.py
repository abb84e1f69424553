"""The file in which a running server writes its address and process id.

The shared servers have one file: the server that started last describes itself there, and lists
those that it found. The proxy of each `run` has another file next to it. A killed server leaves its
description behind, so readers also ask the server itself.
"""

import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import astuple

from ccfallback import files

CONNECT_SECONDS: Final = 0.2
"""How long to wait for a port of this machine; one that is free refuses at once."""


class ServerInfo(msgspec.Struct, frozen=True):
    """A server, as it described itself when it started."""

    url: str
    pid: int
    version: str
    started_ms: int = msgspec.field(name="started")
    """Unix milliseconds."""
    options: tuple[str, ...] = ()
    """The options that `serve` was given: a restart needs them again."""
    hands_over: bool = False
    """Whether it gives its listening socket to a process that asks for it."""

    @property
    def started(self) -> float:
        """When it started, in Unix seconds."""
        return self.started_ms / 1000


class _Document(ServerInfo, frozen=True):
    others: tuple[ServerInfo, ...] = ()
    """The servers that started earlier, the newest first."""


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
    """Publish this server before those that still run."""
    entry = ServerInfo(url, pid, version, round(started * 1000), options, hands_over)
    with files.locked(_lock(path), patience):
        # Where another server had this address, it has left it.
        others = [each for each in read_all(path) if each.url != url and not refuses(each.url)]
        _replace(path, [entry, *others])


def read(path: Path) -> ServerInfo | None:
    """The server that was published last; `None` if the file is missing or unreadable."""
    return next(iter(read_all(path)), None)


def read_all(path: Path) -> list[ServerInfo]:
    """The published servers, the newest first; some may have been killed."""
    try:
        document = msgspec.json.decode(files.read_regular(path), type=_Document)
    except (OSError, ValueError, RecursionError):
        return []
    *own, others = astuple(document)
    return [ServerInfo(*own), *others]


def remove(path: Path, url: str, pid: int, *, patience: float = 10.0) -> None:
    """Withdraw a server: the one before it, if it still runs, takes its place."""
    with files.locked(_lock(path), patience):
        published = read_all(path)
        others = [each for each in published if (each.url, each.pid) != (url, pid)]
        if len(others) == len(published):
            return
        _replace(path, [each for each in others if not refuses(each.url)])


def remove_stale(paths: Iterable[Path]) -> None:
    """Delete the files of servers that were killed: nothing listens at their addresses."""
    for path in paths:
        found = read(path)
        if found is None or refuses(found.url):
            with suppress(OSError):
                path.unlink()


def _replace(path: Path, entries: list[ServerInfo]) -> None:
    if not entries:
        files.real(path).unlink(missing_ok=True)
        return
    first, *others = entries
    document = {**msgspec.to_builtins(first), "others": others}
    files.replace_atomically(path, msgspec.json.encode(document) + b"\n")


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
