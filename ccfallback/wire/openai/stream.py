"""Chat completions, streamed or whole, as Anthropic's events.

What has arrived goes on at once, as far as Anthropic's grammar allows: one block after the other,
none of them reopened. Where the upstream's meaning is open, the reading is chosen that loses
nothing. A missing end is never made up.

A whole completion goes through the same reducer, as a single delta.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ccfallback.messages.assemble import to_message
from ccfallback.messages.body import Body
from ccfallback.messages.errors import UpstreamError, read_error
from ccfallback.messages.output_format import answer_schema
from ccfallback.messages.sse import BOM, EventTooLong
from ccfallback.messages.tokens import Usage
from ccfallback.wire.filters import EventFilter
from ccfallback.wire.format import IMPOSSIBLE_COUNT, Whole
from ccfallback.wire.openai import answer, chunks, errors
from ccfallback.wire.openai.answer import MessageHead, ShownThinking
from ccfallback.wire.openai.arguments import Held, HeldTooMuch, is_object, tool_input
from ccfallback.wire.openai.blocks import Blocks
from ccfallback.wire.openai.calls import Calls
from ccfallback.wire.openai.chunks import Call, Choice, Chunk, Delta, Function
from ccfallback.wire.openai.lines import MAX_EVENT, LineSplitter
from ccfallback.wire.openai.reasoning import ReasoningDetails, ThinkTags, split_unopened
from ccfallback.wire.openai.sources import Sources

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
        self._head = MessageHead(client_body)
        self._blocks = Blocks(self._head.message, filters)
        self._calls: Calls | None = None
        self._shown = ShownThinking.of(client_body)
        self._details = ReasoningDetails()
        self._think_tags = think_tags
        self._tags = ThinkTags() if think_tags else None
        self._held = Held()
        self._space: list[str] = []
        """Whitespace before a text that may never come."""
        self._thinking_space: list[str] = []
        self._has_thinking = False
        """Whether thinking has come in a member of its own."""
        self._has_text = False
        self._late: list[str] = []
        """Text that came in the middle of a call."""
        self._hidden = 0
        """Bytes of thinking that the client does not see."""
        self._is_refusal = False
        self._finish: str | None = None
        self._stop_sequence: str | None = None
        self._counts: object = None
        self._sources: Sources | None = None
        self._signed_call: Mapping[str, Any] | None = None
        """What the thinking before the next call keeps of it."""

    @property
    def written(self) -> int:
        """How many bytes of content have come."""
        return max(0, self._blocks.size + self._hidden)

    def take_whole(self, chunk: Chunk, choice: Choice, message: Delta) -> bytes:
        """The events of a whole completion; none if it is empty, which sets `error`."""
        self._head.upstream_id = chunk.id
        self._note_end(choice)
        counts = chunk.usage or (chunk.x_groq and chunk.x_groq.usage) or choice.usage
        self._counts = counts or answer.llama_usage(chunk.timings)
        if chunk.citations or chunk.search_results:
            self._note_sources().take_chunk(chunk)
        self._details.set(message.reasoning_details)
        if self._think_tags and message.content and not message.thinking:
            thinking, message.content = split_unopened(message.content)
            self._think(thinking)
        self._content(message)
        self._flush_tags()
        pieces: list[Call] = []
        arguments = ""
        for call_id, function, extra in _whole_calls(message):
            arguments = function.arguments or ""
            value = tool_input(arguments, cut=answer.is_cut(self._finish))
            text = msgspec.json.encode(value).decode()
            # The number tells apart calls that have the same id, or none.
            made = Function(function.name, text)
            pieces.append(Call(len(pieces), call_id, made, extra_content=extra))
            # An estimate counts what the model wrote.
            self._hidden += _size(arguments) - _size(text)
        if pieces:
            self._call(pieces)
        self._end(is_whole=not arguments.strip() or is_object(arguments))
        return self._blocks.take()

    def _delta(self, delta: Delta) -> None:
        if delta.reasoning_details:
            self._held.change(self._details.add(delta.reasoning_details))
        self._content(delta)
        if delta.tool_calls:
            self._call(delta.tool_calls)
        elif delta.function_call is not None:
            self._call([Call(index=-1, function=delta.function_call)])

    def _without_repeats(self, message: Delta) -> Delta:
        """What a whole message adds to the deltas before it, which it may only say again."""
        calls = _calls_of(message)
        return Delta(
            content=None if self._has_text else message.content,
            reasoning_content=None if self._has_thinking else message.thinking,
            tool_calls=calls if self._calls is None else self._calls.new(calls),
            refusal=None if self._has_text else message.refusal,
        )

    def _content(self, delta: Delta) -> None:
        if thinking := delta.thinking:
            self._has_thinking = True
            if not self._has_text and (self._tags is None or self._tags.lacks_start):
                # The content may say the same thinking again, between tags.
                self._tags = ThinkTags()
            self._think(thinking)
        if content := delta.content:
            self._has_text = True
            if self._tags is not None and not self._tags.is_past:
                thinking, content = self._tags.split(content)
                self._think_in_tags(thinking)
            if content:
                self._text(content)
        if delta.annotations or delta.executed_tools:
            self._note_sources().take_delta(delta)
        if delta.refusal:
            self._is_refusal = self._has_text = True
            self._flush_tags()
            self._text(delta.refusal)

    def _flush_tags(self) -> None:
        if self._tags is not None:
            thinking, content = self._tags.flush()
            if self._calls is None:
                self._think_in_tags(thinking)
            if content:
                self._text(content)
            if self._calls is None and not answer.is_cut(self._finish):
                self._text(self._tags.take_unended())

    def _flush_start_tag(self) -> None:
        """Write what looked like the start of a tag, before a call. An end tag may go on after."""
        if self._tags is not None and not self._tags.is_inside:
            self._flush_tags()

    def _think_in_tags(self, text: str) -> None:
        """Take thinking from between tags, unless a member of its own says the same."""
        if not self._has_thinking:
            self._think(text)

    def _text(self, text: str) -> None:
        blocks = self._blocks
        if not text:
            return
        if blocks.open != "text":
            if text.isspace() and not self._late:
                # Many models write two line ends before a call: alone, they make a block that
                # the API refuses in the next request.
                self._space.append(text)
                self._held.change(len(text))
                return
            text = self._release(self._space, text)
            if self._calls is not None and not self._calls.give_way():
                self._late.append(text)
                self._held.change(len(text))
                return
            text = self._release(self._late, text)
            self._close_thinking()
        blocks.text(text)

    def _think(self, text: str) -> None:
        blocks = self._blocks
        if not text or (self._calls is not None and not self._calls.give_way()):
            return
        if blocks.open != "thinking":
            if text.isspace():
                self._thinking_space.append(text)
                self._held.change(len(text))
                return
            text = self._release(self._thinking_space, text)
        if self._shown is ShownThinking.ALL:
            blocks.thinking(text)
            return
        self._hidden += _size(text)
        if self._shown is ShownThinking.BLOCKS and blocks.open != "thinking":
            blocks.thinking("")
        elif blocks.started:
            # Without it the client would hear nothing for as long as the model thinks.
            blocks.ping()

    def _release(self, space: list[str], text: str = "") -> str:
        """A text with the whitespace that was held before it."""
        if not space:
            return text
        before = "".join(space)
        space.clear()
        self._held.change(-len(before))
        return before + text

    def _call(self, pieces: list[Call]) -> None:
        if self._calls is None:
            self._calls = Calls(self._blocks, self._head, self._held)
        if self._blocks.open != "tool_use" and _has_pieces(pieces):
            self._flush_start_tag()
        self._release(self._space)
        if self._blocks.open != "tool_use":
            # Gemini signs the first of several calls.
            self._signed_call = answer.signed_call(pieces[0].extra_content) if pieces else None
            self._close_thinking()
        self._calls.take(pieces)

    def _close_thinking(self) -> None:
        """Sign the open thinking; details without any text get a block of their own."""
        if self._shown is ShownThinking.NONE:
            return
        signed, self._signed_call = self._signed_call or {}, None
        if (self._details or signed) and self._blocks.open in ("", "text"):
            self._blocks.thinking("")
        if self._blocks.open == "thinking":
            self._blocks.close({**(self._details.take_envelope() or {}), **signed})

    def _note_end(self, choice: Choice) -> None:
        if answer.is_end(choice.finish_reason):
            self._finish = choice.finish_reason
        named = answer.stop_sequence(choice.stop_reason, self._client_body)
        self._stop_sequence = named or self._stop_sequence

    def _end(self, *, is_whole: bool | None = None) -> None:
        """End the answer; `is_whole` says whether the last call is, if that is known."""
        thinking = answer.take_usage(self.usage, self._counts)
        if self.usage.is_impossible:
            self.error = IMPOSSIBLE_COUNT
            return
        self._flush_tags()
        if self._calls is not None:
            self._calls.finish(cut=answer.is_cut(self._finish))
        if self._late:
            self._blocks.text("".join(self._late))
        if self._sources is not None and self._may_list_sources():
            self._blocks.text(self._sources.text())
        if self._blocks.started:
            self._blocks.close(self._details.take_envelope())
        if is_whole is None:
            is_whole = self._calls is None or self._calls.are_whole
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
        usage = answer.client_usage(self.usage, thinking, self._client_body, self.written)
        self._blocks.end(reason, self._stop_sequence, usage)
        self.complete = self.finished = True

    def _note_sources(self) -> Sources:
        if self._sources is None:
            self._sources = Sources()
        return self._sources

    def _may_list_sources(self) -> bool:
        """Whether a text ends the answer, and no program reads it."""
        return (
            self._blocks.open == "text"
            and self._calls is None
            and self._stop_sequence is None
            and answer.is_good_end(self._finish)
            and answer_schema(self._client_body) is None
        )


class OpenAIStream(Reducer):
    """Translates a stream of chunks; see `StreamTranslator`."""

    def __init__(
        self,
        client_body: Body,
        filters: Sequence[EventFilter] = (),
        *,
        think_tags: bool = False,
        think_start: bool = False,
    ) -> None:
        super().__init__(client_body, filters, think_tags=think_tags)
        if think_start:
            self._tags = ThinkTags(lacks_start=True)
        self.heard = False
        self.started = False
        self.signatures: list[str] = []
        self._splitter = LineSplitter()
        self._data: list[bytes] = []
        """The lines of an event whose data is not JSON line by line."""
        self._data_size = 0
        self._named_error = False
        self._by_deltas = False
        """Whether the answer comes in deltas."""
        self._calls_choice: int | None = None
        """The other choice that the calls come from."""
        self.stopped = False
        """Whether a finish reason has arrived that ends the answer, if nothing more follows."""
        self._ended: set[int] = set()
        """The choices that have a finish reason, and nothing after it."""
        self._has_early_end = False
        """Whether content has followed a finish reason of the same choice."""

    def feed(self, chunk: bytes) -> bytes:
        """The events that are certain now. Never raises."""
        if self.error is not None or self.finished:
            return b""
        try:
            for line in self._splitter.feed(chunk):
                if line.startswith(b"data: {") and not self._data:
                    self._datum(line[6:])
                else:
                    self._line(line)
                if self.error is not None or self.finished:
                    break
        except EventTooLong:
            self.error = UpstreamError("api_error", "an event without an end")
        except HeldTooMuch as error:
            self.error = UpstreamError("api_error", str(error))
        self._forgive()
        return self._take()

    def finish(self) -> bytes:
        """The end of the answer, if it has come to one."""
        if self.error is not None or self.finished:
            return b""
        try:
            for line in self._splitter.rest.splitlines():
                self._line(line)
            self._end_event(last=True)
            is_empty = self._finish is not None and not self._has_content()
            if self.error is None and not self.finished and (self.stopped or is_empty):
                self._end()
        except HeldTooMuch as error:
            self.error = UpstreamError("api_error", str(error))
        self._forgive()
        return self._take()

    def _forgive(self) -> None:
        """End the answer if an error has come after it: that does not undo the answer."""
        if self.error is not None and self.stopped and not self.finished:
            self.error = None
            self._end()

    def _take(self) -> bytes:
        self.started = self._blocks.started
        return self._blocks.take()

    def _line(self, line: bytes) -> None:
        """Read one line of an event. Each data line of this format is JSON by itself.

        So a line counts at once: some servers never send the empty line that ends an event.
        """
        if not line:
            self._end_event()
            return
        name, _, value = line.removeprefix(BOM).partition(b":")
        value = value.strip()
        if name == b"event":
            self._named_error = value == b"error"
        elif name == b"error" and value:
            # Some servers write an error as a field of its own.
            self.error = _error_in(value, named_error=True)
        elif name == b"data" and value:
            if self._data:
                self._keep(value)
            else:
                self._datum(value)

    def _keep(self, data: bytes) -> None:
        self._data.append(data)
        self._data_size += len(data)
        if self._data_size > MAX_EVENT:
            raise EventTooLong

    def _end_event(self, *, last: bool = False) -> None:
        """Read the data of an event that has more than one line of it."""
        if self._data:
            data = b"\n".join(self._data)
            self._data, self._data_size = [], 0
            chunk = chunks.read(data)
            if chunk is not None:
                self._object(chunk, data)
            elif data.startswith(b"{") and not last and not self._named_error:
                # A piece of the answer is lost, and the rest would read as if it were whole.
                self.error = UpstreamError("api_error", "an event that is not JSON")
            elif not (data.startswith(b"{") and last):
                self.error = _error_in(data, self._named_error)
        self._named_error = False

    def _datum(self, data: bytes) -> None:
        """Read one line of data: a chunk, the end marker, an error, or a sign of life."""
        chunk = chunks.read(data)
        if chunk is not None:
            self._object(chunk, data)
        elif data.startswith(_DONE):
            self._done()
        elif data.startswith((b"{", b"[")) or self._named_error:
            self._keep(data)

    def _object(self, chunk: Chunk, data: bytes) -> None:
        self.heard = True
        if self._finish is not None:
            self._reopen(chunk)
        if self._named_error or chunk.error or chunk.choices is None or chunk.object == "error":
            self.error = _error_in(data, self._named_error)
        elif chunk.x_groq is not None and chunk.x_groq.error:
            self.error = errors.error_inside({"error": chunk.x_groq.error})
        if self.error is None:
            self._chunk(chunk)

    def _chunk(self, chunk: Chunk) -> None:
        self._head.upstream_id = self._head.upstream_id or chunk.id
        usage = chunk.usage or (chunk.x_groq and chunk.x_groq.usage)
        for choice in chunk.choices or ():
            if choice.index and not self._has_the_calls(choice):
                continue
            usage = usage or choice.usage
            reason = choice.finish_reason
            has_reason = reason is not None and answer.is_end(reason)
            if has_reason or choice.error:
                self.error = answer.failure(reason, choice.error)
                if self.error is not None:
                    return
            self._choice(choice)
            if has_reason:
                self._note_end(choice)
        self._counts = usage or answer.llama_usage(chunk.timings) or self._counts
        if chunk.citations or chunk.search_results:
            self._note_sources().take_chunk(chunk)
        if usage and not chunk.choices and self.stopped:
            # OpenAI sends the usage last, so there is no need to wait for `[DONE]`.
            self._end()

    def _choice(self, choice: Choice) -> None:
        """Take the delta of a choice, or its whole message."""
        delta = choice.delta
        if choice.index:
            # The text of another choice would be another answer.
            delta = delta and Delta(tool_calls=_calls_of(delta))
        if delta is not None:
            self._delta(delta)
            self._by_deltas = self._by_deltas or _has_content(delta)
        if choice.message is not None and not choice.index:
            self._delta(
                self._without_repeats(choice.message) if self._by_deltas else choice.message
            )

    def _has_content(self) -> bool:
        return self._has_text or self._has_thinking or self._calls is not None

    def _has_the_calls(self, choice: Choice) -> bool:
        """Whether another choice than the first has the calls, as GitHub Copilot writes them."""
        if self._calls is None and choice.delta is not None and choice.delta.tool_calls:
            self._calls_choice = choice.index
        return self._calls_choice is not None and choice.index == self._calls_choice

    def _note_end(self, choice: Choice) -> None:
        """Note a finish reason, and whether it ends the answer.

        Some servers write `stop` into each chunk, or into the first one. Once that is known of a
        stream, only a finish reason without content ends it, or the end marker.
        """
        super()._note_end(choice)
        if self._has_early_end and self._adds_to(choice):
            return
        self._ended.add(choice.index or 0)
        if self._calls_choice is None:
            # An empty answer has not ended: a model may think for long after an early `stop`.
            self.stopped = self._has_content() or not answer.is_good_end(self._finish)
        elif self._calls_choice in self._ended:
            self.stopped = 0 in self._ended or not (self._has_text or self._has_thinking)

    def _reopen(self, chunk: Chunk) -> None:
        """Undo the end of the answer if a chunk adds to it."""
        for choice in chunk.choices or ():
            if self._adds_to(choice):
                self.stopped = False
                self._stop_sequence = None
                index = choice.index or 0
                self._has_early_end = self._has_early_end or index in self._ended
                self._ended.discard(index)

    def _adds_to(self, choice: Choice) -> bool:
        """Whether a choice adds content to the answer."""
        if choice.index:
            calls = [] if choice.delta is None else _calls_of(choice.delta)
            return self._has_the_calls(choice) and _has_pieces(calls)
        if choice.delta is not None and _has_content(choice.delta):
            return True
        message = choice.message
        if message is not None and self._by_deltas:
            message = self._without_repeats(message)
        return message is not None and _has_content(message)

    def _done(self) -> None:
        """End at the end marker, even without a finish reason, unless a call is incomplete.

        Some servers never send a finish reason.
        """
        has_end = self.stopped or answer.is_cut(self._finish)
        if not has_end and self._calls is not None and not self._calls.are_whole:
            self.error = UpstreamError("api_error", "the stream ended in the middle of a call")
        else:
            self._end()


def whole(raw: bytes, client_body: Body, *, think_tags: bool = False) -> Whole:
    """The message for a whole completion, or the error in it."""
    chunk = chunks.read(raw)
    if chunk is None or chunk.error or not chunk.choices or chunk.object == "error":
        error = errors.error_inside(chunks.decode_liberally(raw))
        if error is not None or chunk is None:
            return Whole(raw, error=error or UpstreamError("", "the answer is not JSON"))
    choices = chunk.choices or []
    choice = next((choice for choice in choices if not choice.index), None)
    message = None if choice is None else choice.message or choice.delta
    if message is None and choice is not None and answer.is_refused(choice.finish_reason):
        # Azure omits the message of an answer that it filters.
        message = Delta()
    if choice is not None and message is not None and not _calls_of(message):
        # GitHub Copilot has Claude's text in the first choice and its calls in the second.
        for other in choices:
            if calls := _calls_of(other.message or other.delta or Delta()):
                message.tool_calls, choice.finish_reason = calls, other.finish_reason
                break
    if choice is None or message is None:
        return Whole(raw, error=UpstreamError("api_error", "the answer holds no choice"))
    failure = answer.failure(choice.finish_reason, choice.error)
    if failure is not None:
        return Whole(raw, error=failure)
    reducer = Reducer(client_body, think_tags=think_tags)
    try:
        events = reducer.take_whole(chunk, choice, message)
    except HeldTooMuch as error:
        return Whole(raw, error=UpstreamError("api_error", str(error)))
    if reducer.error is not None:
        return Whole(raw, error=reducer.error)
    return Whole(to_message(events), usage=reducer.usage)


def _whole_calls(message: Delta) -> list[tuple[str | None, Function, Any]]:
    """The ids, functions and signatures of a whole message's calls, the one of the old kind
    included."""
    return [
        (call.id, call.function, call.extra_content)
        for call in _calls_of(message)
        if call.type in (None, "", "function") and call.function and call.function.name
    ]


def _calls_of(message: Delta) -> list[Call]:
    """The calls of a message, the one of the old kind included."""
    if not message.tool_calls and message.function_call is not None:
        return [Call(function=message.function_call)]
    return message.tool_calls or []


def _has_content(delta: Delta) -> bool:
    """Whether a message, or a piece of one, has any content."""
    return bool(delta.content or delta.refusal or delta.thinking or _has_pieces(_calls_of(delta)))


def _has_pieces(calls: list[Call]) -> bool:
    """Whether there is a name or a fragment of arguments in pieces of calls."""
    functions = (call.function for call in calls)
    return any(function and (function.name or function.arguments) for function in functions)


def _size(text: str) -> int:
    """The bytes of a text in JSON, which do not depend on how the text is cut."""
    return len(msgspec.json.encode(text)) - 2


def _error_in(data: bytes, named_error: bool) -> UpstreamError | None:
    error = errors.error_inside(chunks.decode_liberally(data))
    if error is None and named_error:
        error = errors.error_for_status(500, read_error(data).message)
    return error
