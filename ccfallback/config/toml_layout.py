"""Where comments and blank lines belong in a TOML document, so that tables can move.

tomlkit keeps the comment above a header at the end of the table before it. One rule: inside
`arranged`, the text above a header is that header's own, so that a table that is taken away or
put elsewhere takes its comment along, and a new key never lands below the next table's.
"""

import re
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.items import AoT, Array, Item, Key, Null, Table, Whitespace

_Body = list[tuple[Key | None, Item]]
_Slot = tuple[_Body, int]

_KEY_OUT_OF_USE: Final = re.compile(r"\s*#\s*[\w.\"-]+\s*=")

PROVIDERS: Final = "providers"


class Layout:
    """A document whose comments have been taken out of the way, each to its header."""

    def __init__(self, document: TOMLDocument) -> None:
        self.document = document
        self._above: dict[int, tuple[Table, str]] = {}
        self._ending = self._gather()

    def above(self, table: Table) -> str:
        """The text above a header."""
        return self._above[id(table)][1] if id(table) in self._above else ""

    def set_above(self, table: Table, text: str) -> None:
        """Have another text above a header."""
        self._above[id(table)] = (table, text)

    def put_below(self, name: str, text: str) -> None:
        """Keep a text whose table is gone above whatever comes after the tables of that name."""
        later = iter(self.document.body)
        for _, item in later:
            if isinstance(item, AoT) and item.name == name:
                break
        following = next((found for found in _walk(list(later)) if isinstance(found, Table)), None)
        if following is None:
            self._ending = text + self._ending
        else:
            self.set_above(following, text + self.above(following))

    def restore(self) -> None:
        """Put all the text back into the document."""
        for table, text in self._above.values():
            table.trivia.indent = text + table.trivia.indent
        if self._ending:
            _end_of(self.document.body).append((None, Whitespace(self._ending, True)))

    def _gather(self) -> str:
        """Take out the text above each header; returns the text at the very end."""
        slots: list[_Slot] = []
        after_key = False
        for found in list(_walk(self.document.body)):
            if isinstance(found, tuple):
                slots.append(found)
                continue
            if isinstance(found, Table):
                text = _take(slots, after_key) + found.trivia.indent
                # tomlkit indents new keys by any space it finds here, a comment's too.
                end = text.rfind("\n") + 1
                found.trivia.indent = text[end:]
                self.set_above(found, text[:end])
            after_key = True
            slots = []
        return _take(slots, after_key)


@contextmanager
def arranged(document: TOMLDocument) -> Iterator[Layout]:
    """Give each header the text above it for as long as tables are moved and changed."""
    layout = Layout(document)
    try:
        yield layout
    finally:
        layout.restore()


class Tables:
    """The tables of one name in a document, whether `[[providers]]` or an inline array."""

    def __init__(self, layout: Layout, name: str) -> None:
        self._layout = layout
        self._name = name
        self._document = layout.document
        found = self._document.get(name)
        if isinstance(found, Array) and not found:
            # `providers = []` says the same as no word about them.
            del self._document[name]
            found = None
        self._array = found if isinstance(found, Array) else None
        self._tables: list[Table] = list(found.body) if isinstance(found, AoT) else []

    def __len__(self) -> int:
        return len(self._tables if self._array is None else self._array)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._tables if self._array is None else self._array)

    def __getitem__(self, index: int) -> MutableMapping[str, Any]:
        found: MutableMapping[str, Any]
        found = self._tables[index] if self._array is None else self._array[index]
        return found

    def new(self) -> MutableMapping[str, Any]:
        """An empty table of the kind that is in use here."""
        return tomlkit.table() if self._array is None else tomlkit.inline_table()

    def insert(self, index: int, table: MutableMapping[str, Any]) -> None:
        """Put a new table in place."""
        if self._array is not None:
            self._array.insert(index, table)
            return
        assert isinstance(table, Table)
        gaps, leads = self._texts()
        # What stands above a place, and belongs to nobody, stays above that place.
        gaps.insert(index + 1, "")
        leads.insert(index, "\n")
        self._tables.insert(index, table)
        self._put(gaps, leads)

    def move(self, index: int, to: int) -> None:
        """Put a table elsewhere, its comment with it."""
        if self._array is not None:
            self._array.insert(to, self._array.pop(index))
            return
        gaps, leads = self._texts()
        leads.insert(to, leads.pop(index))
        self._tables.insert(to, self._tables.pop(index))
        self._put(gaps, leads)

    def remove(self, index: int) -> None:
        """Take a table out, its comment with it."""
        if self._array is not None:
            del self._array[index]
            return
        gaps, leads = self._texts()
        gap = gaps.pop(index)
        del leads[index]
        del self._tables[index]
        if index < len(gaps):
            gaps[index] = gap + gaps[index]
        else:
            self._layout.put_below(self._name, gap)
        self._put(gaps, leads)

    def _texts(self) -> tuple[list[str], list[str]]:
        """For each table, the text above that stays in place, and the text that is its own."""
        texts = [_split_above(self._layout.above(table)) for table in self._tables]
        return [gap for gap, _ in texts], [lead for _, lead in texts]

    def _put(self, gaps: list[str], leads: list[str]) -> None:
        """Show these tables, with these texts above them."""
        there = self._document.get(self._name)
        if not self._tables:
            del self._document[self._name]
            return
        if isinstance(there, AoT):
            # Through its own methods tomlkit would add blank lines of its own.
            there.body[:] = self._tables
            list.clear(there)
            list.extend(there, self._tables)
        else:
            there = tomlkit.aot()
            there.extend(self._tables)
            self._document.append(self._name, there)
        opens = self._opens_document()
        for table, gap, lead in zip(self._tables, gaps, leads, strict=True):
            text = gap + lead
            if opens:
                text = text.lstrip("\n")
            elif not text.startswith("\n"):
                text = "\n" + text
            self._layout.set_above(table, text)
            opens = False
        for table in self._tables:
            table.trivia.indent = table.trivia.indent.lstrip("\n")

    def _opens_document(self) -> bool:
        """Whether nothing stands before the first of them."""
        shown = (key for key, item in self._document.body if not isinstance(item, Null))
        first = next(shown, None)
        return first is not None and first.key == self._name


def _walk(body: _Body) -> Iterator[_Slot | Table | None]:
    """What a document shows from top to bottom: text, headers, and None for a key."""
    for index, (key, item) in enumerate(body):
        if key is None:
            yield body, index
        elif isinstance(item, AoT):
            for table in item.body:
                yield table
                yield from _walk(table.value.body)
        elif isinstance(item, Table):
            if not key.is_dotted() and not item.is_super_table():
                yield item
            yield from _walk(item.value.body)
        elif not isinstance(item, Null):
            yield None


def _take(slots: list[_Slot], after_key: bool) -> str:
    """Cut out of the text in `slots` what belongs to what follows."""
    text = "".join(body[index][1].as_string() for body, index in slots)
    kept, moved = _split_text(text) if after_key else ("", text)
    if moved:
        for body, index in slots:
            body[index] = (None, Null())
        if kept:
            body, index = slots[0]
            body[index] = (None, Whitespace(kept, True))
    return moved


def _split_text(text: str) -> tuple[str, str]:
    """The text below a key that goes with that key, and the rest."""
    lines = text.splitlines(keepends=True)
    blank = next((number for number, line in enumerate(lines) if not line.strip()), None)
    if blank is None:
        # No blank line tells whose it is: a key that is commented out ends the table above.
        blank = 0
        while blank < len(lines) and _KEY_OUT_OF_USE.match(lines[blank]):
            blank += 1
    return "".join(lines[:blank]), "".join(lines[blank:])


def _split_above(text: str) -> tuple[str, str]:
    """The text above a header that isn't about it, and the comment directly above it."""
    lines = text.splitlines(keepends=True)
    start = len(lines)
    while start and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    while start and not lines[start - 1].strip():
        start -= 1
    return "".join(lines[:start]), "".join(lines[start:])


def _end_of(body: _Body) -> _Body:
    """The body that shows its last line at the end of the document."""
    for key, item in reversed(body):
        if isinstance(item, AoT) and item.body:
            return _end_of(item.body[-1].value.body)
        if isinstance(item, Table) and key is not None and not key.is_dotted():
            return _end_of(item.value.body)
        if not isinstance(item, Null):
            break
    return body
