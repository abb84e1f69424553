"""Connect to an upstream: name, address, TLS, and one limit for the three together.

Addresses are tried in turn, IPv6 and IPv4 alternating, each a quarter of a second after the one
before unless that failed sooner. asyncio can do so and uvloop can't, so it is done here for both.
"""

import asyncio
import ipaddress
import socket
import ssl
from itertools import chain, zip_longest
from typing import Any, Final

import httpx

from ccfallback.http1.connection import Connection

HEAD_START: Final = 0.25
"""Seconds an address has for itself before the next one is tried beside it."""

Address = tuple[int, Any]
"""A family, and an address of that family."""


async def dial(connection: Connection, tls: ssl.SSLContext | None, limit: float | None) -> None:
    """Connect within `limit` seconds. Raises `ConnectTimeout` or `ConnectError`."""
    _, host, port = connection.origin
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            sock = await connect(await resolve(host, port))
            # A certificate is never made out to a name with the root's dot.
            name = None if tls is None else host.rstrip(".")
            loop = asyncio.get_running_loop()
            await loop.create_connection(
                lambda: connection, sock=sock, ssl=tls, server_hostname=name
            )
    except OSError as error:
        connection.abort()
        if scope.expired():
            raise httpx.ConnectTimeout(f"not connected after {limit} s") from None
        raise httpx.ConnectError(str(error)) from error
    except ExceptionGroup as errors:
        raise httpx.ConnectError(str(errors)) from errors
    except BaseException:
        connection.abort()
        raise


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a host, in the order to try them."""
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        family = socket.AF_INET if literal.version == 4 else socket.AF_INET6
        return [(family, (host, port))]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, f"no host can have this name: {error}") from None
    return interleave([(family, address) for family, _, _, _, address in found])


def interleave(addresses: list[Address]) -> list[Address]:
    """The same addresses, the families alternating, the first one's first."""
    unique = list(dict.fromkeys(addresses))
    first = [address for address in unique if address[0] == unique[0][0]]
    other = [address for address in unique if address[0] != unique[0][0]]
    pairs = chain.from_iterable(zip_longest(first, other))
    return [address for address in pairs if address is not None]


async def connect(addresses: list[Address]) -> socket.socket:
    """The first socket that connects. Raises the one error, or all of them as a group."""
    if len(addresses) == 1:
        return await _connect(addresses[0])
    waiting = iter(addresses)
    running: set[asyncio.Task[socket.socket]] = set()
    errors: list[OSError] = []
    try:
        while True:
            address = next(waiting, None)
            if address is not None:
                running.add(asyncio.create_task(_connect(address)))
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
            task.add_done_callback(_discard)
            task.cancel()
    # Whoever looks for the cause looks at the last one first: a refusal is an answer, and says
    # more than that there is no way to another address.
    errors.sort(key=lambda error: isinstance(error, ConnectionError))
    raise ExceptionGroup("no address could be connected to", errors)


async def _connect(address: Address) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _discard(task: "asyncio.Task[socket.socket]") -> None:
    """Close the socket of a connection that is not needed any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
