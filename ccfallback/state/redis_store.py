"""The state in Redis or Valkey, shared by several servers: a `StateStore`.

    {state}:document   a hash: its version, and a field for each provider and section
    {state}:changes    a channel: each change of the document, with the versions around it
    {state}:batch:ID   the last batch of a server that the document has, for a day
    {state}:probe:ID   the server that probes a half-open breaker, for some seconds

All begin with `ccfallback:`, and have a hash tag because scripts use several at once.

A server holds the whole document in memory, so that reading never waits. Its watcher, a thread,
follows the channel, compares the version once a second, and connects again. An update is a script
that compares the version and writes what has changed; after a conflict it is made again from what
the other server wrote. If a confirmation is lost, the number of the batch tells whether the update
was applied. A command reads and writes without a watcher.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from itertools import compress, count
from secrets import token_hex
from time import monotonic
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ccfallback.errors import CcfallbackError, StateError
from ccfallback.state.document import VERSION, apply_update, parse_provider
from ccfallback.state.file import StateFile
from ccfallback.state.sections import Entry, read_sections
from ccfallback.state.store import BreakerId, LocalSlots, ProbeSlots, Snapshot, States, Update

T = TypeVar("T")

REQUEST_PATIENCE: Final = 0.05
"""Seconds that a request waits for the store."""

ANSWER_SECONDS: Final = 0.5
"""A store that does not answer for so long can't be reached."""

COMMAND_SECONDS: Final = 3.0
"""The same for a command, where a person waits."""

CONNECT_SECONDS: Final = 1.0

LISTEN_SECONDS: Final = 0.25
"""How long the watcher listens before it looks whether another thread has lost the store."""

TICK_SECONDS: Final = 1.0
"""How often the watcher compares the version, and renews what this server probes."""

PLACE_SECONDS: Final = 10
"""When the place of a dead server is free."""

BATCH_SECONDS: Final = 86_400
MOST_CONFLICTS: Final = 100
MOST_VERSIONS: Final = 256
"""Versions remembered, because their messages may arrive late."""

_PREFIX: Final = "ccfallback:{state}"
_DOCUMENT: Final = f"{_PREFIX}:document"
_CHANGES: Final = f"{_PREFIX}:changes"

_UPDATE: Final = """
if ARGV[3] ~= '0' and redis.call('GET', KEYS[2]) == ARGV[3] then
    return {2, redis.call('HGETALL', KEYS[1])}
end
if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then
    return {0, redis.call('HGETALL', KEYS[1])}
end
for i = 6, #ARGV, 2 do
    if ARGV[i + 1] == '' then
        redis.call('HDEL', KEYS[1], ARGV[i])
    else
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
end
redis.call('HSET', KEYS[1], 'version', ARGV[2])
if ARGV[3] ~= '0' then
    redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4])
end
redis.call('PUBLISH', KEYS[3], ARGV[5])
return {1}
"""
"""Of the document, the batch and the channel; takes the version before and after, the number of the
batch and its seconds, the message, and fields with their values, empty for one to delete."""

_TAKE: Final = """
for _, key in ipairs(KEYS) do
    local holder = redis.call('GET', key)
    if holder and holder ~= ARGV[1] then return 0 end
end
for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1], 'EX', ARGV[2]) end
return 1
"""

_RENEW: Final = """
local kept = {}
for i, key in ipairs(KEYS) do
    local holder = redis.call('GET', key)
    if not holder or holder == ARGV[1] then
        redis.call('SET', key, ARGV[1], 'EX', ARGV[2])
        kept[i] = 1
    else
        kept[i] = 0
    end
end
return kept
"""
"""Of each place by itself: 1 if it is still this server's."""

_RELEASE: Final = """
for _, key in ipairs(KEYS) do
    if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
"""


class _Content(NamedTuple):
    """What the store holds, as far as this process knows."""

    version: str
    """Empty if the store holds nothing, or was never read."""
    document: Mapping[str, Any]
    states: States
    batch: int = 0
    """The last batch of this process that is in it."""


_EMPTY: Final = _Content("", {}, {})


class _Message(msgspec.Struct):
    """A change of the document."""

    before: str
    after: str
    fields: dict[str, str]


class RedisStore:
    """The state at a URL. `copy` is the file that gets a copy of it.

    With `watches`, a thread keeps the content current from the first `load` on, and no method but
    that and `update` waits. Raises `StateError` if the URL can't be used.
    """

    def __init__(self, url: str, copy: StateFile, *, watches: bool) -> None:
        parts = urlsplit(url)
        password = parts.password or ""
        self._secrets = {password, unquote(password)} - {""}
        self.name = f"the shared state at {parts.hostname}:{parts.port or 6379}"
        try:
            self._client = redis.Redis.from_url(
                url,
                protocol=2,
                socket_timeout=ANSWER_SECONDS if watches else COMMAND_SECONDS,
                socket_connect_timeout=CONNECT_SECONDS if watches else COMMAND_SECONDS,
                # Whatever fails is repeated from here, where it is known what may be repeated.
                retry=Retry(NoBackoff(), 0),
            )
        except (ValueError, TypeError, redis.RedisError) as error:
            raise StateError(f"{self.name}: {self._hide(error)}", "check [state] url") from None
        self._update = self._client.register_script(_UPDATE)
        self._copy = copy
        self._copied = self._content = _EMPTY
        self._watches = watches
        self.patience = REQUEST_PATIENCE
        self.problem = ""
        self.slots: ProbeSlots = LocalSlots()
        self.places = _Places(self)
        self._failed = (-COMMAND_SECONDS, "")
        """When a command could not reach it, and why."""
        self._id = token_hex(8)
        self._numbers = count(1)
        self._passed: deque[str] = deque(maxlen=MOST_VERSIONS)
        # Held while the store is called, so that its answers are taken in their order.
        self._lock = threading.RLock()
        self._watcher: threading.Thread | None = None
        self._contacted = threading.Event()
        self._closing = threading.Event()

    # -- Reading

    def known_snapshot(self) -> Snapshot | None:
        """What the watcher has seen last; `None` without one."""
        return self._snapshot() if self._watcher is not None else None

    def is_current(self, snapshot: Snapshot) -> bool:
        """Whether nothing newer is known."""
        return snapshot.version == self._content.version

    def load(self, held: Snapshot | None = None) -> Snapshot:
        """What the store holds, or `held` itself if that is still current.

        If it can't be reached, this is what was known, or the copy in the file, and a `problem`.
        The first call of a server waits for the connection.
        """
        if not self._watches:
            return self._load_once()
        if self._watcher is None:
            self._content = self._read_copy()
            self._watcher = threading.Thread(target=self._watch, name="shared state", daemon=True)
            self._watcher.start()
            self._contacted.wait(CONNECT_SECONDS)
        if held is not None and self.is_current(held):
            return held
        return self._snapshot(self.problem)

    def _load_once(self) -> Snapshot:
        """What the store holds, for a command, which does not wait twice for one that hangs."""
        if monotonic() - self._failed[0] >= COMMAND_SECONDS:
            try:
                with self._lock:
                    self._fetch()
                return self._snapshot()
            except StateError as error:
                self._content = self._read_copy()
                self._failed = monotonic(), error.message
        return self._snapshot(self._failed[1])

    def peek(self) -> Snapshot:
        """As `load`: nothing unreadable is moved."""
        return self.load()

    def _snapshot(self, problem: str = "") -> Snapshot:
        content = self._content
        sections = read_sections(content.document)
        return Snapshot(
            content.states, sections, content.version, batch=content.batch, problem=problem or None
        )

    def _read_copy(self) -> _Content:
        document = self._copy.read_document()
        return _adopt(_EMPTY, "", _fields({}, document))

    # -- Writing

    def update(self, change: Update, entries: Iterable[Entry] = (), batch: int = 0) -> Snapshot:
        """Apply a change to what the store holds now, and return the result. Raises `StateError`.

        If the store has lost everything, it gets back what this server knows.
        """
        if self.problem:
            # Without a wait for the watcher, which is connecting.
            raise StateError(self.problem)
        entries = tuple(entries)
        with self._lock:
            if not self._watches:
                self._fetch()
            for _ in range(MOST_CONFLICTS):
                base = self._content
                applied = apply_update(base.document, base.states, change, entries)
                if applied is None:
                    break
                if self._commit(base, *applied, batch):
                    break
            else:
                raise StateError(f"{self.name} is changed by others all the time")
            return self._snapshot()

    def _commit(
        self, base: _Content, document: Mapping[str, Any], states: States, batch: int
    ) -> bool:
        """Write a document that was made from `base`; False if the store holds another one."""
        version = f"{self._id}.{next(self._numbers)}"
        fields = _fields(base.document if base.version else {}, document)
        message = msgspec.json.encode(_Message(base.version, version, fields))
        pairs = [each for pair in fields.items() for each in pair]
        keys = [_DOCUMENT, f"{_PREFIX}:batch:{self._id}", _CHANGES]
        arguments: list[str | int | bytes] = [
            base.version,
            version,
            batch,
            BATCH_SECONDS,
            message,
            *pairs,
        ]
        reply = self._call(lambda: self._update(keys, arguments))
        if reply[0] == 1:
            self._put(_Content(version, document, states, batch or base.batch))
            return True
        if reply[0] == 2:
            self._put(self._content._replace(batch=batch))
        self._take_all(reply[1])
        return bool(reply[0] == 2)

    # -- What the store answers

    def _fetch(self) -> None:
        self._take_all(self._call(lambda: self._client.hgetall(_DOCUMENT)))

    def _take_all(self, answer: Any) -> None:
        """Take the whole document. An empty one of a server keeps what is known, to write it."""
        is_list = isinstance(answer, list)
        pairs = zip(answer[::2], answer[1::2], strict=True) if is_list else answer.items()
        found = {
            name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
            for name, value in pairs
        }
        version = found.pop("version", "")
        if version:
            self._put(_adopt(_EMPTY._replace(batch=self._content.batch), version, found))
        elif self._watches:
            self._put(self._content._replace(version=""))
        else:
            self._put(_EMPTY)

    def _put(self, content: _Content) -> None:
        self._content = content
        self._passed.append(content.version)

    def _call(self, call: Callable[[], Any]) -> Any:
        """The answer of the store. Raises `StateError`."""
        if self.problem and threading.current_thread() is not self._watcher:
            raise StateError(self.problem)
        try:
            return call()
        except (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, OSError) as error:
            # After a failover, the name may lead to another server than the connection.
            raise self._lose(error) from None
        except redis.RedisError as error:
            raise StateError(f"{self.name} refuses: {self._hide(error)}") from None

    def _lose(self, error: Exception) -> StateError:
        match error:
            case redis.AuthenticationError():
                why = "it refuses the user or the password"
            case redis.TimeoutError() | TimeoutError():
                why = "no answer"
            case redis.ConnectionError(__context__=OSError(strerror=str(reason))):
                why = reason
            case _:
                why = self._hide(error)
        message = f"{self.name} can't be reached: {why}"
        if self._watches:
            self.problem = message
        return StateError(message, "check [state] url, and that it runs")

    def _hide(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text.removesuffix(".")

    # -- The watcher

    def _watch(self) -> None:
        pause = LISTEN_SECONDS
        while not self._closing.is_set():
            listener = self._client.pubsub(  # type: ignore[no-untyped-call]  # not annotated
                ignore_subscribe_messages=True
            )
            try:
                self._client.connection_pool.disconnect(inuse_connections=False)
                self._connect(listener)
                pause = LISTEN_SECONDS
                self._listen(listener)
            except StateError as error:
                self.problem = error.message
            except Exception as error:
                self.problem = self._lose(error).message
            finally:
                self._contacted.set()
                with suppress(Exception):
                    listener.close()
            self._closing.wait(pause)
            pause = min(TICK_SECONDS, 2 * pause)

    def _connect(self, listener: "redis.client.PubSub") -> None:
        with self._lock:
            # First, so that no change is missed.
            self._call(lambda: listener.subscribe(_CHANGES))
            self._fetch()
            self._give_back()
            self.places.renew()
            self.problem = ""
        self._contacted.set()

    def _give_back(self) -> None:
        """Write what is known to a store that has lost everything."""
        while not self._content.version and self._content.document:
            self._commit(self._content, self._content.document, self._content.states, 0)

    def _listen(self, listener: "redis.client.PubSub") -> None:
        looked = monotonic()
        while not self._closing.is_set() and not self.problem:
            message = listener.get_message(timeout=LISTEN_SECONDS)
            if message is not None and message["type"] == "message":
                self._hear(message["data"])
            if monotonic() - looked >= TICK_SECONDS:
                looked = monotonic()
                self._tick()

    def _hear(self, data: bytes) -> None:
        """Take a change that another server, or this one, has made."""
        with self._lock:
            try:
                message = msgspec.json.decode(data, type=_Message)
            except (ValueError, RecursionError):
                # From another program, or from a version of this one with another format.
                self._fetch()
                return
            if message.after in self._passed:
                return
            if message.before == self._content.version:
                self._put(_adopt(self._content, message.after, message.fields))
            else:
                self._fetch()

    def _tick(self) -> None:
        """Look whether a change was missed; this also shows whether the store answers."""
        with self._lock:
            version = self._call(lambda: self._client.hget(_DOCUMENT, "version"))
            if (version or b"").decode("utf-8", "replace") != self._content.version:
                self._fetch()
            self._give_back()
            self.places.renew()

    # -- The copy

    @property
    def is_unsynced(self) -> bool:
        """Whether the file's copy is old."""
        return self._copied is not self._content and self._watches

    def sync(self) -> None:
        """Copy the state to the file, for the status line and for a start without the store."""
        content = self._content
        if content.document:
            self._copy.replace(content.document)
        self._copied = content

    def keep(self, states: States, entries: Iterable[Entry]) -> None:
        """Copy the state to the file with what can't be written to the store now.

        When the store is back, its content is a new one, which `sync` copies.
        """
        if not self.problem:
            return
        content = self._content
        applied = apply_update(content.document, content.states, lambda _: states, entries)
        if applied is not None:
            self._copy.replace(applied[0])
            self._copied = content

    def close(self) -> None:
        """Give back what this server probes, and disconnect."""
        self._closing.set()
        if self._watcher is not None and not self.problem:
            with suppress(CcfallbackError):
                self.places.release(self.places.held)
        with suppress(redis.RedisError, OSError):
            self._client.close()


class _Places:
    """The breakers that this server probes, as all servers see them."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self.held: frozenset[BreakerId] = frozenset()
        self._take = store._client.register_script(_TAKE)
        self._renew = store._client.register_script(_RENEW)
        self._release = store._client.register_script(_RELEASE)

    def take(self, breakers: Iterable[BreakerId]) -> bool:
        """Take all of these; False, and none is taken, if another server has one."""
        wanted = frozenset(breakers)
        if self._store.problem:
            return True
        try:
            with self._store._lock:
                if not self._call(self._take, wanted, self._store._id, PLACE_SECONDS):
                    return False
                self.held |= wanted
        except StateError:
            return True
        return True

    def release(self, breakers: Iterable[BreakerId]) -> None:
        """Give back what was taken. A place that can't be given back ends by itself."""
        with self._store._lock:
            found = self.held.intersection(breakers)
            self.held -= found
            with suppress(StateError):
                self._call(self._release, found, self._store._id)

    def renew(self) -> None:
        """Keep what is held, so that only the place of a dead server ends.

        A place that ended meanwhile, while the store was away, may be another server's now.
        """
        with self._store._lock, suppress(StateError):
            held = tuple(self.held)
            if held:
                kept = self._call(self._renew, held, self._store._id, PLACE_SECONDS)
                self.held = frozenset(compress(held, kept))

    def _call(self, script: Any, breakers: Iterable[BreakerId], *arguments: object) -> Any:
        keys = [f"{_PREFIX}:probe:{_digest(each)}" for each in breakers]
        return self._store._call(lambda: script(keys, arguments)) if keys else 1


def _digest(breaker: BreakerId) -> str:
    """A name of bounded length; the client chooses the model's name."""
    return sha256("\0".join(breaker).encode("utf-8", "replace")).hexdigest()[:32]


def _fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a document that differ as JSON, empty for one that is gone."""
    old, new = _tables(before), _tables(after)
    changed = {
        name: msgspec.json.encode(table).decode()
        for name, table in new.items()
        if old.get(name) is not table and old.get(name) != table
    }
    return changed | dict.fromkeys(old.keys() - new.keys(), "")


def _tables(document: Mapping[str, Any]) -> dict[str, Any]:
    providers = document.get("providers")
    found = {
        f"providers/{name}": table
        for name, table in (providers if isinstance(providers, dict) else {}).items()
    }
    return found | {f"sections/{name}": each for name, each in read_sections(document).items()}


def _adopt(content: _Content, version: str, fields: Mapping[str, str]) -> _Content:
    """The content with other fields; one that is not a JSON object is as if deleted."""
    sections = dict(read_sections(content.document))
    providers, states = dict(content.document.get("providers", {})), dict(content.states)
    for field, value in fields.items():
        kind, _, name = field.partition("/")
        table = _decode(value)
        if kind == "providers":
            providers.pop(name, None)
            states.pop(name, None)
            if table is not None:
                providers[name], states[name] = table, parse_provider(table)
        else:
            sections.pop(name, None)
            if table is not None:
                sections[name] = table
    document = {"version": VERSION, "providers": providers, **sections}
    return _Content(version, document, states, content.batch)


def _decode(value: str) -> dict[str, Any] | None:
    try:
        table = msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return None
    return table if isinstance(table, dict) else None
