"""The address to listen on, whether the server may listen there, and the socket."""

import errno
import os
import socket
from typing import Any, Final

import msgspec

from ccfallback.addresses import is_host, is_loopback
from ccfallback.error_codes import ErrorCode
from ccfallback.errors import PortTaken, ServeError

_ANOTHER_HOST: Final = "name one of its addresses with --host, or in server.host"

BACKLOG: Final = 2048
"""Connections that may wait to be accepted."""


class ListenAddress(msgspec.Struct, frozen=True):
    """An address of this machine."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]

    def is_address(self, sockaddr: tuple[Any, ...]) -> bool:
        """Whether a socket has this address; port 0 stands for any."""
        return self.sockaddr[0] == sockaddr[0] and self.sockaddr[1] in (0, sockaddr[1])

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach it."""
        return not is_loopback(self.sockaddr[0])


def find_listen_address(host: str, port: int, *, has_tokens: bool) -> ListenAddress:
    """The address that a host name leads to.

    Raises `ServeError` where there is none, and where other machines reach it and no access token
    is configured. The address decides, because a name may lead anywhere.
    """
    try:
        if not is_host(host):
            raise UnicodeError
        # As bytes, a name takes no codec for letters that no name here has.
        name = host.encode("ascii")
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise ServeError(f"{host} is not an address of this machine", _ANOTHER_HOST) from None
    family, _, _, _, sockaddr = found[0]
    address = ListenAddress(family, sockaddr)
    require_tokens(host, address, has_tokens=has_tokens)
    return address


def require_tokens(host: str, address: ListenAddress, *, has_tokens: bool) -> None:
    """Raise `ServeError` if other machines reach an address and there is no access token."""
    if address.is_open and not has_tokens:
        raise ServeError(
            f"{host} can be reached by other machines, and no access token is configured",
            "add one with `ccfallback tokens add`, or listen on 127.0.0.1",
            code=ErrorCode.NEEDS_TOKENS,
        )


def listen(host: str, address: ListenAddress) -> socket.socket:
    """A socket that listens. Raises `PortTaken` or `ServeError`; `host` is for the message."""
    port = address.sockaddr[1]
    listener = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address.sockaddr)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        refusal = PortTaken if error.errno == errno.EADDRINUSE else ServeError
        is_port = error.errno != errno.EADDRNOTAVAIL
        raise refusal(
            f"can't listen on {host} port {port}: {error.strerror}",
            "take another port with --port, or 0 for a free one" if is_port else _ANOTHER_HOST,
        ) from None
    return listener
