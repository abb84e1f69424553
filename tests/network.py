"""For tests over real sockets: event loops of both kinds, raw upstreams, certificates, a stage.

`RawUpstream` runs in the test's own loop and knows no HTTP; for scripted answers of a provider
see `ccfallback.simulator`.
"""

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from inspect import iscoroutinefunction, signature
from pathlib import Path
from time import time
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import pytest

from ccfallback.files import locked
from ccfallback.http1 import ConnectionPool, Headers, Origin, Request, Response
from ccfallback.paths import Paths
from ccfallback.policy.breaker import BreakerState
from ccfallback.simulator.faults import ScriptedFault, UnreachableAddresses
from ccfallback.simulator.scripted import Connection, ScriptedUpstream
from ccfallback.simulator.scripted_format import ANTHROPIC
from ccfallback.state.file import StateFile
from tests.conftest import RunningProxy

Runs = Callable[[Callable[[], Coroutine[Any, Any, Any]]], None]
"""Runs a story in an event loop and fails when it leaves something behind."""

LIMIT = 60
"""Seconds for one story."""


def loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop
    }
    try:
        import uvloop
    except ImportError:
        return factories
    return {**factories, "uvloop": uvloop.new_event_loop}


FACTORIES = loop_factories()


@pytest.fixture(params=FACTORIES)
def run(request: pytest.FixtureRequest) -> Runs:
    """Runs a story; fails when a task is left or an exception was not handled."""
    complaints: list[dict[str, Any]] = []

    async def watched(story: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(LIMIT):
            await story()
        for _ in range(20):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def run_story(story: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        with asyncio.Runner(loop_factory=FACTORIES[request.param]) as runner:
            runner.run(watched(story))
        assert not complaints, complaints

    return run_story


def pytest_pycollect_makeitem(name: str, obj: Any) -> None:
    """Let a test that is a coroutine function run as a story."""
    if name.startswith("test_") and iscoroutinefunction(obj):
        pytest.mark.usefixtures("run")(obj)


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run such a test."""
    if not iscoroutinefunction(pyfuncitem.obj):
        return None
    given = {name: pyfuncitem.funcargs[name] for name in signature(pyfuncitem.obj).parameters}
    run_story: Any = pyfuncitem.funcargs["run"]
    run_story(lambda: pyfuncitem.obj(**given))
    return True


@dataclass(frozen=True)
class Certificates:
    """A folder with an authority and what it signed."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    def client(self) -> ssl.SSLContext:
        """A context that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.authority))

    def server(self, name: str) -> ssl.SSLContext:
        """A context that presents the certificate of that name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / "key.pem")
        return context


CONFIG = """
[ca]
default_ca = own
[own]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
x509_extensions = leaf
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
[leaf]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
[req]
distinguished_name = names
[names]
"""


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, and its certificates `good`, `other` (another name) and `expired`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("makes certificates with the openssl command")
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "openssl.cnf").write_text(CONFIG)
    (folder / "index.txt").touch()
    (folder / "serial").write_text("1000\n")

    def call(*arguments: str) -> None:
        done = subprocess.run(
            [openssl, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    call("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem")
    # From 3.13 on, Python's default context refuses certificates without key identifiers.
    constraints = (
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=critical,keyCertSign,cRLSign",
        "subjectKeyIdentifier=hash",
    )
    call(
        *("req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN=authority", "-days", "2"),
        *("-config", "openssl.cnf", "-out", "ca.pem"),
        *(word for constraint in constraints for word in ("-addext", constraint)),
    )
    here = "DNS:localhost,IP:127.0.0.1,IP:::1"
    for name, names, until in (
        ("good", here, "20491231000000Z"),
        ("other", "DNS:other.test", "20491231000000Z"),
        ("expired", here, "20200102000000Z"),
    ):
        call(
            *("req", "-new", "-key", "key.pem", "-subj", f"/CN={name}", "-config", "openssl.cnf"),
            *("-addext", f"subjectAltName={names}", "-out", f"{name}.csr"),
        )
        call(
            *("ca", "-batch", "-notext", "-config", "openssl.cnf", "-cert", "ca.pem"),
            *("-keyfile", "key.pem", "-startdate", "20200101000000Z", "-enddate", until),
            *("-in", f"{name}.csr", "-out", f"{name}.pem"),
        )
    return Certificates(folder)


PROC = Path("/proc/self/fd")
HAS_PROC = PROC.is_dir()
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Peer(Connection):
    """The upstream's side of one connection, which a test writes byte by byte."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(reader, writer)
        self.number = number

    async def request(self) -> bytes:
        """One request, whole; raises `IncompleteReadError` when none comes."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        body = b""
        for line in head.lower().split(b"\r\n"):
            name, _, value = line.partition(b": ")
            if name == b"content-length":
                body = await self.reader.readexactly(int(value))
            elif name == b"transfer-encoding":
                while not body.endswith(b"0\r\n\r\n"):
                    body += await self.reader.readuntil(b"\r\n")
        return head + body

    async def send(self, *segments: bytes) -> None:
        """Send, each segment on its own."""
        for segment in segments:
            await self.write(segment)

    async def closed(self) -> None:
        """Wait until the client has closed."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass


class RawUpstream:
    """Hands every connection to `answer`, and closes it when that returns."""

    def __init__(
        self,
        answer: Callable[[Peer], Awaitable[None]],
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._answer = answer
        self._host = host
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self.port}/"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._answer(Peer(self.connections, reader, writer))
            writer.close()
            await writer.wait_closed()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # The client left, or the test is over.
            pass
        finally:
            # asyncio's abort() fails once a transport that closes has written its last bytes.
            with suppress(AttributeError):
                writer.transport.abort()
            self._tasks.discard(task)


def always(*segments: bytes) -> Callable[[Peer], Awaitable[None]]:
    """Give every request the same response."""

    async def answer(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*segments)

    return answer


def once(*segments: bytes, reset: bool = False) -> Callable[[Peer], Awaitable[None]]:
    """Give one response and close."""

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.send(*segments)
        if reset:
            await asyncio.sleep(0.05)
            peer.reset()

    return answer


def request(
    method: str, url: str, headers: Headers | None = None, content: Any = b"", target: bytes = b"/"
) -> Request:
    """A request to the server at a URL."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return Request(
        Origin(parts.scheme, parts.hostname or "", port), method, target, headers or [], content
    )


def post(url: str, content: Any = b"hello") -> Request:
    return request("POST", url, content=content)


async def pieces_of(response: Response) -> AsyncIterator[bytes]:
    """The body of a response, as it is read."""
    while piece := await response.read():
        yield piece


async def body_of(response: Response) -> bytes:
    """The whole body, then closed."""
    try:
        return b"".join([piece async for piece in pieces_of(response)])
    finally:
        await response.aclose()


async def ask(pool: ConnectionPool, url: str, content: Any = b"hello") -> tuple[int, bytes]:
    """One exchange, from request to the end of the body."""
    response = await pool.send(post(url, content))
    return response.status, await body_of(response)


async def steady(value: Callable[[], int]) -> int:
    """A number, when it has not grown for several turns of the loop."""
    last, unchanged = -1, 0
    while unchanged < 5:
        unchanged = unchanged + 1 if value() and value() == last else 0
        last = value()
        # A busy machine may stop the process, so that one wait shows nothing.
        await asyncio.sleep(0.03)
    return last


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that no event announces."""
    while not condition():
        await asyncio.sleep(0.001)


def open_sockets() -> int:
    """How many sockets this process holds."""
    count = 0
    for entry in PROC.iterdir():
        # The folder is read through a descriptor that is gone by now.
        with suppress(FileNotFoundError):
            count += str(entry.readlink()).startswith("socket:")
    return count


def refused_port(host: str = "127.0.0.1") -> int:
    """A port that refuses connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port


TOOL = {"name": "Read", "description": "reads", "input_schema": {"type": "object"}}
ASK: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 10,
    "tools": [TOOL],
    "messages": [{"role": "user", "content": "hi"}],
}
HASTY = "timeouts = { connect = 0.2, first_byte = 0.3, non_streaming = 0.3, idle = 0.3 }\n"
"""For faults that only a timeout notices; on a busy machine, it may fire for others too."""


@dataclass
class Stage:
    """A proxy in front of a provider that fails and one that is well; the faults change."""

    proxy: RunningProxy
    faulty: ScriptedUpstream
    well: ScriptedUpstream
    elsewhere: UnreachableAddresses

    def set(
        self, fault: ScriptedFault, wire_format: str, *, primary: bool, hasty: bool = True
    ) -> str:
        """Let one provider have the fault from now on; gives its name."""
        self.faulty.script(fault.script(wire_format))
        self.well.script(ANTHROPIC.works())
        url = self.elsewhere.url(fault.place, self.faulty.url)
        if primary:
            config = f'[primary]\nbase_url = "{url}"\n'
        else:
            config = (
                '[primary]\ndisabled = true\n[[providers]]\nname = "faulty"\n'
                f'base_url = "{url}"\nformat = "{wire_format}"\napi_key = "its-key"\n'
                'google.project = "p"\n'
            )
        config += HASTY if hasty else ""
        config += f'[[providers]]\nname = "well"\nbase_url = "{self.well.url}"\n'
        paths = self.proxy.paths
        paths.config.write_text(config)
        # Under its lock: the success of a moment ago may still be on its way there, with all else.
        with locked(paths.state):
            paths.state.unlink(missing_ok=True)
        self.proxy.records.clear()
        return "anthropic-primary" if primary else "faulty"

    def failed_before(self, name: str, failures: int) -> None:
        """Let a provider have failed so often in a row, long ago."""
        known = BreakerState(failures=failures, last_failure=time() - 600, reason="before")
        # Under the file's lock: the success of a moment ago may still be on its way there.
        StateFile(self.proxy.paths.state).update(lambda _: {name: known})

    def ask(self, *, stream: bool) -> httpx.Response:
        """One request, its answer read to the end."""
        return httpx.post(
            f"{self.proxy.url}/v1/messages",
            json={**ASK, "stream": stream},
            headers={"x-api-key": "users-key", "x-app": "cli"},
            timeout=30,
        )


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One for all the faults of a module."""
    folder = tmp_path_factory.mktemp("stage")
    paths = Paths(folder / "config.toml", folder / "state.json", folder / "log.jsonl")
    with (
        ScriptedUpstream() as faulty,
        ScriptedUpstream() as well,
        UnreachableAddresses() as elsewhere,
    ):
        proxy = RunningProxy(paths)
        yield Stage(proxy, faulty, well, elsewhere)
        proxy.stop()
