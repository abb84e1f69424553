"""An event loop with virtual time: when nothing is ready, the clock jumps to the next timer.

Callbacks run in the order in which they were scheduled, timers by their time and then by that
order, so that a history depends on nothing but its script. Each callback belongs to the simulated
process in whose context it was scheduled; those of a killed process never run.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, Final, Protocol, TypeVarTuple

from tests.simulation.seams import NOW

Ts = TypeVarTuple("Ts")


class Process:
    """A simulated process, which may be killed."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.is_alive = True


PROCESS: Final[ContextVar[Process | None]] = ContextVar("process", default=None)
"""The process that a callback belongs to; `None` is the world around the machine."""


class Sockets(Protocol):
    """The network, as the loop uses it."""

    async def look_up(self, host: str, port: int) -> list[Any]:
        """The addresses of a host, as `getaddrinfo` returns them."""

    async def connect(self, sock: Any, address: Any) -> None:
        """Connect a socket, or raise an `OSError`."""

    def open(self, factory: Callable[[], Any], sock: Any, tls: Any) -> tuple[Any, Any]:
        """The transport and protocol of a connected socket."""

    def listen(self, factory: Callable[[], Any], sock: Any) -> Any:
        """A server that accepts the connections of a socket."""


class Stuck(RuntimeError):
    """Nothing is scheduled any more, and what is waited for has not happened."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self.sockets: Sockets
        self.disk_delay: Callable[[], float] = lambda: 0.0
        """Seconds that a call in a thread takes."""
        self.tasks: list[asyncio.Task[Any]] = []
        """Every task that was started in a process, for as long as it may be killed."""
        self.errors: list[str] = []
        """What was reported to the exception handler."""
        self.steps = 0
        """Callbacks that have run."""

    # -- Time

    def time(self) -> float:
        """Virtual seconds; the machine's sleep does not count."""
        return NOW.elapsed

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback after those that are ready."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # There are no threads.

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback in some seconds."""
        return self.call_at(NOW.elapsed + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback at a time of this loop."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heappush(self._timers, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer stays in the heap until it is due."""

    @property
    def pending(self) -> int:
        """Timers and callbacks that will run."""
        return len(self._ready) + sum(_will_run(each) for _, _, each in self._timers)

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end. Raises what it raises, and `Stuck`."""
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                self._run_once()
            task.result()
        finally:
            asyncio._set_running_loop(None)

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready:
            while timers and timers[0][2]._cancelled:
                heappop(timers)
            if not timers:
                raise Stuck("nothing is scheduled any more")
            NOW.elapsed = max(NOW.elapsed, timers[0][0])
        while timers and timers[0][0] <= NOW.elapsed:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if _will_run(handle):
                self.steps += 1
                handle._run()

    # -- Tasks

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        """A task of this loop, which is remembered if it belongs to a process."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name or "", context=context)
        if (context.get(PROCESS) if context is not None else PROCESS.get()) is not None:
            self.tasks.append(task)
            if len(self.tasks) > 1000:
                self.tasks = [each for each in self.tasks if not each.done()]
        return task

    def run_in_executor(  # type: ignore[override]  # the typeshed has a TypeVarTuple here
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call a function after the disk's delay, where a thread would."""
        future = self.create_future()

        def call() -> None:
            try:
                result = func(*args)
            except BaseException as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        delay = self.disk_delay()
        if delay:
            self.call_later(delay, call)
        else:
            self.call_soon(call)
        return future

    def forget_tasks(self) -> None:
        """End the tasks of killed processes without a word; what they do at their end is lost."""
        for task in self.tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # of the C class
                with suppress(Exception):
                    task.get_coro().close()
        self.tasks.clear()

    # -- Sockets

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        """Look a name up in the simulated network."""
        return await self.sockets.look_up(host, port)

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connect a simulated socket."""
        await self.sockets.connect(sock, address)

    async def create_connection(  # type: ignore[override]  # only this form is used
        self, protocol_factory: Callable[[], Any], *, sock: Any, ssl: Any = None, **_: Any
    ) -> tuple[Any, Any]:
        """The transport and protocol of a connected socket."""
        return self.sockets.open(protocol_factory, sock, ssl)

    async def create_server(  # type: ignore[override]  # only this form is used
        self, protocol_factory: Callable[[], Any], *, sock: Any, **_: Any
    ) -> Any:
        """Accept the connections of a socket."""
        return self.sockets.listen(protocol_factory, sock)

    # -- The rest of a loop

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always, as long as anything of it runs."""
        return True

    def is_closed(self) -> bool:
        """Never."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Remember what asyncio reports: an exception that no code has seen."""
        error = context.get("exception")
        process = PROCESS.get()
        if process is None or process.is_alive:
            self.errors.append(f"{context.get('message')}: {error!r}")


def _will_run(handle: asyncio.Handle) -> bool:
    if handle._cancelled:
        return False
    process = handle._context.get(PROCESS)  # type: ignore[attr-defined]  # no public name
    return process is None or process.is_alive


def in_process(process: Process | None) -> Context:
    """A context in which everything belongs to a process."""
    context = copy_context()
    context.run(PROCESS.set, process)
    return context
