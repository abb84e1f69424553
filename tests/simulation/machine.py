"""The machine: the server's processes, its files and its network, and the person who edits them."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ccfallback.config.model import Config
from ccfallback.paths import Paths
from ccfallback.policy.breaker import CLOSED, BreakerState, open_by_hand
from ccfallback.server import serve
from ccfallback.server.record import Record
from ccfallback.state import open_store
from tests.simulation.disk import DISK
from tests.simulation.loop import Process, SimulatedLoop, in_process
from tests.simulation.network import Network
from tests.simulation.providers import PRIMARY
from tests.simulation.seams import NOW

FLUSH_SECONDS: Final = 60.0
"""Seconds between two looks of a server at what it has to save: rarer than in earnest, because most
of a history is pauses, in which there is nothing."""

PORT: Final = 8787

States = dict[str, BreakerState]


@dataclass
class Run:
    """A server's process from its start to its end."""

    process: Process
    proxy: serve.Proxy
    port: int
    began: float
    records: list[tuple[float, Record]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    ended: float | None = None
    was_killed: bool = False


@dataclass
class Machine:
    """Everything below the clients and behind the providers."""

    loop: SimulatedLoop
    network: Network
    folder: Path
    config: dict[str, Any]
    trace: Callable[[str], None]
    on_record: Callable[[Record], None]
    runs: list[Run] = field(default_factory=list)
    is_offline: bool = False
    has_dns: bool = True
    enabled: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    """From which time on which providers are enabled."""
    by_hand: list[tuple[float, str]] = field(default_factory=list)
    """When a person changed the state, and how."""

    @property
    def paths(self) -> Paths:
        """The files of the installation."""
        return Paths(
            self.folder / "config.toml", self.folder / "state.json", self.folder / "log.jsonl"
        )

    # -- The server

    def start(self, port: int = PORT) -> Run:
        """Start a server."""
        process = Process(f"server-{len(self.runs) + 1}", 1000 + len(self.runs))
        context = in_process(process)
        proxy = context.run(serve.Proxy, self.paths)
        run = Run(process, proxy, port, NOW.elapsed)
        # A server that starts with an empty configuration has the primary alone.
        self._note_enabled(frozenset(each.name for each in proxy.services.live.current.active))

        def note(record: Record) -> None:
            run.records.append((NOW.elapsed, record))
            self.on_record(record)

        proxy.recorder.listeners.append(note)
        context.run(proxy.bind, None, port)
        run.task = context.run(self.loop.create_task, proxy.serve())
        self.runs.append(run)
        self.trace(f"{process.name} starts on {port}")
        return run

    def kill(self, run: Run) -> None:
        """kill -9: nothing of the process runs any more, and the system closes its sockets."""
        run.process.is_alive = False
        run.was_killed, run.ended = True, NOW.elapsed
        self.network.kill(run.process)
        self.trace(f"{run.process.name} is killed")

    async def stop(self, run: Run) -> None:
        """SIGTERM: let streams finish, and wait for the end."""
        if run.task is None or run.ended is not None:
            return
        run.proxy.stop()
        while not run.task.done():
            await asyncio.sleep(0.25)
            if not run.process.is_alive:
                return
        run.ended = NOW.elapsed
        self.trace(f"{run.process.name} has stopped")
        run.task.result()

    def running(self, port: int) -> Run | None:
        """The server on a port."""
        return next((r for r in self.runs if r.port == port and r.ended is None), None)

    def running_config(self) -> Config:
        """The configuration of the server that was started last."""
        return self.runs[-1].proxy.services.live.current

    # -- Its network

    def cut_connections(self, *, silent: bool) -> None:
        """Break what is open to providers: without a word, or with a reset after a sleep."""
        for transport in list(self.network.transports):
            if transport.process is None or transport.is_closing():
                continue
            if transport.socket.address[0] == "127.0.0.1":
                continue
            if silent:
                transport.is_cut = transport.peer.is_cut = True
            else:
                transport.peer.reset()

    def look_up_error(self, _host: str) -> OSError | None:
        """What a look-up says when the machine's network or name server is gone."""
        if self.is_offline or not self.has_dns:
            return socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return None

    # -- Its user

    def write_config(self) -> None:
        """Write the configuration as an editor does: aside, and then in place."""
        path = self.paths.config
        aside = path.with_name("config.toml.new")
        aside.write_bytes(to_toml(self.config).encode())
        aside.chmod(0o600)
        aside.replace(path)
        enabled = {p["name"] for p in self.config["providers"] if not p.get("disabled")}
        if not self.config.get("primary", {}).get("disabled"):
            enabled.add(PRIMARY)
        self._note_enabled(frozenset(enabled))

    def _note_enabled(self, names: frozenset[str]) -> None:
        if not self.enabled or self.enabled[-1][1] != names:
            self.enabled.append((NOW.elapsed, names))

    def edit(self, what: str, event: Mapping[str, Any]) -> None:
        """Change the configuration file."""
        providers = self.config["providers"]
        match what:
            case "disable" | "enable":
                tables = [p for p in providers if p["name"] == event["provider"]]
                if event["provider"] == PRIMARY:
                    tables = [self.config.setdefault("primary", {})]
                for table in tables:
                    table["disabled"] = what == "disable"
            case "reverse":
                providers.reverse()
            case "timeouts":
                self.config["timeouts"] = {"first_byte": event["seconds"]}
            case "failback":
                self.config["failback"] = {"mode": event["mode"]}
            case "broken":
                self.paths.config.write_bytes(b"[[providers]\nname = ")
                return
            case "empty":
                self.paths.config.write_bytes(b"")
                return
            case "same":
                pass
        self.write_config()

    def reset(self, name: str) -> None:
        """`breaker reset`, as the command does it."""

        def clear(states: States) -> States:
            return {**states, name: BreakerState(learned=states.get(name, CLOSED).learned)}

        self._change(clear)

    def trip(self, name: str, seconds: float) -> None:
        """`breaker trip`, as the command does it."""

        def open_(states: States) -> States:
            until = NOW.wall + seconds
            state = open_by_hand(states.get(name, CLOSED), until=until, now=NOW.wall)
            return {**states, name: state}

        self._change(open_)

    def garble_state(self) -> None:
        """A state file that can't be read."""
        self.paths.state.write_bytes(b'{"version": 1, "providers": {"anthropic-pri')
        self.by_hand.append((NOW.elapsed, "garble"))

    def _change(self, change: Callable[[States], States]) -> None:
        self.by_hand.append((NOW.elapsed, "change"))
        with contextlib.suppress(Exception):
            open_store(self.paths).update(change)


def no_route() -> OSError:
    """What an attempt to connect says while the machine is offline."""
    return OSError(errno.ENETUNREACH, "Network is unreachable")


def to_toml(config: Mapping[str, Any]) -> str:
    """A configuration as TOML: tables of plain values, and `[[providers]]`."""
    lines: list[str] = []
    for name, table in config.items():
        if name == "providers":
            continue
        lines += [f"[{name}]", *_pairs(table)]
    for provider in config["providers"]:
        lines += ["[[providers]]", *_pairs(provider)]
    return "\n".join(lines) + "\n"


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_value(value)}" for name, value in table.items()]


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"'
        case dict():
            return "{ " + ", ".join(_pairs(value)) + " }"
    return repr(value)


def set_disk(*, full: bool | None = None, delay: float | None = None) -> None:
    """Change how the disk is."""
    DISK.is_full = DISK.is_full if full is None else full
    DISK.delay = DISK.delay if delay is None else delay
