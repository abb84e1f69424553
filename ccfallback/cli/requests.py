"""`ccfallback requests`: the requests of the log as a list, with ids that `explain` takes."""

import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import typer

from ccfallback.cli.console import Cell, Styled, Table, drop_columns
from ccfallback.cli.log_lines import local_time
from ccfallback.cli.options import Json, make_app, parse_since, provider_names, token_names
from ccfallback.cli.phrases import shorten_model
from ccfallback.cli.requests_view import (
    HEADER,
    RIGHT,
    STOPPED,
    request_json,
    request_row,
)
from ccfallback.cli.session import require_logged, session_of
from ccfallback.config.model import CLASSES
from ccfallback.events.journal_reader import Ended, ended_requests
from ccfallback.events.records import RequestComplete
from ccfallback.printable import printable
from ccfallback.words import did_you_mean

app = make_app()

Keep = Callable[[Ended], bool]

STATUSES: Final[dict[str, Keep]] = {
    "success": lambda it: isinstance(it.end.data, RequestComplete),
    "error": lambda it: (
        not isinstance(it.end.data, RequestComplete) and not it.end.data.client_left
    ),
    "stopped": lambda it: it.end.data.client_left,
    "failover": lambda it: (it.end.data.attempts or 0) > 1,
}
"""The words that --status takes, besides numbers."""

_NUMBER: Final = re.compile(r"([1-5])(\d\d|xx)")

LESS_NEEDED: Final = (
    "session", "token", "first", "class", "out", "result", "attempts", "model", "took",
)  # fmt: skip
"""Columns that a narrow terminal can do without, in the order in which they go."""


@app.command(
    "requests",
    epilog="Example: ccfallback requests --status error --since 2h\n"
    "ccfallback requests --provider openrouter -n 50",
)
def requests(
    ctx: typer.Context,
    count: int = typer.Option(20, "-n", "--lines", min=1, metavar="N", help="How many."),
    since: str | None = typer.Option(None, metavar="DURATION", help="Only the last 5m, 2h, 1d."),
    provider: str | None = typer.Option(
        None, metavar="NAME", help="Only answers of one provider.", autocompletion=provider_names
    ),
    status: str | None = typer.Option(
        None,
        metavar="STATUS",
        help="Only success, error, stopped, failover (several attempts), or a number: 529, 5xx.",
        autocompletion=lambda: list(STATUSES),
    ),
    request_class: str | None = typer.Option(
        None,
        "--class",
        metavar="CLASS",
        help=f"Only one class: {', '.join(CLASSES)}.",
        autocompletion=lambda: list(CLASSES),
    ),
    session_id: str | None = typer.Option(
        None, "--session", metavar="ID", help="Only one session, by the beginning of its id here."
    ),
    token: str | None = typer.Option(
        None,
        "--token",
        metavar="NOTE",
        help="Only requests with one access token, by its note or the hash that is logged.",
        autocompletion=token_names,
    ),
    as_json: Json = False,
) -> None:
    """List requests from the log, newest first.

    `ccfallback explain` and the id of a request tell the whole story of it.
    """
    session = session_of(ctx)
    session.require_config_file()
    console, now = session.console, session.now()
    start = None
    if since is not None:
        seconds, since = parse_since(session, since)
        start = now - seconds
    wanted: list[Keep] = []
    if status is not None:
        wanted.append(_parse_status(status))
    if provider is not None:
        wanted.append(lambda it: it.end.data.provider == provider)
    if request_class is not None:
        if request_class not in CLASSES:
            meant = did_you_mean(request_class, CLASSES) or f"use one of {', '.join(CLASSES)}"
            raise typer.BadParameter(f"{request_class}; {meant}", param_hint="--class")
        wanted.append(lambda it: _class(it) == request_class)
    if session_id is not None:
        wanted.append(lambda it: (_session(it) or "").startswith(session_id))
    if token is not None:
        wanted.append(lambda it: _token(it) == token)
    recent = _until(start, session.readable_log())
    matching = (it for it in recent if all(keep(it) for keep in wanted))
    found = list(islice(matching, min(count, sys.maxsize)))
    if not found and provider is not None:
        require_logged(provider, session)
    console.emit(
        {"requests": [_json(it) for it in found]},
        lambda: _table(found, now, console.width) if found else _nothing(wanted, since),
    )
    if len(found) == count and console.is_terminal:
        console.say(f"these are the last {count}; -n shows more")


def _until(start: float | None, log: Path) -> Iterator[Ended]:
    """The requests that ended after `start`."""
    for it in ended_requests(log):
        ended = it.end.written
        if start is not None and ended is not None and ended < start:
            return
        yield it


def _parse_status(text: str) -> Keep:
    """The condition that a value of --status means."""
    if (known := STATUSES.get(text)) is not None:
        return known
    number = _NUMBER.fullmatch(text.lower())
    if number is None:
        meant = did_you_mean(text, STATUSES) or f"use {', '.join(STATUSES)}, 529 or 5xx"
        raise typer.BadParameter(f"{text!r} is not a status; {meant}", param_hint="--status")
    first, rest = number.groups()
    if rest == "xx":
        return lambda it: str(it.end.data.status or "")[:1] == first
    return lambda it: it.end.data.status == int(text)


def _class(it: Ended) -> str | None:
    given = it.end.data.request_class or (it.start and it.start.request_class)
    return given if isinstance(given, str) else None


def _session(it: Ended) -> str | None:
    given = it.start and it.start.session
    return given if isinstance(given, str) else None


def _token(it: Ended) -> str | None:
    given = it.end.data.token
    return given if isinstance(given, str) else None


def _json(it: Ended) -> dict[str, Any]:
    agent = it.start and it.start.agent
    return {
        **request_json(it.end),
        "cost": it.end.data.cost,
        "cache": it.end.data.cache,
        "class": _class(it),
        "session": _session(it),
        "token": _token(it),
        "agent": agent if isinstance(agent, str) else None,
    }


def _nothing(wanted: list[Keep], since: str | None) -> str:
    if wanted:
        return "no request matches"
    return f"no request ended in the last {since}" if since else "no request is in the log yet"


def _table(found: list[Ended], now: float, width: int | None) -> Table:
    """The requests; a narrow terminal gets fewer columns."""
    by_token = any(_token(it) for it in found)
    header = [*HEADER[:-1], "out", "model", "class", "session", "result"]
    rows = [_row(it, now) for it in found]
    if by_token:
        header.insert(-1, "token")
        for row, it in zip(rows, found, strict=True):
            row.insert(-1, printable(_token(it) or "") or "-")
    whole = Table(rows, header, RIGHT)
    return drop_columns(whole, LESS_NEEDED, width)


def _row(it: Ended, now: float) -> list[Cell]:
    end = it.end.data
    day, time = local_time(it.end)
    today = datetime.fromtimestamp(now).strftime("%Y-%m-%d")
    when = time if day in ("", today) else f"{day[5:]} {time}"
    result = "" if isinstance(end, RequestComplete) else getattr(end, "error", None) or ""
    return [
        when,
        *request_row(it.end)[1:],
        printable(shorten_model(end.model or "")) or "-",
        printable(_class(it) or "") or "-",
        printable(_session(it) or "")[:8] or "-",
        Styled(STOPPED, "dim") if end.client_left else printable(result),
    ]
