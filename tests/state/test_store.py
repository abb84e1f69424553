"""The stores of the breaker state, and the slots by which one request probes a breaker."""

from pathlib import Path

from ccfallback.paths import Paths
from ccfallback.policy.breaker import CLOSED
from ccfallback.state import model_cooldowns, open_store
from ccfallback.state.store import BreakerId, LocalSlots, MemoryStore, StateStore


def test_a_memory_store_holds_the_last_update() -> None:
    store: StateStore = MemoryStore()
    before = store.load()
    after = store.update(lambda states: {**states, "a": CLOSED})
    assert after.states == {"a": CLOSED}
    assert store.load(before) is store.peek() is after
    assert store.is_current(after)
    assert not store.is_current(before)
    store.close()


def test_the_store_of_an_installation_is_its_state_file(paths: Paths) -> None:
    open_store(paths).update(lambda states: {"a": CLOSED})
    assert paths.state.exists()
    assert open_store(paths).load().states == {"a": CLOSED}


def test_a_probe_slot_is_taken_once() -> None:
    slots = LocalSlots()
    own, model = BreakerId("a"), BreakerId("a", "m")
    assert slots.take([own]) == (own,)
    assert slots.is_taken(own)
    taken = slots.take([own, model])
    assert taken == (model,)
    slots.release(taken)
    assert slots.is_taken(own)
    assert not slots.is_taken(model)
    slots.release([own])
    assert not slots.is_taken(own)


def test_the_status_line_reads_the_cooldowns_of_one_model(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "config.toml", tmp_path / "state.json", tmp_path / "log.jsonl")
    assert model_cooldowns(paths, "m") == {}
    paths.state.write_bytes(
        b'{"providers": {"a": {"models": {"m": {"cooldownUntil": 2000}}}, "b": {"models": {}}}}'
    )
    assert model_cooldowns(paths, "m") == {"a": 2.0}
    paths.state.write_bytes(b"[" * 200_000)
    assert model_cooldowns(paths, "m") == {}
