"""One task of a drill: a proxy, a client, and upstreams one of which has a fault."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, time
from typing import Final

import httpx

from ccfallback.config.model import Config, KeySource, Provider, Timeouts
from ccfallback.events.records import ProviderTimeout
from ccfallback.paths import Paths
from ccfallback.redact import Secret
from ccfallback.server.record import Record
from ccfallback.server.serve import Proxy
from ccfallback.simulator.addresses import Place, UnreachableAddresses
from ccfallback.simulator.claude_code import ClientView, Ending
from ccfallback.simulator.drill_client import Task
from ccfallback.simulator.faults import Ends, ScriptedFault
from ccfallback.simulator.scripted import Script
from ccfallback.simulator.scripted_format import DIALECTS

SHRINK: Final = 90.0
SHORTEST: Final = 0.4
LONGEST: Final = 1.0
"""Timeouts are divided by the first, and kept between the other two, in seconds."""


@dataclass(frozen=True, slots=True)
class DrillCase:
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


@dataclass
class DrillServer:
    """One task with a proxy of its own; for the proxy, where its configuration comes from."""

    config: Config
    """The user's own."""
    scene: DrillCase
    elsewhere: UnreachableAddresses
    stubs: Sequence[str]
    """Where the scripted upstreams are, each with a path of this task's own."""
    assign: Callable[[int, Script], None]
    """Lets the upstream at a position answer like this."""
    patience: float
    """What the shortened timeouts are multiplied by."""
    path: Path = field(default_factory=Path)
    repaired: bool = False
    skipped: float = 0.0
    waits: list[float] = field(default_factory=list)
    late: list[tuple[str, str, float]] = field(default_factory=list)
    """Timeouts that fired: whose, which, and after how many seconds."""
    disturbed: bool = False
    """Whether somebody was late whose fault it was not: a busy machine's doing, not the chain's."""

    def is_still(self, version: object) -> bool:
        """Whether the configuration is this version; see `live_config.ConfigStore`."""
        return version == self.repaired

    def stamp(self) -> bool:
        """The version of the configuration, which changes once: when the fault is over."""
        return self.repaired

    def load(self) -> Config:
        """The user's configuration, with everybody on this machine and nobody's key."""
        user, scene = self.config, self.scene
        chain = []
        for position, provider in enumerate(user.active):
            place, dialect = Place.THERE, DIALECTS[provider.format]
            script = dialect.works()
            if position in scene.cut:
                place = Place.REFUSED
            elif position == scene.at and not self.repaired:
                place, script = scene.fault.place, scene.fault.script(provider.format)
            self.assign(position, script)
            url = self.elsewhere.url(place, self.stubs[position])
            chain.append(_on_this_machine(provider, url, self.patience))
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
        if not self.repaired and not self.scene.survivors(len(self.stubs)):
            self.repaired = True

    def _listen(self, record: Record) -> None:
        event = record.data
        if isinstance(event, ProviderTimeout):
            name = event.timeout or "idle"
            limits = _shrunk(self._limits(event.provider), self.patience)
            self.late.append((event.provider, name, event.seconds or limits.idle))
            self.disturbed |= not self._may_be_late(event.provider)

    def _may_be_late(self, name: str) -> bool:
        """Whether it is the provider's fault if no answer comes in time."""
        faulty = self.config.active[self.scene.at].name
        return self.scene.fault.waits and not self.repaired and name == faulty

    def _limits(self, name: str) -> Timeouts:
        provider = self.config.provider(name)
        assert provider is not None
        return provider.timeouts

    def _report(self, task: Task, seconds: float) -> Report:
        scene = self.scene
        chain = self.config.active
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


def _on_this_machine(provider: Provider, url: str, patience: float) -> Provider:
    # The primary without a key gets the client's own, which is none either.
    key = KeySource(literal=Secret("drill-key")) if provider.key else KeySource()
    return replace(provider, base_url=url, key=key, timeouts=_shrunk(provider.timeouts, patience))


def _shrunk(timeouts: Timeouts, patience: float) -> Timeouts:
    def short(seconds: float) -> float:
        return min(max(seconds / SHRINK, SHORTEST), LONGEST) * patience

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


def _story(seen: Sequence[ClientView], *, done: bool, waited: float) -> str:
    """What the client saw, in a few words."""
    troubles = [_words(sight) for sight in seen if sight.ending is not Ending.ANSWERED]
    said = ", ".join(dict.fromkeys(troubles))
    if not done:
        return said or "an answer to something else"
    if not troubles:
        return "the answer"
    return f"{said}; asked again, the answer" + (f" after {waited:.0f} s" if waited >= 1 else "")


def _words(sight: ClientView) -> str:
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
