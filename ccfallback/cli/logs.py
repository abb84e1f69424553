"""`ccfallback logs`: the log as a story for people, or as its own lines for scripts."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec
import typer

from ccfallback.cli.console import Console
from ccfallback.cli.log_printer import Record, Teller
from ccfallback.cli.options import Json, make_app, parse_duration, provider_names
from ccfallback.cli.serve import Level
from ccfallback.cli.session import session_of
from ccfallback.events import story
from ccfallback.events.records import record_from

app = make_app(
    name="logs",
    help="Read the log.",
    epilog="Example: ccfallback logs tail -f",
)

Keep = Callable[[Mapping[str, Any]], bool]

LEVELS: Final = tuple(level.value for level in Level)

POLL: Final = 0.2
"""Seconds between two looks at a followed log."""


class Status(StrEnum):
    """Which news."""

    ERROR = "error"
    SUCCESS = "success"


class Format(StrEnum):
    """How lines are printed."""

    PRETTY = "pretty"
    JSON = "json"


@app.command("tail", epilog="Example: ccfallback logs tail -f --status error --since 10m")
def tail(
    ctx: typer.Context,
    count: int = typer.Option(20, "-n", "--lines", min=0, metavar="N", help="Lines to begin with."),
    follow: bool = typer.Option(False, "-f", "--follow", help="Go on with what comes."),
    status: Status | None = typer.Option(None, help="Only trouble, or only answers."),
    since: str | None = typer.Option(None, metavar="DURATION", help="Only the last 5m, 2h, 1d."),
    level: Level | None = typer.Option(None, help="Only that level and above."),
    provider: str | None = typer.Option(
        None, metavar="NAME", help="Only about one provider.", autocompletion=provider_names
    ),
    request: str | None = typer.Option(
        None, metavar="ID", help="Only one request, by its id, or how that begins or ends."
    ),
    form: Format = typer.Option(
        Format.PRETTY, "--format", help="As a story, or the lines as they are."
    ),
    as_json: Json = False,
) -> None:
    """Show the last lines of the log."""
    from ccfallback.events import journal

    session = session_of(ctx)
    console = session.console
    earliest = None if since is None else session.now() - parse_duration(since, "--since")
    keep = _filter(
        [
            None if status is None else _has_status(status),
            None if earliest is None else lambda record: _written(record) >= earliest,
            None if level is None else lambda record: _gravity(record) >= LEVELS.index(level),
            None if provider is None else lambda record: _data(record, "provider") == provider,
            None if request is None else lambda record: story.is_of(record, request),
        ]
    )
    lines = form is Format.JSON or (as_json and follow)
    show = _Raw(console) if lines else Teller(console)
    path = session.paths.log
    if not path.exists():
        wait = "waiting for it" if follow else "`ccfallback serve` writes it"
        console.say(f"no log yet at {path}; {wait}")
    end = journal.mark(path)
    found = journal.tail(path, count, keep, end)
    if as_json and not lines:
        console.emit({"records": [record for record, _ in found]}, str)
        return
    for record, raw in found:
        show(record_from(record), raw)
    if follow:
        try:
            for raw in journal.follow(path, poll=POLL, start=end):
                if keep(added := _record(raw)):
                    show(record_from(added), raw)
        except KeyboardInterrupt:
            return  # It is how one ends following, not an interruption of anything.


class _Raw:
    """Prints lines byte for byte."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, record: Record, raw: bytes) -> None:
        self._console.write_bytes(raw.rstrip(b"\r\n") + b"\n")


def _filter(conditions: list[Keep | None]) -> Keep:
    wanted = [condition for condition in conditions if condition is not None]
    return lambda record: all(condition(record) for condition in wanted)


def _has_status(status: Status) -> Keep:
    if status is Status.ERROR:
        return lambda record: _gravity(record) >= LEVELS.index("warn")
    return lambda record: record.get("event") in story.GOOD_EVENTS


def _written(record: Mapping[str, Any]) -> float:
    when = story.moment(record)
    return 0.0 if when is None else when.timestamp()


def _gravity(record: Mapping[str, Any]) -> int:
    """The place of a record's level; a level that nobody knows is below all."""
    level = record.get("level")
    return LEVELS.index(level) if level in LEVELS else -1


def _data(record: Mapping[str, Any], key: str) -> Any:
    data = record.get("data")
    return data.get(key) if isinstance(data, Mapping) else None


def _record(raw: bytes) -> Mapping[str, Any]:
    """The record of a line; an empty one of a line that is none."""
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
