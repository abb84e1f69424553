"""Tables: what a command shows, and the two ways to show it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ccfallback.cli.phrases import wrapped

if TYPE_CHECKING:
    from rich.table import Table

LONGEST_CELL = 400
UNWRAPPED = 20
"""Columns of cells up to this long stay whole; longer ones make room for them."""


class Styled(NamedTuple):
    """A text with a colour, where there is colour."""

    text: str
    style: str


Cell = str | Styled


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows for a person; without a header it is a list of names and values."""

    rows: Sequence[Sequence[Cell]]
    header: Sequence[str] = ()
    right: frozenset[int] = frozenset()
    """Columns of numbers, which end below each other."""
    whole: frozenset[int] = frozenset()
    """Columns whose cells never wrap, however long they are."""


Page = Grid | str | Sequence[Grid | str]
"""What a command shows: a table, a text, or several of them with a line between."""


def drawing(grid: Grid, *, colour: bool, cut: bool = False, columns: int | None = None) -> "Table":
    """A table as rich draws it; what does not fit wraps, or is `cut` to a line each.

    In a list for a screen of so many `columns` commands are not torn.
    """
    from rich.table import Table
    from rich.text import Text

    grid = _clean(grid)
    table = Table(
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
        show_header=bool(grid.header),
        header_style="bold" if colour else "",
    )
    rows = [
        [cell if isinstance(cell, Styled) else Styled(cell, "") for cell in row]
        for row in grid.rows
    ]
    widths = [max(len(cell.text) for cell in cells) for cells in zip(*rows, strict=True)]
    if columns is not None and not grid.header and not cut:
        rows = _wrapped(rows, widths, columns)
    for number, width in enumerate(widths):
        short = width <= UNWRAPPED or number in grid.whole
        title = grid.header[number] if grid.header else ""
        side: Literal["left", "right"] = "right" if number in grid.right else "left"
        table.add_column(title, justify=side, overflow="fold", no_wrap=short)
    # A cell's own word goes before its column's.
    own: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis"} if cut else {}
    for row in rows:
        table.add_row(*(Text(text, style if colour else "", **own) for text, style in row))
    return table


def _wrapped(rows: list[list[Styled]], widths: list[int], columns: int) -> list[list[Styled]]:
    """The rows of a list with its one long column wrapped; rich would wrap within commands too."""
    long = [number for number, width in enumerate(widths) if width > UNWRAPPED]
    if len(long) != 1:
        return rows
    number = long[0]
    room = columns - 2 * (len(widths) - 1) - sum(widths) + widths[number]
    return [
        [
            *row[:number],
            row[number]._replace(text=wrapped(row[number].text, room)),
            *row[number + 1 :],
        ]
        for row in rows
    ]


def _clean(grid: Grid) -> Grid:
    """The rows without anything that a terminal would obey, and without endless cells."""

    def clean(cell: Cell) -> Cell:
        if isinstance(cell, Styled):
            return Styled(_shown(cell.text), cell.style)
        return _shown(cell)

    rows = [[clean(cell) for cell in row] for row in grid.rows]
    return replace(grid, rows=rows)


def _shown(text: str) -> str:
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def aligned(grid: Grid) -> str:
    """Rows as plain lines in columns."""
    grid = _clean(grid)
    rows = [[cell.text if isinstance(cell, Styled) else cell for cell in row] for row in grid.rows]
    if grid.header:
        rows.insert(0, list(grid.header))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if number in grid.right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines)
