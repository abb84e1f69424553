"""`ccfallback demo`: see a failover, without a key and without a network."""

from typing import TYPE_CHECKING

import typer

from ccfallback.cli.console import ClosedPipe, ExitCode
from ccfallback.cli.log_lines import LogPrinter
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import session_of
from ccfallback.errors import CcfallbackError
from ccfallback.words import format_seconds

if TYPE_CHECKING:
    from ccfallback.server.record import Record

app = make_app()


@app.command("demo", epilog="Example: ccfallback demo")
def demo(ctx: typer.Context, as_json: Json = False) -> None:
    """Send one request past a failing primary, all on this machine."""
    from ccfallback.simulator.demo import ANSWER, QUESTION
    from ccfallback.simulator.demo import demo as run

    console = session_of(ctx).console
    printer = LogPrinter(console)
    if not as_json:
        console.say("An overloaded primary, a healthy fallback, and ccfallback in between:")
    unwritten: list[Exception] = []

    def show(record: "Record") -> None:
        # In the server's thread, which must not fail when the output can't be written.
        try:
            if not as_json and not unwritten:
                printer.print([record])
        except (ClosedPipe, CcfallbackError) as error:
            unwritten.append(error)

    result = run(show)
    if unwritten:
        raise unwritten[0]
    value = {
        "ok": result.ok,
        "status": result.status,
        "provider": result.provider,
        "attempts": result.attempts,
        "seconds": result.seconds,
        "text": result.text,
    }
    if not result.ok:
        console.emit(value, lambda: f"the client got {result.status} {result.text}".rstrip())
        console.say("this should not happen: please report it with the lines above")
        raise typer.Exit(ExitCode.FAILED)
    lines = (
        f"\nquestion  {QUESTION}\n"
        f"answer    {ANSWER}\n"
        f"from      {result.provider}, in {format_seconds(result.seconds)}, "
        f"after {result.attempts} attempts"
    )
    console.emit(value, lambda: lines)
    if not as_json:
        console.say(
            "Next: `ccfallback providers add NAME --preset NAME` adds a fallback, and "
            "`ccfallback run` starts Claude Code"
        )
