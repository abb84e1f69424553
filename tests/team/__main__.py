"""A team behind three servers with one shared state: is a turn lost, whatever happens to them?

`python -m tests.team --seconds 60` starts three upstreams that fail at a given rate, a Redis or
Valkey server, and three servers of ccfallback that share it. Clients ask and try again as Claude
Code does. Meanwhile the servers restart one after the other, and the store is killed, started again
and stopped for a while. It prints a table, and exits with 1 if a turn is lost, an answer is not the
one that was asked for, or a server refuses or resets a connection.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from ccfallback.paths import Paths
from ccfallback.state import server_file
from tests.shared_state import SERVER, RedisServer
from tests.soak.__main__ import UNANSWERED, Seen, address, ask, started

SERVERS: Final = 3
CLIENTS: Final = 40

LONG: Final = 12.0
"""Seconds from which on the servers restart a second time."""

CONFIG: Final = """\
[server]
port = 0
[breaker]
max_cooldown = 0.5
[primary]
base_url = "{0}"
[[providers]]
name = "translated"
base_url = "{1}"
format = "openai"
api_key = "k"
model_mapping = {{ "*" = "m" }}
[[providers]]
name = "healthy"
base_url = "{2}"
api_key = "k"
"""

NO_STORE: Final = (
    "neither redis-server nor valkey-server is on PATH: each server has a state of its own, and "
    "nothing happens to a store"
)


class TeamServer:
    """One server, in the background as a user would run it."""

    def __init__(self, folder: Path, config: str) -> None:
        folder.mkdir()
        self.paths = Paths(folder / "config.toml", folder / "state.json", folder / "log.jsonl")
        self.paths.config.write_text(config)
        self.paths.config.chmod(0o600)
        self.url = ""

    def run(self, *words: str) -> None:
        """Run a command of ccfallback. Raises `SystemExit` if it fails."""
        names = ("--config", "--state", "--log-file")
        files = (word for pair in zip(names, self.paths, strict=True) for word in map(str, pair))
        command = [sys.executable, "-m", "ccfallback", *files, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{words[0]} failed: {done.stderr}")

    def start(self) -> None:
        """Start it and note its address, which stays the same."""
        self.run("serve", "-d")
        self.url = self.info.url

    def stop(self) -> None:
        """Stop it at once."""
        if self.url:
            self.run("stop", "--now")

    @property
    def info(self) -> server_file.ServerInfo:
        """What it has published."""
        found = server_file.read(self.paths.server)
        assert found is not None
        return found

    def count_unreachable(self) -> int:
        """How often it has reported that the shared state can't be reached."""
        lines = self.paths.log.read_bytes().splitlines() if self.paths.log.exists() else []
        return sum(b'"event":"state.error"' in line for line in lines)


@dataclass
class Phase:
    """A part of the time, and what the clients have seen in it."""

    title: str
    seconds: float = 0.0
    seen: Seen = field(default_factory=Seen)

    @property
    def refused(self) -> int:
        """Requests that got nothing: no server accepted the connection, or it was reset."""
        errors = self.seen.errors.items()
        return sum(count for kind, count in errors if kind.endswith(UNANSWERED))

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost in it."""
        return not (self.seen.lost or self.seen.wrong or self.refused)


class Team:
    """The clients, and the phases of the time they have spent."""

    def __init__(self, servers: Sequence[TeamServer], clients: int) -> None:
        self.phases: list[Phase] = []
        self._servers = servers
        self._clients = clients
        self._is_over = False

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """The clients ask while the block runs, and end their turns after it."""
        tasks = [asyncio.create_task(self._work(number)) for number in range(self._clients)]
        try:
            yield
        finally:
            self._is_over = True
            await asyncio.gather(*tasks)

    async def phase(self, title: str, seconds: float, event: Callable[[], None] | None) -> None:
        """A phase of so many seconds at least, in which something happens to the servers."""
        phase = Phase(title)
        self.phases.append(phase)
        began = time.monotonic()
        if event is not None:
            await asyncio.to_thread(event)
        await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began)))
        phase.seconds = time.monotonic() - began

    async def _work(self, number: int) -> None:
        url = self._servers[number % len(self._servers)].url
        # Some keep their connection, some come anew each time.
        limits = httpx.Limits(max_keepalive_connections=0 if number % 4 == 0 else 1)
        async with httpx.AsyncClient(timeout=120, limits=limits, trust_env=False) as client:
            turn = number
            while not self._is_over:
                # A turn counts where it began.
                await ask(client, url, self.phases[-1].seen, turn)
                turn += self._clients


def restart_all(servers: Sequence[TeamServer]) -> None:
    """Restart one server after the other, as a rolling update does."""
    for server in servers:
        before = server.info
        server.run("restart")
        if server.info.pid == before.pid or server.info.url != before.url:
            raise SystemExit(f"{before.url} was not restarted in place")


def pause_store(store: RedisServer, seconds: float) -> None:
    """Stop its process for a while: connections stay open, and nothing answers."""
    store.hang()
    time.sleep(seconds)
    store.go_on()


def kill_store(store: RedisServer, seconds: float) -> None:
    """Kill it, and start it again after a while, without what it knew."""
    store.kill()
    time.sleep(seconds)
    store.start()


async def play(
    servers: Sequence[TeamServer], store: RedisServer | None, seconds: float, clients: int
) -> list[Phase]:
    """Let a team work for so long."""
    team = Team(servers, clients)
    share = seconds / 6
    team.phases.append(Phase("start"))
    async with team.working():
        await team.phase("faults only", share, None)
        await team.phase("rolling restart", share, lambda: restart_all(servers))
        if store is not None:
            await team.phase("store killed", share, lambda: kill_store(store, share / 2))
            await team.phase("store back", share, None)
            await team.phase("store stopped", share, lambda: pause_store(store, share / 2))
            if seconds >= LONG:
                without = partial(_restart_without, store, servers)
                await team.phase("restart, store killed", share, without)
        await team.phase("all well again", share, None)
    return team.phases


def _restart_without(store: RedisServer, servers: Sequence[TeamServer]) -> None:
    store.kill()
    restart_all(servers)
    store.start()


def report(phases: Sequence[Phase], servers: Sequence[TeamServer], *, has_store: bool) -> bool:
    """Print the table; whether all is well."""
    header = ("phase", "seconds", "requests", "turns", "tried again", "failovers", "refused",
              "lost", "wrong", "longest turn")  # fmt: skip
    rows: list[tuple[str, ...]] = [header]
    total = Phase("total")
    for phase in phases:
        total.seconds += phase.seconds
        total.seen.add(phase.seen)
    for phase in (*phases, total):
        seen = phase.seen
        counts = (seen.requests, seen.turns, seen.tried_again, seen.failovers, phase.refused)
        longest = f"{max(seen.seconds, default=0.0):.1f} s"
        lost = (str(len(seen.lost)), str(len(seen.wrong)))
        rows.append((phase.title, f"{phase.seconds:.1f}", *map(str, counts), *lost, longest))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(size) for cell, size in zip(row, widths, strict=True)]
        sys.stdout.write("  ".join((row[0].ljust(widths[0]), *cells[1:])) + "\n")
    seen = total.seen
    sys.stdout.write(f"answered by {dict(seen.providers)}; errors seen: {dict(seen.errors)}\n")
    if has_store:
        notices = [server.count_unreachable() for server in servers]
        sys.stdout.write(f"notices that the store can't be reached, by server: {notices}\n")
    for trouble in (*seen.lost[:3], *seen.wrong[:3]):
        sys.stdout.write(f"{trouble}\n")
    is_good = total.is_good and seen.turns > 0
    sys.stdout.write("all is well\n" if is_good else "FAILED\n")
    return is_good


def run(seconds: float, clients: int, seed: int = 1) -> bool:
    """Start everything, let the team work, and report; whether all is well."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ccf-team-")))
        kinds = (("anthropic", "0.5"), ("openai", "0.3"), ("anthropic", "0"))
        upstreams = [
            address(stack.enter_context(started("-m", "tests.soak.upstream", *kind, str(seed + n))))
            for n, kind in enumerate(kinds)
        ]
        config, store = CONFIG.format(*upstreams), None
        if SERVER is None:
            sys.stdout.write(f"{NO_STORE}\n")
        else:
            store = RedisServer(folder)
            stack.callback(store.kill)
            store.start()
            config += f'[state]\nurl = "{store.url}"\n'
        servers = [TeamServer(folder / f"server-{n}", config) for n in range(1, SERVERS + 1)]
        for server in servers:
            stack.callback(server.stop)
            server.start()
        phases = asyncio.run(play(servers, store, seconds, clients))
        return report(phases, servers, has_store=store is not None)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    return 0 if run(given.seconds, given.clients, given.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
