"""The calls of a stream, put together from pieces that may come interleaved.

Anthropic has one block open at a time. The pieces of the open call go on as they come; those of
the next ones wait until it is whole. Arguments that are an object go on verbatim, anything else
is collected and put right.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import msgspec

from ccfallback.wire.openai.arguments import input_of, is_object
from ccfallback.wire.openai.blocks import Blocks
from ccfallback.wire.openai.chunks import Call as Piece
from ccfallback.wire.openai.shape import Shape

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
    said: int = 0
    """How many of the parts have gone on."""
    _looked_at: int = -1
    _whole: bool = False

    @property
    def text(self) -> str:
        """The arguments so far, as one text."""
        if len(self.parts) > 1 and not self.said:
            self.parts = ["".join(self.parts)]
        return "".join(self.parts)

    def is_whole(self) -> bool:
        """Whether the arguments can't go on. Looked into only where they may have become so."""
        if not self.parts or not self.parts[-1].rstrip().endswith("}"):
            return False
        size = sum(map(len, self.parts))
        if size != self._looked_at:
            self._looked_at = size
            self._whole = is_object(self.text)
        return self._whole


class Calls:
    """Finds out which call a piece belongs to, and writes each as one block."""

    __slots__ = ("_blocks", "_calls", "_open", "_shape")

    def __init__(self, blocks: Blocks, shape: Shape) -> None:
        self._blocks = blocks
        self._shape = shape
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
        """The calls of one chunk."""
        for position, piece in enumerate(pieces):
            if piece.type not in (None, "", "function"):
                continue
            call = self._call_of(piece, position, len(pieces))
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
        """Whether another block may come now: no call is open, or the open one is whole."""
        return self._open is None or (self._waiting() is None and self._closed())

    def finish(self, *, cut: bool) -> None:
        """Write what is left. `cut` says that the last arguments may have no end."""
        if self._open is not None:
            self._close(self._open, cut=cut)
        while (call := self._waiting()) is not None:
            self._begin(call)
            self._close(call, cut=cut)

    def _waiting(self) -> _Call | None:
        """The next call that can be opened: one without a name can't."""
        waiting = (call for call in self._calls if call.state is _State.WAITING and call.name)
        return next(waiting, None)

    def _call_of(self, piece: Piece, position: int, count: int) -> _Call | None:
        """The call that a piece belongs to, or a new one."""
        name = (piece.function and piece.function.name) or ""
        last = self._calls[-1] if self._calls else None
        by_id = _last(call for call in self._calls if piece.id and call.id == piece.id)
        if piece.index is not None:
            known = _last(call for call in self._calls if call.index == piece.index)
            if known is None and not name:
                known = by_id
        elif piece.id:
            # Some make up a new id for every piece: then only a name begins a call.
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
        """Open the next call as soon as the open one is whole."""
        while (call := self._waiting()) is not None and self._closed():
            self._begin(call)
            self._forward(call)

    def _closed(self) -> bool:
        """Whether no call is open any more: one that is whole is closed now."""
        if self._open is not None and self._open.is_whole():
            self._close(self._open)
        return self._open is None

    def _begin(self, call: _Call) -> None:
        call.state = _State.OPEN
        self._open = call
        self._blocks.tool_use(self._shape.tool_id(call.id), self._shape.tool_name(call.name))

    def _forward(self, call: _Call) -> None:
        """Let the arguments go on, once they have begun as an object does."""
        if call.said == 0:
            begun = call.text.lstrip()
            if begun.startswith(_EMPTY) and begun[2:].lstrip().startswith("{"):
                # Some say that there are none, and then what they are.
                begun = begun[2:].lstrip()
            if not begun.startswith("{") or begun.rstrip() == _EMPTY:
                return
            call.parts = [begun]
        for part in call.parts[call.said :]:
            self._blocks.arguments(part)
        call.said = len(call.parts)

    def _close(self, call: _Call, *, cut: bool = False) -> None:
        if not call.said:
            text = call.text
            if not (cut and text.lstrip().startswith("{") and not is_object(text)):
                text = msgspec.json.encode(input_of(text)).decode()
            # Else the client sees what was cut, as it does with Anthropic.
            self._blocks.arguments(text)
        self._blocks.close()
        call.state = _State.CLOSED
        self._open = None


def _is_another(call: _Call, piece: Piece, name: str) -> bool:
    """Whether a piece that looks like one of this call begins another one.

    Some number all calls 0, or none: then another name or a call that is whole tells.
    """
    if not name or not call.name or (piece.id and piece.id == call.id):
        return False
    if call.name != name and (piece.index is None or (piece.id and call.id)):
        return True
    # A name that is only repeated comes without arguments.
    has_more = piece.id or (piece.function and piece.function.arguments)
    return bool(has_more) and call.is_whole()


def _last(calls: Iterable[_Call]) -> _Call | None:
    found = list(calls)
    return found[-1] if found else None
