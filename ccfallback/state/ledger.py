"""The ledger: what each answer has cost, one JSON line each, in a file for each month.

The files lie next to the state file. Servers only append, so two servers on one state neither lose
nor double a line. What a crash has left of a line is skipped, and never the line after it. Days and
months are those of this machine's calendar.
"""

import fnmatch
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec

from ccfallback import files
from ccfallback.policy.spend import NANO, Spent, token_account

_DIGITS: Final = 9
"""Decimal digits of a dollar: nano-dollars."""

_BEGIN: Final = re.compile(rb'(?=\{"at":)')
"""Where a row begins, and nothing else: within a string its quotes would have backslashes."""

Moment = Annotated[float, msgspec.Meta(ge=86_400, lt=253_370_764_800)]
"""Unix seconds that every calendar has: from 1970-01-02 to the year 9999."""

Dollars = Annotated[float, msgspec.Meta(gt=-1e9, lt=1e9)]


class Row(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """What one answer was, and has cost. No content and no secret."""

    at: Moment
    provider: str
    model: str = ""
    """The model that the client asked for."""
    mapped: str = ""
    """The provider's own name of it, if that is another."""
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    """Tokens that entered a cache for 5 minutes."""
    cache_write_1h: int = msgspec.field(default=0, name="cacheWrite1h")
    """Tokens that entered a cache for an hour."""
    cost: Dollars | None
    """US dollars; `None` if the price is unknown."""
    listed: Dollars | None = None
    """The list price of an answer that a plan has paid for."""
    plan: bool = False
    estimated: bool = False
    """Whether the answer was torn or abandoned, so that its tokens are estimated."""
    session: str = ""
    """A hash."""
    request_class: str = msgspec.field(default="", name="class")
    token: str = ""
    """The label of the client's access token."""

    @property
    def accounts(self) -> tuple[str, ...]:
        """What its cost counts for: the provider, and the token if there is one."""
        return (self.provider, token_account(self.token)) if self.token else (self.provider,)

    @property
    def nano(self) -> int:
        """The cost in nano-dollars; 0 if it is unknown."""
        return round(self.cost * NANO) if self.cost else 0

    @property
    def is_unknown(self) -> bool:
        """Whether its cost is unknown; an answer that a plan pays for costs nothing."""
        return self.cost is None


def to_dollars(nano: int | None) -> float | None:
    """Nano-dollars as the ledger writes them."""
    return None if nano is None else round(nano / NANO, _DIGITS)


def month_of(at: float) -> str:
    """The month that a moment lies in, as the names of files have it: `2026-11`."""
    return datetime.fromtimestamp(at).strftime("%Y-%m")


def day_of(at: float) -> str:
    """The day that a moment lies in: `2026-11-28`."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d")


def period_ends(at: float) -> tuple[float, float]:
    """When the day and the month of a moment end, in Unix seconds.

    By the calendar, because a day on which the clock changes is not 24 hours long.
    """
    now = datetime.fromtimestamp(at)
    midnight = datetime.fromordinal(now.toordinal() + 1)
    first = datetime(now.year + now.month // 12, now.month % 12 + 1, 1)
    return midnight.timestamp(), first.timestamp()


def ledger_path(state: Path, month: str) -> Path:
    """The file of a month, next to the state file."""
    return state.with_name(f"spend-{month}.jsonl")


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Row)


def encode_row(row: Row) -> bytes:
    """A row as a line of a file."""
    return _ENCODER.encode(row) + b"\n"


def encode(rows: list[Row]) -> bytes:
    """Rows as lines of a file."""
    return b"".join(map(encode_row, rows))


def read(path: Path, offset: int = 0) -> tuple[list[Row], int, int]:
    """The whole lines of a file from an offset on, where the next line begins, and what was read.

    A missing file has no lines. Raises `OSError`.
    """
    try:
        files.require_regular(path)
        with path.open("rb") as file:
            if offset > file.seek(0, os.SEEK_END):
                # A person has replaced the file.
                offset = 0
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], 0, 0
    whole = data[: data.rfind(b"\n") + 1]
    return list(_decode(whole)), offset + len(whole), offset + len(data)


def _decode(lines: bytes) -> Iterator[Row]:
    for line in lines.splitlines():
        row = _decode_row(line)
        if row is not None:
            yield row
        else:
            # Torn, or a person has edited it. The row of another server may follow half of one.
            yield from filter(None, map(_decode_row, _BEGIN.split(line)))


def _decode_row(line: bytes) -> Row | None:
    try:
        return _DECODER.decode(line)
    except (ValueError, RecursionError):
        return None


def rows_since(state: Path, start: float) -> Iterator[Row]:
    """All rows from a moment on, the oldest month first. Raises `OSError`."""
    pattern = ledger_path(state, "[0-9][0-9][0-9][0-9]-[0-9][0-9]").name
    first = ledger_path(state, month_of(start)).name
    try:
        # `Path.glob` finds nothing in a folder that this user may not read.
        names = os.listdir(state.parent)  # noqa: PTH208  (names are all we need)
    except FileNotFoundError:
        names = []
    for name in sorted(fnmatch.filter(names, pattern)):
        if name >= first:
            yield from (row for row in read(state.with_name(name))[0] if row.at >= start)


class Sums:
    """Nano-dollars by provider or `token_account`, and by day or month."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], int] = {}

    def add(self, rows: list[Row], sign: int = 1) -> None:
        """Add the cost of rows; with the sign -1, subtract it."""
        for row in rows:
            if nano := row.nano:
                for period in (day_of(row.at), month_of(row.at)):
                    for account in row.accounts:
                        key = (period, account)
                        self._sums[key] = self._sums.get(key, 0) + sign * nano

    def spent(self, account: str, at: float) -> Spent:
        """What an account has cost in the day and month of a moment."""
        found = (self._sums.get((period, account), 0) for period in (day_of(at), month_of(at)))
        return Spent(*found)

    def clear(self) -> None:
        """Forget everything."""
        self._sums.clear()
