"""The state in a real Redis or Valkey: shared at once, written once, and going on without it."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from msgspec.structs import replace

from ccfallback.errors import StateError
from ccfallback.policy.breaker import CLOSED
from ccfallback.state.file import StateFile
from ccfallback.state.redis_store import MOST_VERSIONS, RedisStore
from ccfallback.state.sections import Entry, Section
from ccfallback.state.store import BreakerId, States
from tests.network import Certificates, certificates
from tests.shared_state import RedisServer, redis_server, until

__all__ = ["certificates", "redis_server"]

NUMBERS = Section("numbers", parse=int, encode=str, most=3)
A, B = BreakerId("a"), BreakerId("b", "model", "credential")

Stores = Callable[..., RedisStore]


@pytest.fixture
def stores(redis_server: RedisServer, tmp_path: Path) -> Iterator[Stores]:
    """Makes stores of that server: those of servers, or of commands."""
    made: list[RedisStore] = []

    def make(*, watches: bool = True, url: str = "", name: str = "") -> RedisStore:
        file = StateFile(tmp_path / f"{name or len(made)}.json")
        store = RedisStore(url or redis_server.url, file, watches=watches)
        store.load()
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


def count_failure(states: States) -> States:
    state = states.get("a", CLOSED)
    return {**states, "a": replace(state, failures=state.failures + 1)}


def failures(store: RedisStore) -> int:
    return store.load().states.get("a", CLOSED).failures


def same(*stores: RedisStore) -> bool:
    """Whether these have the same content; the last that wrote is one of them."""
    return len({store.load().version for store in stores}) == 1


def test_a_change_is_seen_by_the_other_servers_and_by_commands(stores: Stores) -> None:
    one, other, command = stores(), stores(), stores(watches=False)
    before = other.known_snapshot()
    assert before is not None
    assert other.is_current(before)
    after = one.update(count_failure, [Entry(NUMBERS, "n", 7)])
    assert one.is_current(after)
    until(lambda: not other.is_current(before))
    seen = other.known_snapshot()
    assert seen is not None
    assert seen.states == after.states == command.load().states
    assert NUMBERS.read(seen.sections) == {"n": 7}
    command.update(lambda _states: {})
    until(lambda: same(one, other, command))
    assert one.load().states == other.load().states == {}
    assert NUMBERS.read(one.load().sections) == {"n": 7}
    assert command.known_snapshot() is None


def test_updates_of_several_servers_at_the_same_time_all_count(stores: Stores) -> None:
    several = [stores() for _ in range(3)]
    for _ in range(20):
        for store in several:
            # Most of these are made from an old content.
            store.update(count_failure)
    until(lambda: same(*several))
    assert [failures(store) for store in several] == [60, 60, 60]


def test_a_batch_counts_once_however_often_it_is_sent(stores: Stores) -> None:
    one, other = stores(), stores()
    one.update(count_failure, batch=1)
    other.update(count_failure, batch=1)
    again = one.update(count_failure, batch=1)
    assert (again.states["a"].failures, again.batch) == (2, 1)
    assert one.update(count_failure, batch=2).states["a"].failures == 3


def test_an_update_whose_confirmation_was_lost_counts_once(
    stores: Stores, redis_server: RedisServer
) -> None:
    store, command = stores(), stores(watches=False)
    redis_server.hang()
    with pytest.raises(StateError, match="no answer"):
        store.update(count_failure, batch=1)
    with pytest.raises(StateError, match="no answer"):
        # At once, while it is known to be away.
        store.update(count_failure, batch=1)
    # The server finds the update in its socket.
    redis_server.go_on()
    until(lambda: not store.problem)
    until(lambda: failures(command) == 1)
    assert store.update(count_failure, batch=1).states["a"].failures == 1


def test_a_place_is_held_by_one_server_until_it_is_given_back(stores: Stores) -> None:
    one, other = stores(), stores()
    assert one.places.take([A])
    assert not other.places.take([A, B])
    assert one.places.take([A])
    assert one.places.take([B])
    one.places.release([A])
    assert not other.places.take([A, B])
    assert other.places.take([A])
    other.places.release([B])
    assert not other.places.take([B])
    one.close()
    assert other.places.take([B])


def test_a_place_of_a_dead_server_ends_and_that_of_a_living_one_does_not(
    stores: Stores, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccfallback.state.redis_store.PLACE_SECONDS", 2)
    monkeypatch.setattr("ccfallback.state.redis_store.TICK_SECONDS", 0.3)
    living, dead, other = stores(), stores(), stores()
    # Its watcher ends, as if the process had died.
    dead._closing.set()
    assert living.places.take([A])
    assert dead.places.take([B])
    until(lambda: other.places.take([B]))
    assert not other.places.take([A])


def test_a_place_that_was_lost_does_not_end_the_others(
    stores: Stores, redis_server: RedisServer
) -> None:
    one, other = stores(), stores()
    client = redis.Redis.from_url(redis_server.url)
    assert one.places.take([A])
    (key,) = client.scan_iter("ccfallback:{state}:probe:*")
    assert one.places.take([B])
    # As after a time without the store: the place has ended, and another server has taken it.
    client.delete(key)
    assert other.places.take([A])
    for each in client.scan_iter("ccfallback:{state}:probe:*"):
        client.expire(each, 5)
    one.places.renew()
    assert one.places.held == {B}
    assert not other.places.take([B])
    one.places.release([A])
    assert not one.places.take([A])
    client.close()


def test_without_the_server_reading_goes_on_and_writing_fails_at_once(
    stores: Stores, redis_server: RedisServer
) -> None:
    one, other = stores(), stores()
    one.update(count_failure)
    until(lambda: same(one, other))
    assert one.places.take([B])
    redis_server.kill()
    until(lambda: one.problem and other.problem)
    one.places.release([B])
    assert not one.places.held
    assert "can't be reached: " in one.problem
    assert str(redis_server.port) in one.problem
    assert failures(other) == 1
    assert other.load().problem == other.problem
    with pytest.raises(StateError):
        other.update(count_failure)
    # Each probes for itself.
    assert one.places.take([A])
    assert other.places.take([A])
    redis_server.start()
    until(lambda: not one.problem and not other.problem)
    assert one.load().problem is None
    # It has lost everything, and gets it back.
    assert other.update(count_failure).states["a"].failures == 2
    until(lambda: same(one, other))


def test_a_command_without_the_server_shows_the_copy_and_writes_nothing(
    stores: Stores, redis_server: RedisServer
) -> None:
    server = stores(name="shared")
    server.update(count_failure, [Entry(NUMBERS, "n", 7)])
    assert server.is_unsynced
    server.sync()
    assert not server.is_unsynced
    redis_server.kill()
    command = stores(name="shared", watches=False)
    snapshot = command.peek()
    assert snapshot.states["a"].failures == 1
    assert NUMBERS.read(snapshot.sections) == {"n": 7}
    assert snapshot.problem is not None
    assert "can't be reached: Connection refused" in snapshot.problem
    assert not command.is_unsynced
    with pytest.raises(StateError, match="can't be reached") as raised:
        command.update(count_failure)
    assert raised.value.hint
    # A server that starts goes on from the copy as well.
    started = stores(name="shared")
    assert failures(started) == 1
    assert started.load().problem is not None


@pytest.mark.parametrize("was_there", [False, True])
def test_the_copy_has_what_the_server_could_not_write_until_it_is_back(
    was_there: bool, stores: Stores, redis_server: RedisServer
) -> None:
    if not was_there:
        redis_server.kill()
    server = stores(name="shared")
    if was_there:
        server.update(count_failure)
        redis_server.kill()
    until(lambda: server.problem)
    known = dict(server.load().states)
    for more in (1, 2):
        server.keep(count_failure(known), [Entry(NUMBERS, "n", more)])
        known = count_failure(known)
        command = stores(name="shared", watches=False)
        snapshot = command.peek()
        assert snapshot.problem is not None
        assert failures(command) == more + was_there
        assert NUMBERS.read(snapshot.sections) == {"n": more}
    assert not server.is_unsynced
    # Only the copy has it: what the server knows is written by an update.
    assert failures(server) == was_there
    redis_server.start()
    until(lambda: not server.problem)
    assert server.is_unsynced
    server.sync()
    copy = StateFile(server._copy.path).load()
    assert copy.states == server.load().states
    assert NUMBERS.read(copy.sections) == {}


def test_a_store_that_is_emptied_gets_back_what_the_servers_know(
    stores: Stores, redis_server: RedisServer
) -> None:
    store, command = stores(), stores(watches=False)
    store.update(count_failure)
    client = redis.Redis.from_url(redis_server.url)
    client.flushall()
    until(lambda: failures(command) == 1)
    client.flushall()
    assert store.update(count_failure).states["a"].failures == 2
    assert failures(command) == 2
    client.close()


def test_a_missed_message_is_made_up_for(stores: Stores, redis_server: RedisServer) -> None:
    store, command = stores(), stores(watches=False)
    client = redis.Redis.from_url(redis_server.url)
    client.client_kill_filter(_type="pubsub")
    command.update(count_failure)
    until(lambda: failures(store) == 1)
    # A message about a version that this server has not seen.
    client.publish("ccfallback:{state}:changes", b'{"before":"x","after":"y","fields":{}}')
    client.hset("ccfallback:{state}:document", mapping={"providers/a": "{}", "version": "z"})
    until(lambda: store.load().version == "z")
    assert failures(store) == 0
    client.close()


def test_what_another_program_has_written_does_not_count(
    stores: Stores, redis_server: RedisServer
) -> None:
    store, command = stores(), stores(watches=False)
    command.update(count_failure, [Entry(NUMBERS, "n", 7)])
    client = redis.Redis.from_url(redis_server.url)
    written: dict[str | bytes, str | bytes] = {
        "providers/a": "[" * 100_000,
        "sections/numbers": "3",
        "x": b"\xff",
        b"\xfe": "{}",
    }
    for field, value in written.items():
        client.hset("ccfallback:{state}:document", field, value)
    client.hset("ccfallback:{state}:document", "version", "z")
    heard = store._contacted
    heard.clear()
    client.publish("ccfallback:{state}:changes", b"no JSON")
    until(lambda: store.load().version == "z")
    # The watcher has not connected again: it has only read everything.
    assert (heard.is_set(), store.problem) == (False, "")
    assert store.load().states == {}
    assert NUMBERS.read(store.load().sections) == {}
    assert store.update(count_failure).states["a"].failures == 1
    client.close()


def test_a_full_store_refuses_and_is_read_all_the_same(
    stores: Stores, redis_server: RedisServer
) -> None:
    one, other = stores(), stores()
    one.update(count_failure)
    client = redis.Redis.from_url(redis_server.url)
    client.config_set("maxmemory", "1")
    with pytest.raises(StateError, match=r"refuses: .*memory"):
        one.update(count_failure, batch=1)
    assert one.problem == ""
    assert one.places.take([A])
    client.config_set("maxmemory", "0")
    assert one.update(count_failure, batch=1).states["a"].failures == 2
    until(lambda: failures(other) == 2)
    client.close()


def test_a_wrong_password_is_not_said(stores: Stores, redis_server: RedisServer) -> None:
    client = redis.Redis.from_url(redis_server.url)
    client.config_set("requirepass", "a-right-one")
    client.close()
    wrong = redis_server.url.replace("//", "//:a-wrong-one@")
    for url, watches in ((wrong, True), (wrong, False), (redis_server.url, True)):
        store = stores(url=url, watches=watches)
        problem = store.load().problem
        assert problem is not None
        assert problem.endswith("it refuses the user or the password")
        assert "wrong" not in problem + store.name
    right = stores(url=redis_server.url.replace("//", "//:a-right-one@"))
    assert right.update(count_failure).states["a"].failures == 1


def test_a_url_that_the_client_does_not_take_is_an_error(tmp_path: Path) -> None:
    url = "redis://:a-secret@localhost/0?db=a-secret"
    with pytest.raises(StateError) as raised:
        RedisStore(url, StateFile(tmp_path / "state.json"), watches=False)
    assert "a-secret" not in str(raised.value)


def test_late_messages_about_versions_that_have_passed_are_skipped(stores: Stores) -> None:
    one, other = stores(), stores()
    assert MOST_VERSIONS > 200
    for _ in range(50):
        one.update(count_failure)
        other.update(count_failure)
    until(lambda: same(one, other))
    assert failures(one) == 100


def test_nothing_is_imported_where_no_url_is_configured() -> None:
    code = (
        "import sys; import ccfallback.server.serve, ccfallback.cli, ccfallback.state.file; "
        "sys.exit('redis' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_user_with_the_documented_rights_is_enough(
    stores: Stores, redis_server: RedisServer
) -> None:
    client = redis.Redis.from_url(redis_server.url)
    client.acl_setuser(
        "proxy",
        enabled=True,
        passwords=["+a b/c"],
        keys=["ccfallback:*"],
        channels=["ccfallback:*"],
        categories=["+@all"],
    )
    client.close()
    url = redis_server.url.replace("//", "//proxy:a%20b%2Fc@")
    one, other = stores(url=url), stores(url=url)
    one.update(count_failure, batch=1)
    until(lambda: failures(other) == 1)
    assert one.places.take([A])
    assert not other.places.take([A])
    assert one.problem == other.problem == ""


def test_the_connection_may_be_encrypted(
    tmp_path: Path, certificates: Certificates, stores: Stores, redis_server: RedisServer
) -> None:
    folder = tmp_path / "encrypted"
    folder.mkdir()
    files = certificates.folder
    server = RedisServer(
        folder,
        *("--tls-cert-file", str(files / "good.pem"), "--tls-key-file", str(files / "key.pem")),
        *("--tls-ca-cert-file", str(certificates.authority), "--tls-auth-clients", "no"),
        encrypted=True,
    )
    try:
        server.start()
    except RuntimeError:
        pytest.skip("this server was built without TLS")
    try:
        store = stores(url=f"{server.url}?ssl_ca_certs={certificates.authority}")
        assert store.update(count_failure).states["a"].failures == 1
        # Nobody has vouched for this authority.
        problem = stores(url=server.url, watches=False).load().problem
        assert problem is not None
        assert "certificate" in problem
        store.close()
    finally:
        server.kill()


class Link:
    """A connection to a server that can be cut, as a network is: nothing arrives any more."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._target = port
        self._sockets: list[socket.socket] = []
        self.is_open = threading.Event()
        self.is_open.set()
        self._run(self._accept)

    def _run(self, call: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=call, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += client, server
                self._run(self._carry, client, server)
                self._run(self._carry, server, client)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.is_open.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.is_open.set()
        for each in (self._listener, *self._sockets):
            each.close()


def test_both_sides_of_a_split_count_in_the_end(stores: Stores, redis_server: RedisServer) -> None:
    link = Link(redis_server.port)
    far = stores(url=f"redis://127.0.0.1:{link.port}/0")
    near = stores()
    far.update(count_failure, batch=1)
    until(lambda: failures(near) == 1)
    link.is_open.clear()
    with pytest.raises(StateError, match="no answer"):
        far.update(count_failure, batch=2)
    assert near.update(count_failure).states["a"].failures == 2
    assert failures(far) == 1
    link.is_open.set()
    # What was under way in the network arrives late, or the update is sent again; not both.
    until(lambda: not far.problem)
    assert far.update(count_failure, batch=2).states["a"].failures == 3
    until(lambda: same(far, near))
    assert failures(near) == 3
    far.close()
    link.close()


def test_an_update_that_changes_nothing_writes_nothing(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores()
    after = store.update(count_failure)
    assert store.update(lambda states: states).version == after.version
    monkeypatch.setattr(store, "_commit", lambda *_arguments: False)
    with pytest.raises(StateError, match="all the time"):
        store.update(count_failure)
    # The store is emptied before anything was ever in it.
    empty = stores(name="none")
    monkeypatch.setattr(empty, "_content", empty._content._replace(document={}))
    empty.sync()
    assert not empty.is_unsynced


def test_a_server_that_became_a_replica_is_left_until_it_takes_writes_again(
    stores: Stores, redis_server: RedisServer
) -> None:
    one, other = stores(), stores()
    one.update(count_failure)
    client = redis.Redis.from_url(redis_server.url)
    client.replicaof("127.0.0.1", "1")
    with pytest.raises(StateError, match=r"can't be reached: .*read"):
        one.update(count_failure, batch=1)
    client.replicaof("NO", "ONE")
    until(lambda: not one.problem)
    assert one.update(count_failure, batch=1).states["a"].failures == 2
    until(lambda: failures(other) == 2)
    client.close()
