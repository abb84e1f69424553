"""The only module that prints: data to stdout, messages to stderr; and the tables that it prints.

Each stream is looked at separately: colours and wrapped tables if it is a terminal, plain aligned
lines, one per record, if it is not.
"""

import codecs
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TextIO

import msgspec
from msgspec.structs import replace

from ccfallback.cli.phrases import PLAIN, wrap_text
from ccfallback.error_codes import ErrorCode
from ccfallback.errors import CcfallbackError
from ccfallback.printable import escape_json, is_printable, printable
from ccfallback.redact import scrub, scrub_misplaced

if TYPE_CHECKING:
    import rich.table
    from _typeshed import ReadableBuffer
    from rich.console import RenderableType

PLAIN_WIDTH: Final = 80
PLAIN_HEIGHT: Final = 24

ANSI: Final[Mapping[str, str]] = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
}

_OUR_COMMAND: Final = re.compile(r"(?:`|\$\()ccfallback(?= )")
"""The start of one of our commands in a message."""

_LIBRARY_WORDS: Final = (
    (re.compile(r"^Value error, "), ""),
    (re.compile(r"^Input should be a valid integer, .*"), "it is not a whole number"),
    (re.compile(r"^Input should be a valid number, .*"), "it is not a number"),
    (re.compile(r"^Input should be greater than or equal to (.*)"), r"it has to be at least \1"),
    (re.compile(r"^Input should be less than or equal to (.*)"), r"it has to be at most \1"),
    (re.compile(r"^Got unexpected extra arguments? \((.*)\)$"), r"Unexpected: \1"),
    (re.compile(r"^Got unexpected extra argument\(s\) \((.*)\)$"), r"Unexpected: \1"),
    (
        re.compile(r"^(No such (?:command 'version'|option: -v$))\.?"),
        r"\1; --version prints the version",
    ),
    (re.compile(r"^(No such option: -\d.*)"), r"\1; write `--` before a value with a minus"),
    (
        re.compile(r"^(No such option: (--config|--state|--log-file))$"),
        r"\1; it stands before the command: `ccfallback \2 PATH COMMAND`",
    ),
)
"""Words of libraries in usage errors, and ours for them."""

Show = Callable[[Callable[[tuple[int, int]], "RenderableType"]], None]
"""Takes a function that draws a frame of a given number of columns and lines."""


_PLAINLY: Final = "ccfallback.plainly"
"""How streams print what their encoding lacks: a character that looks alike, otherwise `?`."""


def _print_plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(each, "?") for each in lacking), error.end


codecs.register_error(_PLAINLY, _print_plainly)


class ExitCode(IntEnum):
    """The exit codes that scripts may rely on."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


EXIT_MEANINGS: Final[Mapping[ExitCode, str]] = {
    ExitCode.DONE: "Success.",
    ExitCode.FAILED: "Failure; one line on stderr says what failed, why, and what to do.",
    ExitCode.USAGE: "Wrong usage.",
    ExitCode.INTERRUPTED: "Interrupted.",
}


class ClosedPipe(Exception):
    """The reader of our output closed the pipe, as `head` does. Not a failure."""


class Styled(NamedTuple):
    """A text and its style, which applies where colour is allowed."""

    text: str
    style: str


Cell = str | Styled


class Table(msgspec.Struct, frozen=True):
    """Rows to print; without a header it is a list of names and values."""

    rows: Sequence[Sequence[Cell]]
    header: Sequence[str] = ()
    right: frozenset[int] = frozenset()
    """Columns that are aligned to the right: numbers."""
    whole: frozenset[int] = frozenset()
    """Columns whose cells never wrap, however long they are."""


Page = Table | str | Sequence[Table | str]
"""What a command prints: a table, a text, or several of them with an empty line between."""


class _ClosedStream(io.RawIOBase):
    """Standard output that was closed: nothing can be written to it."""

    _has_failed = False

    def writable(self) -> bool:
        """Claim so, because only a write may fail."""
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        """Fail as a closed descriptor does, once: Python writes again when it drops the stream."""
        if not self._has_failed:
            self._has_failed = True
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return len(memoryview(data))


class Console(msgspec.Struct):
    """The three standard streams, and how to print on them."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]
    as_json: bool = False
    files: str = ""
    """The options that locate our files, as the user gave them. Commands that a message suggests
    need the same options."""
    program: str = "ccfallback"
    """What the user has to type to run us."""

    @classmethod
    def for_process(cls, *, as_json: bool = False) -> "Console":
        """The console of this process."""
        # A stream that was closed (`>&-`) is missing.
        stdin, stdout = (
            sys.stdin or io.StringIO(),
            sys.stdout or io.TextIOWrapper(io.BufferedWriter(_ClosedStream()), "utf-8"),
        )
        stderr = sys.stderr or io.StringIO()
        for stream in (stdout, stderr):
            if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
                reconfigure(errors=_PLAINLY)
        return cls(stdin, stdout, stderr, os.environ, as_json, program=find_program())

    # -- Data, on stdout

    def emit(self, value: Any, table: Callable[[], Page]) -> None:
        """Print a command's result: as JSON with `--json`, otherwise as `table` lays it out."""
        if self.as_json:
            encoded = msgspec.json.encode(value)
            indent = 2 if _is_terminal(self.stdout) else 0
            self.write_bytes(escape_json(msgspec.json.format(encoded, indent=indent)) + b"\n")
            return
        page = table()
        for number, part in enumerate([page] if isinstance(page, str | Table) else page):
            gap = "\n" if number else ""
            if isinstance(part, str):
                self.write(f"{gap}{part}\n")
            elif _is_terminal(self.stdout):
                self.write(gap)
                self._draw(part)
            else:
                self.write(gap + align_table(part, self.paint if self.colour else None))

    def emit_result(self, value: Any) -> None:
        """Print the result of a change, with `--json` only; `say` tells people about it."""
        if self.as_json:
            self.emit(value, str)

    def write(self, text: str) -> None:
        """Write text to stdout and flush it: a reader may be waiting for it."""
        with self._writing():
            if text:
                self.stdout.write(text)
            self.stdout.flush()

    def write_bytes(self, data: bytes) -> None:
        """Write bytes to stdout and flush them."""
        with self._writing():
            self.stdout.flush()
            self.stdout.buffer.write(data)
            self.stdout.buffer.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Tell a pipe whose reader has left from an error of the disk."""
        try:
            yield
        except BrokenPipeError:
            self.abandon()
            raise ClosedPipe from None
        except OSError as error:
            self.abandon()
            raise CcfallbackError(
                f"can't write the output: {error.strerror}",
                "check the free space and permissions where it goes",
            ) from None

    def flush(self) -> None:
        """Flush stdout."""
        self.write("")

    def abandon(self) -> None:
        """Send the rest of stdout to /dev/null, or the interpreter complains when it exits."""
        try:
            number = self.stdout.fileno()
        except io.UnsupportedOperation:
            self.stdout = io.TextIOWrapper(io.BytesIO())
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)

    def with_own_buffer(self) -> "Console":
        """The same console with a buffer of its own, for a thread that a terminal may block.

        A thread that is blocked in a write holds the lock of its buffer, and the interpreter needs
        the lock of the original buffer to exit.
        """
        try:
            number = self.stdout.fileno()
        except (OSError, ValueError, AttributeError):
            return self
        encoding, errors = self.stdout.encoding, self.stdout.errors
        own = os.fdopen(number, "w", encoding=encoding, errors=errors, closefd=False)
        return replace(self, stdout=own)

    # -- Messages, on stderr

    def say(self, message: str) -> None:
        """Print a message for the user."""
        # An argument that a message quotes may hold a sequence that a terminal would obey.
        message = self.add_file_options("\n".join(map(_clean_line, message.split("\n"))))
        try:
            self.stderr.write(wrap_text(message, _columns(self.stderr)) + "\n")
            self.stderr.flush()
        except BrokenPipeError:
            self.abandon()
            raise ClosedPipe from None

    def progress(self, text: str) -> None:
        """Show what the command is waiting for, in place of the previous text.

        Only on a terminal; an empty text clears the line.
        """
        if not _is_terminal(self.stderr) or self.environ.get("TERM") == "dumb":
            return
        width = _columns(self.stderr) or PLAIN_WIDTH
        shown = text if len(text) < width else text[: width - 2] + "…"
        self.stderr.write(f"\r\x1b[K{shown}")
        self.stderr.flush()

    def add_file_options(self, text: str) -> str:
        """The text with each of our commands that it quotes as the user has to type it."""
        words = " ".join(filter(None, (self.program, self.files)))
        return _OUR_COMMAND.sub(lambda found: found[0].replace("ccfallback", words), text)

    def fail(self, message: str, hint: str = "") -> int:
        """Say why the command failed, in one line; returns the exit code."""
        return self.report(CcfallbackError(message, hint))

    def report(self, error: CcfallbackError) -> int:
        """Say why the command failed: in one line, or with a line for each fault."""
        self._emit_error(error.message, error.hint, error.code)
        first, *others = (" ".join(line.split()) for line in error.lines)
        self.say(f"ccfallback: {first}")
        for line in others:
            self.say(line)
        return ExitCode.FAILED

    def fail_unexpectedly(self, error: Exception) -> int:
        """Report an exception that no code expected; returns the exit code."""
        if isinstance(error, OSError) and error.strerror:
            where = f"{error.filename}: " if error.filename else ""
            return self.fail(f"{where}{error.strerror}", "check the path and its permissions")
        kind = type(error).__name__
        return self.report(
            CcfallbackError(
                f"{kind}: {scrub(str(error))}" if str(error) else kind,
                "this is a bug; CCFALLBACK_DEBUG=1 shows where",
                code=ErrorCode.BUG,
            )
        )

    def fail_usage(self, error: Any) -> int:
        """Say what is wrong with the command line, in typer's words; returns the exit code."""
        if isinstance(getattr(error, "message", None), str):
            for wrong, right in _LIBRARY_WORDS:
                error.message = wrong.sub(right, error.message)
            error.message = scrub_misplaced(error.message)
        example = _example(error)
        self._emit_error(error.format_message(), example or "see `ccfallback --help`")
        error.show(self.stderr)
        if example:
            self.say(example)
        return ExitCode.USAGE

    def _emit_error(self, message: str, hint: str, code: ErrorCode | None = None) -> None:
        if self.as_json:
            error = {"error": {"message": message, "hint": self.add_file_options(hint)}}
            more = {} if code is None else {"code": code}
            self.write_bytes(escape_json(msgspec.json.encode(error | more)) + b"\n")

    # -- The user

    @property
    def interactive(self) -> bool:
        """Whether there is a user who can answer a prompt."""
        return _is_terminal(self.stdin) and _is_terminal(self.stderr)

    def read_secret(self, prompt: str) -> str:
        """Prompt for a secret without showing it; only if `interactive`."""
        from getpass import getpass

        return getpass(prompt, stream=self.stderr).strip()

    def read_input(self) -> str:
        """Everything on standard input."""
        return self.stdin.read()

    # -- The terminal

    @property
    def is_terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return _is_terminal(self.stdout)

    @property
    def has_screen(self) -> bool:
        """Whether stdout is a terminal that can be drawn on."""
        return self.is_terminal and self.environ.get("TERM") != "dumb"

    @property
    def colour(self) -> bool:
        """Whether stdout may be coloured."""
        forced = self.environ.get("FORCE_COLOR") or self.environ.get("CLICOLOR_FORCE")
        wanted = forced not in ("0", "", None) or self.has_screen
        return wanted and not self.environ.get("NO_COLOR")

    @property
    def width(self) -> int | None:
        """Columns of the terminal; `None` if stdout is not a terminal."""
        return _columns(self.stdout)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal."""
        return _size(self.stdout)

    def paint(self, text: str, style: str) -> str:
        """The text in a style of `ANSI`, if colour is allowed."""
        if not style or not self.colour:
            return text
        codes = ";".join(ANSI[word] for word in style.split())
        return f"\x1b[{codes}m{text}\x1b[0m"

    @contextmanager
    def screen(self) -> Iterator[Show]:
        """Take over the whole terminal, and restore it at the end; `Show` draws a frame."""
        from rich.console import Console as Screen
        from rich.console import ConsoleDimensions
        from rich.live import Live

        screen = Screen(
            file=self.stdout, force_terminal=True, no_color=not self.colour, highlight=False
        )
        # Without a refresh thread: the caller decides when to draw.
        live = Live(
            console=screen,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

        def show(frame: Callable[[tuple[int, int]], "RenderableType"]) -> None:
            size = self.size
            screen.size = ConsoleDimensions(*size)
            live.update(frame(size), refresh=True)

        with live:
            yield show

    def _draw(self, table: Table) -> None:
        """Print a table on the terminal; long cells wrap, none is cut."""
        from rich.console import Console as Screen

        colour = self.colour
        screen = Screen(file=self.stdout, width=self.width, no_color=not colour, highlight=False)
        with screen.capture() as drawn:
            screen.print(draw_table(table, colour=colour, columns=self.width))
        self.write("".join(line.rstrip() + "\n" for line in drawn.get().splitlines()))


def find_program() -> str:
    """The name of this program, or its path if the name alone does not find it."""
    started = Path(sys.argv[0])
    if started.stem != "ccfallback":
        return "ccfallback"
    # Imported here, because `shutil` takes longer to load than most of what a command needs.
    from shlex import quote
    from shutil import which

    return "ccfallback" if which("ccfallback") else quote(str(started.absolute()))


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (ValueError, AttributeError):  # The stream is closed or missing (pythonw, a daemon).
        return False


def _columns(stream: TextIO) -> int | None:
    return _size(stream)[0] if _is_terminal(stream) else None


def _size(stream: TextIO) -> tuple[int, int]:
    try:
        found = os.get_terminal_size(stream.fileno())
    except OSError:
        return PLAIN_WIDTH, PLAIN_HEIGHT
    return found.columns or PLAIN_WIDTH, found.lines or PLAIN_HEIGHT


# -- Tables

LONGEST_CELL: Final = 400
WIDE: Final = 110
"""Columns from which on a terminal has room for everything about a provider on one line."""

UNWRAPPED: Final = 20
"""Columns with no longer cells than this never wrap; columns with longer cells make room."""

NARROWEST: Final = 14
"""Columns that a column of sentences needs at least."""


def draw_table(
    table: Table,
    *,
    colour: bool,
    cut: bool = False,
    columns: int | None = None,
    selected: int | None = None,
) -> "rich.table.Table":
    """The table for rich to draw; cells that don't fit wrap, or with `cut` end in an ellipsis.

    The row `selected` is drawn in reverse.

    In a table without a header, `columns` is the width of the screen; commands are not split then.
    """
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
        show_header=bool(table.header),
        header_style="bold" if colour else "",
    )
    rows = _clean_rows(table)
    widths = _widths(rows)
    if columns is not None and not table.header and not cut:
        rows = _wrap_rows(rows, widths, columns)
    limit = UNWRAPPED if columns is None else _longest_unwrapped(table, widths, columns)
    for number, width in enumerate(widths):
        short = width <= limit or number in table.whole
        title = Text(table.header[number] if table.header else "", no_wrap=cut)
        side: Literal["left", "right"] = "right" if number in table.right else "left"
        drawn.add_column(title, justify=side, overflow="fold", no_wrap=short)
    # The settings of a cell override those of its column.
    own: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis"} if cut else {}
    for number, row in enumerate(rows):
        cells = (Text(text, style if colour else "", **own) for text, style in row)
        drawn.add_row(*cells, style="reverse" if number == selected else None)
    return drawn


def _longest_unwrapped(table: Table, widths: Sequence[int], columns: int) -> int:
    """The width up to which columns need not wrap; where too few wrap, rich would crop cells."""
    titles = table.header or [""] * len(widths)
    room = columns - 2 * (len(widths) - 1)
    free = [width for number, width in enumerate(widths) if number not in table.whole]
    for limit in (UNWRAPPED, *(width - 1 for width in sorted(free, reverse=True))):
        least = (
            min(width, NARROWEST) if width > limit and number not in table.whole else width
            for number, width in enumerate(widths)
        )
        if sum(map(max, least, map(len, titles))) <= room:
            return limit
    return 0


def drop_columns(
    table: Table, less_needed: Sequence[str], width: int | None, wrapping: Sequence[str] = ()
) -> Table:
    """The table with as many columns as fit a terminal of that width; `less_needed` go first.

    Columns named in `wrapping` may become as narrow as `NARROWEST`.
    """
    header, kept = table.header, list(range(len(table.header)))
    columns = zip(header, *table.rows, strict=True)
    sizes = [max(len(cell_text(cell)) for cell in column) for column in columns]
    sizes = [
        min(size, NARROWEST) if name in wrapping else size
        for name, size in zip(header, sizes, strict=True)
    ]
    for name in less_needed:
        if width is None or sum(sizes[at] + 2 for at in kept) - 2 <= width:
            break
        kept = [at for at in kept if header[at] != name]
    return Table(
        [[row[at] for at in kept] for row in table.rows],
        [header[at] for at in kept],
        frozenset(place for place, at in enumerate(kept) if at in table.right),
        frozenset(place for place, at in enumerate(kept) if at in table.whole),
    )


def cell_text(cell: Cell) -> str:
    """The text of a cell, without its style."""
    return cell.text if isinstance(cell, Styled) else cell


def align_table(table: Table, paint: Callable[[str, str], str] | None = None) -> str:
    """The table as text in aligned columns; with `paint`, its styles are applied."""
    rows = _clean_rows(table)
    if table.header:
        rows.insert(0, [Styled(title, "bold") for title in table.header])
    widths = _widths(rows)

    def draw(number: int, cell: Styled) -> str:
        gap = " " * (widths[number] - len(cell.text))
        text = paint(*cell) if paint is not None else cell.text
        return gap + text if number in table.right else text + gap

    lines = ("  ".join(draw(*each) for each in enumerate(row)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def _wrap_rows(rows: list[list[Styled]], widths: list[int], columns: int) -> list[list[Styled]]:
    """The rows with their one long column wrapped; rich would wrap inside commands as well."""
    long = [number for number, width in enumerate(widths) if width > UNWRAPPED]
    if len(long) != 1:
        return rows
    number = long[0]
    room = columns - 2 * (len(widths) - 1) - sum(widths) + widths[number]

    def wrap(cell: Styled) -> Styled:
        return cell._replace(text=wrap_text(cell.text, room))

    return [[wrap(cell) if at == number else cell for at, cell in enumerate(row)] for row in rows]


def _example(error: Any) -> str:
    """The first example of the command that a usage error is about; empty for the program's."""
    context = getattr(error, "ctx", None)
    if context is None or context.parent is None:
        return ""
    line: str = (context.command.epilog or "").removeprefix("\b\n").partition("\n")[0]
    return line


def _clean_line(line: str) -> str:
    """The line without control characters; its indentation stays."""
    return " " * (len(line) - len(line.lstrip(" "))) + printable(line)


def _clean_rows(table: Table) -> list[list[Styled]]:
    """The cells without control characters, which a terminal would obey; long ones are cut."""

    def clean(cell: Cell) -> Styled:
        text, style = cell if isinstance(cell, Styled) else (cell, "")
        text = text if is_printable(text) else printable(text, "\ufffd")
        return Styled(text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…", style)

    return [[clean(cell) for cell in row] for row in table.rows]


def _widths(rows: Sequence[Sequence[Styled]]) -> list[int]:
    """The width of each column."""
    return [max(len(cell.text) for cell in column) for column in zip(*rows, strict=True)]
