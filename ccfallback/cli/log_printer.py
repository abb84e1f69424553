"""The story of what happens, line by line: from the log, or live."""

from collections.abc import Iterable, Mapping
from textwrap import wrap
from typing import Final

from ccfallback.cli.console import Console
from ccfallback.events import story
from ccfallback.events.records import Event
from ccfallback.events.records import Record as LogRecord

Record = LogRecord[Event]

STYLES: Final[Mapping[str, str]] = {
    "·": "cyan",
    "!": "yellow",
    "✗": "red",
    story.ANSWERED: "green",
}


class Teller:
    """Prints records as a story; a new day gets a line of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = console.width
        # Asked once: to ask the system at every word is what a line would cost most.
        self._colour = console.colour
        self._day = ""

    def __call__(self, record: Record, _raw: bytes = b"") -> None:
        """Print one record."""
        self._console.write(self.lines(record))

    def all(self, records: Iterable[Record]) -> None:
        """Print several at once, for one call of the system."""
        self._console.write("".join(map(self.lines, records)))

    def lines(self, record: Record) -> str:
        """What there is to print of the next record."""
        line = story.line(record)
        paint = self._console.paint if self._colour else _plain
        new_day = ""
        if line.day and line.day != self._day:
            new_day = paint(line.day, "dim") + "\n"
            self._day = line.day
        margin = f"{line.time} {line.sign} {line.request:<{story.REQUEST_LETTERS}}  "
        texts = [line.text]
        if self._width is not None and self._width > 2 * len(margin):
            texts = wrap(line.text, self._width - len(margin), break_on_hyphens=False) or [""]
        style = STYLES.get(line.sign, "dim")
        head = (
            f"{paint(line.time, 'dim')} {paint(line.sign, style)} "
            f"{paint(f'{line.request:<{story.REQUEST_LETTERS}}', 'dim')}  "
        )
        grave = style if line.level in ("warn", "error", "debug") else ""
        body = ("\n" + " " * len(margin)).join(paint(text, grave) for text in texts)
        return new_day + f"{head}{body}".rstrip() + "\n"


def _plain(text: str, _style: str) -> str:
    return text
