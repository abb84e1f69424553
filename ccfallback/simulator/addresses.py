"""Addresses of this machine at which nobody can be reached, each in a way of its own."""

import socket
from contextlib import ExitStack
from enum import Enum
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

UNKNOWN_HOST: Final = "x" * 64
"""No name may be so long, so nobody is asked for it."""

ENOUGH: Final = 8
"""Connections that fill the shortest queue there is."""


class Place(Enum):
    """Where a provider is, as far as a connection can tell."""

    THERE = "there"
    REFUSED = "refused"
    SILENT = "silent"
    """Nobody answers the attempt to connect."""
    UNKNOWN = "unknown"
    """No name resolution."""
    WITHOUT_TLS = "without-tls"


class UnreachableAddresses:
    """The addresses, from `__enter__` to `__exit__`."""

    def __init__(self) -> None:
        self._sockets = ExitStack()
        self._refused = 0
        self._silent = 0

    def __enter__(self) -> Self:
        closed, full = self._socket(), self._socket()
        for each in (closed, full):
            each.bind(("127.0.0.1", 0))
        self._refused = closed.getsockname()[1]
        self._silent = full.getsockname()[1]
        # A queue that is full makes the system drop whoever else would like to connect.
        full.listen(0)
        for _ in range(ENOUGH):
            waiting = self._socket()
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        return self

    def __exit__(self, *_: object) -> None:
        self._sockets.close()

    def url(self, place: Place, there: str) -> str:
        """The URL of a provider in that place, which is otherwise at `there`."""
        parts = urlsplit(there)
        match place:
            case Place.THERE:
                return there
            case Place.WITHOUT_TLS:
                parts = parts._replace(scheme="https")
            case Place.UNKNOWN:
                parts = parts._replace(netloc=f"{UNKNOWN_HOST}.invalid")
            case Place.REFUSED:
                parts = parts._replace(netloc=f"127.0.0.1:{self._refused}")
            case Place.SILENT:
                parts = parts._replace(netloc=f"127.0.0.1:{self._silent}")
        return urlunsplit(parts)

    def _socket(self) -> socket.socket:
        return self._sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
