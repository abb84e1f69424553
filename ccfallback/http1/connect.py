"""Connect to an upstream: look up its name, connect to one of its addresses, set up TLS.

Addresses are tried in turn, IPv6 and IPv4 alternating, each a quarter of a second after the one
before unless that failed sooner (RFC 8305). uvloop cannot do this, so asyncio does not do it
either: it is done here for both.

No thread of the loop is used: with lookups that hang, uvloop has none left, and it needs one even
to connect to an address.
"""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
import sys
from itertools import chain, zip_longest
from typing import Any, Final

from ccfallback.http1.connection import Connection
from ccfallback.http1.deadline import Deadline, DeadlineExceeded
from ccfallback.http1.errors import ConnectError, ConnectTimeout
from ccfallback.http1.lookup import Address, NameLookups

HEAD_START: Final = 0.25
"""Seconds after which the next address is tried as well."""

NAMES: Final = NameLookups()

_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR})
"""What the system says of a connection that is being made."""


async def connect(
    connection: Connection, tls: ssl.SSLContext | None, timeout: float | None
) -> None:
    """Connect within `timeout` seconds. Raises `ConnectTimeout` or `ConnectError`."""
    deadline = Deadline()
    connecting = _connect(connection, tls)
    try:
        if timeout is None:
            await connecting
        else:
            await deadline.wait(connecting, "connect", timeout)
    except DeadlineExceeded:
        connection.abort()
        raise ConnectTimeout(f"not connected after {timeout} s") from None
    except OSError as error:
        connection.abort()
        raise ConnectError(str(error)) from error
    except ExceptionGroup as errors:
        raise ConnectError(str(errors)) from errors
    except BaseException:
        connection.abort()
        raise
    finally:
        deadline.close()


async def _connect(connection: Connection, tls: ssl.SSLContext | None) -> None:
    _, host, port = connection.origin
    sock = await connect_first(await resolve(host, port))
    # A certificate never names the dot of the root zone.
    name = None if tls is None else host.rstrip(".")
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=name)


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a host, in the order to try them."""
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        family = socket.AF_INET if literal.version == 4 else socket.AF_INET6
        return [(family, (host, port))]
    return interleave(await NAMES.find(host, port))


def interleave(addresses: list[Address]) -> list[Address]:
    """The same addresses with alternating families, beginning with the first one's."""
    unique = list(dict.fromkeys(addresses))
    first = [address for address in unique if address[0] == unique[0][0]]
    other = [address for address in unique if address[0] != unique[0][0]]
    pairs = chain.from_iterable(zip_longest(first, other))
    return [address for address in pairs if address is not None]


async def connect_first(addresses: list[Address]) -> socket.socket:
    """The first socket that connects. Raises the one error, or all of them as a group."""
    if len(addresses) == 1:
        return await _connect_to(addresses[0])
    waiting = iter(addresses)
    running: set[asyncio.Task[socket.socket]] = set()
    errors: list[OSError] = []
    try:
        while True:
            address = next(waiting, None)
            if address is not None:
                running.add(asyncio.create_task(_connect_to(address)))
            elif not running:
                break
            done, running = await asyncio.wait(
                running,
                timeout=None if address is None else HEAD_START,
                return_when=asyncio.FIRST_COMPLETED,
            )
            winner: socket.socket | None = None
            for task in done:
                error = task.exception()
                if isinstance(error, OSError):
                    errors.append(error)
                elif winner is None:
                    winner = task.result()
                else:
                    task.result().close()
            if winner is not None:
                return winner
    finally:
        for task in running:
            task.add_done_callback(_close_late_socket)
            task.cancel()
    # A reader of the group looks at the last error first. A refusal says more about an upstream
    # than a missing route to another of its addresses.
    errors.sort(key=lambda error: isinstance(error, ConnectionError))
    raise ExceptionGroup("no address could be connected to", errors)


async def _connect_to(address: Address) -> socket.socket:
    family, sockaddr = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "win32":
            # Its loop can't wait for a socket, and does not look up an address.
            await asyncio.get_running_loop().sock_connect(sock, sockaddr)
        else:
            await _connect_socket(sock, sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_socket(sock: socket.socket, sockaddr: Any) -> None:
    """Do what `sock_connect` of the loop does, but without a lookup of what is an address."""
    error = sock.connect_ex(sockaddr)
    if error in _UNDER_WAY:
        loop = asyncio.get_running_loop()
        connected: asyncio.Future[None] = loop.create_future()
        loop.add_writer(sock, _settle, connected)
        try:
            await connected
        finally:
            loop.remove_writer(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _close_late_socket(task: "asyncio.Task[socket.socket]") -> None:
    """Close the socket of a connection that is no longer needed."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
