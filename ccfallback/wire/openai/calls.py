"""The calls of an answer, put together from pieces that may arrive interleaved.

Anthropic has one block open at a time. The pieces of the open call are written as they arrive;
those of the next calls wait until it is complete. The work for a piece depends neither on the
number of calls nor on what has arrived of them.
"""

from enum import Enum
from heapq import heappop, heappush
from typing import Final

import msgspec

from ccfallback.wire.openai.answer import MessageHead
from ccfallback.wire.openai.arguments import Arguments, Held
from ccfallback.wire.openai.blocks import Blocks
from ccfallback.wire.openai.chunks import Call as Piece

_WEIGHT: Final = 64
"""What a call weighs besides its name and id, in characters."""


class _State(Enum):
    WAITING = "waiting"
    OPEN = "open"
    CLOSED = "closed"


class _Call(msgspec.Struct):
    index: int | None
    number: int
    """Its place among the calls of the answer."""
    id: str = ""
    name: str = ""
    state: _State = _State.WAITING
    is_named_again: bool = False
    """Whether its name has come again after all of its arguments: more of them make a new call."""
    arguments: Arguments = msgspec.field(default_factory=Arguments)


class Calls:
    """Finds out which call a piece belongs to, and writes each as one block."""

    def __init__(self, blocks: Blocks, head: MessageHead, held: Held | None = None) -> None:
        self._blocks = blocks
        self._head = head
        self._held = held or Held()
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[int | None, _Call] = {}
        """The last call with each id and index."""
        self._waiting: list[tuple[int, _Call]] = []
        """A heap of the calls that can be opened; a call without a name cannot."""
        self._open: _Call | None = None
        self._has_names = False

    def __bool__(self) -> bool:
        return self._has_names

    @property
    def are_whole(self) -> bool:
        """Whether no arguments lack their end, as far as that shows.

        Before the last call, only an object does; anything else may be all that the model wrote.
        """
        if self._calls and not self._calls[-1].arguments.is_complete:
            return False
        return not any(call.arguments.is_open for call in self._calls)

    def take(self, pieces: list[Piece]) -> None:
        """Take the pieces of one chunk. Raises `HeldTooMuch`."""
        for position, piece in enumerate(pieces):
            if piece.type not in (None, "", "function"):
                continue
            call = self._find_call(piece, position, len(pieces))
            if call is None:
                continue
            function = piece.function
            self._identify(call, piece.id or "", (function and function.name) or "")
            if function is not None and function.arguments and call.state is not _State.CLOSED:
                before = call.arguments.pending
                call.arguments.add(function.arguments)
                self._held.change(call.arguments.pending - before)
                if call.state is _State.OPEN:
                    self._forward(call)
            self._advance()

    def new(self, pieces: list[Piece]) -> list[Piece]:
        """The whole calls of which neither the id nor name and arguments have arrived."""
        known = {(call.name, call.arguments.fingerprint) for call in self._calls}
        return [
            piece
            for piece in pieces
            if not (piece.id and piece.id in self._by_id) and _what(piece) not in known
        ]

    def give_way(self) -> bool:
        """Whether another block may start now; closes the open call if it is complete."""
        return self._open is None or (not self._waiting and self._close_if_whole())

    def finish(self, *, cut: bool) -> None:
        """Write the remaining calls. With `cut`, the last arguments may have no end."""
        if self._open is not None:
            self._close(self._open, cut=cut)
        while self._waiting:
            call = self._begin()
            self._close(call, cut=cut)

    def _identify(self, call: _Call, call_id: str, name: str) -> None:
        """Give a call the id and the name that it does not have yet."""
        if call_id and not call.id:
            call.id = call_id
        if call_id and call.id == call_id:
            self._by_id[call_id] = call
        if name and not call.name:
            call.name = name
            self._has_names = True
            heappush(self._waiting, (call.number, call))

    def _find_call(self, piece: Piece, position: int, count: int) -> _Call | None:
        """The call that a piece belongs to, or a new one."""
        name = (piece.function and piece.function.name) or ""
        last = self._calls[-1] if self._calls else None
        by_id = self._by_id.get(piece.id) if piece.id else None
        if piece.index is not None:
            known = self._by_index.get(piece.index)
            if known is None and not name:
                known = by_id
        elif piece.id:
            # Some providers invent a new id for every piece: only a name starts a call.
            known = by_id or (None if name else last)
        elif name or count == 1:
            known = last
        else:
            first = max(0, len(self._calls) - count)
            known = self._calls[min(first + position, len(self._calls) - 1)] if last else None
        if known is not None and name:
            if _is_another(known, piece, name):
                known = None
            elif _only_repeats_the_name(known, piece):
                known.is_named_again = True
        elif known is not None and known.is_named_again and _starts_again(known, piece):
            name, known = known.name, None
        if known is None and (name or piece.id or piece.function is not None):
            known = _Call(piece.index, len(self._calls))
            self._held.change(_WEIGHT + len(name) + len(piece.id or ""))
            self._calls.append(known)
            self._identify(known, "", name)
            if piece.index is not None:
                self._by_index[piece.index] = known
        return known

    def _advance(self) -> None:
        """Open the next call if the open one is complete."""
        while self._waiting and self._close_if_whole():
            self._forward(self._begin())

    def _close_if_whole(self) -> bool:
        """Whether no call is open; a complete one is closed now."""
        if self._open is not None and self._open.arguments.is_whole:
            self._close(self._open)
        return self._open is None

    def _begin(self) -> _Call:
        """Open the next call that waits."""
        _, call = heappop(self._waiting)
        call.state = _State.OPEN
        self._open = call
        self._blocks.tool_use(self._head.tool_id(call.id), self._head.tool_name(call.name))
        return call

    def _forward(self, call: _Call) -> None:
        """Write the arguments so far, once they have started like an object."""
        before = call.arguments.pending
        if text := call.arguments.take():
            self._held.change(-before)
            self._blocks.arguments(text)

    def _close(self, call: _Call, *, cut: bool = False) -> None:
        if text := call.arguments.last(cut=cut):
            self._blocks.arguments(text)
        self._held.change(-call.arguments.pending)
        self._blocks.close()
        call.state = _State.CLOSED
        self._open = None


def _is_another(call: _Call, piece: Piece, name: str) -> bool:
    """Whether a piece that has a name and the index or id of a call starts another call.

    Some providers give all calls the index 0, or none, and some of them no ids or always the same:
    then another name starts another call, and so does a piece that follows a complete one, unless
    it is the same call once more.
    """
    if not call.name:
        return False
    arguments = call.arguments
    has_its_id = bool(piece.id) and piece.id == call.id
    if call.name != name:
        if has_its_id:
            return arguments.is_whole
        # Within an object, a call that lacks its end would be lost.
        return piece.index is None or bool(piece.id and call.id) or not arguments.is_open
    if has_its_id or not arguments.is_whole:
        return False
    has_others = bool(_arguments(piece)) and not (
        piece.index is not None and _says_the_same(call, piece)
    )
    return bool(piece.id) or has_others


def _only_repeats_the_name(call: _Call, piece: Piece) -> bool:
    """Whether a piece has the name of a complete call and nothing else.

    It may be the start of a call of the same tool; that shows when arguments follow.
    """
    return not (piece.id or _arguments(piece)) and call.arguments.is_whole


def _starts_again(call: _Call, piece: Piece) -> bool:
    """Whether a piece without a name has the start of other arguments than those of a call."""
    if (piece.id and piece.id == call.id) or not _arguments(piece).lstrip().startswith("{"):
        return False
    return _fingerprint(piece) != call.arguments.fingerprint


def _says_the_same(call: _Call, piece: Piece) -> bool:
    """Whether a piece has the name and all arguments of a call."""
    return _what(piece) == (call.name, call.arguments.fingerprint)


def _what(piece: Piece) -> tuple[str, tuple[int, int]]:
    """The name and arguments of a whole call, to compare."""
    return (piece.function and piece.function.name) or "", _fingerprint(piece)


def _fingerprint(piece: Piece) -> tuple[int, int]:
    arguments = Arguments()
    arguments.add(_arguments(piece))
    return arguments.fingerprint


def _arguments(piece: Piece) -> str:
    return (piece.function and piece.function.arguments) or ""
