"""`ccfallback serve`: the proxy in the foreground, with the story of its requests."""

import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import typer

from ccfallback import __version__
from ccfallback.cli.console import ClosedPipe
from ccfallback.cli.log_printer import Teller
from ccfallback.cli.options import make_app
from ccfallback.cli.session import Session, session_of
from ccfallback.errors import CcfallbackError, PortTaken
from ccfallback.events.backlog import Backlog

if TYPE_CHECKING:
    from ccfallback.server.record import Listener, Record
    from ccfallback.server.serve import Proxy

app = make_app()

UNTOLD: Final = frozenset(
    {"request.start", "provider.attempt", "provider.success", "server.start", "request.debug_curl"}
)
"""Events that the log has, and that would only be in the way on the screen."""


class Level(StrEnum):
    """Log levels, as an option takes them."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


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
) -> None:
    """Run the proxy in the foreground until Ctrl-C."""
    from ccfallback.server.memory import keep_freed_blocks, set_start_aside
    from ccfallback.server.serve import Proxy, run

    session = session_of(ctx)
    tell = Teller(session.console.with_own_buffer())
    level = None if log_level is None else log_level.value
    keep_freed_blocks()
    # Whoever reads our output looks for the address first, whatever there is to tell before.
    announced = threading.Event()
    story = Backlog(_live(tell, announced), "story")
    try:
        proxy = Proxy(session.paths, log_level=level, listeners=[_wanted(story)])
        url = _bound(proxy, host, port)

        def ready() -> None:
            set_start_aside()
            _announce(session, proxy, url)
            announced.set()

        run(proxy, ready)
    finally:
        announced.set()
        story.close()


def _wanted(story: "Backlog[Record]") -> "Listener":
    """Passes on what a person wants to see as it happens."""

    def listen(record: "Record") -> None:
        if record.event not in UNTOLD:
            story.put(record)

    return listen


def _bound(proxy: "Proxy", host: str | None, port: int | None) -> str:
    """Take the address; where somebody else has it, say who."""
    from ccfallback.cli.running_server import describe_server_at, local_url

    try:
        return proxy.bind(host, port)
    except PortTaken as error:
        server = proxy.services.live.current.server
        number = port if port is not None else server.port
        who = describe_server_at(local_url(host if host is not None else server.host, number))
        if who is None:
            message = f"{error.message}, by a program that is no ccfallback"
            raise PortTaken(message, error.hint) from None
        hint = f"use that one, stop it, or {error.hint}"
        raise PortTaken(f"{error.message}, by {who}", hint) from None


def _live(tell: Teller, announced: threading.Event) -> "Callable[[list[Record]], None]":
    """Tells the story for as long as somebody looks; in its own time, a terminal can be held."""

    def listen(records: "list[Record]") -> None:
        announced.wait()
        # When nobody reads the screen any more, requests are served all the same.
        with suppress(CcfallbackError, ClosedPipe, OSError):
            tell.all(records)

    return listen


def _announce(session: Session, proxy: "Proxy", url: str) -> None:
    """Say where it listens, whom it asks, and what Claude Code has to be told."""
    console, config = session.console, proxy.services.live.current
    names = ", ".join(provider.name for provider in config.active) or "nobody is enabled"
    console.say(f"ccfallback {__version__} listens on {url}; the chain: {names}")
    if not config.has_fallback:
        console.say("no fallback yet: `ccfallback providers add` adds one, without a restart")
    console.say("to send Claude Code here, in its shell:")
    console.write(f"export ANTHROPIC_BASE_URL={url}\n")
    if config.tokens:
        console.say("clients must show an access token; `ccfallback env` prints all the lines")
