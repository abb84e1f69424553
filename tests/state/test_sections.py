"""Further sections of the state: what is written, what is kept, and what is not understood."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ccfallback.policy.breaker import CLOSED, BreakerState
from ccfallback.state.file import StateFile
from ccfallback.state.redis_store import RedisStore
from ccfallback.state.sections import Entry, Section
from ccfallback.state.store import BreakerId, MemoryStore, States, StateStore
from tests.shared_state import RedisServer, redis_server

__all__ = ["redis_server"]

NUMBERS = Section("numbers", parse=int, encode=str, most=3)


def keep(states: States) -> States:
    return states


@pytest.fixture(params=["file", "memory", "redis", "redis-command"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    made: StateStore = MemoryStore()
    if request.param != "memory":
        made = file = StateFile(tmp_path / "state.json")
        if request.param != "file":
            server: RedisServer = request.getfixturevalue("redis_server")
            made = RedisStore(server.url, file, watches=request.param == "redis")
    yield made
    made.close()


def test_the_last_write_wins_and_the_oldest_entry_goes(store: StateStore) -> None:
    assert NUMBERS.read(store.load().sections) == {}
    store.update(keep, [Entry(NUMBERS, key, 1) for key in "abc"])
    after = store.update(keep, [Entry(NUMBERS, "a", 2), Entry(NUMBERS, "d", 3)])
    assert list(NUMBERS.read(after.sections).items()) == [("c", 1), ("a", 2), ("d", 3)]
    assert NUMBERS.find(store.peek().sections, "a") == 2
    assert NUMBERS.find(store.peek().sections, "b") is None


def test_a_change_of_the_providers_keeps_the_sections(store: StateStore) -> None:
    store.update(keep, [Entry(NUMBERS, "a", 1)])
    after = store.update(lambda states: {**states, "p": CLOSED})
    assert after.states == {"p": CLOSED}
    assert NUMBERS.read(after.sections) == {"a": 1}


def test_every_store_keeps_its_promises(store: StateStore) -> None:
    before = store.load()
    assert before.states == {}
    assert before.problem is None
    assert store.load(before).version == before.version
    assert store.is_current(before)
    after = store.update(lambda states: {**states, "a": BreakerState(failures=2)}, batch=1)
    assert store.is_current(after)
    assert not store.is_current(before)
    assert store.peek().states == store.load().states == after.states
    known = store.known_snapshot()
    assert known is None or known.states == after.states
    # A provider that the result lacks is removed.
    store.update(lambda _states: {"b": CLOSED}, batch=2)
    assert store.load(after).states == {"b": CLOSED}
    place = BreakerId("b")
    assert store.slots.take([place]) == (place,)
    assert store.slots.is_taken(place)
    store.slots.release([place])
    assert store.places is None or store.places.take([place])
    if store.is_unsynced:
        store.sync()
    assert not store.is_unsynced
    assert store.patience > 0
    assert store.name
    assert store.problem == ""


def test_an_entry_that_changes_nothing_is_not_written(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    before = file.update(keep, [Entry(NUMBERS, "a", 1)])
    file.update(keep, [Entry(NUMBERS, "a", 1)])
    assert file.is_current(before)


@pytest.mark.parametrize("raw", [{"a": "1", "b": "x", "c": [], "d": None}, [1], "x", None, 3])
def test_what_can_not_be_read_does_not_count_and_stays(tmp_path: Path, raw: Any) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(
        msgspec.json.encode({"version": 1, "numbers": raw, "future": {"k": {"x": [1]}}})
    )
    file = StateFile(path)
    expected = {"a": 1} if isinstance(raw, dict) else {}
    assert NUMBERS.read(file.load().sections) == expected
    file.update(lambda _: {"p": CLOSED})
    written = json.loads(path.read_text())
    assert written["numbers"] == raw
    assert written["future"] == {"k": {"x": [1]}}
    after = file.update(keep, [Entry(NUMBERS._replace(most=9), "z", 2)])
    assert NUMBERS.read(after.sections) == {**expected, "z": 2}
    assert json.loads(path.read_text())["future"] == {"k": {"x": [1]}}


def test_a_disk_that_fails_keeps_the_sections_that_were_held(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    held = file.update(keep, [Entry(NUMBERS, "a", 1)])
    file.path.unlink()
    file.path.mkdir()
    again = file.load(held)
    assert again.problem
    assert again.sections in (held.sections, {})
