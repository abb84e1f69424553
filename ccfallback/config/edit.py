"""Edit the text of a configuration: providers, tokens, and single keys.

A comment stays with its table, even when that table moves, and everything else stays in place. To
that end the text is cut into blocks, one for each header, and tomlkit only sees the block that
changes: tomlkit counts a comment above a header to the table before that header.
"""

import re
import tomllib
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import tomlkit
from tomlkit.items import Array

from ccfallback.config.model import PRIMARY_NAME, KeySource, Provider
from ccfallback.config.options import options
from ccfallback.config.schema import index_by_name, no_provider, split_key
from ccfallback.errors import ConfigError, ProviderNotFound
from ccfallback.words import did_you_mean

_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")
_COMMENTED_KEY: Final = re.compile(r"\s*#\s*[\w.\"-]+\s*=")

_PROVIDER_ROWS: Final = {row.path: row for row in options(Provider, deep=True)}
_KEY_SOURCES: Final = tuple(row.key for row in options(KeySource))


@dataclass(slots=True, eq=False)
class _Block:
    """A header and the text that belongs to it."""

    path: tuple[str, ...]
    """The name in the header; empty for the text before the first header."""
    gap: str
    """Text above the header that stays in its place when the table moves."""
    lead: str
    """The comment directly above the header, with the blank lines above it."""
    body: str
    """The header, its keys, and the comments among and directly below them."""


class Document:
    """The text of a configuration, changed one table at a time."""

    def __init__(self, text: str) -> None:
        self.text = text + "\n" if text and not text.endswith("\n") else text

    def tables(self, name: str) -> list[Any]:
        """The tables of a list such as `[[providers]]`."""
        found = tomllib.loads(self.text).get(name)
        return found if isinstance(found, list) else []

    def insert(self, name: str, index: int, table: Mapping[str, Any]) -> None:
        """Insert a table into a list."""
        expected = [*self.tables(name)]
        expected.insert(index, table)
        new: dict[str, Any] = {}
        for key, value in table.items():
            new[key] = _inline(value) if isinstance(value, Mapping) else value
        if not self._change_array(name, lambda array: array.insert(index, _inline(new))):
            blocks, ending = _split(self.text)
            places = _places(blocks, name)
            body = tomlkit.aot()
            body.append(tomlkit.item(new))
            block = _Block((name,), "", "\n", tomlkit.dumps({name: body}))
            if index < len(places):
                at = places[index].start
                block.gap, blocks[at].gap = blocks[at].gap, ""
            else:
                at = places[-1].stop if places else len(blocks)
            blocks.insert(at, block)
            self._replace(name, blocks, ending)
        self._expect(name, expected)

    def move(self, name: str, index: int, to: int) -> None:
        """Move a table of a list, with its comment."""
        expected = [*self.tables(name)]
        expected.insert(to, expected.pop(index))
        if not self._change_array(name, lambda array: array.insert(to, array.pop(index))):
            blocks, ending = _split(self.text)
            places = _places(blocks, name)
            gaps = [blocks[place.start].gap for place in places]
            moved = [blocks[place.start : place.stop] for place in places]
            moved.insert(to, moved.pop(index))
            for place, table, gap in reversed(list(zip(places, moved, gaps, strict=True))):
                table[0].gap = gap
                blocks[place.start : place.stop] = table
            self._replace(name, blocks, ending)
        self._expect(name, expected)

    def remove(self, name: str, index: int) -> None:
        """Remove a table from a list, with its comment."""
        expected = [*self.tables(name)]
        del expected[index]
        if not self._change_array(name, lambda array: array.__delitem__(index)):
            blocks, ending = _split(self.text)
            place, *later = _places(blocks, name)[index:]
            below = later[0].start if later else place.stop
            if below < len(blocks):
                blocks[below].gap = blocks[place.start].gap + blocks[below].gap
            else:
                ending = blocks[place.start].gap + ending
            del blocks[place.start : place.stop]
            self._replace(name, blocks, ending)
        self._expect(name, expected)

    def change(
        self, name: str, index: int | None, edit: Callable[[MutableMapping[str, Any]], None]
    ) -> None:
        """Let `edit` change a table of a list, or, without an index, a section.

        A missing section is created.
        """
        if index is not None and self._change_array(name, lambda array: edit(array[index])):
            return
        blocks, ending = _split(self.text)
        root = tomlkit.parse(blocks[0].body)
        if name in root:
            table: Any = root[name]
            edit(table)
            blocks[0].body = root.as_string()
            self.text = _join(blocks, ending)
            return
        if index is not None:
            place = _places(blocks, name)[index]
            own = blocks[place.start : place.stop]
        else:
            own = [block for block in blocks if block.path[:1] == (name,)]
        if not own:
            own = [_Block((name,), "", "\n" if self.text else "", "")]
            blocks.append(own[0])
        first, *below = own
        header = "" if first.path == (name,) and first.body else f"[{name}]\n"
        parsed = tomlkit.parse(header + "".join(block.body for block in own))
        table = parsed[name]
        edit(table if index is None else table[0])
        if parsed == {name: {}} and not first.body:
            return
        # tomlkit has not seen the comments above the headers of tables below this one.
        first.body = ""
        parts, rest = _split(parsed.as_string())
        for part in parts:
            above = part.gap + part.lead
            first.body += above if above.strip() else ""
            if comment := next((block for block in below if block.path == part.path), None):
                below.remove(comment)
                blocks.remove(comment)
                first.body += comment.gap + comment.lead
            first.body += part.body
        first.body += rest
        for block in below:
            blocks.remove(block)
        self.text = _join(blocks, ending)

    def _change_array(self, name: str, change: Callable[[Array], object]) -> bool:
        """Change a list that is written as `name = [{…}, …]`; False if it is not."""
        blocks, ending = _split(self.text)
        root = tomlkit.parse(blocks[0].body)
        array = root.get(name)
        if not isinstance(array, Array):
            return False
        is_used = bool(array)
        if is_used:
            change(array)
        else:
            # Without it the list can be written as `[[name]]`.
            del root[name]
        blocks[0].body = root.as_string()
        self.text = _join(blocks, ending)
        return is_used

    def _replace(self, name: str, blocks: list[_Block], ending: str) -> None:
        """Take the text of the blocks, with a blank line above each table of the list."""
        text = ""
        for block in blocks:
            above = block.gap + block.lead
            if not text:
                above = above.lstrip("\r\n")
            elif block.path == (name,) and not above.startswith(("\n", "\r\n")):
                above = "\n" + above
            text += above + block.body
        self.text = text + ending

    def _expect(self, name: str, tables: list[Any]) -> None:
        if tomllib.loads(self.text).get(name, []) != tables:
            raise ConfigError(
                f"a program cannot change the {name} in the form that the file has",
                "change them with `ccfallback config edit`",
            )


def _split(text: str) -> tuple[list[_Block], str]:
    """The blocks of a text, and what follows the last one. The first block has no header."""
    lines = _LINE.findall(text)
    starts = [0]
    for number, line in enumerate(lines):
        # Inside a string or an array, the lines before it are not whole.
        if line.lstrip().startswith("[") and _is_whole(lines[starts[-1] : number]):
            starts.append(number)
    if len(starts) == 1:
        return [_Block((), "", "", text)], ""
    blocks: list[_Block] = []
    gap = lead = ""
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        end = stop
        while end > start and (not lines[end - 1].strip() or _is_comment(lines[end - 1])):
            end -= 1
        while not _is_whole(lines[start:end]):
            end += 1
        if end > start:
            end += _count_own(lines[end:stop])
        path = _path(lines[start]) if blocks else ()
        blocks.append(_Block(path, gap, lead, "".join(lines[start:end])))
        # The comment directly above the next header is about that.
        own = stop
        while own > end and _is_comment(lines[own - 1]):
            own -= 1
        while own > end and not lines[own - 1].strip():
            own -= 1
        gap, lead = "".join(lines[end:own]), "".join(lines[own:stop])
    return blocks, gap + lead


def _join(blocks: list[_Block], ending: str) -> str:
    return "".join(block.gap + block.lead + block.body for block in blocks) + ending


def _places(blocks: list[_Block], name: str) -> list[range]:
    """Where each table of a list is, with the tables below it."""
    places: list[range] = []
    for number, block in enumerate(blocks):
        if block.path == (name,):
            places.append(range(number, number + 1))
        elif places and places[-1].stop == number and block.path[:1] == (name,):
            places[-1] = range(places[-1].start, number + 1)
    return places


def _path(header: str) -> tuple[str, ...]:
    """The name in a header, as its parts."""
    found: Any = tomllib.loads(header)
    path: list[str] = []
    while found:
        ((key, found),) = (found[0] if isinstance(found, list) else found).items()
        path.append(key)
        if found == [{}]:
            break
    return tuple(path)


def _is_whole(lines: list[str]) -> bool:
    try:
        tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError:
        return False
    return True


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _count_own(lines: list[str]) -> int:
    """How many of the lines below the last key of a table belong to that table."""
    for number, line in enumerate(lines):
        if not line.strip():
            return number
    # No blank line separates them from the next header; a commented-out key is about this table.
    commented = (number for number, line in enumerate(lines) if not _COMMENTED_KEY.match(line))
    return next(commented, len(lines))


def _inline(table: Mapping[str, Any]) -> Any:
    inline = tomlkit.inline_table()
    inline.update(table)
    return inline


class ProviderChanges(dict[str, Any]):
    """What to change of a provider, by key; None removes a key, and `aws.region` is in a table.

    The items of `headers` and `model_mapping` are merged into those of the file, and an empty one
    is removed.
    """

    def __repr__(self) -> str:
        # The key and the headers are secrets.
        return f"ProviderChanges({', '.join(self)})"


def add_provider(
    document: Document, name: str, changes: ProviderChanges, position: int | None = None
) -> None:
    """Add a provider; `position` counts among the fallbacks from 1, the default is the end."""
    names = provider_names(document)
    require_free_name(name, [PRIMARY_NAME, *names])
    table: dict[str, Any] = {"name": name}
    _apply(table, changes)
    document.insert("providers", _index(position, len(names) + 1), table)


def require_free_name(name: str, taken: Collection[str | None]) -> None:
    """Raise `ConfigError` if a provider has that name already, even in a different case."""
    same = next((each for each in taken if each and each.lower() == name.lower()), None)
    if same is not None:
        raise ConfigError(
            f"there is already a provider named {same}",
            f"change it with `ccfallback providers set {same}`, or choose another name",
        )


def change_provider(document: Document, name: str, changes: ProviderChanges) -> None:
    """Change a provider; the primary's name means the `[primary]` table."""
    if name == PRIMARY_NAME:
        document.change("primary", None, lambda table: _apply(table, changes))
    else:
        index = _find(document, name)
        document.change("providers", index, lambda table: _apply(table, changes))


def remove_providers(document: Document, names: Sequence[str]) -> list[str]:
    """Remove providers; returns those of the names that there were."""
    removed = []
    for name in names:
        known = provider_names(document)
        if name in known:
            document.remove("providers", known.index(name))
            removed.append(name)
    return removed


def move_provider(document: Document, name: str, to: int) -> None:
    """Move a provider to another position among the fallbacks, counted from 1."""
    if name == PRIMARY_NAME:
        raise ConfigError(
            f"{PRIMARY_NAME} is always first in the chain",
            f"to stop using it, `ccfallback providers disable {PRIMARY_NAME}`",
        )
    count = len(provider_names(document))
    document.move("providers", _find(document, name), _index(to, count))


def provider_names(document: Document) -> list[str | None]:
    """The name of each provider in the document, None for a provider without a name."""
    return [
        str(table["name"]) if isinstance(table, Mapping) and "name" in table else None
        for table in document.tables("providers")
    ]


def _find(document: Document, name: str) -> int:
    names = provider_names(document)
    if name in names:
        return names.index(name)
    known = [PRIMARY_NAME, *(known for known in names if known)]
    hint = did_you_mean(name, known) or f"the providers are {', '.join(known)}"
    raise ProviderNotFound(f"no provider is named {name}", hint)


def _index(position: int | None, count: int) -> int:
    """The index of position 1 to `count`; a position beyond the end is the end."""
    if position is None:
        return count - 1
    if position < 1:
        raise ConfigError("positions count from 1", "1 is the first after the primary")
    return min(position, count) - 1


def _apply(table: MutableMapping[str, Any], changes: ProviderChanges) -> None:
    for key, value in changes.items():
        row = _PROVIDER_ROWS.get(key)
        if row is not None and row.path != row.key:
            _change_below(table, key, value)
        elif row is not None and row.separators:
            _merge(table, key, value)
        elif value is None or (value is False and row is not None and row.default is False):
            table.pop(key, None)
        else:
            if key in _KEY_SOURCES:
                for other in _KEY_SOURCES:
                    if other != key:
                        table.pop(other, None)
            table[key] = value


def _change_below(table: MutableMapping[str, Any], path: str, value: Any) -> None:
    """Change or, with None, remove the key of a table below this one, such as `aws.region`."""
    name, _, key = path.partition(".")
    below = table.get(name)
    if not isinstance(below, MutableMapping):
        if value is not None:
            table[name] = _inline({key: value})
    elif value is not None:
        below[key] = value
    else:
        below.pop(key, None)
        if not below:
            del table[name]


def _merge(table: MutableMapping[str, Any], key: str, items: Mapping[str, str]) -> None:
    there = table.get(key)
    if not isinstance(there, MutableMapping):
        kept = {name: value for name, value in items.items() if value}
        if kept:
            table[key] = _inline(kept)
        return
    # The case of a header does not matter: the file's spelling stays.
    known = {name.lower(): name for name in there} if key == "headers" else {}
    for name, value in items.items():
        spelled = known.get(name.lower(), name)
        if value:
            there[spelled] = value
        else:
            there.pop(spelled, None)
    if not there:
        del table[key]


def add_token(
    document: Document, token: str, note: str, cap: Mapping[str, float] | None = None
) -> None:
    """Add an access token after the others.

    Raises `ConfigError` if another has its note: what is spent is counted under that name.
    """
    name = note.strip()
    tables = document.tables("tokens")
    taken = [str(each.get("note")).strip() for each in tables if isinstance(each, Mapping)]
    if name and name in taken:
        raise ConfigError(
            f"there is already a token with the note {name}",
            "choose another note, or remove that token with `ccfallback tokens remove`",
        )
    given = {"token": token, "note": note, "cap": dict(cap or {})}
    table = {key: value for key, value in given.items() if value}
    document.insert("tokens", len(tables), table)


def remove_tokens(document: Document, indexes: Collection[int]) -> None:
    """Remove the access tokens at these indexes."""
    for index in sorted(indexes, reverse=True):
        document.remove("tokens", index)


def parse_value(text: str) -> Any:
    """The value that a text means in TOML; the text itself if it is not a value."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return found["value"] if list(found) == ["value"] else text


def set_key(document: Document, key: str, value: Any) -> None:
    """Set a dotted key; missing tables are created."""
    *path, last = split_key(key, index_by_name(document.tables("providers")))
    if not path:
        parsed = tomlkit.parse(document.text)
        parsed[last] = value
        document.text = parsed.as_string()
        return
    if path in (["providers"], ["tokens"]):
        _find_table(document, [*path, last])
        raise ConfigError(f"{key} is more than one key", "name one of its keys")
    head, index, below = _find_table(document, path)

    def edit(table: Any) -> None:
        for part in [*below, None]:
            if not isinstance(table, MutableMapping):
                raise ConfigError(
                    f"{'.'.join(path)} is not a table", "see `ccfallback config show`"
                )
            if part is not None:
                table = table.setdefault(part, tomlkit.inline_table())
        table[last] = value

    document.change(head, index, edit)


def unset_key(document: Document, key: str) -> bool:
    """Remove a dotted key, with a table that is empty then; False if it is not in the document."""
    *path, last = split_key(key, index_by_name(document.tables("providers")))
    if not path or (path[0] in ("providers", "tokens") and len(path) == 1):
        command = f"`ccfallback {path[0]} remove`" if path else "name one of its keys"
        raise ConfigError(f"{key} is more than one key", command)
    if path[0] not in tomllib.loads(document.text):
        return False
    head, index, below = _find_table(document, path)
    before = document.text

    def edit(table: Any) -> None:
        places = [table]
        for part in below:
            table = table.get(part) if isinstance(table, Mapping) else None
            places.append(table)
        if not isinstance(table, MutableMapping) or last not in table:
            return
        del table[last]
        for part, place in zip(reversed(below), reversed(places[:-1]), strict=True):
            if not place[part]:
                del place[part]

    document.change(head, index, edit)
    return document.text != before


def _find_table(document: Document, path: Sequence[str]) -> tuple[str, int | None, list[str]]:
    """The section or list of a key, the index in the list, and the tables below that."""
    head, *below = path
    if head not in ("providers", "tokens"):
        return head, None, below
    names = list(index_by_name(document.tables(head)))
    if below[:1] not in [[name] for name in names]:
        if head == "providers" and below:
            raise no_provider(below[0], names)
        raise ConfigError(f"there is no {'.'.join(path)}", "see `ccfallback config show`")
    return head, names.index(below[0]), below[1:]
