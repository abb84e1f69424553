"""What `ccfallback serve` does, without the library that parses the command line.

That library would stay in memory for as long as the server runs. So `serve` in its usual form is
parsed here; whatever else the command line says, typer parses and reports.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from ccfallback import __version__
from ccfallback.cli.console import ClosedPipe
from ccfallback.cli.exits import run_safely
from ccfallback.cli.file_options import Files
from ccfallback.cli.log_lines import LEVELS, LogPrinter
from ccfallback.cli.session import Session
from ccfallback.errors import CcfallbackError, PortTaken
from ccfallback.events import records as events
from ccfallback.events.journal import Backlog

if TYPE_CHECKING:
    from ccfallback.server.record import Output, Record
    from ccfallback.server.serve import Proxy

NOT_PRINTED: Final = frozenset(
    {
        events.ServerStart,
        events.RequestStart,
        events.ProviderAttempt,
        events.ProviderSuccess,
        events.RequestDebugCurl,
    }
)
"""Events that are logged and not printed: the lines that are printed imply them."""

_OPTIONS: Final = ("--host", "--port", "--log-level")


class ServeArguments(msgspec.Struct, frozen=True):
    """The options of `serve`."""

    host: str | None
    port: int | None
    log_level: str | None


def parse(arguments: Sequence[str]) -> ServeArguments | None:
    """The options of a command line that is `serve` in its usual form, else `None`."""
    if arguments[:1] != ["serve"]:
        return None
    given: dict[str, str] = {}
    rest = list(reversed(arguments[1:]))
    while rest:
        word = rest.pop()
        if word not in _OPTIONS or word in given or not rest:
            return None
        value = rest.pop()
        if not value or value.startswith("-"):
            return None
        given[word] = value
    port, level = given.get("--port"), given.get("--log-level")
    if level is not None and level not in LEVELS:
        return None
    if port is not None and not (port.isascii() and port.isdecimal() and int(port) < 65536):
        return None
    number = None if port is None else int(port)
    return ServeArguments(given.get("--host"), number, level)


def to_words(host: str | None, port: int | None, level: str | None) -> list[str]:
    """The options of a command line that starts such a server."""
    given = zip(_OPTIONS, (host, port, level), strict=True)
    return [word for name, value in given if value is not None for word in (name, str(value))]


def run(session: Session, files: Files, arguments: ServeArguments) -> int:
    """Run `serve` with these files and options; returns the exit code."""

    def call() -> None:
        session.locate(*files)
        serve(session, arguments.host, arguments.port, arguments.log_level)

    return run_safely(call, session)


def serve(session: Session, host: str | None, port: int | None, level: str | None) -> None:
    """Run the proxy in the foreground until it is stopped."""
    from ccfallback.server.process import keep_freed_blocks, set_start_aside
    from ccfallback.server.serve import Proxy
    from ccfallback.server.serve import run as run_proxy

    printer = LogPrinter(session.console.with_own_buffer())
    keep_freed_blocks()
    # A program that reads our output looks for the address first, so events wait for it.
    announced = threading.Event()
    # Without a time to gather: records come many at once.
    backlog = Backlog(_printing(printer, announced), "story", gather=0, busy=0)
    try:
        proxy = Proxy(session.paths, log_level=level, outputs=[_filter(backlog)])
        proxy.options = tuple(to_words(host, port, level))
        # Not before: a look at a file on a disk that hangs would never end.
        session.warn_of_missing_config()
        url = _bind(proxy, host, port)

        def ready() -> None:
            set_start_aside()
            _announce(session, proxy, url)
            announced.set()

        run_proxy(proxy, ready)
    finally:
        announced.set()
        backlog.close()


def _filter(backlog: "Backlog[Record]") -> "Output":
    """An output that passes on the events to print."""

    def take(records: "list[Record]") -> None:
        printed = [record for record in records if type(record.data) not in NOT_PRINTED]
        if printed:
            backlog.add(printed)
            backlog.wake()

    return take


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
    from ccfallback.server import handover

    try:
        return proxy.bind(host, port, inherited=handover.take())
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
