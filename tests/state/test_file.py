import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ccfallback import files
from ccfallback.errors import StateError
from ccfallback.policy.breaker import CLOSED, BreakerState
from ccfallback.policy.learned import LearnedRejection
from ccfallback.state.file import StateFile, set_aside_files
from ccfallback.state.store import Snapshot, States

ADDER = """
import sys
from msgspec.structs import replace
from pathlib import Path
from ccfallback.policy.breaker import CLOSED
from ccfallback.state.file import StateFile

def count(states):
    known = states.get("shared", CLOSED)
    return {**states, "shared": replace(known, failures=known.failures + 1), sys.argv[2]: CLOSED}

file = StateFile(Path(sys.argv[1]))
for _ in range(50):
    file.update(count)
"""

times = st.none() | st.integers(0, 10**11).map(lambda number: number / 1000)


NONE: st.SearchStrategy[dict[str, BreakerState]] = st.just({})


def states_of(
    models: st.SearchStrategy[dict[str, BreakerState]],
    credentials: st.SearchStrategy[dict[str, BreakerState]] = NONE,
) -> Any:
    return st.builds(
        BreakerState,
        failures=st.integers(0, 10**6),
        last_failure=times,
        last_success=times,
        cooldown_until=times,
        cooldown_began=times,
        reason=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        probed=times,
        about=st.none() | st.just("0123456789abcdef"),
        models=models,
        credentials=credentials,
    )


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
with_models = states_of(st.dictionaries(names, states_of(st.just({})), max_size=3))
breaker_states = states_of(
    st.dictionaries(names, states_of(st.just({})), max_size=3),
    st.dictionaries(names, with_models.map(lambda each: replace(each, about=None)), max_size=3),
)


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "state.json")


def raw(file: StateFile) -> Any:
    return msgspec.json.decode(file.path.read_bytes())


def failing(states: States) -> States:
    return {**states, "a": replace(CLOSED, failures=2, last_failure=1.5, reason="529")}


def test_a_missing_file_is_an_empty_state(file: StateFile) -> None:
    assert file.load() == Snapshot()


def test_the_file_has_the_documented_keys(file: StateFile) -> None:
    file.update(failing)
    assert raw(file) == {
        "version": 1,
        "providers": {
            "a": {
                "consecutiveFailures": 2,
                "lastFailure": 1500,
                "lastSuccess": None,
                "cooldownUntil": None,
                "cooldownBegan": None,
                "reason": "529",
                "models": {},
            }
        },
    }


def test_a_provider_missing_from_the_result_is_removed(file: StateFile) -> None:
    file.update(failing)
    assert file.update(lambda states: {}).states == {}
    assert file.load().states == {}


def test_an_update_that_changes_nothing_writes_nothing(file: StateFile) -> None:
    before = file.update(failing)
    file.update(lambda states: states)
    assert file.is_current(before)


def test_a_snapshot_is_current_until_another_process_writes(file: StateFile) -> None:
    other = StateFile(file.path)
    held = file.load()
    assert file.is_current(held)
    assert file.load(held) is held
    other.update(failing)
    assert not file.is_current(held)
    newer = file.load(held)
    assert newer.states == failing({})
    assert file.is_current(newer)
    assert file.is_current(file.update(lambda states: {}))
    assert not file.is_current(newer)


def test_only_the_providers_that_another_process_changed_are_parsed_again(
    file: StateFile,
) -> None:
    file.update(
        lambda _states: {"a": replace(CLOSED, failures=1), "b": replace(CLOSED, failures=2)}
    )
    other = StateFile(file.path)
    held = other.load()
    file.update(failing)
    newer = other.load(held)
    assert newer.states["a"] == failing({})["a"]
    assert newer.states["b"] is held.states["b"]
    assert newer.states == StateFile(file.path).load().states
    # The first update of a process relies on what it has loaded, too.
    updated = other.update(lambda states: {**states, "c": CLOSED})
    assert updated.states["a"] is newer.states["a"]
    assert updated.states == StateFile(file.path).load().states


def test_a_write_by_a_script_without_the_lock_is_noticed(
    file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = b'{"providers": {"a": {"consecutiveFailures": 77}}}'
    replace_file = os.replace

    def replaced_again(source: Path, target: Path) -> None:
        replace_file(source, target)
        file.path.write_bytes(script)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replaced_again)
        updated = file.update(failing)
    assert not file.is_current(updated)
    assert file.load(updated).states["a"].failures == 77


def test_on_a_network_file_system_only_a_load_shows_what_is_current(
    file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "is_local", lambda _path: False)
    held = file.update(failing)
    assert not file.is_current(held)
    assert file.load(held) is held


def test_unknown_keys_are_kept(file: StateFile) -> None:
    file.path.write_bytes(
        b'{"version": 2, "learned": [1], "providers": {"a": {"note": "x", "models": '
        b'{"m": {"hint": 1, "consecutiveFailures": 1}}}}}'
    )
    file.update(lambda states: {**states, "a": replace(states["a"], failures=9)})
    document = raw(file)
    assert (document["version"], document["learned"]) == (2, [1])
    assert document["providers"]["a"]["note"] == "x"
    assert document["providers"]["a"]["consecutiveFailures"] == 9
    assert document["providers"]["a"]["models"]["m"]["hint"] == 1


def test_a_wrong_value_is_ignored_alone(file: StateFile) -> None:
    file.path.write_bytes(
        b'{"providers": {"a": {"consecutiveFailures": "3", "lastFailure": true, "reason": 1,'
        b' "lastSuccess": 2000, "cooldownUntil": -1, "models": [1]}, "b": 7,'
        b' "c": {"consecutiveFailures": 4, "lastFailure": 1e300}}}'
    )
    assert file.load().states == {
        "a": replace(CLOSED, last_success=2.0),
        "c": replace(CLOSED, failures=4),
    }


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"null", b"[" * 200_000])
def test_a_corrupt_file_is_set_aside(file: StateFile, data: bytes) -> None:
    file.path.write_bytes(data)
    assert file.peek() == Snapshot(version=file.peek().version, problem="it is not a JSON object")
    snapshot = file.load()
    assert snapshot.states == {}
    (aside,) = set_aside_files(file.path)
    assert snapshot.set_aside == str(aside)
    assert aside.name.startswith("state.json.corrupt-")
    assert aside.read_bytes() == data
    assert not file.path.exists()
    assert file.load() == Snapshot()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("config.toml", b"[server]\nport = 1\n"),
        ("ccfallback.jsonl", b'{"event":"server.start"}\n{"event":"server.stop"}\n'),
        ("program", b"\x7fELF\x02\x01"),
        ("notes.txt", b"precious"),
        ("settings.json", b'{"permissions": {}}'),
    ],
)
def test_the_file_of_another_program_is_left_alone(tmp_path: Path, name: str, data: bytes) -> None:
    file = StateFile(tmp_path / name)
    file.path.write_bytes(data)
    assert "not a state file" in (file.load().problem or "")
    with pytest.raises(StateError, match="not a state file"):
        file.update(failing)
    assert file.path.read_bytes() == data
    assert set_aside_files(file.path) == []


def test_a_document_of_our_name_is_ours_and_keeps_what_it_has(file: StateFile) -> None:
    file.path.write_bytes(b'{"versi":{"a":1}}')
    assert set(file.update(failing).states) == {"a"}
    assert msgspec.json.decode(file.path.read_bytes())["versi"] == {"a": 1}


@pytest.mark.parametrize(("name", "data"), [("state", b'{"version":1,"prov'), ("state", b"\0\0")])
def test_a_damaged_state_may_have_any_plain_name(tmp_path: Path, name: str, data: bytes) -> None:
    file = StateFile(tmp_path / name)
    file.path.write_bytes(data)
    assert set(file.update(failing).states) == {"a"}


def test_an_update_sets_a_corrupt_file_aside_too(file: StateFile) -> None:
    file.path.write_bytes(b"{")
    updated = file.update(failing)
    assert set(updated.states) == {"a"}
    assert updated.set_aside is not None
    assert file.load(updated) is updated


def test_a_folder_in_place_of_the_file_reads_as_empty_and_refuses_writes(file: StateFile) -> None:
    file.path.mkdir()
    assert file.load().states == {}
    assert "it can't be read" in (file.peek().problem or "")
    with pytest.raises(StateError) as caught:
        file.update(failing)
    assert caught.value.hint


def test_a_disk_that_refuses_writes_is_an_error_with_a_hint(
    file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    file.update(failing)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StateError, match="No space left") as caught:
        file.update(lambda states: {})
    assert caught.value.hint
    assert set(file.load().states) == {"a"}


def test_a_corrupt_file_that_cannot_be_moved_reads_as_empty(
    file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    file.path.write_bytes(b"{")
    monkeypatch.setattr(os, "replace", refuse)
    snapshot = file.load()
    assert snapshot.states == {}
    assert snapshot.set_aside is None


# --- Synced later ---


@pytest.fixture
def lazy(tmp_path: Path) -> StateFile:
    """A file with one update that is on the disk, and one that is not."""
    StateFile(tmp_path / "state.json").update(lambda _: {"first": CLOSED})
    file = StateFile(tmp_path / "state.json", synced_later=True)
    file.update(lambda states: {**states, "second": CLOSED})
    return file


def kept(file: StateFile) -> Path:
    return file.path.with_name(".state.json.synced")


def crash(file: StateFile, monkeypatch: pytest.MonkeyPatch, left: bytes) -> None:
    """What a power cut leaves of a file that was not synced."""
    file.path.write_bytes(left)
    monkeypatch.setattr(files, "_booted", lambda: time.time() + 60)


def test_an_update_waits_for_the_disk_only_when_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    file = StateFile(tmp_path / "state.json", synced_later=True)
    file.update(lambda _: {"first": CLOSED})
    # There was nothing that could be kept.
    assert len(calls) == 1
    assert not file.is_unsynced
    file.update(lambda states: {**states, "second": CLOSED})
    assert len(calls) == 1
    assert file.is_unsynced
    assert set(StateFile(file.path).load().states) == {"first", "second"}
    file.sync()
    assert len(calls) > 1
    assert not file.is_unsynced
    assert not kept(file).exists()


@pytest.mark.parametrize("left", [b"", b"\0" * 300, b'{"version":1,"providers":{"fir'])
def test_after_a_crash_the_state_is_that_of_the_last_sync(
    lazy: StateFile, monkeypatch: pytest.MonkeyPatch, left: bytes
) -> None:
    lazy.update(lambda states: {**states, "third": CLOSED})
    crash(lazy, monkeypatch, left)
    file = StateFile(lazy.path, synced_later=True)
    assert set(file.load().states) == {"first"}
    assert file.load().set_aside is None
    file.update(lambda states: {**states, "fourth": CLOSED})
    file.sync()
    assert set(StateFile(lazy.path).load().states) == {"first", "fourth"}
    assert not kept(lazy).exists()


def test_a_file_that_a_person_has_broken_is_set_aside_all_the_same(lazy: StateFile) -> None:
    lazy.path.write_bytes(b"no JSON")
    snapshot = lazy.load()
    assert snapshot.states == {}
    assert snapshot.set_aside is not None


def test_after_a_sync_a_crash_does_no_harm(
    lazy: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy.sync()
    crash(lazy, monkeypatch, lazy.path.read_bytes())
    assert set(StateFile(lazy.path).load().states) == {"first", "second"}


def test_a_server_leaves_what_another_one_has_kept(lazy: StateFile) -> None:
    other = StateFile(lazy.path, synced_later=True)
    other.update(lambda states: {**states, "third": CLOSED})
    assert set(StateFile(kept(lazy)).load().states) == {"first"}
    lazy.sync()
    assert not kept(lazy).exists()
    other.sync()
    assert set(StateFile(lazy.path).load().states) == {"first", "second", "third"}


def test_without_second_names_an_update_is_synced_at_once(
    lazy: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(1, "Operation not permitted")

    lazy.sync()
    monkeypatch.setattr(os, "link", refuse)
    lazy.update(lambda _: {})
    assert not lazy.is_unsynced


def test_half_a_surrogate_pair_does_not_fail(file: StateFile) -> None:
    file.update(lambda states: {"a": replace(CLOSED, reason="\ud800", models={"\udc00": CLOSED})})
    assert file.load().states["a"].reason == "?"


@pytest.mark.usefixtures("untraced")
@given(states=st.dictionaries(names, breaker_states, max_size=4))
def test_a_written_state_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, states: States
) -> None:
    file = StateFile(tmp_path_factory.getbasetemp() / "round.json")
    file.path.unlink(missing_ok=True)
    assert file.update(lambda _: states).states == states
    assert file.load().states == states


TIMES = ("last_failure", "last_success", "cooldown_until", "cooldown_began", "probed")


def later(state: BreakerState, seconds: float) -> BreakerState:
    """The state with all its times moved."""
    own = ((name, getattr(state, name)) for name in TIMES)
    return replace(
        state,
        **{name: None if time is None else time + seconds for name, time in own},
        models={name: later(each, seconds) for name, each in state.models.items()},
        credentials={name: later(each, seconds) for name, each in state.credentials.items()},
    )


LESSONS = (
    LearnedRejection("rule", "a model", "\ud800", 1.23456),
    LearnedRejection("rule", "too late", "text", 1e15),
)


@given(
    states=st.dictionaries(names | st.just("\ud800"), breaker_states, max_size=3),
    before=st.dictionaries(names, breaker_states, max_size=1),
    seconds=st.floats(0, 1e9),
    learned=st.sampled_from([LESSONS[:n] for n in range(3)]),
)
def test_an_update_returns_what_another_process_reads(
    tmp_path_factory: pytest.TempPathFactory,
    states: States,
    before: States,
    seconds: float,
    learned: tuple[LearnedRejection, ...],
) -> None:
    file = StateFile(tmp_path_factory.getbasetemp() / "returned.json")
    file.path.unlink(missing_ok=True)
    file.update(lambda _: before)
    given = {
        name: replace(later(state, seconds), learned=learned, reason="\udc00")
        for name, state in states.items()
    }
    returned = file.update(lambda kept: {**kept, **given}).states
    read = StateFile(file.path).load().states
    assert {name.encode("utf-8", "replace").decode(): returned[name] for name in returned} == read


@given(data=st.binary(max_size=60) | st.text().map(lambda text: f'{{"providers": {text}'.encode()))
def test_arbitrary_bytes_never_raise(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "arbitrary"
    file = StateFile(folder / "state.json")
    files.make_folder(folder)
    file.path.write_bytes(data)
    aside = file.load().set_aside
    if aside is not None:
        Path(aside).unlink()


values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.just("x"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["providers", "models", "reason", "lastFailure", "consecutiveFailures"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(providers=values)
def test_arbitrary_json_is_read_and_updated(
    tmp_path_factory: pytest.TempPathFactory, providers: Any
) -> None:
    file = StateFile(tmp_path_factory.getbasetemp() / "json.json")
    file.path.write_bytes(msgspec.json.encode({"providers": providers}))
    before = file.load().states
    assert set(file.update(failing).states) == {*before, "a"}


def refused(states: States) -> States:
    """One login has used up its window; the provider has failed once for everyone."""
    login = BreakerState(2, 1500.0, None, 9000.0, 1500.0, "429 rate_limit_error")
    everyone = BreakerState(1, 1400.0, 1300.0, reason="500 api_error")
    return {"a": replace(everyone, credentials={"1f": login})}


def test_the_documented_keys_tell_what_the_login_meets(file: StateFile) -> None:
    file.update(refused)
    table = raw(file)["providers"]["a"]
    assert table["consecutiveFailures"] == 3
    assert (table["lastFailure"], table["lastSuccess"]) == (1_500_000, 1_300_000)
    assert (table["cooldownUntil"], table["reason"]) == (9_000_000, "429 rate_limit_error")
    assert table["everyone"]["consecutiveFailures"] == 1
    assert table["credentials"]["1f"]["cooldownUntil"] == 9_000_000
    assert file.load().states == refused({})


def test_documented_keys_that_a_script_changed_count_for_everyone(file: StateFile) -> None:
    file.update(refused)
    document = raw(file)
    document["providers"]["a"]["cooldownUntil"] = 8_000_000
    file.path.write_bytes(msgspec.json.encode(document))
    state = file.load().states["a"]
    assert (state.failures, state.cooldown_until, dict(state.credentials)) == (3, 8000.0, {})


def test_a_recovered_credential_is_removed_from_the_file(file: StateFile) -> None:
    file.update(refused)
    file.update(lambda states: {"a": replace(states["a"], credentials={})})
    assert {"everyone", "credentials"}.isdisjoint(raw(file)["providers"]["a"])


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE])
def test_a_passing_read_error_changes_nothing(
    file: StateFile, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    held = file.update(failing)
    StateFile(file.path).update(lambda states: {**states, "b": CLOSED})

    def fail(_path: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(files, "read_regular", fail)
        found = file.load(held)
        assert found.states == held.states
        assert found.problem == os.strerror(number)
        assert not file.is_current(found)
        with pytest.raises(StateError):
            file.update(failing)
    assert set(file.load(found).states) == {"a", "b"}
    assert set_aside_files(file.path) == []


def test_a_file_that_another_program_has_open_is_not_set_aside(
    file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SharingViolation(PermissionError):
        winerror = 32

    file.update(failing)

    def fail(_path: Path) -> bytes:
        raise SharingViolation(13, "The process cannot access the file")

    with monkeypatch.context() as patched:
        patched.setattr(files, "read_regular", fail)
        assert StateFile(file.path).load().problem is not None
        assert set_aside_files(file.path) == []
        patched.setattr(SharingViolation, "winerror", None)
        assert StateFile(file.path).load().set_aside is not None


def test_two_processes_lose_no_update(file: StateFile) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", ADDER, str(file.path), name]) for name in "ab"
    ]
    assert [child.wait() for child in children] == [0, 0]
    states = file.load().states
    assert states["shared"].failures == 100
    assert set(states) == {"shared", "a", "b"}


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_the_file_is_private_to_the_owner(file: StateFile) -> None:
    file.update(failing)
    assert files.is_private(file.path)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are POSIX")
def test_a_pipe_in_place_of_the_file_is_not_read_or_moved(file: StateFile) -> None:
    os.mkfifo(file.path)
    assert file.load().states == {}
    assert "not a regular file" in (file.peek().problem or "")
    with pytest.raises(StateError, match="not a regular file"):
        file.update(failing)
    assert file.path.is_fifo()
    assert set_aside_files(file.path) == []
