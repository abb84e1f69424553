"""Run the proxy: used by `serve`, `demo` and `drill`, and by the tests."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from time import monotonic, time
from typing import Final

from msgspec import UNSET

from ccfallback import __version__, files
from ccfallback.addresses import Address, is_loopback
from ccfallback.config.model import Config
from ccfallback.credentials import KeyUnavailable
from ccfallback.error_codes import ErrorCode
from ccfallback.errors import CcfallbackError, ServeError
from ccfallback.events import records as events
from ccfallback.events.journal import LOG_LINE, Journal, JournalWriter
from ccfallback.http1 import ConnectionLimit, Headers, Server, ServerProtocol
from ccfallback.messages import errors as envelope
from ccfallback.paths import Paths
from ccfallback.policy.latency import Digest
from ccfallback.policy.spend import token_account
from ccfallback.server import handover
from ccfallback.server.breakers import Breakers
from ccfallback.server.check import Checker
from ccfallback.server.client import JSON
from ccfallback.server.credentials import Keys
from ccfallback.server.gate import request_id
from ccfallback.server.listening import (
    BACKLOG,
    ListenAddress,
    find_listen_address,
    listen,
    require_tokens,
)
from ccfallback.server.live_config import ConfigStore, LiveConfig, config_file
from ccfallback.server.process import most_clients, raise_file_limit
from ccfallback.server.record import Listener, Output, Recorder
from ccfallback.server.routes import create_app
from ccfallback.server.serial_executor import SerialExecutor
from ccfallback.server.services import Services
from ccfallback.server.shared_spending import SharedSpending
from ccfallback.server.spending import Spending
from ccfallback.server.upstream import Upstreams
from ccfallback.state import open_store, server_file, signatures_file
from ccfallback.state.latencies import LATENCIES
from ccfallback.state.spent import identify_ledger
from ccfallback.state.store import PATIENCE
from ccfallback.words import pluralize

DRAIN_SECONDS: Final = 30
FLUSH_SECONDS: Final = 1.0
LATENCY_SECONDS: Final = 60.0
"""How often the durations of answers are saved; losing the last ones does no harm."""

LOCK_SECONDS: Final = 1.0
"""How long the server waits for a file that another process has locked, before it goes on from
memory and tries again later."""

_HANG_UP: Final = getattr(signal, "SIGHUP", None)
"""The signal of a terminal that is closed, which Windows does not have."""

REFUSAL_KINDS: Final = {408: "timeout_error", 414: "request_too_large", 431: "request_too_large"}
"""The type of error, by the status that the server's protocol refuses a request with."""


class Proxy:
    """A proxy with its files, its socket and its server, which serves once."""

    def __init__(
        self,
        paths: Paths,
        *,
        log_level: str | None = None,
        listeners: Sequence[Listener] = (),
        outputs: Sequence[Output] = (),
        private: bool = False,
        store: ConfigStore | None = None,
        clock: Callable[[], float] = time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Read the files. Raises `ConfigError`.

        `listeners` are given each record of the log at once, `outputs` many a little later. A
        `private` proxy has a file of its own for its address: commands show it and do not use
        it. `store` replaces the configuration file, `clock` the breakers' clock, and `pause` the
        wait before a retry.
        """
        store = store or config_file(paths.config)
        self._paths = paths
        self._private = private
        self._address_file = paths.private_server(os.getpid()) if private else paths.server
        self._log_level = log_level
        self._writer: JournalWriter | None = None
        self._disk = SerialExecutor("files next to the state")
        self._disk_call: asyncio.Future[None] | None = None
        self.recorder = Recorder(None)
        self.recorder.listeners.extend(listeners)
        self.recorder.outputs.extend(outputs)
        live = LiveConfig(store, self.recorder)
        live.on_change.append(self._apply_config)
        upstreams = Upstreams(live.current.network)
        self.services = Services(
            live=live,
            breakers=Breakers(
                open_store(paths, live.current.state.url, patience=LOCK_SECONDS, synced_later=True),
                self.recorder,
                clock,
            ),
            recorder=self.recorder,
            upstreams=upstreams,
            spending=Spending(paths.state, self.recorder, clock),
            keys=Keys(upstreams.make_fetch, on_failure=self._log_failed_renewal),
            pause=pause,
        )
        self.services.breakers.configure(live.current)
        live.on_change.append(self.services.breakers.configure)
        self.services.spending.configure(live.current)
        live.on_change.append(self.services.spending.configure)
        self.recorder.count = self.services.totals.count
        self.recorder.set_level(log_level or live.current.log.level)
        self._socket: socket.socket | None = None
        self._hands_over = False
        """Whether another server can get the socket by a signal."""
        self._server = Server(self._log_drain)
        self.services.is_draining = lambda: self._server.is_stopping
        self._checking: asyncio.Task[None] | None = None
        self.url = ""
        self.everywhere = ""
        """The bound address, if that is every interface."""
        self.options: tuple[str, ...] = ()
        """The options of the command line, which are published with the address."""

    def bind(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        inherited: tuple[socket.socket, bool] | None = None,
    ) -> str:
        """Bind the address and return it as a URL; connections queue from now on.

        `inherited` is a socket from `handover.take`, which is used if it has that address. Raises
        `ServeError` where the address is taken or unknown, or open to others without a token.
        """
        config = self.services.live.current
        host = host if host is not None else config.server.host
        port = port if port is not None else config.server.port
        found, is_unit = inherited or (None, False)
        if found is not None and is_unit:
            address = ListenAddress(found.family, found.getsockname())
            require_tokens(address.sockaddr[0], address, has_tokens=bool(config.tokens))
        else:
            address = find_listen_address(host, port, has_tokens=bool(config.tokens))
        if found is not None and not address.is_address(found.getsockname()):
            handover.forget()
            found.close()
            found = None
        self.services.live.needs_tokens = address.is_open
        self._socket = found or listen(host, address)
        if not self._private and not is_unit:
            handover.keep(self._socket)
        bound = self._socket.getsockname()
        shown = "127.0.0.1" if bound[0] == "0.0.0.0" else "[::1]" if bound[0] == "::" else bound[0]
        shown = f"[{shown}]" if ":" in shown and not shown.startswith("[") else shown
        own = "loopback" if is_loopback(bound[0]) or bound[0] in ("0.0.0.0", "::") else bound[0]
        self.services.listener = Address(own, bound[1])
        self.url = f"http://{shown}:{bound[1]}"
        if bound[0] in ("0.0.0.0", "::"):
            self.everywhere = f"{'[::]' if bound[0] == '::' else bound[0]}:{bound[1]}"
        return self.url

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Answer requests until `stop`; then let streams finish, and save everything."""
        assert self._socket is not None, "bind first"
        config = self.services.live.current
        self._writer = JournalWriter(
            Journal(self._paths.log, config.log.max_bytes, config.log.backups, LOG_LINE),
            on_error=self._report_log_failure,
            fill=self.recorder.settle,
        )
        self.recorder.sink = self._writer
        # Not where it is published: another thread does that.
        self._hands_over = handover.SIGNAL is not None and _is_main_thread() and not self._private
        # A program that has read the address may stop the server at once.
        with _handle_signals(self._server, self._hand_over):
            await self._serve_and_save(config, self._writer, ready)

    async def _serve_and_save(
        self, config: Config, writer: JournalWriter, ready: Callable[[], None]
    ) -> None:
        assert self._socket is not None, "bind first"
        urls = [provider.base_url for provider in config.active]
        preparing = asyncio.create_task(self.services.upstreams.prepare(urls))
        await self._read_files(config)
        self._log_open_files()
        # Not earlier: a request that is sent to it would wait for the disk and the shared state.
        await self._run_on_disk(self._publish_address)
        flusher = asyncio.create_task(self._flush_regularly())
        checker = Checker(self.services, lambda: bool(self._server.tasks))
        checking = asyncio.create_task(checker.run())
        try:
            ready()
            await self._server.serve(
                self._socket,
                _make_protocols(self.services, self._server),
                backlog=BACKLOG,
                drain_seconds=DRAIN_SECONDS,
                delay=lambda: self.services.live.current.server.drain_delay,
            )
        finally:
            flusher.cancel()
            checking.cancel()
            preparing.cancel()
            self.services.keys.close()
            self.services.notices.close()
            self._keep_latencies()
            await self.services.breakers.flush(again=True)
            await self.services.breakers.sync()
            self.services.breakers.close()
            self.services.live.close()
            if self._disk_call is not None:
                # While a call is running, `_run_on_disk` would skip the last ones.
                await asyncio.wait([self._disk_call], timeout=PATIENCE)
            await self._save_signatures()
            await asyncio.to_thread(self.services.spending.close)
            await self.services.upstreams.aclose()
            await self._run_on_disk(self._withdraw_address)
            self._disk.close()
            self.recorder.log(events.ServerStop(), "stopped")
            writer.close()

    async def _read_files(self, config: Config) -> None:
        """Read what requests will need, and log the start; a disk that hangs delays it briefly."""
        finding = asyncio.create_task(asyncio.to_thread(self.services.upstreams.find_problems))
        await asyncio.gather(
            self.services.breakers.refresh(),
            self._load_signatures(),
            self.services.spending.open(PATIENCE),
            self._share_spending(),
            asyncio.wait([finding], timeout=PATIENCE),
        )
        for about, kept in self.services.breakers.entries(LATENCIES).items():
            self.services.latencies.digests[about] = Digest.from_json(kept)
        self._log_start(config, finding.result() if finding.done() else [])

    def _hand_over(self) -> None:
        """Send the listening socket to the process that has asked for it. Never raises."""
        assert self._socket is not None, "it serves"
        try:
            way = handover.send(self._socket, self._paths.state)
        except (OSError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            self.recorder.log(events.ServerError(), f"the listening socket can't be sent: {why}")
            return
        self._server.share(way)
        self.recorder.log(events.ServerHandover(), "the next server accepts connections as well")

    def _log_failed_renewal(self, provider: str, error: KeyUnavailable) -> None:
        self.recorder.log(
            events.CredentialFailure(provider=provider),
            f"the credential of {provider} can't be renewed and ends soon: {error}",
        )

    def also_count(self, count: Callable[[events.Event], None]) -> None:
        """Give `count` every event but those of side endpoints, whatever level is logged."""
        totals = self.services.totals

        def count_both(event: events.Event) -> None:
            totals.count(event)
            count(event)

        self.recorder.count = count_both

    def stop(self) -> None:
        """Ask a running server to stop; safe from any thread."""
        self._server.stop()

    def _apply_config(self, config: Config) -> None:
        self.recorder.set_level(self._log_level or config.log.level)
        if self.services.upstreams.use_network(config.network):
            self._checking = asyncio.create_task(self._log_network_problems())
        if self._writer is not None:
            self._writer.reconfigure(config.log.max_bytes, config.log.backups)

    async def _log_network_problems(self) -> None:
        """Report what can't be used of a network configuration that has changed."""
        for problem in await asyncio.to_thread(self.services.upstreams.find_problems):
            self.recorder.log(
                events.ConfigRejected(path=str(self._paths.config)),
                f"{problem}; what was in use before stays",
            )

    def _log_start(self, config: Config, problems: list[str]) -> None:
        names = [provider.name for provider in config.active]
        event = events.ServerStart(
            url=self.url,
            version=__version__,
            pid=os.getpid(),
            providers=names,
            problems=problems or UNSET,
        )
        chain = ", ".join(names) or "no provider enabled"
        message = "; ".join([f"listening on {self.url}; the chain: {chain}", *problems])
        self.recorder.log(event, message)

    def _log_drain(self, answers: int) -> None:
        finish = f"finishing {pluralize(answers, 'answer')} ({DRAIN_SECONDS} s at most)"
        message = f"{finish}; a second Ctrl-C or SIGTERM stops at once"
        self.recorder.log(events.ServerDrain(answers=answers), message)

    def _log_open_files(self) -> None:
        """Warn of files with keys or requests in them that other users can open."""
        for path in files.find_exposed(self._paths):
            self.recorder.log(
                events.FilesOpen(path=str(path)),
                f"{path} can be opened by other users of this machine: chmod 600 {path}",
            )

    def _report_log_failure(self, error: OSError) -> None:
        message = f"the log can't be written, going on without: {error.strerror or error}"
        self.recorder.announce(events.LogError(), message)

    def _keep_latencies(self) -> None:
        breakers = self.services.breakers
        for about, kept in self.services.latencies.take_changed(breakers.clock()).items():
            breakers.put(LATENCIES, about, kept)

    async def _flush_regularly(self) -> None:
        kept = monotonic()
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            if monotonic() - kept >= LATENCY_SECONDS:
                kept = monotonic()
                self._keep_latencies()
            # A log whose disk hangs holds up nothing else that hears of events.
            self.recorder.settle()
            self.services.spending.retry()
            # Also while no request with a cap asks for it: else the rows gather that are not read.
            await self._run_on_disk(self.services.spending.read_new)
            self._publish_spending()
            await self.services.breakers.flush(again=True)
            self.services.breakers.report()
            await self.services.breakers.sync()
            await self._save_signatures()
            await self._run_on_disk(self._restore_address)

    def _publish_spending(self) -> None:
        config = self.services.live.current
        accounts = [*config.names, *(token_account(each.label) for each in config.tokens)]
        self.services.spending.publish(accounts)

    async def _share_spending(self) -> None:
        """Count what the other servers of a shared state spend."""
        breakers, spending = self.services.breakers, self.services.spending
        if breakers.shares_places:
            ledger = await asyncio.to_thread(identify_ledger, self._paths.state)
            spending.shared = SharedSpending(breakers, spending.reservations, ledger)

    async def _load_signatures(self) -> None:
        origins: dict[str, str] = {}
        path = self._paths.signatures
        await self._run_on_disk(lambda: origins.update(signatures_file.read(path)))
        self.services.signatures.load(dict(origins))

    async def _save_signatures(self) -> None:
        signatures = self.services.signatures
        if signatures.changed:
            signatures.changed = False
            write = partial(signatures_file.write, patience=LOCK_SECONDS)
            # `to_save` copies them here, because requests add more while the thread writes.
            if not await self._run_on_disk(write, self._paths.signatures, signatures.to_save()):
                signatures.changed = True

    async def _run_on_disk(self, call: Callable[..., None], *arguments: object) -> bool:
        """Change another file in the thread; False if the disk refuses the change or hangs."""
        if self._disk_call is not None and not self._disk_call.done():
            return False
        self._disk_call = self._disk.run(call, *arguments)
        # Nothing waits for the error of a call that ends too late.
        self._disk_call.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.shield(self._disk_call)
        except (OSError, CcfallbackError):
            # `TimeoutError` is an `OSError`.
            return False
        return True

    def _restore_address(self) -> None:
        """Publish the address again if the file has been removed."""
        if files.stamp(self._address_file) is None:
            self._publish_address()

    def _publish_address(self) -> None:
        with contextlib.suppress(OSError, CcfallbackError):
            if self._private:
                server_file.remove_stale(self._paths.private_servers)
            server_file.write(
                self._address_file,
                self.url,
                os.getpid(),
                __version__,
                self.services.started,
                self.options,
                hands_over=self._hands_over,
                patience=LOCK_SECONDS,
            )

    def _withdraw_address(self) -> None:
        with contextlib.suppress(OSError, CcfallbackError):
            server_file.remove(self._address_file, self.url, os.getpid(), patience=LOCK_SECONDS)


def _is_main_thread() -> bool:
    """Whether signals may be handled here."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _handle_signals(server: Server, hand_over: Callable[[], None]) -> Iterator[None]:
    """Stop the server on SIGINT and SIGTERM: a second one no longer waits for streams, and none
    ends a process that still saves.

    SIGHUP, of a terminal that is closed, stops it too, unless `nohup` lets the process ignore it.
    It may come more than once, or beside SIGTERM, so it never cuts off streams.

    On the signal of `handover`, `hand_over` is called in a thread. Afterwards that signal is
    ignored, because its default action ends a process.
    """
    if not _is_main_thread():
        yield
        return

    # Whether only a closed terminal has stopped the server: a SIGTERM with it does not hurry it.
    hung_up = False

    def stop(*_: object) -> None:
        nonlocal hung_up
        server.stop(force=server.is_stopping and not hung_up)
        hung_up = False

    def hang_up(*_: object) -> None:
        nonlocal hung_up
        hung_up = hung_up or not server.is_stopping
        server.stop()

    def start(*_: object) -> None:
        threading.Thread(target=hand_over, name="handover", daemon=True).start()

    handlers: dict[signal.Signals, Callable[..., None]] = {
        signal.SIGINT: stop,
        signal.SIGTERM: stop,
    }
    if _HANG_UP is not None and signal.getsignal(_HANG_UP) is not signal.SIG_IGN:
        handlers[_HANG_UP] = hang_up
    if handover.SIGNAL is not None:
        handlers[handover.SIGNAL] = start
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if number is handover.SIGNAL else handler)


def _make_protocols(services: Services, server: Server) -> Callable[[], ServerProtocol]:
    """A function that creates the protocol of a connection."""
    app = create_app(services)
    limit = ConnectionLimit(most_clients(raise_file_limit()))

    def refuse(status: int, message: str) -> tuple[Headers, bytes]:
        """The response to a request that cannot be read, which goes to the log as well."""
        given = request_id()
        services.recorder.log(events.ClientRefused(status=status), message, given)
        kind = REFUSAL_KINDS.get(status, "invalid_request_error")
        headers = [JSON, (b"ccr-request-id", given.encode())]
        code = ErrorCode.MALFORMED_HTTP
        return headers, envelope.encode(kind, code.mark(message), given, code=code)

    loop = asyncio.get_running_loop()
    return lambda: ServerProtocol(app, server, refuse, limit, loop)


def run(proxy: Proxy, ready: Callable[[], None] = lambda: None) -> None:
    """Serve in the foreground, on the fastest event loop there is."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(proxy.serve(ready))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class BackgroundProxy:
    """A proxy that serves in its own thread, on a free port, from `__enter__` to `__exit__`."""

    def __init__(
        self,
        paths: Paths,
        *,
        log_level: str | None = None,
        listeners: Sequence[Listener] = (),
        private: bool = False,
        count: Callable[[events.Event], None] | None = None,
    ) -> None:
        """`count` gets every event but those of side endpoints, whatever level is logged."""
        self.proxy = Proxy(paths, log_level=log_level, listeners=listeners, private=private)
        if count is not None:
            self.proxy.also_count(count)
        self.url = self.proxy.bind("127.0.0.1" if private else None, port=0)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._failure: Exception | None = None

    def __enter__(self) -> "BackgroundProxy":
        self.thread.start()
        self._ready.wait()
        self._raise_failure()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let running requests finish, and stop. Raises `ServeError` where the proxy has failed."""
        self.proxy.stop()
        self.thread.join()
        self._raise_failure()

    def _run(self) -> None:
        try:
            run(self.proxy, self._ready.set)
        except Exception as error:
            # `__enter__` or `stop` raises it, in the thread that uses the proxy.
            self._failure = error
        finally:
            # After a failure, `__enter__` must not wait for ever.
            self._ready.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            name = type(self._failure).__name__
            raise ServeError(f"the proxy has stopped: {name}", "see the log") from self._failure
