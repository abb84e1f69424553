"""`ccfallback serve`: the proxy in the foreground, with a readable log of its requests."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import typer

from ccfallback import __version__
from ccfallback.cli.console import ClosedPipe
from ccfallback.cli.logs import Level, LogPrinter
from ccfallback.cli.options import make_app
from ccfallback.cli.session import Session, session_of
from ccfallback.errors import CcfallbackError, PortTaken
from ccfallback.events import records as events
from ccfallback.events.journal import Backlog

if TYPE_CHECKING:
    from ccfallback.server.record import Listener, Record
    from ccfallback.server.serve import Proxy

app = make_app()

NOT_PRINTED: Final = (
    events.ServerStart,
    events.RequestStart,
    events.ProviderAttempt,
    events.ProviderSuccess,
    events.RequestDebugCurl,
)
"""Events that are logged and not printed: the lines that are printed imply them."""


@app.command("serve", epilog="Example: ccfallback serve --port 8787")
def serve(
    ctx: typer.Context,
    host: str | None = typer.Option(
        None, metavar="HOST", help="Where to listen; beyond loopback only with access tokens."
    ),
    port: int | None = typer.Option(
        None, min=0, max=65535, metavar="PORT", help="The port; 0 picks a free one."
    ),
    log_level: Level | None = typer.Option(None, metavar="LEVEL", help="How much is logged."),
    background: bool = typer.Option(
        False, "-d", "--background", help="Return when it runs; `ccfallback stop` stops it."
    ),
) -> None:
    """Run the proxy in the foreground until Ctrl-C."""
    given = (("--host", host), ("--port", port), ("--log-level", log_level and log_level.value))
    options = [word for name, value in given if value is not None for word in (name, str(value))]
    if background:
        from ccfallback.cli.background import start

        start(session_of(ctx), options)
        return
    from ccfallback.server.process import keep_freed_blocks, set_start_aside
    from ccfallback.server.serve import Proxy, run

    session = session_of(ctx)
    printer = LogPrinter(session.console.with_own_buffer())
    level = None if log_level is None else log_level.value
    keep_freed_blocks()
    # A program that reads our output looks for the address first, so events wait for it.
    announced = threading.Event()
    backlog = Backlog(_printing(printer, announced), "story")
    try:
        proxy = Proxy(session.paths, log_level=level, listeners=[_filter(backlog)])
        proxy.options = tuple(options)
        # Not before: a look at a file on a disk that hangs would never end.
        session.warn_of_missing_config()
        url = _bind(proxy, host, port)

        def ready() -> None:
            set_start_aside()
            _announce(session, proxy, url)
            announced.set()

        run(proxy, ready)
    finally:
        announced.set()
        backlog.close()


def _filter(backlog: "Backlog[Record]") -> "Listener":
    """A listener that passes on the events to print."""

    def listen(record: "Record") -> None:
        if not isinstance(record.data, NOT_PRINTED):
            backlog.put(record)

    return listen


def _printing(printer: LogPrinter, announced: threading.Event) -> "Callable[[list[Record]], None]":
    """A function that prints records. It runs in its own thread, because a terminal may block."""

    def print_records(records: "list[Record]") -> None:
        announced.wait()
        # The proxy keeps serving when its output can no longer be written.
        with suppress(CcfallbackError, ClosedPipe, OSError):
            printer.print(records)

    return print_records


def _bind(proxy: "Proxy", host: str | None, port: int | None) -> str:
    """Listen on the address; if it is taken, say which program has it."""
    from ccfallback.cli.running_server import describe_server_at, local_url

    try:
        return proxy.bind(host, port)
    except PortTaken as error:
        server = proxy.services.live.current.server
        number = port if port is not None else server.port
        owner = describe_server_at(local_url(host if host is not None else server.host, number))
        if owner is None:
            message = f"{error.message}, by another program (not a ccfallback)"
            raise PortTaken(message, error.hint) from None
        hint = f"use that one, stop it, or {error.hint}"
        raise PortTaken(f"{error.message}, by {owner}", hint) from None


def _announce(session: Session, proxy: "Proxy", url: str) -> None:
    """Print the address, the chain, and how to point Claude Code here."""
    console, config = session.console, proxy.services.live.current
    names = ", ".join(provider.name for provider in config.active) or "no provider is enabled"
    where = proxy.everywhere
    place = f"{where} (all interfaces); here: {url}" if where else url
    console.say(f"ccfallback {__version__} listens on {place}; the chain: {names}")
    if not config.has_fallback:
        console.say("no fallback yet: `ccfallback providers add` adds one, without a restart")
    console.say("to send Claude Code here, in its shell:")
    console.write(f"export ANTHROPIC_BASE_URL={url}\n")
    if config.tokens:
        console.say("clients must send an access token; `ccfallback env` prints all the variables")
