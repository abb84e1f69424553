"""The only place that prints: data to stdout, talk to stderr.

Each stream is judged on its own: colour and tables only where it is a terminal, and plain
aligned lines, one a record, where it is not.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TextIO

import msgspec

from ccfallback.cli.exit import ExitCode
from ccfallback.cli.phrases import BARS, PLAIN_BARS, sparkline, wrapped
from ccfallback.core.redact import scrub
from ccfallback.errors import CcfallbackError

PLAIN_WIDTH = 80

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


class ClosedPipe(Exception):
    """Whoever read our output has enough of it, which is no failure."""


@dataclass(slots=True)
class Console:
    """The three standard streams, and what the person wants on them."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]
    as_json: bool = False

    @classmethod
    def of_process(cls, *, as_json: bool = False) -> "Console":
        """The console of this process."""
        for stream in (sys.stdout, sys.stderr):
            # A terminal that can't show a letter gets a question mark instead of a traceback.
            if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
                reconfigure(errors="replace")
        return cls(sys.stdin, sys.stdout, sys.stderr, os.environ, as_json)

    def emit(self, value: Any, table: Callable[[], Page]) -> None:
        """Print a command's result: as JSON if that was asked for, else as `table` lays it out."""
        if self.as_json:
            encoded = msgspec.json.encode(value)
            indent = 2 if _is_terminal(self.stdout) else 0
            self.write_bytes(msgspec.json.format(encoded, indent=indent) + b"\n")
            return
        shown = table()
        for number, part in enumerate([shown] if isinstance(shown, str | Grid) else shown):
            self._show(part, "\n" if number else "")

    def apart(self) -> "Console":
        """The same console behind a buffer of its own, for a thread that a terminal may hold up.

        Who waits in a write has the buffer's lock, and the interpreter wants that of the first one
        before it ends.
        """
        try:
            number = self.stdout.fileno()
        except (OSError, ValueError, AttributeError):
            return self
        encoding, errors = self.stdout.encoding, self.stdout.errors
        own = os.fdopen(number, "w", encoding=encoding, errors=errors, closefd=False)
        return replace(self, stdout=own)

    def _show(self, part: Grid | str, above: str) -> None:
        if isinstance(part, str):
            self.write(f"{above}{part}\n")
        elif _is_terminal(self.stdout):
            self.write(above)
            self._draw(_clean(part))
        else:
            self.write(above + _aligned(_clean(part)))

    def answer(self, value: Any) -> None:
        """Give a script the result of a change; a person is told by `say`."""
        if self.as_json:
            self.emit(value, str)

    def say(self, message: str) -> None:
        """Tell the person something."""
        try:
            self.stderr.write(wrapped(message, _columns(self.stderr)) + "\n")
            self.stderr.flush()
        except BrokenPipeError:
            self.abandon()
            raise ClosedPipe from None

    def progress(self, text: str) -> None:
        """Show a person what is being waited for, in place of what was shown before.

        Only on a terminal; an empty text clears the line.
        """
        if not _is_terminal(self.stderr) or self.environ.get("TERM") == "dumb":
            return
        width = _columns(self.stderr) or PLAIN_WIDTH
        shown = text if len(text) < width else text[: width - 2] + "…"
        self.stderr.write(f"\r\x1b[K{shown}")
        self.stderr.flush()

    def write(self, text: str) -> None:
        """Print data, at once: a reader may be waiting for it."""
        try:
            if text:
                self.stdout.write(text)
            self.stdout.flush()
        except BrokenPipeError:
            self.abandon()
            raise ClosedPipe from None
        except OSError as error:
            raise self._unwritable(error) from None

    def write_bytes(self, data: bytes) -> None:
        """Print bytes as they are."""
        try:
            self.stdout.flush()
            self.stdout.buffer.write(data)
            self.stdout.buffer.flush()
        except BrokenPipeError:
            self.abandon()
            raise ClosedPipe from None
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> CcfallbackError:
        self.abandon()
        message = f"the output can't be written: {error.strerror}"
        return CcfallbackError(message, "make room where it goes")

    def flush(self) -> None:
        """See that everything has left."""
        self.write("")

    def abandon(self) -> None:
        """Send the rest nowhere, or the interpreter complains about it on its way out."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stdout.fileno())
        os.close(nowhere)

    def fail(self, message: str, hint: str = "") -> int:
        """Say why a command failed; gives its exit code."""
        self._report(message, hint)
        line = " ".join(f"{message}; {hint}".split() if hint else message.split())
        self.say(f"ccfallback: {line}")
        return ExitCode.FAILED

    def fail_unexpectedly(self, error: Exception) -> int:
        """Say that something broke that nobody thought of; gives the exit code."""
        if isinstance(error, OSError) and error.strerror:
            where = f"{error.filename}: " if error.filename else ""
            return self.fail(f"{where}{error.strerror}", "check that the path may be used")
        kind = type(error).__name__
        return self.fail(
            f"{kind}: {scrub(str(error))}" if str(error) else kind,
            "this is a bug; CCFALLBACK_DEBUG=1 shows where",
        )

    def misused(self, error: Any) -> int:
        """Say what is wrong with the command line, in typer's words; gives the exit code."""
        self._report(error.format_message(), "see `ccfallback --help`")
        error.show(self.stderr)
        return ExitCode.USAGE

    @property
    def colour(self) -> bool:
        """Whether data may be coloured."""
        return (
            _is_terminal(self.stdout)
            and not self.environ.get("NO_COLOR")
            and self.environ.get("TERM") != "dumb"
        )

    def bars(self, values: Sequence[float | None], width: int | None = None) -> str:
        """Values over time as a sparkline, in letters that the stream has."""
        try:
            BARS.encode(self.stdout.encoding or "utf-8")
        except (UnicodeEncodeError, LookupError):
            return sparkline(values, width, PLAIN_BARS)
        return sparkline(values, width)

    @property
    def interactive(self) -> bool:
        """Whether there is a person to ask."""
        return _is_terminal(self.stdin) and _is_terminal(self.stderr)

    @property
    def has_reader(self) -> bool:
        """Whether a person sees the data, not a program."""
        return _is_terminal(self.stdout)

    @property
    def width(self) -> int | None:
        """Columns of the terminal; `None` where data does not go to one."""
        return _columns(self.stdout)

    def read_secret(self, prompt: str) -> str:
        """Ask for a secret without showing it; only where `interactive`."""
        from getpass import getpass

        return getpass(prompt, stream=self.stderr).strip()

    def read_input(self) -> str:
        """Everything on standard input."""
        return self.stdin.read()

    def paint(self, text: str, style: str) -> str:
        """A text in one of the few colours that every terminal has."""
        if not style or not self.colour:
            return text
        codes = ";".join(ANSI[word] for word in style.split())
        return f"\x1b[{codes}m{text}\x1b[0m"

    def _report(self, message: str, hint: str) -> None:
        if self.as_json:
            error = {"error": {"message": message, "hint": hint}}
            self.write_bytes(msgspec.json.encode(error) + b"\n")

    def _draw(self, grid: Grid) -> None:
        """Draw a table for the terminal; long cells wrap, none is cut."""
        from rich.console import Console as Screen
        from rich.table import Table
        from rich.text import Text

        colour = self.colour
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
        for number, cells in enumerate(zip(*rows, strict=True)):
            short = max(len(cell.text) for cell in cells) <= UNWRAPPED or number in grid.whole
            title = grid.header[number] if grid.header else ""
            side: Literal["left", "right"] = "right" if number in grid.right else "left"
            table.add_column(title, justify=side, overflow="fold", no_wrap=short)
        for row in rows:
            table.add_row(*(Text(text, style if colour else "") for text, style in row))
        screen = Screen(file=self.stdout, width=self.width, no_color=not colour, highlight=False)
        with screen.capture() as drawn:
            screen.print(table)
        self.write("".join(line.rstrip() + "\n" for line in drawn.get().splitlines()))


ANSI: Mapping[str, str] = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
}


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (ValueError, AttributeError):  # A closed stream, or none at all (pythonw, a daemon).
        return False


def _columns(stream: TextIO) -> int | None:
    """The width of a terminal; `None` where the stream goes to none."""
    if not _is_terminal(stream):
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or PLAIN_WIDTH
    except OSError:
        return PLAIN_WIDTH


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


def _aligned(grid: Grid) -> str:
    """Rows as plain lines in columns."""
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
