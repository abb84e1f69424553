"""Take a chain through every fault, and see what Claude Code would have seen.

Names, formats, order, timeouts and rules are the user's own. The upstreams are scripted ones on
loopback, the files are in a temporary folder, and no key is read. A fault lasts for a whole task
as long as another provider works. Where none does, it is over after the client's first request,
and the client's own retry has to succeed.

Waiting is skipped and counted instead: timeouts are shortened, the pauses of client and proxy
take no time, and the breakers' clock is put forward by as much.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, time
from typing import Any, Final

import httpx
from msgspec.structs import replace

from ccfallback.config.model import (
    Cap,
    Config,
    KeySource,
    Network,
    Prices,
    Provider,
    Timeouts,
)
from ccfallback.events.records import ProviderTimeout
from ccfallback.paths import Paths
from ccfallback.redact import Secret
from ccfallback.server.record import Record
from ccfallback.server.serve import Proxy
from ccfallback.simulator import SCRIPTED_FORMATS
from ccfallback.simulator.claude_code import ClientView, Ending, Task
from ccfallback.simulator.faults import (
    CAPPED,
    FAULTS,
    OTHER_TOKEN,
    SPECIAL_FAULTS,
    TASK_FAULTS,
    Ends,
    Place,
    ScriptedFault,
    UnreachableAddresses,
)
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream

AT_ONCE: Final = 12
"""Tasks that run side by side: more of them would be late for their timeouts."""

PATIENCE: Final = (1.0, 5.0, 25.0)
"""The factor of the shortened timeouts, from the first run of a task to the last."""

DEAR: Final = Prices(input=10_000.0, output=10_000.0)
"""Prices by which the shortest answer costs more than a cent."""

SHRINK: Final = 90.0
SHORTEST: Final = 0.4
LONGEST: Final = 1.0
"""Timeouts are divided by the first, and kept between the other two, in seconds."""


@dataclass(frozen=True, slots=True)
class DrillCase:
    """One task. Providers are given by their positions in the chain."""

    id: str
    fault: ScriptedFault
    at: int
    """The provider that has the fault."""
    cut: frozenset[int] = frozenset()
    """The providers that cannot be reached meanwhile."""
    is_everywhere: bool = False
    """Whether all providers have the fault."""

    def has_survivor(self, length: int) -> bool:
        """Whether a provider works, in a chain of that length."""
        faulty = set() if self.fault.ends is Ends.WELL else {self.at}
        return not self.is_everywhere and len(self.cut | faulty) < length


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a task."""

    id: str
    about: str
    at: str
    lost: bool
    answered: bool
    provider: str | None
    attempts: int
    requests: int
    """The client's requests, over all turns of the task."""
    seconds: float
    configured_seconds: float
    """The same with the user's own timeouts and all pauses."""
    waited: float
    """The part of it that is pauses of client and proxy."""
    client_sees: str


def drill_cases(config: Config) -> Iterator[DrillCase]:
    """Every task.

    The first provider of the chain has each fault; then the second one, while the first cannot be
    reached; then each provider is the only one that can be reached; then all have reached a cap.
    """
    chain = config.active
    for fault in _possible_faults(chain[0]):
        if not (fault.fallback_only and chain[0].primary):
            yield DrillCase(fault.id, fault, 0)
    for fault in _possible_faults(chain[1]) if len(chain) > 1 else ():
        if not fault.login:
            yield DrillCase(f"{chain[1].name}/{fault.id}", fault, 1, frozenset({0}))
    refused = next(fault for fault in FAULTS if fault.place is Place.REFUSED)
    for position, provider in enumerate(chain if len(chain) > 1 else ()):
        others = frozenset(range(len(chain))) - {position}
        yield DrillCase(f"{provider.name}/alone", refused, min(others), others)
    if len(chain) > 1:
        yield DrillCase(CAPPED.id, CAPPED, 0, is_everywhere=True)


def _possible_faults(provider: Provider) -> tuple[ScriptedFault, ...]:
    return (*FAULTS, *TASK_FAULTS, *SPECIAL_FAULTS.get(provider.format, ()))


STOP_SECONDS: Final = 10.0
"""How long a drill that is interrupted waits for its tasks."""


def drill(config: Config, listener: Callable[[Report, int], None]) -> list[Report]:
    """Run every task; `listener` is called with each report and the number of tasks."""
    reports: list[Report] = []
    failures: list[BaseException] = []
    # An event, because an interrupted `Thread.join` takes the thread for ended (CPython 3.11).
    done = threading.Event()

    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def run(folder: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        await _Drill(config, listener).run(reports, Path(folder))

    def work() -> None:
        try:
            # Removed after the loop has ended: until then, tasks may write to it.
            with TemporaryDirectory(
                prefix="ccfallback-drill-", ignore_cleanup_errors=True
            ) as folder:
                asyncio.run(run(folder))
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    # Not in the main thread, whose signals a server would handle.
    threading.Thread(target=work, daemon=True).start()
    try:
        done.wait()
    except KeyboardInterrupt:
        # The tasks end before their folders are removed.
        for loop, task in running:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
        done.wait(STOP_SECONDS)
        raise
    if failures:
        raise failures[0]
    return reports


class _Drill:
    """All tasks of one drill."""

    def __init__(self, config: Config, listener: Callable[[Report, int], None]) -> None:
        self._config = config
        self._listener = listener
        self._cases = list(drill_cases(config))
        self._scripts: dict[tuple[int, int], Script] = {}
        """By the numbers of case and position."""

    async def run(self, reports: list[Report], folder: Path) -> None:
        """Run all tasks, some side by side; the reports are in the order of the cases."""
        done: dict[int, Report] = {}
        disturbed: list[int] = []
        places = asyncio.Semaphore(AT_ONCE)
        with ExitStack() as stack:
            unreachable = stack.enter_context(UnreachableAddresses())
            upstreams = [
                stack.enter_context(ScriptedUpstream(route=self._route(position)))
                for position in range(len(self._config.active))
            ]

            async def play(number: int, patience: float) -> bool:
                server = DrillServer(
                    self._config,
                    self._cases[number],
                    unreachable,
                    [f"{upstream.url}/{number}" for upstream in upstreams],
                    partial(self._assign, number),
                    patience,
                )
                done[number] = await server.play(folder / f"{number}-{patience:.0f}", client)
                return not server.disturbed

            def report(number: int) -> None:
                self._listener(done[number], len(self._cases))

            async def play_with_others(number: int) -> None:
                async with places:
                    if await play(number, PATIENCE[0]):
                        report(number)
                    else:
                        disturbed.append(number)

            # One client for all, because each client loads the system's certificates.
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                async with asyncio.TaskGroup() as group:
                    for number in range(len(self._cases)):
                        group.create_task(play_with_others(number))
                for number in sorted(disturbed):
                    for patience in PATIENCE[1:]:
                        if await play(number, patience):
                            break
                    report(number)
        reports.extend(done[number] for number in sorted(done))

    def _route(self, position: int) -> Callable[[Received], Script]:
        return lambda request: self._scripts[int(request.target.split("/")[1]), position]

    def _assign(self, number: int, position: int, script: Script) -> None:
        self._scripts[number, position] = script


@dataclass
class DrillServer:
    """One task with its own proxy, which gets its configuration from here: a `ConfigStore`."""

    config: Config
    """The user's own."""
    case: DrillCase
    unreachable: UnreachableAddresses
    upstreams: Sequence[str]
    """The URLs of the scripted upstreams, each with a path of this task."""
    assign: Callable[[int, Script], None]
    """Sets the script of the upstream at a position."""
    patience: float
    """The factor of the shortened timeouts."""
    path: Path = field(default_factory=Path)
    is_over: bool = False
    """Whether the fault is over."""
    skipped: float = 0.0
    waits: list[float] = field(default_factory=list)
    timeouts: list[tuple[str, str, float]] = field(default_factory=list)
    """Timeouts that fired: the provider, the timeout, and its seconds."""
    disturbed: bool = False
    """Whether a provider without a fault was late: then this machine was busy."""

    def is_still(self, version: object) -> bool:
        """Whether the configuration is this version; see `live_config.ConfigStore`."""
        return version == self.is_over

    def stamp(self) -> bool:
        """The version of the configuration, which changes once: when the fault is over."""
        return self.is_over

    def load(self, *, must_exist: bool = False) -> Config:
        """The user's configuration, but with every provider on this machine and without keys."""
        user, case = self.config, self.case
        chain = []
        for position, provider in enumerate(user.active):
            place, script = Place.THERE, SCRIPTED_FORMATS[provider.format].works()
            has_fault = (position == case.at or case.is_everywhere) and not self.is_over
            if position in case.cut:
                place = Place.REFUSED
            elif has_fault:
                place, script = case.fault.place, case.fault.script(provider.format)
            if has_fault and case.fault.cap is not None:
                provider = replace(provider, cap=Cap(day=case.fault.cap), prices=DEAR)
            self.assign(position, script)
            url = self.unreachable.url(place, self.upstreams[position])
            # A primary without a key gets the client's, which is not a real one either.
            count = len(provider.key.each) or int(provider.has_credential)
            literals = tuple(Secret(f"drill-key-{number}") for number in range(1, count + 1))
            key = KeySource(literals=literals) if literals else KeySource()
            short = _shorten(provider.timeouts, self.patience)
            chain.append(
                replace(
                    provider,
                    base_url=url,
                    key=key,
                    auth="key",
                    google=replace(provider.google, project=provider.google.project or "drill"),
                    # The new address does not tell the platform.
                    platform_name=provider.platform.name or None,
                    timeouts=short,
                )
            )
        primary = next((each for each in chain if each.primary), user.primary)
        return replace(
            user,
            primary=primary,
            providers=tuple(each for each in chain if not each.primary),
            network=Network(),
            tokens=(),
        )

    async def play(self, folder: Path, client: httpx.AsyncClient) -> Report:
        """Do the task and return its report."""
        folder.mkdir()
        self.path = folder / "config.toml"
        proxy = Proxy(
            Paths(self.path, folder / "state.json", folder / "log.jsonl"),
            log_level="info",
            listeners=[self._listen],
            store=self,
            clock=lambda: time() + self.skipped,
            pause=self._pause,
        )
        url = proxy.bind("127.0.0.1", 0)
        ready = asyncio.Event()
        serving = asyncio.create_task(proxy.serve(ready.set))
        fault = self.case.fault
        task = Task(client, url, fault.login, self._pause, self._after_request)
        tasks = [task]
        if fault.other_login:
            other = Task(client, url, fault.login, self._pause, self._after_request, OTHER_TOKEN)
            tasks.append(other)
        try:
            await ready.wait()
            began = monotonic()
            for each in tasks:
                await each.run()
            seconds = monotonic() - began
        finally:
            if ready.is_set():
                proxy.stop()
            else:
                serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving
        return self._report(tasks, seconds)

    async def _pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.skipped += seconds
        await asyncio.sleep(0)

    def _after_request(self, view: ClientView) -> None:
        """Where no provider works, the fault is over by the client's next attempt."""
        if view.ending is not Ending.ANSWERED and not self.case.has_survivor(len(self.upstreams)):
            self.is_over = True

    def _listen(self, record: Record) -> None:
        event = record.data
        if isinstance(event, ProviderTimeout):
            limits = _shorten(self._provider(event.provider).timeouts, self.patience)
            seconds = event.seconds or limits.idle
            self.timeouts.append((event.provider, event.timeout or "idle", seconds))
            self.disturbed |= not self._may_be_late(event.provider)

    def _may_be_late(self, name: str) -> bool:
        """Whether a timeout of this provider belongs to the fault."""
        faulty = self.config.active[self.case.at].name
        return self.case.fault.waits and not self.is_over and name == faulty

    def _provider(self, name: str) -> Provider:
        provider = self.config.provider(name)
        assert provider is not None
        return provider

    def _report(self, tasks: Sequence[Task], seconds: float) -> Report:
        case, chain = self.case, self.config.active
        task, *others = tasks
        longer = sum(
            _full_seconds(self._provider(name).timeouts, timeout) - shortened
            for name, timeout, shortened in self.timeouts
        )
        may_fail = case.fault.ends is Ends.LASTS and not case.has_survivor(len(chain))
        return Report(
            id=case.id,
            about=case.fault.about,
            at=chain[case.at].name,
            lost=not (task.done or may_fail) or not all(each.done for each in others),
            answered=task.done,
            provider=(task.answered_by[-1] or None) if task.answered_by and task.done else None,
            attempts=sum(sum(each.attempts) for each in tasks),
            requests=sum(len(each.seen) for each in tasks),
            seconds=round(seconds, 3),
            configured_seconds=round(seconds + longer + sum(self.waits), 3),
            waited=round(sum(self.waits), 3),
            client_sees="; with another login ".join(
                _summarize(each.seen, done=each.done, waited=sum(self.waits)) for each in tasks
            ),
        )


def _shorten(timeouts: Timeouts, patience: float) -> Timeouts:
    def short(seconds: float) -> float:
        return min(max(seconds / SHRINK, SHORTEST), LONGEST) * patience

    return Timeouts(
        connect=short(timeouts.connect),
        first_byte=short(timeouts.first_byte),
        non_streaming=short(timeouts.non_streaming),
        idle=short(timeouts.idle),
        silence=short(timeouts.silence),
    )


def _full_seconds(timeouts: Timeouts, name: str) -> float:
    """The length of a timeout by its name in the log."""
    if name == "first_content":
        return timeouts.first_byte + timeouts.silence
    return float(getattr(timeouts, name, timeouts.idle))


def _summarize(seen: Sequence[ClientView], *, done: bool, waited: float) -> str:
    """What the client saw, in a few words."""
    troubles = [_describe(view) for view in seen if view.ending is not Ending.ANSWERED]
    said = ", ".join(dict.fromkeys(troubles))
    if not done:
        return said or "an answer to something else"
    if not troubles:
        return "the answer"
    return f"{said}; a retry got the answer" + (f" after {waited:.0f} s" if waited >= 1 else "")


def _describe(view: ClientView) -> str:
    match view.ending:
        case Ending.STATUS:
            return f"{view.status} {view.message}".strip()[:120]
        case Ending.DROPPED:
            return "a dropped connection"
        case Ending.ENDED_EARLY:
            return "half an answer"
        case Ending.ERROR_EVENT:
            return "an error in the stream"
        case _:
            return "a 200 that is not an answer"
