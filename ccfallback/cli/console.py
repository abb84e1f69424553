"""The only place that prints: data to stdout, talk to stderr.

Each stream is judged on its own: colour and tables only where it is a terminal, and plain
aligned lines, one a record, where it is not.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgspec

from ccfallback.cli.exit import ExitCode
from ccfallback.cli.phrases import BARS, PLAIN_BARS, sparkline, wrapped
from ccfallback.cli.table import UNWRAPPED as UNWRAPPED
from ccfallback.cli.table import Cell as Cell
from ccfallback.cli.table import Grid as Grid
from ccfallback.cli.table import Page as Page
from ccfallback.cli.table import Styled as Styled
from ccfallback.cli.table import aligned, drawing
from ccfallback.errors import CcfallbackError
from ccfallback.redact import scrub

if TYPE_CHECKING:
    from rich.console import RenderableType

PLAIN_WIDTH = 80
PLAIN_HEIGHT = 24

_OURS: Final = re.compile(r"(?:`|\$\()ccfallback(?= )")
"""How a command of ours begins in a text."""

Show = Callable[[Callable[[tuple[int, int]], "RenderableType"]], None]
"""Takes what makes a frame for so many columns and lines."""


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
    files: str = ""
    """The options that say where the files are, as they were given: a command that we advise needs
    them as well."""

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
            self._draw(part)
        else:
            self.write(above + aligned(part))

    def answer(self, value: Any) -> None:
        """Give a script the result of a change; a person is told by `say`."""
        if self.as_json:
            self.emit(value, str)

    def advised(self, text: str) -> str:
        """A text whose commands of ours, between backticks, are about the files of this one."""
        if not self.files:
            return text
        return _OURS.sub(lambda found: f"{found[0]} {self.files}", text)

    def say(self, message: str) -> None:
        """Tell the person something."""
        message = self.advised(message)
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

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal."""
        return _size(self.stdout)

    @property
    def has_screen(self) -> bool:
        """Whether data goes to a terminal that can be drawn on."""
        return _is_terminal(self.stdout) and self.environ.get("TERM") != "dumb"

    @contextmanager
    def screen(self) -> Iterator[Show]:
        """The whole terminal, which is given back as it was; `Show` fills it anew."""
        from rich.console import Console as Screen
        from rich.console import ConsoleDimensions
        from rich.live import Live

        screen = Screen(
            file=self.stdout, force_terminal=True, no_color=not self.colour, highlight=False
        )
        # No thread of its own: who shows something says when.
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
            error = {"error": {"message": message, "hint": self.advised(hint)}}
            self.write_bytes(msgspec.json.encode(error) + b"\n")

    def _draw(self, grid: Grid) -> None:
        """Draw a table for the terminal; long cells wrap, none is cut."""
        from rich.console import Console as Screen

        colour = self.colour
        screen = Screen(file=self.stdout, width=self.width, no_color=not colour, highlight=False)
        with screen.capture() as drawn:
            screen.print(drawing(grid, colour=colour, columns=self.width))
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
    return _size(stream)[0] if _is_terminal(stream) else None


def _size(stream: TextIO) -> tuple[int, int]:
    try:
        found = os.get_terminal_size(stream.fileno())
    except OSError:
        return PLAIN_WIDTH, PLAIN_HEIGHT
    return found.columns or PLAIN_WIDTH, found.lines or PLAIN_HEIGHT
