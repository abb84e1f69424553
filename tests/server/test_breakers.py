"""The breakers in memory and in the state file, also while the file is locked or the disk hangs."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from ccfallback import files
from ccfallback.config.model import Config, Provider
from ccfallback.policy.breaker import CLOSED, BreakerState, count_success, open_by_hand
from ccfallback.server.breakers import MOST_PENDING, Breakers, Change
from ccfallback.server.record import Record, Recorder
from ccfallback.state.file import StateFile
from ccfallback.state.sections import Entry, Section
from ccfallback.state.store import PATIENCE, BreakerId, MemoryStore, Snapshot, Update

HOLDER = """
import sys
from pathlib import Path
from ccfallback import files

with files.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    """Another process has the lock of the file."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.communicate()


class Watched(StateFile):
    """A state file that says when it is read or written, and waits until it may."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, patience=0.1)
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.reached = threading.Event()
        self.updates = 0

    def load(self, held: Snapshot | None = None) -> Snapshot:
        snapshot = super().load(held)
        self._stop_here()
        return snapshot

    def update(self, change: Update, entries: Iterable[Entry] = (), batch: int = 0) -> Snapshot:
        self.updates += 1
        self._stop_here()
        return super().update(change, entries, batch)

    def _stop_here(self) -> None:
        self.reached.set()
        assert self.may_go_on.wait(10)


class Scene:
    """Breakers on a file, and the log records that they write."""

    def __init__(self, path: Path) -> None:
        self.file = Watched(path)
        self.records: list[Record] = []
        recorder = Recorder(None)
        recorder.listeners.append(self.records.append)
        self.breakers = Breakers(self.file, recorder)

    def count(self, event: str) -> int:
        return sum(record.event == event for record in self.records)

    async def until_reached(self) -> None:
        assert await asyncio.to_thread(self.file.reached.wait, 10)
        self.file.reached.clear()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path / "state.json")
    yield made
    made.file.may_go_on.set()
    made.breakers.close()


def failed(state: BreakerState) -> BreakerState:
    return replace(state, failures=state.failures + 1)


def on_disk(scene: Scene, name: str = "a") -> int:
    return StateFile(scene.file.path).load().states.get(name, CLOSED).failures


async def test_a_lock_held_by_another_process_delays_one_request_briefly(scene: Scene) -> None:
    with held_by_another(scene.file.path):
        for _ in range(20):
            scene.breakers.change("a", failed)
            await scene.breakers.flush()
        assert scene.file.updates == 1
        assert scene.breakers.state("a").failures == 20
        assert scene.count("state.error") == 1
        assert on_disk(scene) == 0
        await scene.breakers.flush(again=True)
        assert scene.count("state.error") == 1
    await scene.breakers.flush(again=True)
    assert on_disk(scene) == 20
    assert scene.count("state.saved") == 1


def succeeded(at: float) -> Change:
    return lambda state: replace(state, last_success=at)


async def test_a_noted_change_is_read_and_saved_like_any_other(scene: Scene) -> None:
    scene.breakers.note("a", succeeded(5.0), "a")
    scene.breakers.note("a", succeeded(7.0), "a")
    assert scene.breakers.quick_state("a") == CLOSED
    assert scene.breakers.state("a").last_success == 7.0
    scene.breakers.note("a", succeeded(8.0), "a")
    scene.breakers.change("a", failed)
    assert scene.breakers.quick_state("a") == replace(CLOSED, failures=1, last_success=8.0)
    scene.breakers.note("b", succeeded(9.0), "b")
    await scene.breakers.flush(again=True)
    saved = StateFile(scene.file.path).load().states
    assert (saved["a"].failures, saved["a"].last_success) == (1, 8.0)
    assert saved["b"].last_success == 9.0
    assert scene.breakers.state("b").last_success == 9.0


async def test_a_noted_change_alone_is_saved_too(scene: Scene) -> None:
    scene.breakers.note("a", succeeded(5.0), "a")
    scene.breakers.hurry()
    scene.breakers.note("a", succeeded(6.0), "a")
    await scene.breakers.flush(again=True)
    assert StateFile(scene.file.path).load().states["a"].last_success == 6.0
    assert not scene.breakers._pending


def test_noted_changes_that_nobody_reads_take_bounded_memory(scene: Scene) -> None:
    for number in range(3 * MOST_PENDING):
        scene.breakers.note("a", succeeded(number), number)
    assert len(scene.breakers._unapplied) <= MOST_PENDING
    assert scene.breakers.state("a").last_success == 3 * MOST_PENDING - 1


async def test_requests_that_fail_together_wait_for_one_refusal(scene: Scene) -> None:
    async def one() -> None:
        scene.breakers.change("a", failed)
        await scene.breakers.flush()

    with held_by_another(scene.file.path):
        await asyncio.gather(*(one() for _ in range(50)))
        assert scene.file.updates == 1
    scene.breakers.change("a", failed)
    await scene.breakers.flush(again=True)
    assert on_disk(scene) == 51


async def test_a_disk_that_hangs_delays_requests_only_briefly(scene: Scene) -> None:
    scene.file.may_go_on.clear()
    began = time.monotonic()
    scene.breakers.change("a", failed)
    await scene.breakers.flush()
    assert time.monotonic() - began >= PATIENCE
    scene.breakers.change("a", failed)
    await asyncio.wait_for(scene.breakers.flush(), PATIENCE / 2)
    scene.file.may_go_on.set()
    await scene.breakers.flush(again=True)
    assert on_disk(scene) == 2


def test_a_load_that_hangs_delays_one_request_briefly_and_the_next_not_at_all(scene: Scene) -> None:
    async def story() -> None:
        await scene.breakers.refresh()
        StateFile(scene.file.path).update(lambda _: {"a": failed(CLOSED)})
        scene.file.may_go_on.clear()
        async with asyncio.timeout(PATIENCE * 4):
            await scene.breakers.refresh()
        # Now the load is known to hang, so a request does not even yield to the event loop.
        asking = scene.breakers.refresh()
        with pytest.raises(StopIteration):
            asking.send(None)
        assert scene.breakers.state("a") == CLOSED
        scene.file.may_go_on.set()
        async with asyncio.timeout(10):
            while scene.breakers.state("a") == CLOSED:
                await scene.breakers.refresh()
                await asyncio.sleep(0)

    asyncio.run(story())
    (said,) = [record for record in scene.records if record.event == "state.error"]
    assert "can't be read" in said.message


async def test_entries_that_the_store_refuses_are_still_there(scene: Scene) -> None:
    with files.locked(scene.file.path):
        scene.breakers.put(NUMBERS, "a", 1, urgent=True)
        await scene.breakers.flush()
        assert scene.count("state.error") == 1
        assert scene.breakers.has(NUMBERS)
        assert scene.breakers.entry(NUMBERS, "a") == 1


async def test_a_client_disconnect_does_not_cancel_the_write_of_a_failure(scene: Scene) -> None:
    scene.file.may_go_on.clear()
    scene.breakers.change("a", failed)
    leaving = asyncio.create_task(scene.breakers.flush())
    await scene.until_reached()
    leaving.cancel()
    await asyncio.wait([leaving])
    with files.locked(scene.file.path):
        # The store refuses the write that no request waits for, and the failure is kept.
        scene.file.may_go_on.set()
        await scene.breakers.flush()
    await scene.breakers.flush(again=True)
    assert on_disk(scene) == 1


async def test_a_load_keeps_the_changes_that_are_being_written(scene: Scene) -> None:
    other = StateFile(scene.file.path)

    other.update(lambda states: {"b": replace(CLOSED, failures=7)})
    scene.file.may_go_on.clear()
    reading = asyncio.create_task(scene.breakers.refresh())
    await scene.until_reached()
    scene.breakers.change("a", failed)
    flushing = asyncio.create_task(scene.breakers.flush())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    scene.file.may_go_on.set()
    await reading
    assert scene.breakers.state("a").failures == 1
    assert scene.breakers.state("b").failures == 7
    await flushing
    assert (on_disk(scene), on_disk(scene, "b")) == (1, 7)
    assert scene.breakers.state("a").failures == 1


async def test_no_request_waits_for_a_success_that_changes_nothing(scene: Scene) -> None:
    def answered(state: BreakerState) -> BreakerState:
        return replace(state, last_success=1.0)

    scene.breakers.change("a", failed)
    scene.breakers.hurry()
    await asyncio.sleep(0)
    scene.breakers.change("b", answered, instead_of="b")
    await scene.breakers.flush()
    assert (on_disk(scene), scene.file.updates) == (1, 1)
    assert "b" not in StateFile(scene.file.path).load().states
    await scene.breakers.flush(again=True)
    assert scene.file.updates == 2
    assert StateFile(scene.file.path).load().states["b"].last_success == 1.0


async def test_a_reset_by_a_command_is_never_missed(scene: Scene) -> None:
    for _ in range(30):
        scene.breakers.change("a", failed)
        await scene.breakers.flush()
        await asyncio.to_thread(StateFile(scene.file.path).update, lambda states: {})
        await scene.breakers.refresh()
        assert scene.breakers.state("a") == CLOSED


async def test_of_too_many_unsaved_changes_the_newest_are_kept(scene: Scene) -> None:
    def numbered(number: int) -> Change:
        return lambda state: replace(state, failures=number)

    with files.locked(scene.file.path):
        for number in range(MOST_PENDING + 50):
            scene.breakers.change("a", numbered(number))
            await scene.breakers.flush()
        assert len(scene.breakers._pending) == MOST_PENDING
        scene.breakers.change("a", lambda state: replace(state, last_success=5.0))
    await scene.breakers.flush(again=True)
    kept = scene.breakers.state("a")
    assert (kept.failures, kept.last_success) == (MOST_PENDING + 49, 5.0)


async def test_a_load_that_is_processed_late_does_not_hide_a_newer_write(scene: Scene) -> None:
    breakers, store = scene.breakers, scene.file
    StateFile(store.path).update(lambda states: {**states, "b": replace(CLOSED, failures=7)})
    reading = asyncio.create_task(breakers.refresh())
    await asyncio.sleep(0)
    breakers.change("a", failed)
    breakers.hurry()
    await asyncio.sleep(0)
    # The event loop is busy until the thread has finished both.
    finished = threading.Event()
    last = breakers._executor.run(finished.set)
    assert finished.wait(30)
    await reading
    await last
    await breakers.flush()
    assert (breakers.state("a").failures, breakers.state("b").failures) == (1, 7)


def test_a_passing_read_error_keeps_the_state_in_memory(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    async def story() -> None:
        scene.breakers.change("a", failed)
        await scene.breakers.flush()
        StateFile(scene.file.path).update(lambda states: {**states, "b": failed(CLOSED)})
        with monkeypatch.context() as patched:
            patched.setattr(files, "read_regular", refuse)
            await scene.breakers.refresh()
            assert scene.breakers.state("a").failures == 1
        await scene.breakers.refresh()
        assert (scene.breakers.state("a").failures, scene.breakers.state("b").failures) == (1, 1)

    asyncio.run(story())
    assert scene.count("state.error") == 1
    assert scene.count("state.corrupt") == 0


def test_a_clock_that_is_set_back_shortens_the_cooldowns_in_memory(tmp_path: Path) -> None:
    now = [1_000_000.0]
    breakers = Breakers(StateFile(tmp_path / "state.json"), Recorder(None), lambda: now[0])
    until = breakers.clock() + 30
    breakers.change("a", lambda state: open_by_hand(state, until=until, now=now[0]))
    now[0] -= 7200
    assert breakers.clock() == now[0]
    assert breakers.state("a").cooldown_until == now[0] + 30
    breakers.close()


def test_an_answer_after_a_clock_was_set_back_closes_the_breaker(tmp_path: Path) -> None:
    now = [1_000_000.0]
    store = StateFile(tmp_path / "state.json")
    breakers = Breakers(store, Recorder(None), lambda: now[0])

    async def story() -> None:
        until = breakers.clock() + 30
        breakers.change("a", lambda state: open_by_hand(state, until=until, now=now[0]))
        await breakers.flush()
        now[0] -= 7200
        breakers.clock()
        await breakers.flush(again=True)
        assert store.load().states["a"].cooldown_until == now[0] + 30
        now[0] += 60
        began = breakers.clock()
        breakers.change("a", lambda state: count_success(state, model="", began=began, now=began))
        await breakers.flush()
        await breakers.refresh()
        assert breakers.state("a").cooldown_until is None

    asyncio.run(story())
    breakers.close()


def test_a_state_about_another_provider_of_this_name_counts_for_nothing(tmp_path: Path) -> None:
    def config(url: str) -> Config:
        return Config(providers=(Provider(name="a", base_url=url),))

    store = StateFile(tmp_path / "state.json")
    breakers = Breakers(store, Recorder(None))

    async def story() -> None:
        breakers.configure(config("https://one.test"))
        breakers.change("a", failed)
        await breakers.flush()
        breakers.configure(config("https://two.test"))
        assert breakers.state("a") == CLOSED
        await breakers.refresh()
        assert breakers.state("a") == CLOSED
        breakers.change("a", failed)
        await breakers.flush()
        assert store.load().states["a"].failures == 1

    asyncio.run(story())
    breakers.close()


NUMBERS = Section("numbers", parse=int, encode=str, most=2)


async def test_entries_of_a_section_are_in_memory_at_once_and_saved_together(scene: Scene) -> None:
    breakers = scene.breakers
    breakers.put(NUMBERS, "a", 1)
    breakers.put(NUMBERS, "b", 2)
    breakers.put(NUMBERS, "a", 3)
    assert breakers.entry(NUMBERS, "a") == 3
    assert breakers.entries(NUMBERS) == {"b": 2, "a": 3}
    # No request waits for them.
    await breakers.flush()
    assert scene.file.updates == 0
    await breakers.flush(again=True)
    assert scene.file.updates == 1
    assert NUMBERS.read(StateFile(scene.file.path).load().sections) == {"b": 2, "a": 3}
    assert breakers.entry(NUMBERS, "b") == 2
    assert breakers.entry(NUMBERS, "c") is None


async def test_entries_that_a_person_wants_to_see_are_written_in_a_hurry(scene: Scene) -> None:
    scene.breakers.put(NUMBERS, "a", 1)
    scene.breakers.hurry()
    await scene.until_reached()
    await scene.breakers.flush(again=True)
    assert scene.file.updates == 1
    assert NUMBERS.read(StateFile(scene.file.path).load().sections) == {"a": 1}


async def test_entries_that_could_not_be_saved_are_saved_later(scene: Scene) -> None:
    breakers = scene.breakers
    with held_by_another(scene.file.path):
        breakers.put(NUMBERS, "a", 1)
        breakers.put(NUMBERS, "b", 1)
        await breakers.flush(again=True)
        breakers.put(NUMBERS, "a", 2)
        assert breakers.entries(NUMBERS) == {"b": 1, "a": 2}
    await breakers.flush(again=True)
    assert NUMBERS.read(StateFile(scene.file.path).load().sections) == {"b": 1, "a": 2}


async def test_entries_of_another_process_are_seen_beside_those_that_are_not_saved(
    scene: Scene,
) -> None:
    breakers = scene.breakers
    breakers.put(NUMBERS, "a", 1)
    other = [Entry(NUMBERS, "a", 8), Entry(NUMBERS, "b", 9)]
    StateFile(scene.file.path).update(lambda states: states, other)
    await breakers.refresh()
    assert breakers.entry(NUMBERS, "a") == 1
    assert breakers.entry(NUMBERS, "b") == 9
    StateFile(scene.file.path).update(lambda states: states, [Entry(NUMBERS, "b", 10)])
    await breakers.refresh()
    assert breakers.entry(NUMBERS, "b") == 10


async def test_what_is_kept_of_sections_has_a_limit(scene: Scene) -> None:
    for number in range(MOST_PENDING + 10):
        scene.breakers.put(NUMBERS, str(number), number)
        assert scene.breakers.entry(NUMBERS, f"unknown {number}") is None
    assert len(scene.breakers.entries(NUMBERS)) == MOST_PENDING
    await scene.breakers.flush(again=True)
    assert list(scene.breakers.entries(NUMBERS).values()) == [MOST_PENDING + 8, MOST_PENDING + 9]


class Places:
    """Probe places of several servers, which are said when they may be."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.calls: list[str] = []
        self.free = True

    def take(self, breakers: Iterable[BreakerId]) -> bool:
        self.calls.append("take")
        assert self.may_go_on.wait(10)
        return self.free

    def release(self, breakers: Iterable[BreakerId]) -> None:
        self.calls.append("release")


class SharedStore(MemoryStore):
    """A state that other servers share."""

    def __init__(self) -> None:
        super().__init__()
        self.patience = 0.02
        self.shared = Places()
        self.places = self.shared  # type: ignore[assignment]  # others have none
        self.name = "the shared state"


async def test_a_request_waits_briefly_for_the_places_of_other_servers() -> None:
    store, records, a = SharedStore(), list[Record](), BreakerId("a")
    recorder = Recorder(None)
    recorder.listeners.append(records.append)
    breakers = Breakers(store, recorder)
    try:
        assert breakers.shares_places
        # It does not answer: this server decides alone, and does not ask again.
        assert await breakers.take_places([a])
        store.shared.calls.clear()
        assert await breakers.take_places([a])
        assert [record.message for record in records] == [
            "the state can't be saved, going on from memory: the shared state does not answer"
        ]
        assert store.shared.calls == []
        store.shared.may_go_on.set()
        store.patience = 10
        breakers.report()
        assert records[-1].event == "state.saved"
        assert await breakers.take_places([a])
        store.shared.free = False
        assert not await breakers.take_places([a])
        breakers.release([a])
        breakers.release([])
        store.problem = "it is away"
        assert await breakers.take_places([a])
        breakers.report()
        store.problem = ""
        breakers.change("a", failed)
        breakers.report()
        assert records[-1].event == "state.saved"
        await breakers.flush(again=True)
    finally:
        breakers.close()
    assert store.shared.calls == ["take", "take", "release"]
