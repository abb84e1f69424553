"""Find one request in the log, from its end: lines that can't be its are not even read."""

import re
from pathlib import Path
from typing import Any, Final, NamedTuple

from ccfallback.events import journal_reader as journal_reading
from ccfallback.events import story
from ccfallback.events.explain import END_EVENTS

SEVERAL_ATTEMPTS: Final = re.compile(rb'"attempts?":(?!0|1[,}])\d')
TROUBLE: Final = re.compile(rb'"event":"provider\.(?:failure|timeout)"')
ANY_REQUEST: Final = re.compile(rb'"event":"(?:request|provider|auth)\.')


class Found(NamedTuple):
    """A request that is meant."""

    id: str
    others: int = 0
    """How many more the same words may mean."""


def named(path: Path, part: str) -> Found | None:
    """The request with that id; else the latest of those whose id begins or ends like that."""
    ids: dict[str, None] = {}
    for record, _ in journal_reading.backwards(path, matching=_holding(part)):
        if part and story.is_of(record, part):
            ids[record["requestId"]] = None
            if part in ids:
                return Found(part)
    return Found(next(iter(ids)), len(ids) - 1) if ids else None


def last(path: Path) -> str | None:
    """The latest request."""
    return _latest(path, ANY_REQUEST)


def last_with_trouble(path: Path) -> str | None:
    """The latest request that needed more than one attempt, else the latest that had a failure."""
    return _latest(path, SEVERAL_ATTEMPTS) or _latest(path, TROUBLE)


def records_of(path: Path, request: str) -> list[dict[str, Any]]:
    """All that the log says of the latest request with that id, oldest first."""
    found: list[dict[str, Any]] = []
    ended = False
    for record, _ in journal_reading.backwards(path, matching=_holding(request)):
        if record.get("requestId") != request:
            continue
        event = record.get("event")
        if ended and event in END_EVENTS:
            break  # A client may give the same id to several requests.
        ended = ended or event in END_EVENTS
        found.append(record)
        if event == "request.start":
            break
    return found[::-1]


def _latest(path: Path, matching: re.Pattern[bytes]) -> str | None:
    for record, _ in journal_reading.backwards(path, matching=matching):
        request = record.get("requestId")
        # Side requests, of which only the level debug tells, are not what one asks about.
        if isinstance(request, str) and record.get("level") != "debug":
            return request
    return None


def _holding(text: str) -> re.Pattern[bytes]:
    return re.compile(re.escape(text.encode()))
