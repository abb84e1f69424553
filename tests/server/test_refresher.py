"""One look and one load serve every request that had arrived by then, and no later one."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

import pytest

from ccfallback.config.model import Config, Server
from ccfallback.server import refresher as module
from ccfallback.server.live_config import LiveConfig
from ccfallback.server.record import Record, Recorder
from ccfallback.server.refresher import Refresher
from ccfallback.server.serial_executor import SerialExecutor


class Source:
    """A number that another process changes, and a copy of it; counts looks and loads."""

    def __init__(self, *, looks_wait: bool = False) -> None:
        self.now = self.copy = 1
        self.looks = self.loads = self.late = 0
        self.looks_wait = looks_wait
        self.may_load = threading.Event()
        self.may_load.set()
        self.loading = threading.Event()
        self.executor = SerialExecutor("of a test")
        self.refresher = Refresher(
            self.executor,
            is_current=self._is_current,
            load=self._load,
            take=self._take,
            on_late=self._count_late,
        )

    def _is_current(self) -> bool:
        self.looks += 1
        return not self.looks_wait and self.copy == self.now

    def _load(self) -> int:
        self.loads += 1
        now = self.now
        self.loading.set()
        assert self.may_load.wait(10)
        return now

    def _take(self, loaded: int) -> bool:
        self.copy = loaded
        return True

    def _count_late(self) -> None:
        self.late += 1


def run(story: Callable[[Source], Awaitable[None]], source: Source | None = None) -> None:
    async def with_source() -> None:
        made = source or Source()
        try:
            await story(made)
        finally:
            made.may_load.set()
            made.executor.close()

    asyncio.run(with_source())


async def reached(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)
    event.clear()


def test_requests_that_arrived_together_share_a_look() -> None:
    async def story(source: Source) -> None:
        arrived = [monotonic() for _ in range(3)]
        assert [source.refresher.is_stale(moment) for moment in arrived] == [False] * 3
        assert source.looks == 1

    run(story)


def test_a_later_request_looks_again() -> None:
    async def story(source: Source) -> None:
        assert not source.refresher.is_stale(monotonic())
        source.now = 2
        assert source.refresher.is_stale(monotonic())
        assert source.refresher.is_stale()
        await source.refresher.refresh(monotonic())
        assert source.copy == 2
        assert not source.refresher.is_stale(monotonic())

    run(story)


def test_requests_that_arrived_before_a_load_share_it() -> None:
    async def story(source: Source) -> None:
        source.may_load.clear()
        first = asyncio.create_task(source.refresher.refresh(monotonic()))
        await reached(source.loading)
        source.now = 2
        arrived = monotonic()
        later = [asyncio.create_task(source.refresher.refresh(arrived)) for _ in range(5)]
        source.may_load.set()
        await asyncio.gather(first, *later)
        assert (source.copy, source.loads) == (2, 2)

    # Here no look ever says that the copy is current, as on a network file system.
    run(story, Source(looks_wait=True))


def test_a_load_of_a_cancelled_request_is_repeated_by_the_next() -> None:
    async def story(source: Source) -> None:
        source.now = 2
        source.may_load.clear()
        first = asyncio.create_task(source.refresher.refresh(monotonic()))
        await reached(source.loading)
        first.cancel()
        await asyncio.wait([first])
        source.may_load.set()
        assert source.refresher.is_stale(monotonic())
        await source.refresher.refresh(monotonic())
        assert source.copy == 2

    run(story)


def test_while_a_load_hangs_requests_continue_with_the_old_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)

    async def story(source: Source) -> None:
        source.now = 2
        source.may_load.clear()
        await asyncio.gather(*(source.refresher.refresh(monotonic()) for _ in range(3)))
        assert (source.copy, source.loads, source.late) == (1, 1, 1)
        # Now the load is known to hang, so a request does not even yield to the event loop.
        refresh = source.refresher.refresh(monotonic())
        with pytest.raises(StopIteration):
            refresh.send(None)
        source.may_load.set()
        async with asyncio.timeout(10):
            while source.copy == 1:
                await source.refresher.refresh(monotonic())
                await asyncio.sleep(0)

    run(story)


class ConfigSource:
    """A configuration whose port is the number of its version; loads when it may."""

    path = Path("config.toml")

    def __init__(self) -> None:
        self.version = 1
        self.loads = 0
        self.loading = threading.Event()
        self.may_load = threading.Event()
        self.may_load.set()

    def is_still(self, version: object) -> bool:
        return version == self.version

    def stamp(self) -> int:
        return self.version

    def load(self, *, must_exist: bool = False) -> Config:
        self.loads += 1
        config = Config(server=Server(port=self.version))
        self.loading.set()
        assert self.may_load.wait(10)
        return config


async def test_no_request_gets_the_old_configuration_while_the_new_one_is_loaded() -> None:
    source = ConfigSource()
    live = LiveConfig(source, Recorder(None))
    source.loading.clear()
    source.version = 2
    source.may_load.clear()
    first = asyncio.create_task(live.refresh(monotonic()))
    await reached(source.loading)
    assert live.is_stale(monotonic())
    second = asyncio.create_task(live.refresh(monotonic()))
    await asyncio.sleep(0)
    source.may_load.set()
    assert [(await task).server.port for task in (first, second)] == [2, 2]
    assert source.loads == 2
    live.close()


async def test_a_configuration_file_that_hangs_is_reported_and_the_old_one_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    records: list[Record] = []
    recorder = Recorder(None)
    recorder.listeners.append(records.append)

    source = ConfigSource()
    live = LiveConfig(source, recorder)
    source.version = 2
    source.may_load.clear()
    assert (await live.refresh(monotonic())).server.port == 1
    assert [record.event for record in records] == ["config.error"]
    source.may_load.set()
    live.close()
