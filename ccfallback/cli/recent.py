"""The last requests, as the log has them, for a script and for a table."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ccfallback.cli.console import Cell, Grid, Styled
from ccfallback.cli.phrases import amount, took
from ccfallback.core import story
from ccfallback.store.journal_reading import backwards

ENDS: Final = re.compile(rb'"event":"request\.(?:complete|error)"')

HEADER: Final = ("time", "request", "answer", "provider", "took", "first", "tries", "tokens out")
RIGHT: Final = frozenset({4, 5, 6, 7})
MORE: Final = ("model", "what came of it")
"""Columns for a terminal that has room for them, or for a reader who scrolls."""

ROOMY: Final = 120

TOLD: Final = (
    "provider", "model", "status", "latency", "ttft", "attempts", "inputTokens", "outputTokens",
    "stream", "error",
)  # fmt: skip
"""Members of a record that are handed on."""


def last(path: Path, count: int) -> list[dict[str, Any]]:
    """The last requests that ended, the newest first."""
    return [record for record, _ in islice(backwards(path, matching=ENDS), count)]


def brief(record: Mapping[str, Any]) -> dict[str, Any]:
    """A request as a script gets it."""
    data = _data(record)
    named = {name: data.get(name) for name in TOLD}
    return {"timestamp": record.get("timestamp"), "requestId": record.get("requestId"), **named}


def grid(records: Sequence[Mapping[str, Any]], width: int | None) -> Grid:
    """Requests as a table for a terminal of that width, if it goes to one."""
    if width is not None and width < ROOMY:
        return Grid([row(record) for record in records], HEADER, RIGHT)
    rows = [(*row(record), *more(record)) for record in records]
    return Grid(rows, (*HEADER, *MORE), RIGHT)


def row(record: Mapping[str, Any]) -> tuple[Cell, ...]:
    """A request as a line of the table; nothing in it is taken on trust."""
    line, data = story.line(record), _data(record)
    tokens = data.get("outputTokens")
    return (
        line.time,
        line.request,
        Styled(f"{line.sign} {_text(data.get('status'))}", _style(record)),
        _text(data.get("provider")),
        _seconds(data.get("latency")),
        _seconds(data.get("ttft")),
        _text(data.get("attempts")),
        amount(tokens) if isinstance(tokens, int) else "-",
    )


def more(record: Mapping[str, Any]) -> tuple[str, str]:
    """The model that was asked for, and why there was no answer."""
    data = _data(record)
    return _text(data.get("model")), _text(data.get("error") or "answered")


def _style(record: Mapping[str, Any]) -> str:
    if record.get("event") == "request.complete":
        return "green"
    return "red" if record.get("level") in ("warn", "error") else "yellow"


def _seconds(milliseconds: object) -> str:
    return took(milliseconds / 1000) if isinstance(milliseconds, int | float) else "-"


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _data(record: Mapping[str, Any]) -> Mapping[str, Any]:
    data = record.get("data")
    return data if isinstance(data, Mapping) else {}
