"""A stream of OpenAI chunks as Anthropic's events.

What has come goes on at once, as far as Anthropic's grammar lets it: one block after the other,
none of them reopened. Where the upstream leaves open what it means, the reading is chosen that
loses nothing; where the end is missing, none is made up.
"""

from collections.abc import Sequence
from typing import Final

from ccfallback.messages.body import Body
from ccfallback.messages.errors import UpstreamError, read_error
from ccfallback.messages.sse import EventSplitter, EventTooLong, data_of, fields_of
from ccfallback.messages.tokens import Usage
from ccfallback.wire.filters import EventFilter
from ccfallback.wire.openai import chunks, errors, stops
from ccfallback.wire.openai.blocks import Blocks
from ccfallback.wire.openai.calls import Calls
from ccfallback.wire.openai.chunks import Chunk, Delta
from ccfallback.wire.openai.details import Details
from ccfallback.wire.openai.shape import Shape, Thinking, size, thinking_wanted
from ccfallback.wire.openai.tags import ThinkTags
from ccfallback.wire.openai.usage import in_llama_timings, take, told

_DONE: Final = b"[DONE]"

EMPTY: Final = "the answer is empty"


class OpenAIStream:
    """Translates a stream of the other format; see `StreamTranslator`."""

    def __init__(
        self, asked: Body, filters: Sequence[EventFilter] = (), *, think_tags: bool = False
    ) -> None:
        self.heard = False
        self.started = False
        self.complete = False
        self.finished = False
        self.error: UpstreamError | None = None
        self.usage = Usage()
        self.signatures: list[str] = []
        self._asked = asked
        self._splitter = EventSplitter()
        self._id: str | None = None
        self._shape: Shape | None = None
        self._blocks = Blocks(lambda: self._its_shape().message(), filters)
        self._calls: Calls | None = None
        self._thinking = thinking_wanted(asked)
        self._details = Details()
        self._tags = ThinkTags() if think_tags else None
        self._held = ""
        """Whitespace before a text that may never come."""
        self._held_thought = ""
        self._late: list[str] = []
        """Text that came in the midst of a call."""
        self._hidden = 0
        """Bytes of thinking that the client does not see."""
        self._refused = False
        self._finish: str | None = None
        self._stop_sequence: str | None = None
        self._counts: object = None

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
            if self.error is not None or self.finished:
                break
        return self._taken()

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
        return self._blocks.taken()

    def _event(self, event: bytes, *, last: bool = False) -> None:
        # One line `data: {…}` is how nearly everybody writes it.
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
            self._no_object(data, named_error, last)
            return
        self.heard = True
        if named_error or chunk.error or chunk.choices is None or chunk.object == "error":
            self.error = _error_in(data, named_error)
        elif chunk.x_groq is not None and chunk.x_groq.error:
            self.error = errors.inside({"error": chunk.x_groq.error})
        if self.error is None:
            self._chunk(chunk)

    def _no_object(self, data: bytes, named_error: bool, last: bool) -> None:
        """Something else than a chunk: the end, an error in a list, a sign of life, or rubbish."""
        if data.startswith(_DONE):
            self._done()
        elif named_error or data.startswith(b"["):
            self.error = _error_in(data, named_error)
        elif data.startswith(b"{") and not last:
            # A piece of the answer is lost, and what is left would read as if it were whole.
            self.error = UpstreamError("api_error", "an event that is not JSON")

    def _chunk(self, chunk: Chunk) -> None:
        self._id = self._id or chunk.id
        usage = chunk.usage or (chunk.x_groq and chunk.x_groq.usage)
        for choice in chunk.choices or ():
            if choice.index:
                continue
            usage = usage or choice.usage
            self.error = stops.failure(choice.finish_reason, choice.error)
            if self.error is not None:
                return
            delta = choice.delta or choice.message
            if delta is not None:
                self._delta(delta)
            if choice.finish_reason:
                self._finish = choice.finish_reason
                said = stops.sequence(choice.stop_reason, self._asked)
                self._stop_sequence = said or self._stop_sequence
        self._counts = usage or in_llama_timings(chunk.timings) or self._counts
        if usage and not chunk.choices and self._finish is not None:
            # The reference sends this last, so there is no need to wait for `[DONE]`.
            self._end()

    def _delta(self, delta: Delta) -> None:
        if delta.reasoning_details:
            self._details.add(delta.reasoning_details)
        if thinking := delta.thinking:
            self._think(thinking)
        if content := delta.content:
            if self._tags is not None and not self._tags.past:
                thinking, content = self._tags.split(content)
                self._think(thinking)
            if content:
                self._text(content)
        if delta.refusal:
            self._refused = True
            self._text(delta.refusal)
        if delta.tool_calls:
            self._call(delta.tool_calls)
        elif delta.function_call is not None:
            self._call([chunks.Call(index=-1, function=delta.function_call)])

    def _text(self, text: str) -> None:
        blocks = self._blocks
        if blocks.open != "text":
            text = self._held + text
            if text.isspace():
                # Many say two line ends before a call: a block of that is refused later on.
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
            text = self._held_thought + text
            if text.isspace():
                self._held_thought = text
                return
            self._held_thought = ""
        if self._thinking is Thinking.SHOWN:
            blocks.thinking(text)
            return
        self._hidden += size(text)
        if self._thinking is Thinking.OMITTED and blocks.open != "thinking":
            blocks.thinking("")
        elif blocks.started:
            # Else the client hears nothing for as long as the model thinks.
            blocks.ping()

    def _call(self, pieces: list[chunks.Call]) -> None:
        if self._calls is None:
            self._calls = Calls(self._blocks, self._its_shape())
        self._held = ""
        if self._blocks.open != "tool_use":
            self._close_thinking()
        self._calls.take(pieces)

    def _close_thinking(self) -> None:
        """Sign the open thinking; details without any text get a block of their own."""
        if self._thinking is Thinking.NONE:
            return
        if self._details and self._blocks.open in ("", "text"):
            self._blocks.thinking("")
        if self._blocks.open == "thinking":
            self._blocks.close(self._details.envelope())

    def _done(self) -> None:
        """The end marker: an end even without a reason, if it is not in the midst of a call."""
        if self._finish is None and self._calls is not None and not self._calls.last_is_whole:
            self.error = UpstreamError("api_error", "the stream ended in the midst of a call")
        else:
            self._end()

    def _end(self) -> None:
        cut = stops.is_cut(self._finish)
        if self._tags is not None:
            thinking, content = self._tags.rest()
            self._think(thinking)
            if content:
                self._text(content)
        if self._calls is not None:
            self._calls.finish(cut=cut)
        if self._late:
            self._blocks.text("".join(self._late))
        self._blocks.close(self._details.envelope())
        reason = stops.reason(
            self._finish,
            calls=bool(self._calls),
            whole=self._calls is None or self._calls.last_is_whole,
            refused=self._refused,
        )
        if reason == "end_turn" and not self._blocks.started:
            self.error = UpstreamError("api_error", EMPTY)
            return
        if reason == "end_turn" and self._stop_sequence is not None:
            reason = "stop_sequence"
        else:
            self._stop_sequence = None
        thought = take(self.usage, self._counts)
        usage = told(self.usage, thought, self._asked, self._blocks.size + self._hidden)
        self._blocks.end(reason, self._stop_sequence, usage)
        self.complete = self.finished = True

    def _its_shape(self) -> Shape:
        if self._shape is None:
            self._shape = Shape(self._asked, self._id)
        return self._shape


def _error_in(data: bytes, named_error: bool) -> UpstreamError | None:
    error = errors.inside(chunks.decoded(data))
    if error is None and named_error:
        error = errors.of_status(500, read_error(data).message)
    return error
