"""Chat completions, streamed or whole, as Anthropic's events.

What has arrived goes on at once, as far as Anthropic's grammar allows: one block after the other,
none of them reopened. Where the upstream's meaning is open, the reading is chosen that loses
nothing. A missing end is never made up.

A whole completion goes through the same reducer, as a single delta.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from ccfallback.messages.assemble import to_message
from ccfallback.messages.body import Body
from ccfallback.messages.errors import UpstreamError, read_error
from ccfallback.messages.sse import EventSplitter, EventTooLong, data_of, fields_of
from ccfallback.messages.tokens import Usage
from ccfallback.wire.filters import EventFilter
from ccfallback.wire.format import Whole
from ccfallback.wire.openai import answer, chunks, errors
from ccfallback.wire.openai.answer import MessageHead, ShownThinking
from ccfallback.wire.openai.blocks import Blocks
from ccfallback.wire.openai.calls import Calls, is_object, tool_input
from ccfallback.wire.openai.chunks import Call, Choice, Chunk, Delta, Function
from ccfallback.wire.openai.reasoning import ReasoningDetails, ThinkTags

_DONE: Final = b"[DONE]"
_EMPTY: Final = "the answer is empty"


class Reducer:
    """Turns the deltas of one answer into Anthropic's events."""

    def __init__(
        self, client_body: Body, filters: Sequence[EventFilter] = (), *, think_tags: bool = False
    ) -> None:
        self.complete = False
        self.finished = False
        self.error: UpstreamError | None = None
        self.usage = Usage()
        self._client_body = client_body
        self._id: str | None = None
        self._head: MessageHead | None = None
        self._blocks = Blocks(lambda: self._get_head().message(), filters)
        self._calls: Calls | None = None
        self._shown = ShownThinking.of(client_body)
        self._details = ReasoningDetails()
        self._tags = ThinkTags() if think_tags else None
        self._held = ""
        """Whitespace before a text that may never come."""
        self._held_thinking = ""
        self._late: list[str] = []
        """Text that came in the middle of a call."""
        self._hidden = 0
        """Bytes of thinking that the client does not see."""
        self._is_refusal = False
        self._finish: str | None = None
        self._stop_sequence: str | None = None
        self._counts: object = None

    def take_whole(self, chunk: Chunk, choice: Choice, message: Delta) -> bytes:
        """The events of a whole completion; none if it is empty, which sets `error`."""
        self._id = chunk.id
        self._note_end(choice)
        counts = chunk.usage or (chunk.x_groq and chunk.x_groq.usage) or choice.usage
        self._counts = counts or answer.llama_usage(chunk.timings)
        self._details.set(message.reasoning_details)
        self._content(message)
        self._flush_tags()
        pieces: list[Call] = []
        arguments = ""
        for call_id, function in _whole_calls(message):
            arguments = function.arguments or ""
            value = tool_input(arguments, cut=answer.is_cut(self._finish))
            text = msgspec.json.encode(value).decode()
            # The number tells apart calls that have the same id, or none.
            pieces.append(Call(len(pieces), call_id, Function(function.name, text)))
            # An estimate counts what the model wrote.
            self._hidden += _size(arguments) - _size(text)
        if pieces:
            self._call(pieces)
        self._end(is_whole=not arguments.strip() or is_object(arguments))
        return self._blocks.take()

    def _delta(self, delta: Delta) -> None:
        if delta.reasoning_details:
            self._details.add(delta.reasoning_details)
        self._content(delta)
        if delta.tool_calls:
            self._call(delta.tool_calls)
        elif delta.function_call is not None:
            self._call([Call(index=-1, function=delta.function_call)])

    def _content(self, delta: Delta) -> None:
        if thinking := delta.thinking:
            self._think(thinking)
        if content := delta.content:
            if self._tags is not None and not self._tags.is_past:
                thinking, content = self._tags.split(content)
                self._think(thinking)
            if content:
                self._text(content)
        if delta.refusal:
            self._is_refusal = True
            self._flush_tags()
            self._text(delta.refusal)

    def _flush_tags(self) -> None:
        if self._tags is not None:
            thinking, content = self._tags.flush()
            self._think(thinking)
            if content:
                self._text(content)

    def _text(self, text: str) -> None:
        blocks = self._blocks
        if blocks.open != "text":
            text = self._held + text
            if text.isspace():
                # Many models write two line ends before a call: alone, they make a block that
                # the API refuses in the next request.
                self._held = text
                return
            self._held = ""
            if self._calls is not None and not self._calls.give_way():
                self._late.append(text)
                return
            self._close_thinking()
        blocks.text(text)

    def _think(self, text: str) -> None:
        blocks = self._blocks
        if not text or (self._calls is not None and not self._calls.give_way()):
            return
        if blocks.open != "thinking":
            text = self._held_thinking + text
            if text.isspace():
                self._held_thinking = text
                return
            self._held_thinking = ""
        if self._shown is ShownThinking.ALL:
            blocks.thinking(text)
            return
        self._hidden += _size(text)
        if self._shown is ShownThinking.BLOCKS and blocks.open != "thinking":
            blocks.thinking("")
        elif blocks.started:
            # Without it the client would hear nothing for as long as the model thinks.
            blocks.ping()

    def _call(self, pieces: list[Call]) -> None:
        if self._calls is None:
            self._calls = Calls(self._blocks, self._get_head())
        self._held = ""
        if self._blocks.open != "tool_use":
            self._close_thinking()
        self._calls.take(pieces)

    def _close_thinking(self) -> None:
        """Sign the open thinking; details without any text get a block of their own."""
        if self._shown is ShownThinking.NONE:
            return
        if self._details and self._blocks.open in ("", "text"):
            self._blocks.thinking("")
        if self._blocks.open == "thinking":
            self._blocks.close(self._details.take_envelope())

    def _note_end(self, choice: Choice) -> None:
        if choice.finish_reason:
            self._finish = choice.finish_reason
        named = answer.stop_sequence(choice.stop_reason, self._client_body)
        self._stop_sequence = named or self._stop_sequence

    def _end(self, *, is_whole: bool | None = None) -> None:
        """End the answer; `is_whole` says whether the last call is, if that is known."""
        self._flush_tags()
        if self._calls is not None:
            self._calls.finish(cut=answer.is_cut(self._finish))
        if self._late:
            self._blocks.text("".join(self._late))
        if self._blocks.started:
            self._blocks.close(self._details.take_envelope())
        if is_whole is None:
            is_whole = self._calls is None or self._calls.last_is_whole
        reason = answer.stop_reason(
            self._finish,
            has_calls=bool(self._calls),
            is_whole=is_whole,
            is_refusal=self._is_refusal,
        )
        if reason == "end_turn" and not self._blocks.started:
            self.error = UpstreamError("api_error", _EMPTY)
            return
        if not self._blocks.started:
            # An answer that was cut or refused may have nothing else.
            self._close_thinking()
        if reason == "end_turn" and self._stop_sequence is not None:
            reason = "stop_sequence"
        else:
            self._stop_sequence = None
        thinking = answer.take_usage(self.usage, self._counts)
        sent = self._blocks.size + self._hidden
        usage = answer.client_usage(self.usage, thinking, self._client_body, sent)
        self._blocks.end(reason, self._stop_sequence, usage)
        self.complete = self.finished = True

    def _get_head(self) -> MessageHead:
        if self._head is None:
            self._head = MessageHead(self._client_body, self._id)
        return self._head


class OpenAIStream(Reducer):
    """Translates a stream of chunks; see `StreamTranslator`."""

    def __init__(
        self, client_body: Body, filters: Sequence[EventFilter] = (), *, think_tags: bool = False
    ) -> None:
        super().__init__(client_body, filters, think_tags=think_tags)
        self.heard = False
        self.started = False
        self.signatures: list[str] = []
        self._splitter = EventSplitter()

    def feed(self, chunk: bytes) -> bytes:
        """The events that are certain now. Never raises."""
        if self.error is not None or self.finished:
            return b""
        try:
            events = self._splitter.feed(chunk)
        except EventTooLong:
            self.error = UpstreamError("api_error", "an event without an end")
            return b""
        for event in events:
            self._event(event)
            if self.error is not None and self._finish is not None and not self.finished:
                # What follows the finish reason does not undo the answer.
                self.error = None
                self._end()
            if self.error is not None or self.finished:
                break
        return self._taken()

    @property
    def stopped(self) -> bool:
        """Whether a finish reason has arrived."""
        return self._finish is not None

    def finish(self) -> bytes:
        """The end of the answer, if it has come to one."""
        if self.error is not None or self.finished:
            return b""
        self._event(self._splitter.rest, last=True)
        if self.error is None and not self.finished and self._finish is not None:
            self._end()
        return self._taken()

    def _taken(self) -> bytes:
        self.started = self._blocks.started
        return self._blocks.take()

    def _event(self, event: bytes, *, last: bool = False) -> None:
        # Nearly every event is one line `data: {…}`.
        if event.startswith(b"data: {") and event.find(b"\n") == len(event) - 2:
            data = event[6:-2]
            named_error = False
        else:
            data = data_of(event).strip()
            if not data:
                return
            named_error = (b"event", b"error") in fields_of(event)
        chunk = chunks.read(data)
        if chunk is None:
            self._other_event(data, named_error, last)
            return
        self.heard = True
        if named_error or chunk.error or chunk.choices is None or chunk.object == "error":
            self.error = _error_in(data, named_error)
        elif chunk.x_groq is not None and chunk.x_groq.error:
            self.error = errors.error_inside({"error": chunk.x_groq.error})
        if self.error is None:
            self._chunk(chunk)

    def _other_event(self, data: bytes, named_error: bool, last: bool) -> None:
        """Read other data: the end marker, an error in a list, a sign of life, or rubbish."""
        if data.startswith(_DONE):
            self._done()
        elif named_error or data.startswith(b"["):
            self.error = _error_in(data, named_error)
        elif data.startswith(b"{") and not last:
            # A piece of the answer is lost, and the rest would read as if it were whole.
            self.error = UpstreamError("api_error", "an event that is not JSON")

    def _chunk(self, chunk: Chunk) -> None:
        self._id = self._id or chunk.id
        usage = chunk.usage or (chunk.x_groq and chunk.x_groq.usage)
        for choice in chunk.choices or ():
            if choice.index:
                continue
            usage = usage or choice.usage
            self.error = answer.failure(choice.finish_reason, choice.error)
            if self.error is not None:
                return
            delta = choice.delta or choice.message
            if delta is not None:
                self._delta(delta)
            if choice.finish_reason:
                self._note_end(choice)
        self._counts = usage or answer.llama_usage(chunk.timings) or self._counts
        if usage and not chunk.choices and self._finish is not None:
            # OpenAI sends the usage last, so there is no need to wait for `[DONE]`.
            self._end()

    def _done(self) -> None:
        """End at the end marker, even without a finish reason, unless a call is incomplete."""
        if self._finish is None and self._calls is not None and not self._calls.last_is_whole:
            self.error = UpstreamError("api_error", "the stream ended in the middle of a call")
        else:
            self._end()


def whole(raw: bytes, client_body: Body, *, think_tags: bool = False) -> Whole:
    """The message for a whole completion, or the error in it."""
    chunk = chunks.read(raw)
    if chunk is None or chunk.error or not chunk.choices or chunk.object == "error":
        error = errors.error_inside(chunks.decoded(raw))
        if error is not None or chunk is None:
            return Whole(raw, error=error or UpstreamError("", "the answer is not JSON"))
    choice = next((choice for choice in chunk.choices or () if not choice.index), None)
    message = None if choice is None else choice.message or choice.delta
    if choice is None or message is None:
        return Whole(raw, error=UpstreamError("api_error", "the answer holds no choice"))
    failure = answer.failure(choice.finish_reason, choice.error)
    if failure is not None:
        return Whole(raw, error=failure)
    reducer = Reducer(client_body, think_tags=think_tags)
    events = reducer.take_whole(chunk, choice, message)
    if reducer.error is not None:
        return Whole(raw, error=reducer.error)
    return Whole(to_message(events), usage=reducer.usage)


def _whole_calls(message: Delta) -> list[tuple[str | None, Function]]:
    """The ids and functions of a whole message's calls, the one of the old kind included."""
    calls = message.tool_calls or []
    if not calls and message.function_call is not None:
        calls = [Call(function=message.function_call)]
    return [
        (call.id, call.function)
        for call in calls
        if call.type in (None, "", "function") and call.function and call.function.name
    ]


def _size(text: str) -> int:
    """The bytes of a text in JSON, which do not depend on how the text is cut."""
    return len(msgspec.json.encode(text)) - 2


def _error_in(data: bytes, named_error: bool) -> UpstreamError | None:
    error = errors.error_inside(chunks.decoded(data))
    if error is None and named_error:
        error = errors.error_for_status(500, read_error(data).message)
    return error
