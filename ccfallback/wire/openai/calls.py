"""The calls of an answer, put together from pieces that may arrive interleaved.

Anthropic has one block open at a time. The pieces of the open call are written as they arrive;
those of the next calls wait until it is complete. Arguments that are an object are written
verbatim; anything else is collected and put right.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from json import JSONDecoder
from typing import Any, Final

import msgspec

from ccfallback.messages.body import UNREADABLE, replace_lone_surrogates
from ccfallback.wire.openai.answer import MessageHead
from ccfallback.wire.openai.blocks import Blocks
from ccfallback.wire.openai.chunks import Call as Piece

_EMPTY: Final = "{}"


class _State(Enum):
    WAITING = "waiting"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(slots=True)
class _Call:
    index: int | None
    id: str = ""
    name: str = ""
    state: _State = _State.WAITING
    parts: list[str] = field(default_factory=list)
    """The arguments so far."""
    written: int = 0
    """How many of the parts are written."""
    _checked_size: int = -1
    _is_whole: bool = False

    @property
    def text(self) -> str:
        """The arguments so far, as one text."""
        if len(self.parts) > 1 and not self.written:
            self.parts = ["".join(self.parts)]
        return "".join(self.parts)

    def is_whole(self) -> bool:
        """Whether the arguments are complete. They are only decoded after a closing brace."""
        if not self.parts or not self.parts[-1].rstrip().endswith("}"):
            return False
        size = sum(map(len, self.parts))
        if size != self._checked_size:
            self._checked_size = size
            self._is_whole = is_object(self.text)
        return self._is_whole


class Calls:
    """Finds out which call a piece belongs to, and writes each as one block."""

    def __init__(self, blocks: Blocks, head: MessageHead) -> None:
        self._blocks = blocks
        self._head = head
        self._calls: list[_Call] = []
        self._open: _Call | None = None

    def __bool__(self) -> bool:
        return any(call.name for call in self._calls)

    @property
    def last_is_whole(self) -> bool:
        """Whether the arguments of the last call are whole, or there are none."""
        last = self._calls[-1] if self._calls else None
        return last is None or not last.text.strip() or is_object(last.text)

    def take(self, pieces: list[Piece]) -> None:
        """Take the pieces of one chunk."""
        for position, piece in enumerate(pieces):
            if piece.type not in (None, "", "function"):
                continue
            call = self._find_call(piece, position, len(pieces))
            if call is None:
                continue
            function = piece.function
            call.id = call.id or piece.id or ""
            if function is not None:
                call.name = call.name or function.name or ""
                if function.arguments and call.state is not _State.CLOSED:
                    call.parts.append(function.arguments)
                    if call.state is _State.OPEN:
                        self._forward(call)
            self._advance()

    def give_way(self) -> bool:
        """Whether another block may start now; closes the open call if it is complete."""
        return self._open is None or (self._waiting() is None and self._closed())

    def finish(self, *, cut: bool) -> None:
        """Write the remaining calls. With `cut`, the last arguments may have no end."""
        if self._open is not None:
            self._close(self._open, cut=cut)
        while (call := self._waiting()) is not None:
            self._begin(call)
            self._close(call, cut=cut)

    def _waiting(self) -> _Call | None:
        """The next call that can be opened; a call without a name cannot."""
        waiting = (call for call in self._calls if call.state is _State.WAITING and call.name)
        return next(waiting, None)

    def _find_call(self, piece: Piece, position: int, count: int) -> _Call | None:
        """The call that a piece belongs to, or a new one."""
        name = (piece.function and piece.function.name) or ""
        last = self._calls[-1] if self._calls else None
        by_id = _last(call for call in self._calls if piece.id and call.id == piece.id)
        if piece.index is not None:
            known = _last(call for call in self._calls if call.index == piece.index)
            if known is None and not name:
                known = by_id
        elif piece.id:
            # Some providers invent a new id for every piece: only a name starts a call.
            known = by_id or (None if name else last)
        elif name or count == 1:
            known = last
        else:
            latest = self._calls[-count:]
            known = latest[min(position, len(latest) - 1)] if latest else None
        if known is not None and _is_another(known, piece, name):
            known = None
        if known is None and (name or piece.id or piece.function is not None):
            known = _Call(piece.index)
            self._calls.append(known)
        return known

    def _advance(self) -> None:
        """Open the next call if the open one is complete."""
        while (call := self._waiting()) is not None and self._closed():
            self._begin(call)
            self._forward(call)

    def _closed(self) -> bool:
        """Whether no call is open; a complete one is closed now."""
        if self._open is not None and self._open.is_whole():
            self._close(self._open)
        return self._open is None

    def _begin(self, call: _Call) -> None:
        call.state = _State.OPEN
        self._open = call
        self._blocks.tool_use(self._head.tool_id(call.id), self._head.tool_name(call.name))

    def _forward(self, call: _Call) -> None:
        """Write the arguments so far, once they have started like an object."""
        if call.written == 0:
            begun = call.text.lstrip()
            if begun.startswith(_EMPTY) and begun[2:].lstrip().startswith("{"):
                # Some models write an empty object first, and then the real one.
                begun = begun[2:].lstrip()
            if not begun.startswith("{") or begun.rstrip() == _EMPTY:
                return
            call.parts = [begun]
        for part in call.parts[call.written :]:
            self._blocks.arguments(part)
        call.written = len(call.parts)

    def _close(self, call: _Call, *, cut: bool = False) -> None:
        if not call.written:
            text = call.text
            if not (cut and text.lstrip().startswith("{") and not is_object(text)):
                text = msgspec.json.encode(tool_input(text)).decode()
            # Otherwise the client sees where the arguments were cut, as it does with Anthropic.
            self._blocks.arguments(text)
        self._blocks.close()
        call.state = _State.CLOSED
        self._open = None


def _is_another(call: _Call, piece: Piece, name: str) -> bool:
    """Whether a piece with the index or id of a call starts another call.

    Some providers give all calls the index 0, or none: then another name starts another call, and
    so does a piece that follows a complete one.
    """
    if not name or not call.name or (piece.id and piece.id == call.id):
        return False
    if call.name != name and (piece.index is None or (piece.id and call.id)):
        return True
    # A piece that only repeats the name has no arguments.
    has_more = piece.id or (piece.function and piece.function.arguments)
    return bool(has_more) and call.is_whole()


def _last(calls: Iterable[_Call]) -> _Call | None:
    found = list(calls)
    return found[-1] if found else None


# Arguments


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
    value = _decoded(text)
    if isinstance(value, str):
        # Some relays encode the arguments twice.
        text = value
        if not text.strip():
            return {}
        value = _decoded(text)
    if isinstance(value, dict):
        return _as_written(text)
    if value is None:
        return {}
    if value is not _UNKNOWN:
        return {"input": value}
    if cut and text.lstrip().startswith("{"):
        completed = _completed(text)
        return {} if completed is None else _as_written(completed)
    found = _first_object(text)
    return {"_raw_arguments": _plain(text)} if found is None else _as_written(found)


def is_object(text: str) -> bool:
    """Whether arguments are an object, and so complete."""
    return text.rstrip().endswith("}") and isinstance(_decoded(text), dict)


_UNKNOWN: Final = object()
"""Stands for what is not JSON; `None` is JSON."""


def _decoded(text: str) -> Any:
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return _UNKNOWN
    try:
        return msgspec.json.decode(raw)
    except UNREADABLE:
        pass
    try:
        return msgspec.json.decode(replace_lone_surrogates(raw))
    except UNREADABLE:
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
    return (found, text[end:]) if isinstance(_decoded(found), dict) else (None, text)


def _completed(text: str) -> str | None:
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
        if isinstance(_decoded(attempt + end), dict):
            return attempt + end
    return None
