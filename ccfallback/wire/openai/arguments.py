"""The arguments of calls: read as they arrive, and put right where a model wrote no JSON.

Models write raw line ends into strings, and backslashes before letters that need none. Both
are repaired on the way, without waiting for the end: a fragment is looked at once.
"""

import re
from json import JSONDecoder
from typing import Any, Final
from zlib import crc32

import msgspec

from ccfallback.messages.body import UNREADABLE, decode_json, replace_lone_surrogates

MAX_ARGUMENTS: Final = 4 * 1024 * 1024
"""Characters of one call's arguments; more are not a call."""

MAX_HELD: Final = 4 * 1024 * 1024
"""Characters that one answer may make us keep until they can be written."""

_MOST: Final = "{0,1000}"
"""Not without a bound, as a match keeps where each repetition began. Possessive groups would keep
nothing, but Python has matched them wrongly until 3.11.5."""
_ESCAPE: Final = r'\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}'
_VALID: Final = rf'(?:[^"\\\x00-\x1f]++|{_ESCAPE}){_MOST}'
_FLAT: Final = rf'[^"{{}}\[\]]++|"{_VALID}"'
_VALID_TEXT: Final = re.compile(_VALID)
"""What a string may hold, as far as nothing in it needs a repair."""
_VALUES: Final = re.compile(rf"(?:{_FLAT}|\{{(?:{_FLAT}){_MOST}\}}|\[(?:{_FLAT}){_MOST}\]){_MOST}")
"""Values without a need for repairs, the objects and arrays that nest nothing among them."""
_ANY_TEXT: Final = re.compile(rf'(?:[^"\\]++|{_ESCAPE}|\\(?!"|(?:u[0-9a-fA-F]{{0,3}})?\Z)){_MOST}')
"""What a string holds, repaired or not, up to an escape that may go on in the next piece."""
_SPECIAL: Final = re.compile(rf"{_ESCAPE}|[\\\x00-\x1f]")
_SHORT: Final = {
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
}


class HeldTooMuch(Exception):
    """An answer has made us keep more than the bounds allow."""


class Held:
    """How much of an answer waits until it can be written."""

    __slots__ = ("_size",)

    def __init__(self) -> None:
        self._size = 0

    def change(self, size: int) -> None:
        """Add a size, or take it off if it is negative. Raises `HeldTooMuch`."""
        self._size += size
        if self._size > MAX_HELD:
            raise HeldTooMuch("it makes us hold back too much")


class Arguments:
    """The arguments of one call, in pieces.

    An object can be taken while it arrives. What follows its end is dropped; only an empty object
    may be followed by the real one, as some models write it. Anything else is kept until the end.
    """

    __slots__ = (
        "_depth",
        "_escape",
        "_has_members",
        "_in_string",
        "_is_object",
        "_parts",
        "_print",
        "_taken",
        "is_whole",
        "pending",
        "size",
    )

    def __init__(self) -> None:
        self.size = 0
        """Characters that have arrived."""
        self.pending = 0
        """Characters that wait to be taken."""
        self.is_whole = False
        """Whether they are an object that has come to its end."""
        self._is_object: bool | None = None
        self._parts: list[str] = []
        self._taken = False
        self._print = 0
        self._depth = 0
        self._in_string = False
        self._escape = ""
        self._has_members = False

    @property
    def is_complete(self) -> bool:
        """Whether they are an object with an end, or there are none."""
        return self._is_object is None or self.is_whole

    @property
    def is_open(self) -> bool:
        """Whether they are an object that has not come to its end."""
        return bool(self._is_object) and not self.is_whole

    @property
    def fingerprint(self) -> tuple[int, int]:
        """Tells whether two calls have the same arguments."""
        return self.size, self._print

    @property
    def text(self) -> str:
        """The part that waits to be taken."""
        return "".join(self._parts)

    def add(self, text: str) -> None:
        """Take the next piece. Raises `HeldTooMuch`."""
        if self._is_object is None:
            text = text.lstrip()
            if not text:
                return
            self._is_object = text[0] == "{"
        if self._is_object:
            while text:
                if self.is_whole:
                    text = text.lstrip()
                    if self._taken or self._has_members or not text.startswith("{"):
                        return
                    self._restart()
                text = self._scan(text)
        else:
            self._keep(text)

    def take(self) -> str:
        """What can be written now; empty for an object that may turn out not to be the real one."""
        if not self._is_object or (self.is_whole and not self._has_members and not self._taken):
            return ""
        text = "".join(self._parts)
        self._parts.clear()
        self.pending = 0
        self._taken = self._taken or bool(text)
        return text

    def last(self, *, cut: bool) -> str:
        """The whole arguments of a call that ends now, if none of them are taken.

        With `cut`, an object without an end stays as it is: the client sees where it was cut, as
        it does with Anthropic.
        """
        if self._taken:
            return ""
        text = "".join(self._parts)
        if cut and self._is_object and not self.is_whole:
            return text
        return msgspec.json.encode(tool_input(text)).decode()

    def _restart(self) -> None:
        self._parts.clear()
        self.is_whole = False
        self.size = self.pending = self._print = 0

    def _keep(self, text: str) -> None:
        self._parts.append(text)
        self.size += len(text)
        self.pending += len(text)
        self._print = crc32(text.encode("utf-8", "surrogatepass"), self._print)
        if self.size > MAX_ARGUMENTS:
            raise HeldTooMuch("the arguments of a call are too long")

    def _scan(self, text: str) -> str:
        """Keep a piece of an object, repaired; returns what follows the object's end."""
        if self._escape:
            text, self._escape = self._escape + text, ""
        out: list[str] = []
        position = 0
        while position < len(text) and not self.is_whole:
            if self._in_string:
                position = self._string(text, position, out)
            else:
                position = self._structure(text, position, out)
        if out:
            self._keep("".join(out))
        return text[position:]

    def _structure(self, text: str, position: int, out: list[str]) -> int:
        """Read whole values, a bracket or the start of a string; returns the place after them."""
        end = _end_of(_VALUES, text, position) if self._depth else position
        if end == position:
            letter = text[position]
            end += 1
            if letter == '"':
                self._in_string = True
            elif letter in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                self.is_whole = self._depth == 0
        read = text[position:end]
        out.append(read)
        # The first brace opens the object; anything but braces before the last one is in it.
        if not self._has_members and read.strip(" \t\r\n{}"):
            self._has_members = True
        return end

    def _string(self, text: str, position: int, out: list[str]) -> int:
        """Read the next part of a string, or its end; returns the place after it."""
        self._has_members = True
        end = _end_of(_VALID_TEXT, text, position)
        if end > position:
            out.append(text[position:end])
        elif text[position] == '"':
            self._in_string = False
            out.append('"')
            end += 1
        else:
            end = _end_of(_ANY_TEXT, text, position)
            out.append(_SPECIAL.sub(_repair, text[position:end]))
            if end == position:
                self._escape = text[position:]
                end = len(text)
        return end


def _end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Where the longest match at a place ends."""
    found = pattern.match(text, position)
    return position if found is None else found.end()


def _repair(special: re.Match[str]) -> str:
    """A letter as JSON has it in a string; a valid escape stays."""
    found = special[0]
    if len(found) > 1:
        return found
    return _SHORT.get(found) or f"\\u{ord(found):04x}"


def repaired(text: str) -> str:
    """Arguments in one piece as a stream of them is repaired."""
    arguments = Arguments()
    arguments.add(text)
    return arguments.text


# Arguments in one piece


_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\],]', re.DOTALL)
_HALF_AN_ESCAPE: Final = re.compile(r"(?<!\\)(?:\\\\)*(\\(?:u[0-9a-fA-F]{0,3})?)$")
_CLOSERS: Final = {"{": "}", "[": "]"}


def _refuse(word: str) -> Any:
    raise ValueError(word)


_PREFIX: Final = JSONDecoder(parse_constant=_refuse)


def tool_input(text: str, *, cut: bool = False) -> dict[str, Any] | msgspec.Raw:
    """The input of a tool for the arguments that a model wrote; never raises.

    An object stays as it was written. `cut` says that the answer reached its limit, so that the
    end may be missing. The client checks the input itself and tells the model what is wrong.
    """
    if not text.strip():
        return {}
    text, value = _read(text)
    if isinstance(value, str):
        # Some relays encode the arguments twice.
        if not value.strip():
            return {}
        text, value = _read(value)
    if isinstance(value, dict):
        return _as_written(text)
    if value is None:
        return {}
    if value is not _UNKNOWN:
        return {"input": value}
    if cut and text.lstrip().startswith("{"):
        completed = _complete(text)
        return {} if completed is None else _as_written(completed)
    found = _first_object(text)
    return {"_raw_arguments": _plain(text)} if found is None else _as_written(found)


def is_object(text: str) -> bool:
    """Whether arguments are an object, and so complete."""
    return text.rstrip().endswith("}") and isinstance(_decode(text), dict)


def _read(text: str) -> tuple[str, Any]:
    """Arguments and their value, both of the repaired text if only that is JSON."""
    value = _decode(text)
    if value is _UNKNOWN and text.lstrip().startswith("{"):
        better = repaired(text)
        if (found := _decode(better)) is not _UNKNOWN:
            return better, found
    return text, value


_UNKNOWN: Final = object()
"""Stands for what is not JSON; `None` is JSON."""


def _decode(text: str) -> Any:
    try:
        return decode_json(text.encode(), _UNKNOWN)
    except UnicodeEncodeError:
        return _UNKNOWN


def _as_written(text: str) -> msgspec.Raw:
    raw = text.strip().encode()
    try:
        msgspec.json.decode(raw)
    except UNREADABLE:
        raw = replace_lone_surrogates(raw)
    return msgspec.Raw(raw)


def _plain(text: str) -> str:
    return text.encode(errors="replace").decode()


def _first_object(text: str) -> str | None:
    """The object at the start of a text; the second of two if the first is empty."""
    first, rest = _prefix(text.lstrip())
    if first == "{}":
        second, _ = _prefix(rest.lstrip())
        return second or first
    return first


def _prefix(text: str) -> tuple[str | None, str]:
    if not text.startswith("{"):
        return None, text
    try:
        _, end = _PREFIX.raw_decode(text)
    except (ValueError, RecursionError):
        return None, text
    found = text[:end]
    return (found, text[end:]) if isinstance(_decode(found), dict) else (None, text)


def _complete(text: str) -> str | None:
    """A cut object with its open ends closed; `None` if that does not give an object."""
    closers: list[str] = []
    last_whole = 0
    in_string = False
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "{" | "[" as opener:
                closers.append(_CLOSERS[opener])
                last_whole = token.end()
            case "}" | "]":
                if closers:
                    closers.pop()
            case ",":
                last_whole = token.start()
            case '"':
                in_string = True
                break
            case _:
                pass
    end = "".join(reversed(closers))
    whole = text[:last_whole]
    if in_string:
        text = _HALF_AN_ESCAPE.sub(lambda match: match[0][: -len(match[1])], text) + '"'
    if text.rstrip().endswith(":"):
        text += "null"
    for attempt in (text, whole):
        if isinstance(_decode(attempt + end), dict):
            return attempt + end
    return None
