"""The client of the benchmark: one request after another, many at once, or many streams."""

import asyncio
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic_ns, perf_counter
from typing import Any, Final

from tests.benchmarks.loop import run

WRK: Final = shutil.which("wrk")
SENT: Final = re.compile(rb"@(\d+)@")
DELTA: Final = b"content_block_delta\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
HEADERS: Final = {
    "host": "127.0.0.1",
    "x-api-key": "benchmark-key",
    "content-type": "application/json",
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
    "user-agent": "claude-cli/2.1.330 (external, sdk-cli)",
    "x-app": "cli",
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
}


def body(scene: str, size: int = 2000) -> bytes:
    """A request of about that many bytes, for a scene of the upstream."""
    stream = "false" if scene in ("whole", "refuse") else "true"
    head = f'{{"model":"{scene}","max_tokens":1024,"stream":{stream},"messages":['
    turn = '{"role":"user","content":"%s"},{"role":"assistant","content":"%s"},'
    end = '{"role":"user","content":"go on"}]}'
    text = "what a \\n conversation consists of " * 12
    whole = turn % (text, text)
    turns = max(0, (size - len(head) - len(end))) // len(whole)
    rest = size - len(head) - len(end) - turns * len(whole) - 60
    filler = turn % ("x" * max(0, rest), "y")
    return (head + whole * turns + filler + end).encode()


def request(content: bytes, more: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a request, with more headers perhaps."""
    headers = {**HEADERS, **(more or {})}
    lines = ["POST /v1/messages HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"content-length: {len(content)}", "", ""]).encode() + content


def latencies(port: int, wire: bytes, count: int) -> list[float]:
    """Seconds that each of so many requests took, one after the other on one connection."""
    times = []
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            began = perf_counter()
            sock.sendall(wire)
            data = sock.recv(65536)
            while not _is_whole(data):
                more = sock.recv(65536)
                if not more:
                    raise ConnectionError(f"closed after {data[:200]!r}")
                data += more
            times.append(perf_counter() - began)
            if not data.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(f"answered {data[:300]!r}")
    return times


def _is_whole(data: bytes) -> bool:
    head, blank, content = data.partition(b"\r\n\r\n")
    if not blank:
        return False
    at = head.lower().find(b"\r\ncontent-length:")
    if at < 0:
        return content.endswith(LAST_CHUNK)
    return len(content) >= int(head[at + 17 :].split(b"\r\n", 1)[0])


def requests_a_second(port: int, content: bytes, concurrency: int, seconds: float) -> float:
    """How many whole answers come in a second; by wrk where there is one."""
    if WRK is None:
        return run(_requests_a_second(port, request(content), concurrency, seconds))
    with TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        (Path(folder) / "body").write_bytes(content)
        headers = "".join(
            f'wrk.headers["{name}"] = "{value}"\n'
            for name, value in HEADERS.items()
            if name != "host"
        )
        script.write_text(
            f'wrk.method = "POST"\nwrk.body = io.open("{folder}/body", "rb"):read("*a")\n{headers}'
        )
        where = f"http://127.0.0.1:{port}/v1/messages"
        command = [WRK, "-t1", f"-c{concurrency}", f"-d{seconds:.0f}s", "-s", str(script), where]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise ConnectionError(done.stdout)
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


async def _requests_a_second(port: int, wire: bytes, concurrency: int, seconds: float) -> float:
    count = 0
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds

    async def one_after_the_other() -> None:
        nonlocal count
        while loop.time() < end:
            await exchange(loop, port, wire, lambda _data: None, connections)
            count += 1

    connections: list[Reader] = []
    await asyncio.gather(*(one_after_the_other() for _ in range(concurrency)))
    for connection in connections:
        connection.close()
    return count / seconds


@dataclass
class Streamed:
    """What a number of streams came to."""

    events: int = 0
    seconds: float = 0.0
    ages: list[float] = field(default_factory=list)
    """Seconds that each event was under way."""
    first_bytes: list[float] = field(default_factory=list)
    """Seconds from each request to the first byte of its answer."""


def streams(port: int, wire: bytes, concurrency: int, rounds: int = 1) -> Streamed:
    """So many streams at once, so many times."""
    return run(_streams(port, wire, concurrency, rounds))


async def _streams(port: int, wire: bytes, concurrency: int, rounds: int) -> Streamed:
    result = Streamed()
    loop = asyncio.get_running_loop()
    connections: list[Reader] = []

    async def one_after_the_other() -> None:
        for _ in range(rounds):
            began, first = perf_counter(), True

            def take(data: bytes) -> None:
                nonlocal first
                if first:
                    result.first_bytes.append(perf_counter() - began)  # noqa: B023
                    first = False
                now = monotonic_ns()
                ages = [(now - int(sent)) / 1e9 for sent in SENT.findall(data)]
                result.ages.extend(ages)
                result.events += data.count(DELTA)

            await exchange(loop, port, wire, take, connections)

    began = perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(concurrency)))
    result.seconds = perf_counter() - began
    for connection in connections:
        connection.close()
    return result


class Reader(asyncio.Protocol):
    """A connection that passes on what arrives until an answer is complete."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.take: Callable[[bytes], None] = lambda _data: None
        self.whole: asyncio.Future[None] | None = None
        self._head = b""
        self._left: int | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = transport

    def close(self) -> None:
        """End it."""
        self.transport.close()

    def begin(self, take: Callable[[bytes], None]) -> "asyncio.Future[None]":
        """The next answer is about to come."""
        self._head, self._left, self._tail = b"", None, b""
        self.take = take
        self.whole = asyncio.get_running_loop().create_future()
        return self.whole

    def data_received(self, data: bytes) -> None:
        """More of an answer."""
        self.take(data)
        if self._left is None:
            self._head += data
            head, blank, data = self._head.partition(b"\r\n\r\n")
            if not blank:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self._fail(ConnectionError(f"answered {self._head[:300]!r}"))
                return
            at = head.lower().find(b"\r\ncontent-length:")
            self._left = -1 if at < 0 else int(head[at + 17 :].split(b"\r\n", 1)[0])
        if self._left < 0:
            self._tail = (self._tail + data)[-5:]
            done = self._tail == LAST_CHUNK
        else:
            self._left -= len(data)
            done = self._left <= 0
        if done and self.whole is not None and not self.whole.done():
            self.whole.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by the other side, perhaps too early."""
        self._fail(exc or ConnectionError("closed"))

    def _fail(self, error: Exception) -> None:
        if self.whole is not None and not self.whole.done():
            self.whole.set_exception(error)


async def exchange(
    loop: asyncio.AbstractEventLoop,
    port: int,
    wire: bytes,
    take: Callable[[bytes], None],
    idle: list[Reader],
) -> None:
    """One request and its whole answer, on a connection that is idle or new."""
    reader = idle.pop() if idle else (await loop.create_connection(Reader, "127.0.0.1", port))[1]
    whole = reader.begin(take)
    reader.transport.write(wire)
    await whole
    idle.append(reader)


async def open_streams(port: int, wire: bytes, count: int, while_open: Callable[[], None]) -> int:
    """Open so many streams, and keep them while something is looked at; how many did begin."""
    loop = asyncio.get_running_loop()
    begun = 0

    async def one() -> Reader:
        nonlocal begun
        _, reader = await loop.create_connection(Reader, "127.0.0.1", port)
        first = asyncio.Event()
        reader.begin(lambda _data: first.set())
        reader.transport.write(wire)
        await first.wait()
        begun += 1
        return reader

    readers = []
    for batch in range(0, count, 50):
        readers += await asyncio.gather(*(one() for _ in range(min(50, count - batch))))
    while_open()
    for reader in readers:
        if reader.whole is not None:
            reader.whole.cancel()
        reader.close()
    return begun
