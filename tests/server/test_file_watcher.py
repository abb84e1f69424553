"""One look at a file serves every request that had come by then, and no other."""

import asyncio
import threading
from pathlib import Path
from time import monotonic

from ccfallback.config.model import Config, Server
from ccfallback.server.file_watcher import FileWatcher, Stamp
from ccfallback.server.live_config import LiveConfig
from ccfallback.server.record import Recorder


class File:
    """A file that counts how often it is looked at."""

    def __init__(self) -> None:
        self.now: Stamp | None = (1, 1, 1)
        self.looks = 0

    def stamp(self) -> Stamp | None:
        """Its version."""
        self.looks += 1
        return self.now


def test_requests_that_came_together_share_a_look() -> None:
    file = File()
    freshness = FileWatcher(file.stamp)
    freshness.seen = file.now
    arrived = [monotonic() for _ in range(3)]
    assert [freshness.is_stale(moment) for moment in arrived] == [False] * 3
    assert file.looks == 1


def test_a_request_that_came_later_looks_again() -> None:
    file = File()
    freshness = FileWatcher(file.stamp)
    freshness.seen = file.now
    assert not freshness.is_stale(monotonic())
    file.now = (2, 2, 2)
    assert freshness.is_stale(monotonic())
    assert freshness.is_stale()


def test_who_finds_it_changed_keeps_nobody_from_finding_it_too() -> None:
    file = File()
    freshness = FileWatcher(file.stamp)
    freshness.seen = None
    arrived = monotonic()
    assert freshness.is_stale(arrived)
    assert freshness.is_stale(arrived)
    freshness.seen = file.now
    assert not freshness.is_stale(arrived)


class SlowStore(File):
    """A configuration that is read when it may be."""

    path = Path("config.toml")

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.reads = 0

    def load(self) -> Config:
        """What it says: the port is the number of its version."""
        self.reads += 1
        assert self.now is not None
        config = Config(server=Server(port=self.now[0]))
        assert self.may_go_on.wait(10)
        return config


async def being_read() -> tuple[SlowStore, LiveConfig, asyncio.Task[Config]]:
    """A changed configuration that somebody has read at this moment."""
    store = SlowStore()
    live = LiveConfig(store, Recorder(None))
    store.now = (2, 2, 2)
    store.may_go_on.clear()
    first = asyncio.create_task(live.refresh())
    while store.reads < 2:
        await asyncio.sleep(0)
    return store, live, first


def test_nobody_is_served_by_the_old_configuration_while_the_new_one_is_read() -> None:
    async def story() -> None:
        store, live, first = await being_read()
        assert live.is_stale(monotonic())
        second = asyncio.create_task(live.refresh())
        await asyncio.sleep(0)
        store.may_go_on.set()
        assert [(await task).server.port for task in (first, second)] == [2, 2]
        assert store.reads == 2

    asyncio.run(story())


def test_a_reading_that_is_given_up_is_made_by_the_next() -> None:
    async def story() -> None:
        store, live, first = await being_read()
        first.cancel()
        await asyncio.wait([first])
        store.may_go_on.set()
        assert live.is_stale(monotonic())
        assert (await live.refresh()).server.port == 2

    asyncio.run(story())
