"""`ccfallback logs`: the log as lines for people, or as its own lines for scripts."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import msgspec
import typer

from ccfallback.cli.log_lines import GOOD_EVENTS, LEVELS, Level, LogPrinter
from ccfallback.cli.options import Json, make_app, parse_since, provider_names
from ccfallback.cli.session import require_logged, session_of
from ccfallback.errors import CcfallbackError
from ccfallback.events.records import Record, decode
from ccfallback.printable import escape_json

app = make_app(name="logs", help="Read the log.", epilog="Example: ccfallback logs tail -f")

Keep = Callable[[Record[Any]], bool]

POLL: Final = 0.2
"""Seconds between two looks at a followed log."""


class Status(StrEnum):
    """Which events."""

    ERROR = "error"
    SUCCESS = "success"


class Format(StrEnum):
    """How lines are printed."""

    PRETTY = "pretty"
    JSON = "json"


@app.command("tail", epilog="Example: ccfallback logs tail -f --status error --since 10m")
def tail(
    ctx: typer.Context,
    count: int = typer.Option(20, "-n", "--lines", min=0, metavar="N", help="How many lines."),
    follow: bool = typer.Option(False, "-f", "--follow", help="Keep printing new lines."),
    status: Status | None = typer.Option(None, help="Only failures, or only successes."),
    since: str | None = typer.Option(None, metavar="DURATION", help="Only the last 5m, 2h, 1d."),
    level: Level | None = typer.Option(None, help="Only that level and above."),
    provider: str | None = typer.Option(
        None, metavar="NAME", help="Only about one provider.", autocompletion=provider_names
    ),
    request: str | None = typer.Option(
        None, metavar="ID", help="Only one request, by its id, or the beginning or end of it."
    ),
    form: Format = typer.Option(
        Format.PRETTY, "--format", help="Readable lines, or the log's own."
    ),
    as_json: Json = False,
) -> None:
    """Show the last lines of the log."""
    from ccfallback.events import journal_reader as reader

    session = session_of(ctx)
    session.require_config_file()
    console = session.console
    earliest = None if since is None else session.now() - parse_since(session, since)[0]
    conditions: list[Keep | None] = [
        None if status is None else lambda record: _has_status(record, status),
        None if earliest is None else lambda record: (record.written or 0.0) >= earliest,
        None if level is None else lambda record: _severity(record) >= LEVELS.index(level),
        None if provider is None else lambda r: getattr(r.data, "provider", None) == provider,
        None if request is None else lambda record: record.matches(request),
    ]
    wanted = [condition for condition in conditions if condition is not None]

    def keep(record: Record[Any]) -> bool:
        return all(condition(record) for condition in wanted)

    raw = form is Format.JSON or (as_json and follow)
    printer = LogPrinter(console)

    def show(record: Record[Any], line: bytes) -> None:
        if raw:
            console.write_bytes(escape_json(line.rstrip(b"\r\n")) + b"\n")
        else:
            printer.print([record])

    path = session.readable_log()
    if path.is_dir():
        raise CcfallbackError(f"{path} is a folder", "name the file of the log")
    if not path.exists():
        wait = "waiting for it" if follow else "`ccfallback serve` writes it"
        console.say(f"no log yet at {path}; {wait}")
    end = reader.mark(path)
    found = reader.tail(path, count, keep, end)
    if not found and count and not follow:
        if provider is not None:
            require_logged(provider, session)
        if request is not None and reader.find_request(path, request) is None:
            raise CcfallbackError(
                f"the log has no request {request}", "`ccfallback requests` lists those it has"
            )
        if path.exists():
            console.say("no line of the log matches" if wanted else "the log has no events yet")
    if as_json and not raw:
        # The lines as they are: an event of another version may have members that we don't know.
        console.emit({"records": [msgspec.Raw(line) for _, line in found]}, str)
        return
    for record, line in found:
        show(record, line)
    if follow:
        try:
            for line in reader.follow(path, poll=POLL, start=end):
                if (added := decode(line)) is not None and keep(added):
                    show(added, line)
        except KeyboardInterrupt:
            return  # This is how a person stops following; nothing was interrupted.


def _has_status(record: Record[Any], status: Status) -> bool:
    if status is Status.ERROR:
        return _severity(record) >= LEVELS.index("warn")
    return isinstance(record.data, GOOD_EVENTS)


def _severity(record: Record[Any]) -> int:
    """The place of a record's level in `LEVELS`; an unknown level is below all."""
    return LEVELS.index(record.level) if record.level in LEVELS else -1
