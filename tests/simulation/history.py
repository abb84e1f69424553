"""Runs a script: starts the world, lets everything happen, and keeps what did."""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from ccfallback.errors import ConfigError
from ccfallback.events import records as events
from ccfallback.server.record import Record
from tests.simulation.client import Client, Login, Look, Turn
from tests.simulation.disk import DISK
from tests.simulation.loop import SimulatedLoop
from tests.simulation.machine import PORT, Machine, no_route, set_disk
from tests.simulation.network import OPEN, Door, Network
from tests.simulation.providers import PRIMARY, SimulatedProvider, open_provider
from tests.simulation.scripts import Event, Script
from tests.simulation.seams import NOW

QUIET: Final = 3600.0
"""Seconds without weather at the end."""

START_PATIENCE: Final = 2.0
"""Seconds that a server may need for its start while the disk is slow."""

TRACED: Final = frozenset(
    {
        "provider.attempt", "provider.success", "provider.failure", "provider.timeout",
        "circuit_breaker.cooldown", "circuit_breaker.reset", "circuit_breaker.skip",
        "safety_valve.triggered", "request.complete", "request.error", "request.start",
        "config.load", "config.error", "state.error", "state.saved", "state.corrupt",
        "server.start", "server.stop", "server.error", "log.error", "quota.switch",
        "failback.stay", "failback.return", "rectifier.applied", "client.refused",
    }
)  # fmt: skip


@dataclass
class Trouble:
    """Something that happened to the machine, from when to when."""

    kind: str
    began: float
    ended: float
    seconds: float = 0.0


@dataclass
class History:
    """A script that is happening, or has happened."""

    script: Script
    folder: Path
    loop: SimulatedLoop = field(default_factory=SimulatedLoop)
    keeps_trace: bool = False
    lines: list[str] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    tools: dict[str, int] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    providers: dict[str, SimulatedProvider] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    last_turns: list[Turn] = field(default_factory=list)
    """The turns after the quiet hour."""
    network: Network = field(init=False)
    machine: Machine = field(init=False)
    watchers: Sequence["Watcher"] = ()

    def __post_init__(self) -> None:
        # Edits change the configuration, and a script may run again.
        self._config = msgspec.json.decode(msgspec.json.encode(self.script.config))
        self._digest = hashlib.blake2b(digest_size=16)
        self._undo: list[Callable[[], None]] = []
        self._happening: set[asyncio.Task[None]] = set()
        self._ports: list[int] = [PORT]
        self._clients: list[Client] = []
        self.capped: list[tuple[float, str]] = []
        """The times at which a provider was skipped for its cap, and its name."""

    @property
    def digest(self) -> str:
        """A hash of the whole trace."""
        return self._digest.hexdigest()

    def trace(self, text: str) -> None:
        """Add a line to the trace."""
        line = f"{NOW.elapsed:.6f} {text}"
        self._digest.update(line.encode() + b"\n")
        if self.keeps_trace:
            self.lines.append(line)

    def on_record(self, record: Record) -> None:
        """A record of a server."""
        if record.event in TRACED:
            message = record.message.replace(str(self.folder), "~")
            self.trace(f"  {record.event} {record.request_id or '-'} {message}")
        if isinstance(record.data, events.SpendCap):
            self.capped.append((NOW.elapsed, record.data.provider))
        for watch in self.watchers:
            watch(self, record)

    def run(self) -> None:
        """Let it happen, from the start to the end of the quiet hour."""
        NOW.start(self.script.seed)
        DISK.__init__()  # type: ignore[misc]  # a new disk under the same name
        self.network = Network(self.loop, door=self._door, lookup=self._look_up_error)
        self.loop.sockets = self.network
        self.loop.disk_delay = lambda: DISK.delay
        self.machine = Machine(
            self.loop, self.network, self.folder, self._config, self.trace, self.on_record
        )
        self.loop.run(self._happen())
        for error in self.loop.errors:
            self.violations.append(f"asyncio reports: {error}")

    # -- The world

    def _open_providers(self) -> None:
        tables = [{"name": PRIMARY, "format": "anthropic"}, *self._config["providers"]]
        for number, table in enumerate(tables):
            name = table["name"]
            host = "api.anthropic.com" if name == PRIMARY else f"{name}.example"
            provider = SimulatedProvider(
                name, table["format"], host, number, Random(self.script.seed * 31 + number),
                self.loop,
            )  # fmt: skip
            provider.events = [e for e in self.script.events if _is_weather_of(e, name)]
            self.providers[name] = provider
            open_provider(provider, self.network)

    def _door(self, address: str) -> Door:
        if self.machine.is_offline:
            return Door(no_route)
        for provider in self.providers.values():
            if provider.address[0] == address:
                return provider.door()
        return OPEN

    def _look_up_error(self, host: str) -> OSError | None:
        error = self.machine.look_up_error(host)
        if error is not None:
            return error
        for provider in self.providers.values():
            if provider.host == host:
                return provider.look_up_error()
        return None

    async def _happen(self) -> None:
        self._open_providers()
        self.machine.write_config()
        self.machine.start()
        await asyncio.sleep(0.01)
        waiting = [
            *(asyncio.ensure_future(self._work(each)) for each in self.script.sessions),
            asyncio.ensure_future(self._cause()),
        ]
        for each in waiting:
            await each
        await self._calm_down()

    async def _cause(self) -> None:
        """Let the machine's events happen in their order."""
        for event in self.script.events:
            if "provider" in event and event["kind"] not in _CAUSES:
                continue
            await _sleep_until(float(event["at"]))
            self.trace(f"{event['kind']} happens")
            task = asyncio.ensure_future(_CAUSES[str(event["kind"])](self, event))
            self._happening.add(task)
            task.add_done_callback(self._happening.discard)
        if self._happening:
            await asyncio.wait(list(self._happening))

    # -- The clients

    async def _work(self, session: Mapping[str, Any]) -> None:
        """A session: its turns at their times, one after the other."""
        chance = Random(self.script.seed * 131 + int(session["name"][1:]))
        client = self._client(session, chance)
        self._clients.append(client)
        for number, turn in enumerate(session["turns"]):
            await _sleep_until(float(turn["at"]))
            await self._take_turn(client, f"{session['name']}t{number}", turn)

    def _client(self, session: Mapping[str, Any], chance: Random) -> Client:
        def address() -> tuple[str, int]:
            ports = [port for port in self._ports if self.machine.running(port)]
            port = ports[int(chance.random() * len(ports))] if ports else PORT
            return ("127.0.0.1", port)

        return Client(
            self.loop,
            self.network,
            address,
            Login(session["name"], session["is_plan"]),
            f"session-{session['name']}",
            lambda: self.providers[PRIMARY].generation,
            self.trace,
            self.turns,
            self.tools,
            session["model"],
            bool(session.get("has_features")),
        )

    async def _take_turn(self, client: Client, name: str, turn: Mapping[str, Any]) -> None:
        title = None
        if turn.get("title"):
            title = asyncio.ensure_future(client.converse(f"{name}title", 0))
        if turn.get("looks"):
            await client.look(self._breaker_states, self.looks)
        work = asyncio.ensure_future(
            client.converse(
                name, turn["steps"], turn.get("agents", 0), is_wide=bool(turn.get("is_wide"))
            )
        )
        abort = turn.get("abort")
        if abort is not None:
            await asyncio.wait([work], timeout=abort)
            if not work.done():
                work.cancel()
            await asyncio.wait([work])
        else:
            await work
        if title is not None:
            await title

    def _breaker_states(self) -> tuple[int, Any] | None:
        """See `Client.look`."""
        run, now = self.machine.running(PORT), NOW.elapsed
        requests = [request for turn in self.turns for request in turn.requests[-1:]]
        last = max((each.ended for each in requests), default=0.0)
        if (
            run is None
            or self.machine.running(PORT + 1) is not None
            or any(not each.ended or each.ended > now - 5.0 for each in requests)
            # A change that no request has seen yet shows only now.
            or any(last <= each.ended and each.began <= now for each in self.troubles)
            or any(at >= last for at, _ in self.machine.by_hand)
        ):
            return None
        states = run.proxy.services.breakers.states
        found = {name: (each.failures, each.cooldown_until) for name, each in states.items()}
        return sum(len(turn.requests) for turn in self.turns), found

    async def _calm_down(self) -> None:
        """The quiet hour: no weather any more, and a turn now and then."""
        for provider in self.providers.values():
            provider.events = [
                {**e, "for": min(e["for"], max(0.0, NOW.elapsed - e["at"])), "told": e["for"]}
                for e in provider.events
            ]
        self.trace("the quiet hour begins")
        calm = {"steps": 0, "agents": 0}
        clients = sorted(self._clients, key=lambda each: each.session)
        began = NOW.elapsed
        for number in range(5):
            await _sleep_until(began + QUIET * number / 5)
            for client in clients:
                await self._take_turn(client, f"{client.login.person}q{number}", calm)
        await _sleep_until(began + QUIET)
        before = len(self.turns)
        for client in clients:
            for number in range(2):
                await self._take_turn(client, f"{client.login.person}z{number}", calm)
        self.last_turns = self.turns[before:]
        # Longer than any connection is kept.
        await asyncio.sleep(200.0)
        for port in (PORT, PORT + 1):
            run = self.machine.running(port)
            if run is not None:
                await self.machine.stop(run)
        self.trace("the end")

    # -- What happens to the machine

    def _trouble(self, kind: str, length: float, seconds: float = 0.0) -> Trouble:
        trouble = Trouble(kind, NOW.elapsed, NOW.elapsed + length, seconds)
        self.troubles.append(trouble)
        return trouble

    async def _go_offline(self, event: Event) -> None:
        self._trouble("offline", event["for"])
        self.machine.is_offline = True
        if event.get("cut"):
            self.machine.cut_connections(silent=True)
        await asyncio.sleep(event["for"])
        self.machine.is_offline = False

    async def _lose_dns(self, event: Event) -> None:
        self._trouble("offline", event["for"])
        self.machine.has_dns = False
        await asyncio.sleep(event["for"])
        self.machine.has_dns = True

    async def _sleep(self, event: Event) -> None:
        self._trouble("sleep", 0.0, event["seconds"])
        NOW.slept += event["seconds"]
        self.machine.cut_connections(silent=bool(event.get("cut")))

    async def _set_clock(self, event: Event) -> None:
        self._trouble("clock", 0.0, event["seconds"])
        NOW.jumped += event["seconds"]

    async def _fill_disk(self, event: Event) -> None:
        self._trouble("disk", event["for"])
        set_disk(full=True)
        await asyncio.sleep(event["for"])
        set_disk(full=False)

    async def _slow_disk(self, event: Event) -> None:
        self._trouble("disk", event["for"], event["delay"])
        set_disk(delay=event["delay"])
        await asyncio.sleep(event["for"])
        set_disk(delay=0.0)

    async def _kill(self, event: Event) -> None:
        run = self.machine.running(PORT)
        if run is not None:
            down = self._trouble("down", event["for"])
            self.machine.kill(run)
            await asyncio.sleep(event["for"])
            await self._start_again(down)

    async def _restart(self, event: Event) -> None:
        run = self.machine.running(PORT)
        if run is not None:
            down = self._trouble("down", 1e12)
            await self.machine.stop(run)
            await asyncio.sleep(event["for"])
            await self._start_again(down)

    async def _start_again(self, down: Trouble) -> None:
        """Start the server, as a service manager does: until it starts."""
        trouble = Trouble("long down", NOW.elapsed, 1e12)
        while self.machine.running(PORT) is None:
            try:
                self.machine.start()
            except ConfigError:
                if trouble not in self.troubles:
                    self.troubles.append(trouble)
                await asyncio.sleep(5.0)
        trouble.ended = NOW.elapsed
        # A disk that does not answer holds the start up, but not for long.
        down.ended = NOW.elapsed + min(DISK.delay, START_PATIENCE)

    async def _second_server(self, event: Event) -> None:
        port = PORT + 1
        if self.machine.running(port) is not None:
            return
        try:
            run = self.machine.start(port)
        except ConfigError:
            return
        await asyncio.sleep(1.0)
        self._ports.append(port)
        await asyncio.sleep(event["for"])
        self._ports.remove(port)
        # Requests that are on their way there are let through.
        await self.machine.stop(run)

    async def _edit(self, event: Event) -> None:
        self._trouble("edit", event["for"])
        before = self._config.get("failback")
        self.machine.edit(event["what"], event)
        await asyncio.sleep(event["for"])
        undo = {"disable": "enable", "reverse": "reverse"}.get(event["what"], "same")
        if event["what"] == "failback":
            self._config.pop("failback", None)
            if before is not None:
                self._config["failback"] = before
        if event["what"] == "timeouts":
            self._config.pop("timeouts", None)
        self.machine.edit(undo, event)

    async def _reset(self, event: Event) -> None:
        self.machine.reset(event["provider"])

    async def _trip(self, event: Event) -> None:
        self._trouble(f"trip {event['provider']}", event["seconds"])
        self.machine.trip(event["provider"], event["seconds"])

    async def _garble_state(self, _event: Event) -> None:
        self.machine.garble_state()

    async def _expire_login(self, _event: Event) -> None:
        self.providers[PRIMARY].generation += 1


Watcher = Callable[[History, Record], None]
"""Sees every record of a server when it is made."""

_CAUSES: Final[dict[str, Callable[[History, Event], Any]]] = {
    "offline": History._go_offline,
    "no-dns": History._lose_dns,
    "sleep": History._sleep,
    "clock": History._set_clock,
    "disk-full": History._fill_disk,
    "disk-slow": History._slow_disk,
    "kill": History._kill,
    "restart": History._restart,
    "second-server": History._second_server,
    "edit": History._edit,
    "reset": History._reset,
    "trip": History._trip,
    "garble-state": History._garble_state,
    "expire-login": History._expire_login,
}


def _is_weather_of(event: Event, name: str) -> bool:
    return event["kind"] not in _CAUSES and event.get("provider") == name


def _sleep_until(when: float) -> Awaitable[None]:
    return asyncio.sleep(max(0.0, when - NOW.elapsed))


def fast_folder() -> Path | None:
    """A folder in memory, where there is one."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else None


def happen(
    script: Script,
    check: Callable[[History], None],
    watchers: Sequence[Watcher] = (),
    *,
    keep: bool = False,
) -> History:
    """Run a script and check what happened."""
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=fast_folder()))
    history = History(script, folder, keeps_trace=keep, watchers=watchers)
    try:
        history.run()
        check(history)
        return history
    finally:
        history.loop.forget_tasks()
        shutil.rmtree(folder, ignore_errors=True)
