"""Find the running server: what its own file says, if the server itself confirms it."""

from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ccfallback.core.config import Config
from ccfallback.store import server_file
from ccfallback.store.paths import Paths

PATIENCE: Final = 0.5
"""Seconds; a server on this machine answers in a few milliseconds, or not at all."""

_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1", "": "127.0.0.1"}
"""Addresses to listen on that are none to connect to."""


def configured_url(config: Config) -> str:
    """Where a server with this configuration is reached from here."""
    return url_of(config.server.host, config.server.port)


def url_of(host: str, port: int) -> str:
    """Where a server that listens there is reached from here."""
    host = host.strip("[]")
    host = _ANYWHERE.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def running_url(paths: Paths, config: Config) -> str | None:
    """Where a server answers right now; `None` if none does."""
    return noted_url(paths) or answering(configured_url(config))


def noted_url(paths: Paths) -> str | None:
    """Where the server that said it runs answers right now; `None` if it does not."""
    noted = server_file.read(paths.server)
    return None if noted is None else answering(noted.url)


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


def health_at(url: str) -> dict[str, Any] | None:
    """What the server there says of its health; `None` if there is none of ours."""
    from http.client import HTTPConnection, HTTPException

    # Straight to the socket: a proxy from the environment has no business on loopback.
    try:
        parts = urlsplit(url)
        connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=PATIENCE)
        try:
            connection.request("GET", "/health")
            answer = connection.getresponse()
            body = answer.read(1 << 20)
        finally:
            connection.close()
        found = msgspec.json.decode(body)
    except (OSError, ValueError, HTTPException, msgspec.DecodeError):
        return None
    if answer.status != 200 or not isinstance(found, dict) or "version" not in found:
        return None
    return found
