"""The sockets of a simulated world: names, connections and what can go wrong with them.

A connection is two transports. What one writes, the other's protocol gets in the next turn of the
loop; whatever takes time is decided by those who write.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar, Final

from tests.simulation.loop import PROCESS, Process, SimulatedLoop, in_process

Address = tuple[str, int]

TRUST: Final = object()
"""Stands for the TLS context: certificates are not simulated."""

FIRST_NUMBER: Final = 1_000_000
"""File descriptors count from here, so that none is a real one."""

HIGH_WATER: Final = 64 * 1024


@dataclass(frozen=True)
class Door:
    """What an attempt to connect meets."""

    error: Callable[[], OSError] | None = None
    delay: float = 0.0
    is_silent: bool = False
    """Nothing ever answers."""
    tls: Callable[[], ssl.SSLError] | None = None


OPEN: Final = Door()


class Socket:
    """A socket of the simulated network."""

    numbers: "ClassVar[count[int]]" = count(FIRST_NUMBER)
    open: ClassVar[dict[int, "Socket"]] = {}

    def __init__(self, *_: Any, address: Address = ("127.0.0.1", 0)) -> None:
        self.number = next(Socket.numbers)
        self.address = address
        self.transport: Transport | None = None
        self.door = OPEN

    def fileno(self) -> int:
        """A number that no real file has."""
        return self.number

    def getsockname(self) -> Address:
        """The own address of a listener."""
        return self.address

    def setblocking(self, _: bool) -> None:
        """Nothing here blocks."""

    def setsockopt(self, *_: Any) -> None:
        """No option matters here."""

    def close(self) -> None:
        """Close what it carries."""
        if self.transport is not None:
            self.transport.abort()


class SocketModule:
    """The module `socket`, as the product's client uses it."""

    socket = Socket

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)


class Names:
    """The lookups of the product's client, without their threads."""

    async def find(self, host: str, port: int) -> list[Any]:
        """The addresses of a host."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port)
        return [(family, address) for family, _, _, _, address in found]


async def connect_socket(sock: Any, address: Address) -> None:
    """Connect a socket of the product's client."""
    await asyncio.get_running_loop().sock_connect(sock, address)


def readability_check(number: int) -> Callable[[], object]:
    """Whether something has arrived at a socket that its protocol has not seen."""
    return lambda: number in Socket.open and _has_unread(Socket.open[number])


def _has_unread(sock: Socket) -> bool:
    return sock.transport is not None and sock.transport.arriving > 0


def listen(host: str, address: Any) -> Socket:
    """The socket of a server of the product."""
    return Socket(address=(host, address.sockaddr[1]))


class Transport(asyncio.Transport):
    """One side of a connection."""

    def __init__(self, loop: SimulatedLoop, sock: Socket, process: Process | None) -> None:
        super().__init__({"socket": sock, "peername": ("127.0.0.1", 9), "sockname": sock.address})
        self._loop = loop
        self.context = in_process(process)
        self.process = process
        self.socket = sock
        sock.transport = self
        Socket.open[sock.number] = sock
        self.peer: Transport
        self.protocol: Any = None
        self.arriving = 0
        """Deliveries that are under way to this side."""
        self.is_cut = False
        """What is written is lost, and no error shows it."""
        self._closing = False
        self._is_lost = False
        self._is_paused = False
        self._waiting: list[bytes | None] = []
        self._waiting_bytes = 0

    # -- What a protocol calls

    def write(self, data: Any) -> None:
        """Send to the other side."""
        if not self._closing and not self.is_cut and data:
            self.peer.arriving += 1
            peer = self.peer
            self._loop.call_soon(peer._deliver, bytes(data), context=peer.context)

    def writelines(self, list_of_data: Any) -> None:
        """Send several pieces at once."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """One side may end before the other."""
        return True

    def write_eof(self) -> None:
        """Send the end."""
        if not self._closing and not self.is_cut:
            self.peer.arriving += 1
            self._loop.call_soon(self.peer._deliver, None, context=self.peer.context)

    def close(self) -> None:
        """Send what was written, then the end."""
        if not self._closing:
            self.write_eof()
            self._close(None)

    def abort(self) -> None:
        """End at once."""
        self.close()

    def reset(self) -> None:
        """End at once, and let the other side see a reset."""
        if not self._closing:
            peer = self.peer
            if not self.is_cut:
                self._loop.call_soon(peer._break, context=peer.context)
            self._close(None)

    def is_closing(self) -> bool:
        """Whether it is closed or will be."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """What the other side has not read."""
        return self.peer._waiting_bytes

    def pause_reading(self) -> None:
        """Keep what arrives."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Give the protocol what has arrived."""
        self._is_paused = False
        waiting, self._waiting = self._waiting, []
        was_full, self._waiting_bytes = self._waiting_bytes > HIGH_WATER, 0
        for each in waiting:
            self.arriving += 1
            self._loop.call_soon(self._deliver, each, context=self.context)
        if was_full and not self.peer._closing:
            self._loop.call_soon(self.peer.protocol.resume_writing, context=self.peer.context)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The limits are fixed."""

    # -- What happens to it

    def _deliver(self, data: bytes | None) -> None:
        self.arriving -= 1
        if self._closing:
            return
        if self._is_paused:
            self._waiting.append(data)
            before = self._waiting_bytes
            self._waiting_bytes += len(data or b"")
            if before <= HIGH_WATER < self._waiting_bytes and not self.peer._closing:
                self._loop.call_soon(self.peer.protocol.pause_writing, context=self.peer.context)
        elif data is not None:
            self.protocol.data_received(data)
        elif not self.protocol.eof_received():
            self.close()

    def _break(self) -> None:
        if not self._closing:
            self._close(ConnectionResetError(104, "Connection reset by peer"))

    def _close(self, error: Exception | None) -> None:
        self._closing = True
        self._loop.call_soon(self._lose, error, context=self.context)

    def _lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            Socket.open.pop(self.socket.number, None)
            self.protocol.connection_lost(error)

    def vanish(self) -> None:
        """Its process is dead: the system closes the socket."""
        if not self._closing:
            self.write_eof()
            self._closing = self._is_lost = True
            Socket.open.pop(self.socket.number, None)


class Listener:
    """A server's socket, in the place of `asyncio.Server`."""

    def __init__(self, network: "Network", factory: Callable[[], Any], sock: Socket) -> None:
        self._network = network
        self.factory = factory
        self.sockets = [sock]
        self.process = PROCESS.get()

    def close(self) -> None:
        """Accept nothing more."""
        address = self.sockets[0].address
        if self._network.listeners.get(address) is self:
            del self._network.listeners[address]

    async def wait_closed(self) -> None:
        """Connections are closed elsewhere."""


@dataclass
class Network:
    """All names, listeners and connections of a world."""

    loop: SimulatedLoop
    door: Callable[[str], Door] = lambda _: OPEN
    """What a connection to a host meets now."""
    names: dict[str, str] = field(default_factory=dict)
    """The address of each host."""
    lookup: Callable[[str], OSError | None] = lambda _: None
    listeners: dict[Address, Listener] = field(default_factory=dict)
    transports: dict[Transport, None] = field(default_factory=dict)
    failed: list[tuple[str, float, float]] = field(default_factory=list)
    """Attempts to connect that failed: where, from when to when."""

    async def look_up(self, host: str, port: int) -> list[Any]:
        """The addresses of a host."""
        error = self.lookup(host)
        if error is None and host not in self.names:
            error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if error is not None:
            raise error
        address = (self.names[host], port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

    async def connect(self, sock: Socket, address: Address) -> None:
        """Connect a socket of a process."""
        began = self.loop.time()
        try:
            door = self.door(address[0])
            if door.is_silent:
                await self.loop.create_future()
            if door.delay:
                await asyncio.sleep(door.delay)
            if door.error is not None:
                raise door.error()
            if address not in self.listeners:
                raise ConnectionRefusedError(111, "Connection refused")
        except BaseException:
            self.failed.append((address[0], began, self.loop.time()))
            raise
        sock.address, sock.door = address, door

    def open(self, factory: Callable[[], Any], sock: Socket, tls: Any) -> tuple[Transport, Any]:
        """The transport and protocol of a connected socket."""
        if tls is not None and sock.door.tls is not None:
            raise sock.door.tls()
        return self.join(factory(), sock.address, sock)

    def join(
        self, protocol: Any, address: Address, sock: Socket | None = None
    ) -> tuple[Transport, Any]:
        """Connect a protocol with a listener. Raises `ConnectionRefusedError`."""
        listener = self.listeners.get(address)
        if listener is None:
            raise ConnectionRefusedError(111, "Connection refused")
        near = Transport(self.loop, sock or Socket(address=address), PROCESS.get())
        far = Transport(self.loop, Socket(address=address), listener.process)
        near.peer, far.peer = far, near
        near.protocol, far.protocol = protocol, far.context.run(listener.factory)
        self.transports[near] = self.transports[far] = None
        if len(self.transports) > 400:
            self.transports = {each: None for each in self.transports if not each.is_closing()}
        # As the system: the accepting side learns of the connection when it gets to run.
        far.context.run(far.protocol.connection_made, far)
        protocol.connection_made(near)
        return near, protocol

    def listen(self, factory: Callable[[], Any], sock: Socket) -> Listener:
        """Accept the connections of a socket."""
        if sock.address in self.listeners:
            raise OSError(98, "Address already in use")
        listener = self.listeners[sock.address] = Listener(self, factory, sock)
        return listener

    def kill(self, process: Process) -> None:
        """Close all that a process has open."""
        for address, listener in list(self.listeners.items()):
            if listener.process is process:
                del self.listeners[address]
        for transport in [each for each in self.transports if each.process is process]:
            transport.vanish()

    def open_connections(self, process: Process) -> list[Transport]:
        """The connections that a process has open."""
        return [t for t in self.transports if t.process is process and not t.is_closing()]
