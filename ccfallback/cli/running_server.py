"""Find the running server: read the file that it registered in, then ask the server itself.

Claude Code's status line runs this after every message, so the module imports no more than it
needs.
"""

import socket
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ccfallback.cli.phrases import format_since
from ccfallback.state import server_file

if TYPE_CHECKING:
    from ccfallback.config.model import Config
    from ccfallback.paths import Paths

PATIENCE: Final = 1.0
"""Seconds; a server on this machine answers in a few milliseconds, unless it is very busy."""

LONGEST_PAGE: Final = 1 << 20

_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1", "": "127.0.0.1"}
"""Addresses that a server can listen on and a client can't connect to."""


class RunningServer(NamedTuple):
    """A server that answers."""

    url: str
    page: dict[str, Any]
    """The content of its `/health` page."""
    is_private: bool = False
    """Whether it serves one `run` only, and ends with it."""

    @property
    def pid(self) -> int | None:
        """Its process id."""
        pid = self.page.get("pid")
        return pid if isinstance(pid, int) else None

    @property
    def version(self) -> str:
        """Its version of ccfallback."""
        return str(self.page["version"])

    @property
    def uptime(self) -> float:
        """Seconds since it started."""
        uptime = self.page.get("uptime")
        return float(uptime) if isinstance(uptime, int | float) else 0.0

    def describe(self, now: float, width: int | None = None) -> str:
        """Where it answers and since when, and what else fits on a line of so many columns."""
        text = f"✓ up {'for `run` ' if self.is_private else ''}at {self.url}"
        process = [] if self.pid is None else [f"pid {self.pid}"]
        when = format_since(now - self.uptime, now)
        for fact in (*process, when, f"version {self.version}"):
            if width is not None and len(text) + 2 + len(fact) > width:
                break
            text = f"{text}, {fact}"
        return text


def servers_json(found: Sequence[RunningServer]) -> dict[str, Any]:
    """The servers, or that there is none, for `--json`: the first one, then each of them."""
    servers = [_server_json(each) for each in found]
    names = ("url", "pid", "version", "uptime")
    first = servers[0] if servers else {}
    return {
        "running": bool(servers),
        **{name: first.get(name) for name in names},
        "servers": servers,
    }


def _server_json(found: RunningServer) -> dict[str, Any]:
    return {
        "url": found.url,
        "pid": found.pid,
        "version": found.version,
        "uptime": found.uptime,
        "command": "run" if found.is_private else "serve",
    }


def configured_url(config: "Config") -> str | None:
    """The URL of a server with this configuration, for clients on this machine.

    `None` if every start picks a free port.
    """
    port = config.server.port
    return local_url(config.server.host, port) if port else None


def describe_absence(config: "Config") -> str:
    """That no server answers, in words."""
    url = configured_url(config)
    return f"✗ down: no ccfallback {'runs' if url is None else f'answers at {url}'}"


def name_providers(page: Mapping[str, Any]) -> "Config":
    """A configuration with no more than the names on a `/health` page."""
    from ccfallback.config.model import PRIMARY_NAME, Config, Provider

    found = [each for each in page.get("providers", []) if each["name"] != PRIMARY_NAME]
    return Config(
        providers=tuple(
            Provider(name=each["name"], base_url="", disabled=bool(each.get("disabled")))
            for each in found
        )
    )


def local_url(host: str, port: int) -> str:
    """The URL of a server that listens on an address, for clients on this machine."""
    host = host.strip("[]")
    host = _ANY_ADDRESS.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def find_server(
    paths: "Paths", config: "Config", patience: float = PATIENCE
) -> RunningServer | None:
    """The running server: the registered one, or one at the configured address."""
    found, url = find_registered_server(paths, patience), configured_url(config)
    return found if found or url is None else find_server_at(url, patience)


def find_servers(
    paths: "Paths", config: "Config", patience: float = PATIENCE
) -> list[RunningServer]:
    """All servers that answer: the shared ones first, then the proxies of each `run`."""
    shared = list(find_registered_servers(paths, patience))
    if not shared and (found := find_server(paths, config, patience)):
        shared = [found]
    return [*shared, *find_private_servers(paths, patience)]


def find_private_servers(paths: "Paths", patience: float = PATIENCE) -> list[RunningServer]:
    """The proxies of each `run` that answer, the newest first."""
    registered = [info for path in paths.private_servers if (info := server_file.read(path))]
    registered.sort(key=lambda info: -info.started)
    found: list[RunningServer] = []
    end = monotonic() + patience
    for info in registered:
        page = fetch_health(info.url, max(0.01, end - monotonic()))
        # The port of a killed one may belong to another server by now.
        if page is not None and page.get("pid") == info.pid:
            found.append(RunningServer(info.url, page, is_private=True))
    return found


def find_registered_server(paths: "Paths", patience: float = PATIENCE) -> RunningServer | None:
    """The registered server that started last, of those that answer."""
    return next(find_registered_servers(paths, patience), None)


def find_registered_servers(paths: "Paths", patience: float = PATIENCE) -> Iterator[RunningServer]:
    """The registered servers that answer, the newest first, without the proxies of each `run`."""
    for info in server_file.read_all(paths.server):
        found = find_server_at(info.url, patience)
        if found is not None:
            yield found


def find_server_at(url: str, patience: float = PATIENCE) -> RunningServer | None:
    """The server at an address, if a ccfallback answers there."""
    page = fetch_health(url, patience)
    return None if page is None else RunningServer(url, page)


def find_server_url(paths: "Paths", config: "Config") -> str | None:
    """The URL of the running server."""
    found = find_server(paths, config)
    return None if found is None else found.url


def find_registered_url(paths: "Paths") -> str | None:
    """The URL of the registered server that started last, of those that answer."""
    found = find_registered_server(paths)
    return None if found is None else found.url


def describe_server_at(url: str) -> str | None:
    """The ccfallback at an address, for a message; `None` if none answers there."""
    found = find_server_at(url)
    if found is None:
        return None
    return f"another ccfallback ({'' if found.pid is None else f'pid {found.pid}, '}{url})"


def fetch_health(url: str, patience: float = PATIENCE) -> dict[str, Any] | None:
    """The `/health` page of the ccfallback at an address; `None` if none answers there."""
    # A plain socket: an outgoing proxy from the environment must not see loopback requests, and an
    # HTTP library takes longer to load than the server to answer.
    try:
        parts = urlsplit(url)
        response = _get_health(parts.hostname or "", parts.port or 80, patience)
        head, _, body = response.partition(b"\r\n\r\n")
        page = msgspec.json.decode(body)
    except (OSError, ValueError, RecursionError):
        return None
    ok = head.split(b" ", 2)[1:2] == [b"200"]
    return page if ok and isinstance(page, dict) and "version" in page else None


def _get_health(host: str, port: int, patience: float) -> bytes:
    """The whole response: with HTTP/1.0 the server closes the connection after it."""
    end, response = monotonic() + patience, b""
    name = f"[{host}]" if ":" in host else host
    with socket.create_connection((host, port), patience) as connection:
        connection.sendall(f"GET /health HTTP/1.0\r\nHost: {name}:{port}\r\n\r\n".encode())
        while len(response) < LONGEST_PAGE and (left := end - monotonic()) > 0:
            connection.settimeout(left)
            if not (piece := connection.recv(65536)):
                break
            response += piece
    return response
