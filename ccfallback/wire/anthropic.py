"""Anthropic's format, which the client speaks too: requests and answers pass unchanged.

Still, each event of a stream is read: an error inside a 200, a stream that ends too early and an
event that is not JSON all look like an answer from outside.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from ccfallback.config.model import Provider
from ccfallback.messages import reset_hints
from ccfallback.messages.body import (
    UNREADABLE,
    Body,
    decode_as,
    decode_json,
    replace_lone_surrogates,
)
from ccfallback.messages.errors import UpstreamError, error_of, is_error, read_error
from ccfallback.messages.sse import (
    CR,
    EventSplitter,
    EventTooLong,
    data_of,
    has_name,
    is_named_error,
)
from ccfallback.messages.sse import event as sse_event
from ccfallback.messages.stop_reasons import stop_failure
from ccfallback.messages.thinking import signature_digest
from ccfallback.messages.tokens import Usage, is_token_count
from ccfallback.short_cache import short_cache
from ccfallback.wire.completion import (
    DELTA_BYTES,
    Completion,
    complete_message,
    is_reason,
    needs_completion,
)
from ccfallback.wire.filters import MARKED, EventFilter, Mark, TooMuchHeld, filtered
from ccfallback.wire.format import (
    IMPOSSIBLE_COUNT,
    StreamTranslator,
    Whole,
    WireFormat,
    WireRefusal,
    endpoint_url,
)
from ccfallback.wire.grammar import (
    CHECKED,
    PIECE,
    Grammar,
    Unreadable,
    is_checked,
    plain_index,
    read_input,
    with_index,
)
from ccfallback.wire.headers import PLAIN_HEADERS, RawHeaders

MESSAGES_PATH: Final = "/v1/messages"
COUNT_PATH: Final = "/v1/messages/count_tokens"


_NONE: Final = msgspec.Raw(b"")


class _Delta(msgspec.Struct, gc=False):
    stop_reason: str | None = None
    signature: msgspec.Raw = _NONE


class _Block(msgspec.Struct, gc=False):
    type: str | None = None
    signature: msgspec.Raw = _NONE
    data: msgspec.Raw = _NONE
    input: msgspec.Raw = _NONE

    @property
    def signed(self) -> str:
        """The signature of a block of thinking; empty if it has none."""
        if self.type == "thinking":
            return _text(self.signature)
        return _text(self.data) if self.type == "redacted_thinking" else ""


class _Start(msgspec.Struct, gc=False):
    usage: msgspec.Raw = _NONE


class _Event(msgspec.Struct, gc=False):
    """The members of an event that matter here; the rest only has to be JSON.

    Members whose size the upstream chooses stay as they are: decoding them costs memory and time.
    """

    type: str = ""
    index: int | None = None
    message: _Start | None = None
    delta: _Delta | None = None
    content_block: _Block | None = None
    usage: msgspec.Raw = _NONE
    error: msgspec.Raw = _NONE

    @property
    def names_reason(self) -> bool:
        """Whether it says why the answer ends."""
        return self.delta is not None and is_reason(self.delta.stop_reason)


class _Message(msgspec.Struct, gc=False):
    content: list[_Block]
    type: str = "message"
    usage: msgspec.Raw = _NONE
    error: msgspec.Raw = _NONE
    stop_reason: msgspec.Raw = _NONE


MAX_USAGE: Final = 64 * 1024
"""A longer usage object is not read."""

MAX_DECODED: Final = 1024 * 1024
"""Longer JSON of an unknown shape is not decoded, as it could be millions of objects."""

MAX_SIGNATURES: Final = 512
"""How many of an answer's signatures are remembered: the last."""

_FALSE: Final = frozenset({b"", b"null", b"false", b"{}", b"[]", b'""', b"0"})


def _is_set(raw: msgspec.Raw) -> bool:
    return raw is not _NONE and (len(raw) > 5 or bytes(raw) not in _FALSE)


def _text(raw: msgspec.Raw) -> str:
    text = bytes(raw)
    value = decode_json(text) if text.startswith(b'"') else None
    return value if isinstance(value, str) else ""


def _object(raw: msgspec.Raw) -> object:
    return decode_json(bytes(raw)) if 0 < len(raw) <= MAX_USAGE else None


_EVENT: Final = msgspec.json.Decoder(_Event)
_MESSAGE: Final = msgspec.json.Decoder(_Message)
_ANY: Final = msgspec.json.Decoder(Any)
_COUNT: Final = msgspec.json.Decoder(dict[str, Any])

_COMMENT: Final = _Event()
"""Stands for an event without data, which is only a sign of life."""
_UNKNOWN: Final = _Event()
"""Stands for an event of another shape."""
_DELTA: Final = _Event()
"""Stands for any delta that holds no signature, as nearly every event is."""

_DELTA_HEAD: Final = b"event: content_block_delta\ndata: {"
_DELTA_DATA: Final = len(_DELTA_HEAD) - 1

_CONTENT: Final = frozenset({"content_block_start", "content_block_delta", "content_block_stop"})


class AnthropicStream:
    """Checks a stream of Anthropic's own events; see `StreamTranslator`.

    Apart from its filters' changes, each event of the primary passes byte for byte. So does nearly
    each of a third party: the rest is put right as clients expect it.
    """

    def __init__(
        self, filters: Sequence[EventFilter] = (), completion: Completion | None = None
    ) -> None:
        self._splitter = EventSplitter()
        self._completion = completion
        self._filters = filters if completion is None else (completion, *filters)
        self._grammar = None if completion is None else Grammar()
        self._blocks = None if self._grammar is None else self._grammar.blocks
        self._marks: list[Mark] = []
        self._changed: bytes | None = None
        """What passes instead of the event that was read last, if not the event itself."""
        self._changes: dict[int, bytes] = {}
        """What passes instead of events, by their places."""
        self._written = 0
        self._ending = False
        """Whether a `message_delta` has come."""
        self.heard = False
        self.started = False
        self.complete = False
        self.finished = False
        self.error: UpstreamError | None = None
        self.usage = Usage() if completion is None else completion.usage
        self.signatures: list[str] = []

    @property
    def written(self) -> int:
        """About how many bytes of content have come."""
        return max(0, self._written)

    @property
    def stopped(self) -> bool:
        """Whether a stop reason has arrived."""
        return self.complete

    def feed(self, chunk: bytes) -> bytes:
        """The events that are complete now, up to the first error."""
        if self.error is not None or self.finished:
            return b""
        events = self._splitter.plain(chunk)
        if events is not None:
            count = self._read_all(events, self._read)
            if count == len(events) and not self._marks and not self._changes:
                return chunk
            return self._filter([event + b"\n\n" for event in events[:count]])
        try:
            events = self._splitter.feed(chunk)
        except EventTooLong:
            self.error = UpstreamError("api_error", "an event without an end")
            return b""
        return self._filter(events[: self._read_all(events, self._read_any)])

    def finish(self) -> bytes:
        """The last event, if only the end of the stream has ended it."""
        rest = self._splitter.rest
        if self.error is not None or self.finished or not data_of(rest):
            return b""
        events = [rest if rest.endswith(b"\r\r") else rest + b"\n\n"]
        return self._filter(events[: self._read_all(events, self._read_any)])

    def _filter(self, events: list[bytes]) -> bytes:
        for place, changed in self._changes.items():
            events[place] = changed
        try:
            return filtered(events, self._marks, self._filters, complete=self.complete)
        except TooMuchHeld:
            self.error = UpstreamError("api_error", "an answer without an end")
            return b""

    def _read_all(self, events: list[bytes], read: Callable[[bytes], _Event | None]) -> int:
        """Read events and mark those for the filters; how many of them pass."""
        self._marks.clear()
        self._changes.clear()
        for place, raw in enumerate(events):
            event = read(raw)
            if self._changed is not None:
                raw = self._changes[place] = self._changed
                self._changed = None
            if event is _DELTA:
                self.heard = self.started = True
                self._written += len(raw) - DELTA_BYTES
                if self._completion is not None:
                    self._note_delta(place, raw)
                continue
            if event is None:
                return place
            self._note(event)
            if self.error is not None:
                # The event does not pass, so nothing stands in its place.
                self._changes.pop(place, None)
                return place
            if self._filters and event.type in MARKED:
                index = event.index
                block = event.content_block
                kind = None if block is None else block.type
                self._marks.append(Mark(place, event.type, index, kind))
                if self._completion is not None and block is not None:
                    self._completion.note_block(index, block.input)
                self._note_end(place, event)
            if self.finished:
                return place + 1
        return len(events)

    def _note_end(self, place: int, event: _Event) -> None:
        """Let blocks end with the answer; not if it breaks off, as it can be requested again."""
        if self._completion is None or self._grammar is None or not self.complete:
            return
        if event.type == "message_stop" or (event.type == "message_delta" and event.names_reason):
            self._completion.note_end(place, self._grammar.end_all())

    def _note_delta(self, place: int, raw: bytes) -> None:
        completion = self._completion
        assert completion is not None
        # Without its end, which an event has or lacks by the way in which the stream was cut.
        completion.written += max(1, len(raw.rstrip(b"\r\n")) - DELTA_BYTES)
        if completion.inputs and b'"input_json_delta"' in raw:
            index, piece = read_input(data_of(raw))
            if completion.note_input(index, piece):
                self._marks.append(Mark(place, "content_block_delta", index))

    def _read_any(self, event: bytes) -> _Event | None:
        """Read an event with its end, whatever its line ends are."""
        if event.endswith(b"\n\n") and CR not in event:
            return self._read(event[:-2])
        return self._read(event, plain=False)

    def _read(self, event: bytes, *, plain: bool = True) -> _Event | None:
        """Decode an event; `None` if it does not pass."""
        # Nearly every event is a delta whose last line is its data; reading any other is slower.
        if plain and event.startswith(_DELTA_HEAD) and event.count(b"\n") == 1:
            data, named_error = event[_DELTA_DATA:], False
            blocks = self._blocks
            if blocks is not None:
                try:
                    piece = PIECE.decode(data)
                    if blocks.get(piece.index) is type(piece.delta):
                        return _DELTA
                except UNREADABLE:
                    pass
        else:
            data = data_of(event)
            named_error = is_named_error(event)
            if not data:
                return _COMMENT
        try:
            decoded = _EVENT.decode(data)
        except UNREADABLE:
            repaired = _decode_repaired(data)
            if repaired is None and not named_error:
                repaired = self._read_unknown(data)
                if repaired is None:
                    return None
            decoded = repaired or _UNKNOWN
        kind, delta = decoded.type, decoded.delta
        error = decoded.error
        if named_error or kind == "error" or (error is not _NONE and _is_set(error)):
            self.error = read_error(data)
            return None
        if self._grammar is not None and kind in CHECKED:
            try:
                checked = self._check(self._grammar, decoded, data)
            except Unreadable as unreadable:
                self.error = UpstreamError("api_error", str(unreadable))
                return None
            if checked is None:
                self._changed = b""
                if kind in _CONTENT:
                    # It says nothing, so only that something has come counts.
                    return _UNKNOWN
            elif checked is not data or not has_name(event, kind):
                self._changed = sse_event(kind, checked)
        if kind == "content_block_delta" and delta is not None:
            signature = delta.signature
            if signature is _NONE or not signature:
                return _DELTA
        return decoded

    def _check(self, grammar: Grammar, event: _Event, data: bytes) -> bytes | None:
        """The data of an event as clients expect it; `None` if they do not. Raises `Unreadable`."""
        place = event.index
        match event.type:
            case "message_start":
                if not grammar.note_start(event.message is not None):
                    return None
            case "content_block_start":
                block = event.content_block
                place = grammar.note_block(place, None if block is None else block.type)
            case "content_block_delta":
                place = grammar.find_block(place)
                if not grammar.says_something(place, data):
                    return None
            case "content_block_stop":
                place = grammar.end_block(place)
                if place is None:
                    return None
            case _:
                grammar.check_begun()
        if place == event.index:
            return data
        event.index = place
        return data if place is None else with_index(data, place)

    def _note(self, event: _Event) -> None:
        if event is _COMMENT:
            return
        self.heard = True
        if event.type in _CONTENT:
            self.started = True
            if event.content_block is not None or (event.delta and event.delta.signature):
                self._note_signature(event)
        elif event.type == "message_delta":
            self._ending = True
            self._take_usage(event.usage)
            if self.error is None and event.names_reason:
                assert event.delta is not None
                if self._completion is not None:
                    self.error = stop_failure(event.delta.stop_reason)
                self.complete = self.error is None
        elif event.type == "message_start":
            if event.message is not None:
                self._take_usage(event.message.usage)
        elif event.type == "message_stop":
            self.finished = True
            # Some third parties send the event for the stop reason, but no reason in it.
            self.complete = self.complete or self._ending

    def _take_usage(self, usage: msgspec.Raw) -> None:
        self.usage.take(_object(usage))
        if self._completion is not None and self.usage.is_impossible:
            self.error = IMPOSSIBLE_COUNT

    def _note_signature(self, event: _Event) -> None:
        if event.delta is not None and event.delta.signature:
            signature = _text(event.delta.signature)
        elif event.content_block is not None:
            signature = event.content_block.signed
        else:
            return
        if signature:
            self.signatures.append(signature_digest(signature))
            del self.signatures[:-MAX_SIGNATURES]

    def _read_unknown(self, data: bytes) -> _Event | None:
        """Read an event of another shape than Anthropic's: any JSON passes, except errors."""
        if data.strip() == b"[DONE]":
            # Some gateways end with the marker of OpenAI's format, which the client cannot read.
            self.finished = True
            return None
        try:
            if len(data) > MAX_DECODED:
                raise ValueError
            value = decode_as(_ANY, data)
        except UNREADABLE:
            self.error = UpstreamError("api_error", "an event that is not JSON")
            return None
        if is_error(value):
            self.error = error_of(value)
            return None
        if self._grammar is None or not is_checked(value):
            return _UNKNOWN
        try:
            value["index"] = plain_index(value.get("index"))
            return _EVENT.decode(msgspec.json.encode(value))
        except UNREADABLE:
            self.error = UpstreamError("api_error", "an event that clients cannot read")
            return None


def names_stop_reason(data: bytes) -> bool:
    """Whether the data of a `message_delta` says why the answer ends."""
    event = _decode_repaired(data)
    return event is not None and event.names_reason


def _decode_repaired(data: bytes) -> _Event | None:
    """Decode an event with lone surrogates in it; `None` if it has another shape.

    Some gateways cut a text between the halves of a surrogate pair, which JavaScript accepts.
    """
    try:
        return _EVENT.decode(replace_lone_surrogates(data))
    except UNREADABLE:
        return None


def _not_a_message(raw: bytes) -> UpstreamError:
    if len(raw) > MAX_DECODED:
        return UpstreamError("", "the answer is not a message")
    try:
        value = decode_as(_ANY, raw)
    except UNREADABLE:
        return UpstreamError("", "the answer is not JSON")
    if is_error(value):
        return error_of(value)
    return UpstreamError("", "the answer is not a message")


@short_cache(512)
def path_url(base_url: str, path: str) -> str:
    """The URL of another path, such as `/v1/models`, at a provider of the Messages API."""
    parts = urlsplit(endpoint_url(base_url, MESSAGES_PATH))
    root = parts.path.removesuffix("/v1/messages").removesuffix("/messages")
    return urlunsplit((parts.scheme, parts.netloc, root + path, parts.query, ""))


class MessagesFormat(WireFormat):
    """Anthropic's Messages API."""

    name = "anthropic"
    title = "Anthropic"
    endpoint = "/messages"
    auth_header = "x-api-key"
    speaks_messages = True
    client_headers = PLAIN_HEADERS | {
        b"anthropic-beta",
        b"anthropic-dangerous-direct-browser-access",
        b"x-app",
    }
    # Every provider knows this version, and it allows every valid body of a newer one.
    fallback_headers: ClassVar[RawHeaders] = ((b"anthropic-version", b"2023-06-01"),)
    answer_mark = re.compile(rb'"type"\s*:\s*"message(?:_start)?"|^event: message_start', re.M)
    refusal_mark = re.compile(rb'^\s*\{\s*"type"\s*:\s*"error"\s*,\s*"error"\s*:')

    def url(self, provider: Provider, model: str, *, stream: bool) -> str:
        """The provider's Messages endpoint."""
        return endpoint_url(provider.base_url, MESSAGES_PATH)

    def models_url(self, provider: Provider) -> str | None:
        """The URL of the provider's list of models."""
        return path_url(provider.base_url, "/v1/models")

    def request(self, body: Body, provider: Provider, betas: tuple[str, ...] = ()) -> Body:
        """The body itself."""
        return body

    def stream(
        self, client_body: Body, provider: Provider, filters: Sequence[EventFilter] = ()
    ) -> StreamTranslator:
        """A checker of the stream, which passes its events unchanged."""
        return AnthropicStream(filters, None if provider.primary else Completion(client_body))

    def whole(self, raw: bytes, client_body: Body, provider: Provider) -> Whole:
        """The answer itself, if it is a message."""
        try:
            message = decode_as(_MESSAGE, raw)
        except UNREADABLE:
            return Whole(raw, error=_not_a_message(raw))
        if _is_set(message.error) or message.type != "message":
            return Whole(raw, error=_not_a_message(raw))
        reason = _text(message.stop_reason)
        failed = None if provider.primary else stop_failure(reason)
        whole = Whole(raw, failed)
        whole.usage.take(_object(message.usage))
        if not provider.primary and whole.usage.is_impossible:
            return Whole(raw, error=IMPOSSIBLE_COUNT)
        for block in message.content:
            if block.type != "text" and (signature := block.signed):
                whole.signatures.append(signature_digest(signature))
        del whole.signatures[:-MAX_SIGNATURES]
        if not provider.primary and needs_completion(reason, whole.usage):
            whole.body = complete_message(raw, client_body, whole.usage)
        return whole

    def refusal(
        self, status: int, headers: Mapping[str, str], body: bytes, now: float
    ) -> WireRefusal:
        """The error as the provider sent it, with the reset hint that only its body gives."""
        error = read_error(body)
        if status not in reset_hints.TEMPORARY or reset_hints.reset_hint(
            headers, error.message, now
        ):
            return WireRefusal(status, error)
        return WireRefusal(status, error, *(reset_hints.body_hint(decode_json(body), now) or ()))


class CountTokensFormat(MessagesFormat):
    """The endpoint of the Messages API that counts the tokens of a request."""

    def url(self, provider: Provider, model: str, *, stream: bool) -> str:
        """The provider's counting endpoint."""
        return path_url(provider.base_url, COUNT_PATH)

    def whole(self, raw: bytes, client_body: Body, provider: Provider) -> Whole:
        """The answer itself, if it is a token count."""
        try:
            value = _COUNT.decode(raw)
        except UNREADABLE:
            value = {}
        if is_token_count(value.get("input_tokens")):
            return Whole(raw)
        return Whole(raw, UpstreamError(message="the answer is not a token count"))


ANTHROPIC: Final = MessagesFormat()
ANTHROPIC.counting = CountTokensFormat()
