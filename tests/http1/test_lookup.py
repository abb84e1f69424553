"""Names that are looked up on threads of their own: one that hangs delays nothing else."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from ccfallback.http1 import ConnectError, ConnectionPool, lookup
from ccfallback.http1.lookup import MOST_THREADS, NameLookups
from ccfallback.policy.outcome import Fault
from ccfallback.server.upstream import describe_error
from tests.network import OK, RawUpstream, always, ask, post, until

AGAIN = socket.gaierror(socket.EAI_AGAIN, "no answer")
FOUND = [(socket.AF_INET, ("192.0.2.1", 80))]


class NameServers:
    """Every lookup of a name below `.test` hangs until the test says what it comes to."""

    def __init__(self) -> None:
        self._look_up = socket.getaddrinfo
        self._told = threading.Condition()
        self._results: dict[int, str | OSError] = {}
        self.asked: list[str] = []

    def look_up(self, host: str, port: int, *arguments: Any, **more: Any) -> Any:
        """What takes the place of `socket.getaddrinfo`."""
        if not host.endswith(".test"):
            return self._look_up(host, port, *arguments, **more)
        with self._told:
            number = len(self.asked)
            self.asked.append(host)
            assert self._told.wait_for(lambda: number in self._results, timeout=60)
            result = self._results[number]
        if isinstance(result, OSError):
            raise result
        return self._look_up(result, port, *arguments, **more)

    def tell(self, number: int, result: str | OSError) -> None:
        """Let one lookup end, counted from 0."""
        with self._told:
            self._results[number] = result
            self._told.notify_all()

    def stop(self) -> None:
        """Let all of them end."""
        for number in range(len(self.asked)):
            self.tell(number, AGAIN)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    servers = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", servers.look_up)
    yield servers
    servers.stop()


def lookup_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lookup"]


def has_asked(servers: NameServers, count: int) -> bool:
    return len(servers.asked) == count


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lookup is shared for any time."""
    monkeypatch.setattr(lookup, "SHARED_SECONDS", 0.0)


async def test_names_that_hang_delay_neither_another_name_nor_an_address(
    servers: NameServers,
) -> None:
    async with RawUpstream(always(OK)) as upstream, ConnectionPool() as pool:
        hung = [
            asyncio.create_task(pool.send(post(f"http://host-{number}.test:{upstream.port}/")))
            for number in range(100)
        ]
        await until(lambda: len(servers.asked) == 100)
        for host in ("localhost", "127.0.0.1"):
            assert await ask(pool, f"http://{host}:{upstream.port}/") == (200, b"ok")
        assert not any(each.done() for each in hung)
        for each in hung:
            each.cancel()
        await asyncio.wait(hung)


async def test_requests_to_one_host_share_its_lookup(servers: NameServers) -> None:
    names = NameLookups()
    waiting = [asyncio.create_task(names.find("one.test", 80)) for _ in range(20)]
    other = asyncio.create_task(names.find("two.test", 80))
    await until(lambda: len(servers.asked) == 2)
    # One that leaves ends nothing for the others.
    waiting.pop().cancel()
    servers.tell(servers.asked.index("one.test"), "192.0.2.1")
    assert await asyncio.gather(*waiting) == [FOUND] * 19
    assert not other.done()
    servers.tell(servers.asked.index("two.test"), "192.0.2.1")
    assert await other == FOUND
    # Nothing is kept: addresses change.
    again = asyncio.create_task(names.find("one.test", 80))
    await until(lambda: len(servers.asked) == 3)
    servers.tell(2, "192.0.2.1")
    assert await again == FOUND


async def test_each_that_waits_gets_an_error_of_its_own(servers: NameServers) -> None:
    names = NameLookups()
    waiting = [asyncio.create_task(names.find("one.test", 80)) for _ in range(2)]
    await until(lambda: len(servers.asked) == 1)
    servers.tell(0, AGAIN)
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(error) for error in errors] == [str(AGAIN)] * 2
    assert len({id(error) for error in (*errors, AGAIN)}) == 3


async def test_a_lookup_that_takes_long_is_not_the_last(
    servers: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is back, and the first lookup still waits for a lost answer."""
    impatient(monkeypatch)
    names = NameLookups()
    first = asyncio.create_task(names.find("one.test", 80))
    await until(lambda: len(servers.asked) == 1)
    second = asyncio.create_task(names.find("one.test", 80))
    await until(lambda: len(servers.asked) == 2)
    servers.tell(1, "192.0.2.1")
    assert (await first, await second) == (FOUND, FOUND)
    # What the first one comes to changes nothing for those that come later.
    third = asyncio.create_task(names.find("one.test", 80))
    await until(lambda: len(servers.asked) == 3)
    servers.tell(0, AGAIN)
    await until(lambda: len(lookup_threads()) == 1)
    assert not third.done()
    servers.tell(2, "192.0.2.1")
    assert await third == FOUND


@pytest.mark.parametrize("last", ["192.0.2.1", AGAIN])
async def test_an_error_is_out_of_date_while_a_later_lookup_runs(
    servers: NameServers, monkeypatch: pytest.MonkeyPatch, last: str | OSError
) -> None:
    impatient(monkeypatch)
    names = NameLookups()
    waiting = []
    for number in range(MOST_THREADS + 3):
        waiting.append(asyncio.create_task(names.find("one.test", 80)))
        asked = min(number + 1, MOST_THREADS)
        await until(lambda asked=asked: len(servers.asked) == asked)  # type: ignore[misc]
    for number in range(MOST_THREADS - 1):
        servers.tell(number, AGAIN)
    await until(lambda: len(lookup_threads()) == 1)
    assert not any(each.done() for each in waiting)
    servers.tell(MOST_THREADS - 1, last)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert len(servers.asked) == MOST_THREADS
    if last is AGAIN:
        assert [type(each) for each in results] == [socket.gaierror] * len(waiting)
    else:
        assert results == [FOUND] * len(waiting)


async def test_without_a_thread_the_fault_is_this_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    names = NameLookups()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="no thread") as caught:
        await names.find("one.test", 80)
    error = ConnectError(str(caught.value))
    error.__cause__ = caught.value
    assert describe_error(error)[0] is Fault.OWN_MACHINE
    monkeypatch.undo()
    assert (await names.find("127.0.0.1", 80))[0][1] == ("127.0.0.1", 80)


HANGS = """
import asyncio, socket, threading
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
from ccfallback.http1.connect import resolve

async def main():
    try:
        async with asyncio.timeout(0.01):
            await resolve("hung.test", 80)
    except TimeoutError:
        print("left")

asyncio.run(main())
"""


def test_a_lookup_that_hangs_does_not_keep_the_process_alive() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [b"left"], b"")


async def test_a_thread_that_can_not_start_hides_no_answer_of_another(
    servers: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    names = NameLookups()
    first = asyncio.create_task(names.find("a.test", 80))
    await until(lambda: len(servers.asked) == 1)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        others = [asyncio.create_task(names.find("a.test", 80)) for _ in range(MOST_THREADS)]
        await asyncio.sleep(0)
    servers.tell(0, AGAIN)
    for each in (first, *others):
        with pytest.raises(socket.gaierror):
            await each
    # The name is looked up again.
    again = asyncio.create_task(names.find("a.test", 80))
    await until(lambda: len(servers.asked) == 2)
    servers.tell(1, "192.0.2.1")
    assert await again == FOUND


async def test_lookups_that_never_end_are_given_up(
    servers: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    names = NameLookups()
    hung = []
    for number in range(1, MOST_THREADS + 1):
        hung.append(asyncio.create_task(names.find("a.test", 80)))
        await until(partial(has_asked, servers, number))
    monkeypatch.setattr(lookup, "HOPELESS_SECONDS", 0.0)
    again = asyncio.create_task(names.find("a.test", 80))
    await until(lambda: len(servers.asked) == MOST_THREADS + 1)
    servers.tell(MOST_THREADS, "192.0.2.1")
    assert await again == FOUND
    servers.tell(0, "192.0.2.1")
    assert await hung[0] == FOUND
    assert not names._running


async def test_an_unforeseen_error_of_a_lookup_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(socket, "getaddrinfo", broken)
    with pytest.raises(socket.gaierror, match="odd"):
        await NameLookups().find("a.test", 80)
