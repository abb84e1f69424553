"""What some third parties do not send in Anthropic's format, although clients rely on it.

Claude Code compacts a conversation by the token counts of its answers, and takes a block into
account only at its end. Some clients read the input of a call only from its deltas. The primary's
answers never need this.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ccfallback.messages.body import UNREADABLE, Body, decode_as, decode_json
from ccfallback.messages.sse import data_of, event, json_event
from ccfallback.messages.stop_reasons import WINDOW_FULL, End, is_absent, read_end
from ccfallback.messages.tokens import BYTES_A_TOKEN, Usage, estimate
from ccfallback.wire.filters import MAX_HELD, Mark, TooMuchHeld

DELTA_BYTES: Final = 120
"""About how many bytes of an event with a delta are not text."""

_OWN_REASONS: Final = frozenset(
    {
        *("end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal"),
        *("compaction", WINDOW_FULL),
    }
)
"""Anthropic's own stop reasons."""

_OWN_REASONS_BY_END: Final = {
    End.CUT: "max_tokens",
    End.REFUSED: "refusal",
    End.WINDOW_FULL: WINDOW_FULL,
}

_EMPTY_INPUTS: Final = frozenset({b"", b"{}", b"null", b'""'})
_TEXT_MEMBERS: Final = {b'"text"': "text", b'"thinking"': "thinking"}
"""The type of a block, in JSON: its member that deltas continue."""

_CALL: Final = b'"tool_use"'
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Completion:
    """Adds missing token counts, deltas and ends of blocks to a stream; an `EventFilter`."""

    def __init__(self, client_body: Body) -> None:
        self.usage = Usage()
        """The counts of the answer, with estimates for what the upstream does not count."""
        self.written = 0
        """About how many bytes the model has written."""
        self.inputs: set[int | None] = set()
        """The blocks whose input came in their start, and no piece of it since."""
        self._client_body = client_body
        self._texts: dict[int | None, bytes] = {}
        self._size = 0
        """How many bytes of inputs wait for the ends of their blocks."""
        self._ends: dict[int, list[int]] = {}
        """The blocks that end only with the answer, by the place of the event that ends it."""
        self._prompt: int | None = None
        self._has_calls = False

    def note_block(self, index: int | None, value: bytes) -> None:
        """Take notice of a block that starts, with its input."""
        if bytes(value).strip() in _EMPTY_INPUTS:
            self.inputs.discard(index)
        else:
            self.inputs.add(index)

    def note_end(self, place: int, blocks: list[int]) -> None:
        """Take notice of the event at `place`, which ends the answer and `blocks` with it."""
        self._ends[place] = blocks

    def note_input(self, index: int | None, piece: str) -> bool:
        """Take notice of a piece of a block's input; whether it is the first of such a block.

        Some gateways send the whole input in the start and an empty piece after it, which says
        nothing.
        """
        if index not in self.inputs or not piece.strip():
            return False
        self.inputs.discard(index)
        return True

    def edit(self, events: list[bytes], marks: Sequence[Mark], *, complete: bool) -> None:
        """Complete the events; see `EventFilter`."""
        for mark in marks:
            place, index = mark.place, mark.index
            match mark.type:
                case "message_start":
                    events[place] = self._complete_start(events[place])
                case "content_block_start":
                    self._has_calls = self._has_calls or mark.block == "tool_use"
                    events[place] = self._complete_block(events[place], index)
                case "content_block_delta":
                    # The input comes in pieces as well.
                    self._take_text(index)
                case "content_block_stop" if index in self._texts:
                    self.inputs.discard(index)
                    events[place] = self._input_delta(index) + events[place]
                case "message_delta":
                    made = self._complete_end(events[place])
                    events[place] = self._endings(place) + made
                case "message_stop":
                    events[place] = self._input_deltas() + self._endings(place) + events[place]
                case _:
                    pass

    def _complete_start(self, raw: bytes) -> bytes:
        value = decode_json(data_of(raw))
        message = value.get("message") if isinstance(value, dict) else None
        if not isinstance(message, dict):
            return raw
        made = message
        usage = _usage_in(message)
        if not _prompt_tokens(usage):
            self._prompt = self.usage.input_tokens = estimate(self._client_body)
            counts = {"output_tokens": 0, **usage, "input_tokens": self._prompt}
            made = {**made, "usage": counts}
        if not isinstance(message.get("content"), list):
            made = {**made, "content": []}
        return raw if made is message else json_event({**value, "message": made})

    def _complete_end(self, raw: bytes) -> bytes:
        value = decode_json(data_of(raw))
        if not isinstance(value, dict):
            return raw
        usage = _usage_in(value)
        counts = dict(usage)
        if self._prompt is not None and not _prompt_tokens(usage) and "input_tokens" in usage:
            counts["input_tokens"] = self._prompt
        if not usage.get("output_tokens") and self.written:
            counts["output_tokens"] = _tokens(self.written)
        self.usage.take(counts)
        delta = value.get("delta")
        known = delta if isinstance(delta, dict) else {"stop_reason": None}
        ended = _with_own_reason(known, self._has_calls)
        if counts != usage or not usage or ended is not delta:
            return json_event({**value, "delta": ended, "usage": counts or {"output_tokens": 0}})
        return raw

    def _complete_block(self, raw: bytes, index: int | None) -> bytes:
        """The start of a block with the text that its deltas continue.

        The input of a call is taken out, for the delta that has to bring it.
        """
        try:
            value = decode_as(_MEMBERS, data_of(raw))
            block = _MEMBERS.decode(value["content_block"])
            text_member = _TEXT_MEMBERS.get(bytes(block.get("type", b"")))
            if text_member and bytes(block.get(text_member, b"null")) == b"null":
                block[text_member] = msgspec.Raw(b'""')
                value["content_block"] = msgspec.Raw(msgspec.json.encode(block))
                return event("content_block_start", msgspec.json.encode(value))
            text = bytes(block.get("input", b"")).strip()
            if text in _EMPTY_INPUTS:
                return raw
            if text.startswith(b'"'):
                # The input as text.
                text = msgspec.json.decode(text, type=str).encode()
            if not isinstance(decode_json(text), dict):
                return raw
            block["input"] = msgspec.Raw(b"{}")
            value["content_block"] = msgspec.Raw(msgspec.json.encode(block))
        except (KeyError, *UNREADABLE):
            return raw
        self._texts[index] = text
        self._size += len(text)
        if self._size > MAX_HELD:
            raise TooMuchHeld
        return event("content_block_start", msgspec.json.encode(value))

    def _endings(self, place: int) -> bytes:
        """What has to come before the event at `place`, if it ends the answer."""
        blocks = self._ends.pop(place, None)
        if blocks is None:
            return b""
        # No more pieces of an input come.
        ends = [json_event({"type": "content_block_stop", "index": index}) for index in blocks]
        return self._input_deltas() + b"".join(ends)

    def _input_deltas(self) -> bytes:
        """The inputs of the blocks that have not ended."""
        return b"".join([self._input_delta(index) for index in list(self._texts)])

    def _input_delta(self, index: int | None) -> bytes:
        """The input that came in the start of a block, as a delta; nothing if there is none."""
        text = self._take_text(index)
        if text is None:
            return b""
        delta = {"type": "input_json_delta", "partial_json": text.decode("utf-8", "replace")}
        return json_event({"type": "content_block_delta", "index": index, "delta": delta})

    def _take_text(self, index: int | None) -> bytes | None:
        text = self._texts.pop(index, None)
        if text is not None:
            self._size -= len(text)
        return text


def is_reason(reason: object) -> bool:
    """Whether a stop reason says that the answer has ended."""
    return isinstance(reason, str) and not is_absent(reason)


def needs_completion(reason: str, usage: Usage) -> bool:
    """Whether `complete_message` has something to add to a message."""
    is_foreign = reason != "" and reason not in _OWN_REASONS
    return is_foreign or not (usage.prompt_tokens and usage.output_tokens)


def complete_message(raw: bytes, client_body: Body, usage: Usage) -> bytes:
    """A whole message with Anthropic's stop reason, and with estimates for the token counts that it
    lacks; `usage` gets them too.
    """
    # Its content keeps its bytes, with numbers as the model has written them.
    try:
        members = decode_as(_MEMBERS, raw)
        content = _ITEMS.decode(members.get("content", b"[]"))
        kinds = [bytes(_MEMBERS.decode(block).get("type", b"")) for block in content]
    except UNREADABLE:
        return raw
    value: dict[str, Any] = {**members}
    has_calls = _CALL in kinds
    reason, sequence = (
        decode_json(value.get(name, b"")) for name in ("stop_reason", "stop_sequence")
    )
    if isinstance(reason, str):
        value["stop_reason"] = _own_reason(reason, has_calls=has_calls, sequence=sequence)
    counts = dict(_usage_in({"usage": decode_json(value.get("usage", b""))}))
    if not usage.prompt_tokens:
        counts["input_tokens"] = usage.input_tokens = estimate(client_body)
    if not usage.output_tokens and content:
        counts["output_tokens"] = usage.output_tokens = _tokens(len(value["content"]))
    counts.setdefault("output_tokens", 0)
    head = {"type": "message", "role": "assistant"}
    return msgspec.json.encode({**head, **value, "usage": counts})


def _own_reason(reason: str, *, has_calls: bool, sequence: object = None) -> str:
    """Anthropic's word for a stop reason.

    Some gateways pass on those of OpenAI's format, in which a client sees neither a cut answer nor
    a refusal. `sequence` is the stop sequence that the model has written, if any.
    """
    if reason in _OWN_REASONS:
        return reason
    if (end := read_end(reason)) is End.TURN:
        if isinstance(sequence, str) and sequence:
            return "stop_sequence"
        return "tool_use" if has_calls else "end_turn"
    return _OWN_REASONS_BY_END.get(end, reason)


def _with_own_reason(delta: dict[str, Any], has_calls: bool) -> dict[str, Any]:
    """What ends a message with Anthropic's stop reason; the very same value if it has it."""
    reason = delta.get("stop_reason")
    if not isinstance(reason, str) or reason in _OWN_REASONS:
        return delta
    own = None
    if is_reason(reason):
        own = _own_reason(reason, has_calls=has_calls, sequence=delta.get("stop_sequence"))
    return {**delta, "stop_reason": own}


def _usage_in(value: dict[str, Any]) -> dict[str, Any]:
    usage = value.get("usage")
    return usage if isinstance(usage, dict) else {}


def _prompt_tokens(usage: dict[str, Any]) -> int:
    counts = Usage()
    counts.take(usage)
    return counts.prompt_tokens or 0


def _tokens(written: int) -> int:
    return max(1, round(written / BYTES_A_TOKEN))
