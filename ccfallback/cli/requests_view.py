"""Requests as `status` and `top` show them: in a table, and for a script."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from ccfallback.cli.console import Cell, Styled, Table, drop_columns
from ccfallback.cli.log_lines import level_sign, local_time, short_id
from ccfallback.cli.phrases import format_count, format_latency, join_names
from ccfallback.events.explain import Candidate, Explanation, Standing
from ccfallback.events.journal_reader import latest_ends
from ccfallback.events.records import Record, RequestComplete, RequestEnd
from ccfallback.printable import printable

End = Record[RequestEnd]

HEADER: Final = ("time", "request", "answer", "provider", "took", "first", "attempts", "tokens out")
RIGHT: Final = frozenset({4, 5, 6, 7})
MORE: Final = ("model", "result")
"""Further columns for a wide terminal, or for a reader who scrolls."""

STOPPED: Final = "stopped by you"
"""What became of a request whose client left: most often a person has pressed Esc."""

WIDE: Final = 120

LESS_NEEDED: Final = ("first", "out", "attempts", "took", "provider")
"""Columns that a narrow terminal can do without, in the order in which they go."""

KEYS: Final = (
    "provider", "model", "status", "latency", "ttft", "attempts", "inputTokens", "outputTokens",
    "stream", "error", "uncounted",
)  # fmt: skip


def latest_requests(path: Path, count: int) -> list[End]:
    """The last requests that ended, the newest first."""
    return list(islice(latest_ends(path), count))


def request_json(record: End) -> dict[str, Any]:
    """A request for `--json`."""
    data = msgspec.to_builtins(record.data)
    named = {key: data.get(key) for key in KEYS}
    return {"timestamp": record.timestamp, "requestId": record.request_id, **named}


def describe_uncounted(counts: Mapping[str, int]) -> str:
    """That failed attempts, by provider, count for no breaker; empty if there are none."""
    listed = ", ".join(f"{printable(name)} {count:,}" for name, count in counts.items() if count)
    return f"not counted: your own network ({listed})" if listed else ""


def count_uncounted(records: Sequence[End]) -> Counter[str]:
    """The failed attempts of requests that count for no breaker, by provider."""
    found = Counter[str]()
    for record in records:
        found.update(record.data.uncounted or {})
    return found


def requests_table(records: Sequence[End], width: int | None) -> Table:
    """Requests as a table, for a terminal of that width if it goes to one."""
    if width is not None and width < WIDE:
        header = (*HEADER[:-1], "out")
        whole = Table([request_row(record) for record in records], header, RIGHT)
        return drop_columns(whole, LESS_NEEDED, width)
    rows = [(*request_row(record), *_more(record)) for record in records]
    return Table(rows, (*HEADER, *MORE), RIGHT)


def request_row(record: End) -> tuple[Cell, ...]:
    """The cells under `HEADER`."""
    end = record.data
    style = "red" if record.level in ("warn", "error") else "yellow"
    if isinstance(end, RequestComplete):
        style = "green"
    elif end.client_left:
        style = "dim"
    return (
        local_time(record)[1],
        short_id(record),
        Styled(f"{level_sign(record)} {_text(end.status)}", style),
        _text(end.provider),
        format_latency(None if end.latency is None else end.latency / 1000),
        format_latency(None if end.ttft is None else end.ttft / 1000),
        _text(end.attempts),
        "-" if end.output_tokens is None else format_count(end.output_tokens),
    )


def _more(record: End) -> tuple[str, str]:
    end = record.data
    result = STOPPED if end.client_left else getattr(end, "error", None) or "answered"
    return _text(end.model), _text(result)


def _text(value: object) -> str:
    return "-" if value is None else printable(str(value))


def describe_path(it: Explanation, numbers: Mapping[str, str]) -> tuple[str, str]:
    """The provider that answered a request, or is tried now, and how it came to that.

    With `numbers` for providers' names, all of it is short.
    """
    turns = [turn for each in it.candidates if (turn := _describe_turn(each, numbers))]
    after = f"after {join_names(turns)}" if turns else ""
    answered = (Standing.ANSWERED, Standing.FORWARDED, Standing.STOPPED)
    by = next((each for each in it.candidates if each.standing in answered), None)
    if it.complete:
        words = _describe_effort(by)
    elif it.status is None:
        by = by or next(
            (each for each in it.candidates if each.standing is Standing.IN_PROGRESS), None
        )
        words = ["answering now" if by.standing in answered else "tried now"] if by else []
    elif it.stopped:
        words = [STOPPED]
    elif it.provider:
        words = ["forwarded as it came" if by else ""]
    else:
        words = ["no answer" if after else it.client_saw]
    who = it.provider or (by.provider if by and (it.status is None or it.stopped) else "-")
    return who, ", ".join(filter(None, [*words, after]))


def tried_json(it: Explanation) -> list[dict[str, Any]]:
    """The providers that were tried or skipped, for `--json`."""
    return [
        {
            "provider": each.provider,
            "standing": str(each.standing),
            "attempts": len(each.attempts),
            "results": [attempt.result for attempt in each.attempts if attempt.result],
        }
        for each in it.candidates
        if each.attempts or each.standing is Standing.SKIPPED
    ]


def _describe_effort(by: Candidate | None) -> list[str]:
    """What it took for a provider to answer."""
    attempts = [] if by is None else by.attempts
    repairs = [each.repair.rectifier for each in attempts if each.repair is not None]
    more = len(attempts) - len(repairs) - 1
    words = [f"repaired by {join_names(repairs)}"] if repairs else []
    return [*words, f"at attempt {more + 1}"] if more > 0 else words


def _describe_turn(candidate: Candidate, numbers: Mapping[str, str]) -> str:
    """Why a candidate did not answer; empty if it was not its turn."""
    name = numbers.get(candidate.provider, candidate.provider)
    match candidate.standing:
        case Standing.FAILED | Standing.BROKE_OFF:
            last = candidate.attempts[-1] if candidate.attempts else None
            status = last and numbers and candidate.standing is Standing.FAILED and last.status
            why = str(status) if status else (last.result if last else "")
        case Standing.SKIPPED if candidate.held and candidate.held.probe:
            why = "probing" if numbers else "probed by another request"
        case Standing.SKIPPED:
            why = candidate.why or "cooling down"
        case _:
            return ""
    return f"{name} ({why})" if why else name
