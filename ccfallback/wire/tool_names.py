"""Tools that the provider knows by other names, called in the answer what the client calls them.

The answer is in Anthropic's format already, where only the start of a call holds a name.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from ccfallback.messages.body import replace_lone_surrogates
from ccfallback.messages.sse import EventSplitter, data_of, event
from ccfallback.wire.format import StreamTranslator, Whole

Names = Mapping[str, str]
"""The client's name of a tool by the provider's."""

_CALL: Final = b'"tool_use"'

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def with_client_names(whole: Whole, names: Names) -> Whole:
    """A whole answer whose calls are of the client's tools."""
    return whole if whole.error else replace(whole, body=_message(whole.body, names))


class RenamingStream:
    """A stream whose calls are of the client's tools; see `StreamTranslator`."""

    def __init__(self, inner: StreamTranslator, names: Names) -> None:
        self._inner = inner
        self._names = names
        self.usage = inner.usage
        self.signatures = inner.signatures
        self._follow()

    def feed(self, chunk: bytes) -> bytes:
        """The events that are whole now."""
        return self._renamed(self._inner.feed(chunk))

    def finish(self) -> bytes:
        """What remains to be said."""
        return self._renamed(self._inner.finish())

    def _follow(self) -> None:
        inner = self._inner
        self.heard, self.started = inner.heard, inner.started
        self.complete, self.finished = inner.complete, inner.finished
        self.error = inner.error

    def _renamed(self, events: bytes) -> bytes:
        self._follow()
        if _CALL not in events:
            return events
        # Only whole events come out of a translator.
        splitter = EventSplitter()
        parts = [*splitter.feed(events), splitter.rest]
        return b"".join(_event(part, self._names) if _CALL in part else part for part in parts)


def _event(raw: bytes, names: Names) -> bytes:
    value = _decoded(data_of(raw))
    if not isinstance(value, dict):
        return raw
    block = value.get("content_block")
    renamed = _block(block, names)
    if renamed is block:
        return raw
    made = msgspec.json.encode({**value, "content_block": renamed})
    return event("content_block_start", made)


def _message(raw: bytes, names: Names) -> bytes:
    value = _decoded(raw) if _CALL in raw else None
    if not isinstance(value, dict) or not isinstance(value.get("content"), list):
        return raw
    content = value["content"]
    made = [_block(block, names) for block in content]
    return raw if made == content else msgspec.json.encode({**value, "content": made})


def _block(block: Any, names: Names) -> Any:
    """A block of an answer; the very same where it calls no tool of another name."""
    if not isinstance(block, dict) or block.get("type") != "tool_use":
        return block
    name = block.get("name")
    client = names.get(name) if isinstance(name, str) else None
    return block if client is None else {**block, "name": client}


def _decoded(raw: bytes) -> Any:
    for spelling in (raw, replace_lone_surrogates(raw)):
        try:
            return msgspec.json.decode(spelling)
        except _UNREADABLE:
            continue
    return None
