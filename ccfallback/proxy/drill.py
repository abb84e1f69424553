"""Walk a chain's shape through every fault, and see what Claude Code would have seen.

Names, formats, order, timeouts and rules are the user's own. The upstreams are scripted ones on
loopback, the files are in a temporary folder, and no key is read. A fault lasts for a whole task
as long as somebody else is well; where nobody is, it is over after the client's first request,
and the client's own next try has to get through.

Waiting is left out and counted instead: timeouts are shortened, the pauses of client and proxy
are skipped, and the breakers' clock is put forward by as much.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, time
from typing import Final

import httpx

from ccfallback.core.claude_code import Ending, Sight
from ccfallback.core.config import Config, KeySource, Provider, Timeouts
from ccfallback.core.redact import Secret
from ccfallback.proxy.dialect import DIALECTS
from ccfallback.proxy.drill_client import Task
from ccfallback.proxy.elsewhere import Elsewhere, Place
from ccfallback.proxy.faults import FAULTS, Ends, ScriptedFault
from ccfallback.proxy.record import Record
from ccfallback.proxy.scripted import Received, Script, ScriptedUpstream
from ccfallback.proxy.serve import Proxy
from ccfallback.store.paths import Paths

SHRINK: Final = 90.0
SHORTEST: Final = 0.4
LONGEST: Final = 1.0
"""Timeouts are divided by the first, and kept between the other two, in seconds."""

AT_ONCE: Final = 12
"""Tasks that run side by side: more of them would be late for their timeouts."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One task: who fails how, and who is cut off meanwhile. Positions in the chain."""

    id: str
    fault: ScriptedFault
    at: int
    cut: frozenset[int] = frozenset()

    def survivors(self, length: int) -> list[int]:
        """Who is well."""
        faulty = set() if self.fault.ends is Ends.WELL else {self.at}
        return [each for each in range(length) if each not in self.cut | faulty]


@dataclass(frozen=True, slots=True)
class Report:
    """What a task came to."""

    id: str
    about: str
    at: str
    lost: bool
    answered: bool
    provider: str | None
    attempts: int
    requests: int
    """How often the client asked, over all turns of the task."""
    seconds: float
    configured_seconds: float
    """The same with the user's own timeouts, and nothing left out."""
    waited: float
    """How much of that went into pauses of client and proxy."""
    client_sees: str


def scenes(config: Config) -> Iterator[Scene]:
    """Every task: the first of the chain fails, the second while the first is cut off, and each
    provider alone is left."""
    chain = config.active
    for fault in FAULTS:
        if not (fault.fallback_only and chain[0].primary):
            yield Scene(fault.id, fault, 0)
    for fault in FAULTS if len(chain) > 1 else ():
        if not fault.login:
            yield Scene(f"{chain[1].name}/{fault.id}", fault, 1, frozenset({0}))
    alone = next(fault for fault in FAULTS if fault.place is Place.REFUSED)
    for position, provider in enumerate(chain if len(chain) > 1 else ()):
        others = frozenset(range(len(chain))) - {position}
        yield Scene(f"{provider.name}/alone", alone, min(others), others)


def drill(config: Config, listener: Callable[[Report, int], None]) -> list[Report]:
    """Run it; `listener` is given each report with how many tasks there are."""
    reports: list[Report] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(_Drill(config, listener).run(reports))
        except BaseException as error:
            failures.append(error)

    # Not in the main thread, whose signals a server would take for itself.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return reports


class _Drill:
    """All tasks of one drill."""

    def __init__(self, config: Config, listener: Callable[[Report, int], None]) -> None:
        self._config = config
        self._listener = listener
        self._scenes = list(scenes(config))
        self._scripts: dict[tuple[int, int], Script] = {}
        """By scene and position."""

    async def run(self, reports: list[Report]) -> None:
        """Run them all, some at a time; the reports are in the order of the scenes."""
        done: dict[int, Report] = {}
        places = asyncio.Semaphore(AT_ONCE)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="ccfallback-drill-")))
            elsewhere = stack.enter_context(Elsewhere())
            stubs = [
                stack.enter_context(ScriptedUpstream(route=self._route(position)))
                for position in range(len(self._config.active))
            ]

            async def one(number: int) -> None:
                async with places:
                    stage = _Stage(self, number, elsewhere, [stub.url for stub in stubs])
                    done[number] = await stage.play(folder / str(number), client)
                    self._listener(done[number], len(self._scenes))

            # One client, because each would read the system's certificates.
            async with (
                httpx.AsyncClient(trust_env=False, timeout=60) as client,
                asyncio.TaskGroup() as group,
            ):
                for number in range(len(self._scenes)):
                    group.create_task(one(number))
        reports.extend(done[number] for number in sorted(done))

    def _route(self, position: int) -> Callable[[Received], Script]:
        return lambda request: self._scripts[int(request.target.split("/")[1]), position]

    @property
    def config(self) -> Config:
        """The user's own."""
        return self._config

    def scene(self, number: int) -> Scene:
        """One of the tasks."""
        return self._scenes[number]

    def script(self, number: int, position: int, script: Script) -> None:
        """Let a provider answer like this in one of the tasks."""
        self._scripts[number, position] = script


@dataclass
class _Stage:
    """One task with a proxy of its own; for the proxy, where its configuration comes from."""

    drill: _Drill
    number: int
    elsewhere: Elsewhere
    stubs: Sequence[str]
    path: Path = field(default_factory=Path)
    mended: bool = False
    skipped: float = 0.0
    waits: list[float] = field(default_factory=list)
    late: list[tuple[str, str, float]] = field(default_factory=list)
    """Timeouts that fired: whose, which, and after how many seconds."""

    @property
    def scene(self) -> Scene:
        """What is played."""
        return self.drill.scene(self.number)

    def stamp(self) -> tuple[int, int, int]:
        """See `live.ConfigStore`: the configuration changes once, when a fault is over."""
        return (int(self.mended), 0, 0)

    def load(self) -> Config:
        """The user's configuration, with everybody on this machine and nobody's key."""
        user, scene = self.drill.config, self.scene
        chain = []
        for position, provider in enumerate(user.active):
            place, dialect = Place.THERE, DIALECTS[provider.format]
            script = dialect.works()
            if position in scene.cut:
                place = Place.REFUSED
            elif position == scene.at and not self.mended:
                place, script = scene.fault.place, scene.fault.script(provider.format)
            self.drill.script(self.number, position, script)
            url = self.elsewhere.url(place, f"{self.stubs[position]}/{self.number}")
            chain.append(_on_this_machine(provider, url))
        primary = next((each for each in chain if each.primary), user.primary)
        return replace(
            user,
            primary=primary,
            providers=tuple(each for each in chain if not each.primary),
            proxy=None,
            tokens=(),
        )

    async def play(self, folder: Path, client: httpx.AsyncClient) -> Report:
        """Do the task, and tell how it went."""
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
        await ready.wait()
        task = Task(client, url, self.scene.fault.login, self._pause, self._after_request)
        began = monotonic()
        try:
            await task.run()
            seconds = monotonic() - began
        finally:
            proxy.stop()
            await serving
        return self._report(task, seconds)

    async def _pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.skipped += seconds
        await asyncio.sleep(0)

    def _after_request(self) -> None:
        """A fault of the last one standing is over by the client's next try."""
        if not self.mended and not self.scene.survivors(len(self.stubs)):
            self.mended = True

    def _listen(self, record: Record) -> None:
        if record["event"] == "provider.timeout":
            data = record["data"]
            name = data.get("timeout") or "idle"
            shrunk = data.get("seconds") or _shrunk(self._limits(data["provider"])).idle
            self.late.append((data["provider"], name, shrunk))

    def _limits(self, name: str) -> Timeouts:
        provider = self.drill.config.provider(name)
        assert provider is not None
        return provider.timeouts

    def _report(self, task: Task, seconds: float) -> Report:
        scene = self.scene
        chain = self.drill.config.active
        longer = sum(_seconds(self._limits(name), which) - s for name, which, s in self.late)
        alone = not scene.survivors(len(chain))
        told = alone and scene.fault.ends is Ends.LASTS
        return Report(
            id=scene.id,
            about=scene.fault.about,
            at=chain[scene.at].name,
            lost=not task.done and not told,
            answered=task.done,
            provider=(task.answered_by[-1] or None) if task.answered_by and task.done else None,
            attempts=sum(task.attempts),
            requests=len(task.seen),
            seconds=round(seconds, 3),
            configured_seconds=round(seconds + longer + sum(self.waits), 3),
            waited=round(sum(self.waits), 3),
            client_sees=_story(task.seen, done=task.done, waited=sum(self.waits)),
        )


def _on_this_machine(provider: Provider, url: str) -> Provider:
    # The primary without a key gets the client's own, which is none either.
    key = KeySource(literal=Secret("drill-key")) if provider.key else KeySource()
    return replace(provider, base_url=url, key=key, timeouts=_shrunk(provider.timeouts))


def _shrunk(timeouts: Timeouts) -> Timeouts:
    def short(seconds: float) -> float:
        return min(max(seconds / SHRINK, SHORTEST), LONGEST)

    return Timeouts(
        connect=short(timeouts.connect),
        first_byte=short(timeouts.first_byte),
        non_streaming=short(timeouts.non_streaming),
        idle=short(timeouts.idle),
        silence=short(timeouts.silence),
    )


def _seconds(timeouts: Timeouts, which: str) -> float:
    """How long a timeout is that is named in the log."""
    if which == "first_content":
        return timeouts.first_byte + timeouts.silence
    return float(getattr(timeouts, which, timeouts.idle))


def _story(seen: Sequence[Sight], *, done: bool, waited: float) -> str:
    """What the client saw, in a few words."""
    troubles = [_words(sight) for sight in seen if sight.ending is not Ending.ANSWERED]
    said = ", ".join(dict.fromkeys(troubles))
    if not done:
        return said or "an answer to something else"
    if not troubles:
        return "the answer"
    return f"{said}; asked again, the answer" + (f" after {waited:.0f} s" if waited >= 1 else "")


def _words(sight: Sight) -> str:
    match sight.ending:
        case Ending.STATUS:
            return f"{sight.status} {sight.message}".strip()[:120]
        case Ending.DROPPED:
            return "a dropped connection"
        case Ending.ENDED_EARLY:
            return "half an answer"
        case Ending.ERROR_EVENT:
            return "an error in the stream"
        case _:
            return "a 200 that is no answer"
