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
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx

from ccfallback.config.model import Config
from ccfallback.simulator.addresses import Place, UnreachableAddresses
from ccfallback.simulator.drill_server import DrillCase, DrillServer, Report
from ccfallback.simulator.faults import FAULTS
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream

AT_ONCE: Final = 12
"""Tasks that run side by side: more of them would be late for their timeouts."""

PATIENCE: Final = (1.0, 5.0, 25.0)
"""What the shortened timeouts are multiplied by, from the first try of a task to the last."""


def scenes(config: Config) -> Iterator[DrillCase]:
    """Every task: the first of the chain fails, the second while the first is cut off, and each
    provider alone is left."""
    chain = config.active
    for fault in FAULTS:
        if not (fault.fallback_only and chain[0].primary):
            yield DrillCase(fault.id, fault, 0)
    for fault in FAULTS if len(chain) > 1 else ():
        if not fault.login:
            yield DrillCase(f"{chain[1].name}/{fault.id}", fault, 1, frozenset({0}))
    alone = next(fault for fault in FAULTS if fault.place is Place.REFUSED)
    for position, provider in enumerate(chain if len(chain) > 1 else ()):
        others = frozenset(range(len(chain))) - {position}
        yield DrillCase(f"{provider.name}/alone", alone, min(others), others)


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
        disturbed: list[int] = []
        places = asyncio.Semaphore(AT_ONCE)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="ccfallback-drill-")))
            elsewhere = stack.enter_context(UnreachableAddresses())
            stubs = [
                stack.enter_context(ScriptedUpstream(route=self._route(position)))
                for position in range(len(self._config.active))
            ]

            async def play(number: int, patience: float) -> bool:
                stage = DrillServer(
                    self._config,
                    self._scenes[number],
                    elsewhere,
                    [f"{stub.url}/{number}" for stub in stubs],
                    partial(self._assign, number),
                    patience,
                )
                done[number] = await stage.play(folder / f"{number}-{patience:.0f}", client)
                return not stage.disturbed

            def tell(number: int) -> None:
                self._listener(done[number], len(self._scenes))

            async def beside_others(number: int) -> None:
                async with places:
                    if await play(number, PATIENCE[0]):
                        tell(number)
                    else:
                        disturbed.append(number)

            # One client, because each would read the system's certificates.
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                async with asyncio.TaskGroup() as group:
                    for number in range(len(self._scenes)):
                        group.create_task(beside_others(number))
                for number in sorted(disturbed):
                    for patience in PATIENCE[1:]:
                        if await play(number, patience):
                            break
                    tell(number)
        reports.extend(done[number] for number in sorted(done))

    def _route(self, position: int) -> Callable[[Received], Script]:
        return lambda request: self._scripts[int(request.target.split("/")[1]), position]

    def _assign(self, number: int, position: int, script: Script) -> None:
        self._scripts[number, position] = script
