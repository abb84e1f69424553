"""Find the running server: what its own file says, if the server itself confirms it.

Claude Code's status line comes through here after every message, so nothing is imported that it
does not need.
"""

import socket
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from ccfallback.state import server_file

if TYPE_CHECKING:
    from ccfallback.config.model import Config
    from ccfallback.paths import Paths

PATIENCE: Final = 1.0
"""Seconds; a server on this machine answers in a few milliseconds, unless it is very busy."""

LONGEST_PAGE: Final = 1 << 20

_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1", "": "127.0.0.1"}
"""Addresses to listen on that are none to connect to."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    url: str
    page: dict[str, Any]
    """What it says of its health."""

    @property
    def pid(self) -> int | None:
        """Its process."""
        pid = self.page.get("pid")
        return pid if isinstance(pid, int) else None

    @property
    def version(self) -> str:
        """Which version it is."""
        return str(self.page["version"])

    @property
    def uptime(self) -> float:
        """Seconds since its start."""
        uptime = self.page.get("uptime")
        return float(uptime) if isinstance(uptime, int | float) else 0.0


def described(found: Running | None) -> dict[str, Any]:
    """A server as scripts get it, or that there is none."""
    if found is None:
        nothing = dict.fromkeys(("url", "pid", "version", "uptime"))
        return {"running": False, **nothing}
    return {
        "running": True,
        "url": found.url,
        "pid": found.pid,
        "version": found.version,
        "uptime": found.uptime,
    }


def configured_url(config: "Config") -> str:
    """Where a server with this configuration is reached from here."""
    return url_of(config.server.host, config.server.port)


def url_of(host: str, port: int) -> str:
    """Where a server that listens there is reached from here."""
    host = host.strip("[]")
    host = _ANYWHERE.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def running(paths: "Paths", config: "Config", patience: float = PATIENCE) -> Running | None:
    """The server that answers right now; `None` if none does."""
    return noted(paths, patience) or server_at(configured_url(config), patience)


def noted(paths: "Paths", patience: float = PATIENCE) -> Running | None:
    """The server that said it runs, if it answers right now."""
    note = server_file.read(paths.server)
    return None if note is None else server_at(note.url, patience)


def server_at(url: str, patience: float = PATIENCE) -> Running | None:
    """The server at an address, if one of ours answers there right now."""
    page = health_at(url, patience)
    return None if page is None else Running(url, page)


def running_url(paths: "Paths", config: "Config") -> str | None:
    """Where a server answers right now; `None` if none does."""
    found = running(paths, config)
    return None if found is None else found.url


def noted_url(paths: "Paths") -> str | None:
    """Where the server that said it runs answers right now; `None` if it does not."""
    found = noted(paths)
    return None if found is None else found.url


def answering(url: str) -> str | None:
    """The address, if a server of ours answers there right now."""
    return None if health_at(url) is None else url


def holder(url: str) -> str | None:
    """Who of ours answers at an address, in words; `None` where nobody of ours does."""
    health = health_at(url)
    if health is None:
        return None
    pid = health.get("pid")
    return f"another ccfallback ({f'pid {pid}, ' if isinstance(pid, int) else ''}{url})"


def health_at(url: str, patience: float = PATIENCE) -> dict[str, Any] | None:
    """What the server there says of its health; `None` if there is none of ours."""
    # Straight to the socket: a proxy from the environment has no business on loopback, and an
    # HTTP library takes longer to load than the server to answer.
    try:
        parts = urlsplit(url)
        head, _, body = _asked(parts.hostname or "", parts.port or 80, patience).partition(
            b"\r\n\r\n"
        )
        found = msgspec.json.decode(body)
    except (OSError, ValueError, RecursionError):
        return None
    ok = head.split(b" ", 2)[1:2] == [b"200"]
    return found if ok and isinstance(found, dict) and "version" in found else None


def _asked(host: str, port: int, patience: float) -> bytes:
    """The whole answer: a server of HTTP/1.0 closes the connection after it."""
    end, answer = monotonic() + patience, b""
    name = f"[{host}]" if ":" in host else host
    with socket.create_connection((host, port), patience) as connection:
        connection.sendall(f"GET /health HTTP/1.0\r\nHost: {name}:{port}\r\n\r\n".encode())
        while len(answer) < LONGEST_PAGE and (left := end - monotonic()) > 0:
            connection.settimeout(left)
            if not (piece := connection.recv(65536)):
                break
            answer += piece
    return answer
