"""The address to listen on, and whether the server may listen there."""

import socket
from dataclasses import dataclass
from typing import Any

from ccfallback.addresses import is_loopback
from ccfallback.errors import ServeError


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address of this machine."""

    family: socket.AddressFamily
    address: tuple[Any, ...]

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach it."""
        return not is_loopback(self.address[0])


def find_listen_address(host: str, port: int, *, has_tokens: bool) -> ListenAddress:
    """The address that a host name leads to.

    Raises `ServeError` where there is none, and where other machines reach it and no access token
    is configured. The address decides, because a name may lead anywhere.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise ServeError(
            f"{host} is not an address of this machine", "set server.host in the configuration"
        ) from None
    family, _, _, _, address = found[0]
    endpoint = ListenAddress(family, address)
    if endpoint.is_open and not has_tokens:
        raise ServeError(
            f"{host} can be reached by other machines, and no access token is configured",
            "add one with `ccfallback tokens add`, or listen on 127.0.0.1",
        )
    return endpoint
