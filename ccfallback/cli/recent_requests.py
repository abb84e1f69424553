"""The last requests, as the log has them, for a script and for a table."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ccfallback.cli.console import Cell, Styled, Table
from ccfallback.cli.phrases import format_count, format_latency, join_names
from ccfallback.events import story
from ccfallback.events.explanation import Candidate, Explanation, Standing
from ccfallback.events.journal_reader import backwards
from ccfallback.events.records import record_from
from ccfallback.events.stats import CLIENT_LEFT

ENDS: Final = re.compile(rb'"event":"request\.(?:complete|error)"')

HEADER: Final = ("time", "request", "answer", "provider", "took", "first", "tries", "tokens out")
RIGHT: Final = frozenset({4, 5, 6, 7})
MORE: Final = ("model", "what came of it")
"""Columns for a terminal that has room for them, or for a reader who scrolls."""

ROOMY: Final = 120

DATE: Final = re.compile(r"-20\d{6}$")
"""What the names of some models end with."""

_ANSWERED: Final = (Standing.ANSWERED, Standing.HANDED_ON)

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


def grid(records: Sequence[Mapping[str, Any]], width: int | None) -> Table:
    """Requests as a table for a terminal of that width, if it goes to one."""
    if width is not None and width < ROOMY:
        return Table([row(record) for record in records], HEADER, RIGHT)
    rows = [(*row(record), *more(record)) for record in records]
    return Table(rows, (*HEADER, *MORE), RIGHT)


def row(record: Mapping[str, Any]) -> tuple[Cell, ...]:
    """A request as a line of the table; nothing in it is taken on trust."""
    line, data = story.line(record_from(record)), _data(record)
    tokens = data.get("outputTokens")
    return (
        line.time,
        line.request,
        Styled(f"{line.sign} {_text(data.get('status'))}", _style(record)),
        _text(data.get("provider")),
        _seconds(data.get("latency")),
        _seconds(data.get("ttft")),
        _text(data.get("attempts")),
        format_count(tokens) if isinstance(tokens, int) else "-",
    )


def more(record: Mapping[str, Any]) -> tuple[str, str]:
    """The model that was asked for, and why there was no answer."""
    data = _data(record)
    return _text(data.get("model")), _text(data.get("error") or "answered")


def short(model: str) -> str:
    """A model's name without what all of them have: `opus-5-5`, `sonnet-4-5`."""
    return DATE.sub("", model.removeprefix("claude-"))


def path(it: Explanation, brief: Mapping[str, str]) -> tuple[str, str]:
    """Who answered a request, or is asked, and how it came to that.

    With `brief` names for providers, the rest is brief as well.
    """
    turns = [turn for each in it.candidates if (turn := _turn(each, brief))]
    after = f"after {join_names(turns)}" if turns else ""
    by = next((each for each in it.candidates if each.standing in _ANSWERED), None)
    if it.complete:
        words = _effort(by)
    elif it.status is None:
        by = by or next(
            (each for each in it.candidates if each.standing is Standing.UNDER_WAY), None
        )
        words = ["answering now" if by and by.standing in _ANSWERED else "asked now"] if by else []
    elif it.provider:
        words = ["handed on as it came" if by else ""]
    elif it.status == CLIENT_LEFT:
        words = ["the client left"]
    else:
        words = ["no answer" if after else it.client_saw]
    who = it.provider or (by.provider if by and it.status is None else "-")
    return who, ", ".join(filter(None, [*words, after]))


def asked(it: Explanation) -> list[dict[str, Any]]:
    """Whose turn it was in a request, as a script gets it."""
    return [
        {
            "provider": each.provider,
            "standing": str(each.standing),
            "attempts": len(each.attempts),
            "results": [attempt.result for attempt in each.attempts if attempt.result],
        }
        for each in it.candidates
        if each.attempts or each.standing is Standing.PASSED_BY
    ]


def _effort(by: Candidate | None) -> list[str]:
    """What it took for one provider to answer."""
    attempts = [] if by is None else by.attempts
    repairs = [each.repair.rectifier for each in attempts if each.repair is not None]
    more = len(attempts) - len(repairs) - 1
    words = [f"repaired by {join_names(repairs)}"] if repairs else []
    return [*words, f"at try {more + 1}"] if more > 0 else words


def _turn(candidate: Candidate, brief: Mapping[str, str]) -> str:
    """What came of a candidate that did not answer; empty for one that had no turn."""
    name = brief.get(candidate.provider, candidate.provider)
    match candidate.standing:
        case Standing.FAILED | Standing.BROKE_OFF:
            last = candidate.attempts[-1] if candidate.attempts else None
            status = last and brief and candidate.standing is Standing.FAILED and last.status
            why = str(status) if status else (last.result if last else "")
        case Standing.PASSED_BY if candidate.held and candidate.held.probe:
            why = "half-open" if brief else "on trial"
        case Standing.PASSED_BY:
            why = "open" if brief else "cooling down"
        case _:
            return ""
    return f"{name} ({why})" if why else name


def _style(record: Mapping[str, Any]) -> str:
    if record.get("event") == "request.complete":
        return "green"
    return "red" if record.get("level") in ("warn", "error") else "yellow"


def _seconds(milliseconds: object) -> str:
    return format_latency(milliseconds / 1000) if isinstance(milliseconds, int | float) else "-"


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _data(record: Mapping[str, Any]) -> Mapping[str, Any]:
    data = record.get("data")
    return data if isinstance(data, Mapping) else {}
