"""A stream that is open when the server is to stop: drained, cut, or left to the next server."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import msgspec
import pytest

from ccfallback.paths import Paths
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Received, Script, ScriptedUpstream
from ccfallback.state import server_file
from tests.server.test_serve import ASK, start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")

EVENTS = scripted.events_of(msgspec.json.encode(scripted.message("to the very end")))
BEGUN = EVENTS[:3]


class Held:
    """An answer that stops in its middle until it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    @property
    def script(self) -> Script:
        async def rest(_request: Received, connection: Connection) -> None:
            # The server of the test may end before the answer does.
            while not self.go_on.is_set() and not connection.stopping.is_set():
                await asyncio.sleep(0.01)
            for event in EVENTS[3:]:
                await connection.chunk(event)

        return scripted.stream(BEGUN, then=rest)


@contextmanager
def serving(paths: Paths, port: str = "0") -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`ccfallback serve`, surely ended."""
    process, url = start(paths, "--port", port)
    try:
        yield process, url
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def asked(url: str) -> Iterator[tuple[Iterator[bytes], bytes]]:
    """An open stream, and what has come of it."""
    with httpx.stream("POST", f"{url}/v1/messages", json=ASK, timeout=20) as answer:
        parts = answer.iter_bytes()
        yield parts, next(parts)


def configure(paths: Paths, upstream: ScriptedUpstream) -> None:
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(f'[primary]\nbase_url = "{upstream.url}"\n')


def stops_listening(url: str) -> None:
    """Wait until no connection is accepted there."""
    port = int(url.rpartition(":")[2])
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return
    raise AssertionError("it still listens")


@pytest.mark.usefixtures("traced_processes")
def test_an_open_stream_is_drained_to_its_end(
    paths: Paths, upstream: Callable[..., ScriptedUpstream]
) -> None:
    held = Held()
    configure(paths, upstream(held.script))
    with serving(paths) as (process, url):
        with asked(url) as (parts, text):
            process.terminate()
            stops_listening(url)
            assert process.poll() is None
            held.go_on.set()
            text += b"".join(parts)
        assert process.wait(20) == 0
    assert text == b"".join(EVENTS)
    records = [msgspec.json.decode(line) for line in paths.log.read_bytes().splitlines()]
    assert [r["event"] for r in records if r["event"].startswith("request.")][-1] == (
        "request.complete"
    )
    assert records[-1]["event"] == "server.stop"


HANG_UP = getattr(signal, "SIGHUP", signal.SIGTERM)
"""What a terminal sends when it is closed; the tests are skipped where there is none."""

hangs_up = pytest.mark.skipif(
    signal.getsignal(HANG_UP) is signal.SIG_IGN, reason="the tests themselves ignore SIGHUP"
)


@hangs_up
@pytest.mark.parametrize(
    "numbers", [(HANG_UP, HANG_UP), (signal.SIGTERM, HANG_UP), (HANG_UP, signal.SIGTERM)]
)
def test_a_closed_terminal_cuts_off_no_stream(
    paths: Paths, upstream: Callable[..., ScriptedUpstream], numbers: tuple[signal.Signals, ...]
) -> None:
    """The system sends its signal, and so does the shell; a session manager may add SIGTERM."""
    held = Held()
    configure(paths, upstream(held.script))
    with serving(paths) as (process, url):
        with asked(url) as (parts, text):
            for number in numbers:
                process.send_signal(number)
                stops_listening(url)
            held.go_on.set()
            text += b"".join(parts)
        assert process.wait(20) == 0
        assert server_file.read(paths.server) is None
    assert text == b"".join(EVENTS)


@pytest.mark.usefixtures("traced_processes")
def test_a_server_that_ignores_the_end_of_its_terminal_serves_on(
    paths: Paths, upstream: Callable[..., ScriptedUpstream]
) -> None:
    configure(paths, upstream(scripted.reply("still here")))
    # As `nohup` does it.
    before = signal.signal(HANG_UP, signal.SIG_IGN)
    try:
        with serving(paths) as (process, url):
            process.send_signal(HANG_UP)
            answer = httpx.post(f"{url}/v1/messages", json={**ASK, "stream": False})
            assert answer.json()["content"][0]["text"] == "still here"
            process.terminate()
            assert process.wait(20) == 0
    finally:
        signal.signal(HANG_UP, before)


@pytest.mark.usefixtures("traced_processes")
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_server_at_once(
    paths: Paths, upstream: Callable[..., ScriptedUpstream], second: signal.Signals
) -> None:
    configure(paths, upstream(Held().script))
    with serving(paths) as (process, url):
        with asked(url) as (parts, _):
            process.terminate()
            stops_listening(url)
            process.send_signal(second)
            # Far less than the 30 s that a stream may take to finish.
            assert process.wait(10) == 0
            # Cut, and never ended as if it were complete.
            with pytest.raises(httpx.RemoteProtocolError):
                b"".join(parts)
        assert server_file.read(paths.server) is None
    events = [msgspec.json.decode(line)["event"] for line in paths.log.read_bytes().splitlines()]
    assert events[-1] == "server.stop"


def test_a_restart_takes_the_port_while_an_old_stream_is_drained(
    paths: Paths, upstream: Callable[..., ScriptedUpstream]
) -> None:
    held = Held()
    configure(paths, upstream(held.script, scripted.reply("from the next one")))
    with serving(paths) as (old, url), asked(url) as (parts, text):
        old.terminate()
        stops_listening(url)
        with serving(paths, url.rpartition(":")[2]) as (new, again):
            assert again == url
            answer = httpx.post(f"{url}/v1/messages", json={**ASK, "stream": False})
            assert answer.json()["content"][0]["text"] == "from the next one"
            held.go_on.set()
            text += b"".join(parts)
            assert text == b"".join(EVENTS)
            assert old.wait(20) == 0
            # The old server does not remove the new one's address.
            known = server_file.read(paths.server)
            assert known is not None
            assert known.pid == new.pid


def test_a_restart_takes_the_port_of_a_server_that_was_killed_in_a_stream(
    paths: Paths, upstream: Callable[..., ScriptedUpstream]
) -> None:
    configure(paths, upstream(Held().script, scripted.reply("from the next one")))
    with serving(paths) as (old, url), asked(url) as (parts, _):
        old.kill()
        old.wait()
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            b"".join(parts)
        with serving(paths, url.rpartition(":")[2]) as (_, again):
            answer = httpx.post(f"{again}/v1/messages", json={**ASK, "stream": False})
            assert answer.json()["content"][0]["text"] == "from the next one"


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, pytest.param(HANG_UP, marks=hangs_up)]
)
def test_a_signal_ends_the_server_from_its_announcement_on(
    paths: Paths, upstream: Callable[..., ScriptedUpstream], number: signal.Signals
) -> None:
    configure(paths, upstream(scripted.reply("never asked")))
    code = f"""
import os
from ccfallback.paths import resolve
from ccfallback.server.serve import Proxy, run

proxy = Proxy(resolve())
proxy.bind(port=0)
run(proxy, lambda: os.kill(os.getpid(), {int(number)}))
"""
    environ = {
        **os.environ,
        "CCFALLBACK_CONFIG": str(paths.config),
        "CCFALLBACK_STATE": str(paths.state),
        "CCFALLBACK_LOG_FILE": str(paths.log),
    }
    done = subprocess.run([sys.executable, "-c", code], timeout=20, check=False, env=environ)
    assert done.returncode == 0
    assert server_file.read(paths.server) is None
    events = [msgspec.json.decode(line)["event"] for line in paths.log.read_bytes().splitlines()]
    assert events[-1] == "server.stop"
